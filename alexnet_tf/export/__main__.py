"""Command `export`: a run's network -> EXPORT_DIR/<version>/, which TF Serving deploys unchanged.

    python -m alexnet_tf.export --workdir runs/quickstart --export-dir export

A version appears whole or not at all, after it has been loaded again and has given the network's answers.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from pipelines import command

CHECKPOINTS = ("best", "newest")


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and exports; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m alexnet_tf.export", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--workdir", type=command.path, required=True, help="run folder whose network is exported"
    )
    parser.add_argument(
        "--export-dir", type=command.path, required=True, help="folder of versions; made if need be"
    )
    parser.add_argument(
        "--version", type=int, help="number to write (default: the highest there and one more)"
    )
    parser.add_argument(
        "--checkpoint",
        choices=CHECKPOINTS,
        default=CHECKPOINTS[0],
        help="lowest validation error, or newest (default %(default)s)",
    )
    command.add_json_flag(parser)
    arguments = parser.parse_args(argv)
    return command.run(lambda: _export(arguments), as_json=arguments.json)


def _export(arguments: argparse.Namespace) -> dict[str, Any]:
    from alexnet_tf.export.saved_model import export, forms, size
    from alexnet_tf.run_record import Run

    began = time.monotonic()
    run = Run.open(arguments.workdir)
    folder = export(run, Path(arguments.export_dir), arguments.version, arguments.checkpoint)
    figures = {
        "folder": str(folder),
        "version": int(folder.name),
        "megabytes": round(size(folder) / 1e6, 1),
        "signatures": list(forms()),
        "seconds": round(time.monotonic() - began, 1),
    }
    print(f"{folder}: {figures['megabytes']} MB in {figures['seconds']} s, answers as the network does")
    for name, form in forms().items():
        print(f"  {name:16} {form.takes:24} -> {form.gives:40} {form.purpose}")
    return figures


if __name__ == "__main__":
    sys.exit(main())
