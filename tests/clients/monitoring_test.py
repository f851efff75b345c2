"""docker/compose.yaml and what it mounts: Prometheus scrapes the server, and every query of dashboard and alerts means something."""

import contextlib
import json
import math
import os
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request

import pytest
import serving
import yaml

DOCKER = serving.ROOT / "docker"
RULES = DOCKER / "prometheus/alerts.yml"
CORE_PANELS = {"timeseries", "stat"}
PROMETHEUS_TIMEOUT_S = 60

needs_prometheus = pytest.mark.skipif(not (shutil.which("prometheus") and shutil.which("promtool")),
                                      reason="prometheus is not here (tools/install_deps monitoring)")


def dashboard():
    return json.loads((DOCKER / "grafana/mea.json").read_text())


def read(name):
    return yaml.safe_load((DOCKER / name).read_text())


def queries():
    """Of the dashboard, with Grafana's variables filled in."""
    found = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    return [expr.replace("$__rate_interval", "1m").replace("$model", ".*") for expr in found]


class Prometheus:
    def __init__(self, address):
        self.url = f"http://{address}/api/v1/"

    def get(self, path, **parameters):
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(parameters)}", timeout=30) as answer:
            return json.load(answer)["data"]

    def values(self, expr):
        return [float(sample["value"][1]) for sample in self.get("query", query=expr)["result"]]


@pytest.fixture(scope="module")
def prometheus(server, tmp_path_factory):
    """One with our configuration, scraping the server often."""
    if server.process is None:
        pytest.skip("the server is not ours")
    folder = tmp_path_factory.mktemp("prometheus")
    config = read("prometheus/prometheus.yml")
    assert config["rule_files"] == [RULES.name]
    config["rule_files"] = [str(RULES)]
    config["global"] = {"scrape_interval": "200ms", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"] = [{"targets": [server.admin_address]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{serving.free_ports(1)[0]}"
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}",
               "--log.level=error"]
    with subprocess.Popen(command) as process:
        try:
            started = Prometheus(address)
            await_scrape(started, process)
            yield started
        finally:
            process.terminate()


def await_scrape(prometheus, process):
    deadline = time.monotonic() + PROMETHEUS_TIMEOUT_S
    while True:
        with contextlib.suppress(OSError):
            if prometheus.values('up{job="mea"}') == [1]:
                return
        assert process.poll() is None, "prometheus has ended"
        assert time.monotonic() < deadline, "prometheus never saw the server"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def worked(server, prometheus):
    """The server has answered, has found a prompt in its cache, and has been scraped since."""
    body = {"prompt": "Once upon a time there was a small house by the sea. " * 4, "max_tokens": 20, "ignore_eos": True}
    for _ in range(3):
        assert server.post("/v1/completions", body).status == 200
        seen = server.metric("mea_generation_tokens_total")
        server.wait_until(lambda wanted=seen: (prometheus.values("mea_generation_tokens_total") or [0])[0] >= wanted, "a scrape")


@needs_prometheus
def test_every_query_of_the_dashboard_has_data(server, prometheus, worked):
    for expr in queries():
        server.wait_until(lambda query=expr: any(not math.isnan(value) for value in prometheus.values(query)), f"data for {expr}")


@needs_prometheus
def test_the_variable_of_the_dashboard_has_values(server, prometheus, worked):
    (variable,) = dashboard()["templating"]["list"]
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()
    assert prometheus.get(f"label/{label}/values", **{"match[]": metric}) == [server.model]


@needs_prometheus
def test_alerts_ask_for_what_there_is_and_are_quiet(server, prometheus, worked):
    """Every expression is empty on a healthy server, and not because it asks for something that does not exist."""
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) == 10
    for rule in rules:
        server.wait_until(lambda name=rule["name"]: any(r["name"] == name and r["health"] == "ok"
                          for g in prometheus.get("rules")["groups"] for r in g["rules"]), f"{rule['name']} is evaluated")
        assert prometheus.values(rule["query"]) == [], rule["name"]
        names = set(re.findall(r"\b(?:mea_\w+|up)\b", rule["query"])) - {"mea_"}
        assert names, rule["query"]
        for name in names:
            assert prometheus.values(f"count({name})") != [], f"{rule['name']}: no {name}"


@needs_prometheus
def test_promtool_finds_nothing(tmp_path):
    for arguments in (["check", "rules", RULES], ["check", "config", DOCKER / "prometheus/prometheus.yml"],
                      ["test", "rules", DOCKER / "prometheus/alerts_test.yml"]):
        checked = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_is_tested():
    names = {rule["alert"] for group in read("prometheus/alerts.yml")["groups"] for rule in group["rules"]}
    (expected,) = [case["exp_samples"] for test in read("prometheus/alerts_test.yml")["tests"] for case in test["promql_expr_test"] if case["exp_samples"]]
    assert {re.search('alertname="(.*)"', sample["labels"]).group(1) for sample in expected} == names


def test_the_dashboard_is_one_that_grafana_provisions():
    board = dashboard()
    (source,) = read("grafana/datasource.yaml")["datasources"]
    assert (source["type"], source["access"], source["isDefault"]) == ("prometheus", "proxy", True)
    assert re.fullmatch(r"[\w-]{1,40}", board["uid"]) and board["title"] and "id" not in board
    assert isinstance(board["schemaVersion"], int)
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    places = set()
    for panel in panels:
        assert panel["type"] in CORE_PANELS, panel["title"]
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert max(x for x, _ in cells) < 24 and not cells & places, f"{panel['title']} overlaps"
        places |= cells
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for holder in [panel, *panel["targets"], *board["templating"]["list"]]:
            assert holder["datasource"] == {"type": source["type"], "uid": source["uid"]}
        legends = {target["legendFormat"] for target in panel["targets"]}
        for override in panel["fieldConfig"]["overrides"]:
            assert override["matcher"]["id"] == "byName" and override["matcher"]["options"] in legends, panel["title"]


def test_compose_mounts_what_is_there_where_it_is_looked_for():
    services = read("compose.yaml")["services"]
    mounts = {}
    for service in services.values():
        for volume in service.get("volumes", []):
            source, target = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume).split(":")[:2]
            mounts[target] = source
            assert source in read("compose.yaml")["volumes"] or (DOCKER / source).exists(), volume
        for port in service["ports"]:
            assert port.startswith("127.0.0.1:"), port
    (provider,) = read("grafana/dashboards.yaml")["providers"]
    assert mounts[f"{provider['options']['path']}/mea.json"] == "./grafana/mea.json"
    assert provider["type"] == "file"
    assert services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] in mounts
    (source,) = read("grafana/datasource.yaml")["datasources"]
    assert urllib.parse.urlparse(source["url"]).hostname in services
    (target,) = read("prometheus/prometheus.yml")["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target.split(":")[0] in services
    assert f"0.0.0.0:{target.split(':')[1]}" in services["mea"]["command"], "not the admin port"


def test_the_command_of_compose_serves(model_dir):
    command = read("compose.yaml")["services"]["mea"]["command"]
    model = str(model_dir)
    command = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word).replace("/model", model) for word in command]
    ports = {word: f"127.0.0.1:{port}" for word, port in zip([w for w in command if w.startswith("0.0.0.0:")], serving.free_ports(3))}
    command = [os.environ["MEA_BINARY"], *(ports.get(word, word) for word in command), "--kv-cache-bytes", "16MiB"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline().startswith("serving model: "), process.stderr.read()
        finally:
            process.kill()
