// Requests to the server: models, a streamed answer, Markdown as safe HTML.

const KEY = "llama-adapter.key";

/** A failed request, with a message for people. `status` is 0 if there was no response. */
class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function send(path, { body, signal, headers } = {}) {
  const key = sessionStorage.getItem(KEY);
  let response;
  try {
    response = await fetch(path, {
      method: body ? "POST" : "GET",
      headers: {
        ...(body && { "content-type": "application/json" }),
        ...(key && { authorization: `Bearer ${key}` }),
        ...headers,
      },
      body: body && JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ServerError("The server cannot be reached.", 0);
  }
  if (response.ok) return response;
  const message = await response.json().then((json) => json.error.message, () => null);
  throw new ServerError(message ?? `The server answered with status ${response.status}.`, response.status);
}

/** The models on offer: the base model, then the same with each of its adapters. */
async function models() {
  const { data } = await (await send("/v1/models")).json();
  return data.map(({ id, parent, sees_images, examples }) => ({
    id,
    adapter: parent ? id.slice(parent.length + 1) : null,
    // Null until the adapter is loaded: it may.
    seesImages: sees_images !== false,
    examples: examples ?? [],
  }));
}

async function asHtml(markdown) {
  return (await (await send("/page/markdown", { body: { markdown } })).json()).html;
}

/** The values of a stream of server-sent events, up to `[DONE]`. */
async function* serverEvents(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new ServerError("The connection ended before the answer did.", 0);
    buffer += value;
    const events = buffer.split("\n\n");
    buffer = events.pop();
    for (const event of events) {
      const lines = event.split("\n").filter((line) => line.startsWith("data:"));
      const data = lines.map((line) => line.slice(5).trim()).join("\n");
      if (data === "[DONE]") return;
      if (data) yield JSON.parse(data);
    }
  }
}

/** Streams an answer: `receive` gets each piece of text. Returns why it ended, and how many tokens it has. */
async function streamAnswer(request, adapter, signal, receive) {
  const response = await send("/v1/chat/completions", {
    body: { ...request, stream: true, stream_options: { include_usage: true } },
    // Proxies in front of several servers send an adapter's requests to the same one.
    headers: adapter && { "x-adapter": adapter },
    signal,
  });
  const end = { reason: null, tokens: null };
  for await (const event of serverEvents(response)) {
    if (event.error) throw new ServerError(event.error.message, 500);
    const choice = event.choices[0];
    if (choice?.delta.content) receive(choice.delta.content);
    if (choice?.finish_reason) end.reason = choice.finish_reason;
    if (event.usage) end.tokens = event.usage.completion_tokens;
  }
  return end;
}
