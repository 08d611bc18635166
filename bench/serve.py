"""Measures `llama-adapter serve` under load, llama.cpp's server beside it. See "Serving" in README.md beside this file.

    python3 bench/serve.py                      the load, with SmolLM2-135M
    python3 bench/serve.py --soak 600           ten minutes of mixed load with faults, with the built-in model
"""

import argparse
import asyncio
import json
import sys
import tempfile
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path

import environment
import machine
import process
from process import Failed, say
from report import write
from serving import client, load, report, servers, soak

NAME = "base"
CONTEXT = 2560
MAX_ROWS = 33
# Ours, and llama.cpp's formats with as many bits.
FORMATS = {"f32": ["F32"], "bf16": ["BF16", "F16"], "f16": ["F16"], "q8": ["Q8_0"], "q4": ["Q4_0"]}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, metavar="FILE", help="this llama-adapter [default: build one]")
    parser.add_argument("--model", metavar="MODEL", help=f"[default: {environment.MODEL}; with --soak the built-in model]")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="mixed load with faults, no measurements")
    parser.add_argument("--seconds", type=float, default=30, metavar="S", help="length of a measurement [default: 30]")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="rounds [default: 3]")
    parser.add_argument("--precisions", default="f32,bf16", metavar="P,P", help="[default: f32,bf16]")
    parser.add_argument("--clients", default="1,8,32", metavar="N,N", help="[default: 1,8,32]")
    parser.add_argument("--threads", type=int, default=machine.cores(), metavar="N", help="[default: all cores]")
    parser.add_argument("--llama-server", type=Path, metavar="FILE", help="llama.cpp's own server")
    parser.add_argument("--llama-cpp-python", type=Path, metavar="FILE", help="a Python with llama-cpp-python[server]")
    parser.add_argument("--ggufs", type=Path, metavar="DIR", help="models for llama.cpp: F32.gguf, BF16.gguf, F16.gguf, ...")
    parser.add_argument("--results", type=Path, default=environment.BENCH / "results", metavar="DIR")
    return parser.parse_args()


def program(args):
    return args.program.resolve() if args.program else environment.program()


def model(args, program):
    if args.model:
        return args.model
    process.run([program, "fetch", environment.MODEL], "fetching the model")
    return environment.MODEL


def never_end(server):
    """How each server is told to go on after the end-of-sequence tokens of SmolLM2 (0 and 2)."""
    if server.name.startswith("llama-cpp-python"):
        return {"logit_bias": {"0": -100, "2": -100}}
    return {"ignore_eos": True}


def loads(args, name, adapters):
    """What is measured, by its name in the report. A server without adapters answers as the base only."""
    counts = [int(count) for count in args.clients.split(",")]
    for count in counts:
        yield str(count), {"clients": count, "models": (name,)}
    if 8 in counts and adapters:
        yield "8, one adapter", {"clients": 8, "models": (f"{name}:{adapters[0].name}",)}
        yield "8, 8 adapters", {"clients": 8, "models": tuple(f"{name}:{path.name}" for path in adapters)}
    if 8 in counts:
        yield "8, long prompts", {"clients": 8, "models": (name,), "long_prompts": True}


def start_all(args, program, model, work, precision):
    """The servers of a precision, with the adapters that they have."""
    adapters = servers.make_adapters(program, work / "adapters", 8, model=model)
    threads, most = args.threads, max(map(int, args.clients.split(",")))
    options = ["--precision", precision, "--threads", threads, "--max-rows", MAX_ROWS, "--cache-bytes", "2GiB"]
    yield servers.ours(program, work / f"ours-{precision}.log", model=model, name=NAME, adapters=adapters, options=options), adapters
    for kind in FORMATS[precision]:
        gguf = args.ggufs and args.ggufs / f"{kind}.gguf"
        if not gguf or not gguf.exists():
            continue
        given = {"model": gguf, "context": CONTEXT, "threads": threads}
        if args.llama_server:
            log = work / f"llama-server-{kind}.log"
            yield servers.llama_server(args.llama_server, log, name=f"llama-server {kind}", rows=most + 1, **given), ()
        if args.llama_cpp_python:
            log = work / f"llama-cpp-python-{kind}.log"
            name = f"llama-cpp-python {kind}"
            yield servers.llama_cpp_python(args.llama_cpp_python, log, name=name, **given), ()


async def measure_precision(args, program, model, work, precision, sides, save):
    texts = [json.loads(line)["output"] for line in
             (environment.ROOT / "assets/everyday/train.jsonl").read_text(encoding="utf-8").splitlines()]
    async with AsyncExitStack() as stack:
        # By load, so that the servers take turns and a change of the machine's mood meets all of them.
        plan = {}
        for server, adapters in start_all(args, program, model, work, precision):
            stack.callback(server.stop)
            try:
                await server.wait_until_ready()
            except Failed as error:
                # Builds of llama.cpp may crash on some processors; that is a result.
                if server.name == "llama-adapter":
                    raise
                say(f"{server.name} is left out: {error}")
                continue
            name = (await (await client.request(server.address, "GET", "/v1/models")).json())["data"][0]["id"]
            words = load.Words(texts)
            await words.calibrate(server.address, name)
            for what, settings in loads(args, name, adapters):
                side = {"server": server.name, "precision": precision, "what": what, "runs": []}
                asked = load.Load(**settings, seconds=args.seconds, never_end=never_end(server))
                plan.setdefault(what, []).append((server, words, asked, side))
        sides += [side for steps in plan.values() for *_, side in steps]
        for number in range(args.repeats):
            for server, words, asked, side in (step for steps in plan.values() for step in steps):
                found = await load.run(server.address, asked, words)
                side["runs"].append(found | {"memory": server.memory()})
                errors = f", {found['error_count']} errors: {found['errors'][0]}" if found["errors"] else ""
                say(f"[round {number + 1}] {server.name} {precision}, {side['what']}: "
                    f"{found['tokens_per_second']:.1f} tokens/s{errors}")
            save()


async def measure(args, work):
    load_before = machine.load()
    ours = program(args)
    asked = model(args, ours)
    about = {"date": datetime.now().strftime("%Y-%m-%d %H:%M"), "machine": machine.describe() | {"load_before": load_before},
             "git": machine.commit(environment.ROOT),
             "settings": {name: getattr(args, name) for name in ("seconds", "repeats", "threads", "clients")}}
    sides = []
    path = args.results / ("serve-" + about["date"].replace(" ", "_").replace(":", ""))

    def save():
        write(path.with_suffix(".json"), json.dumps({"about": about, "sides": sides}, indent=1) + "\n")
        write(path.with_suffix(".md"), report.markdown(about, sides))

    for precision in args.precisions.split(","):
        await measure_precision(args, ours, asked, work, precision, sides, save)
    print(report.markdown(about, sides))
    say(f"written: {path}.md and {path}.json")
    return not any(side["server"] == "llama-adapter" and run["error_count"] for side in sides for run in side["runs"])


def main():
    args = arguments()
    environment.HOME.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="serve-", dir=environment.HOME) as folder:
            if args.soak:
                log = environment.LOGS / "soak.log"
                good = asyncio.run(soak.run(program(args), Path(folder), log, args.soak, model=args.model))
            else:
                good = asyncio.run(measure(args, Path(folder)))
            return 0 if good else 1
    except Failed as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped; what was measured before is kept")
        return 130


if __name__ == "__main__":
    sys.exit(main())
