"""Method `occlusion`: the fall of a class's probability when a square of the picture is covered.

Zeiler and Fergus 2013, section 4.2. A grey square is moved over the picture; the probability falls most
where the evidence for the class is covered. The network is only called, not inspected.
"""

from __future__ import annotations

import argparse
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from alexnet_tf.visualize import options, overlays
from pipelines import progress
from pipelines.errors import UserError

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from alexnet_tf.run_record import Run
    from alexnet_tf.visualize.overlays import Explained

SIZE, STRIDE = 32, 16
AT_ONCE = 32

# Logits of pictures with squares covered, as a compiled function.
_compiled: weakref.WeakKeyDictionary[Any, Callable[..., Any]] = weakref.WeakKeyDictionary()


class Drop(NamedTuple):
    """The fall of a class's probability and logit for each covered square, and where the squares begin.

    Attributes:
      probability: float32 [N, h, w], the class's probability without a square less that with it.
      logit: float32 [N, h, w], the same of its logit.
      starts: int [h] (and, as pictures are square, [w]), first pixel of each row (column) of squares.
      size: side of a square in pixels.
    """

    probability: np.ndarray
    logit: np.ndarray
    starts: np.ndarray
    size: int

    def enlarge(self, maps: np.ndarray, side: int) -> np.ndarray:
        """Maps [N, h, w] over pictures, float32 [N, side, side]: each value at its square's centre."""
        from alexnet_tf.visualize.internals import receptive

        stride = int(self.starts[1] - self.starts[0]) if len(self.starts) > 1 else 1
        return receptive.Field(stride, self.size, int(self.starts[0])).enlarge(maps, side)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this method's own options."""
    options.add_image(parser, overlays.MOST)
    options.add_class(parser)
    parser.add_argument(
        "--size", type=int, default=SIZE, metavar="PIXELS", help="side of the square (default %(default)s)"
    )
    parser.add_argument(
        "--stride",
        type=int,
        default=STRIDE,
        metavar="PIXELS",
        help="from one place to the next (default %(default)s)",
    )


def draw(
    run: Run,
    out: Path,
    *,
    image: Sequence[str] = (),
    class_name: str = "",
    size: int = SIZE,
    stride: int = STRIDE,
) -> dict[str, Any]:
    """Writes occlusion.png and occlusion.npz.

    Args:
      run: the run folder.
      out: an existing folder.
      image: files to explain; none takes pictures of the run's validation split.
      class_name: the class to explain; empty takes each picture's best one.
      size, stride: of the square, in pixels.

    Raises:
      UserError: too many files, one that is no picture, a class that does not exist, or a square that
        does not fit.
      DataError: the run's data set is no longer where it was.
    """
    from alexnet_tf.figures import style

    _check(run.data.crop, size, stride)
    trained, explained, warning = overlays.prepare(run, image, class_name)
    pixels = explained.shown.pixels
    found = drop(trained, pixels, explained.labels, size=size, stride=stride)
    line = f"a square of {size} pixels in steps of {stride}; {style.subject(run)}"
    path = style.save(figure(explained, found, line, warning), out / "occlusion.png")
    falls = {"probability_drop": found.probability, "logit_drop": found.logit}
    numbers = overlays.save(
        out / "occlusion.npz", explained, falls, starts=found.starts, size=np.asarray(size)
    )
    return {
        "files": [str(path), str(numbers)],
        "pictures": len(pixels),
        "classes": list(explained.names),
        "largest_drop": [float(value) for value in found.probability.max(axis=(1, 2))],
        "warning": warning,
    }


def figure(explained: Explained, found: Drop, line: str, warning: str = "") -> Figure:
    """Page with a row for each picture: itself, the most harmful square, and the falls laid over it."""
    from alexnet_tf.figures import grid

    images = explained.shown.images
    covered, captions = [], []
    for image, falls in zip(images, found.probability, strict=True):
        row, column = np.unravel_index(falls.argmax(), falls.shape)
        top, left = found.starts[row], found.starts[column]
        copy = image.copy()
        copy[top : top + found.size, left : left + found.size] = 128
        covered.append(copy)
        captions.append((f"falls by {100 * falls.max():.1f} points",))
    side = images.shape[1]
    cells = {
        "where it falls most": [
            grid.Cell(image, text) for image, text in zip(covered, captions, strict=True)
        ],
        "fall of the probability": overlays.cells(
            overlays.overlaid(images, found.enlarge(np.maximum(found.probability, 0.0), side))
        ),
        "fall of the logit": overlays.cells(
            overlays.overlaid(images, found.enlarge(np.maximum(found.logit, 0.0), side))
        ),
    }
    return overlays.figure(explained, cells, "What the class cannot do without", line, warning)


