"""Goldens of the other kinds of adapter: the original release's gates, Adapter V2, LoRA.

Every linear layer and norm of the short Llama below asks the adapter first. It shares no code with
reference.py, which checks it without an adapter; PEFT makes the LoRA goldens and checks it there."""

import json
import math
import os
import shutil

import numpy as np
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import cases
import reference

BATCH, T, K = 2, 12, 4
LAYERS, HEADS, HIDDEN = cases.LAYERS, cases.HEADS, cases.HIDDEN
LINEARS = [f"self_attn.{p}_proj" for p in "qkvo"] + [f"mlp.{p}_proj" for p in ("gate", "up", "down")]
NORMS = ["input_layernorm", "post_attention_layernorm"]
RANK, ALPHA = 4, 6
AT = "base_model.model.model.layers.{}."  # before every name in a layer
TOP = "base_model.model."                 # before the head's and the final norm's


class Model:
    """w: Hugging Face's tensors. a: the adapter's. scale: where Adapter V2 multiplies, "output" or "input"."""

    def __init__(self, w, cfg, a, tanh=False, scale="output"):
        self.w, self.cfg, self.a, self.tanh, self.scale = w, cfg, a, tanh, scale
        self.heads, self.kv = cfg["num_attention_heads"], cfg["num_key_value_heads"]
        self.dim = cfg.get("head_dim") or cfg["hidden_size"] // self.heads

    def linear(self, name, x):
        s, b = self.a.get(TOP + name + ".adapter_scale"), self.a.get(TOP + name + ".adapter_bias")
        A, B = self.a.get(TOP + name + ".lora_A.weight"), self.a.get(TOP + name + ".lora_B.weight")
        if s is not None and self.scale == "input":
            x = x * s                                           # 65B chat: W (s x) + b
        weight = self.w["model.embed_tokens.weight"] if name + ".weight" not in self.w else self.w[name + ".weight"]
        y = x @ weight.T
        if name + ".bias" in self.w:
            y = y + self.w[name + ".bias"]
        if A is not None:
            y = y + ALPHA / RANK * (x @ A.T @ B.T)
        if b is not None:
            y = y + b
        if s is not None and self.scale == "output":
            y = y * s                                           # lit: s (W x + b)
        return y

    def norm(self, name, x):
        weight = self.a.get(TOP + name + ".weight", self.w[name + ".weight"])
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + self.cfg["rms_norm_eps"]) * weight

    def rotary(self, x):
        """[B, n, T, dim]; every pair of a first and a second half is a complex number that turns."""
        theta = (self.cfg.get("rope_parameters") or self.cfg)["rope_theta"]
        half = self.dim // 2
        angle = torch.outer(torch.arange(x.shape[2]), theta ** (-torch.arange(half) / half))
        turned = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angle), angle)
        return torch.cat([turned.real, turned.imag], -1)

    def prompt(self, i, B):
        """Prompt and gate of a layer, if it has them; each row of the batch has its copy, as in the original."""
        at = f"{TOP}model.layers.{i}.self_attn.adaption_"
        if at + "prompt" not in self.a:
            return None, None
        gate = self.a[at + "gate"].tanh() if self.tanh else self.a[at + "gate"]
        if at + "factor" in self.a:
            gate = gate * self.a[at + "factor"]
        return self.a[at + "prompt"].repeat(B, 1, 1), gate

    def attention(self, i, x):
        at = f"model.layers.{i}.self_attn."
        B, n, _ = x.shape
        split = lambda y: y.view(y.shape[0], y.shape[1], -1, self.dim).transpose(1, 2)
        shared = lambda y: y.repeat_interleave(self.heads // self.kv, 1)
        q = self.rotary(split(self.linear(at + "q_proj", x)))
        k = shared(self.rotary(split(self.linear(at + "k_proj", x))))
        v = shared(split(self.linear(at + "v_proj", x)))
        causal = torch.full((n, n), float("-inf")).triu(1)
        out = F.softmax(q @ k.transpose(2, 3) / math.sqrt(self.dim) + causal, -1) @ v
        prompt, gate = self.prompt(i, B)
        if prompt is not None:
            # Through the tuned projections, as in lit.
            pk = shared(split(self.linear(at + "k_proj", prompt)))
            pv = shared(split(self.linear(at + "v_proj", prompt)))
            out = out + gate * F.softmax(q @ pk.transpose(2, 3) / math.sqrt(self.dim), -1) @ pv
        return self.linear(at + "o_proj", out.transpose(1, 2).reshape(B, n, -1))

    def __call__(self, ids):
        x = self.w["model.embed_tokens.weight"][ids]
        for i in range(self.cfg["num_hidden_layers"]):
            at = f"model.layers.{i}."
            x = x + self.attention(i, self.norm(at + NORMS[0], x))
            h = self.norm(at + NORMS[1], x)
            h = F.silu(self.linear(at + "mlp.gate_proj", h)) * self.linear(at + "mlp.up_proj", h)
            x = x + self.linear(at + "mlp.down_proj", h)
        return self.linear("lm_head", self.norm("model.norm", x))


def prompts(rng, layers, factor=False):
    out = {}
    for i in layers:
        at = AT.format(i) + "self_attn.adaption_"
        out[at + "prompt"] = rng.standard_normal((1, K, HIDDEN))
        out[at + "gate"] = rng.uniform(0.2, 0.9, (1, HEADS, 1, 1)) * rng.choice([-1.0, 1.0], (1, HEADS, 1, 1))
        if factor:
            out[at + "factor"] = rng.uniform(0.6, 1.6, 1)
    return out


def v2(rng, w, scale, linears, head=False):
    """Scales 1 +- 0.2, biases +- 0.2, norm weights near the base's."""
    names = [f"model.layers.{i}.{name}" for i in range(LAYERS) for name in linears] + ["lm_head"] * head
    out = {}
    for name in names:
        d_out, d_in = w.get(name + ".weight", w["model.embed_tokens.weight"]).shape
        if scale:
            out[f"{TOP}{name}.adapter_scale"] = rng.uniform(0.8, 1.2, d_in if scale == "input" else d_out)
        out[f"{TOP}{name}.adapter_bias"] = rng.uniform(-0.2, 0.2, d_out)
    norms = [f"model.layers.{i}.{name}" for i in range(LAYERS) for name in NORMS] + ["model.norm"]
    for name in norms:
        out[f"{TOP}{name}.weight"] = w[name + ".weight"].numpy() + rng.uniform(-0.2, 0.2, HIDDEN)
    return out


def lora(rng, w):
    out = {}
    for i in range(LAYERS):
        for name in ("q_proj", "v_proj"):
            d_out, d_in = w[f"model.layers.{i}.self_attn.{name}.weight"].shape
            at = AT.format(i) + f"self_attn.{name}.lora_"
            out[at + "A.weight"] = rng.uniform(-0.4, 0.4, (RANK, d_in))
            out[at + "B.weight"] = rng.uniform(-0.4, 0.4, (d_out, RANK))
    return out


def inputs(rng):
    ids = torch.from_numpy(rng.integers(3, cases.VOCAB, (BATCH, T)))
    labels = ids.clone()
    labels[:, :3] = -100
    return ids, labels


def golden(model, params, ids, labels):
    logits = model(ids)
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
    grads = torch.autograd.grad(loss, list(params.values()))
    assert all(g.abs().max() > 0 for g in grads)
    out = {"input_ids": ids, "labels": labels, "logits": logits, "loss": loss.reshape(1)}
    out |= {"param." + k: p for k, p in params.items()}
    return out | {"grad." + k: g for k, g in zip(params, grads)}


def torches(arrays):
    return {k: torch.from_numpy(np.asarray(v, dtype=np.float32)).requires_grad_() for k, v in arrays.items()}


def save(path, tensors):
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, path, metadata={"format": "pt"})
    os.chmod(path, 0o644)
    assert os.path.getsize(path) < 200_000, path


