"""`python -m alexnet_tf.predict`: the most probable classes of pictures, by a run or by an export."""

from __future__ import annotations

import argparse
import shutil
import sys
from typing import TYPE_CHECKING, Any

from alexnet_tf.figures import text
from pipelines import command, progress
from pipelines.errors import UserError

if TYPE_CHECKING:
    from alexnet_tf.evaluation.naming import TopClasses

# Crops that go through the network at once.
BATCH = 32
EXIT_SOME_FAILED = 2
FULL, PARTIAL, PLAIN = "█", " ▏▎▍▌▋▊▉", "#"
WIDEST_BAR = 40


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and classifies the pictures; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m alexnet_tf.predict", description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--workdir", type=command.path, metavar="W", help="a run folder")
    source.add_argument(
        "--export",
        type=command.path,
        metavar="E",
        help="an export folder (its newest version) or one version of it",
    )
    parser.add_argument(
        "images", type=command.path, nargs="+", metavar="IMAGE", help="JPEG, PNG, GIF, BMP, WebP or PPM files"
    )
    parser.add_argument("--top", type=int, default=5, metavar="K", help="names for each picture (default 5)")
    parser.add_argument(
        "--crops", type=int, choices=(1, 10), default=1, help="the centre, or the average of ten crops"
    )
    command.add_json_flag(parser)
    args = parser.parse_args(argv)
    failed: list[dict[str, str]] = []
    status = command.run(lambda: _predict(args, failed), as_json=args.json)
    return status or (EXIT_SOME_FAILED if failed else 0)


def _predict(args: argparse.Namespace, failed: list[dict[str, str]]) -> dict[str, Any]:
    if args.top < 1:
        raise UserError(f"--top must be 1 or more; received {args.top}")
    with progress.phase("loading Keras"):
        from alexnet_tf.evaluation import naming

    if args.workdir is not None:
        classifier = naming.load_run(args.workdir, args.top, args.crops)
    else:
        with progress.phase("loading the export"):
            classifier = naming.load_export(args.export, args.top, args.crops)
    pictures = []
    answers = naming.classify_files(classifier, args.images, max(1, BATCH // args.crops))
    for path, answer in progress.counted("naming pictures", answers, len(args.images)):
        progress.clear()
        if isinstance(answer, naming.TopClasses):
            pictures.append({"file": _printable(path), **answer._asdict()})
            _show(path, answer)
        else:
            failed.append({"file": _printable(path), "error": answer})
            print(f"error: {_printable(path)}: {answer}", file=sys.stderr, flush=True)
    return {"pictures": pictures, "failed": failed}


def _show(path: str, answer: TopClasses) -> None:
    """Prints one picture's names with bars, no wider than the terminal."""
    width = shutil.get_terminal_size().columns
    names = [_printable(name) for name in answer.classes]
    room = min(max(map(text.columns, names)), max(8, width - 24))
    longest = min(WIDEST_BAR, width - room - 14)
    print(_printable(path))
    for name, score in zip(names, answer.scores, strict=True):
        print(f"  {text.fit(name, room)}  {100 * score:6.2f} %  {bar(score, longest)}".rstrip())


def bar(share: float, longest: int) -> str:
    """A share of 0..1 as a bar of text, in eighths of a character where the terminal has them."""
    if _printable(FULL) != FULL:
        return PLAIN * round(max(0, longest) * share)
    whole, eighths = divmod(round(8 * max(0, longest) * share), 8)
    return (FULL * whole + PARTIAL[eighths]).rstrip()


def _printable(words: str) -> str:
    """Text that stdout can encode: file names may hold bytes that are no characters."""
    return command.printable(words, sys.stdout.encoding or "utf-8")


if __name__ == "__main__":
    sys.exit(main())
