"""The containers' command lines, run: what manifests rely on is what the server does."""

import contextlib
import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass, field

import certificates
import pytest
import rendered
import serving

MODEL = rendered.ROOT / "models/demo-mea"
READY_TIMEOUT_S = 60


def mea(*arguments):
    return subprocess.run([os.environ["MEA_BINARY"], *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    """The volumes as a directory, and the tokens of the keys in it."""
    files = tmp_path_factory.mktemp("volumes")
    made = {name: mea("key", "new", name, "--rights", right, "--api-key-file", files / "keys.jsonl")
            for name, right in (("alice", "inference"), ("prometheus", "metrics"))}
    authority = certificates.Authority(files / "ca")
    cert, key = authority.sign("mea", address="mea")
    cert.rename(files / "tls.crt")
    key.rename(files / "tls.key")
    (files / "ca.crt").write_bytes(authority.cert.read_bytes())
    return files, {name: key.stdout.strip() for name, key in made.items()}


@dataclass
class Pod:
    container: dict
    ports: dict  # of the container -> on this machine
    files: object
    process: subprocess.Popen = field(default=None)

    def ask(self, port, path, scheme="HTTP", token=None):
        """The status and the body."""
        numbers = {made.get("name"): made["containerPort"] for made in self.container["ports"]}
        number = self.ports[numbers.get(port, port)]
        if scheme.upper() == "HTTPS":
            context = ssl.create_default_context(cafile=str(self.files / "ca.crt"))
            context.check_hostname = False  # probes come by address, like this
            connection = http.client.HTTPSConnection("127.0.0.1", number, timeout=30, context=context)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", number, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def probe(self, name):
        probe = self.container[name]["httpGet"]
        return self.ask(probe["port"], probe["path"], probe.get("scheme", "HTTP"))


def on_this_machine(container, ports, files, cache):
    """The container's arguments with our ports and files."""
    own = {"--model": MODEL, "--api-key-file": files / "keys.jsonl", "--tls-cert": files / "tls.crt", "--tls-key": files / "tls.key",
           "--weight-cache": cache, "--model-name": "my-model"}
    for name, value in rendered.flags(container).items():
        if name in own:
            value = own[name]
        elif name in ("--listen", "--http", "--admin") and value != "off":
            value = f"127.0.0.1:{ports[int(value.rpartition(':')[2])]}"
        yield name if value is None else f"{name}={value}"


def listening(port):
    with contextlib.closing(socket.socket()) as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def running(objects, secrets, cache):
    container, = rendered.containers(objects)
    numbers = [port["containerPort"] for port in container["ports"]]
    pod = Pod(container, dict(zip(numbers, serving.free_ports(len(numbers)))), secrets[0])
    arguments = on_this_machine(container, pod.ports, pod.files, cache)
    with subprocess.Popen([os.environ["MEA_BINARY"], "serve", *arguments], stderr=subprocess.PIPE, text=True) as pod.process:
        try:
            deadline = time.monotonic() + READY_TIMEOUT_S
            while not all(map(listening, pod.ports.values())):
                assert pod.process.poll() is None, pod.process.stderr.read()
                assert time.monotonic() < deadline, "never ready"
                time.sleep(0.05)
            yield pod
        finally:
            pod.process.kill()


# A GPU is not here to run the fourth.
@pytest.fixture(scope="module", params=["overlays/demo", "overlays/production", "overlays/gateway", "kserve"])
def pod(request, secrets, tmp_path_factory):
    with running(rendered.kustomize(request.param), secrets, tmp_path_factory.mktemp("cache")) as started:
        started.objects = rendered.kustomize(request.param)
        started.tokens = secrets[1]
        yield started


def metric_names(text):
    return set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))


def test_probes_are_answered(pod):
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert pod.probe(name)[0] == 200, name


def test_prometheus_gets_the_metrics_that_scale_the_pods(pod):
    for monitor in rendered.of_kind(pod.objects, "PodMonitor"):
        endpoint, = monitor["spec"]["podMetricsEndpoints"]
        where = endpoint["port"], endpoint["path"], endpoint["scheme"]
        if "--open-metrics" not in rendered.flags(pod.container):
            assert pod.ask(*where)[0] == 401
            assert pod.ask(*where, token=pod.tokens["alice"])[0] == 403
        status, text = pod.ask(*where, token=pod.tokens["prometheus"])
        assert status == 200
        for scaler in rendered.of_kind(pod.objects, "HorizontalPodAutoscaler"):
            wanted = {metric["pods"]["metric"]["name"] for metric in scaler["spec"]["metrics"]}
            assert wanted and wanted <= metric_names(text)


def test_an_endpoint_picker_gets_its_metrics_where_it_looks(pod):
    """At the pool's port, without a key, under vLLM's names."""
    for pool in rendered.of_kind(pod.objects, "InferencePool"):
        status, text = pod.ask(pool["spec"]["targetPorts"][0]["number"], "/metrics")
        assert status == 200
        assert {"vllm:num_requests_waiting", "vllm:num_requests_running", "vllm:kv_cache_usage_perc", "vllm:cache_config_info"} <= metric_names(text)
        assert re.search(r'^vllm:cache_config_info\{.*block_size="\d+".*num_gpu_blocks="\d+"', text, re.MULTILINE)


def test_kserve_finds_metrics_where_its_annotations_say(pod):
    for runtime in rendered.of_kind(pod.objects, "ServingRuntime"):
        notes = runtime["spec"]["annotations"]
        assert pod.ask(int(notes["prometheus.kserve.io/port"]), notes["prometheus.kserve.io/path"])[0] == 200


def test_clients_need_the_keys_of_the_secret(pod):
    if "--api-key-file" not in rendered.flags(pod.container):
        return
    http_port = int(rendered.flags(pod.container)["--http"].rpartition(":")[2])
    scheme = pod.container["readinessProbe"]["httpGet"].get("scheme", "HTTP")
    assert pod.ask(http_port, "/v1/models", scheme)[0] == 401
    assert pod.ask(http_port, "/v1/models", scheme, token=pod.tokens["alice"])[0] == 200


def test_a_pod_that_is_told_to_go_drains_and_goes(pod):
    """The last test of each pod."""
    pod.process.send_signal(signal.SIGTERM)
    assert pod.process.wait(timeout=READY_TIMEOUT_S) == 0


def test_every_flag_is_one_of_the_server():
    known = set(re.findall(r"--[a-z][a-z-]+", mea("serve", "--help").stdout))
    for name, objects in rendered.everything().items():
        for container in rendered.containers(objects):
            assert rendered.flags(container).keys() <= known, name


def test_metrics_that_the_documentation_names_exist(secrets, tmp_path):
    text = (rendered.ROOT / "docs/kubernetes.md").read_text()
    named = set(re.findall(r"\b(?:mea_[a-z_]+[a-z]|vllm:[a-z_]+[a-z])\b", text))
    with running(rendered.kustomize("overlays/gateway"), secrets, tmp_path) as pod:
        assert named and named <= metric_names(pod.ask("http", "/metrics")[1])