def kinds(rng, w):
    """Every kind: its numbers and the rule they are for."""
    bias_only = [name for name in LINEARS if name[-6] not in "kv"]
    return {
        "v1": (prompts(rng, [1, 2]), {"tanh": True}),
        "v1_factor": (prompts(rng, [1, 2], factor=True), {"tanh": True}),
        "v1_scattered": (prompts(rng, [0, 2], factor=True), {"tanh": True}),
        "v2_lit": (v2(rng, w, "output", LINEARS, head=True) | prompts(rng, [1, 2]), {}),
        "v2_input": (v2(rng, w, "input", LINEARS), {"scale": "input"}),
        "v2_bias": (v2(rng, w, None, bias_only), {}),
    }


def make_kinds(case, out):
    w, cfg = cases.weights(case), {"num_key_value_heads": case.kv_heads} | cases.config(case)
    rng = np.random.default_rng(3000 + case.seed)
    ids, _ = inputs(rng)
    apart = (Model(w, cfg, {})(ids) - reference.batch(w, cases.config(case), ids)).abs().max().item()
    assert apart < 5e-5, apart
    for name, (arrays, rule) in kinds(rng, w).items():
        params = torches(arrays)
        ids, labels = inputs(rng)
        result = golden(Model(w, cfg, params, **rule), params, ids, labels)
        moved = (result["logits"] - Model(w, cfg, {})(ids)).abs().max().item()
        print(f"  {case.name} {name}: loss {result['loss'].item():.4f}, moves logits by up to {moved:.2f}")
        assert moved > 0.3
        os.makedirs(os.path.join(out, case.name, "kinds"), exist_ok=True)
        save(os.path.join(out, case.name, "kinds", name + ".safetensors"), result)


