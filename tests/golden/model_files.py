"""What transformers makes of a model's small files where several of them speak: special tokens, rotary embeddings."""

import json
import os
import tempfile

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

TEXTS = ["<|im_start|>ab", "a<|im_start|> b", "b <x>a", "a<|end|>b"]
WORDS = ["<|begin|>", "<|end|>", "a", "b", "\u0120", "\u0120a", "\u0120b", "ab", "<", ">", "|", "x", "i", "m", "_", "s", "t", "r", "e", "n", "d", "g"]
TOKENIZER = {
    "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
    "added_tokens": [{"id": i, "content": WORDS[i], "single_word": False, "lstrip": False, "rstrip": False,
                      "normalized": False, "special": True} for i in range(2)],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "post_processor": None,
    "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
              "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
              "vocab": {word: i for i, word in enumerate(WORDS)}, "merges": [["\u0120", "a"], ["\u0120", "b"], ["a", "b"]]},
}
SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 4,
         "max_position_embeddings": 64}
START = {"content": "<|im_start|>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
ENDS = {"bos_token": "<|begin|>", "eos_token": "<|end|>"}

# A model_type, and files beside config.json and tokenizer.json.
SPECIAL = [
    ("llama", {}),
    ("llama", {"tokenizer_config": ENDS}),
    ("llama", {"tokenizer_config": {**ENDS, "added_tokens_decoder": {"22": START}}}),
    ("llama", {"tokenizer_config": ENDS, "added_tokens": {"<|im_start|>": 22}}),
    ("llama", {"tokenizer_config": ENDS, "added_tokens": {"<|im_start|>": 40}}),
    ("llama", {"tokenizer_config": {**ENDS, "eos_token": "<|im_start|>"}, "added_tokens": {"<|im_start|>": 22, "<x>": 23}}),
    ("llama", {"tokenizer_config": {**ENDS, "eos_token": "<|im_start|>"}}),
    ("llama", {"tokenizer_config": ENDS, "special_tokens_map": {"eos_token": {**START, "rstrip": True}, "pad_token": "<|end|>"}}),
    ("llama", {"tokenizer_config": {**ENDS, "added_tokens_decoder": {"22": START}}, "special_tokens_map": {"eos_token": "<|im_start|>"}}),
    ("llama", {"special_tokens_map": {"bos_token": "<|begin|>", "additional_special_tokens": ["<|im_start|>", "<x>"]}}),
    ("llama", {"tokenizer_config": {**ENDS, "additional_special_tokens": ["<x>", "<|im_start|>"], "pad_token": "<x>"}}),
    ("llama", {"tokenizer_config": {**ENDS, "extra_special_tokens": {"image_token": "<|im_start|>"}}}),
    ("llama", {"tokenizer_config": {**ENDS, "audio_token": "<x>", "pad_token": None}}),
    ("llama", {"tokenizer_config": {**ENDS, "split_special_tokens": True, "added_tokens_decoder": {"22": START}}}),
    ("llama", {"tokenizer_config": {**ENDS, "added_tokens_decoder": {"23": START, "22": {**START, "content": "<x>", "special": False, "normalized": True}}}}),
    ("llama", {"tokenizer_config": {**ENDS, "added_tokens_decoder": {"2": {**START, "content": "a"}}}}),
    ("llama", {"tokenizer_config": {"eos_token": {"__type": "AddedToken", **START, "lstrip": True}}}),
    ("llama", {"tokenizer_config": {**ENDS, "tokenizer_class": "LlamaTokenizerFast"}}),
    ("gpt2", {"tokenizer_config": {"model_max_length": 64, **ENDS, "unk_token": None}}),
    ("gpt2", {"tokenizer_config": {"add_prefix_space": True, **ENDS, "unk_token": "<|end|>"}}),
    ("qwen2", {"tokenizer_config": {**ENDS, "pad_token": "<|end|>", "unk_token": None, "added_tokens_decoder": {"22": START}}}),
]

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LINEAR8 = {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5}
ROPE = [
    {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": LINEAR8},
    {"rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": LINEAR8},
    {"rope_scaling": {}, "rope_parameters": LINEAR8},
    {"rope_scaling": None, "rope_parameters": LINEAR8, "rope_theta": 1e6},
    {"rope_theta": 1e6, "rope_parameters": {"rope_type": "default"}},
    {"rope_theta": 1e6, "rope_parameters": {}},
    {"rope_scaling": {"type": "linear", "rope_type": "default", "factor": 2.0}},
    {"original_max_position_embeddings": 64, "rope_scaling": {**LLAMA3, "original_max_position_embeddings": 16}},
    {"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 16}},
    {"original_max_position_embeddings": 16, "rope_parameters": LLAMA3},
    {"rope_parameters": {**LLAMA3, "rope_theta": 5e5}},
]


def write(folder, name, value):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
        json.dump(value, f)


def special(model_type, files):
    with tempfile.TemporaryDirectory() as folder:
        write(folder, "config.json", {"model_type": model_type, **SIZES})
        write(folder, "tokenizer.json", TOKENIZER)
        for name, value in files.items():
            write(folder, f"{name}.json", value)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    named = {name: [text, tokenizer.convert_tokens_to_ids(text)] for name, text in tokenizer.special_tokens_map.items()}
    return {"model_type": model_type, "files": files, "named": named, "len": len(tokenizer),
            "ids": [tokenizer(text)["input_ids"] for text in TEXTS]}


def rope(settings):
    with tempfile.TemporaryDirectory() as folder:
        write(folder, "config.json", {"model_type": "llama", **SIZES, **settings})
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    return {"settings": settings, "frequencies": model.model.rotary_emb.inv_freq.to(torch.float64).tolist()}


def rows(values):
    return "[\n" + ",\n".join("    " + json.dumps(value, ensure_ascii=False) for value in values) + "\n  ]"


def make(out):
    with open(os.path.join(out, "files", "special_tokens.json"), "w", encoding="utf-8") as f:
        f.write('{\n  "tokenizer": ' + json.dumps(TOKENIZER, ensure_ascii=False) + ',\n  "texts": ' + json.dumps(TEXTS))
        f.write(',\n  "cases": ' + rows(special(*case) for case in SPECIAL) + "\n}\n")
    with open(os.path.join(out, "files", "rope.json"), "w", encoding="utf-8") as f:
        f.write('{\n  "sizes": ' + json.dumps(SIZES) + ',\n  "cases": ' + rows(map(rope, ROPE)) + "\n}\n")
