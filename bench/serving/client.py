"""A client of OpenAI's protocol on asyncio: one request, one connection, so that a cut is a cut."""

import asyncio
import json
from dataclasses import dataclass


class BadAnswer(Exception):
    """An answer that does not follow HTTP or the protocol."""


@dataclass(frozen=True)
class Address:
    host: str
    port: int
    key: str | None = None


class Answer:
    """The head of an answer, and its body as it arrives."""

    def __init__(self, status, headers, reader, writer):
        self.status, self.headers = status, headers
        self._reader, self._writer = reader, writer

    async def pieces(self):
        """The body, in the pieces in which the server sent it if it is chunked."""
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int(await self._reader.readline() or b"x", 16):
                yield await self._reader.readexactly(size)
                await self._reader.readexactly(2)
            await self._reader.readline()
        elif (length := self.headers.get("content-length")) is not None:
            yield await self._reader.readexactly(int(length))
        else:
            while piece := await self._reader.read(1 << 16):
                yield piece

    async def body(self):
        try:
            return b"".join([piece async for piece in self.pieces()])
        finally:
            self.close()

    async def json(self):
        return json.loads(await self.body())

    async def events(self):
        """The events of a stream, parsed. A stream that ends without `[DONE]` is an error."""
        text = b""
        async for piece in self.pieces():
            text += piece.replace(b"\r\n", b"\n")
            *events, text = text.split(b"\n\n")
            for event in events:
                if not event.startswith(b"data:"):
                    continue  # a comment that keeps the connection alive
                data = event.removeprefix(b"data:").strip()
                if data == b"[DONE]":
                    return
                yield json.loads(data)
        raise BadAnswer("the stream ended without [DONE]")

    def close(self):
        self._writer.close()

    def abort(self):
        """Ends the connection at once, as a client that was killed does."""
        self._writer.transport.abort()


async def request(address, method, path, body=None, headers=(), *, limit=1 << 16):
    """Sends a request and waits for the head of its answer. A `body` that is not bytes is sent as JSON.

    `limit` bounds what is read ahead of the caller, for slow readers."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", f"Host: {address.host}:{address.port}", "Connection: close", *headers]
    if address.key:
        lines.append(f"Authorization: Bearer {address.key}")
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    reader, writer = await asyncio.open_connection(address.host, address.port, limit=limit)
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode() + (body or b""))
        try:
            await writer.drain()
        except ConnectionError:
            pass  # a server may answer and close before it has read a body that it refuses
        return await head(reader, writer)
    except BaseException:
        writer.transport.abort()
        raise


async def head(reader, writer):
    status = await reader.readline()
    if not status.startswith(b"HTTP/1.1 "):
        raise BadAnswer(f"not an answer: {status[:80]!r}")
    headers = {}
    while (line := await reader.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return Answer(int(status.split()[1]), headers, reader, writer)


async def metrics(address):
    """Prometheus' values by `name{labels}`."""
    text = (await (await request(address, "GET", "/metrics")).body()).decode()
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in pairs}
