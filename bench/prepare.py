"""A GGUF ─► the same numbers in f32 for transformers (a Hugging Face folder) and for llama.cpp (a GGUF), prompts of
known length, and an adapter with open gates. Runs in the reference's environment."""

import argparse
import json
import os
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import save_file

from prompts import prompts

ADAPTER_LEN, SEED = 10, 1

# What llama.cpp calls the tensors of a layer, and what transformers does.
IN_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


class Source:
    """A GGUF file of a Llama."""

    def __init__(self, path):
        self.reader = gguf.GGUFReader(path)

    def meta(self, key):
        return self.reader.get_field(key).contents()

    def tensors(self):
        """Name and f32 numbers of each tensor, as llama.cpp arranges them."""
        for tensor in self.reader.tensors:
            shape = [int(n) for n in reversed(tensor.shape)]
            numbers = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape)
            yield tensor.name, np.ascontiguousarray(numbers, dtype=np.float32)


def halves(weight, heads):
    """llama.cpp keeps the two rows that a rotation mixes side by side, transformers in the halves of a head."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows, columns)


def huggingface_tensors(source):
    heads = {"attn_q": source.meta("llama.attention.head_count"), "attn_k": source.meta("llama.attention.head_count_kv")}
    for name, numbers in source.tensors():
        first, *rest = name.removesuffix(".weight").split(".")
        if first == "blk":
            layer, kind = rest
            if kind in heads:
                numbers = halves(numbers, heads[kind])
            yield f"model.layers.{layer}.{IN_LAYER[kind]}.weight", numbers
        else:
            yield f"{OUTSIDE[first]}.weight", numbers


def config(source, tied):
    meta = source.meta
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": meta("llama.embedding_length"),
        "intermediate_size": meta("llama.feed_forward_length"),
        "num_hidden_layers": meta("llama.block_count"),
        "num_attention_heads": meta("llama.attention.head_count"),
        "num_key_value_heads": meta("llama.attention.head_count_kv"),
        "vocab_size": meta("llama.vocab_size"),
        "max_position_embeddings": meta("llama.context_length"),
        "rope_theta": meta("llama.rope.freq_base"),
        "rms_norm_eps": round(float(meta("llama.attention.layer_norm_rms_epsilon")), 12),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": tied,
        "torch_dtype": "float32",
        "bos_token_id": meta("tokenizer.ggml.bos_token_id"),
        "eos_token_id": meta("tokenizer.ggml.eos_token_id"),
        "pad_token_id": meta("tokenizer.ggml.padding_token_id"),
    }


def tokenizer(source):
    """GPT-2's byte pairs, with every digit on its own."""
    tokens, kinds = source.meta("tokenizer.ggml.tokens"), source.meta("tokenizer.ggml.token_type")
    merges = [merge.split(" ") for merge in source.meta("tokenizer.ggml.merges")]
    special = [{"id": i, "content": tokens[i], "special": True, "normalized": False, "lstrip": False, "rstrip": False,
                "single_word": False} for i, kind in enumerate(kinds) if kind == gguf.TokenType.CONTROL]
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, bytes_]},
        "post_processor": None,
        "decoder": bytes_,
        "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)}, "merges": merges,
                  "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False},
    }


def tokenizer_config(source):
    tokens, meta = source.meta("tokenizer.ggml.tokens"), source.meta
    name = {kind: tokens[meta(f"tokenizer.ggml.{long}_token_id")] for kind, long in
            [("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")]}
    return {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
            "model_max_length": meta("llama.context_length"), "chat_template": meta("tokenizer.chat_template"),
            } | {f"{kind}_token": token for kind, token in name.items()}


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def write_folder(source, folder):
    folder.mkdir(parents=True, exist_ok=True)
    tensors = dict(huggingface_tensors(source))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    write_json(folder / "config.json", config(source, tied="lm_head.weight" not in tensors))
    write_json(folder / "tokenizer.json", tokenizer(source))
    write_json(folder / "tokenizer_config.json", tokenizer_config(source))


def write_f32_gguf(source, path):
    """The same file with every tensor in f32."""
    writer = gguf.GGUFWriter(path, source.meta("general.architecture"))
    written = {"general.architecture", "general.file_type", "general.quantization_version"}
    for field in source.reader.fields.values():
        # Names with this start are the file's own, not keys of its table.
        if field.name in written or field.name.startswith("GGUF."):
            continue
        inner = field.types[1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for name, numbers in source.tensors():
        writer.add_tensor(name, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_adapter(folder, adapter):
    """An adapter in every layer that changes what the model says, written by PEFT."""
    import torch
    from peft import AdaptionPromptConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(SEED)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    layers = model.config.num_hidden_layers
    model = get_peft_model(model, AdaptionPromptConfig(adapter_len=ADAPTER_LEN, adapter_layers=layers,
                                                       task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("adaption_gate"):
                parameter.uniform_(-0.3, 0.3)
    model.save_pretrained(adapter, save_embedding_layers=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--gguf", "--rows", "--folder", "--f32-gguf", "--prompts", "--adapter"):
        parser.add_argument(name, type=Path, required=True)
    args = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    source = Source(args.gguf)
    write_folder(source, args.folder)
    write_f32_gguf(source, args.f32_gguf)
    write_json(args.prompts, prompts(args.folder, args.rows))
    write_adapter(args.folder, args.adapter)


if __name__ == "__main__":
    main()
