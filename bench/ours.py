"""One measurement of our program, through its own commands."""

import json
import os
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import process
from process import Failed

# Small enough to leave prompts as they were drawn, and gates at zero but for 1e-30.
NO_LEARNING = 1e-30
NEEDED = {
    "train": ("--precision", "--threads", "--no-shuffle", "--checkpoint-every", "--max-steps", "--cache"),
    "generate": ("--precision", "--threads", "--ignore-eos", "--json", "--raw"),
}


@dataclass
class Ours:
    program: Path
    threads: int
    work: Path
    device: str | None = None  # the program's default

    def on_device(self):
        return ["--device", self.device] if self.device else []

    def check(self):
        """Refuses a program that lacks an option, before anything is measured."""
        for verb, options in NEEDED.items():
            help_text = process.run([self.program, verb, "--help"], f"llama-adapter {verb} --help").stdout
            missing = [option for option in options if option not in help_text]
            if missing:
                raise Failed(f"{self.program}: `{verb}` has no {', '.join(missing)}",
                             hint="build it from the tree that bench/ belongs to")

    def train(self, *, model, rows, batch, steps, precision, layers, adapter_len, learning_rate, max_len=None, cache="off",
              keep=None):
        """Steps of AdamW on the rows in their order, as the program's log tells them, and the peak memory.

        `cache` is the place of the frozen-prefix cache, `keep` a folder for the adapter."""
        with tempfile.TemporaryDirectory(dir=self.work) as scratch:
            output = keep or Path(scratch) / "run"
            command = [self.program, "train", "--model", model, "--data", rows, "--eval-fraction", 0,
                       "--exact-match-rows", 0, "--adapter-len", adapter_len, "--adapter-layers", layers,
                       "--batch-size", batch, "--max-steps", steps, "--lr", learning_rate, "--warmup", 0,
                       "--no-shuffle", "--precision", precision, "--threads", self.threads, "--cache", cache,
                       # Every step is waited for and timed on its own; the writing is not in its time.
                       "--checkpoint-every", 1, "--quiet", "--output", output, *self.on_device()]
            if max_len:
                command += ["--max-len", max_len]
            done = process.run(command, f"llama-adapter train in {precision}", timeout=1800)
            log = [json.loads(line) for line in (Path(output) / "metrics.jsonl").read_text().splitlines()]
        steps = [{"seconds": line["seconds"], "loss": line["loss"], "rows": batch, "slots": line["slots"],
                  "labels": line["labels"], "learning_rate": line["learning_rate"]} for line in log if line["event"] == "step"]
        return {"steps": steps, "peak_bytes": done.peak_bytes}

    def initial_adapter(self, *, model, rows, layers, adapter_len):
        """The adapter that `train` starts from, in PEFT's layout."""
        folder = self.work / f"initial-{adapter_len}x{layers}"
        if not folder.exists():
            self.train(model=model, rows=rows, batch=1, steps=1, precision="f32", layers=layers,
                       adapter_len=adapter_len, learning_rate=NO_LEARNING, keep=folder)
        return folder

    def answer(self, *, model, prompts, new_tokens, precision, adapter=None, copies=1):
        """Greedy answers to prompts as one batch, none of which ends early.

        The adapter may be loaded several times over, as if those were different ones; prompts take them in turns."""
        command = [self.program, "generate", "--model", model, "--precision", precision, "--threads", self.threads,
                   "--json", "--raw", "--ignore-eos", "--temperature", 0, "--max-new-tokens", new_tokens,
                   *self.on_device()]
        for prompt in prompts:
            command += ["--prompt", prompt["text"]]
        if adapter and copies == 1:
            command += ["--adapter", adapter]
        elif adapter:
            for copy in range(copies):
                command += ["--adapter", f"copy{copy}={adapter}"]
            command += ["--use", ",".join(f"copy{row % copies}" for row in range(len(prompts)))]
        done = process.run(command, f"llama-adapter generate in {precision}", timeout=900)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        expected = [len(prompt["ids"]) for prompt in prompts]
        if [row["prompt_tokens"] for row in rows] != expected or any(len(row["tokens"]) != new_tokens for row in rows):
            raise Failed(f"llama-adapter generate: not {expected} prompt tokens and {new_tokens} new ones", done.stdout)
        return {"tokens": [row["tokens"] for row in rows], "prompt_tokens": sum(expected),
                "seconds_prompt": max(row["seconds_prompt"] for row in rows),
                "decoded_tokens": sum(len(row["tokens"]) - 1 for row in rows),
                "seconds_decode": max(row["seconds_decode"] for row in rows), "peak_bytes": done.peak_bytes}

    def load(self, *, model, precision):
        """Time and memory until `chat` reads its first line, and after an answer of one token."""
        command = [self.program, "chat", "--model", model, "--precision", precision, "--threads", self.threads,
                   "--wording", "raw", "--temperature", 0, "--max-new-tokens", 1]
        what = f"llama-adapter chat in {precision}"
        start = time.perf_counter()
        child = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE, text=True)
        limit = threading.Timer(300, child.kill)
        limit.start()
        said = []

        def ready():
            """The commands are answered in their order, so help comes when all before it is done."""
            child.stdin.write("/help\n")
            child.stdin.flush()
            for line in child.stderr:
                said.append(line)
                if line.startswith("Ctrl-C"):
                    return
            raise BrokenPipeError

        try:
            ready()
            seconds, loaded = time.perf_counter() - start, resident_bytes(child.pid)
            child.stdin.write("Hello\n")
            ready()
            answered = resident_bytes(child.pid)
            child.stdin.close()
        except (BrokenPipeError, OSError) as error:
            child.kill()
            child.wait()
            raise Failed(f"{what}: it ended before it answered", "".join(said)) from error
        finally:
            limit.cancel()
        usage, _ = process.wait(child, 60)
        return {"seconds_load": seconds, "seconds_ready": seconds, "bytes_loaded": loaded, "bytes_answered": answered,
                "peak_bytes": process.peak_bytes(usage)}


def resident_bytes(pid):
    """Memory of a process now; Linux alone tells."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None
