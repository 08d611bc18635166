"""Measures llama-adapter beside PEFT, transformers and llama.cpp on this machine. See README.md beside this file."""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import environment
import epochs
import generation
import loading
import machine
import report
import rounds
import scaling
import training
from environment import Weights
from ours import Ours
from process import Failed, say
from theirs import Theirs

PARTS = {"training": training.groups, "curves": training.curves, "epochs": epochs.groups, "generation": generation.groups,
         "loading": loading.groups, "scaling": scaling.groups}


@dataclass
class Bench:
    """What the parts need to measure."""

    ours: Ours
    theirs: Theirs
    weights: Weights
    ggufs: dict  # llama.cpp's formats that could be made
    rows: Path  # what is trained on
    steps: int
    quick: bool
    slow_too: bool


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="PART,PART", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="most rounds of measuring [default: 5]")
    parser.add_argument("--minutes", type=float, default=40, metavar="M",
                        help="begin no further round of a configuration that would end later; the first round is always "
                             "whole [default: 40]")
    parser.add_argument("--steps", type=int, default=4, metavar="N", help="measured steps of a training run [default: 4]")
    parser.add_argument("--rows", type=Path, default=training.ROWS, metavar="FILE",
                        help="instructions to train on, JSON lines [default: assets/everyday/train.jsonl]")
    parser.add_argument("--threads", type=int, default=machine.cores(), metavar="N", help="[default: all cores]")
    parser.add_argument("--quick", action="store_true", help="one round, fewest steps and tokens: does it run at all?")
    parser.add_argument("--slow-too", action="store_true",
                        help="measure 16 bits in PyTorch everywhere, on processors that are slow at it too")
    parser.add_argument("--without", metavar="SIDE,SIDE", default="",
                        help='leave out sides whose names begin so, for example "PEFT bf16"')
    parser.add_argument("--where", metavar="TEXT", default="",
                        help='only configurations with this in their name, for example "10 x 30, batch 4"')
    parser.add_argument("--program", type=Path, metavar="FILE", help="measure this llama-adapter and build none")
    parser.add_argument("--results", type=Path, default=environment.BENCH / "results", metavar="DIR")
    llama_cpp = parser.add_mutually_exclusive_group()
    llama_cpp.add_argument("--llama-cpp", action="store_true", help="try to build llama.cpp though it failed before")
    llama_cpp.add_argument("--no-llama-cpp", action="store_true", help="leave llama.cpp out")
    args = parser.parse_args()
    args.parts = [part.strip() for part in args.only.split(",")]
    unknown = [part for part in args.parts if part not in PARTS]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if min(args.repeats, args.steps, args.threads) < 1:
        parser.error("--repeats, --steps and --threads are at least 1")
    if not args.rows.is_file():
        parser.error(f"no file {args.rows}")
    if args.quick:
        args.repeats = args.steps = 1
    return args


def set_up(args, work):
    """Everything that is measured, and what to write about it."""
    environment.venv()
    compare = bool({"generation", "loading"} & set(args.parts)) and not args.no_llama_cpp
    with_llama_cpp = compare and environment.llama_cpp(args.llama_cpp)
    program = args.program.resolve() if args.program else environment.program()
    ours = Ours(program, args.threads, work)
    ours.check()
    weights = environment.weights(program)
    ggufs = {"F32": weights.f32_gguf} | environment.quantised(weights, generation.QUANTISED) if with_llama_cpp else {}
    bench = Bench(ours, Theirs(environment.python(), args.threads), weights, ggufs, args.rows.resolve(),
                  args.steps, args.quick, args.slow_too)
    about = {
        "date": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "machine": machine.describe(),
        "git": machine.commit(environment.ROOT),
        "versions": environment.versions(program, with_llama_cpp),
        "settings": {name: getattr(args, name) for name in ("threads", "repeats", "minutes", "steps", "quick", "parts")}
        | {"rows": args.rows.name},
    }
    return bench, about


def measure(args, work):
    start = time.perf_counter()
    load = machine.load()  # before our own builds make it
    bench, about = set_up(args, work)
    about["machine"]["load_before"] = load
    path = args.results / about["date"].replace(" ", "_").replace(":", "")
    groups = [group for name, part in PARTS.items() if name in args.parts for group in part(bench)
              if args.where in group.config]
    without = tuple(name.strip() for name in args.without.split(",") if name.strip())
    for group in groups:
        group.sides = [side for side in group.sides if not (without and side.name.startswith(without))]

    def save():
        about["minutes_taken"] = round((time.perf_counter() - start) / 60, 1)
        report.save(about, groups, path)

    try:
        rounds.run(groups, args.repeats, args.minutes * 60, save)
    finally:
        # What was measured is worth keeping, even if the rest was not to be.
        save()
    print(report.markdown(about, groups))
    say(f"written: {path}.md and {path}.json")
    # llama.cpp may crash on some processors; that is a result.
    return any(side.error for group in groups for side in group.sides if not side.name.startswith("llama.cpp"))


def main():
    args = arguments()
    environment.HOME.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="work-", dir=environment.HOME) as work:
            return int(measure(args, Path(work)))
    except Failed as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped; what was measured before is kept")
        return 130


if __name__ == "__main__":
    sys.exit(main())
