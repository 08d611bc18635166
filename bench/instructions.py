"""Instructions that two fixed pieces of work take, counted by valgrind's callgrind.

Seconds vary from run to run; these counts do not, for the same program on the same kind of
processor. That makes them the line against which a change is held: `--save` writes the counts to
bench/results/instructions.json, later runs print the ratio to them.

Needs valgrind, which runs a program many times slower: two or three minutes.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAVED = ROOT / "bench" / "results" / "instructions.json"

# Both with the built-in model, on one thread: nothing depends on how threads share the work.
WORK = {
    "train, 3 steps of 2 rows": [
        "train", "--max-steps", "3", "--batch-size", "2", "--exact-match-rows", "0",
        "--eval-fraction", "0.01",
        "--quiet", "--threads", "1",
    ],
    "generate, 32 tokens": [
        "generate", "--prompt", "Ada is", "--max-new-tokens", "32", "--threads", "1",
    ],
}


def count(program: Path, words: list[str], folder: Path) -> int:
    """Instructions of one run."""
    command = [
        "valgrind", "--tool=callgrind", f"--callgrind-out-file={folder / 'callgrind.out'}",
        str(program), *words,
    ]
    if words[0] == "train":
        command += ["--output", str(folder / "adapter")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not found:
        sys.exit(f"error: {' '.join(words)} failed under valgrind:\n{done.stderr[-2000:]}")
    return int(found.group(1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save", action="store_true", help="make these the counts to compare with")
    parser.add_argument(
        "--program", type=Path, help="the program to count [default: builds it from here]"
    )
    arguments = parser.parse_args()
    program = arguments.program
    if program is None:
        subprocess.run(["cargo", "build", "--release"], cwd=ROOT, check=True)
        target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
        program = Path(target) / "release" / "llama-adapter"
    saved = json.loads(SAVED.read_text()) if SAVED.exists() else {}
    counts = {}
    for name, words in WORK.items():
        with tempfile.TemporaryDirectory() as folder:
            counts[name] = count(program.resolve(), words, Path(folder))
        before = saved.get(name)
        ratio = f"  {counts[name] / before:.4f} of the saved count" if before else ""
        print(f"{name:24} {counts[name]:>16,} instructions{ratio}", flush=True)
    if arguments.save:
        SAVED.parent.mkdir(exist_ok=True)
        temporary = SAVED.with_suffix(".tmp")
        temporary.write_text(json.dumps(counts, indent=2) + "\n")
        temporary.replace(SAVED)


if __name__ == "__main__":
    main()
