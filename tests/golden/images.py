"""Goldens of adapters that see pictures: the paper's condition, the original multi-modal release's, early fusion; and files
laid out as that release's. The features are random: what makes them is in vision.py."""

import os

import numpy as np
import torch
import torch.nn.functional as F

import cases
import kinds
from cases import FFN, HEADS, HIDDEN, LAYERS
from kinds import K, TOP, torches

# Rows of a batch and the picture that each sees.
ROWS = [1, None, 0, 1]
PICTURES, T = 2, 9
GLOBAL, PATCHES, WIDTH, BLOCKS, BLOCK_HEADS, INNER = 24, 7, 8, 2, 2, 6


def layer_norm(a, name, x):
    return F.layer_norm(x, x.shape[-1:], a[name + ".weight"], a[name + ".bias"], 1e-5)


def dense(a, name, x):
    return x @ a[name + ".weight"].T + a[name + ".bias"]


def whole_picture(a, features):
    """Features of several scales side by side, two layers between norms, one token."""
    inner = F.gelu(dense(a, "image.up", layer_norm(a, "image.input_norm", features)))
    return layer_norm(a, "image.output_norm", dense(a, "image.down", inner))


def blocks(width, heads):
    """PyTorch's own layer, which is timm's block."""
    return torch.nn.TransformerEncoderLayer(
        width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)


def queries(a, features, at="image.", n_blocks=BLOCKS, heads=BLOCK_HEADS):
    """Learned queries look at all tokens of a picture."""
    seen = layer_norm(a, at + "clip_proj_norm", dense(a, at + "clip_proj", features))
    query = a[at + "visual_query.weight"]
    x = torch.cat([query.repeat(len(features), 1, 1), seen], 1)
    for n in range(n_blocks):
        own = f"{at}visual_blocks.{n}."
        weights = {}
        for kind in ("weight", "bias"):
            if own + "attn.qkv." + kind in a:
                weights["self_attn.in_proj_" + kind] = a[own + "attn.qkv." + kind]
            else:
                weights["self_attn.in_proj_" + kind] = torch.cat(
                    [a[f"{own}attn.{part}.{kind}"] for part in ("query", "key", "value")])
            for theirs, ours in (("self_attn.out_proj", "attn.proj"), ("linear1", "mlp.fc1"), ("linear2", "mlp.fc2"),
                                 ("norm1", "norm1"), ("norm2", "norm2")):
                weights[f"{theirs}.{kind}"] = a[f"{own}{ours}.{kind}"]
        x = torch.func.functional_call(blocks(x.shape[-1], heads), weights, x)
    return layer_norm(a, at + "visual_proj_norm", dense(a, at + "visual_proj", x[:, :len(query)]))


class Model(kinds.Model):
    """form: what makes tokens of features. early: how many of the first layers have pictures for prompts."""

    def __init__(self, w, cfg, a, features, form, early=0, **rule):
        super().__init__(w, cfg, a, **rule)
        self.early, self.pictures = early, form(a, (features - a["image.mean"]) * a["image.scale"])

    def prompt(self, i, B):
        prompt, gate = super().prompt(i, B)
        tokens = torch.zeros_like(self.pictures[0])
        tokens = torch.stack([tokens if row is None else self.pictures[row] for row in ROWS])
        if i < self.early:
            open_rows = torch.tensor([row is not None for row in ROWS]).float().view(-1, 1, 1, 1)
            return tokens, self.a[f"image.early.{i}.gate"].tanh().view(1, -1, 1, 1) * open_rows
        if prompt is None or self.early:
            return prompt, gate
        return prompt + self.a["image.gate"] * tokens, gate


def condition(rng, form, early=0):
    """Numbers of a condition: weights that keep sizes, norms near 1, gates open."""
    def linear(name, d_in, d_out):
        return {name + ".weight": rng.standard_normal((d_out, d_in)) / d_in ** 0.5, name + ".bias": rng.uniform(-0.3, 0.3, d_out)}

    def norm(name, width):
        return {name + ".weight": rng.uniform(0.7, 1.3, width), name + ".bias": rng.uniform(-0.3, 0.3, width)}

    if form is whole_picture:
        out = norm("image.input_norm", GLOBAL) | linear("image.up", GLOBAL, INNER) | linear("image.down", INNER, HIDDEN)
        out |= norm("image.output_norm", HIDDEN)
    else:
        out = visual(rng, "image.", PATCHES + 5, WIDTH, K, BLOCKS, linear, norm)
    width = GLOBAL if form is whole_picture else PATCHES + 5
    out |= {"image.mean": rng.uniform(-0.5, 0.5, width), "image.scale": rng.uniform(0.6, 1.4, width)}
    if early:
        return out | {f"image.early.{i}.gate": rng.uniform(0.3, 0.9, HEADS) * rng.choice([-1.0, 1.0], HEADS) for i in range(early)}
    return out | {"image.gate": np.array([0.7])}


