"""Adapters in other programs' formats, and the logits that each program's own arithmetic gives with them.

Written after the formats, not with the programs: keys, shapes and order of rows are those of the original release, lit-llama,
litgpt and PEFT; the pass below follows each of them. Without an adapter it is held against transformers."""

import os
import shutil

import numpy as np
import torch
import torch.nn.functional as F
from peft import PeftModel
from safetensors.torch import load_file

import cases
import reference
from cases import CASES, FFN, HEADS, HIDDEN, LAYERS
from tiny import ADAPTED, ADAPTER_LAYERS, ADAPTER_LEN, LOGIT_TOL, close, load_hf, open_adapter, save, write_json

T = 10
# Which two numbers of a head are rotated together: neighbours, as Meta and lit-llama have them; or first and second half.
NEIGHBOURS, HALVES = "neighbours", "halves"


def forward(case, w, ids, pairs=HALVES, prompts=None, around=None, norm=None, by_group=False):
    """Logits [T, vocab] of one row. Query, key and value are made by one linear layer, in the order of rows of the format.

    prompts: layer -> (prompt [K, C], gates that multiply [H] or [1]). around: (layer, linear layer, output) -> output.
    norm: (layer, name) -> weight. by_group: each group's queries, key and value are neighbours in the one linear layer."""
    heads, groups, dim = HEADS, case.kv_heads, case.head_dim
    around = around or (lambda i, name, y: y)
    norm = norm or (lambda i, name: None)
    angles = torch.outer(torch.arange(len(ids)).float(), reference.inverse_frequencies(cases.config(case), dim))[:, None]

    def normed(i, name, key, x):
        own = norm(i, name)
        return reference.rms_norm(x, w[key] if own is None else own, case.eps)

    def order(matrix):
        """Rows of a head: Hugging Face's first half and second half become Meta's neighbours."""
        if pairs == HALVES:
            return matrix
        return matrix.view(-1, 2, dim // 2, HIDDEN).transpose(1, 2).reshape(-1, HIDDEN)

    def rotate(x):
        a, b = (x[..., ::2], x[..., 1::2]) if pairs == NEIGHBOURS else x.chunk(2, -1)
        turned = a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()
        return torch.stack(turned, -1).flatten(-2) if pairs == NEIGHBOURS else torch.cat(turned, -1)

    def qkv(i, x):
        at = f"model.layers.{i}.self_attn."
        q, k, v = order(w[at + "q_proj.weight"]), order(w[at + "k_proj.weight"]), w[at + "v_proj.weight"]
        sizes = [heads * dim, groups * dim, groups * dim]
        if by_group:
            per = heads // groups
            parts = [p for g in range(groups) for p in (q.view(groups, per * dim, -1)[g], k.view(groups, dim, -1)[g],
                                                        v.view(groups, dim, -1)[g])]
            y = around(i, "qkv", x @ torch.cat(parts).T).view(len(x), groups, per + 2, dim)
            q, k, v = y[:, :, :per].flatten(1, 2), y[:, :, per], y[:, :, per + 1]
        else:
            y = around(i, "qkv", x @ torch.cat([q, k, v]).T)
            q, k, v = (part.view(len(x), -1, dim) for part in y.split(sizes, -1))
        return q, k.repeat_interleave(heads // groups, 1), v.repeat_interleave(heads // groups, 1)

    def attend(q, k, v, **options):
        return F.scaled_dot_product_attention(*(x.transpose(0, 1) for x in (q, k, v)), **options)

    x = w["model.embed_tokens.weight"][ids]
    for i in range(LAYERS):
        at = f"model.layers.{i}."
        q, k, v = qkv(i, normed(i, "attention", at + "input_layernorm.weight", x))
        q = rotate(q)
        mixed = attend(q, rotate(k), v, is_causal=True)
        if prompts and i in prompts:
            prompt, gates = prompts[i]
            _, pk, pv = qkv(i, prompt)
            mixed = mixed + gates.reshape(-1, 1, 1) * attend(q, pk, pv)
        x = x + around(i, "out", mixed.transpose(0, 1).flatten(1) @ w[at + "self_attn.o_proj.weight"].T)
        h = normed(i, "feed_forward", at + "post_attention_layernorm.weight", x)
        gate, up = (around(i, n, h @ w[at + f"mlp.{n}_proj.weight"].T) for n in ("gate", "up"))
        x = x + around(i, "down", F.silu(gate) * up @ w[at + "mlp.down_proj.weight"].T)
    x = normed(LAYERS, "final", "model.norm.weight", x)
    return around(LAYERS, "head", x @ w.get("lm_head.weight", w["model.embed_tokens.weight"]).T)


class Numbers:
    """Random numbers, the same on every machine."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def normal(self, *shape, mean=0.0, std=1.0):
        return torch.from_numpy((mean + std * self.rng.standard_normal(shape)).astype(np.float32))

    def gates(self, *shape):
        values = self.rng.uniform(0.2, 0.8, shape) * self.rng.choice([-1.0, 1.0], shape)
        return torch.from_numpy(np.asarray(values, dtype=np.float32))


def original(case, seed, scalar):
    """The original release: one table, a gate for every layer; training passes gates through tanh.

    Its first version had one gate a layer. Scalars come as [] or [1]."""
    numbers = Numbers(seed)
    table = numbers.normal(ADAPTER_LEN * ADAPTER_LAYERS, HIDDEN)
    content = {"adapter_query.weight": table}
    prompts = {}
    for i in range(LAYERS):
        gate = numbers.gates(*([] if i % 2 else [1]) if scalar else (1, HEADS, 1, 1))
        if i not in ADAPTED:
            gate = torch.zeros_like(gate)
        content[f"layers.{i}.attention.gate"] = gate
        if i in ADAPTED:
            prompts[i] = (table.view(ADAPTER_LAYERS, ADAPTER_LEN, HIDDEN)[i - ADAPTED[0]], gate.flatten())
    passes = {"tanh": torch.tanh, "plain": lambda gate: gate}
    return content, {name: dict(pairs=NEIGHBOURS, prompts={i: (p, act(g)) for i, (p, g) in prompts.items()})
                     for name, act in passes.items()}


LIT = {"qkv": "attn.c_attn", "out": "attn.c_proj", "gate": "mlp.c_fc1", "up": "mlp.c_fc2", "down": "mlp.c_proj",
       "attention": "rms_1.scale", "feed_forward": "rms_2.scale", "final": "ln_f.scale"}
LITGPT = {"qkv": "attn.qkv", "out": "attn.proj", "gate": "mlp.fc_1", "up": "mlp.fc_2", "down": "mlp.proj",
          "attention": "norm_1.weight", "feed_forward": "norm_2.weight", "final": "ln_f.weight"}
LITGPT_OLD = LITGPT | {"qkv": "attn.attn"}


def lit(case, seed, names, tuned, heads_at):
    """lit-llama and litgpt: a table and a gate in each adapted block. Version 2: a scale and a bias on the output of every
    linear layer, and every norm."""
    numbers = Numbers(seed)
    content, prompts = {}, {}
    for i in ADAPTED:
        at = f"transformer.h.{i}.attn."
        shape = [1] * 4
        shape[heads_at] = HEADS
        table, gate = numbers.normal(ADAPTER_LEN, HIDDEN), numbers.gates(*shape)
        content |= {at + "gating_factor": gate, at + "adapter_wte.weight": table}
        prompts[i] = (table, gate.flatten())
    options = dict(pairs=NEIGHBOURS if names is LIT else HALVES, prompts=prompts, by_group=names is LITGPT_OLD)
    if tuned:
        queries, keys = HEADS * case.head_dim, case.kv_heads * case.head_dim
        outputs = {"qkv": queries + 2 * keys, "out": HIDDEN, "gate": FFN, "up": FFN, "down": HIDDEN}
        for i in range(LAYERS):
            for name, size in outputs.items():
                at = f"transformer.h.{i}.{names[name]}."
                content |= {at + "adapter_scale": numbers.normal(size, mean=1.0, std=0.2),
                            at + "adapter_bias": numbers.normal(size, std=0.2)}
            for name in ("attention", "feed_forward"):
                content[f"transformer.h.{i}.{names[name]}"] = numbers.normal(HIDDEN, mean=1.0, std=0.2)
        content |= {"lm_head.adapter_scale": numbers.normal(case.vocab, mean=1.0, std=0.2),
                    "lm_head.adapter_bias": numbers.normal(case.vocab, std=0.2),
                    "transformer." + names["final"]: numbers.normal(HIDDEN, mean=1.0, std=0.2)}

        def around(i, name, y):
            at = "lm_head." if name == "head" else f"transformer.h.{i}.{names[name]}."
            return content[at + "adapter_scale"] * (y + content[at + "adapter_bias"])

        def norm(i, name):
            return content["transformer." + ("" if name == "final" else f"h.{i}.") + names[name]]

        options |= dict(around=around, norm=norm)
    return content, options


def make_peft_bin(case, base, folder, ids):
    """PEFT's older folder: a pickle in place of the safetensors file. PEFT itself reads it."""
    os.makedirs(folder, exist_ok=True)
    params = open_adapter(np.random.default_rng(37), case.model_type)
    torch.save(params, os.path.join(folder, "adapter_model.bin"))
    write_json(os.path.join(folder, "adapter_config.json"), {
        "adapter_layers": ADAPTER_LAYERS, "adapter_len": ADAPTER_LEN, "base_model_name_or_path": case.name,
        "inference_mode": True, "peft_type": "ADAPTION_PROMPT", "target_modules": "self_attn", "task_type": "CAUSAL_LM"})
    model = PeftModel.from_pretrained(load_hf(base), folder).eval()
    with torch.no_grad():
        logits = model(input_ids=ids[None]).logits[0]
    ours = reference.forward(cases.weights(case), cases.config(case), ids, adapter=params)
    print(f"  peft-bin: PEFT against reference.py {close('peft-bin', logits, ours, LOGIT_TOL):.1e}")
    return logits


def make(out):
    print("formats")
    folder = os.path.join(out, "formats")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    by_name = {case.name: case for case in CASES}
    ids = torch.from_numpy(np.random.default_rng(30).integers(3, cases.VOCAB, T))
    logits = {"input_ids": ids[None]}

    def base(case):
        return os.path.join(out, case.name, "base")

    def weights(case):
        own = load_file(os.path.join(base(case), "model.safetensors"))
        plain = load_hf(base(case))(input_ids=ids[None]).logits[0]
        for pairs in (NEIGHBOURS, HALVES):
            for by_group in (False, True):
                close(case.name, forward(case, own, ids, pairs=pairs, by_group=by_group), plain, LOGIT_TOL)
        return own, plain

    def write(name, case, content, passes, wrapper=None):
        torch.save({wrapper: content} if wrapper else content, os.path.join(folder, name))
        own, plain = weights(case)
        for key, options in passes.items():
            logits[name + key] = forward(case, own, ids, **options)
            effect = (logits[name + key] - plain).abs().max().item()
            assert effect > 0.1, (name, effect)
            print(f"  {name}{key} on {case.name}: moves logits by up to {effect:.2f}")

    with torch.no_grad():
        mha, wide = by_name["llama-mha"], by_name["llama-headdim16"]
        for name, seed, scalar in (("original.pth", 31, False), ("original-scalar.pth", 32, True)):
            content, passes = original(mha, seed, scalar)
            write(name, mha, content, {"." + key: options for key, options in passes.items()})
        for name, case, seed, names, tuned, heads_at, wrapper in (
            ("lit-llama.pth", mha, 33, LIT, False, 1, None),
            ("lit-llama-v2.pth", mha, 34, LIT, True, 1, None),
            ("litgpt.pth.adapter", wide, 35, LITGPT, False, 2, "model"),
            ("litgpt-v2.pth.adapter_v2", wide, 36, LITGPT, True, 2, "model"),
            ("litgpt-v2-old.pth", wide, 38, LITGPT_OLD, True, 1, "model"),
        ):
            content, options = lit(case, seed, names, tuned, heads_at)
            write(name, case, content, {"": options}, wrapper)
        tied = by_name["llama-gqa-tied"]
        logits["peft-bin"] = make_peft_bin(tied, base(tied), os.path.join(folder, "peft-bin"), ids)
    save(os.path.join(folder, "logits.safetensors"),
         {key: value if key == "input_ids" else value[None] for key, value in logits.items()})
