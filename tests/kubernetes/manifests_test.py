"""Every rendered object against the schemas of Kubernetes, and against the other objects."""

import re

import kubernetes_validate
import pytest
import rendered
import yaml
from custom_resources import KINDS, problems

OLDEST, NEWEST = "1.30.0", "1.37.0"  # that docs/kubernetes.md promises; that the schemas know


@pytest.fixture(scope="module", params=rendered.everything().items(), ids=lambda made: made[0])
def objects(request):
    return request.param[1]


@pytest.mark.parametrize("name", rendered.SAME)
def test_the_chart_says_what_the_overlay_says(name):
    chart, overlay = rendered.comparable(rendered.helm(rendered.SAME[name])), rendered.comparable(rendered.kustomize(f"overlays/{name}"))
    assert chart.keys() == overlay.keys()
    for key in chart:
        assert chart[key] == overlay[key]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_objects_follow_their_schemas(objects, version):
    for item in objects:
        kind = item["apiVersion"], item["kind"]
        if kind in KINDS:
            assert not list(problems(item["spec"], KINDS[kind], item["kind"]))
        else:
            kubernetes_validate.validate(item, version, strict=True)
    for _, spec in rendered.pod_specs(objects):
        kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}, version, strict=True)


def test_an_unknown_field_is_seen():
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "images": "a"}]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, NEWEST, strict=True)
    pool = KINDS["inference.networking.k8s.io/v1", "InferencePool"]
    assert list(problems({"targetPort": [{"number": 1}]}, pool, "spec")) == ["spec.targetPort is unknown"]
    assert list(problems({"targetPorts": [{"number": "1"}]}, pool, "spec")) == ["spec.targetPorts[0].number is '1'"]


def selectors(item):
    spec = item["spec"]
    if item["kind"] == "Service":
        return [spec["selector"]]
    if item["kind"] == "NetworkPolicy":
        return [spec["podSelector"]["matchLabels"]]
    spread = [constraint["labelSelector"]["matchLabels"] for constraint in
              spec.get("template", {}).get("spec", {}).get("topologySpreadConstraints", [])]
    return spread + ([spec["selector"]["matchLabels"]] if "selector" in spec else [])


def test_selectors_choose_the_pods(objects):
    pods = [labels for labels, _ in rendered.pod_specs(objects)]
    for selector in [selector for item in objects for selector in selectors(item)]:
        assert selector and all(selector.items() <= labels.items() for labels in pods)


