"""One measurement of the reference, or of llama.cpp: a task for a script in the reference's environment."""

import json
from dataclasses import dataclass
from pathlib import Path

import process
from environment import BENCH


@dataclass
class Theirs:
    python: Path
    threads: int
    seed: int = 0
    device: str = "cpu"

    def task(self, script, what, task):
        """What the script says about the task, and its peak memory."""
        task = task | {"threads": self.threads, "seed": self.seed, "device": self.device}
        # Both libraries ask the environment before they are told.
        env = {"OMP_NUM_THREADS": str(self.threads), "MKL_NUM_THREADS": str(self.threads)}
        text = json.dumps(task, default=str)
        done = process.run([self.python, BENCH / script, text], what, env=env, timeout=1800)
        return json.loads(done.stdout.splitlines()[-1]) | {"peak_bytes": done.peak_bytes}

    def peft(self, **task):
        return self.task("reference.py", f"PEFT, {task['task']} in {task['precision']}", task)

    def llama_cpp(self, **task):
        return self.task("llamacpp.py", f"llama.cpp, {task['task']} of {Path(task['model']).name}", task)
