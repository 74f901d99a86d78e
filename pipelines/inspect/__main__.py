"""Command `inspect`: what is in a data set, and what is wrong with it, as a page and as JSON.

    python -m pipelines.inspect --data folder:photographs --out inspected

Counts, sizes and colours, unreadable files, copies (across classes, and across splits above all), and what
augmentation makes of some pictures. Nothing in the data is changed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import command
from pipelines.config import DataConfig
from pipelines.errors import DataError

if TYPE_CHECKING:
    from pipelines.inspect.copies import Copies
    from pipelines.inspect.survey import Survey
    from pipelines.sources.source import Source

PAGE, FIGURES, SHEET, COPIES = "index.html", "inspect.json", "augmentation.png", "copies.png"
DEFAULT_BITS, MOST_BITS = 56, 80  # of 256: see docs/inspecting.md
MOST_GROUPS = 36  # on the page
# Lists that inspect.json has and a line for programs need not repeat.
LISTS = ("per_class", "sizes", "formats", "colours", "unreadable_reasons", "unreadable_pictures", "groups")


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and inspects; returns the exit status."""
    arguments = _parser().parse_args(argv)
    return command.run(lambda: _inspect(arguments), as_json=arguments.json)


def _parser() -> argparse.ArgumentParser:
    defaults = DataConfig()
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.inspect", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--data", required=True, metavar="SPEC", help="synthetic, folder:DIR, tfds:NAME, ...")
    parser.add_argument(
        "--out", type=command.path, required=True, metavar="DIR", help="folder to write into; made if need be"
    )
    parser.add_argument(
        "--near-duplicates",
        type=int,
        default=DEFAULT_BITS,
        metavar="BITS",
        help="in how many of 256 bits the hashes of copies may differ; 0 finds equal ones alone"
        " (default %(default)s)",
    )
    parser.add_argument(
        "--pictures",
        type=int,
        default=12,
        help="how many are shown before and after augmentation (default %(default)s)",
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="look at no more than N pictures of each split (default: all)"
    )
    parser.add_argument(
        "--seed", type=int, default=defaults.data_seed, help="the run's data_seed (default %(default)s)"
    )
    parser.add_argument(
        "--val-fraction",
        type=float,
        default=defaults.val_fraction,
        help="share held out where the data has no validation split (default %(default)s)",
    )
    command.add_json_flag(parser)
    return parser


def _check(arguments: argparse.Namespace) -> DataConfig:
    """The settings, or a DataError that names the wrong one."""
    if not 0 <= arguments.near_duplicates <= MOST_BITS:
        raise DataError(
            f"--near-duplicates must be 0 to {MOST_BITS}: beyond, what differs is taken for copies;"
            f" received {arguments.near_duplicates}"
        )
    for name in ("pictures", "limit"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise DataError(f"--{name} must be 1 or more; received {value}")
    return DataConfig(spec=arguments.data, data_seed=arguments.seed, val_fraction=arguments.val_fraction)


def _inspect(arguments: argparse.Namespace) -> dict[str, Any]:
    config = _check(arguments)
    began = time.monotonic()
    import tensorflow as tf

    from pipelines import sources
    from pipelines.inspect import copies, findings, survey
    from pipelines.sources import records

    out = Path(arguments.out).expanduser()
    source = sources.open_source(config)
    out.mkdir(parents=True, exist_ok=True)
    print(source.description, file=sys.stderr)
    try:
        seen = survey.survey(source, config, limit=arguments.limit)
        found = copies.find(seen, arguments.near_duplicates)
        figures = findings.figures(source, config, seen, found)
        figures |= {"limit": arguments.limit, "near_duplicates": arguments.near_duplicates}
        figures |= {"seed": arguments.seed, "val_fraction": arguments.val_fraction}
        files = _write(out, source, config, seen, found, figures, arguments.pictures)
    except tf.errors.OpError as error:
        raise DataError(records.describe(error, config)) from None
    print(findings.account(figures), file=sys.stderr)
    for finding in figures["findings"]:
        print(f"{finding['weight']}: {finding['text']}")
    print(out / PAGE)
    seconds = time.monotonic() - began
    told = {name: value for name, value in figures.items() if name not in LISTS}
    return told | {"files": [str(file) for file in files], "seconds": round(seconds, 3)}


def _write(
    out: Path,
    source: Source,
    config: DataConfig,
    seen: Survey,
    found: Copies,
    figures: dict[str, Any],
    pictures: int,
) -> list[Path]:
    """Writes all files into an existing folder and returns them."""
    from pipelines.files import write_text
    from pipelines.inspect import copies, page, sheets

    rows = sheets.augmented(source, config, seen, pictures)
    groups = copies.shown(found, MOST_GROUPS)
    small = sheets.small_pictures(source, config, seen, groups)
    text = page.render(figures, source, seen, page.Pictures(rows, groups, small))
    write_text(out / FIGURES, json.dumps(figures, indent=1) + "\n")
    sheets.save_rows(rows, out / SHEET)
    files = [out / FIGURES, out / SHEET]
    if small:
        sheets.save_groups(groups, small, out / COPIES)
        files.append(out / COPIES)
    else:
        (out / COPIES).unlink(missing_ok=True)  # of an earlier call
    write_text(out / PAGE, text)
    return [*files, out / PAGE]


if __name__ == "__main__":
    sys.exit(main())
