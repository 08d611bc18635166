"""Goldens of the tiny random models: logits, losses, gradients and optimiser steps with open gates."""

import json
import os
import shutil
import tempfile

import numpy as np
import torch
from peft import AdaptionPromptConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import cases
import families
import reference
from cases import CASES, HEADS, HIDDEN, LAYERS

ADAPTER_LEN, ADAPTER_LAYERS, T, BATCH = 5, 2, 20, 2
ADAPTED = range(LAYERS - ADAPTER_LAYERS, LAYERS)
LOGIT_TOL, GRAD_TOL = 5e-5, 5e-5


def save(path, tensors):
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, path, metadata={"format": "pt"})
    os.chmod(path, 0o644)


def load_hf(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def close(what, a, b, tol):
    diff = (a - b).abs().max().item()
    assert diff <= tol, f"{what}: {diff:.2e} > {tol:.0e}"
    return diff


def write_json(path, value):
    """A list gets one entry a line, so that rows of token ids stay readable."""
    if isinstance(value, list):
        text = "[\n" + ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in value) + "\n]"
    else:
        text = json.dumps(value, indent=2, ensure_ascii=False)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text + "\n")


def inputs(rng):
    ids = torch.from_numpy(rng.integers(3, cases.VOCAB, (BATCH, T)))
    labels = ids.clone()
    labels[:, : T // 4] = -100
    mask = torch.ones_like(ids)
    mask[0, : T // 4] = 0
    return ids, labels, mask


def open_adapter(rng, model_type, per_head=False):
    """Prompts N(0, 1) and gates in -0.6..0.6, none of them near 0."""
    out = {}
    for i in ADAPTED:
        out[families.prompt_key(model_type, i)] = rng.standard_normal((1, ADAPTER_LEN, HIDDEN)).astype(np.float32)
        shape = (1, HEADS, 1, 1) if per_head else (1,)
        gate = rng.uniform(0.15, 0.6, shape) * rng.choice([-1.0, 1.0], shape)
        out[families.gate_key(model_type, i)] = gate.astype(np.float32)
    return {k: torch.from_numpy(v) for k, v in out.items()}


class ByPeft:
    """PEFT's own model; `params` are its parameters by the keys it saves."""

    def __init__(self, folder, start):
        self.model = get_peft_model(load_hf(folder), AdaptionPromptConfig(
            adapter_len=ADAPTER_LEN, adapter_layers=ADAPTER_LAYERS, task_type="CAUSAL_LM")).eval()
        self.params = {k: p for k, p in self.model.named_parameters() if p.requires_grad}
        assert set(self.params) == set(start), (list(self.params), list(start))
        with torch.no_grad():
            for k, p in self.params.items():
                p.copy_(start[k])

    def logits(self, ids, mask=None):
        if mask is None:
            return self.model(input_ids=ids).logits
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        return self.model(input_ids=ids, attention_mask=mask, position_ids=positions).logits * mask[..., None]

    def logits_and_loss(self, ids, labels):
        out = self.model(input_ids=ids, labels=labels)
        return out.logits, out.loss

    def save(self, folder, base_name):
        self.model.peft_config["default"].base_model_name_or_path = base_name
        shutil.rmtree(folder, ignore_errors=True)
        self.model.save_pretrained(folder, save_embedding_layers=False)
        os.chmod(os.path.join(folder, "adapter_model.safetensors"), 0o644)
        readme = os.path.join(folder, "README.md")  # a model card form, nothing in it for us
        if os.path.exists(readme):
            os.remove(readme)
        stored = load_file(os.path.join(folder, "adapter_model.safetensors"))
        assert {k: v.tolist() for k, v in stored.items()} == {k: v.tolist() for k, v in self.params.items()}


class ByReference:
    """The same interface over reference.py."""

    def __init__(self, weights, cfg, start, **options):
        self.args, self.options = (weights, cfg), options
        self.params = {k: v.clone().requires_grad_() for k, v in start.items()}

    def logits(self, ids, mask=None):
        return reference.batch(*self.args, ids, mask, adapter=self.params, **self.options)

    def logits_and_loss(self, ids, labels):
        logits = self.logits(ids)
        return logits, reference.loss(logits, labels)


def pass_and_gradients(side, ids, labels):
    for p in side.params.values():
        p.grad = None
    logits, loss = side.logits_and_loss(ids, labels)
    loss.backward()
    out = {"logits": logits, "loss": loss.reshape(1)}
    out |= {"param." + k: p.detach().clone() for k, p in side.params.items()}
    out |= {"grad." + k: p.grad.clone() for k, p in side.params.items()}
    return out


def five_steps(side, ids, labels):
    opt = torch.optim.AdamW(list(side.params.values()), lr=1e-2, weight_decay=0.02, betas=(0.9, 0.95), eps=1e-8)
    losses = []
    for _ in range(5):
        opt.zero_grad()
        loss = side.logits_and_loss(ids, labels)[1]
        losses.append(loss.item())
        loss.backward()
        opt.step()
    return {"adamw_losses": torch.tensor(losses)} | {"after5." + k: p for k, p in side.params.items()}


def golden(side, ids, labels, mask):
    out = pass_and_gradients(side, ids, labels)
    with torch.no_grad():
        out["pad_logits"] = side.logits(ids, mask)
    return out | five_steps(side, ids, labels)


def compare(name, a, b):
    worst = {}
    for k in a:
        kind = k.split(".")[0]
        tol = {"after5": 2e-3, "adamw_losses": 1e-4}.get(kind, GRAD_TOL if kind == "grad" else LOGIT_TOL)
        worst[kind] = max(worst.get(kind, 0.0), close(f"{name} {k}", a[k], b[k], tol))
    print(f"  {name}: " + ", ".join(f"{k} {v:.1e}" for k, v in sorted(worst.items())))


def check_layouts(case, base, ids, logits):
    """transformers reads the same model from both config layouts."""
    with tempfile.TemporaryDirectory() as tmp:
        shutil.copy(os.path.join(base, "model.safetensors"), tmp)
        for layout in ("classic", "v5"):
            write_json(os.path.join(tmp, "config.json"), cases.config(case, layout))
            with torch.no_grad():
                assert torch.equal(load_hf(tmp)(input_ids=ids).logits, logits), (case.name, layout)


def check_window(case, weights, cfg, ids, logits):
    """A pass without the sliding window must differ, from the first token that it hides, and only there."""
    wide = reference.batch(weights, cfg | {"sliding_window": None}, ids)
    diff = (wide - logits).abs().amax((0, 2))
    if case.full_layers:
        narrow = reference.batch(weights, cfg | {"max_window_layers": 0}, ids)
        assert (narrow - logits).abs().max() > 1e-2, "a window in all layers would be the same"
    assert diff[: case.window].max() < LOGIT_TOL and diff[case.window :].min() > 1e-2, diff


def write_base(case, base):
    os.makedirs(base, exist_ok=True)
    weights = cases.weights(case)
    dtype = getattr(torch, case.dtype)
    narrow = {k: v.to(dtype) for k, v in families.stored(case.model_type, weights).items()}
    save(os.path.join(base, "model.safetensors"), narrow)
    write_json(os.path.join(base, "config.json"), cases.config(case))
    return weights


def make_case(case, out):
    print(case.name)
    folder = os.path.join(out, case.name)
    base = os.path.join(folder, "base")
    weights, cfg = write_base(case, base), cases.config(case)
    rng = np.random.default_rng(1000 + case.seed)
    ids, labels, mask = inputs(rng)
    start = open_adapter(rng, case.model_type)

    with torch.no_grad():
        plain = load_hf(base)(input_ids=ids, labels=labels)
    if case.model_type != "gpt2":
        check_layouts(case, base, ids, plain.logits)
    close("base", reference.batch(weights, cfg, ids), plain.logits, LOGIT_TOL)
    shut = {k: v * 0 if k.endswith("gate") else v for k, v in start.items()}
    assert torch.equal(reference.batch(weights, cfg, ids, adapter=shut), reference.batch(weights, cfg, ids))
    if case.window:
        check_window(case, weights, cfg, ids, plain.logits)
    if case.scaling:
        unscaled = cases.config(case, "v5") | {"rope_parameters": {"rope_theta": case.theta}}
        assert (reference.batch(weights, unscaled, ids) - plain.logits).abs().max() > 0.1, "rope scaling doesn't show"

    ours = golden(ByReference(weights, cfg, start), ids, labels, mask)
    result = ours
    if case.by_peft:
        side = ByPeft(base, start)
        side.save(os.path.join(folder, "adapter"), case.name)
        result = golden(side, ids, labels, mask)
        compare(case.name + ", PEFT against reference.py", result, ours)
        if case.window:
            wide = reference.batch(weights, cfg | {"sliding_window": None}, ids, adapter=start)
            assert (wide - result["logits"])[:, case.window :].abs().amax() > 0.1
        with torch.no_grad():
            fresh = ByPeft(base, shut).logits(ids)
        assert torch.equal(fresh, plain.logits), "a zero gate isn't the base"
    elif case.bias:
        # PEFT adds the output projection's bias twice. Prove it, so that our golden stands on more than our word.
        fault = ByReference(weights, cfg, start, peft_bias_fault=True)
        compare(case.name + ", PEFT against reference.py with PEFT's fault",
                golden(ByPeft(base, start), ids, labels, mask), golden(fault, ids, labels, mask))
    else:
        try:
            ByPeft(base, start).logits(ids)
            raise SystemExit(case.name + ": PEFT works here now, use it")
        except (RuntimeError, ValueError) as e:
            print("  PEFT fails as expected:", str(e).splitlines()[0])

    result |= {"input_ids": ids, "labels": labels, "pad_attention_mask": mask,
               "base_logits": plain.logits, "base_loss": plain.loss.reshape(1)}
    save(os.path.join(folder, "golden.safetensors"), result)
    effect = (result["logits"] - plain.logits).abs().max().item()
    grads = {k.rsplit("_", 1)[1]: f"{v.abs().max():.1e}" for k, v in result.items() if k.startswith("grad.")}
    print(f"  loss {result['loss'].item():.4f}, adapter moves logits by up to {effect:.2f}, grads {grads}, "
          f"adamw {[round(x, 4) for x in result['adamw_losses'].tolist()]}")
    if case.variants:
        make_variants(case, weights, cfg, folder)


def make_variants(case, weights, cfg, folder):
    """Other gates: one a head, and tanh on the gate."""
    rng = np.random.default_rng(2000 + case.seed)
    out = {}
    for prefix in case.variants:
        per_head, act = prefix.startswith("head_"), torch.tanh if "tanh" in prefix else None
        ids, labels, _ = inputs(rng)
        side = ByReference(weights, cfg, open_adapter(rng, case.model_type, per_head), act=act)
        part = pass_and_gradients(side, ids, labels) | {"input_ids": ids, "labels": labels}
        out |= {prefix + k: v for k, v in part.items()}
    save(os.path.join(folder, "variants.safetensors"), out)


def make(out):
    for case in CASES:
        make_case(case, out)
