"""One measurement of llama.cpp: a task in JSON ─► a line of JSON. Runs in the reference's environment.

    python llamacpp.py '{"task": "generate", ...}'
    python llamacpp.py quantise FROM.gguf TO.gguf Q8_0

A process of its own for each: some of its formats crash on some processors. (This file is not called `llama_cpp`: Python
would take it for the package.)"""

import time

STARTED = time.perf_counter()

import json
import os
import sys

import llama_cpp
import numpy as np

IMPORTED = time.perf_counter()


def resident_bytes():
    """Memory of this process now; Linux alone tells."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def fail(text):
    sys.exit(f"llama.cpp: {text}")


def load(path):
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = 0
    return llama_cpp.llama_load_model_from_file(str(path).encode(), params) or fail(f"cannot load {path}")


class Session:
    """A model's memory for some rows."""

    def __init__(self, model, rows, length, threads):
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = rows * (length + 32)
        params.n_batch = rows * length
        params.n_seq_max = rows
        params.n_threads = params.n_threads_batch = threads
        self.context = llama_cpp.llama_new_context_with_model(model, params) or fail("cannot make a context")
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self.batch = llama_cpp.llama_batch_init(rows * length, 0, 1)

    def read(self, rows, position):
        """Goes on with equally long rows of tokens, and gives each row's likeliest next token."""
        batch, last = self.batch, []
        for row, tokens in enumerate(rows):
            for i, token in enumerate(tokens):
                n = row * len(tokens) + i
                batch.token[n], batch.pos[n] = token, position + i
                batch.n_seq_id[n], batch.seq_id[n][0] = 1, row
                batch.logits[n] = i == len(tokens) - 1
            last.append((row + 1) * len(tokens) - 1)
        batch.n_tokens = sum(map(len, rows))
        if llama_cpp.llama_decode(self.context, batch) != 0:
            fail("llama_decode failed")
        logits = (llama_cpp.llama_get_logits_ith(self.context, n) for n in last)
        return [int(np.ctypeslib.as_array(row, (self.vocab,)).argmax()) for row in logits]

    def close(self):
        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_free(self.context)


def answer(model, prompts, new_tokens, threads):
    """Greedy, never ending early."""
    length = len(prompts[0])
    session = Session(model, len(prompts), length + new_tokens, threads)
    start = time.perf_counter()
    tokens = [[token] for token in session.read(prompts, 0)]
    first = time.perf_counter()
    for n in range(new_tokens - 1):
        for row, token in zip(tokens, session.read([[row[-1]] for row in tokens], length + n)):
            row.append(token)
    last = time.perf_counter()
    session.close()
    return {"tokens": tokens, "prompt_tokens": sum(map(len, prompts)), "seconds_prompt": first - start,
            "decoded_tokens": sum(len(row) - 1 for row in tokens), "seconds_decode": last - first}


def generate(task):
    """Each of the requests, after one unmeasured pass over a few tokens."""
    model = load(task["model"])
    threads = task["threads"]
    answer(model, [row[:8] for row in task["requests"][0]["prompts"]], 2, threads)
    return {"answers": [answer(model, request["prompts"], request["new_tokens"], threads)
                        for request in task["requests"]]}


def load_only(task):
    """Time and memory until the model is there, and after its first token. Its file is mapped, and counts once read."""
    model = load(task["model"])
    loaded, after_load = time.perf_counter(), resident_bytes()
    answer(model, [task["prompt"]], 1, task["threads"])
    return {"seconds_import": IMPORTED - STARTED, "seconds_load": loaded - IMPORTED, "bytes_loaded": after_load,
            "bytes_answered": resident_bytes()}


def quantise(source, path, kind):
    """Writes a GGUF in another format; a file that is there is whole."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    unfinished = path + ".part"
    if llama_cpp.llama_model_quantize(source.encode(), unfinished.encode(), params) != 0:
        fail(f"cannot make {kind}")
    os.replace(unfinished, path)


def main():
    if sys.argv[1] == "quantise":
        return quantise(*sys.argv[2:])
    task = json.loads(sys.argv[1])
    print(json.dumps({"generate": generate, "load": load_only}[task["task"]](task)))
    return None


if __name__ == "__main__":
    main()
