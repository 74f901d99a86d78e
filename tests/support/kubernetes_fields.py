"""The fields of the Kubernetes API that deploy/ uses, with their types, after the API reference of 1.31."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

QUANTITY = r"(\d+)(m|Ki|Mi|Gi|Ti)?"
NAME = r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?"


class Object(NamedTuple):
    """An object's fields; those in `required` must be there, no others than these may be."""

    fields: dict[str, Any]
    required: tuple[str, ...] = ()


class Choice(NamedTuple):
    """One of some words."""

    words: tuple[str, ...]


LABELS = {str: str}
METADATA = Object({"name": NAME, "generateName": NAME[:-1] + "-?", "labels": LABELS, "annotations": LABELS})
SELECTOR = Object({"matchLabels": LABELS})
QUANTITIES = {str: QUANTITY}
PORT = (int, str)
HTTP_GET = Object({"port": PORT, "path": r"/.*"}, ("port",))
PROBE = Object(
    {
        "tcpSocket": Object({"port": PORT}, ("port",)),
        "httpGet": HTTP_GET,
        "initialDelaySeconds": int,
        "periodSeconds": int,
        "timeoutSeconds": int,
        "failureThreshold": int,
    }
)
FIELD_REF = Object({"fieldPath": str}, ("fieldPath",))
ENV = Object(
    {"name": r"[A-Z_]+", "value": str, "valueFrom": Object({"fieldRef": FIELD_REF}, ("fieldRef",))},
    ("name",),
)
CONTAINER = Object(
    {
        "name": NAME,
        "image": str,
        "command": [str],
        "args": [str],
        "env": [ENV],
        "ports": [
            Object(
                {"name": r"[a-z-]{1,15}", "containerPort": int, "protocol": Choice(("TCP", "UDP"))},
                ("containerPort",),
            )
        ],
        "resources": Object({"requests": QUANTITIES, "limits": QUANTITIES}),
        "startupProbe": PROBE,
        "readinessProbe": PROBE,
        "livenessProbe": PROBE,
        "lifecycle": Object({"preStop": Object({"sleep": Object({"seconds": int}, ("seconds",))})}),
        "securityContext": Object(
            {
                "allowPrivilegeEscalation": bool,
                "readOnlyRootFilesystem": bool,
                "capabilities": Object({"drop": [str]}),
            }
        ),
        "volumeMounts": [
            Object({"name": NAME, "mountPath": r"/.*", "readOnly": bool}, ("name", "mountPath"))
        ],
    },
    ("name", "image"),
)
VOLUME = Object(
    {
        "name": NAME,
        "emptyDir": Object({}),
        "persistentVolumeClaim": Object({"claimName": NAME, "readOnly": bool}, ("claimName",)),
        "configMap": Object({"name": NAME}, ("name",)),
        "secret": Object({"secretName": NAME}, ("secretName",)),
    },
    ("name",),
)
POD = Object(
    {
        "subdomain": NAME,
        "restartPolicy": Choice(("Always", "OnFailure", "Never")),
        "terminationGracePeriodSeconds": int,
        "automountServiceAccountToken": bool,
        "serviceAccountName": NAME,
        "nodeSelector": LABELS,
        "topologySpreadConstraints": [
            Object(
                {
                    "maxSkew": int,
                    "topologyKey": str,
                    "whenUnsatisfiable": Choice(("DoNotSchedule", "ScheduleAnyway")),
                    "labelSelector": SELECTOR,
                },
                ("maxSkew", "topologyKey", "whenUnsatisfiable"),
            )
        ],
        "shareProcessNamespace": bool,
        "securityContext": Object(
            {
                "runAsNonRoot": bool,
                "runAsUser": int,
                "runAsGroup": int,
                "fsGroup": int,
                "fsGroupChangePolicy": Choice(("Always", "OnRootMismatch")),
                "seccompProfile": Object({"type": Choice(("RuntimeDefault", "Unconfined"))}, ("type",)),
            }
        ),
        "containers": [CONTAINER],
        "volumes": [VOLUME],
    },
    ("containers",),
)
TEMPLATE = Object({"metadata": Object({"labels": LABELS, "annotations": LABELS}), "spec": POD}, ("spec",))
EXIT_CODES = Object(
    {"containerName": NAME, "operator": Choice(("In", "NotIn")), "values": [int]}, ("operator", "values")
)
CONDITION = Object({"type": str, "status": Choice(("True", "False", "Unknown"))}, ("type",))
RULE = Object(
    {
        "action": Choice(("FailJob", "FailIndex", "Ignore", "Count")),
        "onExitCodes": EXIT_CODES,
        "onPodConditions": [CONDITION],
    },
    ("action",),
)
SPECS = {
    ("v1", "Service"): Object(
        {
            "clusterIP": str,
            "publishNotReadyAddresses": bool,
            "selector": LABELS,
            "ports": [Object({"name": str, "port": int, "targetPort": PORT, "appProtocol": str}, ("port",))],
        },
        ("ports",),
    ),
    ("v1", "PersistentVolumeClaim"): Object(
        {
            "accessModes": [Choice(("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"))],
            "storageClassName": NAME,
            "resources": Object({"requests": QUANTITIES}, ("requests",)),
        },
        ("accessModes", "resources"),
    ),
    ("networking.k8s.io/v1", "NetworkPolicy"): Object(
        {
            "podSelector": SELECTOR,
            "policyTypes": [Choice(("Ingress", "Egress"))],
            "ingress": [
                Object(
                    {
                        "from": [Object({"podSelector": SELECTOR})],
                        "ports": [Object({"protocol": Choice(("TCP", "UDP")), "port": PORT})],
                    }
                )
            ],
        },
        ("podSelector",),
    ),
    ("batch/v1", "Job"): Object(
        {
            "completionMode": Choice(("Indexed", "NonIndexed")),
            "completions": int,
            "parallelism": int,
            "backoffLimit": int,
            "ttlSecondsAfterFinished": int,
            "podFailurePolicy": Object({"rules": [RULE]}, ("rules",)),
            "template": TEMPLATE,
        },
        ("template",),
    ),
    ("apps/v1", "StatefulSet"): Object(
        {
            "replicas": int,
            "serviceName": NAME,
            "podManagementPolicy": Choice(("OrderedReady", "Parallel")),
            "selector": SELECTOR,
            "template": TEMPLATE,
        },
        ("selector", "template", "serviceName"),
    ),
    ("apps/v1", "Deployment"): Object(
        {
            "replicas": int,
            "minReadySeconds": int,
            "progressDeadlineSeconds": int,
            "strategy": Object({"rollingUpdate": Object({"maxUnavailable": PORT, "maxSurge": PORT})}),
            "selector": SELECTOR,
            "template": TEMPLATE,
        },
        ("selector", "template"),
    ),
    ("policy/v1", "PodDisruptionBudget"): Object(
        {"maxUnavailable": PORT, "minAvailable": PORT, "selector": SELECTOR}, ("selector",)
    ),
    ("autoscaling/v2", "HorizontalPodAutoscaler"): Object(
        {
            "scaleTargetRef": Object({"apiVersion": str, "kind": str, "name": NAME}, ("kind", "name")),
            "minReplicas": int,
            "maxReplicas": int,
            "metrics": [
                Object(
                    {
                        "type": Choice(("Resource",)),
                        "resource": Object(
                            {
                                "name": Choice(("cpu", "memory")),
                                "target": Object(
                                    {"type": Choice(("Utilization",)), "averageUtilization": int}, ("type",)
                                ),
                            },
                            ("name", "target"),
                        ),
                    },
                    ("type",),
                )
            ],
            "behavior": Object({"scaleDown": Object({"stabilizationWindowSeconds": int})}),
        },
        ("scaleTargetRef", "maxReplicas"),
    ),
    ("serving.kserve.io/v1beta1", "InferenceService"): Object(
        {
            "predictor": Object(
                {
                    "minReplicas": int,
                    "maxReplicas": int,
                    "scaleMetric": Choice(("concurrency", "rps", "cpu", "memory")),
                    "scaleTarget": int,
                    "timeout": int,
                    "canaryTrafficPercent": int,
                    "containers": [CONTAINER],
                    "model": Object(
                        {
                            "modelFormat": Object({"name": str, "version": str}, ("name",)),
                            "protocolVersion": Choice(("v1", "v2", "grpc-v1", "grpc-v2")),
                            "runtimeVersion": str,
                            "storageUri": str,
                            "resources": Object({"requests": QUANTITIES, "limits": QUANTITIES}),
                        },
                        ("modelFormat",),
                    ),
                }
            )
        },
        ("predictor",),
    ),
}


