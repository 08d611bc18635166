"""PyTorch's own files: the same values in both formats and other wrappings, and a model in Meta's layout."""

import argparse
import base64
import collections
import json
import os
import shutil
import zipfile

import numpy as np
import regex
import torch
from safetensors.torch import load_file

import cases
import reference
from gguf_files import BPE_TEXTS, SPM_CASE, SPM_TEXTS, permute
from tiny import LOGIT_TOL, close, save, write_json

HERE = os.path.dirname(os.path.abspath(__file__))
SHARDS = 2


class Caller:
    """What a hostile file does: unpickled by Python, it would run a command."""

    def __reduce__(self):
        return os.system, ("exit 1",)


def values():
    torch.manual_seed(11)
    linear = torch.nn.Linear(3, 2)  # its state_dict is an OrderedDict with `_metadata`
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4) / 8 - 0.5
    numbers = torch.tensor([-2.5, 0.0, 1.0, 3.75])
    return {
        "model": linear.state_dict(),
        "parameter": torch.nn.Parameter(numbers.clone()),
        "kinds": {
            "f16": numbers.half(), "bf16": numbers.bfloat16(), "f64": numbers.double() / 3,
            "i64": torch.tensor([-(2**40), 7]), "i32": torch.tensor([-5, 2**30], dtype=torch.int32),
            "i16": torch.tensor([-300, 300], dtype=torch.int16), "i8": torch.tensor([-128, 127], dtype=torch.int8),
            "u8": torch.tensor([0, 255], dtype=torch.uint8), "bool": torch.tensor([True, False, True]),
        },
        "views": [base, base[1], base.t(), base[:, 1:3], base[0, :2].expand(3, 2), base[::2]],
        "scalar": torch.tensor(0.25), "empty": torch.zeros(0, 4),
        "config": {"w_bias": True, "lora_rank": 16, "negative": -70000, "large": 2**50, "rate": 1e-3,
                   "name": "caf\u00e9", "nothing": None, "betas": (0.9, 0.95), 3: "three"},
    }


def flat(value, path=""):
    """Tensors by the keys that lead to them."""
    if isinstance(value, torch.Tensor):
        return {path: value.detach()}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else []
    out = {}
    for key, inner in items:
        out |= flat(inner, f"{path}.{key}" if path else str(key))
    return out


