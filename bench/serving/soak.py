"""Many clients that behave well, badly and oddly, for a while; then: is everything given back, and the memory flat?

Every answer is judged: a good request gets the answer that it got alone, a bad one an error in OpenAI's shape.
"""

import asyncio
import json
import random
import shutil
import time
from collections import Counter

from process import say

from . import client, servers

WORKERS = 24
ADAPTERS = 4
MAX_ROWS, MAX_QUEUE = 8, 16
USER_KEY, ADMIN_KEY = "soak-user", "soak-admin"
GIVE_BACK_SECONDS = 30
# Growth of the resident memory over the last third that still counts as flat.
FLAT_SHARE, FLAT_BYTES = 0.02, 4 << 20
GAUGES = ("llama_adapter_queue_depth", "llama_adapter_rows", 'llama_adapter_cache_blocks{state="used"}')

BAD_BODIES = [
    b"", b"null", b"[]", b"{", b'"text"', b"\xff\xfe{}", b'{"model": 1}', b"{}" * 3,
    b"[" * 100_000, b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    b'{"model": "base", "messages": "no"}', b'{"model": "base", "messages": []}',
    b'{"model": "base", "messages": [{"role": "user", "content": 1}]}',
    b'{"model": "base", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1e400}',
    b'{"model": "base", "messages": [{"role": "user", "content": "a"}], "temperature": -1}',
    b'{"model": "base", "messages": [{"role": "user", "content": "a"}], "n": 1000000}',
    b'{"model": "base", "messages": [{"role": "user", "content": "a"}], "stop": 1}',
    b'{"model": "base", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,@@"}}]}]}',
    b'{"model": "base", "messages": [{"role": "user", "content": "\xed\xa0\x80"}]}',
]


class Broken(Exception):
    """The server did something that it must not do."""


