"""A running `llama-adapter serve`, and a proxy in front of it that knows some answers by heart."""

import http.client
import json
import os
import re
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = os.environ.get("LLAMA_ADAPTER", TARGET / "debug" / "llama-adapter")


class Server:
    """`llama-adapter serve` on a free port, until `stop`."""

    def __init__(self, *arguments, environment=None):
        command = [PROGRAM, "serve", "--listen", "127.0.0.1:0", *arguments]
        environment = {**os.environ, **(environment or {})}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.log = []
        self.url = None
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                self.url = found[0]
            if line.rstrip().endswith("ready"):
                break
        else:
            raise RuntimeError("the server did not start:\n" + "".join(self.log))
        self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
        self.reader.start()

    def stop(self):
        """Ends the server as a service manager does. It must not have failed."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        self.reader.join()
        log = "".join(self.log)
        assert status == 0, f"exit status {status}:\n{log}"
        assert "panicked" not in log, log

    def get(self, path):
        with urllib.request.urlopen(self.url + path) as response:
            return response.read().decode()

    def post(self, path, body):
        """Status and text of the response to a JSON body."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name):
        """The sum of a metric over its labels."""
        values = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", self.get("/metrics"), re.MULTILINE)
        return sum(map(float, values))


class Held:
    """The end of a canned answer: nothing more comes until the client gives up."""

    def __init__(self):
        self.given_up = threading.Event()


class Cut:
    """The end of a canned answer: the connection breaks."""


class Proxy:
    """Forwards all requests to a server, but for some questions, whose answers are canned.

    An answer is a list of pieces of text, which may end with `Held`, `Cut` or a dict, the error of a stream.
    A dict instead of the list is an error with its status. Several answers to one question are given in turns.
    """

    def __init__(self, server):
        self.server = server
        self.answers = {}
        self.models = None  # instead of the server's
        self.requests = []  # bodies of requests to chat
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                if self.path == "/v1/models" and proxy.models:
                    self.reply(200, "application/json", json.dumps({"object": "list", "data": proxy.models}).encode())
                else:
                    self.forward(None)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path != "/v1/chat/completions":
                    return self.forward(body)
                request = json.loads(body)
                proxy.requests.append(request)
                question = request["messages"][-1]["content"]
                answers = proxy.answers.get(question if isinstance(question, str) else None)
                if not answers:
                    return self.forward(body)
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                if isinstance(answer, dict):
                    return self.reply(answer["status"], "application/json", json.dumps({"error": answer}).encode())
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()
                try:
                    self.stream(answer, request["model"])
                except (BrokenPipeError, ConnectionResetError):
                    pass

            def stream(self, answer, model):
                def event(**fields):
                    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": model, **fields}
                    self.write(f"data: {json.dumps(chunk)}\n\n")

                def choice(delta, reason=None):
                    event(choices=[{"index": 0, "delta": delta, "finish_reason": reason}])

                choice({"role": "assistant", "content": ""})
                for piece in answer:
                    if isinstance(piece, Held):
                        try:
                            while not piece.given_up.wait(0.02):
                                self.write(": ping\n\n")
                        except OSError:
                            piece.given_up.set()
                        return
                    if piece is Cut:
                        return
                    if isinstance(piece, dict):
                        return self.write(f"data: {json.dumps({'error': piece})}\n\n")
                    choice({"content": piece})
                choice({}, "stop")
                tokens = len(answer)
                event(choices=[], usage={"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1})
                self.write("data: [DONE]\n\n")

            def write(self, text):
                self.wfile.write(text.encode())
                self.wfile.flush()

            def reply(self, status, kind, body, headers=()):
                self.send_response(status)
                for name, value in [("content-type", kind), ("content-length", str(len(body))), *headers]:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def forward(self, body):
                connection = http.client.HTTPConnection(proxy.server.url.removeprefix("http://"))
                kept = ("authorization", "content-type", "x-adapter")
                headers = {name: value for name, value in self.headers.items() if name.lower() in kept}
                connection.request(self.command, self.path, body, headers)
                response = connection.getresponse()
                self.send_response(response.status)
                for name, value in response.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                        self.send_header(name, value)
                self.end_headers()
                while piece := response.read1(65536):
                    self.wfile.write(piece)
                connection.close()

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def stop(self):
        self.http.shutdown()
