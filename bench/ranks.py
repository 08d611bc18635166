"""Two ranks with one thread each against one process with two threads, on this machine.

    cargo build --release --workspace --features ndarray,wgpu,mpi --bin llama-adapter
    python3 bench/ranks.py --program target/release/llama-adapter [--model MODEL --data FILE]

Prints label tokens per second of both in alternating rounds, their ratio, and what the all-reduce took. Run it on an
idle machine with at least two cores. `--quick` makes a single short round, to see that the bench works.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]


def train(launcher, options, args, folder):
    command = [*launcher, args.program, "train", "--quiet", "--exact-match-rows", "0", "--eval-fraction", "0"]
    command += ["--data", args.data, "--batch-size", str(args.batch_size), "--max-steps", str(args.steps)]
    command += ["--cache", "off", "--checkpoint-every", "100000", "--output", folder, *options]
    if args.model:
        command += ["--model", args.model]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode != 0:
        raise SystemExit(found.stderr)
    return json.loads(found.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "target/release/llama-adapter"))
    parser.add_argument("--model", help="default: the built-in model")
    parser.add_argument("--data", default=str(ROOT / "crates/built-in/assets/instructions/train.jsonl"))
    parser.add_argument("--batch-size", type=int, default=16, help="rows of a step, of all ranks together")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if args.quick:
        args.steps, args.rounds = 4, 1
    speeds, division = {"one process": [], "two ranks": []}, None
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            one = train([], ["--threads", "2"], args, f"{folder}/one")
            two = train([*MPIRUN, "-n", "2"], ["--threads", "1"], args, f"{folder}/two")
        speeds["one process"].append(one["label_tokens_per_second"])
        speeds["two ranks"].append(two["label_tokens_per_second"])
        division = two["ranks"]
    for name, values in speeds.items():
        print(f"{name}: {statistics.median(values):.0f} label tokens/s (of {', '.join(f'{v:.0f}' for v in values)})")
    ratio = statistics.median(b / a for a, b in zip(*speeds.values()))
    print(f"two ranks / one process: {ratio:.3f}")
    print(
        f"all-reduce of {division['all_reduce_bytes']} bytes: {1e3 * division['all_reduce_seconds_per_step']:.2f} ms a step, "
        f"waiting for the slower rank included; tokens of the busier rank / mean: {division['imbalance']:.3f}"
    )


if __name__ == "__main__":
    main()
