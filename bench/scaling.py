"""Part `scaling`: our steps, and answers, as one thing grows and the others stay."""

import json

import generation
import training
from process import Failed
from rounds import Group, Side

ROW_TOKENS, STEP_TOKENS = 128, 2048
BATCH_TOKENS = (256, 512, 1024, 2048, 4096)
ROW_LENGTHS = (256, 512, 1024, 2048)
LAYERS = (5, 10, 20, 30)
ADAPTER_LENS = (1, 10, 30, 100)
ADAPTERS, ANSWERS = (0, 1, 2, 4, 8), 8
BATCH = 4
PAIRS = []


def long_rows(bench, tokens):
    """Rows that are all longer than `tokens`; `--max-len` cuts them to it, so that nothing is padding."""
    outputs = [json.loads(line)["output"] for line in training.ROWS.read_text(encoding="utf-8").splitlines()]
    # A word is a token or more.
    words = " ".join(outputs).split()
    words = words * (tokens // len(words) + 2)
    count = max(BATCH_TOKENS) // tokens or 1
    path = bench.ours.work / f"rows-{tokens}.jsonl"
    if not path.exists():
        rows = [{"instruction": "Go on.", "input": "", "output": " ".join(words[7 * n:7 * n + tokens])}
                for n in range(count * 4)]
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def group(bench, what, value, *, batch, length, layers, adapter_len):
    steps = training.WARM_UP + (1 if bench.quick else 2)

    def measure(precision):
        found = bench.ours.train(model=bench.weights.folder, rows=long_rows(bench, length), batch=batch, steps=steps,
                                 precision=precision, layers=layers, adapter_len=adapter_len,
                                 learning_rate=training.LEARNING_RATE, max_len=length)
        numbers = training.result(found)
        # What rows have in common is worked on once, and behind a row's last token nothing is predicted.
        most = numbers["measured_steps"] * batch * (length - 1)
        if not most * 0.7 <= numbers["slots"] <= most:
            raise Failed(f"the program did not cut rows to {length} tokens")
        return numbers

    config = f"{what} {value}"
    facts = {"what": what, "value": value, "rows": batch, "row_tokens": length, "layers": layers, "adapter_len": adapter_len}
    return Group("scaling", config, [Side("ours f32", lambda: measure("f32"))], facts, once=True)


def adapters(bench, count):
    """Answers of one batch, whose rows share so many adapters."""
    (prompts, new), _long = generation.requests(bench, ANSWERS)

    def measure():
        adapter = bench.weights.adapter if count else None
        answer = bench.ours.answer(model=bench.weights.folder, prompts=prompts, new_tokens=new, precision="f32",
                                   adapter=adapter, copies=count)
        return generation.result([answer], answer["peak_bytes"])

    what = "adapters in a batch of answers"
    facts = {"what": what, "value": count, "rows": ANSWERS, "row_tokens": generation.PROMPT_LENGTHS[0],
             "layers": 30, "adapter_len": 10}
    return Group("scaling", f"{what} {count}", [Side("ours f32", measure)], facts, once=True)


def groups(bench):
    usual = {"batch": BATCH, "length": ROW_TOKENS, "layers": 30, "adapter_len": 10}
    for tokens in BATCH_TOKENS:
        yield group(bench, "tokens of a step", tokens, **usual | {"batch": tokens // ROW_TOKENS})
    for length in ROW_LENGTHS:
        yield group(bench, "tokens of a row", length, **usual | {"length": length, "batch": STEP_TOKENS // length})
    for layers in LAYERS:
        yield group(bench, "adapted layers", layers, **usual | {"layers": layers})
    for adapter_len in ADAPTER_LENS:
        yield group(bench, "prompt tokens", adapter_len, **usual | {"adapter_len": adapter_len})
    for count in ADAPTERS:
        yield adapters(bench, count)
