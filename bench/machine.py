"""What the numbers were measured on, and with."""

import os
import platform
import subprocess
from pathlib import Path

# Of the many flags a processor has, those that matrix products are written for.
TELLING = ("sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16",
           "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimdhp", "asimddp", "sve", "bf16", "i8mm")


def output(*command, cwd=None):
    """First line of what a program says, or nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    except OSError:
        return None
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else None


def cores():
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu():
    """Name and telling flags of the processor."""
    name, flags = platform.processor() or platform.machine(), set()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() in ("flags", "Features"):
                flags.update(value.split())
    except OSError:
        name = output("sysctl", "-n", "machdep.cpu.brand_string") or name
    return name, [flag for flag in TELLING if flag in flags]


def load():
    """Programs that want to compute, on average over the last minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def describe():
    name, flags = cpu()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": name, "flags": flags, "cores": cores(), "memory_bytes": memory,
            "system": f"{platform.system()} {platform.release()} {platform.machine()}"}


def commit(root):
    """The commit of the tree, and whether a file that it holds was changed since."""
    found = output("git", "rev-parse", "HEAD", cwd=root)
    changed = output("git", "status", "--porcelain", "--untracked-files=no", cwd=root)
    return {"commit": found, "changed": changed is not None}
