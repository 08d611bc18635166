"""Options of `train` compared by the held-out loss, on the built-in model: which of them should be defaults?

    python3 bench/training_options.py [--program target/release/llama-adapter] [--seeds 2]

Each line of the table is the default run with one change, the mean of several seeds: the held-out loss
after the last epoch, its difference to the default of the same seeds, the fraction of held-out rows that
are answered exactly, and the steps and seconds of the training. The random seed changes the initial
prompts, the order of the rows and the noise; the held-out rows stay the same.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# The first line is the default.
CHANGES = [
    [],
    ["--schedule", "linear"],
    ["--schedule", "constant"],
    ["--schedule", "wsd"],
    ["--ema", "0.98"],
    ["--schedule", "constant", "--ema", "0.98"],
    ["--noise", "2"],
    ["--noise", "5"],
    ["--lr-gate", "0.01"],
    ["--lr-gate", "0.1"],
    ["--batch-tokens", "640"],
    ["--keep-best"],
]


def train(program, change, seed):
    """The summary of a run."""
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "train", "--quiet", "--seed", str(seed), "--output", folder + "/run", *change]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "target/release/llama-adapter"), help="the program")
    parser.add_argument("--seeds", type=int, default=2, help="seeds of each line (2)")
    arguments = parser.parse_args()
    print("| change | held-out loss | difference | exact match | steps | seconds |\n|---|---|---|---|---|---|")
    default = None
    for change in CHANGES:
        runs = [train(arguments.program, change, seed) for seed in range(arguments.seeds)]
        losses = [run["eval_loss"] for run in runs]
        default = default or losses
        differences = [loss - base for loss, base in zip(losses, default)]
        spread = f" ({min(differences):+.4f} to {max(differences):+.4f})" if change else ""

        def mean(name):
            return statistics.mean(run[name] for run in runs)

        name = f"`{' '.join(change)}`" if change else "none"
        print(f"| {name} | {statistics.mean(losses):.4f} | {statistics.mean(differences):+.4f}{spread} "
              f"| {mean('exact_match'):.2f} | {mean('steps'):.0f} | {mean('seconds'):.0f} |", flush=True)


if __name__ == "__main__":
    main()
