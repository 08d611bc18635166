"""Turns SmolLM2-135M-Instruct's GGUF file into a Hugging Face folder with f32 weights."""

import json
import os

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

LAYER = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}
WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}


def unpermute(w, heads):
    rows, cols = w.shape
    return w.reshape(heads, rows // heads // 2, 2, cols).swapaxes(1, 2).reshape(rows, cols)


def weights(reader, heads, kv_heads):
    for t in reader.tensors:
        w = gguf.quants.dequantize(t.data, t.tensor_type).reshape([int(n) for n in reversed(t.shape)])
        parts = t.name.split(".")
        if parts[0] == "blk":
            name = f"model.layers.{parts[1]}.{LAYER[parts[2]]}.weight"
            if parts[2] in ("attn_q", "attn_k"):
                w = unpermute(w, heads if parts[2] == "attn_q" else kv_heads)
        else:
            name = WHOLE[parts[0]] + ".weight"
        yield name, torch.from_numpy(np.array(w, dtype=np.float32))


def tokenizer_json(tokens, types, merges):
    control = [{"id": i, "content": tokens[i], "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True} for i, kind in enumerate(types) if kind == gguf.TokenType.CONTROL]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": control, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
        "post_processor": None, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {t: i for i, t in enumerate(tokens)}, "merges": [m.split(" ") for m in merges]},
    }


def convert(gguf_path, folder):
    os.makedirs(folder, exist_ok=True)
    reader = gguf.GGUFReader(gguf_path)

    def meta(key):
        return reader.get_field(key).contents()

    heads, kv_heads = meta("llama.attention.head_count"), meta("llama.attention.head_count_kv")
    save_file(dict(weights(reader, heads, kv_heads)), os.path.join(folder, "model.safetensors"), {"format": "pt"})
    tokens = meta("tokenizer.ggml.tokens")
    bos, eos = meta("tokenizer.ggml.bos_token_id"), meta("tokenizer.ggml.eos_token_id")
    pad, unk = meta("tokenizer.ggml.padding_token_id"), meta("tokenizer.ggml.unknown_token_id")
    files = {
        "config.json": {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float32",
            "vocab_size": meta("llama.vocab_size"), "hidden_size": meta("llama.embedding_length"),
            "intermediate_size": meta("llama.feed_forward_length"), "num_hidden_layers": meta("llama.block_count"),
            "num_attention_heads": heads, "num_key_value_heads": kv_heads,
            "max_position_embeddings": meta("llama.context_length"), "rope_theta": meta("llama.rope.freq_base"),
            "rope_scaling": None, "rms_norm_eps": 1e-5, "hidden_act": "silu", "attention_bias": False,
            "mlp_bias": False, "tie_word_embeddings": True, "bos_token_id": bos, "eos_token_id": eos,
            "pad_token_id": pad,
        },
        "tokenizer.json": tokenizer_json(tokens, meta("tokenizer.ggml.token_type"), meta("tokenizer.ggml.merges")),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": tokens[bos], "eos_token": tokens[eos],
            "unk_token": tokens[unk], "pad_token": tokens[pad], "model_max_length": meta("llama.context_length"),
            "clean_up_tokenization_spaces": False, "chat_template": meta("tokenizer.chat_template"),
        },
    }
    for name, value in files.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            json.dump(value, f, ensure_ascii=False, indent=None if name == "tokenizer.json" else 2)
