"""Measures llama-adapter on a GPU beside PEFT and transformers. Needs no network. See README.md beside this file."""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

BENCH = Path(__file__).resolve().parent.parent
ROOT = BENCH.parent
sys.path.insert(0, str(BENCH))

import generation
import machine
import process
import report
import rounds
import training
from ours import Ours
from process import Failed, say
from prompts import prompts
from rounds import Group, Side
from theirs import Theirs

TOKENIZER = ROOT / "crates/built-in/assets/tiny-llama"
ADAPTER_LEN = 10
# Layers that have an adapter, of the layers of each shape.
LAYERS = {"tiny": 2, "smollm2-135m": 28, "llama-1b": 14, "llama-7b": 30}
BATCH = 8
# In f32 the weights of the largest shape take 27 GB on each side.
OURS = {"tiny": ("f32", "bf16", "q8", "q4"), "smollm2-135m": ("f32", "bf16", "q8", "q4"),
        "llama-1b": ("f32", "bf16", "q8", "q4"), "llama-7b": ("bf16", "q4")}
PEFT = {"tiny": ("f32", "autocast", "bf16"), "smollm2-135m": ("f32", "autocast", "bf16"),
        "llama-1b": ("f32", "autocast", "bf16"), "llama-7b": ("bf16",)}
GATES = """
import sys, torch
from safetensors.torch import load_file, save_file
torch.manual_seed(1)
tensors = load_file(sys.argv[1])
for name, values in tensors.items():
    if name.endswith("adaption_gate"):
        values.uniform_(-0.3, 0.3)
save_file(tensors, sys.argv[1], {"format": "pt"})
"""


@dataclass
class CardMemory:
    """The most memory in use on the first NVIDIA card while something runs, beyond what was before. Other cards do
    not tell."""

    peak: int = 0
    before: int | None = field(default_factory=lambda: CardMemory.used())

    @staticmethod
    def used():
        told = machine.output("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits")
        return int(told) << 20 if told else None

    def __enter__(self):
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        while self.before is not None and not self.ended.wait(0.1):
            self.peak = max(self.peak, (self.used() or 0) - self.before)

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def watched(measure):
    """The measurement, with the peak memory of the card."""
    with CardMemory() as memory:
        found = measure()
    return found | {"card_peak_bytes": memory.peak or None}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", action="append", required=True, metavar="DEVICE=FILE",
                        help="a build of llama-adapter and the device to measure it on, for example "
                             "wgpu=target/release/llama-adapter; may be repeated, for a build with vulkan")
    parser.add_argument("--shapes", default="smollm2-135m,llama-1b,llama-7b", metavar="SHAPE,SHAPE",
                        help=f"some of {', '.join(LAYERS)} [default: smollm2-135m,llama-1b,llama-7b]")
    parser.add_argument("--reference", default="cuda", metavar="DEVICE", help="PyTorch's device [default: cuda]")
    parser.add_argument("--steps", type=int, default=8, metavar="N", help="measured steps of a training run [default: 8]")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="most rounds of measuring [default: 3]")
    parser.add_argument("--minutes", type=float, default=12, metavar="M",
                        help="begin no further round that would end later; the first is always whole [default: 12]")
    parser.add_argument("--quick", action="store_true",
                        help="the tiny shape, one round, fewest steps and tokens: does it run at all?")
    parser.add_argument("--threads", type=int, default=machine.cores(), metavar="N", help="[default: all cores]")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep weights here [default: a temporary folder]")
    parser.add_argument("--results", type=Path, default=BENCH / "results", metavar="DIR")
    args = parser.parse_args()
    if args.quick:
        args.shapes, args.steps, args.repeats = "tiny", 1, 1
    args.shapes = args.shapes.split(",")
    unknown = [shape for shape in args.shapes if shape not in LAYERS]
    if unknown:
        parser.error(f"no shape {', '.join(unknown)}; there are {', '.join(LAYERS)}")
    if any("=" not in program for program in args.program):
        parser.error("--program is DEVICE=FILE")
    args.program = dict(program.split("=", 1) for program in args.program)
    return args


