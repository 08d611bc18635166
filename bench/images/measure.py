"""Trains multimodal and text-only adapters on easy-VQA and measures their accuracy ─► a JSON file, tables, a figure.

Needs the output of prepare.py, and SmolLM2. Finished runs are kept, interrupted runs continue. See README.md in this
folder."""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import figure

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "bench"))
from report import write  # noqa: E402

MODEL = "smollm2-135m-instruct"
IMAGE_OPTIONS = ["--image-size", 70, "--image-states", "6,9,normed"]
# Rows for the held-out loss during training, and test rows: the first ones of each file.
VAL_ROWS, TEST_ROWS = 400, 1500


@dataclass
class Run:
    """One training run."""

    name: str
    has_images: bool
    seed: int = 0
    options: tuple = ()
    # Steps relative to the other runs.
    length: float = 1


SEEDS = [Run(f"{name}-{seed}", name == "seeing", seed) for seed in range(3) for name in ["blind", "seeing"]]
# The others differ from it in one option. It adapts 28 of 30 layers with zero-init gates.
DEFAULT = SEEDS[1]
L10, L20, L30 = [Run(f"layers-{count}", True, options=("--adapter-layers", count)) for count in [10, 20, 30]]
REPORTS = {
    "seeds": SEEDS,
    "layers": [L10, L20, DEFAULT, L30],
    "gates": [DEFAULT, Run("random-gates", True, options=("--gate-std", 1))],
    "longer": [DEFAULT, Run("longer", True, length=7 / 3)],
}


@dataclass
class Bench:
    program: Path
    data: Path
    out: Path
    steps: int

    def encoder(self):
        return ["--image-encoder", self.data / "dinov2-small"]

    def rows(self, name):
        return self.data / "easy-vqa" / f"{name}.jsonl"

    def first_rows(self, name, count):
        """A file with the first rows of another, in the same folder, to which the image paths are relative."""
        path = self.rows(f"{name}-{count}")
        with self.rows(name).open(encoding="utf-8") as lines:
            write(path, "".join(line for _, line in zip(range(count), lines)))
        return path

    def call(self, words, log):
        """Runs the program and returns its stdout; stderr goes to the log."""
        with log.open("a") as stderr:
            done = subprocess.run(list(map(str, [self.program, *words])), stdout=subprocess.PIPE, stderr=stderr, text=True)
        if done.returncode != 0:
            sys.exit(f"error: `{words[0]}` ended with {done.returncode}\nhint: the reason is in {log}")
        return done.stdout

    def train(self, run):
        summary, folder = self.out / f"{run.name}.json", self.out / run.name
        if summary.exists():
            return
        print(f"training {run.name}", flush=True)
        words = ["train", "--model", MODEL, "--data", self.rows("train"), "--eval-data", self.first_rows("val", VAL_ROWS),
                 *([*self.encoder(), *IMAGE_OPTIONS] if run.has_images else []), "--batch-size", 32, "--images-together",
                 "--max-steps", round(self.steps * run.length), "--exact-match-rows", 0, "--seed", run.seed, *run.options,
                 "--output", folder, *(["--resume"] if (folder / "run.json").exists() else [])]
        write(summary, self.call(words, self.out / f"{run.name}.log"))

    def evaluate(self, name, runs):
        """Accuracy of several adapters, each compared with the one before it."""
        report = self.out / f"{name}.choices.json"
        if not report.exists():
            print(f"evaluating {', '.join(run.name for run in runs)}", flush=True)
            words = ["eval", "--json", "--task", "choices", "--model", MODEL, "--data", self.rows("test"),
                     "--train-data", self.rows("train"), "--max-rows", TEST_ROWS, "--batch-size", 16, *self.encoder()]
            for run in runs:
                words += ["--adapter", f"{run.name}={self.out / run.name}"]
            write(report, self.call(words, self.out / f"{name}.log"))
        return json.loads(report.read_text())

    def curve(self, run):
        """Training losses by step, and the held-out loss before and after training."""
        lines = [json.loads(line) for line in (self.out / run.name / "metrics.jsonl").read_text().splitlines()]
        held_out = [line["loss"] for line in lines if line["event"] == "eval"]
        return {"steps": [round(line["loss"], 4) for line in lines if line["event"] == "step"],
                "held_out": [held_out[0], held_out[-1]]}


def table(report, curves):
    """A Markdown table with a line for each model."""
    tags = [tag for tag, _ in report["models"][0]["by_tag"]]
    lines = [["accuracy in %", "all", "95 %", *tags, "held-out loss"]]
    for model in report["models"]:
        low, high = model["interval"]
        held_out = f"{curves[model['name']]['held_out'][1]:.3f}" if model["name"] in curves else ""
        lines.append([model["name"], f"{100 * model['accuracy']:.1f}", f"{100 * low:.1f} to {100 * high:.1f}",
                      *(f"{100 * rated['accuracy']:.1f}" for _, rated in model["by_tag"]), held_out])
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def differences(report):
    """A line for each pair whose second adapter is multimodal."""
    for pair in report["differences"]:
        if pair["second"].startswith("blind"):
            continue
        low, high = (100 * end for end in pair["interval"])
        yield f"{pair['second']} minus {pair['first']}: {100 * pair['mean']:+.1f} points, 95 %: {low:+.1f} to {high:+.1f}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, default=ROOT / "target" / "release" / "llama-adapter", metavar="FILE",
                        help="[default: target/release/llama-adapter]")
    parser.add_argument("--data", type=Path, default=ROOT / "target" / "images", metavar="FOLDER",
                        help="output of prepare.py [default: target/images]")
    parser.add_argument("--out", type=Path, default=ROOT / "target" / "images" / "runs", metavar="FOLDER",
                        help="folder for the adapters [default: target/images/runs]")
    parser.add_argument("--steps", type=int, default=300, metavar="N", help="training steps [default: 300]")
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results" / "images.json", metavar="FILE",
                        help="[default: bench/results/images.json]")
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "images.svg", metavar="FILE",
                        help="[default: docs/images.svg]")
    args = parser.parse_args()
    for path, hint in [(args.program, "cargo build --release"), (args.data / "easy-vqa", "bench/images/prepare.py")]:
        if not path.exists():
            sys.exit(f"error: {path} is missing\nhint: run {hint}")
    args.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(args.program, args.data, args.out, args.steps)
    runs = {run.name: run for compared in REPORTS.values() for run in compared}
    for run in runs.values():
        bench.train(run)
    reports = {name: bench.evaluate(name, compared) for name, compared in REPORTS.items()}
    curves = {name: bench.curve(run) for name, run in runs.items()}
    for report in reports.values():
        print(f"\n{table(report, curves)}\n{''.join(differences(report))}")
        for model in report["models"]:
            # Large, and stored in the files in --out.
            del model["by_row"]
    write(args.results, json.dumps({"steps": args.steps, **reports, "curves": curves}) + "\n")
    figure.draw(reports["seeds"], curves, args.figure)
    print(f"wrote {args.results} and {args.figure}")


if __name__ == "__main__":
    main()
