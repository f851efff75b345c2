"""What kubectl and helm make of docker/: lists of Kubernetes objects."""

import copy
import functools
import pathlib
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "build/kubernetes-programs"
MANIFESTS = ROOT / "docker/kubernetes"
CHART = ROOT / "docker/helm/mea"

# An overlay, and the values that make the chart say the same.
SAME = {"demo": ["demo"], "production": ["production"], "gpu": ["production", "gpu"], "gateway": ["gateway"]}


def run(program, *arguments):
    return subprocess.run([PROGRAMS / program, *map(str, arguments)], capture_output=True, text=True)


def objects_of(ran):
    assert ran.returncode == 0, ran.stderr
    return [item for item in yaml.safe_load_all(ran.stdout) if item]


def kustomize(directory):
    return objects_of(run("kubectl", "kustomize", MANIFESTS / directory))


def helm(examples=(), release="mea", settings=()):
    return objects_of(helm_run(examples, release, settings))


def helm_run(examples=(), release="mea", settings=()):
    values = [part for name in examples for part in ("--values", CHART / f"examples/{name}.yaml")]
    chosen = [part for setting in settings for part in ("--set-json", setting)]
    return run("helm", "template", release, CHART, *values, *chosen)


@functools.cache
def everything():
    """Each list of objects that docker/ leads to, by name."""
    made = {f"overlays/{name}": kustomize(f"overlays/{name}") for name in SAME}
    made["kserve"] = kustomize("kserve")
    made |= {f"helm {name}": helm(examples) for name, examples in SAME.items()}
    made["helm, another release"] = helm(["production", "gateway"], release="chat")
    return made


def of_kind(objects, *kinds):
    return [item for item in objects if item["kind"] in kinds]


def pod_specs(objects):
    """Each pod, as the labels that selectors see and the spec of a core Pod."""
    for item in of_kind(objects, "Deployment"):
        template = item["spec"]["template"]
        yield template["metadata"]["labels"], template["spec"]
    for item in of_kind(objects, "ServingRuntime"):
        service = of_kind(objects, "InferenceService")[0]
        taken = {name: item["spec"][name] for name in ("containers", "volumes")}
        yield {}, taken | {"terminationGracePeriodSeconds": service["spec"]["predictor"]["terminationGracePeriodSeconds"]}


def containers(objects):
    return [container for _, spec in pod_specs(objects) for container in spec["containers"]]


def flags(container):
    """The flags of `mea serve` with their values, None where there is none."""
    command, *arguments = container["args"]
    assert command == "serve"
    split = [argument.partition("=") for argument in arguments]
    return {name: value if equals else None for name, equals, value in split}


HELM_ONLY = {"app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"}


def comparable(objects):
    """By kind and name, without what only Helm writes and without orders that mean nothing."""
    made = {}
    for item in copy.deepcopy(objects):
        labels = item["metadata"]["labels"]
        item["metadata"]["labels"] = {name: value for name, value in labels.items() if name not in HELM_ONLY}
        for _, spec in pod_specs([item]) if item["kind"] == "Deployment" else []:
            for container in spec["containers"]:
                container["args"].sort()
                container.get("volumeMounts", []).sort(key=lambda mount: mount["name"])
            spec.get("volumes", []).sort(key=lambda volume: volume["name"])
        made[item["kind"], item["metadata"]["name"]] = item
    return made