def weights(args, shape, work):
    """The model of a shape, and prompts for it."""
    folder = work / shape
    if not (folder / "tokenizer_config.json").exists():
        command = [sys.executable, BENCH / "gpu/weights.py", shape, folder, TOKENIZER]
        process.run_logged(command, f"making weights of {shape}'s shape", work / f"{shape}.log",
                           hint="it needs a Python with torch, transformers and peft, see bench/requirements.txt")
    told = work / "prompts.json"
    told.write_text(json.dumps(prompts(folder, training.ROWS)), encoding="utf-8")
    return SimpleNamespace(folder=folder, prompts=told)


def training_group(args, shape, made, programs, theirs, start):
    steps = training.WARM_UP + args.steps
    common = {"model": made.folder, "rows": training.ROWS, "batch": BATCH}

    def ours(one, precision):
        return training.result(one.train(steps=steps, precision=precision, layers=LAYERS[shape], adapter_len=ADAPTER_LEN,
                                         learning_rate=training.LEARNING_RATE, **common))

    def peft(precision):
        found = theirs.peft(task="train", adapter=start, precision=precision, limit_seconds=training.LIMIT_SECONDS,
                            learning_rates=training.learning_rates(steps), **common)
        return training.result(found) | {"device_peak_bytes": found["device_peak_bytes"]}

    sides = [Side(f"ours {device} {precision}", lambda one=one, precision=precision: watched(lambda: ours(one, precision)))
             for precision in OURS[shape] for device, one in programs.items()]
    sides += [Side(f"PEFT {precision}", lambda precision=precision: watched(lambda: peft(precision)))
              for precision in PEFT[shape]]
    return Group("training", f"{shape}, {ADAPTER_LEN} x {LAYERS[shape]}, batch {BATCH}", in_turns(sides))


def generation_group(args, shape, made, programs, theirs, adapter):
    bench = SimpleNamespace(weights=made, quick=args.quick)
    asked = generation.requests(bench, 1)

    def ours(one, precision):
        answers = [one.answer(model=made.folder, prompts=texts, new_tokens=new, precision=precision, adapter=adapter)
                   for texts, new in asked]
        return generation.result(answers, max(answer["peak_bytes"] for answer in answers))

    def transformers(precision):
        plain = [{"prompts": [prompt["ids"] for prompt in texts], "new_tokens": new} for texts, new in asked]
        found = theirs.peft(task="generate", requests=plain, model=made.folder, precision=precision, adapter=adapter)
        return generation.result(found["answers"], found["peak_bytes"]) | {"device_peak_bytes": found["device_peak_bytes"]}

    sides = [Side(f"ours {device} {precision}", lambda one=one, precision=precision: watched(lambda: ours(one, precision)))
             for precision in OURS[shape] for device, one in programs.items()]
    sides += [Side(f"transformers {precision}", lambda precision=precision: watched(lambda: transformers(precision)))
              for precision in PEFT[shape] if precision != "autocast"]
    return Group("generation", f"{shape}, batch 1, adapter", in_turns(sides))


def in_turns(sides):
    """Ours and theirs in the same precision stand beside each other."""
    order = {"f32": 0, "bf16": 1, "autocast": 2, "q8": 3, "q4": 4}
    return sorted(sides, key=lambda side: order[side.name.split()[-1]])


def default_group(programs):
    """The default run: the built-in model and instructions."""
    def run(one):
        with tempfile.TemporaryDirectory(dir=one.work) as folder:
            command = [one.program, "train", "--quiet", "--output", Path(folder) / "run", *one.on_device()]
            done = process.run(command, f"llama-adapter train on {one.device}", timeout=1800)
        told = json.loads(done.stdout.strip().splitlines()[-1])
        return {"seconds": done.seconds, "peak_bytes": done.peak_bytes, "told": told}

    sides = [Side(f"ours {device}", lambda one=one: watched(lambda: run(one))) for device, one in programs.items()]
    return Group("default", "llama-adapter train", sides, once=True)