def make_files(folder):
    content = values()
    save(os.path.join(folder, "values.safetensors"), flat(content))
    # What checkpoints bring along besides, and what no loader here should care about.
    content["args"] = argparse.Namespace(lr=0.009, adapter_len=10, output="./out")
    content["counts"] = collections.Counter("aab")

    def write(name, value=content, **kw):
        torch.save(value, os.path.join(folder, name), **kw)

    write("zip.pth")
    write("legacy.pth", _use_new_zipfile_serialization=False)
    write("protocol4.pth", pickle_protocol=4)
    with zipfile.ZipFile(os.path.join(folder, "zip.pth")) as stored, \
            zipfile.ZipFile(os.path.join(folder, "deflated.pth"), "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in stored.infolist():
            packed.writestr(zipfile.ZipInfo("other name" + entry.filename[entry.filename.index("/"):]),
                            stored.read(entry), zipfile.ZIP_DEFLATED)
    write("hostile.pth", {"weight": torch.ones(2), "bait": Caller()})
    for name in ("zip.pth", "legacy.pth", "protocol4.pth", "deflated.pth"):
        again = flat(torch.load(os.path.join(folder, name), weights_only=False))
        assert all(torch.equal(t, again[k]) for k, t in flat(values()).items()), name


def check_written(path):
    """A file that crates/checkpoint wrote: PyTorch must read it without running anything."""
    if not os.path.exists(path):
        print(f"  {os.path.basename(path)} isn't there yet: the Rust tests say how to make it")
        return
    value = torch.load(path, weights_only=True)
    expected = flat({k: v for k, v in values().items() if k != "views"})
    found = flat(value)
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype and torch.equal(found[key], tensor), key
    config = {str(k): list(v) if isinstance(v, tuple) else v for k, v in values()["config"].items()}
    assert value["config"] == config, value["config"]
    with zipfile.ZipFile(path) as archive, open(path, "rb") as raw:
        for entry in archive.infolist():
            raw.seek(entry.header_offset + 26)
            name, extra = np.frombuffer(raw.read(4), "<u2")
            assert (entry.header_offset + 30 + int(name) + int(extra)) % 64 == 0, entry.filename
    print("  written.pth: torch.load(weights_only=True) agrees")


# ---- Meta's layout ----

NAMES = {"self_attn.q_proj": "attention.wq", "self_attn.k_proj": "attention.wk", "self_attn.v_proj": "attention.wv",
         "self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1", "mlp.down_proj": "feed_forward.w2",
         "mlp.up_proj": "feed_forward.w3", "input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm"}
WHOLE = {"model.embed_tokens.weight": "tok_embeddings.weight", "model.norm.weight": "norm.weight",
         "lm_head.weight": "output.weight"}
SPLIT_COLUMNS = ("attention.wo.", "feed_forward.w2.", "tok_embeddings.")
PARAMS = {"dim": cases.HIDDEN, "n_layers": cases.LAYERS, "n_heads": cases.HEADS, "n_kv_heads": SPM_CASE.kv_heads,
          "multiple_of": 16, "ffn_dim_multiplier": 0.5, "norm_eps": SPM_CASE.eps, "vocab_size": -1}


def meta_weights(weights):
    out = {}
    for name, tensor in weights.items():
        if name in WHOLE:
            out[WHOLE[name]] = tensor
            continue
        _, _, layer, rest = name.split(".", 3)
        rest, kind = rest.rsplit(".", 1)
        heads = {"self_attn.q_proj": cases.HEADS, "self_attn.k_proj": SPM_CASE.kv_heads}.get(rest)
        if heads:
            tensor = torch.from_numpy(np.ascontiguousarray(permute(tensor.numpy(), heads)))
        out[f"layers.{layer}.{NAMES[rest]}.{kind}"] = tensor
    return out


def meta_forward(w, ids):
    """Meta's model.py in short: rotary embedding by complex numbers, neighbours in a pair."""
    dim = SPM_CASE.head_dim
    angles = torch.outer(torch.arange(len(ids)).float(), 1.0 / SPM_CASE.theta ** (torch.arange(0, dim, 2).float() / dim))
    turns = torch.polar(torch.ones_like(angles), angles)[:, None]

    def rotate(x):
        return torch.view_as_real(torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2)) * turns).flatten(2)

    x = w["tok_embeddings.weight"][ids]
    for i in range(cases.LAYERS):
        at = f"layers.{i}."
        h = reference.rms_norm(x, w[at + "attention_norm.weight"], SPM_CASE.eps)
        q, k, v = (h @ w[at + f"attention.{n}.weight"].T for n in ("wq", "wk", "wv"))
        repeat = cases.HEADS // SPM_CASE.kv_heads
        q = rotate(q.view(-1, cases.HEADS, dim))
        k = rotate(k.view(-1, SPM_CASE.kv_heads, dim)).repeat_interleave(repeat, 1)
        v = v.view(-1, SPM_CASE.kv_heads, dim).repeat_interleave(repeat, 1)
        mixed = torch.nn.functional.scaled_dot_product_attention(
            q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1), is_causal=True)
        x = x + mixed.transpose(0, 1).reshape(len(ids), -1) @ w[at + "attention.wo.weight"].T
        h = reference.rms_norm(x, w[at + "ffn_norm.weight"], SPM_CASE.eps)
        up = torch.nn.functional.silu(h @ w[at + "feed_forward.w1.weight"].T) * (h @ w[at + "feed_forward.w3.weight"].T)
        x = x + up @ w[at + "feed_forward.w2.weight"].T
    return reference.rms_norm(x, w["norm.weight"], SPM_CASE.eps) @ w["output.weight"].T


