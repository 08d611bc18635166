"""Training losses and accuracies ─► a figure."""

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402

# Text as text, and deterministic output.
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "images", "font.family": "sans-serif", "font.size": 9})
# By prefix of the adapter's name: label, color, and vertical offset in the accuracy plot.
KINDS = {"blind": ("text only", "#b0562c", -0.17), "seeing": ("with images", "#2c6cb0", 0.17)}
WINDOW = 20


def named(models):
    """Label, color, offset and value of each model of these kinds; only the first of each kind has a label."""
    for kind, (label, color, offset) in KINDS.items():
        own = [value for name, value in models.items() if name.startswith(f"{kind}-")]
        for at, value in enumerate(own):
            yield None if at else label, color, offset, value


def smooth(losses):
    """Moving average over the window."""
    return [sum(losses[end - WINDOW:end]) / WINDOW for end in range(WINDOW, len(losses) + 1)]


def losses(axes, curves):
    for label, color, _, curve in named(curves):
        found = smooth(curve["steps"])
        axes.plot(range(WINDOW, WINDOW + len(found)), found, color=color, linewidth=1, label=label)
    axes.set(xlabel=f"step (mean of {WINDOW})", ylabel="training loss", ylim=(0, 1), title="Training loss, three seeds each")
    axes.legend(frameon=False)


def accuracies(axes, report):
    tags = ["all", *(tag for tag, _ in report["models"][0]["by_tag"])]
    percent = {model["name"]: [100 * rated["accuracy"] for rated in [model, *(rated for _, rated in model["by_tag"])]]
              for model in report["models"]}
    positions = range(len(tags))
    common = percent["most common of the question"]
    axes.barh(positions, common, height=0.8, color="#dddddd", label="most common response to the question")
    for label, color, offset, own in named(percent):
        axes.plot(own, [position + offset for position in positions], "o", markersize=4, alpha=0.8, color=color, label=label)
    axes.set(xlabel="accuracy in %", xlim=(0, 100), yticks=list(positions), yticklabels=tags, title="Questions about test images")
    axes.invert_yaxis()
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=3)


def draw(report, curves, path):
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.2), gridspec_kw={"width_ratios": [1, 1.3]})
    figure.patch.set_facecolor("white")
    losses(left, curves)
    accuracies(right, report)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})
