"""Goldens of a real model: greedy text, perplexity, an adapter, token ids and the chat template."""

import os
import shutil
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
from peft import AdaptionPromptConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import smollm2_hf
from tiny import save, write_json

HERE = os.path.dirname(os.path.abspath(__file__))
BASE_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
NEW_TOKENS, WINDOW, MIN_GAP, COLUMN_STEP = 32, 512, 0.02, 64
ADAPTER_LEN, ADAPTER_LAYERS, ADAPTER_PROMPT_TOKENS = 4, 2, 24

PROMPTS = [
    "The capital of France is",
    "Once upon a time there was a",
    "def add(a, b):\n    return",
    "1, 2, 3, 4, 5, 6,",
    "The cat sat on the mat and",
]

TEXTS = [
    "", "Hello, world!", " leading space", "   three leading, two trailing  ", "line one\nline two\r\n\n\n\tindented",
    "In 1999 it cost 12,345.67 dollars; \u00bd and \u00b2 and \u0664\u0662.",
    "na\u00efve caf\u00e9 \u2014 \u201cquoted\u201d \u00df \u0141\u00f3d\u017a",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8 \u0438 \u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u0639\u0631\u0628\u064a",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 flags \U0001f1eb\U0001f1f7",
    "for (int i = 0; i < n; ++i) { sum += a[i] * 2; } // done",
    "I'm sure they'll say it's what we'd've done",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "text<|endoftext|>more <|im_end|> end",
    "e\u0301 combining, zero\u200bwidth, no\u00a0break", "aaaaaaaaaaaaaaaaaaaaaaaa https://example.org/a_b?c=d&e=%20f",
]

CHATS = [
    [{"role": "user", "content": "What is a llama?"}],
    [{"role": "system", "content": "You answer in one word."}, {"role": "user", "content": "Colour of the sky?"}],
    [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello. How can I help?"},
     {"role": "user", "content": "Two lines,\nplease: \u00e9 \U0001f600"}],
]


