"""Command `prepare`: any data set -> records of square pictures, which train some ten times faster.

    python -m pipelines.prepare --data folder:photographs --out records
    python -m pipelines.prepare --verify records

Interrupted, it goes on where it stopped when the same command is given again.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

from pipelines import command
from pipelines.config import DataConfig, split_rule
from pipelines.errors import DataError


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and prepares or verifies; returns the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.verify is None and (arguments.data is None or arguments.out is None):
        parser.error("give --data and --out, or --verify")
    body = _verify if arguments.verify is not None else _prepare
    return command.run(lambda: body(arguments), as_json=arguments.json)


def _parser() -> argparse.ArgumentParser:
    defaults = DataConfig()
    parser = argparse.ArgumentParser(prog="python -m pipelines.prepare", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", metavar="SPEC", help="what to prepare: folder:DIR, tfds:NAME, imagenet:DIR, ..."
    )
    parser.add_argument(
        "--out", type=command.path, metavar="RECORDS", help="folder to write; made if need be"
    )
    parser.add_argument(
        "--verify",
        type=command.path,
        metavar="RECORDS",
        help="only compare the checksums of a folder of records",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=defaults.data_seed,
        help="decides the held-out share and the order (default %(default)s)",
    )
    parser.add_argument(
        "--val-fraction",
        type=float,
        default=defaults.val_fraction,
        help="share held out where the data has no validation split (default %(default)s)",
    )
    parser.add_argument(
        "--size",
        type=int,
        help=f"side of the pictures in pixels (default {defaults.resize})",
    )
    parser.add_argument(
        "--encoding",
        default="jpeg",
        help="jpeg (quality 95) or ppm (no loss; six times as large, read 1.6 times as fast)"
        " (default %(default)s)",
    )
    parser.add_argument(
        "--resize-rule",
        default=defaults.resize_rule,
        metavar="RULE",
        help="short_side (its middle square), warp or squash (the whole picture, squeezed); a size, as in"
        " warp_256, is --size (default %(default)s)",
    )
    parser.add_argument(
        "--exif-orientation",
        action=argparse.BooleanOptionalAction,
        default=defaults.exif_orientation,
        help="turn photographs upright as EXIF says (default), or leave them as they are stored",
    )
    command.add_strict_flag(parser)
    command.add_json_flag(parser)
    return parser


def _prepare(arguments: argparse.Namespace) -> dict[str, Any]:
    named = split_rule(arguments.resize_rule)[1]
    size = next(side for side in (arguments.size, named, DataConfig().resize) if side is not None)
    if size < 1:
        raise DataError(f"--size must be 1 or more; received {size}")
    config = DataConfig(
        spec=arguments.data,
        data_seed=arguments.seed,
        val_fraction=arguments.val_fraction,
        resize=size,
        crop=size,
        resize_rule=arguments.resize_rule,
        exif_orientation=arguments.exif_orientation,
    )
    import tensorflow as tf

    from pipelines import record_writer, scan, sources
    from pipelines.sources import records

    if arguments.encoding not in records.ENCODINGS:
        raise DataError(
            f"--encoding must be {' or '.join(records.ENCODINGS)}; received {arguments.encoding!r}"
        )
    began = time.monotonic()
    source = sources.open_source(config)
    print(source.description, file=sys.stderr)
    try:
        written = record_writer.write(
            source,
            config,
            Path(arguments.out),
            encoding=arguments.encoding,
            strict=arguments.strict,
        )
    except tf.errors.OpError as error:
        raise DataError(records.describe(error, config)) from None
    seconds = time.monotonic() - began
    shards = written.shards_written + written.shards_kept
    print(
        f"{arguments.out}: {written.pictures} pictures in {shards} shards"
        f" ({written.shards_kept} were there already)"
        + (f"; left out: see {Path(arguments.out) / records.SKIPPED_NAME}" if written.skipped else ""),
        file=sys.stderr,
    )
    left_out = {**source.left_out, scan.BROKEN: written.skipped}
    print(scan.summary(written.pictures, left_out), file=sys.stderr)
    return dataclasses.asdict(written) | {
        "left_out": sum(left_out.values()),
        "seconds": round(seconds, 3),
        "pictures_per_second": round(written.looked_at / seconds, 1),
    }


def _verify(arguments: argparse.Namespace) -> dict[str, Any]:
    from pipelines.sources import records

    folder = Path(arguments.verify)
    index = records.Index.load(folder)
    if not index.complete:
        raise DataError(f"{folder}: preparation was interrupted; {records.AGAIN}")
    damaged = list(records.verify(folder, index).values())
    if damaged:
        others = f" ({len(damaged) - 1} more shards are damaged or missing)" if len(damaged) > 1 else ""
        raise DataError(f"{damaged[0]}{others}")
    pictures = sum(shard.count for shard in index.shards)
    print(f"{folder}: {len(index.shards)} shards with {pictures} pictures are whole", file=sys.stderr)
    return {"pictures": pictures, "shards": len(index.shards)}


if __name__ == "__main__":
    sys.exit(main())
