"""Options of `train` compared by the held-out loss, on the built-in model: which of them should be defaults?

    python3 bench/training_options.py [--program target/release/llama-adapter] [--seeds 2]

Each line of the table is the default run with one change, the mean of several seeds: the held-out loss
after the last epoch, and its difference to the default of the same seed. The random seed changes the
initial prompts, the order of the rows and the noise; the held-out rows stay the same. As many trainings run at
a time as there are cores, each on one of them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
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
    """The held-out loss of a run."""
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "train", "--quiet", "--threads", "1", "--exact-match-rows", "0", "--samples", "0",
                   "--seed", str(seed), "--output", folder + "/run", *change]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout)["eval_loss"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "target/release/llama-adapter"), help="the program")
    parser.add_argument("--seeds", type=int, default=2, help="seeds of each line (2)")
    arguments = parser.parse_args()
    print("| change | held-out loss | difference of each seed |\n|---|---|---|")
    default = None
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        seeds = range(arguments.seeds)
        runs = [[pool.submit(train, arguments.program, change, seed) for seed in seeds] for change in CHANGES]
        for change, of_change in zip(CHANGES, runs):
            losses = [run.result() for run in of_change]
            default = default or losses
            differences = ", ".join(f"{loss - base:+.4f}" for loss, base in zip(losses, default))
            name = f"`{' '.join(change)}`" if change else "none"
            print(f"| {name} | {statistics.mean(losses):.4f} | {differences if change else ''} |", flush=True)


if __name__ == "__main__":
    main()
