"""The fields of the Kubernetes API that deploy/ uses, with their types, after the API reference of 1.31."""

from __future__ import annotations

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
METADATA = Object({"name": NAME, "labels": LABELS}, ("name",))
SELECTOR = Object({"matchLabels": LABELS})
QUANTITIES = {str: QUANTITY}
PORT = (int, str)
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
        "ports": [Object({"name": r"[a-z-]{1,15}", "containerPort": int}, ("containerPort",))],
        "resources": Object({"requests": QUANTITIES, "limits": QUANTITIES}),
        "readinessProbe": Object({"tcpSocket": Object({"port": PORT}, ("port",))}),
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
    },
    ("name",),
)
POD = Object(
    {
        "subdomain": NAME,
        "restartPolicy": Choice(("Always", "OnFailure", "Never")),
        "terminationGracePeriodSeconds": int,
        "automountServiceAccountToken": bool,
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
TEMPLATE = Object({"metadata": Object({"labels": LABELS}), "spec": POD}, ("spec",))
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
            "ports": [Object({"name": str, "port": int, "targetPort": PORT}, ("port",))],
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
            "ingress": [Object({"from": [Object({"podSelector": SELECTOR})]})],
        },
        ("podSelector",),
    ),
    ("batch/v1", "Job"): Object(
        {
            "completionMode": Choice(("Indexed", "NonIndexed")),
            "completions": int,
            "parallelism": int,
            "backoffLimit": int,
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
}


def document(kind: tuple[str, str]) -> Object:
    """What a whole document of an API version and a kind consists of."""
    fields = {"apiVersion": str, "kind": str, "metadata": METADATA, "spec": SPECS[kind]}
    return Object(fields, ("apiVersion", "kind", "metadata", "spec"))