def drop(
    network: keras.Model,
    pixels: np.ndarray,
    classes: np.ndarray | None = None,
    *,
    size: int = SIZE,
    stride: int = STRIDE,
    fill: float = 0.0,
) -> Drop:
    """Covers a square at every place in turn and evaluates the network (Zeiler and Fergus 2013, section 4.2).

    Args:
      network: pixels -> logits.
      pixels: float32 [N, S, S, 3], mean subtracted.
      classes: labels [N]; None takes each picture's best class without a square.
      size: side of the square; squares begin at 0, `stride`, ..., as long as they fit.
      stride: from one place to the next, in pixels.
      fill: value of covered pixels; 0 is the mean, a grey.

    Raises:
      UserError: the square is larger than the picture, or `size` or `stride` is below 1.
    """
    from scipy.special import softmax

    from alexnet_tf.visualize.network import in_batches

    side = pixels.shape[1]
    _check(side, size, stride)
    starts = np.arange(0, side - size + 1, stride, dtype=np.int32)
    logits = in_batches(network, pixels, AT_ONCE)
    labels = logits.argmax(axis=1) if classes is None else np.asarray(classes)
    tops, lefts = (places.ravel() for places in np.meshgrid(starts, starts, indexing="ij"))
    falls: list[tuple[np.ndarray, np.ndarray]] = []
    each = zip(pixels, logits, labels, strict=True)
    for picture, whole, label in progress.counted("covering pictures", each, len(pixels)):
        covered = _covered_logits(network, picture, tops, lefts, size, fill)
        probability = softmax(whole)[label] - softmax(covered, axis=-1)[:, label]
        falls.append((probability, whole[label] - covered[:, label]))
    shape = (len(pixels), len(starts), len(starts))
    probability, logit = (np.reshape(column, shape) for column in zip(*falls, strict=True))
    return Drop(probability, logit, starts, size)


def _check(side: int, size: int, stride: int) -> None:
    if not 1 <= size <= side:
        raise UserError(f"--size: the square takes 1 to {side} pixels; received {size}")
    if stride < 1:
        raise UserError(f"--stride: 1 or more; received {stride}")


def _covered_logits(
    network: keras.Model, picture: np.ndarray, tops: np.ndarray, lefts: np.ndarray, size: int, fill: float
) -> np.ndarray:
    """Logits [places, classes] of one picture [S, S, 3] with a square covered at each place."""
    step = _function(network)
    batches = range(0, len(tops), AT_ONCE)
    return np.concatenate(
        [
            step(picture, tops[i : i + AT_ONCE], lefts[i : i + AT_ONCE], size, np.float32(fill)).numpy()
            for i in batches
        ]
    )


def _function(network: keras.Model) -> Callable[..., Any]:
    """`_covered_logits` of a batch of places, compiled at the first call."""
    import keras
    import tensorflow as tf

    if network not in _compiled:
        side = network.input.shape[1]
        # Not the network itself: what is kept for it must not keep it alive.
        own = keras.Model(network.input, network.output)

        def step(
            picture: tf.Tensor, tops: tf.Tensor, lefts: tf.Tensor, size: tf.Tensor, fill: tf.Tensor
        ) -> tf.Tensor:
            places = tf.range(side)
            down, across = (
                (places >= first[:, None]) & (places < first[:, None] + size) for first in (tops, lefts)
            )
            square = (down[:, :, None] & across[:, None, :])[..., None]
            return own(tf.where(square, fill, picture[None]), training=False)

        specs = [
            tf.TensorSpec(network.input.shape[1:], tf.float32),
            *[tf.TensorSpec([None], tf.int32)] * 2,
            tf.TensorSpec([], tf.int32),
            tf.TensorSpec([], tf.float32),
        ]
        _compiled[network] = tf.function(step, input_signature=specs, autograph=False)
    return _compiled[network]
