"""Losses and right answers ─► a picture."""

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402

# Words as words, and the same file from the same numbers.
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "images", "font.family": "sans-serif", "font.size": 9})
# Adapters by the beginning of their name: a label, a colour, and how far they are moved from others in their line.
KINDS = {"blind": ("text only", "#b0562c", -0.17), "seeing": ("with pictures", "#2c6cb0", 0.17)}
WINDOW = 20


def named(models):
    """The label, colour, shift and value of each model of these kinds; a label for the first of each alone."""
    for kind, (label, colour, shift) in KINDS.items():
        own = [value for name, value in models.items() if name.startswith(f"{kind}-")]
        for at, value in enumerate(own):
            yield None if at else label, colour, shift, value


def smooth(losses):
    """Means of as many steps as the window has."""
    return [sum(losses[end - WINDOW:end]) / WINDOW for end in range(WINDOW, len(losses) + 1)]


def losses(axes, curves):
    for label, colour, _, curve in named(curves):
        found = smooth(curve["steps"])
        axes.plot(range(WINDOW, WINDOW + len(found)), found, color=colour, linewidth=1, label=label)
    axes.set(xlabel=f"step (mean of {WINDOW})", ylabel="training loss", ylim=(0, 1), title="Learning, three seeds each")
    axes.legend(frameon=False)


def answers(axes, report):
    tags = ["all", *(tag for tag, _ in report["models"][0]["by_tag"])]
    shares = {model["name"]: [100 * rated["accuracy"] for rated in [model, *(rated for _, rated in model["by_tag"])]]
              for model in report["models"]}
    places = range(len(tags))
    common = shares["most common of the question"]
    axes.barh(places, common, height=0.8, color="#dddddd", label="most common answer to the question")
    for label, colour, shift, own in named(shares):
        axes.plot(own, [place + shift for place in places], "o", markersize=4, alpha=0.8, color=colour, label=label)
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
