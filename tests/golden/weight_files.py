"""The forms in which a folder may hold one model's weights: transformers must find in each what the golden files say.

Nothing is written: the Rust tests (crates/llama/tests/files/weight_files.rs) make the same forms of the same models.
"""

import json
import os
import shutil
import tempfile

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tiny import LOGIT_TOL, close

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def check(what, out, case, write, tied):
    """`write(folder, tensors)` puts the tensors of a case into a folder with its config."""
    made = load_file(os.path.join(out, case, "golden.safetensors"))
    with tempfile.TemporaryDirectory() as folder:
        base = os.path.join(out, case, "base")
        with open(os.path.join(base, "config.json"), encoding="utf-8") as f:
            config = json.load(f) | {"tie_word_embeddings": tied}
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
            json.dump(config, f)
        write(folder, load_file(os.path.join(base, "model.safetensors")))
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        diff = close(what, model(input_ids=made["input_ids"]).logits, made["base_logits"], LOGIT_TOL)
    print(f"  {what}: transformers agrees, {diff:.1e}")


def safetensors(folder, tensors):
    save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})


def head_alone(folder, tensors):
    safetensors(folder, {HEAD if name == EMBEDDING else name: tensor for name, tensor in tensors.items()})


def copied_head(folder, tensors):
    safetensors(folder, tensors | {HEAD: tensors[EMBEDDING].clone()})


def one_pickle(folder, tensors):
    torch.save(tensors | {HEAD: tensors[EMBEDDING]}, os.path.join(folder, "pytorch_model.bin"))


def two_pickles(folder, tensors):
    names = sorted(tensors)
    files = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"pytorch_model-{number:05}-of-00002.bin"
        torch.save({name: tensors[name] for name in part}, os.path.join(folder, file))
        files |= {name: file for name in part}
    with open(os.path.join(folder, "pytorch_model.bin.index.json"), "w", encoding="utf-8") as f:
        json.dump({"metadata": {}, "weight_map": files}, f)


def safetensors_first(folder, tensors):
    safetensors(folder, tensors)
    zeros = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    torch.save(zeros, os.path.join(folder, "pytorch_model.bin"))


def make(out):
    print("weight files")
    check("a tied config beside another head", out, "llama-mha", safetensors, True)
    tied = "llama-gqa-tied"
    for what, write in [("a tied model as its head alone", head_alone), ("a tied model with a copy", copied_head),
                        ("a pickle", one_pickle), ("two pickles", two_pickles),
                        ("safetensors beside a pickle", safetensors_first)]:
        check(what, out, tied, write, True)
