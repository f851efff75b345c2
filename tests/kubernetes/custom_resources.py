"""Fields of the custom resources that docker/ uses, as their documentation lists them.

Not the whole schemas, which no package carries: what is here is what we may write, and where.
A leaf names a type; a list of one is a list of such; ANY is looked at elsewhere.
"""

ANY = object()
LABELS = {str: str}

KINDS = {
    ("monitoring.coreos.com/v1", "PodMonitor"): {
        "selector": {"matchLabels": LABELS},
        "podMetricsEndpoints": [{
            "port": str, "path": str, "scheme": str, "interval": str,
            "authorization": {"credentials": {"name": str, "key": str}},
            "tlsConfig": {"ca": {"secret": {"name": str, "key": str}}, "serverName": str},
        }],
    },
    ("inference.networking.k8s.io/v1", "InferencePool"): {
        "selector": {"matchLabels": LABELS},
        "targetPorts": [{"number": int}],
        "endpointPickerRef": {"name": str, "port": {"number": int}, "failureMode": str},
    },
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): {
        "parentRefs": [{"name": str}],
        "rules": [{
            "matches": [{"path": {"type": str, "value": str}}],
            "backendRefs": [{"group": str, "kind": str, "name": str}],
            "timeouts": {"request": str},
        }],
    },
    ("serving.kserve.io/v1alpha1", "ServingRuntime"): {
        "annotations": LABELS,
        "supportedModelFormats": [{"name": str, "autoSelect": bool}],
        "containers": ANY,
        "volumes": ANY,
    },
    ("serving.kserve.io/v1beta1", "InferenceService"): {
        "predictor": {
            "minReplicas": int,
            "terminationGracePeriodSeconds": int,
            "model": {"modelFormat": {"name": str}, "runtime": str, "storageUri": str},
        },
    },
}


def problems(value, fields, where):
    """One line per field that is unknown or of another type."""
    if fields is ANY:
        return
    if isinstance(fields, list):
        for index, element in enumerate(value if isinstance(value, list) else [value]):
            yield from problems(element, fields[0], f"{where}[{index}]")
    elif isinstance(fields, dict) and isinstance(value, dict):
        for name, element in value.items():
            if name not in fields and str not in fields:
                yield f"{where}.{name} is unknown"
            else:
                yield from problems(element, fields.get(name, fields.get(str)), f"{where}.{name}")
    elif not isinstance(fields, type) or not isinstance(value, fields):
        yield f"{where} is {value!r}"
