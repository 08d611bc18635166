"""The tiny random models: their shapes, their config.json in two layouts, their weights."""

from dataclasses import dataclass, field

import numpy as np
import torch

import families

VOCAB, HIDDEN, FFN, LAYERS, HEADS, MAX_POS = 128, 32, 48, 3, 4, 64
WEIGHT_STD = 0.2


@dataclass(frozen=True)
class Case:
    name: str
    seed: int
    kv_heads: int
    layout: str                  # "classic": rope_theta + rope_scaling; "v5": rope_parameters
    model_type: str = "llama"
    theta: float = 10000.0
    eps: float = 1e-5
    scaling: dict = field(default_factory=dict)  # rope_type and its numbers; empty: plain rope
    head_dim: int = HIDDEN // HEADS
    tied: bool = False
    bias: bool = False
    window: int | None = None
    vocab: int = VOCAB
    full_layers: int = 0         # layers at the bottom that have no window
    qkv_bias: bool = False       # biases on query, key and value alone
    qk_norm: bool = False
    dtype: str = "float32"       # what the file holds
    by_peft: bool = True         # False: PEFT is wrong, crashes or knows no rule; reference.py makes the golden
    variants: tuple = ()         # other gates to write, see tiny.py


ALL_GATES = ("head_identity.", "head_tanh.", "scalar_tanh.")
HEAD_GATES = ("head_identity.",)

CASES = [
    Case("llama-mha", 101, 4, "classic"),
    Case("llama-gqa-tied", 102, 2, "classic", theta=100000.0, tied=True, variants=ALL_GATES),
    Case("llama-bias", 103, 2, "classic", bias=True, by_peft=False),
    Case("llama-headdim16", 104, 2, "v5", theta=5000.0, eps=1e-6, head_dim=16, by_peft=False, variants=ALL_GATES),
    Case("llama-rope3", 105, 2, "classic", scaling=dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=16)),
    Case("llama-rope-linear", 106, 2, "v5", scaling=dict(rope_type="linear", factor=4.0)),
    Case("mistral-sw8", 107, 2, "v5", model_type="mistral", window=8),
    Case("gpt2", 108, 4, "classic", model_type="gpt2", tied=True),
    Case("qwen2", 109, 2, "classic", model_type="qwen2", theta=1000000.0, eps=1e-6, tied=True, qkv_bias=True,
         window=8, full_layers=1, dtype="bfloat16", by_peft=False, variants=HEAD_GATES),
    Case("qwen3", 110, 2, "v5", model_type="qwen3", theta=1000000.0, eps=1e-6, head_dim=16, qk_norm=True,
         dtype="bfloat16", by_peft=False, variants=HEAD_GATES),
    Case("phi3", 111, 2, "classic", model_type="phi3", window=8, dtype="bfloat16", by_peft=False),
]


def config(case: Case, layout: str | None = None) -> dict:
    """config.json of a case, in its own layout or in the one asked for."""
    layout = layout or case.layout
    out = {
        "architectures": [families.CLASSES[case.model_type]],
        "model_type": case.model_type,
        "vocab_size": case.vocab,
        "hidden_size": HIDDEN,
        "intermediate_size": FFN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": MAX_POS,
        "hidden_act": "silu",
        "initializer_range": WEIGHT_STD,
        "rms_norm_eps": case.eps,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": case.tied,
        "use_cache": True,
    }
    if case.model_type == "gpt2":
        return dict(sorted(families.gpt2_config(out).items()))
    # Old files leave num_key_value_heads and head_dim out when they follow from the rest.
    if case.kv_heads != HEADS or layout == "v5":
        out["num_key_value_heads"] = case.kv_heads
    if case.head_dim != HIDDEN // HEADS:
        out["head_dim"] = case.head_dim
    elif layout == "v5":
        out["head_dim"] = None if case.model_type == "mistral" else case.head_dim
    if case.model_type in ("mistral", "phi3"):
        out["sliding_window"] = case.window
        if case.model_type == "phi3":
            out["pad_token_id"] = None  # the default is outside of this vocabulary
    elif case.model_type == "llama":
        out["attention_bias"] = out["mlp_bias"] = case.bias
    else:
        out |= {"use_sliding_window": case.window is not None, "sliding_window": case.window,
                "max_window_layers": case.full_layers if case.window else LAYERS}
    if layout == "classic":
        out |= {"rope_theta": case.theta, "rope_scaling": case.scaling or None, "torch_dtype": case.dtype}
    else:
        out |= {"rope_parameters": {"rope_type": "default"} | case.scaling | {"rope_theta": case.theta},
                "dtype": case.dtype}
    return dict(sorted(out.items()))


def weights(case: Case) -> dict[str, torch.Tensor]:
    """Random weights by Hugging Face names. numpy's generator gives the same numbers on every machine."""
    rng = np.random.default_rng(case.seed)

    def normal(*shape, mean=0.0):
        values = torch.from_numpy((mean + WEIGHT_STD * rng.standard_normal(shape)).astype(np.float32))
        # Rounded first, so that a narrow file holds exactly the golden's weights.
        return values.to(getattr(torch, case.dtype)).float()

    if case.model_type == "gpt2":
        return families.gpt2_weights(normal, config(case))

    q, kv = HEADS * case.head_dim, case.kv_heads * case.head_dim
    linears = {
        "self_attn.q_proj": (q, HIDDEN), "self_attn.k_proj": (kv, HIDDEN), "self_attn.v_proj": (kv, HIDDEN),
        "self_attn.o_proj": (HIDDEN, q), "mlp.gate_proj": (FFN, HIDDEN), "mlp.up_proj": (FFN, HIDDEN),
        "mlp.down_proj": (HIDDEN, FFN),
    }
    out = {"model.embed_tokens.weight": normal(case.vocab, HIDDEN)}
    for i in range(LAYERS):
        at = f"model.layers.{i}."
        for name, shape in linears.items():
            out[at + name + ".weight"] = normal(*shape)
            if case.bias or case.qkv_bias and name.endswith(("q_proj", "k_proj", "v_proj")):
                out[at + name + ".bias"] = normal(shape[0])
        if case.qk_norm:
            out[at + "self_attn.q_norm.weight"] = normal(case.head_dim, mean=1.0)
            out[at + "self_attn.k_norm.weight"] = normal(case.head_dim, mean=1.0)
        out[at + "input_layernorm.weight"] = normal(HIDDEN, mean=1.0)
        out[at + "post_attention_layernorm.weight"] = normal(HIDDEN, mean=1.0)
    out["model.norm.weight"] = normal(HIDDEN, mean=1.0)
    if not case.tied:
        out["lm_head.weight"] = normal(case.vocab, HIDDEN)
    return out
