"""Replicas for the tests of the proxy: small servers that do as they are told, or the real program."""

import contextlib
import http.server
import json
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.02)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Mock:
    """A server that answers with its name.

    `status` is the status of its answers. A path `/stream` sends a piece, and the next one after `go_on` is set;
    `/endless` sends pieces until the connection ends, and then sets `cut`.
    """

    def __init__(self, name, port=0):
        self.name, self.status = name, 200
        self.headers, self.connections = [], []
        self.go_on, self.cut = threading.Event(), threading.Event()
        mock = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                self.do_POST()

            def do_POST(self):
                self.rfile.read(int(self.headers.get("content-length", 0)))
                mock.headers.append(dict(self.headers.items()))
                if self.path in ("/stream", "/endless"):
                    return self.stream()
                body = json.dumps({"replica": mock.name}).encode()
                self.send_response(mock.status)
                if mock.status == 429:
                    self.send_header("Retry-After", "7")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def stream(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                try:
                    self.piece(b"data: 1\n\n")
                    while self.path == "/endless":
                        self.piece(b"data: more\n\n")
                        time.sleep(0.01)
                except OSError:
                    mock.cut.set()
                    self.close_connection = True
                    return
                mock.go_on.wait(30)
                self.piece(b"data: 2\n\n")
                self.piece(b"")

            def piece(self, data):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 128

            def process_request(self, request, address):
                mock.connections.append(request)
                super().process_request(request, address)

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self):
        """Closes its connections too, as a process that ends does."""
        self.server.shutdown()
        self.server.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Real:
    """The program, serving the built-in model."""

    def __init__(self, program, log):
        self.port = free_port()
        options = ["serve", "--listen", f"127.0.0.1:{self.port}", "--cache-bytes", "64MiB"]
        self.process = subprocess.Popen([program, *options], stdout=log, stderr=log)
        wait_until(lambda: self.process.poll() is not None or self.is_ready(), "a replica that is ready")
        if self.process.poll() is not None:
            raise RuntimeError(f"the server ended with {self.process.returncode}")

    def is_ready(self):
        try:
            return self.get("/health/ready")[0] == 200
        except OSError:
            return False

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self):
        """Values by `name{labels}`."""
        lines = (line for line in self.get("/metrics")[1].splitlines() if line and not line.startswith("#"))
        pairs = (line.rsplit(" ", 1) for line in lines)
        return {name: float(value) for name, value in pairs}

    def stop(self):
        self.process.terminate()
        return self.process.wait(60)
