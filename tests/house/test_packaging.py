"""What is installed: the wheel's files, requirements against imports, pins against requirements."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import alexnet_tf

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("alexnet_tf", "pipelines", "serving")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def environment(python: str) -> dict[str, str]:
    return {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}


def requirements(*extras: str) -> list[Requirement]:
    optional = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in optional[extra])]
    return [r for r in map(Requirement, lines) if r.name != PROJECT["name"]]


def applies(requirement: Requirement, python: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(environment(python))


def pins(python: str) -> dict[str, list[str]]:
    """Versions that constraints.txt holds for one Python, by canonical name."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            (only,) = pin.specifier
            assert only.operator == "==", line
            if applies(pin, python):
                found.setdefault(canonicalize_name(pin.name), []).append(only.version)
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_is_pinned_once_and_legally(python):
    held = pins(python)
    for requirement in requirements(*PROJECT["optional-dependencies"]):
        if applies(requirement, python):
            versions = held.get(canonicalize_name(requirement.name), [])
            assert len(versions) == 1, f"{requirement.name}: {versions}"
            assert requirement.specifier.contains(versions[0]), f"{requirement}: {versions}"
    assert [name for name, versions in held.items() if len(versions) != 1] == []


def test_constraints_hold_no_addresses():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert re.findall(r"://|@|^-", text, re.MULTILINE) == []


def imported_distributions(package: str) -> set[frozenset[str]]:
    """For each name that a package's modules import, at any level: the distributions that provide it."""
    provided = metadata.packages_distributions()
    found: set[frozenset[str]] = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            tops = {name.partition(".")[0] for name in names} - {*PACKAGES, *sys.stdlib_module_names}
            found |= {frozenset(map(canonicalize_name, provided.get(top, [top]))) for top in tops}
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_are_required(package):
    declared = {canonicalize_name(r.name) for r in requirements()}
    assert [names for names in imported_distributions(package) if not names & declared] == []


def test_tensorflow_datasets_gets_what_it_forgets_to_ask_for():
    asked = map(Requirement, metadata.requires("tensorflow-datasets") or [])
    names = {r.name for r in asked if applies(r, "3.11")}
    assert "tensorflow-metadata" in names
    assert "importlib_resources" in {r.name for r in requirements()} - names


def test_the_wheel_holds_the_packages_and_nothing_else(tmp_path):
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    ignored = shutil.ignore_patterns("__pycache__")
    for name in (*PACKAGES, "benchmarks", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", build, "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]

    (wheel,) = (tmp_path / "out").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (about,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        described = Parser().parsestr(archive.read(about).decode("utf-8"))
        licences = [name for name in archive.namelist() if name.endswith("/LICENSE")]
    sources = {p.relative_to(tmp_path).as_posix() for d in PACKAGES for p in (tmp_path / d).rglob("*.*")}
    assert names == sources
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert described["Version"] == alexnet_tf.__version__
    assert described["License-Expression"] == "Apache-2.0"
    assert licences


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_quickstart_runs_the_public_commands_in_order():
    shown = {}
    for seed in ("0", "1"):
        command = ["make", "-n", "quickstart", f"SEED={seed}", "VENV=missing"]
        shown[seed] = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    order = re.findall(r"-m ((?:alexnet_tf|pipelines)\.\w+(?: filters| curves| report)?)", shown["0"])
    assert order == [
        "alexnet_tf.train",
        "alexnet_tf.evaluate",
        "alexnet_tf.export",
        "pipelines.samples",
        "alexnet_tf.predict",
        "alexnet_tf.visualize filters",
        "alexnet_tf.visualize curves",
        "alexnet_tf.visualize report",
        "alexnet_tf.predict",
    ]
    assert "--workdir runs/quickstart " in shown["0"]
    assert "--workdir runs/quickstart-seed1 --set seed=1 --set data_seed=1" in shown["1"]
    assert "runs/quickstart/" not in shown["1"], "a second seed would overwrite the first one's folder"