class Soak:
    def __init__(self, server, adapters, folder, seed):
        self.server, self.adapters, self.folder = server, adapters, folder
        self.user = client.Address(server.address.host, server.address.port, USER_KEY)
        self.admin = client.Address(server.address.host, server.address.port, ADMIN_KEY)
        self.random = random.Random(seed)
        self.requests, self.expected = [], {}
        self.counts, self.broken = Counter(), []
        self.memory = []

    # What the clients do.

    def ordinary_request(self):
        """One of a few requests, so that each one is answered many times in different company."""
        return self.random.randrange(len(self.requests))

    def make_requests(self):
        models = ["base"] + [f"base:{path.name}" for path in self.adapters]
        words = "Say what Ada does for a living and whose pet Nutmeg is".split()
        for n in range(16):
            prompt = " ".join(self.random.choices(words, k=self.random.randint(1, 40)))
            self.requests.append({"model": models[n % len(models)], "prompt": prompt, "max_tokens": self.random.randint(1, 60),
                                  "temperature": 0 if n % 2 else 0.9, "seed": n, "ignore_eos": n % 3 == 0})

    async def post(self, body, path="/v1/completions", address=None, **options):
        return await client.request(address or self.user, "POST", path, body, **options)

    async def expect(self, answer, *statuses):
        """The body of an answer with one of these statuses. A server that is full may always say so."""
        body = await answer.body()
        self.counts[answer.status] += 1
        if answer.status == 429:
            if not answer.headers.get("retry-after", "").isdigit():
                raise Broken("429 without Retry-After")
            await asyncio.sleep(self.random.uniform(0, 0.5))
            return None
        if answer.status not in statuses:
            raise Broken(f"{answer.status} instead of {statuses}: {body[:200]!r}")
        found = json.loads(body)
        if answer.status >= 400 and set(found["error"]) != {"message", "type", "param", "code"}:
            raise Broken(f"an error in another shape: {body[:200]!r}")
        return found

    def compare(self, index, texts):
        if texts != self.expected.setdefault(index, texts):
            raise Broken(f"request {index} was answered {texts!r}, alone {self.expected[index]!r}")

    async def whole(self):
        index = self.ordinary_request()
        found = await self.expect(await self.post(self.requests[index]), 200)
        if found:
            self.compare(index, found["choices"][0]["text"])

    async def streamed(self):
        index = self.ordinary_request()
        answer = await self.post(self.requests[index] | {"stream": True})
        if answer.status != 200:
            return await self.expect(answer)
        self.counts[200] += 1
        texts = [choice["text"] async for event in answer.events() for choice in event["choices"]]
        answer.close()
        self.compare(index, "".join(texts))

    async def chat(self):
        body = {"model": "base", "messages": [{"role": "user", "content": "Who is Ada?"}], "max_tokens": 20, "n": 2}
        found = await self.expect(await self.post(body, "/v1/chat/completions"), 200)
        if found and len(found["choices"]) != 2:
            raise Broken("n was 2")

    async def cut(self):
        """Leaves in the middle of an answer, or before it has begun."""
        answer = await self.post(self.requests[self.ordinary_request()] | {"stream": True, "ignore_eos": True, "n": 2})
        left = self.random.randint(0, 6)
        async for _ in answer.pieces():
            if left == 0:
                break
            left -= 1
        answer.abort()
        self.counts["cut"] += 1

    async def slow_reader(self):
        answer = await self.post(self.requests[self.ordinary_request()] | {"stream": True}, limit=256)
        async for _ in answer.pieces():
            await asyncio.sleep(0.05)
        answer.close()
        self.counts["slow reader"] += 1

    async def half_a_request(self):
        _, writer = await asyncio.open_connection(self.user.host, self.user.port)
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(self.random.uniform(0, 1))
        writer.transport.abort()
        self.counts["half a request"] += 1

    async def bad_body(self):
        path = self.random.choice(("/v1/completions", "/v1/chat/completions"))
        await self.expect(await self.post(self.random.choice(BAD_BODIES), path), 400, 404, 422)

    async def too_long(self):
        await self.expect(await self.post({"model": "base", "prompt": "Ada " * 20_000, "max_tokens": 5}), 400, 413)

    async def too_large(self):
        try:
            await self.expect(await self.post(b" " * (11 << 20)), 413)
        except ConnectionError:
            self.counts["refused while sending"] += 1  # closed before all of it was sent

    async def stranger(self):
        nobody = client.Address(self.user.host, self.user.port, "guess")
        await self.expect(await self.post({}, address=nobody), 401)
        await self.expect(await client.request(self.user, "GET", "/admin/adapters"), 403)

    async def unknown_model(self):
        await self.expect(await self.post({"model": "base:nobody", "prompt": "a"}), 404)

    async def changed_adapter(self):
        """Loads an adapter, breaks its files while it is served, and takes it away."""
        name = f"passing-{self.random.getrandbits(32):x}"
        path = self.folder / name
        shutil.copytree(self.adapters[0], path)
        body = {"name": name, "path": str(path)}
        await self.expect(await self.post(body, "/admin/adapters", self.admin), 200, 201)
        request = {"model": f"base:{name}", "prompt": "Ada", "max_tokens": 5}
        await self.expect(await self.post(request), 200)
        (path / "adapter_model.safetensors").write_bytes(b"broken")
        # The files are looked at now and then: the adapter in memory may answer, but nothing else may happen.
        await self.expect(await self.post(request), 200, 400, 404, 500, 503)
        answer = await client.request(self.admin, "DELETE", f"/admin/adapters/{name}")
        await answer.body()
        shutil.rmtree(path)
        if answer.status not in (200, 204):
            raise Broken(f"unloading: {answer.status}")
        self.counts["changed adapter"] += 1

    ACTIONS = {whole: 30, streamed: 30, chat: 8, cut: 12, slow_reader: 4, half_a_request: 3, bad_body: 12, too_long: 2,
               too_large: 1, stranger: 2, unknown_model: 2, changed_adapter: 2}

    # The run.

    async def worker(self, end):
        actions, weights = zip(*self.ACTIONS.items())
        while time.monotonic() < end:
            [action] = self.random.choices(actions, weights)
            try:
                await action(self)
            except (Broken, OSError, client.BadAnswer, asyncio.IncompleteReadError, ValueError, KeyError) as error:
                self.broken.append(f"{action.__name__}: {error!r}")
                await asyncio.sleep(0.1)

    async def watch_memory(self):
        while True:
            self.memory.append(self.server.memory()["resident"])
            await asyncio.sleep(0.5)

    async def run(self, seconds):
        self.make_requests()
        for index, request in enumerate(self.requests):
            found = await self.expect(await self.post(request), 200)
            self.compare(index, found["choices"][0]["text"])
        end = time.monotonic() + seconds
        watch = asyncio.create_task(self.watch_memory())
        await asyncio.gather(*(self.worker(end) for _ in range(WORKERS)))
        watch.cancel()
        await self.check_given_back()
        self.check_memory()
        if (code := self.server.stop()) != 0:
            self.broken.append(f"after SIGTERM the server ended with {code}")

    async def check_given_back(self):
        end = time.monotonic() + GIVE_BACK_SECONDS
        while True:
            values = await client.metrics(self.user)
            held = {name: value for name, value in values.items() if name.startswith(GAUGES) and value}
            if not held:
                break
            if time.monotonic() > end:
                self.broken.append(f"not given back: {held}")
                break
            await asyncio.sleep(0.2)
        self.counts["preemptions"] = int(values.get("llama_adapter_preemptions_total", 0))
        if errors := values.get("llama_adapter_engine_errors_total", 0):
            self.broken.append(f"{errors:.0f} errors of the engine")
        for path in ("/health/live", "/health/ready"):
            answer = await client.request(self.user, "GET", path)
            await answer.body()
            if answer.status != 200:
                self.broken.append(f"{path}: {answer.status}")

    def check_memory(self):
        """Compares the halves of the last third."""
        last = self.memory[-len(self.memory) // 3:]
        half = len(last) // 2
        before, after = median(last[:half]), median(last[half:])
        self.growth = after - before
        if self.growth > max(FLAT_SHARE * before, FLAT_BYTES):
            self.broken.append(f"memory grew by {self.growth / 2**20:.1f} MiB in the last third, from {before / 2**20:.1f}")


def median(numbers):
    return sorted(numbers)[len(numbers) // 2] if numbers else 0


async def run(program, folder, log, seconds, *, model=None, seed=1):
    """Runs it and tells what happened; gives whether all was well."""
    adapters = servers.make_adapters(program, folder / "adapters", ADAPTERS, model=model)
    keys = folder / "keys"
    keys.write_text(f"{USER_KEY}\nadmin {ADMIN_KEY}\n")
    # Few rows and a small cache, so that requests wait, are refused and are preempted.
    options = ["--max-rows", MAX_ROWS, "--max-queue", MAX_QUEUE, "--api-key-file", keys, "--adapter-root", folder]
    options += ["--cache-bytes", "256MiB" if model else "1536KiB"]
    server = servers.ours(program, log, model=model, adapters=adapters, options=options)
    try:
        await server.wait_until_ready()
        soak = Soak(server, adapters, folder, seed)
        await soak.run(seconds)
    finally:
        if server.process.poll() is None:
            server.stop(5)
    say("answers: " + ", ".join(f"{count} x {what}" for what, count in sorted(soak.counts.items(), key=str)))
    memory = [size / 2**20 for size in soak.memory]
    thirds = [median(memory[len(memory) * n // 3:len(memory) * (n + 1) // 3]) for n in range(3)]
    say(f"resident MiB, by thirds: {', '.join(f'{size:.1f}' for size in thirds)}; "
        f"growth in the last one {soak.growth / 2**20:+.2f}")
    if "panicked" in log.read_text(errors="replace"):
        soak.broken.append(f"a panic, see {log}")
    for text in soak.broken[:20]:
        say(f"broken: {text}")
    say(f"{len(soak.broken)} things went wrong" if soak.broken else "all is well")
    return not soak.broken
