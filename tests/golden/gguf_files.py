"""GGUF files: one tensor of each block type, two tiny llama models with the two kinds of tokenizer, other families."""

import io
import os
import re
import tempfile

import gguf
import numpy as np
import sentencepiece
import torch
from gguf import GGMLQuantizationType as Kind, TokenType
from safetensors.torch import load_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

import cases
import families
import reference
from cases import Case
from tiny import LOGIT_TOL, close, save, write_json

HERE = os.path.dirname(os.path.abspath(__file__))
CHAT_TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
                 " + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
SPM_CHAT_TEMPLATE = ("{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' +"
                     " message['content'] + ' [/INST]' }}{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}")
SPM_CASE = Case("tiny-llama-spm", 120, 2, "classic", vocab=320)

TENSORS = {
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}
WHOLE = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
         "lm_head.weight": "output.weight"}


# ---- one tensor of each block type ----

def random_blocks(kind, rng, rows, blocks):
    """Random block bytes of a K type with small scales, for the types that gguf-py can't write."""
    size = gguf.GGML_QUANT_SIZES[kind][1]
    raw = rng.integers(0, 256, (rows, blocks, size), dtype=np.uint8)
    halves = {Kind.Q4_K: [0, 2], Kind.Q5_K: [0, 2], Kind.Q6_K: [208]}[kind]  # where the f16 scales lie
    for at in halves:
        scale = rng.uniform(0.001, 0.02, (rows, blocks, 1)) * rng.choice([-1, 1], (rows, blocks, 1))
        raw[:, :, at : at + 2] = scale.astype("<f2").view(np.uint8)
    return raw.reshape(rows, blocks * size)


def make_quants(folder):
    rng = np.random.default_rng(77)
    rows, cols = 2, 512
    writer = gguf.GGUFWriter(os.path.join(folder, "quants.gguf"), "llama")
    out = {}
    for kind in (Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1,
                 Kind.Q4_K, Kind.Q5_K, Kind.Q6_K):
        values = rng.standard_normal((rows, cols)).astype(np.float32)
        if kind.name.endswith("_K"):
            data = random_blocks(kind, rng, rows, cols // 256)
        else:
            data = gguf.quants.quantize(values, kind)
        plain = np.array(gguf.quants.dequantize(data, kind), dtype=np.float32)
        assert plain.shape == (rows, cols) and np.isfinite(plain).all() and plain.std() > 0.01, kind
        writer.add_tensor(kind.name.lower(), data, raw_dtype=kind)
        out[kind.name.lower()] = torch.from_numpy(plain)
    finish(writer)
    save(os.path.join(folder, "quants.safetensors"), out)
    for t in gguf.GGUFReader(os.path.join(folder, "quants.gguf")).tensors:
        again = gguf.quants.dequantize(t.data, t.tensor_type).reshape(rows, cols)
        assert tuple(t.shape) == (cols, rows) and np.array_equal(again, out[t.name].numpy()), t.name


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ---- tiny models ----

def permute(w, heads):
    """llama.cpp rotates neighbouring rows of a head, Hugging Face rows half a head apart: interleave them."""
    rows, cols = w.shape
    return w.reshape(heads, 2, rows // heads // 2, cols).swapaxes(1, 2).reshape(rows, cols)


def write_model(path, case, weights, half, tokenizer, layers=cases.LAYERS, **split):
    w = gguf.GGUFWriter(path, "llama", **split)
    w.add_name(case.name)
    w.add_block_count(layers)
    w.add_context_length(cases.MAX_POS)
    w.add_embedding_length(cases.HIDDEN)
    w.add_feed_forward_length(cases.FFN)
    w.add_head_count(cases.HEADS)
    w.add_head_count_kv(case.kv_heads)
    w.add_rope_freq_base(case.theta)
    w.add_rope_dimension_count(case.head_dim)
    w.add_layer_norm_rms_eps(case.eps)
    w.add_vocab_size(case.vocab)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if half else gguf.LlamaFileType.ALL_F32)
    tokenizer(w)
    for name, tensor in weights.items():
        data = tensor.numpy()
        if name in WHOLE:
            name = WHOLE[name]
        else:
            _, _, layer, rest = name.split(".", 3)
            rest, kind = rest.rsplit(".", 1)
            name = f"blk.{layer}.{TENSORS[rest]}.{kind}"
        if ".attn_q." in name:
            data = permute(data, cases.HEADS)
        if ".attn_k." in name:
            data = permute(data, case.kv_heads)
        if half and data.ndim == 2:
            data = data.astype(np.float16)
        w.add_tensor(name, np.ascontiguousarray(data))
    finish(w)


def check_model(path, ids, logits, **config):
    """transformers' own GGUF reader must find the same model."""
    folder, name = os.path.split(path)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32, **config).eval()
    with torch.no_grad():
        diff = close(name, model(input_ids=ids).logits, logits, LOGIT_TOL)
    print(f"  {name}: transformers' GGUF reader agrees, {diff:.1e}")