def test_references_lead_to_objects(objects):
    there = {(item["kind"], item["metadata"]["name"]) for item in objects}
    for item in rendered.of_kind(objects, "HorizontalPodAutoscaler"):
        target = item["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) in there
    for item in rendered.of_kind(objects, "HTTPRoute"):
        for backend in item["spec"]["rules"][0]["backendRefs"]:
            assert (backend["kind"], backend["name"]) in there
    for item in rendered.of_kind(objects, "InferenceService"):
        model = item["spec"]["predictor"]["model"]
        runtime = rendered.of_kind(objects, "ServingRuntime")[0]
        assert model["runtime"] == runtime["metadata"]["name"]
        assert model["modelFormat"]["name"] in [made["name"] for made in runtime["spec"]["supportedModelFormats"]]


def ports_asked_for(item):
    """Ports of the pods that an object relies on, by name or number."""
    spec = item["spec"]
    if item["kind"] == "Service":
        return [port["targetPort"] for port in spec["ports"]]
    if item["kind"] == "NetworkPolicy":
        return [port["port"] for rule in spec["ingress"] for port in rule["ports"]]
    if item["kind"] == "PodMonitor":
        return [endpoint["port"] for endpoint in spec["podMetricsEndpoints"]]
    if item["kind"] == "InferencePool":
        return [port["number"] for port in spec["targetPorts"]]
    if item["kind"] == "ServingRuntime":
        return [int(spec["annotations"]["prometheus.kserve.io/port"])]
    return []


def test_ports_are_those_the_server_listens_on(objects):
    for container in rendered.containers(objects):
        listening = {int(value.rpartition(":")[2]) for name, value in rendered.flags(container).items()
                     if name in ("--listen", "--http", "--admin") and value != "off"}
        assert {port["containerPort"] for port in container["ports"]} == listening
        known = listening | {port.get("name") for port in container["ports"]}
        probes = [container[name]["httpGet"]["port"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
        assert known.issuperset(probes)
        for item in objects:
            assert known.issuperset(ports_asked_for(item)), item["kind"]
    for item in rendered.of_kind(objects, "Service"):
        numbers = {port["name"]: port["containerPort"] for port in rendered.containers(objects)[0]["ports"]}
        assert all(port["port"] == numbers[port["targetPort"]] for port in item["spec"]["ports"])


def test_pods_have_no_privilege(objects):
    """Pod security standard "restricted", and more."""
    for _, spec in rendered.pod_specs(objects):
        for container in spec["containers"]:
            security = spec.get("securityContext", {}) | container["securityContext"]
            assert security["runAsNonRoot"] and security["runAsUser"] == 10001  # docker/Dockerfile.cpu
            assert security["readOnlyRootFilesystem"] and security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}


def test_a_pod_may_drain_before_it_is_killed(objects):
    for _, spec in rendered.pod_specs(objects):
        for container in spec["containers"]:
            taken = container["lifecycle"]["preStop"]["sleep"]["seconds"] + int(rendered.flags(container)["--drain-timeout"])
            assert spec["terminationGracePeriodSeconds"] >= taken + 10


def test_every_file_of_a_flag_is_mounted(objects):
    for _, spec in rendered.pod_specs(objects):
        for container in spec["containers"]:
            mounts = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", [])}
            assert sorted(mounts.values()) == sorted(volume["name"] for volume in spec.get("volumes", []))
            places = [*mounts, "/opt/mea/", "/mnt/models"]  # the image's own; KServe mounts it
            for name, value in rendered.flags(container).items():
                assert not (value or "").startswith("/") or any(value.startswith(place) for place in places), name


def test_whoever_comes_in_is_known_or_all_are(objects):
    for container in rendered.containers(objects):
        assert ("--api-key-file" in rendered.flags(container)) != ("--insecure" in rendered.flags(container))


def test_limits_equal_requests(objects):
    for container in rendered.containers(objects):
        assert container["resources"]["limits"] == container["resources"]["requests"]


# ---- the chart


def values_of(schema, values, where=""):
    """Each value with its schema."""
    for name in values.keys() | schema["properties"].keys():
        yield f"{where}{name}", values.get(name), schema["properties"].get(name)
        if "properties" in schema["properties"].get(name, {}):
            yield from values_of(schema["properties"][name], values[name], f"{where}{name}.")


def test_the_schema_describes_every_value():
    schema = yaml.safe_load((rendered.CHART / "values.schema.json").read_text())
    values = yaml.safe_load((rendered.CHART / "values.yaml").read_text())
    for name, value, described in values_of(schema, values):
        assert value is not None, f"{name} is not in values.yaml"
        assert described and described.get("description"), f"{name} is not described"


@pytest.mark.parametrize("setting, complaint", [
    ("replica=3", "replica"),
    ("gpus=-1", "gpus"),
    ("keys.secret=\"\"", "keys.secret is empty"),
    ("weightCache.dtype=\"int3\"", "dtype"),
    ("resources.memory=8", "memory"),
    ("drainSeconds=\"30s\"", "drainSeconds"),
])
def test_a_value_that_cannot_be_is_refused(setting, complaint):
    refused = rendered.helm_run(settings=[setting])
    assert refused.returncode != 0 and complaint in refused.stderr


@pytest.mark.parametrize("setting, expected", [
    ("args=[\"--max-context=4096\"]", "--max-context"),
    ("model.name=\"chat\"", "--model-name"),
])
def test_values_become_flags(setting, expected):
    assert expected in rendered.flags(rendered.containers(rendered.helm(settings=[setting]))[0])


def test_the_grace_period_follows_the_drain():
    (_, spec), = rendered.pod_specs(rendered.helm(settings=["drainSeconds=300"]))
    assert spec["terminationGracePeriodSeconds"] == 330


def test_a_claim_takes_the_place_of_the_empty_directory():
    (_, spec), = rendered.pod_specs(rendered.helm(["gateway"], settings=["weightCache.claim=\"weights\""]))
    volume, = [volume for volume in spec["volumes"] if volume["name"] == "weight-cache"]
    assert volume == {"name": "weight-cache", "persistentVolumeClaim": {"claimName": "weights"}}


def test_versions_are_those_of_the_project_and_the_oldest_cluster():
    version = re.search(r"project\(mea VERSION (\S+)", (rendered.ROOT / "CMakeLists.txt").read_text())[1]
    chart = yaml.safe_load((rendered.CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)
    assert chart["kubeVersion"] == f">={OLDEST}-0"
    for objects in rendered.everything().values():
        for container in rendered.containers(objects):
            assert container["image"].endswith(f":{version}")


@pytest.mark.parametrize("name, address", [("demo", "http://chat.default:8000/v1"), ("production", "https://chat.default:8000/v1")])
def test_the_notes_say_where_the_api_is(name, address):
    notes = rendered.run("helm", "install", "chat", rendered.CHART, "--dry-run=client", "--values", rendered.CHART / f"examples/{name}.yaml")
    assert notes.returncode == 0 and address in notes.stdout, notes.stderr
