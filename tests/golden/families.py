"""What the files of each family look like: the class, config.json beside the common part, tensors beside a Llama's."""

import torch
import torch.nn.functional as F

CLASSES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "gpt2": "GPT2LMHeadModel",
           "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM", "phi3": "Phi3ForCausalLM"}

# What PEFT's names of an adapter's tensors begin with.
ATTENTION = {"gpt2": "base_model.model.transformer.h.{}.attn."}
LLAMA_ATTENTION = "base_model.model.model.layers.{}.self_attn."


def prompt_key(model_type, layer):
    return ATTENTION.get(model_type, LLAMA_ATTENTION).format(layer) + "adaption_prompt"


def gate_key(model_type, layer):
    return ATTENTION.get(model_type, LLAMA_ATTENTION).format(layer) + "adaption_gate"


def gpt2_config(config: dict) -> dict:
    """A Llama-like config in GPT-2's words."""
    return {
        "activation_function": "gelu_new",
        "architectures": config["architectures"],
        "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0,
        "bos_token_id": config["bos_token_id"],
        "eos_token_id": config["eos_token_id"],
        "layer_norm_epsilon": config["rms_norm_eps"],
        "model_type": "gpt2",
        "n_ctx": config["max_position_embeddings"],
        "n_embd": config["hidden_size"],
        "n_head": config["num_attention_heads"],
        "n_inner": config["intermediate_size"],
        "n_layer": config["num_hidden_layers"],
        "n_positions": config["max_position_embeddings"],
        "torch_dtype": "float32",
        "vocab_size": config["vocab_size"],
    }


def gpt2_weights(normal, config: dict) -> dict[str, torch.Tensor]:
    """By transformers' names. Conv1D holds its matrices as [in, out]."""
    hidden, ffn = config["n_embd"], config["n_inner"]
    out = {"transformer.wte.weight": normal(config["vocab_size"], hidden),
           "transformer.wpe.weight": normal(config["n_positions"], hidden)}
    for i in range(config["n_layer"]):
        at = f"transformer.h.{i}."
        for name, shape in {"attn.c_attn": (hidden, 3 * hidden), "attn.c_proj": (hidden, hidden),
                            "mlp.c_fc": (hidden, ffn), "mlp.c_proj": (ffn, hidden)}.items():
            out[at + name + ".weight"] = normal(*shape)
            out[at + name + ".bias"] = normal(shape[1])
        for name in ("ln_1", "ln_2"):
            out[at + name + ".weight"] = normal(hidden, mean=1.0)
            out[at + name + ".bias"] = normal(hidden)
    out["transformer.ln_f.weight"] = normal(hidden, mean=1.0)
    out["transformer.ln_f.bias"] = normal(hidden)
    return out


def stored(model_type, weights: dict) -> dict:
    """A model's tensors as its file holds them: Phi-3 stacks query, key and value, and gate and up."""
    if model_type != "phi3":
        return weights
    out = {}
    for name, tensor in weights.items():
        for stack, parts in {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}.items():
            if f".{parts[0]}." in name:
                out[name.replace(parts[0], stack)] = torch.cat([weights[name.replace(parts[0], p)] for p in parts])
        if not any(f".{p}." in name for p in ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")):
            out[name] = tensor
    return out


def gpt2_forward(w: dict, cfg: dict, ids, adapter: dict | None = None, act=None):
    """Logits [T, vocab] of one row of token ids, as reference.forward gives them for a Llama.

    The adapter's heads pass through no output projection: they are added to what it gives."""
    heads, hidden, eps = cfg["n_head"], cfg["n_embd"], cfg["layer_norm_epsilon"]
    dim, T = hidden // heads, len(ids)

    def conv(name, x):
        return x @ w[name + ".weight"] + w[name + ".bias"]

    def norm(name, x):
        return F.layer_norm(x, (hidden,), w[name + ".weight"], w[name + ".bias"], eps)

    def split(x):
        return x.view(-1, heads, dim).transpose(0, 1)

    def join(x):
        return x.transpose(0, 1).reshape(T, hidden)

    hide = torch.ones(T, T).triu(1).bool()
    x = w["transformer.wte.weight"][ids] + w["transformer.wpe.weight"][:T]
    for i in range(cfg["n_layer"]):
        at = f"transformer.h.{i}."
        q, k, v = (split(part) for part in conv(at + "attn.c_attn", norm(at + "ln_1", x)).split(hidden, -1))
        scores = (q @ k.transpose(1, 2) / dim**0.5).masked_fill(hide, float("-inf"))
        joined = conv(at + "attn.c_proj", join(scores.softmax(-1) @ v))
        if adapter is not None and prompt_key("gpt2", i) in adapter:
            prompt, gate = adapter[prompt_key("gpt2", i)][0], adapter[gate_key("gpt2", i)]
            _, pk, pv = (split(part) for part in conv(at + "attn.c_attn", prompt).split(hidden, -1))
            branch = (q @ pk.transpose(1, 2) / dim**0.5).softmax(-1) @ pv
            joined = joined + join((act(gate) if act else gate).reshape(-1, 1, 1) * branch)
        x = x + joined
        h = F.gelu(conv(at + "mlp.c_fc", norm(at + "ln_2", x)), approximate="tanh")
        x = x + conv(at + "mlp.c_proj", h)
    return norm("transformer.ln_f", x) @ w["transformer.wte.weight"].T
