"""Goldens of evaluation: task files of lm-evaluation-harness on the built-in model, and scores of texts."""

import json
import os
import random
import shutil
import tempfile

os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ.setdefault("HF_DATASETS_CACHE", tempfile.mkdtemp())

import lm_eval
from lm_eval.tasks import TaskManager
from lm_eval.tasks.qasper.metrics import f1_abstractive, normalize_answer
from rouge_score.rouge_scorer import RougeScorer

HERE = os.path.dirname(os.path.abspath(__file__))
ASSETS = os.path.join(HERE, "../../crates/built-in/assets")
TASKS = ["trades", "examples", "delimiters", "long"]

# Reference and response.
TEXTS = [
    ("A cow.", "A cow."), ("A cow.", "The cow"), ("A cow is larger than a flea.", "A flea is smaller than a cow."),
    ("the quick brown fox jumps over the lazy dog", "The Quick fox JUMPED over a lazy, brown dog!"),
    ("", ""), ("", "word"), ("word", ""), ("the", "a"), ("...", "!?"), ("an", "an apple"),
    ("well-known state-of-the-art", "wellknown state of the art"), ("the\u2014end", "end"), ("a\u00a0b\u3000c\x1fd", "b c d"),
    ("Gr\u00f6\u00dfe ist gro\u00df", "gr\u00f6\u00dfe ist gro\u00df"), ("\u65e5\u672c \u8a9e", "\u65e5\u672c"), ("\u0130stanbul", "istanbul"), ("300 \u212a", "300 k"),
    ("a a a b", "a b b b a"), ("x y z " * 20, "x z " * 25), ("it's 3.5%", "its 35"), ("one\ttwo\nthree", "three two one"),
    ("under_score a_the_b", "underscore atheb"), ("e\u0301 a", "e\u0301"), ("\u0391\u03a3 \u03a3\u03c3\u03c2", "\u03b1\u03c2 \u03c3\u03c3\u03c2"),
]


def make(out):
    folder = os.path.join(out, "harness")
    if out != HERE:
        shutil.copytree(os.path.join(HERE, "harness"), folder)
    write(os.path.join(folder, "texts.json"), [text_scores(*pair) for pair in TEXTS])
    write_documents(folder)
    write(os.path.join(folder, "scores.json"), harness_scores(folder))


def text_scores(reference, response):
    rouge = RougeScorer(["rougeL"], use_stemmer=False).score(reference, response)["rougeL"]
    # SQuAD 2.0's rule for texts without words; otherwise version 1.1, which the harness has a copy of.
    words = [normalize_answer(text).split() for text in (reference, response)]
    f1 = f1_abstractive([response], [reference]) if all(words) else float(words[0] == words[1])
    return {"reference": reference, "response": response, "token_f1": f1,
            "rouge_l": [rouge.precision, rouge.recall, rouge.fmeasure]}


def write_documents(folder):
    """Questions about the people of the built-in instructions, with trades of others as wrong choices."""
    rng = random.Random(0)
    trades = {}
    for name in ["train", "test"]:
        with open(os.path.join(ASSETS, "instructions", f"{name}.jsonl")) as lines:
            for row in map(json.loads, lines):
                words = row["output"].rstrip(".").split(" ")
                if len(words) == 4 and words[1:3] in (["is", "a"], ["is", "an"]) and "trade" in row["instruction"]:
                    trades[words[0]] = words[3]
    documents = []
    for number, (name, trade) in enumerate(sorted(trades.items()) * 2):
        others = sorted(set(trades.values()) - {trade})
        choices = rng.sample(others, rng.choice([1, 2, 3])) + [trade]
        # Choices of different lengths.
        choices = [choice if rng.random() < 0.5 else f"{choice} in the village" for choice in choices]
        rng.shuffle(choices)
        label = next(index for index, choice in enumerate(choices) if choice.split(" ")[0] == trade)
        question = [f"{name} works as a", f"What does {name} do for a living? {name} is a ", f"The trade of {name}:\n"]
        document = {"name": name, "question": rng.choice(question), "choices": choices, "label": label}
        # A field that some documents lack.
        if number % 3 == 0:
            document["note"] = rng.choice(["Answer", "\u201cReply\u201d", ""])
        documents.append(document)
    rng.shuffle(documents)
    for name, rows in [("examples", documents[:18]), ("people", documents[18:])]:
        with open(os.path.join(folder, f"{name}.jsonl"), "w", encoding="utf-8") as lines:
            lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def harness_scores(folder):
    here = os.getcwd()
    os.chdir(folder)  # the harness reads data files relative to it
    try:
        model = {"pretrained": os.path.join(ASSETS, "tiny-llama"), "dtype": "float32"}
        found = lm_eval.simple_evaluate(
            model="hf", model_args=model, tasks=TASKS, task_manager=TaskManager(include_path=folder, include_defaults=False),
            device="cpu", batch_size=1, log_samples=True, bootstrap_iters=1000)
    finally:
        os.chdir(here)
    scores = {}
    for task in TASKS:
        samples = sorted(found["samples"][task], key=lambda sample: sample["doc_id"])
        own = {key.split(",")[0]: value for key, value in found["results"][task].items() if key.startswith("acc")}
        # Where a test fails, this tells prompts from likelihoods.
        own["first_context"] = samples[0]["arguments"][0][0]
        own["log_likelihoods"] = [[round(float(answer[0]), 5) for answer in sample["filtered_resps"]] for sample in samples]
        scores[task] = own
    return scores


def write(path, value):
    """One item of the outermost list or object per line."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    lines = [(json.dumps(key) + ": " if isinstance(value, dict) else "") + json.dumps(item, ensure_ascii=False) for key, item in items]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{opening}\n" + ",\n".join(lines) + f"\n{closing}\n")


if __name__ == "__main__":
    make(HERE)