def visual(rng, at, features, width, count, n_blocks, linear, norm):
    out = linear(at + "clip_proj", features, width) | norm(at + "clip_proj_norm", width)
    out[at + "visual_query.weight"] = rng.standard_normal((count, width))
    for n in range(n_blocks):
        own = f"{at}visual_blocks.{n}."
        out |= norm(own + "norm1", width) | norm(own + "norm2", width)
        for part in ("query", "key", "value", "proj"):
            out |= linear(f"{own}attn.{part}", width, width)
        out |= linear(own + "mlp.fc1", width, 4 * width) | linear(own + "mlp.fc2", 4 * width, width)
    return out | linear(at + "visual_proj", width, HIDDEN) | norm(at + "visual_proj_norm", HIDDEN)


CONDITIONS = {
    "global": dict(form=whole_picture),
    "queries": dict(form=queries, tanh=True),
    "early": dict(form=queries, early=2),
    "early_global": dict(form=whole_picture, early=2),
}


def make_conditions(case, out):
    w, cfg = cases.weights(case), {"num_key_value_heads": case.kv_heads} | cases.config(case)
    rng = np.random.default_rng(5000 + case.seed)
    for name, rule in CONDITIONS.items():
        early = rule.get("early", 0)
        params = torches(kinds.prompts(rng, [2] if early else [1, 2]) | condition(rng, rule["form"], early))
        shape = (PICTURES, 1, GLOBAL) if rule["form"] is whole_picture else (PICTURES, PATCHES, PATCHES + 5)
        features = torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
        ids = torch.from_numpy(rng.integers(3, cases.VOCAB, (len(ROWS), T)))
        labels = ids.clone()
        labels[:, :3] = -100
        result = kinds.golden(Model(w, cfg, params, features, **rule), params, ids, labels)
        result["features"] = features
        blind = kinds.Model(w, cfg, params, tanh=rule.get("tanh", False))(ids)
        apart = (result["logits"] - blind).abs().amax((1, 2))
        print(f"  {case.name} {name}: loss {result['loss'].item():.4f}, pictures move logits by {apart.tolist()}")
        assert all((a < 1e-4) if row is None else (a > 0.05) for a, row in zip(apart, ROWS))
        os.makedirs(os.path.join(out, case.name, "images"), exist_ok=True)
        kinds.save(os.path.join(out, case.name, "images", name + ".safetensors"), result)


RELEASED_HEADS, RELEASED_WIDTH, RELEASED_FEATURES, RELEASED_BLOCKS, LEN, ADAPTED, RANK = 16, 32, 12, 3, 5, 2, 4