# ---- the other families ----

def write_family(name, out, folder, tokenizer=lambda w: None):
    """A tiny model of another family: gguf-py names the tensors, transformers' reader checks the file."""
    case = next(c for c in cases.CASES if c.name == name)
    path = os.path.join(folder, f"tiny-{name}.gguf")
    w = gguf.GGUFWriter(path, case.model_type)
    w.add_name(case.name)
    w.add_block_count(cases.LAYERS)
    w.add_context_length(cases.MAX_POS)
    w.add_embedding_length(cases.HIDDEN)
    w.add_feed_forward_length(cases.FFN)
    w.add_head_count(cases.HEADS)
    if case.model_type == "gpt2":
        w.add_layer_norm_eps(case.eps)
    else:
        w.add_head_count_kv(case.kv_heads)
        w.add_rope_freq_base(case.theta)
        w.add_layer_norm_rms_eps(case.eps)
    if case.head_dim != cases.HIDDEN // cases.HEADS:
        w.add_key_length(case.head_dim)
        w.add_value_length(case.head_dim)
    if case.model_type == "phi3":
        w.add_rope_dimension_count(case.head_dim)
        w.add_sliding_window(case.window)
    tokenizer(w)
    architecture = next(a for a, n in gguf.MODEL_ARCH_NAMES.items() if n == case.model_type)
    names = gguf.get_tensor_name_map(architecture, cases.LAYERS)
    for theirs, tensor in families.stored(case.model_type, cases.weights(case)).items():
        data = tensor.numpy()
        if theirs.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")):
            data = data.T  # as llama.cpp's converter does with GPT-2's
        kind = None
        if case.dtype == "bfloat16" and data.ndim == 2:
            kind, data = Kind.BF16, gguf.quants.quantize(data, Kind.BF16)
        w.add_tensor(names.get_name(theirs, (".weight", ".bias")), np.ascontiguousarray(data), raw_dtype=kind)
    finish(w)
    made = load_file(os.path.join(out, case.name, "golden.safetensors"))
    # transformers' reader overlooks some of GPT-2's sizes and Phi-3's window: it gets the config, and checks the tensors.
    config = AutoConfig.from_pretrained(os.path.join(out, name, "base"))
    check_model(path, made["input_ids"], made["base_logits"], config=config)


def make_families(out, folder):
    tok, entries = bpe_tokenizer()
    split = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated")
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])

    def tokenizer(w):
        w.add_tokenizer_model("gpt2")
        w.add_tokenizer_pre("qwen2")
        w.add_token_list(entries)
        w.add_token_types([TokenType.CONTROL] * len(CONTROL) + [TokenType.NORMAL] * (len(entries) - len(CONTROL)))
        w.add_token_merges(MERGES)
        w.add_eos_token_id(2)

    write_family("gpt2", out, folder)
    write_family("phi3", out, folder)
    write_family("qwen3", out, folder, tokenizer)
    rows = []
    for text in BPE_TEXTS:
        ids = tok.encode(text).ids
        rows.append({"text": text, "ids": ids, "decoded": tok.decode(ids, skip_special_tokens=False)})
    write_json(os.path.join(folder, "qwen2_tokens.json"), rows)


