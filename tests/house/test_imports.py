"""The rules of the house that a reader relies on: who imports whom, and nothing happens on import."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What the modules of each package may import of ours.
MAY_IMPORT = {
    "pipelines": {"pipelines"},
    "alexnet_tf": {"alexnet_tf", "pipelines"},
    "serving": {"serving"},
    "benchmarks": {"alexnet_tf", "benchmarks", "pipelines", "serving"},
}
INSTALLED = ("alexnet_tf", "pipelines", "serving")
# Inside a package, from the ground up: a module imports from its own floor and from those below.
FLOORS = {
    "pipelines": (
        ("errors", "fields", "config", "progress", "last_words", "command", "files", "labels", "epochs"),
        ("pictures", "rendering"),
        ("sources",),
        ("passes", "scan", "record_pictures", "record_writer", "service_client", "dataset"),
        ("prepare", "samples", "inspect", "data_service"),
    ),
    "alexnet_tf": (
        ("network", "figures", "model", "recipe_fields", "void_settings", "recipe"),
        ("metrics_file", "run_data", "run_record", "checkpoint", "evaluation"),
        ("distribute", "training", "export"),
        ("visualize",),
        ("train", "evaluate", "predict", "launch"),
    ),
    "serving": (
        ("errors", "specs", "command"),
        ("settings", "monitoring", "codec", "security"),
        ("model",),
        ("batching", "clients"),
        ("lifecycle", "checks"),
        ("core",),
        ("rest", "grpc"),
        ("model_server",),
        ("server", "client", "check"),
    ),
}
# Settings, errors and what the command line needs before it knows that it has work to do.
LIGHT = (
    "alexnet_tf",
    "alexnet_tf.distribute.cluster",
    "alexnet_tf.distribute.peers",
    "alexnet_tf.network.variants",
    "alexnet_tf.recipe",
    "alexnet_tf.run_data",
    "alexnet_tf.run_record",
    "pipelines",
    "pipelines.command",
    "pipelines.config",
    "pipelines.errors",
    "pipelines.service_client",
    "pipelines.sources",
    "serving",
    "serving.clients.addresses",
    "serving.clients.client",
    "serving.clients.connect",
    "serving.clients.http",
    "serving.clients.pictures",
    "serving.clients.rest",
    "serving.clients.retry",
    "serving.command",
    "serving.errors",
    "serving.monitoring.memory",
    "serving.security",
    "serving.settings.flags",
    "serving.specs",
)
HEAVY = ("tensorflow", "keras", "tensorflow_datasets", "matplotlib", "torch", "tf_keras_vis", "grpc")
DRAWERS = {"utils", "util", "helpers", "common", "misc"}
FILE_LINES = 400
FUNCTION_LINES = 60
# A call of one of these in a module's body computes something or touches the outside world ...
WORKING_CALLS = {"tf", "keras", "os", "subprocess", "open", "plt", "matplotlib", "logging"}
# ... but for those that only describe.
DESCRIPTIONS = {"tf.TensorSpec", "tf.io.FixedLenFeature", "logging.getLogger"}


class Module(NamedTuple):
    """One source file, parsed."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    @property
    def is_command(self) -> bool:
        """Whether it is run as `python -m`: it defines `main`, or is a package's `__main__`."""
        defined = {node.name for node in self.tree.body if isinstance(node, ast.FunctionDef)}
        return "main" in defined or self.name.endswith(".__main__")


@functools.cache
def modules() -> tuple[Module, ...]:
    found = []
    for package in MAY_IMPORT:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found.append(Module(name, path, ast.parse(path.read_text(encoding="utf-8"))))
    return tuple(found)


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Every module that the code imports anywhere; of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def loaded_by_importing(*names: str) -> set[str]:
    """Which of the heavy packages are loaded once `names` are imported in a fresh interpreter."""
    script = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_walk_finds_the_packages():
    names = {module.name for module in modules()}
    assert {"pipelines.config", "alexnet_tf.recipe", "serving"} <= names
    assert {"alexnet_tf.train", "pipelines.prepare"} <= {m.name for m in modules() if m.is_command}


def test_every_method_s_options_load_nothing_heavy():
    from alexnet_tf.visualize.__main__ import METHODS

    assert loaded_by_importing(*(f"alexnet_tf.visualize.{name}" for name in METHODS)) == set()


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_only_what_they_may(package):
    offences = [
        f"{module.name} imports {name}"
        for module in modules()
        if module.package == package
        for name in imported_names(module.tree)
        if name.partition(".")[0] in {*MAY_IMPORT, "tests"} - MAY_IMPORT[package]
    ]
    assert not offences