def devices(programs):
    """What each program says about the devices, and whether they are correct."""
    told = {}
    for device, one in programs.items():
        done = subprocess.run([one.program, "devices"], capture_output=True, text=True, check=False)
        told[device] = {"stdout": done.stdout, "stderr": done.stderr, "exit_code": done.returncode}
    return told


def card(told):
    """The name of the card."""
    name = machine.output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    if name:
        return name
    lines = [line for one in told.values() for line in one["stdout"].splitlines() if line.startswith(tuple(told))]
    return " ".join(lines[0].split()[-6:]) if lines else "unknown"


def set_up(args, work):
    programs = {device: Ours(Path(path).resolve(), args.threads, work, device) for device, path in args.program.items()}
    for one in programs.values():
        one.check()
    theirs = Theirs(Path(sys.executable), args.threads, device=args.reference)
    told = devices(programs)
    groups = [] if args.quick else [default_group(programs)]
    first = next(iter(programs.values()))
    for shape in args.shapes:
        made = weights(args, shape, work)
        # Any build writes the same initial adapter; the one that saves memory is enough.
        begin = {"model": made.folder, "rows": training.ROWS, "layers": LAYERS[shape], "adapter_len": ADAPTER_LEN}
        start, opened = work / f"{shape}-initial", work / f"{shape}-open"
        for folder in (start, opened):
            if not folder.exists():
                first.train(batch=1, steps=1, precision="bf16", learning_rate=1e-30, keep=folder, **begin)
        opening = [sys.executable, "-c", GATES, opened / "adapter_model.safetensors"]
        process.run(opening, f"opening the gates of {opened.name}")
        groups.append(training_group(args, shape, made, programs, theirs, start))
        groups.append(generation_group(args, shape, made, programs, theirs, opened))
    about = {
        "date": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "card": card(told),
        "machine": machine.describe(),
        "git": machine.commit(ROOT),
        "settings": {name: getattr(args, name) for name in ("shapes", "steps", "repeats", "minutes", "quick", "reference")},
        "devices": told,
    }
    return groups, about


def summary(groups):
    """A line for each side: its speeds, its memory, its losses."""
    lines = []
    for group in groups:
        for side in group.sides:
            if not side.runs:
                lines.append(f"{group.part}, {group.config}: {side.name}: {side.error or 'not measured'}")
                continue
            run = side.runs[0]
            speeds = [f"{what.replace('_', ' ')} {report.median(report.values(side, what)):.1f}"
                      for what in ("seconds", "label_tokens_per_second", "prompt_512_per_second", "decode_per_second")
                      if what in run]
            memory = run.get("card_peak_bytes") or run["peak_bytes"]
            losses = [f"{loss:.4f}" for loss in run.get("losses", [])]
            lines.append(f"{group.part}, {group.config}: {side.name}: {', '.join(speeds)}, {memory / (1 << 20):.0f} MiB"
                         + (f", losses {' '.join(losses)}" if losses else ""))
    return "\n".join(lines)


def measure(args, work):
    start = time.perf_counter()
    groups, about = set_up(args, work)
    name = "".join(c if c.isalnum() else "-" for c in about["card"]).strip("-").lower()
    path = args.results / f"gpu_{about['date'].replace(' ', '_').replace(':', '')}_{name}.json"

    def save():
        about["minutes_taken"] = round((time.perf_counter() - start) / 60, 1)
        report.write(path, report.as_json(about, groups))

    try:
        rounds.run(groups, args.repeats, args.minutes * 60, save)
    finally:
        save()
    print(summary(groups))
    say(f"written: {path}")
    return any(side.error for group in groups for side in group.sides)


def main():
    args = arguments()
    try:
        with tempfile.TemporaryDirectory(prefix="gpu-bench-") as scratch:
            work = args.work or Path(scratch)
            work.mkdir(parents=True, exist_ok=True)
            return int(measure(args, work.resolve()))
    except Failed as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped; what was measured before is kept")
        return 130


if __name__ == "__main__":
    sys.exit(main())
