"""Does PEFT load adapters that llama-adapter wrote, and compute the same logits?

    llama-adapter logits --model BASE --adapter ADAPTER --ids ids.json --out logits.safetensors
    python load_in_peft.py --ids ids.json BASE ADAPTER logits.safetensors [BASE ADAPTER LOGITS ...]

BASE is a Hugging Face folder. Prints the largest difference of each; fails where one is above 1e-3, where an adapter
changes nothing, and where PEFT takes an adapter given as --refused BASE ADAPTER. `.ci/peft` runs it."""

import argparse
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"  # everything is in folders

import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file

TOLERANCE = 1e-3
# What our adapters call their method where PEFT has none that computes the same.
METHOD = "LLAMA_ADAPTER"


def load(base, adapter=None):
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return (PeftModel.from_pretrained(model, adapter) if adapter else model).eval()


def compare(tokens, base, adapter, logits):
    """What is wrong, or nothing."""
    ours = load_file(logits)["logits"]
    theirs = load(base, adapter)(input_ids=tokens).logits
    effect = (theirs - load(base)(input_ids=tokens).logits).abs().max().item()
    difference = (theirs - ours).abs().max().item()
    print(f"{os.path.basename(adapter)}: logits {tuple(ours.shape)} of up to {theirs.abs().max().item():.1f}; "
          f"the adapter moves them by {effect:.2e}; largest difference {difference:.2e}")
    if not difference <= TOLERANCE:
        return f"{adapter}: logits differ by {difference:.2e}"
    if not effect > 20 * TOLERANCE:
        return f"{adapter}: it changes next to nothing, so the comparison proves nothing"
    return None


def refuse(base, adapter):
    model = load(base)
    try:
        PeftModel.from_pretrained(model, adapter)
    except (KeyError, ValueError) as error:
        print(f"{os.path.basename(adapter)}: refused, as it should be: {error!r}")
        return None if METHOD in str(error) else f"{adapter}: PEFT refused it for another reason: {error!r}"
    return f"{adapter}: PEFT loaded it, and would compute something else"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", required=True, help="JSON file of rows of token ids")
    parser.add_argument("--refused", nargs=2, action="append", default=[], metavar=("BASE", "ADAPTER"))
    parser.add_argument("checks", nargs="*", metavar="BASE ADAPTER LOGITS")
    args = parser.parse_args()
    if len(args.checks) % 3:
        parser.error("BASE, ADAPTER and LOGITS come together")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with open(args.ids, encoding="utf-8") as file:
        tokens = torch.tensor(json.load(file))
    with torch.no_grad():
        wrong = [compare(tokens, *args.checks[i : i + 3]) for i in range(0, len(args.checks), 3)]
        wrong += [refuse(*pair) for pair in args.refused]
    wrong = [problem for problem in wrong if problem]
    print("\n".join(f"WRONG {problem}" for problem in wrong) or "PEFT agrees")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