def greedy(model, tok, prompt):
    """32 greedy tokens; every choice must win by MIN_GAP, so that rounding can't change it."""
    ids = tok(prompt, add_special_tokens=False).input_ids
    row, cache = list(ids), None
    step = torch.tensor([ids])
    for _ in range(NEW_TOKENS):
        out = model(input_ids=step, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        row.append(int(out.logits[0, -1].argmax()))
        step = torch.tensor([[row[-1]]])
    logits = model(input_ids=torch.tensor([row])).logits[0, len(ids) - 1 : -1]
    assert logits.argmax(-1).tolist() == row[len(ids) :]
    top = logits.topk(2).values
    gap = (top[:, 0] - top[:, 1]).min().item()
    continuation = row[len(ids) :]
    print(f"  gap {gap:.3f}  {tok.decode(row)!r}")
    return {"prompt": prompt, "ids": ids, "continuation": continuation,
            "continuation_text": tok.decode(continuation), "smallest_gap": round(gap, 4)}


def perplexity(model, tok, text):
    ids = tok(text, add_special_tokens=False).input_ids
    total, count, windows = 0.0, 0, []
    for at in range(0, len(ids), WINDOW):
        window = torch.tensor([ids[at : at + WINDOW]])
        n = window.shape[1] - 1
        if n < 1:
            continue
        logits = model(input_ids=window).logits[0, :-1]
        nll = F.cross_entropy(logits.double(), window[0, 1:], reduction="sum").item()
        windows.append({"tokens": n + 1, "mean_nll": round(nll / n, 7)})
        total, count = total + nll, count + n
    mean = total / count
    return {"file": "text.txt", "window": WINDOW, "tokens": len(ids), "predicted_tokens": count,
            "mean_nll": round(mean, 7), "perplexity": round(float(np.exp(mean)), 5), "windows": windows}


def compact(prefix, logits):
    return {prefix + "logits_cols": logits[..., ::COLUMN_STEP], prefix + "logsumexp": logits.logsumexp(-1),
            prefix + "argmax": logits.argmax(-1)}


def adapter(model, tok, text, folder):
    """A PEFT adapter with open gates, and what it does to 24 tokens of text.txt."""
    ids = torch.tensor([tok(text, add_special_tokens=False).input_ids[:ADAPTER_PROMPT_TOKENS]])
    with torch.no_grad():
        base = model(input_ids=ids, labels=ids)
    out = {"input_ids": ids, "base_loss": base.loss.reshape(1)} | compact("base_", base.logits)
    rng = np.random.default_rng(135)
    peft = get_peft_model(model, AdaptionPromptConfig(
        adapter_len=ADAPTER_LEN, adapter_layers=ADAPTER_LAYERS, task_type="CAUSAL_LM")).eval()
    params = {k: p for k, p in peft.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for k, p in sorted(params.items()):
            new = rng.choice([-1, 1], 1) * rng.uniform(0.15, 0.6, 1) if k.endswith("gate") else rng.standard_normal(p.shape)
            p.copy_(torch.from_numpy(new.astype(np.float32)))
    result = peft(input_ids=ids, labels=ids)
    result.loss.backward()
    out |= {"loss": result.loss.reshape(1)} | compact("", result.logits)
    out |= {"grad." + k: p.grad for k, p in params.items()}
    moved = (result.logits - base.logits).abs().max().item()
    print(f"  adapter: loss {base.loss.item():.4f} -> {result.loss.item():.4f}, moves logits by up to {moved:.2f}, "
          f"keys {sorted(params)}")
    peft.peft_config["default"].base_model_name_or_path = BASE_NAME
    shutil.rmtree(folder, ignore_errors=True)
    peft.save_pretrained(folder, save_embedding_layers=False)
    os.chmod(os.path.join(folder, "adapter_model.safetensors"), 0o644)
    if os.path.exists(os.path.join(folder, "README.md")):
        os.remove(os.path.join(folder, "README.md"))
    return {"adapter." + k: v for k, v in out.items()}


def tokens(tok):
    rows = []
    for text in TEXTS:
        ids = tok(text, add_special_tokens=False).input_ids
        rows.append({"text": text, "ids": ids, "ids_with_special": tok(text).input_ids,
                     "decoded": tok.decode(ids, skip_special_tokens=False),
                     "decoded_skip_special": tok.decode(ids, skip_special_tokens=True)})
    return rows


def chats(tok):
    rows = []
    for messages in CHATS:
        for generate in (False, True):
            text = tok.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate)
            rows.append({"messages": messages, "add_generation_prompt": generate, "text": text,
                         "ids": tok(text, add_special_tokens=False).input_ids})
    return rows


def make(out, gguf_path, keep):
    print("smollm2")
    folder = os.path.join(out, "smollm2")
    os.makedirs(folder, exist_ok=True)
    source = os.path.join(HERE, "smollm2", "text.txt")
    if not os.path.samefile(folder, os.path.dirname(source)):
        shutil.copy(source, folder)
    with open(source, encoding="utf-8") as f:
        text = f.read()
    with tempfile.TemporaryDirectory() as tmp:
        hf = keep or tmp
        smollm2_hf.convert(gguf_path, hf)
        tok = AutoTokenizer.from_pretrained(hf)
        model = AutoModelForCausalLM.from_pretrained(hf, dtype=torch.float32).eval()
        write_json(os.path.join(folder, "tokens.json"), tokens(tok))
        write_json(os.path.join(folder, "chat.json"), chats(tok))
        with torch.no_grad():
            rows = [greedy(model, tok, p) for p in PROMPTS]
            ppl = perplexity(model, tok, text)
            first = {}
            for i, row in enumerate(rows):
                ids = torch.tensor([row["ids"]])
                first |= compact(f"prompt{i}.", model(input_ids=ids).logits[:, -1]) | {f"prompt{i}.input_ids": ids}
        print("  perplexity", ppl)
        assert all(r["smallest_gap"] >= MIN_GAP for r in rows), [r["smallest_gap"] for r in rows]
        write_json(os.path.join(folder, "golden.json"), rows)
        write_json(os.path.join(folder, "perplexity.json"), ppl)
        first |= adapter(model, tok, text, os.path.join(folder, "adapter"))
        save(os.path.join(folder, "golden.safetensors"), first)
