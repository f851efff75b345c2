"""Several servers on this machine, and a router in front of them."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time

import serving

NUM_WORKERS = 3
READY_TIMEOUT_S = 60
VENV = os.path.dirname(sys.executable)


class Worker(serving.Server):
    """A server that can be ended and started again at the same addresses."""

    def __init__(self, model_dir, flags=(), cache="64MiB"):
        super().__init__(*(f"127.0.0.1:{port}" for port in serving.free_ports(3)))
        self.model_dir, self.flags = model_dir, ["--kv-cache-bytes", cache, *flags]

    def start(self):
        self.process = subprocess.Popen(
            [os.environ["MEA_BINARY"], "serve", str(self.model_dir), "--model-name", serving.NAME, "--http", self.http_address, "--listen",
             self.grpc_address, "--admin", self.admin_address, "--threads", "1", "--log-level", "warning", *self.flags],
            stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline(), f"a worker ended with {self.process.wait()}"

    def end(self, how):
        self.process.send_signal(how)
        return self.process.wait(timeout=READY_TIMEOUT_S)

    def requests(self):
        """Requests that it has answered well."""
        return self.metric("mea_request_prompt_tokens_count")


@contextlib.contextmanager
def workers(model_dir, count=NUM_WORKERS, **options):
    started = [Worker(model_dir, **options) for _ in range(count)]
    try:
        for worker in started:
            worker.start()
        yield started
    finally:
        for worker in started:
            if worker.process is not None:
                worker.process.kill()
                worker.process.wait()


class Router(serving.Server):
    """What a router answers; the workers behind it by address."""

    def workers(self):
        return {each["url"].partition("://")[2]: each for each in self.ask("GET", "/workers").json()["workers"]}

    def routes_to(self, addresses):
        return {address for address, each in self.workers().items() if each["is_healthy"]} == set(addresses)


@contextlib.contextmanager
def running(program, urls, *flags, policy="cache_aware"):
    port, metrics_port = serving.free_ports(2)
    command = [*program, "--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(metrics_port), "--worker-urls", *urls,
               "--policy", policy, *flags]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            router = Router(f"127.0.0.1:{port}")
            deadline = time.monotonic() + READY_TIMEOUT_S
            while not answers(router):
                assert process.poll() is None, f"{command} ended with {process.poll()}"
                assert time.monotonic() < deadline, f"{command} never answered"
                time.sleep(0.1)
            yield router
        finally:
            process.send_signal(signal.SIGKILL)


def answers(router):
    """It has found its workers and generates."""
    try:
        return router.post("/v1/completions", {"model": serving.NAME, "prompt": "a", "max_tokens": 1}).status == 200
    except (OSError, http.client.HTTPException):
        return False


def smg(fleet, *flags, **options):
    urls = [f"grpc://{worker.grpc_address}" for worker in fleet]
    return running([f"{VENV}/smg", "launch"], urls, "--model-path", str(fleet[0].model_dir), "--health-check-interval-secs", "1",
                   "--health-failure-threshold", "1", "--health-success-threshold", "1", "--load-monitor-interval", "1", *flags, **options)


def vllm_router(fleet, *flags, **options):
    return running([f"{VENV}/vllm-router"], [worker.url for worker in fleet], *flags, **options)
