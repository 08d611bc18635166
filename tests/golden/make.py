"""Writes the golden files again. See README.md beside this file."""

import argparse
import os

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here needs a network

import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["tiny", "kinds", "lora", "files", "gguf", "weights", "torch", "formats", "vision", "images", "data", "smollm2", "harness", "all"])
    parser.add_argument("--out", default=HERE, help="folder to write to (default: this one)")
    parser.add_argument("--smollm2-gguf", metavar="FILE", help="SmolLM2-135M-Instruct.Q4_1.gguf, for smollm2 and all")
    parser.add_argument("--dinov2", metavar="FOLDER", help="DINOv2-small of bench/images/prepare.py, for its real weights")
    parser.add_argument("--keep-hf", metavar="FOLDER", help="leave SmolLM2's Hugging Face folder there (538 MB)")
    args = parser.parse_args()
    if args.what in ("smollm2", "all") and not args.smollm2_gguf:
        parser.error("smollm2 needs --smollm2-gguf FILE")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(0)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if args.what in ("tiny", "all"):
        import tiny
        tiny.make(args.out)
    if args.what in ("kinds", "all"):
        import kinds
        kinds.make(args.out)
    if args.what in ("lora", "all"):
        import lora
        lora.make(args.out)
    if args.what in ("files", "all"):
        import chat_masks
        import chat_templates
        import model_files
        chat_masks.make(args.out)
        chat_templates.make(args.out)
        model_files.make(args.out)
    if args.what in ("gguf", "all"):
        import gguf_files
        gguf_files.make(args.out)
    if args.what in ("weights", "all"):
        import weight_files
        weight_files.make(args.out)
    if args.what in ("torch", "all"):
        import torch_files
        torch_files.make(args.out)
    if args.what in ("formats", "all"):
        import adapter_files
        adapter_files.make(args.out)
    if args.what in ("vision", "all"):
        import vision
        vision.make(args.out)
        if args.dinov2:
            vision.real(args.out, args.dinov2)
    if args.what in ("images", "all"):
        import images
        images.make(args.out)
    if args.what in ("data", "all"):
        import data_files
        data_files.make(args.out)
    if args.what in ("harness", "all"):
        import harness
        harness.make(args.out)
    if args.what in ("smollm2", "all"):
        import smollm2
        smollm2.make(args.out, args.smollm2_gguf, args.keep_hf)


if __name__ == "__main__":
    main()
