"""Command-line options that several methods share, and their checks. No TensorFlow import."""

from __future__ import annotations

import argparse
import difflib

from alexnet_tf.figures.text import SCALINGS
from alexnet_tf.run_record import LABELS_FILE, Run
from pipelines import command
from pipelines.errors import UserError

# Of more classes than this an error names the most similar.
MOST_LISTED = 40


def add_image(parser: argparse.ArgumentParser, most: int) -> None:
    """Adds `--image`: up to `most` files, none for pictures of the run's own data."""
    parser.add_argument(
        "--image",
        type=command.path,
        nargs="+",
        default=[],
        metavar="FILE",
        help=f"up to {most} pictures, whose folder may name their class (default: of the run's own data)",
    )


def add_class(parser: argparse.ArgumentParser) -> None:
    """Adds `--class`: the class to explain; without it each picture's best one."""
    parser.add_argument(
        "--class",
        dest="class_name",
        default="",
        metavar="NAME",
        help="class to explain, by name, identifier or number (default: each picture's most probable)",
    )


def add_layer(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds `--layer`, of both towers or one."""
    parser.add_argument(
        "--layer",
        default=default,
        metavar="NAME",
        help="layer, such as conv5 (both towers) or conv5_b (one) (default %(default)s)",
    )


def add_units(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds `--units`: numbers of a layer's units; tower b's follow tower a's."""
    parser.add_argument(
        "--units", nargs="+", type=int, default=[], metavar="N", help=f"numbers of units (default: {default})"
    )


def add_scaling(parser: argparse.ArgumentParser, shown: str) -> None:
    """Adds `--scaling`: what black and white stand for; `shown` are the maps or kernels that are scaled."""
    parser.add_argument(
        "--scaling",
        choices=tuple(SCALINGS),
        default=next(iter(SCALINGS)),
        help=f"black to white over all {shown} together, or over each alone (default %(default)s)",
    )


def class_index(run: Run, word: str) -> int:
    """The label of the class that a user calls `word`: its readable name, its identifier or its number.

    Raises:
      UserError: there is none; lists the classes that there are, or of many the likest.
    """
    names, classes = run.readable_names, len(run.class_names)
    for known in (names, run.class_names):
        if word in known:
            return known.index(word)
    if word.isdecimal() and int(word) < classes:
        return int(word)
    # A synset has several words: `tabby` is `tabby, tabby cat`.
    folded = [index for index, name in enumerate(names) if word.casefold() in _words(name)]
    if len(folded) == 1:
        return folded[0]
    if classes <= MOST_LISTED:
        raise UserError(f"no class {word!r}; legal: {', '.join(names)}")
    like = difflib.get_close_matches(word, names, 5, 0.3) or list(names[:5])
    raise UserError(
        f"no class {word!r} among {classes}; the likest: {'; '.join(like)} "
        f"(all of them: {run.workdir / LABELS_FILE})"
    )


def check_units(units: list[int], layer: str, width: int) -> None:
    """Raises UserError for numbers of units that a layer of `width` units does not have."""
    for unit in units:
        if not 0 <= unit < width:
            raise UserError(f"--units: {layer} has units 0 to {width - 1}; received {unit}")


def _words(name: str) -> list[str]:
    return [part.strip().casefold() for part in name.split(",")]
