"""Command `samples`: writes a few validation pictures of any data set as files, to name or to look at.

    python -m pipelines.samples --data synthetic --out pictures --count 6

A file's name begins with the picture's class, so that a prediction can be held against it.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import command, progress
from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.files import naming
from pipelines.pictures.file_types import format_of

if TYPE_CHECKING:
    from pipelines.sources.source import Source


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and writes the pictures; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.samples", description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, metavar="SPEC", help="synthetic, folder:DIR, tfds:NAME, ...")
    parser.add_argument(
        "--out", type=command.path, required=True, metavar="DIR", help="folder to write into; made if need be"
    )
    parser.add_argument("--count", type=int, default=6, help="how many pictures (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="the run's data_seed (default %(default)s)")
    command.add_json_flag(parser)
    arguments = parser.parse_args(argv)
    return command.run(lambda: _samples(arguments), as_json=arguments.json)


def _samples(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.count < 1:
        raise DataError(f"--count must be 1 or more; received {arguments.count}")
    config = DataConfig(spec=arguments.data, data_seed=arguments.seed)
    from pipelines import sources

    source = sources.open_source(config)
    with progress.phase("writing pictures"):
        files = write(source, arguments.count, Path(arguments.out), arguments.seed)
    for file in files:
        print(file)
    return {"pictures": [str(file) for file in files]}


def write(source: Source, count: int, folder: Path, seed: int = 0) -> list[Path]:
    """Writes `count` validation pictures of `source`, chosen by `seed`, as they are stored.

    Returns:
      The files, `CLASS-KEY.jpg` and the like; fewer than `count` where the split has fewer.
    """
    import numpy as np

    chosen = np.sort(np.random.default_rng(seed).permutation(source.count("val"))[:count])
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for example in source.pick("val", chosen.tolist()):
        name = re.sub(r"[^\w.-]+", "_", f"{source.readable_names[example.label]}-{Path(example.key).stem}")
        files.append(folder / (name + ending(example.image_bytes)))
        with naming(files[-1]):
            files[-1].write_bytes(example.image_bytes)
    return files


def ending(image_bytes: bytes) -> str:
    """What a picture file's name ends with, by its content: the name that it had may be wrong."""
    form = format_of(image_bytes)
    return form.ending if form else ".bin"


if __name__ == "__main__":
    sys.exit(main())