# ---- byte-level BPE, 128 entries ----

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
ALPHABET = [chr(c) for c in range(33, 127)] + ["Ġ", "Ċ"]  # printable ASCII, space, newline
MERGES = ["Ġ t", "h e", "i n", "Ġ a", "o u", "r e", "Ġt he", "e r", "Ġ s", "Ġ Ġ", "o n", "i s", "Ġ w", "i t", "in g",
          "a n", "e n", "Ġa n", "Ġan d", "o r", "Ġ o", "Ġo f", "s t", "a t", "Ċ Ċ", "Ġ he", "a s", "Ġw as"]
BPE_TEXTS = [
    "", "the", " the", "The cat was on the mat.", "and then, in the morning, it was raining", "a  b   c    d",
    " leading and trailing ", "line one\nline two\n\nline four\n", "it's they're I'll don't", "12345 and 6 7",
    "x=1;y=[2,3];", "<|im_start|>user\nhere<|im_end|>\n", "the<|endoftext|>the", "of the others standing as was",
    "UPPER lower MiXeD", "tabs\tand caf\u00e9 have bytes outside this vocabulary",
]


def bpe_tokenizer():
    entries = CONTROL + ALPHABET + [m.replace(" ", "") for m in MERGES]
    assert len(entries) == len(set(entries)) == cases.VOCAB, len(entries)
    tok = Tokenizer(models.BPE({t: i for i, t in enumerate(entries)}, [tuple(m.split(" ")) for m in MERGES]))
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in CONTROL])
    return tok, entries


def make_bpe_model(out, folder):
    tok, entries = bpe_tokenizer()

    def tokenizer(w):
        w.add_tokenizer_model("gpt2")
        w.add_tokenizer_pre("smollm")
        w.add_token_list(entries)
        w.add_token_types([TokenType.CONTROL] * len(CONTROL) + [TokenType.NORMAL] * (len(entries) - len(CONTROL)))
        w.add_token_merges(MERGES)
        w.add_bos_token_id(1)
        w.add_eos_token_id(2)
        w.add_unk_token_id(0)
        w.add_pad_token_id(3)
        w.add_add_bos_token(False)
        w.add_add_space_prefix(False)
        w.add_chat_template(CHAT_TEMPLATE)

    case = next(c for c in cases.CASES if c.name == "llama-gqa-tied")
    path = os.path.join(folder, "tiny-llama.gguf")
    write_model(path, case, cases.weights(case), False, tokenizer)
    made = load_file(os.path.join(out, case.name, "golden.safetensors"))
    check_model(path, made["input_ids"], made["base_logits"])
    rows = []
    for text in BPE_TEXTS:
        ids = tok.encode(text).ids
        rows.append({"text": text, "ids": ids, "decoded": tok.decode(ids, skip_special_tokens=False)})
    assert all(r["decoded"] == r["text"] for r in rows[:-1])
    write_json(os.path.join(folder, "bpe_tokens.json"), rows)


# ---- one model in two files ----

