"""A server to test: `mea serve` as a process of its own, or one that is there already (MEA_CLIENTS_URL)."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
NAME = "demo"
MAX_CONTEXT = 4096
GO_ON = {"ignore_eos": True}  # the demo model likes to end at once
SETTLE_TIMEOUT_S = 20  # until the server has noticed something; tests go on as soon as it has


def make_model(directory):
    """The demo model with a chat template and a longer context: what it says is of no matter here."""
    shutil.copytree(ROOT / "models/demo-mea", directory)
    shutil.copy(HERE / "chat_template.jinja", directory)
    config = json.loads((directory / "config.json").read_text())
    config["max_position_embeddings"] = MAX_CONTEXT
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports


class Answer:
    """Status, headers (names in lower case) and body of a plain HTTP exchange."""

    def __init__(self, response):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    def json(self):
        return json.loads(self.body)


class Server:
    """Addresses of a server, and what tests ask it outside of any client library."""

    process = None  # where it is ours

    def __init__(self, http_address, grpc_address=None, admin_address=None, model=NAME):
        self.http_address = http_address
        self.grpc_address = grpc_address
        self.admin_address = admin_address or http_address
        self.model = model

    @property
    def url(self):
        return f"http://{self.http_address}"

    def ask(self, method, path, body=None, headers=None, address=None):
        """One request; a body that is not bytes is sent as JSON."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection = http.client.HTTPConnection(address or self.http_address, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
            return Answer(connection.getresponse())

    def post(self, path, body, **more):
        return self.ask("POST", path, body, **more)

    def tokens(self, text):
        return self.post("/tokenize", {"model": self.model, "prompt": text, "add_special_tokens": False}).json()["tokens"]

    def metric(self, name, **labels):
        """The sum of a metric over the series that have these labels."""
        text = self.ask("GET", "/metrics", address=self.admin_address).body.decode()
        total = None
        for series, value in re.findall(rf"^{name}(\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE):
            if all(f'{key}="{wanted}"' in series for key, wanted in labels.items()):
                total = (total or 0) + float(value)
        assert total is not None, f"no metric {name} {labels}"
        return total

    def wait_until(self, holds, what):
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while not holds():
            assert time.monotonic() < deadline, f"still not: {what}"
            time.sleep(0.02)

    def wait_until_idle(self):
        """No page of the KV cache is used and nothing runs or waits."""
        self.wait_until(lambda: self.metric("mea_kv_cache_bytes", state="used") == 0, "no page used")
        self.wait_until(lambda: self.metric("mea_num_requests_running") == 0, "nothing runs")


@contextlib.contextmanager
def serve(model_dir, *flags, may_end=False):
    """`mea serve` on free ports of the loopback, ready; killed at the end. It must live until then unless it may end."""
    http_port, grpc_port, admin_port = free_ports(3)
    addresses = [f"127.0.0.1:{port}" for port in (http_port, grpc_port, admin_port)]
    command = [os.environ["MEA_BINARY"], "serve", "--model", str(model_dir), "--model-name", NAME, "--http", addresses[0],
               "--listen", addresses[1], "--admin", addresses[2], "--kv-cache-bytes", "64MiB", "--log-level", "warning", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()  # it is ready, or it is gone
            assert line, f"{' '.join(command)} ended with {process.wait()}"
            server = Server(*addresses)
            server.process = process
            yield server
            assert may_end or process.poll() is None, f"the server died with {process.poll()}"
        finally:
            process.kill()


def server_elsewhere():
    """The server that MEA_CLIENTS_URL names, or None."""
    url = os.environ.get("MEA_CLIENTS_URL")
    if not url:
        return None
    server = Server(urllib.parse.urlparse(url).netloc, os.environ.get("MEA_CLIENTS_GRPC"))
    server.model = os.environ.get("MEA_CLIENTS_MODEL") or server.ask("GET", "/v1/models").json()["data"][0]["id"]
    return server
