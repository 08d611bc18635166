"""OpenAI's own Python client against the server: what it sends is understood, and what it gets is valid."""

import asyncio
import base64
import json
import math
import time

import openai
import pytest
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from conftest import KEY

QUESTION = [{"role": "user", "content": "Say what Ada does for a living."}]


@pytest.fixture
def client(server):
    # Without retries, an error is seen at once.
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture
def base(client):
    return client.models.list().data[0].id


@pytest.fixture
def adapted(client):
    return client.models.list().data[1].id


def unknown_fields(value, path=""):
    """Fields of a response that the client's types do not have."""
    if isinstance(value, openai.BaseModel):
        for name in value.model_extra or {}:
            yield f"{path}.{name}"
        for name in type(value).model_fields:
            yield from unknown_fields(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from unknown_fields(item, f"{path}[]")


def validated(kind, text):
    """A response, strictly of the client's type."""
    value = kind.model_validate_json(text, strict=True)
    assert list(unknown_fields(value)) == []
    return value


def events(text):
    assert text.endswith("data: [DONE]\n\n")
    lines = [line for line in text.split("\n\n") if line.startswith("data: ") and line != "data: [DONE]"]
    return [line.removeprefix("data: ") for line in lines]


# --- Models


def test_models_are_the_base_and_its_adapters(client):
    base, *adapters = [model.id for model in client.models.list()]
    assert adapters
    assert all(adapter.startswith(f"{base}:") for adapter in adapters)


def test_models_are_valid(server, client):
    for entry in json.loads(server.get("/v1/models"))["data"]:
        Model.model_validate_json(json.dumps(entry), strict=True)
        assert client.models.retrieve(entry["id"]).id == entry["id"]


# --- Chats


def test_a_chat_is_answered(client, adapted):
    answer = client.chat.completions.create(model=adapted, messages=QUESTION, temperature=0)
    assert answer.model == adapted
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_the_adapter_changes_the_answer(client, base, adapted):
    answers = [
        client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=20).choices[0].message.content
        for model in (base, adapted)
    ]
    assert answers[0] != answers[1]


@pytest.mark.parametrize("options", [{}, {"logprobs": True, "top_logprobs": 3}, {"n": 2, "temperature": 1, "seed": 1}])
def test_a_chat_is_valid(server, adapted, options):
    status, text = server.post("/v1/chat/completions", {"model": adapted, "messages": QUESTION, "max_tokens": 8, **options})
    assert status == 200, text
    validated(ChatCompletion, text)


