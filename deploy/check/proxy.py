"""Runs deploy/nginx.conf in front of two replicas on this machine.

    python3 -m unittest deploy/check/proxy.py                            with small servers as replicas
    LLAMA_ADAPTER=target/debug/llama-adapter python3 -m unittest ...     and with two real ones

Needs nginx (Debian's nginx-light). Only addresses and paths of the configuration are replaced.
"""

import http.client
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(__file__))
from replicas import Mock, Real, free_port, listens, wait_until  # noqa: E402

CONFIG = pathlib.Path(__file__).parents[1] / "nginx.conf"
ADAPTERS = [f"adapter-{i}" for i in range(24)]


class Proxy:
    """Nginx with our configuration."""

    def __init__(self, replicas):
        self.folder = tempfile.TemporaryDirectory(prefix="proxy-")
        os.chmod(self.folder.name, 0o755)
        self.port = free_port()
        text = CONFIG.read_text()
        changes = {
            "listen 8080;": f"listen 127.0.0.1:{self.port};",
            "/tmp/": f"{self.folder.name}/",
            "/dev/stdout": "/dev/null",
            "/dev/stderr warn": f"{self.folder.name}/error.log warn",
        } | {f"replica-{i + 1}:8080": f"127.0.0.1:{replica.port}" for i, replica in enumerate(replicas)}
        for old, new in changes.items():
            assert old in text, f"{old!r} is not in {CONFIG}"
            text = text.replace(old, new)
        path = pathlib.Path(self.folder.name, "nginx.conf")
        path.write_text(text)
        command = ["nginx", "-p", self.folder.name, "-e", f"{self.folder.name}/error.log", "-c", str(path)]
        checked = subprocess.run([*command, "-t"], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        self.process = subprocess.Popen([*command, "-g", "daemon off;"])
        wait_until(lambda: listens(self.port), "Nginx")

    def open(self, path, headers, body=b"{}"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST" if body else "GET", path, body, headers)
        return connection, connection.getresponse()

    def request(self, path="/v1/chat/completions", adapter=None, body=b"{}", **headers):
        """Status, headers and parsed body of an answer."""
        headers |= {"Content-Type": "application/json"} | ({"x-adapter": adapter} if adapter else {})
        connection, answer = self.open(path, headers, body)
        text = answer.read()
        connection.close()
        return answer.status, dict(answer.headers.items()), json.loads(text) if text.startswith(b"{") else text

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.folder.cleanup()


@unittest.skipUnless(shutil.which("nginx"), "needs nginx")
class WithMocks(unittest.TestCase):
    def setUp(self):
        self.replicas = [Mock("one"), Mock("two")]
        self.proxy = Proxy(self.replicas)

    def tearDown(self):
        self.proxy.stop()
        for replica in self.replicas:
            replica.stop()

    def place(self, adapter):
        status, _, body = self.proxy.request(adapter=adapter)
        self.assertEqual(status, 200)
        return body["replica"]

    def places(self):
        return {adapter: self.place(adapter) for adapter in ADAPTERS}

    def test_an_adapter_stays_with_its_replica_and_both_have_some(self):
        first = self.places()
        self.assertEqual(first, self.places())
        self.assertEqual(set(first.values()), {"one", "two"})

    def test_requests_without_the_header_go_to_both(self):
        self.assertEqual({self.place(None) for _ in range(40)}, {"one", "two"})

    def test_a_stopped_replica_moves_its_adapters_only(self):
        before = self.places()
        port = self.replicas[0].port
        self.replicas[0].stop()
        self.assertEqual(set(self.places().values()), {"two"})
        self.replicas[0] = Mock("one", port)
        self.assertEqual(self.places(), before)

    def test_a_replica_that_drains_or_is_full_hands_its_requests_to_the_other(self):
        before = self.places()
        for status in (503, 429):
            with self.subTest(status=status):
                self.replicas[0].status = status
                self.assertEqual(set(self.places().values()), {"two"})
                self.replicas[0].status = 200
                self.assertEqual(self.places(), before, "it is asked again at once")

    def test_if_both_are_full_the_client_learns_when_to_try_again(self):
        for replica in self.replicas:
            replica.status = 429
        status, headers, body = self.proxy.request(adapter="a")
        self.assertEqual((status, headers["Retry-After"]), (429, "7"))
        self.assertIn("replica", body)

    def test_an_error_of_a_request_is_not_tried_twice(self):
        for replica in self.replicas:
            replica.status = 500
        self.assertEqual(self.proxy.request(adapter="a")[0], 500)
        self.assertEqual(sum(len(replica.headers) for replica in self.replicas), 1)

    def test_a_stream_arrives_piece_by_piece(self):
        connection, answer = self.proxy.open("/stream", {})
        self.assertEqual(answer.read(9), b"data: 1\n\n")
        for replica in self.replicas:
            replica.go_on.set()
        self.assertEqual(answer.read(), b"data: 2\n\n")
        connection.close()

    def test_a_client_that_leaves_ends_the_request_at_the_replica(self):
        connection, answer = self.proxy.open("/endless", {})
        answer.read(9)
        answer.close()
        connection.close()
        wait_until(lambda: any(replica.cut.is_set() for replica in self.replicas), "the end of the request")

    def test_the_replica_sees_the_clients_request_id_or_a_new_one(self):
        self.proxy.request(**{"X-Request-Id": "abc.1"})
        self.proxy.request(**{"X-Request-Id": 'no"good'})
        ids = [headers["X-Request-Id"] for replica in self.replicas for headers in replica.headers]
        self.assertIn("abc.1", ids)
        self.assertNotIn('no"good', ids)
        self.assertTrue(all(ids))

    def test_administration_and_metrics_stay_inside(self):
        for path in ("/admin/adapters", "/admin/adapters/x", "/metrics"):
            self.assertEqual(self.proxy.request(path, body=None)[0], 404, path)
        self.assertEqual(sum(len(replica.headers) for replica in self.replicas), 0)

    def test_errors_of_the_proxy_are_json_in_the_servers_shape(self):
        too_large = self.proxy.request(body=b" " * (11 << 20))
        for replica in self.replicas:
            replica.stop()
        gone = self.proxy.request()
        self.assertEqual((too_large[0], gone[0]), (413, 503))
        for _, _, body in (too_large, gone):
            self.assertEqual(set(body["error"]), {"message", "type", "param", "code"})
        self.assertIn("Retry-After", gone[1])


@unittest.skipUnless(shutil.which("nginx"), "needs nginx")
@unittest.skipUnless(os.environ.get("LLAMA_ADAPTER"), "LLAMA_ADAPTER names no program")
class WithServers(unittest.TestCase):
    def setUp(self):
        self.log = tempfile.TemporaryFile()
        self.replicas = [Real(os.environ["LLAMA_ADAPTER"], self.log) for _ in range(2)]
        self.proxy = Proxy(self.replicas)

    def tearDown(self):
        self.proxy.stop()
        for replica in self.replicas:
            replica.stop()
        self.log.close()

    def ask(self, adapter, **more):
        _, _, models = self.proxy.request("/v1/models", body=None)
        body = {"model": models["data"][0]["id"], "prompt": "Ada", "max_tokens": 4} | more
        return self.proxy.request("/v1/completions", adapter, json.dumps(body).encode())

    def completions(self):
        """Completions that each replica has answered."""
        counts = []
        for replica in self.replicas:
            values = replica.metrics().items()
            counts.append(sum(value for name, value in values if name.startswith("llama_adapter_generated_tokens_total")))
        return counts

    def test_requests_with_one_adapter_are_computed_by_one_replica(self):
        for _ in range(6):
            status, _, body = self.ask("polite")
            self.assertEqual(status, 200, body)
        self.assertEqual(sorted(map(bool, self.completions())), [False, True])

    def test_a_replica_that_stops_under_load_fails_no_request(self):
        for i in range(30):
            if i == 10:
                self.replicas[0].process.terminate()
            status, _, body = self.ask(f"adapter-{i}")
            self.assertEqual(status, 200, body)


if __name__ == "__main__":
    unittest.main()
