"""Measurements ─► medians, spreads and ratios ─► a JSON file and a Markdown page."""

import json
import os
from itertools import zip_longest
from pathlib import Path
from statistics import median

import epochs
import generation
import loading
import training


def write(path: Path, text):
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)


# Numbers.


def values(side, what):
    return [run[what] for run in side.runs if run.get(what) is not None]


def spread(numbers):
    return {"median": median(numbers), "lowest": min(numbers), "highest": max(numbers), "runs": len(numbers)}


def ratio(ours, theirs, what):
    """Ratio of the medians; the range is that of the pairs of the same round."""
    a, b = values(ours, what), values(theirs, what)
    if not a or not b:
        return None
    pairs = [x / y for x, y in zip(a, b)]
    return {"median": median(a) / median(b), "lowest": min(pairs), "highest": max(pairs), "pairs": len(pairs)}


def side(group, name):
    return next((side for side in group.sides if side.name == name), None)


def pairs(group, wanted):
    """The pairs of sides that both were measured."""
    for ours, theirs in wanted:
        ours, theirs = side(group, ours), side(group, theirs)
        if ours and theirs and ours.runs and theirs.runs:
            yield ours, theirs


# Words.


def number(value):
    """Three digits that count."""
    if value == 0:
        return "0"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def ranged(found, unit=""):
    if found is None:
        return "-"
    text = number(found["median"]) + unit
    if found.get("runs", found.get("pairs")) > 1:
        text += f" ({number(found['lowest'])}–{number(found['highest'])})"
    return text


def cell(side, what, factor=1.0):
    numbers = [value * factor for value in values(side, what)]
    return ranged(spread(numbers)) if numbers else "failed" if side.error else "left out" if side.left_out else "-"


WORDS = ("configuration", "side", "ratio", "batch", "adapter")