def make_meta(out, folder):
    os.makedirs(folder, exist_ok=True)
    # The weights of gguf/tiny-llama-spm.gguf: matrices that f16 holds exactly.
    weights = meta_weights({k: v.half().float() if v.dim() == 2 else v for k, v in cases.weights(SPM_CASE).items()})
    golden = load_file(os.path.join(out, "gguf", "tiny-llama-spm.safetensors"))
    logits = torch.stack([meta_forward(weights, ids) for ids in golden["input_ids"]])
    print(f"  meta: Meta's arithmetic agrees, {close('meta', logits, golden['logits'], LOGIT_TOL):.1e}")
    for shard in range(SHARDS):
        part = {}
        for name, tensor in weights.items():
            if tensor.dim() == 1:
                part[name] = tensor.half() if shard else tensor  # f32 in the first, whose copy counts
            else:
                axis = int(any(n in name for n in SPLIT_COLUMNS))
                part[name] = tensor.half().chunk(SHARDS, axis)[shard].clone()
        for i in range(cases.LAYERS):
            part[f"layers.{i}.attention.inner_attention.rope.freqs"] = torch.ones(SPM_CASE.head_dim // 2)
        part["rope.freqs"] = torch.ones(SPM_CASE.head_dim // 2)
        torch.save(part, os.path.join(folder, f"consolidated.{shard:02}.pth"))
    with open(os.path.join(folder, "params.json"), "w", encoding="utf-8") as f:
        f.write(json.dumps(PARAMS))
    shutil.copy(os.path.join(out, "gguf", "spm_tokenizer.model"), os.path.join(folder, "tokenizer.model"))


# ---- Llama 3's tokenizer.model ----

LLAMA3_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
                r"|\s+(?!\S)|\s+")
N_MERGES = 200


def pieces_of(word, ranks):
    """tiktoken's whole algorithm: whichever neighbours have the lowest rank together become one, from the left."""
    if word in ranks:
        return [word]
    parts = [bytes([b]) for b in word]
    while True:
        pairs = [(ranks[a + b], i) for i, (a, b) in enumerate(zip(parts, parts[1:])) if a + b in ranks]
        if not pairs:
            return parts
        _, i = min(pairs)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


def make_tiktoken(folder):
    with open(os.path.join(HERE, "smollm2", "text.txt"), encoding="utf-8") as f:
        words = collections.Counter(w.encode() for w in regex.findall(LLAMA3_SPLIT, f.read()))
    ranks = {bytes([b]): b for b in range(256)}
    for _ in range(N_MERGES):
        pairs = collections.Counter()
        for word, count in words.items():
            parts = pieces_of(word, ranks)
            for a, b in zip(parts, parts[1:]):
                pairs[a + b] += count
        ranks[max(pairs, key=lambda token: (pairs[token], token))] = len(ranks)
    with open(os.path.join(folder, "llama3_tokenizer.model"), "w", encoding="ascii") as f:
        f.writelines(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items())
    rows = []
    for text in SPM_TEXTS + BPE_TEXTS:
        if "<|" not in text:
            pieces = [p for w in regex.findall(LLAMA3_SPLIT, text) for p in pieces_of(w.encode(), ranks)]
            assert b"".join(pieces).decode() == text
            rows.append({"text": text, "ids": [ranks[p] for p in pieces]})
    write_json(os.path.join(folder, "llama3_tokens.json"), rows)
    print(f"  llama3_tokenizer.model: {len(ranks)} tokens, {len(rows)} texts")


def make(out):
    print("torch")
    folder = os.path.join(out, "torch")
    os.makedirs(folder, exist_ok=True)
    make_files(folder)
    check_written(os.path.join(folder, "written.pth"))
    make_meta(out, os.path.join(out, "meta"))
    make_tiktoken(os.path.join(out, "meta"))
