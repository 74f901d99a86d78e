"""Command `visualize`: figures of what a run's network has learnt, each with the numbers behind it.

python -m alexnet_tf.visualize filters --workdir runs/quickstart --out figures
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipelines import command, files, progress
from pipelines.errors import UserError

# Each is a module of this package with `add_arguments(parser)` and `draw(run, out, **arguments)`, which
# writes into an existing folder and returns its `files` and figures.
METHODS = {
    "activations": "all feature maps of a layer for one picture, tower by tower",
    "architecture": "the network itself, layer by layer, and what crosses between its towers (figure 2)",
    "curves": "loss, error, rate, speed and dead units over a run",
    "deconvnet": "the patches that activate a unit most, and its activation projected back to their pixels",
    "embedding": "a map on which pictures with similar last hidden activations are near",
    "filters": "a layer's kernels by tower (figure 3 of the paper)",
    "gradcam": "where the evidence for a class lies: Grad-CAM, Grad-CAM++, Score-CAM, LayerCAM",
    "maximize": "pictures that activate classes or units most, by gradient ascent",
    "neighbours": "the training pictures nearest in the last hidden layer (figure 4, right)",
    "occlusion": "how far a class's probability falls when a square is covered",
    "panels": "pictures with their five best classes (figure 4, left)",
    "placement": "the two towers on two devices, and what crosses between them in a step",
    "report": "one page that shows all of a run: recipe, curves, errors, kernels, explanations",
    "saliency": "how much each pixel changes a class's score: gradient, SmoothGrad, integrated gradients",
    "sanity": "whether the maps lie on the object and depend on the weights (built-in data)",
    "selectivity": "how selective each kernel of conv1 is for colour and orientation, by tower",
}
SHARED = ("method", "workdir", "out", "json")
# These read the run folder alone, and need not wait for the import.
WITHOUT_TENSORFLOW = ("curves",)


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and draws; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    method = words[0] if words and not words[0].startswith("-") else ""
    if method and method not in METHODS:
        print(f"error: no method {method!r}; legal: {', '.join(METHODS)}", file=sys.stderr)
        return 2
    arguments = _parser(method).parse_args(words)
    needed = method not in WITHOUT_TENSORFLOW
    return command.run(lambda: _draw(arguments), as_json=arguments.json, tensorflow=needed)


def _parser(method: str) -> argparse.ArgumentParser:
    """The parser; of the methods, only the chosen one is imported for its arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m alexnet_tf.visualize", description=(__doc__ or "").splitlines()[0]
    )
    parts = parser.add_subparsers(dest="method", required=True)
    for name, purpose in METHODS.items():
        part = parts.add_parser(name, help=purpose, description=purpose)
        part.add_argument("--workdir", type=command.path, required=True, help="run folder")
        part.add_argument(
            "--out",
            type=command.path,
            required=True,
            metavar="DIR",
            help="folder for the figure; made if need be",
        )
        command.add_json_flag(part)
        if name == method:
            _module(name).add_arguments(part)
    return parser


def _module(method: str) -> Any:
    return importlib.import_module(f"alexnet_tf.visualize.{method}")


def _draw(arguments: argparse.Namespace) -> dict[str, Any]:
    from alexnet_tf.run_record import Run

    own = {name: value for name, value in vars(arguments).items() if name not in SHARED}
    run = Run.open(arguments.workdir)
    drawing = progress.phase(f"drawing {arguments.method}")
    with _staging(Path(arguments.out)) as stage, drawing:
        figures = _module(arguments.method).draw(run, stage.folder, **own)
        figures["files"] = [str(stage.out / Path(path).name) for path in figures["files"]]
    for path in figures["files"]:
        print(path)
    return figures


class _Stage(NamedTuple):
    """The folder that a method writes into, and the one that its files are moved to at the end."""

    folder: Path
    out: Path


@contextlib.contextmanager
def _staging(out: Path) -> Iterator[_Stage]:
    """Makes `out` and a folder in it, whose files are moved to `out` together when the block ends well.

    A folder that cannot be written is so found before anything is computed, and a method that fails
    half-way leaves nothing, and the files of an earlier run as they were.

    Raises:
      UserError: `out`, or what should be a folder above it, is none.
      OSError: it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        other = next(path for path in (out, *out.parents) if path.exists() and not path.is_dir())
        raise UserError(f"--out takes a folder: {other} is none") from None
    with files.scratch(out / "drawing") as folder:
        yield _Stage(folder, out)
        for path in sorted(folder.iterdir()):
            if path.name != files.LOCK_NAME:
                os.replace(path, out / path.name)


if __name__ == "__main__":
    sys.exit(main())
