"""Part `loading`: how long it takes until a model is there, and the memory it takes then."""

import json

import generation
from rounds import Group, Side

PAIRS = generation.PAIRS


def groups(bench):
    weights = bench.weights
    prompt = json.loads(weights.prompts.read_text(encoding="utf-8"))["64"][0]["ids"][:4]
    measures = {}
    for name, precision in generation.OURS.items():
        measures[name] = lambda precision=precision: bench.ours.load(model=weights.folder, precision=precision)
    measures[generation.OURS_FETCHED] = lambda: bench.ours.load(model=weights.fetched, precision="q4")
    for name, precision in generation.TRANSFORMERS.items():
        measures[name] = lambda precision=precision: with_ready(
            bench.theirs.peft(task="load", model=weights.folder, prompt=prompt, precision=precision))
    files = {name: bench.ggufs[kind] for name, kind in generation.LLAMA_CPP.items() if kind in bench.ggufs}
    if bench.ggufs:
        files[generation.LLAMA_CPP_FETCHED] = weights.fetched
    for name, path in files.items():
        measures[name] = lambda path=path: with_ready(bench.theirs.llama_cpp(task="load", model=path, prompt=prompt))
    order = generation.in_turns(measures)
    yield Group("loading", "SmolLM2-135M", [Side(name, measures[name]) for name in order])


def with_ready(found):
    """A user waits for Python's imports too."""
    return found | {"seconds_ready": found["seconds_import"] + found["seconds_load"]}
