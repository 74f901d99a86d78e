"""Files of deploy/ as the tests read them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def documents(text):
    return {found["kind"]: found for found in yaml.safe_load_all(text)}


def pod_of(found):
    return found["Deployment"]["spec"]["template"]["spec"]


def container_of(found):
    (container,) = pod_of(found)["containers"]
    return container


def load_render():
    spec = importlib.util.spec_from_file_location(
        "render_serving", DEPLOY / "kubernetes" / "render_serving.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


render_serving = load_render()
