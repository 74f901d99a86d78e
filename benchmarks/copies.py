"""How well copies are told from other pictures: hits and false alarms of `pipelines.inspect` on photographs.

    python -m benchmarks.copies --photos DIR

Of pictures below DIR copies are made as they come about (encoded anew, another size, the edges cut off,
brighter, gray, mirrored); a hit is a copy that is found for its picture. All pairs of different pictures are
compared as well, as they are and mirrored; of these none should be found, but for copies in DIR itself.
"""

from __future__ import annotations

import argparse
import functools
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import command, progress
from pipelines.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf
    from PIL.Image import Image

    from pipelines.inspect.hashing import Hashes

SUFFIXES = (".jpg", ".jpeg")
THRESHOLDS = (32, 40, 48, 56, 64, 72, 80)
QUALITY = 90
AT_ONCE = 512  # pictures that are compared with all others together


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.copies", description=__doc__.splitlines()[0])
    parser.add_argument("--photos", metavar="DIR", type=Path, required=True, help="JPEG files below it")
    parser.add_argument(
        "--most", type=int, default=6000, help="pictures that are compared (default %(default)s)"
    )
    parser.add_argument(
        "--copied", type=int, default=1000, help="of which so many are copied (default %(default)s)"
    )
    command.add_json_flag(parser)
    arguments = parser.parse_args(argv)
    return command.run(lambda: _measure(arguments), as_json=arguments.json)


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    from pipelines.inspect import duplicates, hashing

    files = sorted(path for path in arguments.photos.rglob("*") if path.suffix.lower() in SUFFIXES)
    # Every n-th, so that all folders have their share.
    files = files[:: max(1, len(files) // arguments.most)][: arguments.most]
    if len(files) < 2:
        raise DataError(f"--photos {arguments.photos}: fewer than two JPEG files below this folder")
    began = time.perf_counter()
    gray = _grays([path.read_bytes() for path in files], "looking at pictures")
    own, turned = hashing.hashes(gray), hashing.hashes(hashing.mirrored(gray))
    alarms = _alarms(own, turned)
    pairs = len(files) * (len(files) - 1) // 2
    chosen = np.arange(0, len(files), max(1, len(files) // arguments.copied))[: arguments.copied]
    hits: dict[str, list[float]] = {}
    for name, change in copies().items():
        made = _grays([_changed(files[number], change) for number in chosen], f"copies: {name}")
        copy = hashing.hashes(made)
        near = np.minimum(_bits(copy, own.take(chosen)), _bits(copy, turned.take(chosen)))
        hits[name] = [float((near <= bits).mean()) for bits in THRESHOLDS]
    print(f"{len(files)} pictures, {pairs:,} pairs, {len(chosen)} copied, default {duplicates.DEFAULT_BITS}")
    print(f"{'bits of 256':32}" + "".join(f"{bits:>8}" for bits in THRESHOLDS))
    print(f"{'pairs found':32}" + "".join(f"{count:>8}" for count in alarms))
    for name, shares in hits.items():
        print(f"{name:32}" + "".join(f"{100 * share:7.1f}%" for share in shares))
    return {
        "pictures": len(files),
        "pairs": pairs,
        "copied": len(chosen),
        "thresholds": THRESHOLDS,
        "pairs_found": alarms,
        "hits": hits,
        "seconds": round(time.perf_counter() - began, 1),
    }


def _bits(one: Hashes, other: Hashes) -> np.ndarray:
    """The long hashes' distance where the short ones make a pair a candidate, elsewhere more than any."""
    import numpy as np

    from pipelines.inspect import duplicates, hashing

    candidate = hashing.distance(one.short, other.short) <= duplicates.CANDIDATE_BITS
    return np.where(candidate, hashing.distance(one.long, other.long), hashing.LONG_BITS + 1)


def _alarms(own: Hashes, turned: Hashes) -> list[int]:
    """How many pairs of different pictures are found at each threshold, by comparing all of them."""
    import numpy as np

    from pipelines.inspect import duplicates, hashing

    counts = np.zeros(len(THRESHOLDS), np.int64)
    numbers = np.arange(len(own.short))
    for first in progress.counted("comparing all pairs", range(0, len(numbers), AT_ONCE), len(numbers)):
        rows = numbers[first : first + AT_ONCE]
        found: dict[tuple[int, int], int] = {}
        for probe in (own, turned):
            distances = np.bitwise_count(probe.short[rows, np.newaxis] ^ own.short)
            one, other = np.nonzero(distances <= duplicates.CANDIDATE_BITS)
            one, other = rows[one], other
            one, other = one[one < other], other[one < other]
            bits = hashing.distance(probe.long[one], own.long[other])
            for pair, value in zip(
                zip(one.tolist(), other.tolist(), strict=True), bits.tolist(), strict=True
            ):
                found[pair] = min(value, found.get(pair, value))
        values = np.array(list(found.values()), np.int64)
        counts += [(values <= bits).sum() for bits in THRESHOLDS]
    return counts.tolist()


def _grays(files: list[bytes], what: str) -> np.ndarray:
    """Pictures as they are hashed, float32 [n, side, side]."""
    import numpy as np
    import tensorflow as tf

    gray = _gray()
    read = (gray(tf.constant(file)).numpy() for file in files)
    return np.stack(list(progress.counted(what, read, len(files))))


@functools.cache
def _gray() -> Callable[[tf.Tensor], tf.Tensor]:
    """A graph that is traced once."""
    import tensorflow as tf

    from pipelines.inspect import survey

    def gray(file: tf.Tensor) -> tf.Tensor:
        return survey.look(file, None)["gray"]

    return tf.function(gray, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)


def _changed(path: Path, change: Callable[[Image], Image]) -> bytes:
    """The JPEG file of a copy."""
    from PIL import Image

    stream = io.BytesIO()
    with Image.open(path) as picture:
        copy = change(picture.convert("RGB"))
    copy.save(stream, "JPEG", quality=copy.info.get("quality", QUALITY))
    return stream.getvalue()


def copies() -> dict[str, Callable[[Image], Image]]:
    """How copies come about: name -> what is done to a picture."""
    from PIL import Image, ImageEnhance, ImageOps

    def quality(value: int) -> Callable[[Image.Image], Image.Image]:
        def encoded(picture: Image.Image) -> Image.Image:
            picture.info["quality"] = value
            return picture

        return encoded

    def scaled(across: float, down: float) -> Callable[[Image.Image], Image.Image]:
        def resized(picture: Image.Image) -> Image.Image:
            size = round(across * picture.width), round(down * picture.height)
            return picture.resize(size, Image.Resampling.BICUBIC)

        return resized

    def cut(share: float) -> Callable[[Image.Image], Image.Image]:
        def cropped(picture: Image.Image) -> Image.Image:
            x, y = round(share / 2 * picture.width), round(share / 2 * picture.height)
            return picture.crop((x, y, picture.width - x, picture.height - y))

        return cropped

    def cut_right(picture: Image.Image) -> Image.Image:
        return picture.crop((0, 0, round(0.97 * picture.width), picture.height))

    return {
        "JPEG quality 30": quality(30),
        "half the size": scaled(0.5, 0.5),
        "twice the size": scaled(2.0, 2.0),
        "three quarters as high": scaled(1.0, 0.75),
        "gray": lambda picture: picture.convert("L").convert("RGB"),
        "brightness x 1.3": lambda picture: ImageEnhance.Brightness(picture).enhance(1.3),
        "contrast x 0.7": lambda picture: ImageEnhance.Contrast(picture).enhance(0.7),
        "mirrored": ImageOps.mirror,
        "mirrored, half the size": lambda picture: scaled(0.5, 0.5)(ImageOps.mirror(picture)),
        "98 % of width and height left": cut(0.02),
        "95 % of width and height left": cut(0.05),
        "90 % of width and height left": cut(0.10),
        "3 % cut at the right": cut_right,
    }


if __name__ == "__main__":
    sys.exit(main())