def table(head, rows):
    lines = [head, ["---" if name in WORDS else "---:" for name in head], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


MIB = 1 / (1 << 20)


# Parts.


def training_part(groups):
    rows, ratios = [], []
    for group in groups:
        for one in group.sides:
            notes = "" if all(run["warmed_up"] for run in one.runs) else " (1)"
            rows.append([group.config, one.name + notes, len(one.runs), cell(one, "step_seconds"),
                         cell(one, "examples_per_second"), cell(one, "label_tokens_per_second"),
                         cell(one, "slots_per_second"), cell(one, "peak_bytes", MIB)])
        for ours, theirs in pairs(group, training.PAIRS):
            ratios.append([group.config, f"{ours.name} / {theirs.name}",
                           ranged(ratio(ours, theirs, "label_tokens_per_second"), "×"),
                           ranged(ratio(ours, theirs, "peak_bytes"), "×"), loss_difference(ours, theirs)])
    text = "## Training\n\nAdapter (tokens x layers) and rows of a batch.\n\n"
    text += table(["configuration", "side", "runs", "s a step", "examples/s", "label tokens/s", "token slots/s",
                   "peak memory, MiB"], rows)
    if any("(1)" in row[1] for row in rows):
        text += f"\n(1) The first step alone took more than {training.LIMIT_SECONDS} s: it is the measurement, not warmed up.\n"
    text += "\n" + table(["configuration", "ratio", "label tokens/s", "peak memory", "largest difference of losses"], ratios)
    return text


def loss_difference(ours, theirs):
    """Over the steps that both made."""
    both = zip(ours.runs[0]["losses"], theirs.runs[0]["losses"])
    return f"{max(abs(a - b) for a, b in both):.1e}"


def curves_part(groups):
    text = "## What both learn\n\nThe loss of each step, from the same adapter, on the same batches.\n"
    for group in groups:
        sides = [one for one in group.sides if one.runs]
        reference = side(group, "PEFT f32")
        curves = [one.runs[0]["losses"] for one in sides]
        rows = [[n + 1, *("-" if loss is None else f"{loss:.5f}" for loss in losses)]
                for n, losses in enumerate(zip_longest(*curves))]
        text += f"\n{group.config}:\n\n" + table(["step", *(one.name for one in sides)], rows)
        for one in sides:
            if reference and reference.runs and one is not reference:
                text += f"\nLargest difference of {one.name} from PEFT f32: {loss_difference(one, reference)}\n"
    return text


def epochs_part(groups):
    rows, ratios = [], []
    for group in groups:
        for one in group.sides:
            rows.append([group.config, one.name, len(one.runs), cell(one, "first_seconds"), cell(one, "second_seconds"),
                         cell(one, "speedup"), cell(one, "label_tokens_per_second"), cell(one, "peak_bytes", MIB)])
        for ours, theirs in pairs(group, epochs.PAIRS):
            ratios.append([group.config, f"{ours.name} / {theirs.name}",
                           ranged(ratio(ours, theirs, "label_tokens_per_second"), "×"),
                           ranged(ratio(ours, theirs, "peak_bytes"), "×"), loss_difference(ours, theirs)])
    text = "## Epochs\n\nTwo epochs over the same rows. The first one fills the cache; the label tokens are those of the second.\n\n"
    text += table(["configuration", "side", "runs", "first epoch, s", "second epoch, s", "first / second", "label tokens/s",
                   "peak memory, MiB"], rows)
    return text + "\n" + table(["configuration", "ratio", "label tokens/s", "peak memory", "largest difference of losses"],
                               ratios)


def generation_part(groups):
    short, long = (f"prompt_{length}_per_second" for length in generation.PROMPT_LENGTHS)
    rows, ratios = [], []
    for group in groups:
        for one in group.sides:
            rows.append([group.config, one.name, len(one.runs), cell(one, short), cell(one, long),
                         cell(one, "decode_per_second"), cell(one, "peak_bytes", MIB)])
        for ours, theirs in pairs(group, generation.PAIRS):
            ratios.append([group.config, f"{ours.name} / {theirs.name}",
                           *(ranged(ratio(ours, theirs, what), "×") for what in (short, long, "decode_per_second")),
                           agreement(ours, theirs)])
    lengths = [f"prompt of {length}, tokens/s" for length in generation.PROMPT_LENGTHS]
    text = "## Generation\n\n"
    text += table(["configuration", "side", "runs", *lengths, "decoding, tokens/s", "peak memory, MiB"], rows)
    text += "\n" + table(["configuration", "ratio", *(f"prompt of {n}" for n in generation.PROMPT_LENGTHS), "decoding",
                          "equal tokens"], ratios)
    return text + adapters_cost(groups)


def agreement(ours, theirs):
    """Share of the greedy tokens that are the same before the first that is not."""
    rows = list(zip(ours.runs[0]["tokens"], theirs.runs[0]["tokens"]))
    same = 0
    for a, b in rows:
        same += next((n for n, (x, y) in enumerate(zip(a, b)) if x != y), len(a))
    return f"{same}/{sum(len(a) for a, _ in rows)}"


def adapters_cost(groups):
    """How much slower the adapter makes decoding, of the medians."""
    by_config = {group.config: group for group in groups}
    rows = []
    for batch in generation.BATCHES:
        base, adapted = (by_config.get(f"batch {batch}, {what}") for what in ("base", "adapter"))
        for one in adapted.sides if base and adapted else []:
            plain = side(base, one.name)
            if plain and plain.runs and one.runs:
                share = 1 - median(values(one, "decode_per_second")) / median(values(plain, "decode_per_second"))
                rows.append([f"batch {batch}", one.name, f"{share * 100:.1f} %"])
    return "\nDecoding tokens a second that the adapter costs:\n\n" + table(["configuration", "side", "cost"], rows)


def loading_part(groups):
    rows, ratios = [], []
    for group in groups:
        for one in group.sides:
            rows.append([one.name, len(one.runs), cell(one, "seconds_load"), cell(one, "seconds_ready"),
                         cell(one, "bytes_loaded", MIB), cell(one, "bytes_answered", MIB), cell(one, "peak_bytes", MIB)])
        for ours, theirs in pairs(group, loading.PAIRS):
            ratios.append([f"{ours.name} / {theirs.name}", *(ranged(ratio(ours, theirs, what), "×") for what in
                                                             ("seconds_load", "seconds_ready", "bytes_answered"))])
    text = "## Loading\n\n"
    text += table(["side", "runs", "load, s", "start to ready, s", "resident when loaded, MiB",
                   "resident after a token, MiB", "peak, MiB"], rows)
    return text + "\n" + table(["ratio", "load", "start to ready", "resident after a token"], ratios)


SPEEDS = {"step_seconds": "s a step", "slots_per_second": "token slots/s", "decode_per_second": "decoding, tokens/s"}


def scaling_part(groups):
    text = "## Scaling\n\nOne thing grows, the others stay as the other columns say. No padding; the words around all instructions are worked on once.\n"
    kinds = dict.fromkeys(group.facts["what"] for group in groups)
    for kind in kinds:
        own = [group for group in groups if group.facts["what"] == kind]
        # Steps are timed, or answers.
        speeds = [what for what in SPEEDS if any(what in run for group in own for run in group.sides[0].runs)]
        rows = []
        for group in own:
            facts, one = group.facts, group.sides[0]
            rows.append([facts["value"], f"{facts['rows']} x {facts['row_tokens']}",
                         f"{facts['adapter_len']} x {facts['layers']}", *(cell(one, what) for what in speeds),
                         cell(one, "peak_bytes", MIB)])
        titles = [kind, "batch", "adapter", *(SPEEDS[what] for what in speeds), "peak memory, MiB"]
        text += f"\n{kind.capitalize()}:\n\n" + table(titles, rows)
    return text


PARTS = {"training": training_part, "curves": curves_part, "epochs": epochs_part, "generation": generation_part, "loading": loading_part,
         "scaling": scaling_part}


def head(about):
    machine, versions, settings = about["machine"], about["versions"], about["settings"]
    commit = about["git"]["commit"] or "unknown"
    lines = [
        f"# Measured on {about['date']}", "",
        f"- {machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / (1 << 30):.1f} GiB, {machine['system']}",
        f"- instruction sets: {' '.join(machine['flags']) or 'unknown'}",
        f"- {settings['threads']} threads on every side; up to {settings['repeats']} rounds in {settings['minutes']} minutes",
        f"- commit {commit}{', with changes' if about['git']['changed'] else ''}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items()),
        f"- trained on rows of {settings['rows']}",
        "- SmolLM2-135M-Instruct. Median (lowest–highest). bench/README.md says what each number means.",
    ]
    load = machine["load_before"]
    if load is not None and load > 0.5:
        lines.append(f"- **The machine was busy when this began: load {load:.1f}. Trust ratios, not seconds.**")
    return "\n".join(lines) + "\n"


def markdown(about, groups):
    parts = [head(about)]
    for name, part in PARTS.items():
        mine = [group for group in groups if group.part == name]
        if mine:
            parts.append(part(mine))
    left_out = [f"- {group.part}, {group.config}: {one.name}, {one.left_out}\n"
                for group in groups for one in group.sides if one.left_out]
    if left_out:
        parts.append("## What was left out\n\n" + "".join(left_out))
    failed = [f"### {group.part}, {group.config}: {one.name}\n\n```text\n{one.error}\n```\n"
              for group in groups for one in group.sides if one.error]
    if failed:
        parts.append("## What failed\n\n" + "\n".join(failed))
    return "\n".join(parts)


def as_json(about, groups):
    measured = []
    for group in groups:
        sides = {one.name: {"error": one.error, "left_out": one.left_out, "runs": one.runs} for one in group.sides}
        measured.append({"part": group.part, "configuration": group.config, **group.facts, "sides": sides})
    return json.dumps(about | {"measured": measured}, indent=1, ensure_ascii=False) + "\n"


def save(about, groups, path: Path):
    """PATH.json and PATH.md."""
    write(path.with_name(path.name + ".json"), as_json(about, groups))
    write(path.with_name(path.name + ".md"), markdown(about, groups))
