"""Starts the program under mpirun, and reads what a run has written."""

import json
import os
import pathlib
import signal
import struct
import subprocess
import time

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = os.environ.get("LLAMA_ADAPTER", str(ROOT / "target/debug/llama-adapter"))
# Two cores must do: more ranks than cores, as root, on one host.
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]
TIMEOUT = 240


def environment(folder):
    # The variables of an outer launcher would make the program believe that it is a rank.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_", "PMI"))}
    return kept | {"LLAMA_ADAPTER_CACHE": str(folder / "cache"), "HF_ENDPOINT": "http://127.0.0.1:9"}


def command(ranks, args, program=PROGRAM):
    """The command for some ranks; 1 is a process without mpirun."""
    return [program, *args] if ranks == 1 else [*MPIRUN, "-n", str(ranks), program, *args]


def of_different_ranks(*commands):
    """One rank with each command."""
    parts = [["-n", "1", *part] for part in commands]
    return MPIRUN + sum(([":"] + part for part in parts[1:]), parts[0])


def run(args, folder):
    return subprocess.run(args, env=environment(folder), capture_output=True, text=True, timeout=TIMEOUT)


class Started:
    """A job in the background."""

    def __init__(self, args, folder):
        # A group of its own, so that a failed test leaves nothing behind.
        self.stderr = open(folder / "stderr.txt", "w+")
        self.process = subprocess.Popen(
            args, env=environment(folder), stdout=subprocess.DEVNULL, stderr=self.stderr, start_new_session=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in self.ranks().values():
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.stderr.close()

    def ranks(self):
        """The process of each rank."""
        found = {}
        for entry in pathlib.Path("/proc").iterdir():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                variables = (entry / "environ").read_bytes().split(b"\0")
            except (OSError, ValueError, IndexError):
                continue
            if parent == self.process.pid:
                for variable in variables:
                    if variable.startswith(b"OMPI_COMM_WORLD_RANK="):
                        found[int(variable.split(b"=")[1])] = int(entry.name)
        return found

    def wait_for(self, condition):
        end = time.monotonic() + TIMEOUT
        while not condition():
            assert self.process.poll() is None, self.errors()
            assert time.monotonic() < end, "timed out: " + self.errors()
            time.sleep(0.02)

    def wait(self, seconds):
        """The exit code, and the time until the end."""
        begin = time.monotonic()
        code = self.process.wait(seconds)
        return code, time.monotonic() - begin

    def errors(self):
        self.stderr.seek(0)
        return self.stderr.read()


def log(folder, event):
    """The entries of this kind in the log of a run."""
    try:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []
    entries = []
    for line in lines:
        try:
            entries.append(json.loads(line))
        except ValueError:
            pass
    return [entry for entry in entries if entry["event"] == event]


def losses(folder):
    return [entry["loss"] for entry in log(folder, "step")]


def tensors(path):
    """The values of a safetensors file, by name."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    values = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            assert entry["dtype"] == "F32", entry
            begin, end = entry["data_offsets"]
            values[name] = struct.unpack(f"<{(end - begin) // 4}f", data[8 + length + begin : 8 + length + end])
    return values


def adapter(folder):
    return tensors(folder / "adapter_model.safetensors")


def distance(found, expected):
    """The norm of the difference of two adapters, relative to the norm of the second."""
    assert found.keys() == expected.keys()
    pairs = [pair for name in found for pair in zip(found[name], expected[name], strict=True)]
    return (sum((a - b) ** 2 for a, b in pairs) / sum(b**2 for _, b in pairs)) ** 0.5
