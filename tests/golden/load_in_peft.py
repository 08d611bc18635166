"""Does PEFT load an adapter that llama-adapter wrote, and compute the same logits?

    llama-adapter logits --model BASE --adapter ADAPTER --ids ids.json --out logits.safetensors
    python load_in_peft.py BASE ADAPTER ids.json logits.safetensors

BASE is a Hugging Face folder. Prints the largest difference and fails above 1e-3.
"""

import json
import sys

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

base, adapter, ids, logits = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
model = PeftModel.from_pretrained(model, adapter).eval()
with open(ids) as file:
    tokens = torch.tensor(json.load(file))
with torch.no_grad():
    theirs = model(input_ids=tokens).logits
ours = load_file(logits)["logits"]
difference = (theirs - ours).abs().max().item()
print(f"logits {tuple(ours.shape)}: largest difference {difference:.2e}, of {theirs.abs().max().item():.1f}")
sys.exit(difference > 1e-3)
