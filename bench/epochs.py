"""Part `epochs`: two epochs over the same rows with the frozen-prefix cache and without it, and PEFT beside them.

The cache saves layers, and not the output head, which runs for every label. Rows with long inputs and short outputs, such as
questions about a text, therefore gain more than those that are mostly outputs."""

import json

import training
from rounds import Group, Side

ADAPTER_LEN, LAYERS = 10, 10
BATCHES = (4, 16)
# Steps of an epoch: enough that one slow step matters little.
STEPS = {4: 24, 16: 8}
# About 150 tokens of input.
INPUT_ROWS = 6
CACHED, UNCACHED, PEFT = "ours f32, cache", "ours f32, no cache", "PEFT f32"
PAIRS = [(CACHED, UNCACHED), (CACHED, PEFT), (UNCACHED, PEFT)]


def rows_of_an_epoch(bench, count, input_rows):
    """The first of the rows, repeated if there are too few. The outputs of `input_rows` others are the input of each."""
    rows = [json.loads(line) for line in bench.rows.read_text(encoding="utf-8").splitlines()]

    def row(n):
        chosen = rows[n % len(rows)]
        text = " ".join(rows[(n + other) % len(rows)]["output"] for other in range(1, 1 + input_rows))
        return chosen | {"input": text} if text else chosen

    path = bench.ours.work / f"epoch-{count}-{input_rows}.jsonl"
    path.write_text("".join(json.dumps(row(n), ensure_ascii=False) + "\n" for n in range(count)), encoding="utf-8")
    return path


def epochs(found, steps):
    """Seconds of both epochs, and the label tokens a second of the second one, which all later ones are like."""
    first, second = found["steps"][:steps], found["steps"][steps:]
    seconds = [sum(step["seconds"] for step in epoch) for epoch in (first, second)]
    labels = sum(step["labels"] for step in second)
    return {"first_seconds": seconds[0], "second_seconds": seconds[1], "speedup": seconds[0] / seconds[1],
            "label_tokens_per_second": labels / seconds[1], "peak_bytes": found["peak_bytes"],
            "losses": [step["loss"] for step in found["steps"]]}


def group(bench, batch, input_rows=0):
    steps = 2 if bench.quick else STEPS[batch]
    rows = rows_of_an_epoch(bench, steps * batch, input_rows)
    common = {"model": bench.weights.folder, "rows": rows, "batch": batch}

    def ours(cache):
        found = bench.ours.train(steps=2 * steps, precision="f32", layers=LAYERS, adapter_len=ADAPTER_LEN,
                                 learning_rate=training.LEARNING_RATE, cache=cache, **common)
        return epochs(found, steps)

    def peft():
        adapter = bench.ours.initial_adapter(model=bench.weights.folder, rows=rows, layers=LAYERS, adapter_len=ADAPTER_LEN)
        # The first steps of the schedule of both epochs.
        learning_rates = training.learning_rates(2 * steps)[:training.WARM_UP + min(steps, bench.steps)]
        found = bench.theirs.peft(task="train", adapter=adapter, precision="f32", limit_seconds=training.LIMIT_SECONDS,
                                  learning_rates=learning_rates, **common)
        return training.result(found)

    config = f"{ADAPTER_LEN} x {LAYERS}, batch {batch}" + (", long inputs" if input_rows else "")
    return Group("epochs", config,
                 [Side(CACHED, lambda: ours("memory")), Side(UNCACHED, lambda: ours("off")), Side(PEFT, peft)])


def groups(bench):
    for batch in BATCHES:
        yield group(bench, batch)
    yield group(bench, BATCHES[0], INPUT_ROWS)
