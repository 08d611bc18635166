"""Losses and right answers ─► a picture."""

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402

# Words as words, and the same file from the same numbers.
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "images", "font.family": "sans-serif", "font.size": 9})
COLOURS = {"blind": "#b0562c", "seeing": "#2c6cb0"}
WINDOW = 20


def smooth(losses):
    """Means of the last steps."""
    windows = [losses[max(0, end - WINDOW):end] for end in range(1, len(losses) + 1)]
    return [sum(window) / len(window) for window in windows]


def losses(axes, curves):
    for name, curve in curves.items():
        kind, _, seed = name.partition("-")
        if kind in COLOURS:
            found = smooth(curve["steps"])[WINDOW - 1:]
            label = {"blind": "text only", "seeing": "with pictures"}[kind] if seed == "0" else None
            axes.plot(range(WINDOW, WINDOW + len(found)), found, color=COLOURS[kind], linewidth=1, label=label)
    axes.set(xlabel=f"step (mean of {WINDOW})", ylabel="training loss", ylim=(0, 1), title="Learning, three seeds each")
    axes.legend(frameon=False)


def answers(axes, report):
    models = {model["name"]: model for model in report["models"]}
    tags = ["all", *(tag for tag, _ in report["models"][0]["by_tag"])]

    def shares(name):
        return [100 * models[name]["accuracy"], *(100 * rated["accuracy"] for _, rated in models[name]["by_tag"])]

    places = range(len(tags))
    common = shares("most common of the question")
    axes.barh(places, common, height=0.8, color="#dddddd", label="most common answer to the question")
    for kind, shift in [("blind", -0.17), ("seeing", 0.17)]:
        for seed in range(3):
            axes.plot(shares(f"{kind}-{seed}"), [place + shift for place in places], "o", markersize=4, alpha=0.8,
                      color=COLOURS[kind], label={"blind": "text only", "seeing": "with pictures"}[kind] if seed == 0 else None)
    axes.set(xlabel="per cent right", xlim=(0, 100), yticks=list(places), yticklabels=tags, title="Questions about unseen pictures")
    axes.invert_yaxis()
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=3)


def draw(report, curves, path):
    picture, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.2), gridspec_kw={"width_ratios": [1, 1.3]})
    picture.patch.set_facecolor("white")
    losses(left, curves)
    answers(right, report)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    picture.tight_layout()
    picture.savefig(path, metadata={"Date": None, "Creator": None})
