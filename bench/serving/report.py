"""Rounds of a configuration ─► medians ─► a Markdown page."""

from statistics import median

MS, MIB = 1e3, 2**-20


def middle(runs, *path):
    """Median of a number over the rounds that have it."""
    found = []
    for run in runs:
        for name in path:
            run = run.get(name) if run else None
        if run is not None:
            found.append(run)
    return median(found) if found else None


def number(value, factor=1.0):
    if value is None:
        return "-"
    value *= factor
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def row(side):
    runs = side["runs"]
    times = [f"{number(middle(runs, what, 'p50'), MS)} / {number(middle(runs, what, 'p95'), MS)} / "
             f"{number(middle(runs, what, 'p99'), MS)}" for what in ("first", "between")]
    return [side["server"], side["precision"], side["what"], number(middle(runs, "tokens_per_second")), *times,
            number(middle(runs, "memory", "resident"), MIB), len(runs)]


HEAD = ["server", "precision", "clients", "tokens/s", "first token, ms: p50 / p95 / p99",
        "between tokens, ms: p50 / p95 / p99", "resident MiB", "rounds"]


def table(head, rows):
    lines = [head, ["---"] * 3 + ["---:"] * (len(head) - 3), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def ratios(sides):
    """The comparisons that matter, as lines."""

    def speed(server, precision, what):
        return next((middle(side["runs"], "tokens_per_second") for side in sides
                     if (side["server"], side["precision"], side["what"]) == (server, precision, what)), None)

    def p95(precision, what):
        return next((middle(side["runs"], "between", "p95") for side in sides
                     if (side["server"], side["precision"], side["what"]) == ("llama-adapter", precision, what)), None)

    for precision in dict.fromkeys(side["precision"] for side in sides):
        wanted = [
            ("8 adapters / one adapter, 8 clients", speed("llama-adapter", precision, "8, 8 adapters"),
             speed("llama-adapter", precision, "8, one adapter")),
            ("8 clients / 1 client", speed("llama-adapter", precision, "8"), speed("llama-adapter", precision, "1")),
            ("p95 between tokens with a long prompt / without", p95(precision, "8, long prompts"), p95(precision, "8")),
        ]
        for other in dict.fromkeys(side["server"] for side in sides if side["server"] != "llama-adapter"):
            wanted += [(f"ours / {other}, {clients} clients", speed("llama-adapter", precision, clients),
                        speed(other, precision, clients)) for clients in ("1", "8", "32")]
        for name, above, below in wanted:
            if above and below:
                yield f"- {precision}: {name}: {above / below:.2f}"


def markdown(about, sides):
    machine = about["machine"]
    text = f"# Serving, {about['date']}\n\n"
    text += f"{machine['cpu']}, {machine['cores']} cores, {about['settings']['threads']} threads; load before: {machine['load_before']:.1f}. "
    text += f"Commit {about['git']['commit']}{' and changes' if about['git']['changed'] else ''}.\n\n"
    if machine["load_before"] > 0.5:
        text += "**The machine was busy when this began.**\n\n"
    text += table(HEAD, map(row, sides)) + "\n" + "\n".join(ratios(sides)) + "\n"
    errors = [f"- {side['server']} {side['precision']} {side['what']}: {error}" for side in sides for run in side["runs"]
              for error in run["errors"]]
    if errors:
        text += "\nErrors:\n\n" + "\n".join(dict.fromkeys(errors)) + "\n"
    return text
