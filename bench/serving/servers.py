"""Starts the servers that are measured, and makes the adapters that ours serves."""

import asyncio
import json
import random
import re
import socket
import struct
import subprocess
import time
from array import array
from pathlib import Path

from process import Failed

from . import client

SEED = 20
GATE, DEVIATION = 0.3, 0.02
START_SECONDS = 300


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A running server. Its words go to a file."""

    def __init__(self, name, command, port, log, *, ready, key=None, env=None):
        self.name, self.log, self.ready = name, log, ready
        self.address = client.Address("127.0.0.1", port, key)
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "wb") as file:
            self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=file,
                                            stderr=subprocess.STDOUT, env=env)

    async def wait_until_ready(self):
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended with {self.process.returncode}", self.log.read_text(errors="replace"))
            try:
                answer = await client.request(self.address, "GET", self.ready)
                await answer.body()
                if answer.status == 200:
                    return
            except OSError:
                pass
            await asyncio.sleep(0.1)
        raise Failed(f"{self.name} is not ready after {START_SECONDS} s", self.log.read_text(errors="replace"))

    def memory(self):
        """Resident bytes now, and at the peak."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return {name: int(re.search(rf"{field}:\s+(\d+)", status)[1]) << 10
                for name, field in (("resident", "VmRSS"), ("peak", "VmHWM"))}

    def stop(self, seconds=60):
        """Asks it to end, and gives its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None


def ours(program, log, *, model=None, name="base", adapters=(), options=(), key=None):
    """Our server. `adapters` are folders, served by their names."""
    port = free_port()
    command = [program, "serve", "--listen", f"127.0.0.1:{port}", "--served-name", name, *options]
    if model:
        command += ["--model", model]
    for folder in adapters:
        command += ["--adapter", f"{folder.name}={folder}"]
    return Server("llama-adapter", command, port, log, ready="/health/ready", key=key)


def llama_server(program, log, *, name, model, rows, context, threads):
    """llama.cpp's own server, with as many sequences in a batch as there are clients."""
    port = free_port()
    command = [program, "--host", "127.0.0.1", "--port", port, "--model", model, "--parallel", rows,
               "--ctx-size", rows * context, "--threads", threads, "--threads-batch", threads, "--no-webui"]
    return Server(name, command, port, log, ready="/health")


def llama_cpp_python(python, log, *, name, model, context, threads):
    """The server of llama.cpp's Python package, which answers one request at a time."""
    port = free_port()
    command = [python, "-m", "llama_cpp.server", "--host", "127.0.0.1", "--port", port, "--model", model,
               "--n_ctx", context, "--n_threads", threads, "--n_threads_batch", threads,
               # Without it, a new request ends the one that is being answered.
               "--interrupt_requests", "false"]
    return Server(name, command, port, log, ready="/v1/models")


def make_adapters(program, folder, count, *, model=None, prompt_len=10):
    """Adapters with random prompts in every layer and open gates, in PEFT's format."""
    command = [program, "inspect", "--json"] + ([model] if model else [])
    found = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout
    config = json.loads(found)["config"]
    layers, width = config["n_layers"], config["d_model"]
    made = []
    for n in range(count):
        random_numbers = random.Random(SEED + n)
        path = folder / f"adapter-{n}"
        path.mkdir(parents=True, exist_ok=True)
        write_adapter(path, random_numbers, layers, width, prompt_len)
        made.append(path)
    return made


def write_adapter(path, numbers, layers, width, prompt_len):
    tensors = {}
    for layer in range(layers):
        attention = f"base_model.model.model.layers.{layer}.self_attn"
        tensors[f"{attention}.adaption_gate"] = ([1], [numbers.uniform(-GATE, GATE)])
        prompt = [numbers.gauss(0, DEVIATION) for _ in range(prompt_len * width)]
        tensors[f"{attention}.adaption_prompt"] = ([1, prompt_len, width], prompt)
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        begin = len(data)
        data += array("f", values).tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    (path / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    config = {"peft_type": "ADAPTION_PROMPT", "task_type": "CAUSAL_LM", "adapter_len": prompt_len,
              "adapter_layers": layers, "target_modules": "self_attn", "inference_mode": True}
    (path / "adapter_config.json").write_text(json.dumps(config))