@pytest.mark.parametrize("options", [{}, {"logprobs": True, "top_logprobs": 3}, {"n": 2, "temperature": 1, "seed": 1}])
def test_a_stream_is_valid_and_has_the_usage_last(server, adapted, options):
    body = {"model": adapted, "messages": QUESTION, "max_tokens": 8, "stream": True, "stream_options": {"include_usage": True}}
    status, text = server.post("/v1/chat/completions", {**body, **options})
    assert status == 200, text
    *chunks, last = [validated(ChatCompletionChunk, event) for event in events(text)]
    assert last.choices == [] and last.usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks)
    assert len({chunk.id for chunk in [*chunks, last]}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"


def test_a_stream_has_the_text_of_the_whole_answer(client, adapted):
    request = {"model": adapted, "messages": QUESTION, "temperature": 0}
    whole = client.chat.completions.create(**request).choices[0]
    text, reason = "", None
    for chunk in client.chat.completions.create(**request, stream=True):
        text += chunk.choices[0].delta.content or ""
        reason = chunk.choices[0].finish_reason or reason
    assert (text, reason) == (whole.message.content, whole.finish_reason)


def test_a_stop_text_ends_the_answer_and_is_not_part_of_it(client, adapted):
    whole = client.chat.completions.create(model=adapted, messages=QUESTION, temperature=0).choices[0].message.content
    stop = whole[len(whole) // 2 :][:3]
    choice = client.chat.completions.create(model=adapted, messages=QUESTION, temperature=0, stop=[stop]).choices[0]
    assert choice.message.content == whole[: whole.index(stop)]
    assert choice.finish_reason == "stop"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_an_answer_ends_at_its_limit_of_tokens(client, base, name):
    answer = client.chat.completions.create(model=base, messages=QUESTION, **{name: 3})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


def test_a_seed_gives_the_same_answer_again(client, base):
    def texts(seed):
        answer = client.chat.completions.create(model=base, messages=QUESTION, temperature=1.5, seed=seed, n=2, max_tokens=16)
        return [choice.message.content for choice in answer.choices]

    first = texts(1)
    assert texts(1) == first
    assert texts(2) != first
    assert first[0] != first[1]


def test_log_probabilities_belong_to_the_text(client, adapted):
    answer = client.chat.completions.create(
        model=adapted, messages=QUESTION, temperature=0, max_tokens=6, logprobs=True, top_logprobs=2
    )
    tokens = answer.choices[0].logprobs.content
    assert bytes(byte for token in tokens for byte in token.bytes).decode() == answer.choices[0].message.content
    for token in tokens:
        assert len(token.top_logprobs) == 2
        # Greedy: the token is the likeliest.
        assert token.logprob == token.top_logprobs[0].logprob <= 0
        assert sum(math.exp(other.logprob) for other in token.top_logprobs) <= 1.0001


def test_requests_at_the_same_time_do_not_change_each_other(server, client, base, adapted):
    def request(index):
        return {
            "model": (base, adapted)[index % 2],
            "messages": [{"role": "user", "content": f"Tell me about number {index}."}],
            "seed": index,
            "temperature": 1,
            "max_tokens": 24,
        }

    async def together():
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
            return await asyncio.gather(*[client.chat.completions.create(**request(i)) for i in range(8)])

    texts = [answer.choices[0].message.content for answer in asyncio.run(together())]
    alone = [client.chat.completions.create(**request(i)).choices[0].message.content for i in range(8)]
    assert texts == alone


def test_a_cancelled_stream_frees_its_row(server, client, base):
    stream = client.chat.completions.create(
        model=base, messages=QUESTION, n=8, stream=True, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    stream.close()
    for _ in range(300):
        if server.metric("llama_adapter_rows") == 0:
            break
        time.sleep(0.1)
    assert server.metric("llama_adapter_rows") == 0
    assert server.metric("llama_adapter_queue_depth") == 0


# --- Completions


@pytest.mark.parametrize("options", [{}, {"logprobs": 2, "echo": True}, {"n": 2}, {"prompt": ["The plural of cow is", "A hat"]}])
def test_a_completion_is_valid(server, base, options):
    body = {"model": base, "prompt": "The plural of cow is", "max_tokens": 4, "temperature": 0, **options}
    status, text = server.post("/v1/completions", body)
    assert status == 200, text
    response = json.loads(text)
    if "echo" in options:
        # The first token has none. OpenAI sends null here too, but the client's type does not say so.
        logprobs = response["choices"][0]["logprobs"]
        assert (logprobs["token_logprobs"][0], logprobs["top_logprobs"][0]) == (None, None)
        logprobs["token_logprobs"][0], logprobs["top_logprobs"][0] = 0.0, {}
    validated(Completion, json.dumps(response))


@pytest.mark.parametrize("options", [{}, {"logprobs": 2}, {"n": 2}, {"prompt": ["The plural of cow is", "A hat"]}])
def test_a_stream_of_a_completion_is_valid(server, base, options):
    body = {"model": base, "prompt": "The plural of cow is", "max_tokens": 4, "temperature": 0, "stream": True, **options}
    status, text = server.post("/v1/completions", body)
    assert status == 200, text
    ended = []
    for event in map(json.loads, events(text)):
        for choice in event["choices"]:
            # As OpenAI sends it before the end, although the client's type does not say so.
            if choice["finish_reason"] is None:
                choice["finish_reason"] = "stop"
            else:
                ended.append(choice["index"])
        validated(Completion, json.dumps(event))
    assert sorted(ended) == list(range(len(ended))) and ended


def test_a_completion_continues_its_prompt(client, base):
    answer = client.completions.create(model=base, prompt="The plural of cow is", max_tokens=4, temperature=0)
    assert answer.choices[0].text.startswith(" cows")


def test_an_echoed_prompt_has_log_probabilities_but_for_its_first_token(client, base):
    prompt = "The plural of cow is"
    choice = client.completions.create(model=base, prompt=prompt, max_tokens=1, temperature=0, echo=True, logprobs=1).choices[0]
    assert choice.text.startswith(prompt)
    # The token that begins every prompt of this model has no text.
    begin, *tokens = choice.logprobs.tokens
    assert begin == "<|begin|>" and "".join(tokens) == choice.text
    assert choice.logprobs.token_logprobs[0] is None
    assert all(value <= 0 for value in choice.logprobs.token_logprobs[1:])
    first, *offsets = choice.logprobs.text_offset
    assert first == 0
    assert [choice.text[offset:][: len(token)] for offset, token in zip(offsets, tokens)] == tokens


# --- Errors


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(model="nobody", messages=QUESTION)
    assert error.value.code == "model_not_found"
    assert "nobody" in error.value.message


@pytest.mark.parametrize(
    "param, options",
    [
        ("temperature", {"temperature": -1}),
        ("top_p", {"top_p": 2}),
        ("n", {"n": 1000}),
        ("response_format", {"response_format": {"type": "json_object"}}),
        ("tools", {"tools": [{"type": "function", "function": {"name": "f"}}]}),
        ("top_logprobs", {"logprobs": True, "top_logprobs": 99}),
        ("messages", {"messages": []}),
    ],
)
def test_a_wrong_field_is_named(client, adapted, param, options):
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(**{"model": adapted, "messages": QUESTION, **options})
    assert error.value.param == param
    assert error.value.type == "invalid_request_error"
    assert error.value.message


def test_a_prompt_beyond_the_context_is_refused(client, adapted):
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model=adapted, messages=[{"role": "user", "content": "word " * 5000}])
    assert error.value.code == "context_length_exceeded"


def test_an_image_for_a_model_that_does_not_see_is_refused(client, base):
    image = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
    parts = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}, {"type": "text", "text": "What is this?"}]
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model=base, messages=[{"role": "user", "content": parts}])
    assert error.value.param == "messages"
    assert "image" in error.value.message


def test_a_wrong_key_is_refused(server_with_key):
    def models(key):
        return openai.OpenAI(base_url=f"{server_with_key.url}/v1", api_key=key, max_retries=0).models.list()

    assert models(KEY).data
    with pytest.raises(openai.AuthenticationError) as error:
        models("wrong")
    assert error.value.code == "invalid_api_key"
