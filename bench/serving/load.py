"""A closed loop of clients: each one sends a request, reads the answer, and sends the next one."""

import asyncio
import random
import time
from dataclasses import dataclass, field

from . import client

TOKENS = (64, 128)
LONG_PROMPT_TOKENS = 2000
LONG_PROMPT_EVERY = 5.0
WARM_UP_TOKENS = 8


@dataclass(frozen=True)
class Load:
    """Who asks for what."""

    clients: int
    models: tuple  # clients take them in turns
    seconds: float
    long_prompts: bool = False
    # Fields that make the server go on after its end-of-sequence token.
    never_end: dict = field(default_factory=dict)


class Words:
    """Prompts of a wanted number of tokens, no two of which begin alike."""

    def __init__(self, texts, tokens_per_word=1.0, seed=18):
        self.words = " ".join(texts).split()
        self.tokens_per_word, self.random = tokens_per_word, random.Random(seed)

    async def calibrate(self, address, model):
        """Asks the server how many tokens its tokenizer makes of a word."""
        prompt = self.prompt(400)
        body = {"model": model, "prompt": prompt, "max_tokens": 1}
        answer = await client.request(address, "POST", "/v1/completions", body)
        usage = (await answer.json())["usage"]
        self.tokens_per_word = usage["prompt_tokens"] / len(prompt.split())

    def prompt(self, tokens):
        return " ".join(self.random.choices(self.words, k=max(1, round(tokens / self.tokens_per_word))))

    def length(self):
        return self.random.randint(*TOKENS)


@dataclass
class Measured:
    """What the clients saw, within the measured time."""

    first: list = field(default_factory=list)  # seconds until the first token, by answer
    between: list = field(default_factory=list)  # seconds between tokens
    tokens: int = 0
    answers: int = 0
    prompt_tokens: list = field(default_factory=list)
    completion_tokens: list = field(default_factory=list)
    long_first: list = field(default_factory=list)
    errors: list = field(default_factory=list)


def has_text(event):
    return any(choice.get("text") for choice in event.get("choices", ()))


async def answer(address, body, measured, inside):
    """Reads a streamed answer. `inside` tells whether a moment counts."""
    sent = time.perf_counter()
    reply = await client.request(address, "POST", "/v1/completions", body)
    try:
        if reply.status != 200:
            raise client.BadAnswer(f"{reply.status}: {(await reply.body())[:200]!r}")
        last = None
        async for event in reply.events():
            now = time.perf_counter()
            if usage := event.get("usage"):
                measured.prompt_tokens.append(usage["prompt_tokens"])
                measured.completion_tokens.append(usage["completion_tokens"])
            if not has_text(event):
                continue
            if inside(now):
                measured.tokens += 1
                if last is None:
                    measured.first.append(now - sent)
                else:
                    measured.between.append(now - last)
            last = now
        measured.answers += inside(time.perf_counter())
    finally:
        reply.close()


async def one_client(address, model, words, load, measured, inside):
    while True:
        body = {"model": model, "prompt": words.prompt(words.length()), "max_tokens": words.length(), "temperature": 0,
                "stream": True, "stream_options": {"include_usage": True}} | load.never_end
        try:
            await answer(address, body, measured, inside)
        except (OSError, client.BadAnswer, asyncio.IncompleteReadError) as error:
            measured.errors.append(repr(error))
            await asyncio.sleep(0.1)


async def long_prompts(address, model, words, measured):
    """A long prompt, again and again, one at a time."""
    while True:
        body = {"model": model, "prompt": words.prompt(LONG_PROMPT_TOKENS), "max_tokens": 1, "temperature": 0}
        sent = time.perf_counter()
        reply = await client.request(address, "POST", "/v1/completions", body)
        await reply.body()
        measured.long_first.append(time.perf_counter() - sent)
        await asyncio.sleep(LONG_PROMPT_EVERY)


async def run(address, load, words, warm_up_seconds=5.0):
    """Numbers of a load. Tokens count by their arrival; a token is an event with text."""
    measured = Measured()
    begin = time.perf_counter() + warm_up_seconds
    end = begin + load.seconds

    def inside(moment):
        return begin <= moment < end

    tasks = [asyncio.create_task(one_client(address, load.models[n % len(load.models)], words, load, measured, inside))
             for n in range(load.clients)]
    if load.long_prompts:
        tasks.append(asyncio.create_task(long_prompts(address, load.models[0], words, measured)))
    done, _ = await asyncio.wait(tasks, timeout=warm_up_seconds + load.seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
    return summary(load, measured)


def summary(load, measured):
    return {
        "clients": load.clients,
        "adapters": len(load.models),
        "long_prompts": len(measured.long_first),
        "tokens_per_second": measured.tokens / load.seconds,
        "answers": measured.answers,
        "prompt_tokens": mean(measured.prompt_tokens),
        "completion_tokens": mean(measured.completion_tokens),
        "first": percentiles(measured.first),
        "between": percentiles(measured.between),
        "long_first": percentiles(measured.long_first),
        "errors": measured.errors[:5],
        "error_count": len(measured.errors),
    }


def mean(numbers):
    return sum(numbers) / len(numbers) if numbers else None


def percentiles(numbers):
    """The smallest number that so many percent do not exceed."""
    if not numbers:
        return None
    ordered = sorted(numbers)
    return {f"p{percent}": ordered[max(0, -(-percent * len(ordered) // 100) - 1)] for percent in (50, 95, 99)}