def turned(rows):
    """Rows of queries or keys from Hugging Face's order into Meta's."""
    return rows.view(HEADS, 2, -1, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def released(rng, w, bias, lora):
    """Tensors of a file of the release: those that it trains, and gates of all layers."""
    normal = lambda *shape, std=1.0: torch.from_numpy((std * rng.standard_normal(shape)).astype(np.float32))
    one = lambda *shape: 1 + normal(*shape, std=0.2)
    out = {"adapter_query.weight": normal(LEN * ADAPTED, HIDDEN), "visual_query.weight": normal(LEN, RELEASED_WIDTH)}

    def linear(name, d_in, d_out):
        out.update({name + ".weight": normal(d_out, d_in, std=d_in ** -0.5), name + ".bias": normal(d_out, std=0.2)})

    def norm(name, width):
        out.update({name + ".weight": one(width), name + ".bias": normal(width, std=0.2)})

    width = RELEASED_WIDTH
    linear("clip_proj", RELEASED_FEATURES, width), norm("clip_proj_norm", width)
    for n in range(RELEASED_BLOCKS):
        at = f"visual_blocks.{n}."
        norm(at + "norm1", width), norm(at + "norm2", width)
        linear(at + "attn.qkv", width, 3 * width), linear(at + "attn.proj", width, width)
        linear(at + "mlp.fc1", width, 4 * width), linear(at + "mlp.fc2", 4 * width, width)
    linear("visual_proj", width, HIDDEN), norm("visual_proj_norm", HIDDEN)
    for i in range(LAYERS):
        at = f"llama.layers.{i}."
        out[at + "attention.gate"] = torch.zeros(1, HEADS, 1, 1) if i < LAYERS - ADAPTED else normal(1, HEADS, 1, 1, std=0.6)
        shapes = {"attention.{}wq": (HIDDEN, HIDDEN), "attention.{}wk": (HIDDEN, HIDDEN), "attention.{}wv": (HIDDEN, HIDDEN),
                  "attention.{}wo": (HIDDEN, HIDDEN), "feed_forward.{}w1": (HIDDEN, FFN), "feed_forward.{}w2": (FFN, HIDDEN),
                  "feed_forward.{}w3": (HIDDEN, FFN)}
        for name, (d_in, d_out) in shapes.items():
            if bias and name[-1] not in "kv":
                out[at + name.format("") + ".bias"] = normal(d_out, std=0.2)
            if lora:
                out[at + name.format("lora_") + "_l1.weight"] = normal(RANK, d_in, std=0.2)
                out[at + name.format("lora_") + "_l2.weight"] = normal(d_out, RANK, std=0.2)
        if lora:
            out[at + "attention.new_gate"] = one(1, 1, 1, 1)
        if bias:
            out[at + "attention_norm.weight"], out[at + "ffn_norm.weight"] = one(HIDDEN), one(HIDDEN)
    if bias:
        out["llama.norm.weight"] = one(HIDDEN)
    return out


def released_forward(w, cfg, a, features, ids):
    """Logits [B, T, vocab] by the release's arithmetic: neighbours turn together, prompts pass the bare matrices."""
    dim, eps, B, n = HIDDEN // HEADS, cfg["rms_norm_eps"], *ids.shape
    pictures = queries(a, features, "", RELEASED_BLOCKS, RELEASED_HEADS)
    names = {"wq": "self_attn.q_proj", "wk": "self_attn.k_proj", "wv": "self_attn.v_proj", "wo": "self_attn.o_proj",
             "w1": "mlp.gate_proj", "w2": "mlp.down_proj", "w3": "mlp.up_proj"}
    angle = torch.outer(torch.arange(n).float(), cfg["rope_theta"] ** (-torch.arange(0, dim, 2).float() / dim))

    def matrix(i, name):
        own = w[f"model.layers.{i}.{names[name]}.weight"]
        return turned(own) if name in ("wq", "wk") else own

    def linear(i, name, x):
        part = f"llama.layers.{i}." + ("attention." if name in ("wq", "wk", "wv", "wo") else "feed_forward.")
        y = x @ matrix(i, name).T
        if f"{part}{name}.bias" in a:
            y = y + a[f"{part}{name}.bias"]
        if f"{part}lora_{name}_l1.weight" in a:
            y = y + x @ a[f"{part}lora_{name}_l1.weight"].T @ a[f"{part}lora_{name}_l2.weight"].T
        return y

    def norm(own, theirs, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * a.get(own, w[theirs])

    def rotate(x):
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)

    split = lambda x: x.view(B, -1, HEADS, dim).transpose(1, 2)
    x = w["model.embed_tokens.weight"][ids]
    for i in range(LAYERS):
        at, own = f"model.layers.{i}.", f"llama.layers.{i}."
        h = norm(own + "attention_norm.weight", at + "input_layernorm.weight", x)
        q, k, v = rotate(split(linear(i, "wq", h))), rotate(split(linear(i, "wk", h))), split(linear(i, "wv", h))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        if i >= LAYERS - ADAPTED:
            prompt = a["adapter_query.weight"].view(ADAPTED, LEN, HIDDEN)[i - LAYERS + ADAPTED] + pictures
            branch = F.scaled_dot_product_attention(q, split(prompt @ matrix(i, "wk").T), split(prompt @ matrix(i, "wv").T))
            mixed = mixed + a.get(own + "attention.new_gate", 1.0) * a[own + "attention.gate"].tanh() * branch
        x = x + linear(i, "wo", mixed.transpose(1, 2).flatten(2))
        h = norm(own + "ffn_norm.weight", at + "post_attention_layernorm.weight", x)
        x = x + linear(i, "w2", F.silu(linear(i, "w1", h)) * linear(i, "w3", h))
    return norm("llama.norm.weight", "model.norm.weight", x) @ w["lm_head.weight"].T


def make_released(out):
    case = next(case for case in cases.CASES if case.name == "llama-mha")
    w, cfg = cases.weights(case), cases.config(case)
    folder = os.path.join(out, "images")
    os.makedirs(folder, exist_ok=True)
    rng = np.random.default_rng(50)
    features = torch.from_numpy(rng.standard_normal((2, PATCHES, RELEASED_FEATURES)).astype(np.float32))
    ids = torch.from_numpy(rng.integers(3, cases.VOCAB, (2, T)))
    golden = {"input_ids": ids, "features": features}
    files = {"BIAS-7B.pth": (True, False), "LORA-BIAS-7B.pth": (True, True), "CAPTION-7B.pth": (False, False)}
    for name, (bias, lora) in files.items():
        tensors = released(rng, w, bias, lora)
        golden[name] = released_forward(w, cfg, tensors, features, ids)
        # The first release's spelling, in one of them.
        spelled = {k.replace("llama.", "llma.") if name == "BIAS-7B.pth" else k: v for k, v in tensors.items()}
        torch.save({"model": spelled, "config": {"w_bias": bias, "w_lora": lora, "lora_rank": RANK if lora else 16}},
                   os.path.join(folder, name))
        rows = golden[name]
        print(f"  {name}: logits of {rows.abs().max().item():.1f} at most")
    kinds.save(os.path.join(folder, "golden.safetensors"), golden)


def make(out):
    """After tiny.make, which writes the bases."""
    print("images")
    for case in cases.CASES:
        if case.name in ("llama-gqa-tied", "llama-headdim16"):
            make_conditions(case, out)
    with torch.no_grad():
        make_released(out)