def document(kind: tuple[str, str]) -> Object:
    """What a whole document of an API version and a kind consists of."""
    fields = {"apiVersion": str, "kind": str, "metadata": METADATA}
    if kind == ("v1", "ConfigMap"):
        return Object({**fields, "data": {str: str}}, (*fields, "data"))
    return Object({**fields, "spec": SPECS[kind]}, (*fields, "spec"))


def faults(value, expected, where=""):
    """Where a value departs from the API, as the API server's strict validation would find it."""
    if isinstance(expected, Object):
        if not isinstance(value, dict):
            return [f"{where}: no object"]
        found = [f"{where}.{name}: unknown" for name in value if name not in expected.fields]
        found += [f"{where}.{name}: missing" for name in expected.required if name not in value]
        inner = [faults(value[n], kind, f"{where}.{n}") for n, kind in expected.fields.items() if n in value]
    elif isinstance(expected, dict):
        (kind,) = expected.values()
        found = [f"{where}: no object"] if not isinstance(value, dict) else []
        inner = [] if found else [faults(v, kind, f"{where}.{name}") for name, v in value.items()]
    elif isinstance(expected, list):
        found = [f"{where}: no list"] if not isinstance(value, list) or not value else []
        inner = [] if found else [faults(v, expected[0], f"{where}[{i}]") for i, v in enumerate(value)]
    elif isinstance(expected, (str, Choice)):
        legal = expected.words if isinstance(expected, Choice) else ()
        fits = value in legal if legal else bool(re.fullmatch(expected, str(value)))
        return [] if fits and isinstance(value, (str, int)) else [f"{where}: {value!r}"]
    else:
        kinds = expected if isinstance(expected, tuple) else (expected,)
        return [] if type(value) in kinds else [f"{where}: {value!r} is no {expected}"]
    return found + [fault for faults_inside in inner for fault in faults_inside]


def departures(one):
    """The faults of a whole document."""
    return faults(one, document((one["apiVersion"], one["kind"])))