def runtime_imports(tree: ast.AST) -> Iterator[str]:
    """As `imported_names`, without what only type checkers read."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from imported_names(ast.Module([node], []))
        yield from runtime_imports(node)


def floor_of(name: str) -> int | None:
    """Of a module, or of a name in one; None for a package itself and what its `__init__` defines."""
    package, _, rest = name.partition(".")
    return next((i for i, rooms in enumerate(FLOORS[package]) if rest.partition(".")[0] in rooms), None)


def test_every_module_is_on_a_floor():
    for package, floors in FLOORS.items():
        names = (module.name.split(".") for module in modules() if module.package == package)
        rooms = {parts[1] for parts in names if len(parts) > 1}
        assert rooms == {room for floor in floors for room in floor}, package


def test_imports_point_down():
    offences = [
        f"{module.name} imports {name}"
        for module in modules()
        if module.package in INSTALLED and (floor := floor_of(module.name)) is not None
        for name in runtime_imports(module.tree)
        if name.partition(".")[0] == module.package and (floor_of(name) or 0) > floor
    ]
    assert not offences


def graph() -> dict[str, set[str]]:
    """Module -> modules of ours that it imports at run time, anywhere in it."""
    known = {module.name for module in modules()}
    found = {m.name: {name for name in runtime_imports(m.tree) if name in known} for m in modules()}
    # `from package import module` names the package as well, which it does not ask anything of.
    packages = {module.name for module in modules() if module.path.stem == "__init__"}
    return {name: imports - packages for name, imports in found.items()}


def circles(edges: dict[str, set[str]]) -> list[str]:
    """Modules that reach themselves, each with what it reaches."""
    reached = {name: set(edges[name]) for name in edges}
    for middle in edges:
        for name in edges:
            if middle in reached[name]:
                reached[name] |= reached[middle]
    return [name for name in edges if name in reached[name]]


def test_no_circles():
    assert circles(graph()) == []


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == ["b", "c"]


def test_libraries_never_import_commands():
    commands = {module.name.removesuffix(".__main__") for module in modules() if module.is_command}
    # A package that is run as a command may still be imported from; only its __main__ may not.
    packages = {name for name in commands if (ROOT / name.replace(".", "/")).is_dir()}
    closed = (commands - packages) | {f"{name}.__main__" for name in packages}
    offences = [
        f"{module.name} imports {name}"
        for module in modules()
        if module.package in INSTALLED
        for name in imported_names(module.tree)
        if name in closed
    ]
    assert not offences


def test_light_modules_load_nothing_heavy():
    assert loaded_by_importing(*LIGHT) == set()


def test_commands_load_nothing_heavy_until_they_run():
    commands = [m.name for m in modules() if m.is_command and m.package in INSTALLED]
    assert loaded_by_importing(*commands) == set()


def test_the_light_test_can_fail():
    assert "matplotlib" in loaded_by_importing("matplotlib")


def is_guard(test: ast.expr) -> bool:
    """`if __name__ == ...` and `if TYPE_CHECKING`."""
    return any(isinstance(n, ast.Name) and n.id in ("__name__", "TYPE_CHECKING") for n in ast.walk(test))


def root_name(call: ast.Call) -> str:
    node: ast.expr = call.func
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def works(call: ast.Call) -> bool:
    """Whether a call computes something or touches the outside world; a list of suspects, not a proof."""
    return root_name(call) in WORKING_CALLS and ast.unparse(call.func) not in DESCRIPTIONS


def work_at_import(module: Module) -> Iterator[str]:
    """Statements of the module's body that do more than define."""
    for node in module.tree.body:
        here = f"{module.name}:{node.lineno}"
        if isinstance(node, ast.If) and is_guard(node.test):
            continue
        if isinstance(node, (ast.For, ast.While, ast.With, ast.Delete, ast.Assert, ast.If)):
            yield f"{here} {type(node).__name__}"
        elif isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
            yield f"{here} {ast.unparse(node)}"
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            calls = [call for call in ast.walk(node.value) if isinstance(call, ast.Call)]
            yield from (f"{here} {ast.unparse(call)}" for call in calls if works(call))


def test_importing_does_no_work():
    assert [found for module in modules() for found in work_at_import(module)] == []


def test_work_at_import_is_recognised():
    source = (
        "import os\nX = tf.constant(1)\nfor i in X: pass\nos.environ['A'] = '1'\nprint(X)\nY = dict(a=1)\n"
    )
    found = list(work_at_import(Module("m", Path("m.py"), ast.parse(source))))
    assert [text.split(" ", 1)[0] for text in found] == ["m:2", "m:3", "m:5"]


def test_file_names():
    stems = {m.path: m.path.stem for m in modules() if m.path.stem not in ("__init__", "__main__")}
    drawers = [str(path) for path, stem in stems.items() if stem in DRAWERS]
    # Deeper ones are told apart by their folders: every import is absolute.
    roots = [path for path in stems if path.parent.parent == ROOT]
    shadows = [str(path) for path in roots if path.stem in sys.stdlib_module_names]
    assert not drawers
    assert not shadows


def test_tests_lie_as_the_packages_do():
    tests = ROOT / "tests"
    homes = {"benchmarks", "deploy", "house", "support", *INSTALLED}
    files = [path.relative_to(tests) for path in tests.rglob("*.py") if path.parent != tests]
    assert {path.parts[0] for path in files} <= homes
    strays = [
        str(path)
        for path in files
        if (path.parts[0] in INSTALLED and not (ROOT / path.parent).is_dir())
        or (path.parts[0] == "support" and path.name.startswith("test_"))
        or (path.parts[0] != "support" and not path.name.startswith("test_") and path.name != "conftest.py")
    ]
    assert strays == []


def test_files_and_functions_fit_one_sitting():
    too_long = []
    for path in [*(m.path for m in modules()), *(ROOT / "tests").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        where = path.relative_to(ROOT)
        if len(text.splitlines()) > FILE_LINES:
            too_long.append(f"{where}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    too_long.append(f"{where}:{node.lineno} {node.name}: {lines} lines")
    assert too_long == []
