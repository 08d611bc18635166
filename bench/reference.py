"""One measurement of transformers and PEFT: a task in JSON ─► a line of JSON. Runs in the reference's environment.

    python reference.py '{"task": "train", ...}'

One process a measurement, so that its peak memory is its own."""

import os
import time

STARTED = time.perf_counter()
os.environ["HF_HUB_OFFLINE"] = "1"  # everything is in folders
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import json
import sys
from contextlib import nullcontext

import torch
import torch.nn.functional as F
import transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

IMPORTED = time.perf_counter()

IGNORED = -100
PROMPT = ("Below is an instruction that describes a task. Write a response that appropriately completes the request."
          "\n\n### Instruction:\n{instruction}\n\n### Response:")
PROMPT_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}"
    "\n\n### Response:")


def load(task):
    """The frozen model; autocast keeps its weights in f32."""
    dtype = torch.bfloat16 if task["precision"] == "bf16" else torch.float32
    return AutoModelForCausalLM.from_pretrained(task["model"], dtype=dtype).to(device(task))


def device(task):
    return torch.device(task.get("device", "cpu"))


def wait(place):
    """Until a device has done what it was given; the processor does it at once."""
    if place.type == "cuda":
        torch.cuda.synchronize(place)


def device_peak_bytes(task):
    """The most memory that tensors took on a device; nothing for the processor."""
    return torch.cuda.max_memory_allocated() if device(task).type == "cuda" else None


def with_adapter(model, task, learns):
    if not task.get("adapter"):
        return model
    return PeftModel.from_pretrained(model, task["adapter"], is_trainable=learns).to(device(task))


def resident_bytes():
    """Memory of this process now; Linux alone tells."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


# Training.

MAX_LEN = 512


def example(row, tokenizer):
    """encode(prompt + output) and an end token, cut to as many as `train` takes; the labels of the prompt are ignored."""
    prompt = (PROMPT_WITH_INPUT if row["input"] else PROMPT).format(**row)
    ids = tokenizer(prompt + row["output"]).input_ids + [tokenizer.eos_token_id]
    masked = min(len(tokenizer(prompt).input_ids), len(ids) - 1)
    return ids[:MAX_LEN], ([IGNORED] * masked + ids[masked:])[:MAX_LEN]


def batch(examples, padding):
    """Rows padded on the right to the longest of them."""
    length = max(len(ids) for ids, _ in examples)

    def padded(rows, value):
        return torch.stack([F.pad(torch.tensor(row), (0, length - len(row)), value=value) for row in rows])

    return {
        "input_ids": padded([ids for ids, _ in examples], padding),
        "labels": padded([labels for _, labels in examples], IGNORED),
        "attention_mask": padded([[1] * len(ids) for ids, _ in examples], 0),
    }


def batches(task):
    """One batch for each learning rate: the rows in the order of the file."""
    tokenizer = AutoTokenizer.from_pretrained(task["model"])
    with open(task["rows"], encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    size = task["batch"]
    for step in range(len(task["learning_rates"])):
        taken = rows[step * size:(step + 1) * size]
        yield batch([example(row, tokenizer) for row in taken], tokenizer.pad_token_id)


def train(task):
    """Steps of AdamW, each timed. Stops behind the step that passes `limit_seconds`."""
    model = with_adapter(load(task), task, learns=True).train()
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=task["learning_rates"][0], betas=(0.9, 0.95), weight_decay=0.02, eps=1e-8)
    autocast = task["precision"] == "autocast"
    steps, spent, place = [], 0.0, device(task)
    for rate, given in zip(task["learning_rates"], list(batches(task))):
        wait(place)
        start = time.perf_counter()
        given = {name: values.to(place) for name, values in given.items()}
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        with torch.autocast(place.type, dtype=torch.bfloat16) if autocast else nullcontext():
            loss = model(**given).loss
        loss.backward()
        optimizer.step()
        value = loss.item()
        wait(place)
        seconds = time.perf_counter() - start
        rows, _ = given["input_ids"].shape
        steps.append({"seconds": seconds, "loss": value, "rows": rows, "slots": given["input_ids"].numel(),
                      "labels": int((given["labels"][:, 1:] != IGNORED).sum())})
        spent += seconds
        if task["limit_seconds"] and spent > task["limit_seconds"]:
            break
    return {"steps": steps, "learning": sum(p.numel() for p in learning), "adapter": str(learning[0].dtype),
            "device_peak_bytes": device_peak_bytes(task)}


# Generation.


class Clock(transformers.StoppingCriteria):
    """Notes when each token is there; stops nothing."""

    def __init__(self):
        self.times = []

    def __call__(self, input_ids, scores, **_):
        wait(input_ids.device)
        self.times.append(time.perf_counter())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def answer(model, prompts, new_tokens):
    """Greedy, never ending early, as `generate` does it."""
    ids = torch.tensor(prompts, device=model.device)
    clock = Clock()
    start = time.perf_counter()
    written = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
                             max_new_tokens=new_tokens, stopping_criteria=[clock])
    tokens = written[:, ids.shape[1]:].tolist()
    first, last = clock.times[0], clock.times[-1]
    return {"tokens": tokens, "prompt_tokens": ids.numel(), "seconds_prompt": first - start,
            "decoded_tokens": sum(len(row) - 1 for row in tokens), "seconds_decode": last - first}


def never_ending(model):
    model.generation_config.eos_token_id = None
    return model.eval()


def generate(task):
    """Each of the requests, after one unmeasured pass over a few tokens."""
    model = never_ending(with_adapter(load(task), task, learns=False))
    with torch.inference_mode():
        answer(model, [row[:8] for row in task["requests"][0]["prompts"]], 2)
        answers = [answer(model, request["prompts"], request["new_tokens"]) for request in task["requests"]]
        return {"answers": answers, "device_peak_bytes": device_peak_bytes(task)}


def load_only(task):
    """Time and memory until the model is there, and after its first token."""
    model = never_ending(load(task))
    AutoTokenizer.from_pretrained(task["model"])
    loaded = time.perf_counter()
    after_load = resident_bytes()
    with torch.inference_mode():
        answer(model, [task["prompt"]], 1)
    return {"seconds_import": IMPORTED - STARTED, "seconds_load": loaded - IMPORTED, "bytes_loaded": after_load,
            "bytes_answered": resident_bytes()}


def main():
    task = json.loads(sys.argv[1])
    torch.set_num_threads(task["threads"])
    torch.manual_seed(task["seed"])
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print(json.dumps({"train": train, "generate": generate, "load": load_only}[task["task"]](task)))


if __name__ == "__main__":
    main()
