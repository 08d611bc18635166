"""Part `generation`: reading prompts and writing tokens, greedily, with the base and with an adapter."""

import json
from functools import partial

import rounds
from rounds import Group, Side

PROMPT_LENGTHS = (64, 512)
NEW_TOKENS = 64
BATCHES = (1, 8)

OURS = {"ours f32": "f32", "ours bf16": "bf16", "ours q8": "q8", "ours q4": "q4"}
TRANSFORMERS = {"transformers f32": "f32", "transformers bf16": "bf16"}
LLAMA_CPP = {"llama.cpp F32": "F32", "llama.cpp F16": "F16", "llama.cpp Q8_0": "Q8_0", "llama.cpp Q4_0": "Q4_0"}
# The fetched file as it is: the same 4 bits on both sides.
OURS_FETCHED, LLAMA_CPP_FETCHED = "ours q4, fetched file", "llama.cpp Q4_1, fetched file"
PAIRS = [("ours f32", "transformers f32"), ("ours bf16", "transformers bf16"), ("ours f32", "llama.cpp F32"),
         ("ours bf16", "llama.cpp F16"), ("ours q8", "llama.cpp Q8_0"), ("ours q4", "llama.cpp Q4_0"),
         (OURS_FETCHED, LLAMA_CPP_FETCHED)]
QUANTISED = ("F16", "Q8_0", "Q4_0")


def result(answers, peak_bytes):
    """Tokens a second from the answers to the short and the long prompts."""
    numbers = {f"prompt_{length}_per_second": answer["prompt_tokens"] / answer["seconds_prompt"]
               for length, answer in zip(PROMPT_LENGTHS, answers)}
    short = answers[0]
    return numbers | {"decode_per_second": short["decoded_tokens"] / short["seconds_decode"], "peak_bytes": peak_bytes,
                      "tokens": short["tokens"]}


def requests(bench, batch):
    """The short prompts are answered, the long ones only read."""
    prompts = json.loads(bench.weights.prompts.read_text(encoding="utf-8"))
    new_tokens = 8 if bench.quick else NEW_TOKENS
    return [(prompts[str(length)][:batch], new) for length, new in zip(PROMPT_LENGTHS, (new_tokens, 1))]


def sides(bench, batch, adapter):
    asked = requests(bench, batch)
    folder = bench.weights.folder

    def ours(precision, model=folder):
        answers = [bench.ours.answer(model=model, prompts=prompts, new_tokens=new, precision=precision, adapter=adapter)
                   for prompts, new in asked]
        return result(answers, max(answer["peak_bytes"] for answer in answers))

    def theirs(measure, **task):
        plain = [{"prompts": [prompt["ids"] for prompt in prompts], "new_tokens": new} for prompts, new in asked]
        found = measure(task="generate", requests=plain, **task)
        return result(found["answers"], found["peak_bytes"])

    def transformers(precision):
        return theirs(bench.theirs.peft, model=folder, precision=precision, adapter=adapter)

    def llama_cpp(path):
        return theirs(bench.theirs.llama_cpp, model=path)

    measures = {}
    for name, precision in OURS.items():
        measures[name] = lambda precision=precision: ours(precision)
    measures[OURS_FETCHED] = lambda: ours("q4", bench.weights.fetched)
    for name, precision in TRANSFORMERS.items():
        measures[name] = lambda precision=precision: transformers(precision)
    if adapter is None:
        for name, kind in LLAMA_CPP.items():
            if kind in bench.ggufs:
                measures[name] = lambda kind=kind: llama_cpp(bench.ggufs[kind])
        if bench.ggufs:
            measures[LLAMA_CPP_FETCHED] = lambda: llama_cpp(bench.weights.fetched)
    return [Side(name, measures[name]) for name in in_turns(measures)]


def in_turns(names):
    """Those who are compared stand beside each other."""
    order = [name for pair in PAIRS for name in pair if name in names]
    return list(dict.fromkeys(order))


def groups(bench):
    """All of them; where 16 bits make transformers by far slower, they are measured with one row only."""
    for what, adapter in [("base", None), ("adapter", bench.weights.adapter)]:
        first = None
        for batch in BATCHES:
            group = Group("generation", f"batch {batch}, {what}", sides(bench, batch, adapter))
            if first and not bench.slow_too:
                for side in group.sides:
                    if side.name == "transformers bf16":
                        side.unless = partial(rounds.hopeless, first, side.name, "transformers f32",
                                              f"prompt_{PROMPT_LENGTHS[0]}_per_second")
            first = first or group
            yield group
