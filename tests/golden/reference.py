"""A plain Llama forward pass with an adapter, one row of tokens at a time, in PyTorch.

Written to be read, not to be fast: no batch, no cache, no padding. The adapter joins before the output
projection. Qwen3's norms of queries and keys apply to a prompt's keys too. It is checked against transformers and PEFT wherever those are right (see tiny.py)."""

import math

import torch
import torch.nn.functional as F

import families

PROMPT = families.LLAMA_ATTENTION + "adaption_prompt"
GATE = families.LLAMA_ATTENTION + "adaption_gate"


def inverse_frequencies(cfg: dict, head_dim: int) -> torch.Tensor:
    rope = cfg.get("rope_parameters") or {"rope_theta": cfg["rope_theta"]} | (cfg.get("rope_scaling") or {})
    inv = 1.0 / rope["rope_theta"] ** (torch.arange(0, head_dim, 2).float() / head_dim)
    kind = rope.get("rope_type", "default")
    if kind == "default":
        return inv
    if kind == "linear":
        return inv / rope["factor"]
    assert kind == "llama3", kind
    # Short waves stay, long waves are slowed by `factor`, those between are blended.
    turns = rope["original_max_position_embeddings"] * inv / (2 * math.pi)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    keep = ((turns - low) / (high - low)).clamp(0, 1)
    return inv * keep + inv / rope["factor"] * (1 - keep)


def rms_norm(x, weight, eps):
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))


def rotate(x, inv):
    """x: [heads, T, head_dim]; the first half of each head is paired with the second half."""
    angle = torch.arange(x.shape[1]).float()[:, None] * inv
    cos, sin = angle.cos(), angle.sin()
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def forward(w: dict, cfg: dict, ids, adapter: dict | None = None, act=None, peft_bias_fault=False):
    """Logits [T, vocab] of one row of token ids.

    adapter: {PEFT key: tensor}; a gate may be [1] (one a layer) or [1, H, 1, 1] (one a head).
    act: function on the gate, for instance torch.tanh. peft_bias_fault: add the output projection's
    bias a second time in adapted layers, as PEFT does."""
    heads = cfg["num_attention_heads"]
    kv_heads = cfg.get("num_key_value_heads") or heads
    dim = cfg.get("head_dim") or cfg["hidden_size"] // heads
    eps, window = cfg["rms_norm_eps"], cfg.get("sliding_window")
    full_layers = cfg.get("max_window_layers", 0)  # Qwen's lowest layers have no window
    inv = inverse_frequencies(cfg, dim)
    T = len(ids)
    behind = torch.arange(T)[:, None] - torch.arange(T)[None, :]

    def linear(name, x):
        return F.linear(x, w[name + ".weight"], w.get(name + ".bias"))

    def split(x, n, norm=None):
        """[rows, n * dim] to [heads, rows, dim]; key and value heads are repeated for their group."""
        x = x.view(-1, n, dim)
        if norm in w:
            x = rms_norm(x, w[norm], eps)
        return x.transpose(0, 1).repeat_interleave(heads // n, 0)

    x = w["model.embed_tokens.weight"][ids]
    for i in range(cfg["num_hidden_layers"]):
        at = f"model.layers.{i}."
        attn = at + "self_attn."
        h = rms_norm(x, w[at + "input_layernorm.weight"], eps)
        q_norm, k_norm = attn + "q_norm.weight", attn + "k_norm.weight"
        q = rotate(split(linear(attn + "q_proj", h), heads, q_norm), inv)
        k = rotate(split(linear(attn + "k_proj", h), kv_heads, k_norm), inv)
        v = split(linear(attn + "v_proj", h), kv_heads)
        visible = (behind >= 0) & (behind < (window if window and i >= full_layers else T + 1))
        scores = (q @ k.transpose(1, 2) / math.sqrt(dim)).masked_fill(~visible, float("-inf"))
        mixed = scores.softmax(-1) @ v
        adapted = adapter is not None and PROMPT.format(i) in adapter
        if adapted:
            prompt, gate = adapter[PROMPT.format(i)][0], adapter[GATE.format(i)]
            pk = split(linear(attn + "k_proj", prompt), kv_heads, k_norm)
            pv = split(linear(attn + "v_proj", prompt), kv_heads)
            branch = (q @ pk.transpose(1, 2) / math.sqrt(dim)).softmax(-1) @ pv
            mixed = mixed + (act(gate) if act else gate).reshape(-1, 1, 1) * branch
        x = x + linear(attn + "o_proj", mixed.transpose(0, 1).reshape(T, heads * dim))
        if adapted and peft_bias_fault:
            x = x + w[attn + "o_proj.bias"]
        h = rms_norm(x, w[at + "post_attention_layernorm.weight"], eps)
        x = x + linear(at + "mlp.down_proj", F.silu(linear(at + "mlp.gate_proj", h)) * linear(at + "mlp.up_proj", h))
    x = rms_norm(x, w["model.norm.weight"], eps)
    return F.linear(x, w.get("lm_head.weight", w["model.embed_tokens.weight"]))


def batch(w, cfg, ids, mask=None, **kw):
    """Logits [B, T, vocab]. Masked positions (on the left) are left out of the pass and are 0 in the result."""
    one = families.gpt2_forward if cfg["model_type"] == "gpt2" else forward
    rows = []
    for b in range(len(ids)):
        skip = 0 if mask is None else int((mask[b] == 0).sum())
        rows.append(F.pad(one(w, cfg, ids[b, skip:], **kw), (0, 0, skip, 0)))
    return torch.stack(rows)


def loss(logits, labels):
    """Mean over every predicted token of the batch; position t predicts label t + 1; -100 isn't counted."""
    return F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), ignore_index=-100)
