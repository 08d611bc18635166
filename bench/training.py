"""Part `training`: steps on real rows, PEFT as its users run it beside ours, and what both learn."""

import math
from functools import partial

from environment import ROOT
import rounds
from rounds import Group, Side

ROWS = ROOT / "assets/everyday/train.jsonl"
ADAPTER_LEN = 10
LAYERS = (30, 10)
BATCHES = (4, 16)
LEARNING_RATE = 1e-2
WARM_UP = 1
CURVE_STEPS = 20
# PEFT's 16-bit products take minutes a step on processors that have no instructions for them.
LIMIT_SECONDS = 60

PEFT = {"PEFT f32": "f32", "PEFT bf16 autocast": "autocast", "PEFT bf16 weights": "bf16"}
OURS = {"ours f32": "f32", "ours bf16": "bf16"}
PAIRS = [("ours f32", "PEFT f32"), ("ours bf16", "PEFT bf16 autocast"), ("ours bf16", "PEFT bf16 weights"),
         ("ours bf16", "PEFT f32")]


def learning_rates(steps):
    """Half a cosine down to zero, which is what `train` does without a warm-up."""
    return [LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * step / steps)) for step in range(steps)]


def result(found):
    """The measured steps of a run, and all of them. Where the first, which warms up, took too long, it is all there is."""
    steps = found["steps"]
    measured = steps[WARM_UP:] or steps
    seconds = sum(step["seconds"] for step in measured)

    def a_second(what):
        return sum(step[what] for step in measured) / seconds

    return {"step_seconds": seconds / len(measured), "examples_per_second": a_second("rows"),
            "label_tokens_per_second": a_second("labels"), "slots_per_second": a_second("slots"),
            "peak_bytes": found["peak_bytes"], "measured_steps": len(measured), "warmed_up": len(steps) > WARM_UP,
            "losses": [step["loss"] for step in steps], "labels": sum(step["labels"] for step in measured),
            "slots": sum(step["slots"] for step in measured)}


def sides(bench, layers, batch, steps, names, limit):
    """Those who train on the same rows, from the same adapter, at the same learning rates."""
    common = {"rows": bench.rows, "batch": batch}
    model = bench.weights.folder

    def ours(precision):
        return result(bench.ours.train(model=model, steps=steps, precision=precision, layers=layers,
                                       adapter_len=ADAPTER_LEN, learning_rate=LEARNING_RATE, **common))

    def peft(precision):
        adapter = bench.ours.initial_adapter(model=model, rows=bench.rows, layers=layers, adapter_len=ADAPTER_LEN)
        return result(bench.theirs.peft(task="train", model=model, adapter=adapter, precision=precision,
                                        learning_rates=learning_rates(steps), limit_seconds=limit, **common))

    for name in names:
        if name in OURS:
            yield Side(name, lambda name=name: ours(OURS[name]))
        else:
            yield Side(name, lambda name=name: peft(PEFT[name]))


def groups(bench):
    """All of them; where 16 bits make PEFT by far slower, they are measured in the first only."""
    first = None
    names = ["ours f32", "PEFT f32", "ours bf16", "PEFT bf16 autocast", "PEFT bf16 weights"]
    for layers in LAYERS:
        for batch in BATCHES:
            # A step of more rows takes longer, and varies less.
            measured = bench.steps if batch == BATCHES[0] else max(1, bench.steps // 2)
            group = Group("training", f"{ADAPTER_LEN} x {layers}, batch {batch}",
                          list(sides(bench, layers, batch, WARM_UP + measured, names, LIMIT_SECONDS)))
            if first and not bench.slow_too:
                for side in group.sides:
                    if side.name.startswith("PEFT bf16"):
                        side.unless = partial(rounds.hopeless, first, side.name, "PEFT f32", "label_tokens_per_second")
            first = first or group
            yield group


def curves(bench):
    steps = 3 if bench.quick else CURVE_STEPS
    yield Group("curves", f"{ADAPTER_LEN} x {LAYERS[0]}, batch {BATCHES[0]}, {steps} steps",
                list(sides(bench, LAYERS[0], BATCHES[0], steps, ["ours f32", "ours bf16", "PEFT f32"], None)), once=True)

