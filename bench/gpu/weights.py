"""A Llama with random weights from a seed, in one of some shapes, around a tokenizer: a folder for both sides.

    python weights.py SHAPE FOLDER TOKENIZER

The tokenizer may be smaller than the vocabulary: its ids are valid, and every shape has its whole head."""

import json
import os
import shutil
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import LlamaConfig, LlamaForCausalLM

SEED = 1
CONTEXT = 2048
SHAPES = {
    # For a machine without a card: everything runs in seconds, and no number means anything.
    "tiny": {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": 2048, "tie_word_embeddings": True},
    "smollm2-135m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
                     "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True},
    "llama-1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
                 "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": True},
    "llama-7b": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
                 "num_key_value_heads": 32, "vocab_size": 32000, "tie_word_embeddings": False},
}


def main():
    shape, folder, tokenizer = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    torch.manual_seed(SEED)
    config = LlamaConfig(**SHAPES[shape], max_position_embeddings=CONTEXT, bos_token_id=0, eos_token_id=1)
    # Made in the type of the file: the largest shape is 27 GB in f32.
    torch.set_default_dtype(torch.bfloat16)
    LlamaForCausalLM(config).save_pretrained(folder)
    shutil.copy(tokenizer / "tokenizer.json", folder)
    settings = json.loads((tokenizer / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": settings["eos_token"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


if __name__ == "__main__":
    main()