def make_split(folder):
    """The lowest layer of a tiny model: gguf-py splits it, transformers reads it whole."""
    case = next(c for c in cases.CASES if c.name == "llama-gqa-tied")
    weights = {k: v.half().float() if v.dim() == 2 else v for k, v in cases.weights(case).items()
               if ".layers." not in k or ".layers.0." in k}

    def write(path, **split):
        write_model(path, case, weights, True, lambda w: None, layers=1, **split)

    with tempfile.TemporaryDirectory() as whole:
        write(os.path.join(whole, "tiny-split.gguf"))
        model = AutoModelForCausalLM.from_pretrained(whole, gguf_file="tiny-split.gguf", dtype=torch.float32).eval()
    ids = torch.tensor([[5, 17, 42, 99, 3, 64, 7, 120]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    save(os.path.join(folder, "tiny-split.safetensors"), {"input_ids": ids, "logits": logits})
    write(os.path.join(folder, "tiny-split.gguf"), split_max_tensors=6)


# ---- SentencePiece, 320 entries ----

SPM_TEXTS = [
    "", "the", " the", "  two spaces", "the garden was small", "the  garden   was    small ", "Capital Letters",
    "line one\nline two\n", "a\ttab", "12345 and 6,7", "caf\u00e9 na\u00efve", "\u65e5\u672c\u8a9e", "smile \U0001f600 now",
    "x=1; y=[2,3]", "it's a plum tree, in the end.", "ththththe", "in the year of the slugs they were there",
]


def train_sentencepiece():
    """A real SentencePiece BPE model with byte fallback, trained on the essay in small letters."""
    with open(os.path.join(HERE, "smollm2", "text.txt"), encoding="utf-8") as f:
        lines = [re.sub(r"[^a-z ,.']", "", line.lower()) for line in f.read().split("\n") if line]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=SPM_CASE.vocab,
        byte_fallback=True, character_coverage=1.0, normalization_rule_name="identity",
        remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True, num_threads=1,
        max_sentence_length=16384, minloglevel=2)
    return model.getvalue()


def make_spm_model(folder):
    raw = train_sentencepiece()
    with open(os.path.join(folder, "spm_tokenizer.model"), "wb") as f:
        f.write(raw)
    sp = sentencepiece.SentencePieceProcessor(model_proto=raw)
    n = sp.get_piece_size()
    assert n == SPM_CASE.vocab

    def kind(i):
        return (TokenType.UNKNOWN if sp.is_unknown(i) else TokenType.CONTROL if sp.is_control(i)
                else TokenType.BYTE if sp.is_byte(i) else TokenType.NORMAL)

    def tokenizer(w):
        w.add_tokenizer_model("llama")
        w.add_tokenizer_pre("default")
        w.add_token_list([sp.id_to_piece(i) for i in range(n)])
        w.add_token_scores([sp.get_score(i) for i in range(n)])
        w.add_token_types([kind(i) for i in range(n)])
        w.add_bos_token_id(1)
        w.add_eos_token_id(2)
        w.add_unk_token_id(0)
        w.add_add_bos_token(True)
        w.add_add_eos_token(False)
        w.add_add_space_prefix(True)
        w.add_chat_template(SPM_CHAT_TEMPLATE)

    # Matrices are stored as F16, so round them first: then the file holds exactly the golden's weights.
    weights = {k: v.half().float() if v.dim() == 2 else v for k, v in cases.weights(SPM_CASE).items()}
    path = os.path.join(folder, "tiny-llama-spm.gguf")
    write_model(path, SPM_CASE, weights, True, tokenizer)
    ids = torch.from_numpy(np.random.default_rng(SPM_CASE.seed).integers(3, SPM_CASE.vocab, (2, 20)))
    with torch.no_grad():
        logits = reference.batch(weights, cases.config(SPM_CASE), ids)
    check_model(path, ids, logits)
    save(os.path.join(folder, "tiny-llama-spm.safetensors"), {"input_ids": ids, "logits": logits})
    rows = [{"text": t, "ids": sp.encode(t), "decoded": sp.decode(sp.encode(t))} for t in SPM_TEXTS]
    assert all(r["decoded"] == r["text"] for r in rows), [r for r in rows if r["decoded"] != r["text"]]
    write_json(os.path.join(folder, "spm_tokens.json"), rows)


def make(out):
    print("gguf")
    folder = os.path.join(out, "gguf")
    os.makedirs(folder, exist_ok=True)
    make_quants(folder)
    make_bpe_model(out, folder)
    make_split(folder)
    make_spm_model(folder)
    make_families(out, folder)
