"""Programs that are run to be measured: their output, time and peak memory, and errors that say what to do."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

TAIL_LINES = 12


class Failed(Exception):
    """A program did not do what it should; the text tells which, and its last lines."""

    def __init__(self, what, output="", hint=None):
        lines = [what]
        tail = [line for line in output.splitlines() if line.strip()][-TAIL_LINES:]
        if tail:
            lines += ["its last lines:"] + ["  | " + line for line in tail]
        if hint:
            lines.append("hint: " + hint)
        super().__init__("\n".join(lines))


@dataclass
class Finished:
    """What a program that ended well left behind."""

    stdout: str
    stderr: str
    seconds: float
    peak_bytes: int


def say(text):
    print(text, file=sys.stderr, flush=True)


def peak_bytes(usage):
    """Largest resident memory of a process that was waited for (VmHWM). Linux counts in KiB, macOS in bytes."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def how_it_ended(code):
    return f"exit code {code}" if code >= 0 else f"killed by signal {-code}"


def run(command, what, *, env=None, timeout=None, hint=None):
    """Runs a program to its end. `what` names it in messages."""
    command = [str(part) for part in command]
    environment = os.environ | (env or {})
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        try:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment)
        except OSError as error:
            raise Failed(f"{what}: cannot run {command[0]}: {error}", hint=hint) from error
        usage, timed_out = wait(child, timeout)
        seconds = time.perf_counter() - start
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    stdout, stderr = texts
    if timed_out:
        raise Failed(f"{what}: stopped after {timeout:.0f} s", stderr + stdout, hint)
    if child.returncode != 0:
        raise Failed(f"{what}: {how_it_ended(child.returncode)}", stdout + stderr, hint)
    return Finished(stdout, stderr, seconds, peak_bytes(usage))


def wait(child, timeout=None):
    """Waits for a child, and gives its resource usage and whether it had to be killed."""
    timed_out = threading.Event()

    def stop():
        timed_out.set()
        child.kill()

    timer = threading.Timer(timeout, stop) if timeout else None
    if timer:
        timer.start()
    try:
        _pid, status, usage = os.wait4(child.pid, 0)
    except BaseException:
        child.kill()
        child.wait()
        raise
    finally:
        if timer:
            timer.cancel()
    child.returncode = os.waitstatus_to_exitcode(status)
    return usage, timed_out.is_set()


def run_logged(command, what, log: Path, *, env=None, hint=None):
    """Runs a long program whose words go to a file; errors show the end of it."""
    say(f"{what} (log: {log})")
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [str(part) for part in command]
    with open(log, "wb") as file:
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                                  env=os.environ | (env or {}), check=False)
        except OSError as error:
            raise Failed(f"{what}: cannot run {command[0]}: {error}", hint=hint) from error
    if done.returncode != 0:
        raise Failed(f"{what}: {how_it_ended(done.returncode)}", log.read_text(errors="replace"), hint)