def make_lora(case, out):
    """By PEFT's own LoRA; the short model agrees with it."""
    w, cfg = cases.weights(case), {"num_key_value_heads": case.kv_heads} | cases.config(case)
    rng = np.random.default_rng(4000 + case.seed)
    start = torches(lora(rng, w))
    ids, labels = inputs(rng)
    base = AutoModelForCausalLM.from_pretrained(os.path.join(out, case.name, "base"), dtype=torch.float32)
    peft = get_peft_model(base, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["q_proj", "v_proj"],
                                           task_type="CAUSAL_LM")).eval()
    params = {k.replace(".default", ""): p for k, p in peft.named_parameters() if p.requires_grad}
    assert set(params) == set(start), set(params) ^ set(start)
    with torch.no_grad():
        for k, p in params.items():
            p.copy_(start[k])
    result = golden(lambda ids: peft(input_ids=ids).logits, params, ids, labels)
    ours = golden(Model(w, cfg, start), start, ids, labels)
    for k in ("logits", "loss", *(k for k in ours if k.startswith("grad."))):
        assert (result[k] - ours[k]).abs().max() < 5e-5, k
    print(f"  {case.name} lora: loss {result['loss'].item():.4f}, by PEFT")
    save(os.path.join(out, case.name, "kinds", "lora.safetensors"), result)
    folder = os.path.join(out, case.name, "lora")
    shutil.rmtree(folder, ignore_errors=True)
    peft.peft_config["default"].base_model_name_or_path = case.name
    peft.save_pretrained(folder, save_embedding_layers=False)
    os.remove(os.path.join(folder, "README.md"))
    # PEFT keeps the modules in a set: sorted, the file is the same every time.
    path = os.path.join(folder, "adapter_config.json")
    with open(path) as f:
        config = json.load(f)
    config["target_modules"].sort()
    with open(path, "w") as f:
        f.write(json.dumps(config, indent=2, sort_keys=True))
    stored = load_file(os.path.join(folder, "adapter_model.safetensors"))
    assert {k: v.tolist() for k, v in stored.items()} == {k: v.tolist() for k, v in params.items()}
    os.chmod(os.path.join(folder, "adapter_model.safetensors"), 0o644)


def make(out):
    """After tiny.make, which writes the bases."""
    for case in cases.CASES:
        if case.name in ("llama-gqa-tied", "llama-bias", "llama-headdim16"):
            make_kinds(case, out)
        if case.name == "llama-gqa-tied":
            make_lora(case, out)
