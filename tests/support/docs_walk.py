"""Runs the commands of the pages in small, one after the other, in a folder of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import pytest

from alexnet_tf import model
from alexnet_tf.network import variants
from alexnet_tf.network.layers import PaperDropout
from tests.support import small_runs
from tests.support.command_lines import main_of
from tests.support.documented_commands import WALKED, in_small
from tests.support.markdown_pages import ROOT, words

# The real network on pictures of 67 pixels: maps of 15, 7, 3 and 1.
SMALL = {"input_size": 67, "filters": (16, 32, 48, 48, 32), "hidden": 64}
CLASSES = ("cat", "dog", "elk", "fox", "gnu", "hen")
# Options that make a method quick where the pages do not show it.
METHODS = {
    "activations": (),
    "architecture": (),
    "deconvnet": ("--pictures", "9"),
    "embedding": ("--projection", "pca", "--most", "12"),
    "maximize": ("--steps", "2", "--units", "3"),
    "neighbours": (),
    "occlusion": ("--size", "30", "--stride", "30"),
    "panels": (),
    "saliency": (),
    "sanity": ("--pictures", "1"),
    "selectivity": (),
}


class Walk(NamedTuple):
    """What the commands have left.

    Attributes:
      folder: where they ran.
      printed: a command -> the object of its `--json` line.
      methods: a method of `visualize` -> the same.
    """

    folder: Path
    printed: dict[str, Any]
    methods: dict[str, Any]


def tiny_network(variant: str = "paper", classes: int = 12, *, seed: int = 0, **_: Any) -> keras.Model:
    """Pixels [N, 224, 224, 3] -> logits: a convolution and the last hidden layer by its name."""
    pixels = keras.Input((224, 224, 3), name="pixels")
    initial = [keras.initializers.HeNormal(seed + number) for number in range(3)]
    x = keras.layers.Conv2D(4, 11, strides=32, name="conv1", kernel_initializer=initial[0])(pixels)
    x = keras.layers.Flatten(name="flatten")(keras.layers.Activation("relu", name="relu1")(x))
    x = keras.layers.Dense(8, name="fc7", kernel_initializer=initial[1])(x)
    x = PaperDropout(0.5, seed=seed, name="dropout7")(keras.layers.Activation("relu", name="relu7")(x))
    x = keras.layers.Dense(classes, name="fc8", kernel_initializer=initial[2])(x)
    return keras.Model(pixels, keras.layers.Activation("linear", name="logits")(x))


@contextlib.contextmanager
def walk() -> Iterator[Walk]:
    """Runs every command of WALKED, the lines of `make quickstart` and the methods that they leave out."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        os.chdir(folder)
        try:
            patch.setitem(variants.VARIANTS, "paper", dataclasses.replace(variants.PAPER, **SMALL))
            patch.setattr(model, "build", _unfused(model.build))
            small_runs.folder(Path("photographs"), CLASSES, 6)
            Path("photograph.jpg").write_bytes(small_runs.jpeg(7))
            Path("photographs/cat/broken.jpg").write_bytes(b"no picture")
            done = Walk(Path(folder), {}, {})
            _run_all(done)
            yield done
        finally:
            os.chdir(before)


def _unfused(build: Callable[..., keras.Model]) -> Callable[..., keras.Model]:
    """The same networks without programs that take seconds to compile."""
    return lambda *names, **settings: build(*names, **{**settings, "fused": False})


def _run_all(done: Walk) -> None:
    for line in quickstart():
        method = re.search(r"visualize (\w+)", line)
        printed = run(line)
        if method:
            done.methods[method[1]] = printed
        done.printed[f"make quickstart: {line}"] = printed
    with pytest.MonkeyPatch.context() as patch:
        ports: dict[str, int] = {}
        with contextlib.ExitStack() as serving:
            for command in WALKED[1:]:
                if "runs/mine" in command:
                    patch.setattr(model, "build", tiny_network)
                else:
                    patch.undo()
                if "localhost" in command and not ports:
                    ports.update(serving.enter_context(_served()))
                if command.startswith("("):
                    done.printed[command] = _in_a_shell(_at(command, ports))
                else:
                    done.printed[command] = run(_at(command, ports))
    done.methods["gradcam"] = done.printed[next(line for line in WALKED if "visualize gradcam" in line)]
    for method, options in METHODS.items():
        line = f"python -m alexnet_tf.visualize {method} --workdir runs/quickstart --out figures"
        done.methods[method] = run(" ".join([line, *options]))


def quickstart() -> list[str]:
    """The Makefile's commands of `make quickstart`, with its variables filled in."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^quickstart: .*\n((?:\t.*\n)+)", makefile, re.MULTILINE)[1]
    values = {"PY": "python", "RUN": "runs/quickstart", "SEED": "0"}
    filled = re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], recipe)
    return [line for line in map(str.strip, filled.splitlines()) if line.startswith("python ")]


def run(command: str) -> Any:
    """Runs a command in this process; returns the object of its `--json` line."""
    _, _, module, *arguments = [
        word
        for written in words(in_small(command))
        for word in (sorted(map(str, Path().glob(written))) if "*" in written else [written])
    ]
    out, complaints = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(complaints):
        status = main_of(module)([*arguments, "--json"])
    assert status == 0, f"{command}: {complaints.getvalue()}"
    return json.loads(out.getvalue().splitlines()[-1])


@contextlib.contextmanager
def _served() -> Iterator[dict[str, int]]:
    """Serves `export` on free ports; gives them by those that the pages name."""
    from serving.server import create_server

    flags = {"model_name": "alexnet", "model_base_path": str(Path("export").absolute())}
    with create_server(host="127.0.0.1", pick_ports=True, access_log="access.log", **flags) as server:
        yield {"localhost:8501": server.rest_port, "localhost:8500": server.grpc_port}


def _at(command: str, ports: dict[str, int]) -> str:
    for address, port in ports.items():
        command = command.replace(address, f"127.0.0.1:{port}")
    return command


def _in_a_shell(command: str) -> Any:
    """Runs a pipe of a shell; None where a program that it needs is missing."""
    import shutil

    if any(shutil.which(program) is None for program in ("bash", "base64", "curl")):
        return None
    bare = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=True, timeout=60, env=bare
    )
    return json.loads(done.stdout)
