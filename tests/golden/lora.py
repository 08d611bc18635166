"""LoRA folders that PEFT writes with settings other than its defaults, and the logits of loading them again.

`lora/<name>/` and `lora/logits.safetensors`; `lora/settings.json`: PEFT's settings with their defaults."""

import json
import os
import shutil
import warnings

import numpy as np
import torch
from peft import AdaptionPromptConfig, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import cases

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# Name, base, settings.
CASES = [
    ("stabilised", "llama-gqa-tied", {"r": 4, "lora_alpha": 6, "use_rslora": True, "target_modules": ["q_proj", "v_proj"]}),
    # Patterns are Python's; the first that fits has its say.
    ("patterns", "llama-gqa-tied", {
        "r": 3, "lora_alpha": 5, "target_modules": r"model\.layers\.(?!1\.)\d+\.(self_attn|mlp)\.(q|k|down)_proj",
        "rank_pattern": {r"(layers\.2\..*)k_proj": 2, "k_proj": 5}, "alpha_pattern": {"down_proj": 7, r"^model\.layers\.0\.self_attn\.q_proj": 2},
        "exclude_modules": ["layers.2.mlp.down_proj"]}),
    ("stabilised-patterns", "llama-gqa-tied", {
        "r": 4, "lora_alpha": 2, "use_rslora": True, "target_modules": ["o_proj", "up_proj"], "rank_pattern": {"o_proj": 1},
        "alpha_pattern": {"up_proj": 3}}),
    ("one-layer", "llama-gqa-tied", {"r": 2, "lora_alpha": 4, "target_modules": ["k_proj", "gate_proj"], "layers_to_transform": [1], "layers_pattern": "layers"}),
    ("head", "llama-mha", {"r": 2, "lora_alpha": 3, "target_modules": ["lm_head", "v_proj"]}),
    ("tied-head", "llama-gqa-tied", {"r": 2, "lora_alpha": 3, "target_modules": ["lm_head"]}),
    ("gpt2", "gpt2", {"r": 4, "lora_alpha": 6, "target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True, "rank_pattern": {"c_attn": 3}}),
    ("phi3", "phi3", {"r": 3, "lora_alpha": 6, "target_modules": ["qkv_proj", "gate_up_proj", "o_proj"], "alpha_pattern": {"qkv_proj": 9}}),
    ("bf16", "llama-gqa-tied", {"r": 4, "lora_alpha": 8, "target_modules": ALL, "bias": "all", "init_lora_weights": "orthogonal"}),
]


def base(out, name):
    return AutoModelForCausalLM.from_pretrained(os.path.join(out, name, "base"), dtype=torch.float32)


def logits(out, name, folder, ids, adapter="default"):
    with torch.no_grad():
        return PeftModel.from_pretrained(base(out, name), folder, adapter_name=adapter).eval()(ids).logits


def write(out, folder, name, settings, rng):
    shutil.rmtree(folder, ignore_errors=True)
    peft = get_peft_model(base(out, name), LoraConfig(task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for key, p in peft.named_parameters():
            if "lora_" in key:
                p.copy_(torch.from_numpy(rng.uniform(-0.4, 0.4, p.shape)))
    peft.peft_config["default"].base_model_name_or_path = name
    peft.save_pretrained(folder, save_embedding_layers=False)
    os.remove(os.path.join(folder, "README.md"))
    path = os.path.join(folder, "adapter_config.json")
    with open(path) as f:
        config = json.load(f)
    # PEFT keeps modules in sets: sorted, the file is the same every time.
    for key in ("target_modules", "exclude_modules"):
        if isinstance(config[key], list):
            config[key].sort()
    with open(path, "w") as f:
        f.write(json.dumps(config, indent=2, sort_keys=True) + "\n")
    os.chmod(os.path.join(folder, "adapter_model.safetensors"), 0o644)


def renamed(folder, to, rename):
    """The same folder with other names of tensors."""
    shutil.copytree(folder, to)
    path = os.path.join(to, "adapter_model.safetensors")
    save_file({rename(k): v for k, v in load_file(path).items()}, path, metadata={"format": "pt"})
    return to


def check_names(out, folder, name, ids, expected, work):
    """The names that we take for the same as PEFT's own are the same to PEFT and transformers."""
    named = lambda key: key.replace(".weight", ".sql.weight")
    found = logits(out, name, renamed(folder, os.path.join(work, "named"), named), ids, adapter="sql")
    assert torch.equal(found, expected)
    model = base(out, name)
    bare = renamed(folder, os.path.join(work, "bare"), lambda key: key.removeprefix("base_model.model."))
    model.load_adapter(bare)
    with torch.no_grad():
        assert torch.allclose(model.eval()(ids).logits, expected, atol=1e-5)


def defaults(config):
    return json.loads(json.dumps(config.to_dict(), default=lambda value: sorted(value)))


def make(out):
    """After tiny.make, which writes the bases."""
    warnings.filterwarnings("ignore")
    rng = np.random.default_rng(5000)
    ids = torch.from_numpy(rng.integers(3, cases.VOCAB, (1, 8)))
    found = {"input_ids": ids}
    for case, name, settings in CASES:
        folder = os.path.join(out, "lora", case)
        write(out, folder, name, settings, rng)
        path = os.path.join(folder, "adapter_model.safetensors")
        if case == "bf16":
            save_file({k: v.bfloat16() for k, v in load_file(path).items()}, path, metadata={"format": "pt"})
            os.chmod(path, 0o644)
        found[case] = logits(out, name, folder, ids).contiguous()
        with torch.no_grad():
            moved = (found[case] - base(out, name)(ids).logits).abs().max().item()
        print(f"  lora {case}: moves logits by up to {moved:.2f}")
        assert moved > 0.1
        if case == "stabilised":
            work = os.path.join(out, "lora", "work")
            shutil.rmtree(work, ignore_errors=True)
            os.makedirs(work)
            check_names(out, folder, name, ids, found[case], work)
            shutil.rmtree(work)
    save_file(found, os.path.join(out, "lora", "logits.safetensors"), metadata={"format": "pt"})
    os.chmod(os.path.join(out, "lora", "logits.safetensors"), 0o644)
    settings = {"LORA": defaults(LoraConfig()) | {"runtime_config": None}, "ADAPTION_PROMPT": defaults(AdaptionPromptConfig())}
    for config in settings.values():
        config.pop("peft_version")
    with open(os.path.join(out, "lora", "settings.json"), "w") as f:
        f.write(json.dumps(settings, indent=1, sort_keys=True) + "\n")
