"""Method `saliency`: how much each pixel changes a class's score, by the gradient of its logit.

Three kinds. `vanilla`: the gradient's size (Simonyan, Vedaldi and Zisserman 2013), as the export's
signature of that name answers. `smooth`: the gradient averaged over noisy copies of the picture
(SmoothGrad; Smilkov and others 2017). `integrated`: the gradient averaged on the straight way from a
baseline and multiplied by the way (Sundararajan, Taly and Yan 2017).
"""

from __future__ import annotations

import argparse
import functools
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alexnet_tf.visualize import options, overlays
from pipelines import progress

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from alexnet_tf.run_record import Run
    from alexnet_tf.visualize.overlays import Explained

# Copies of pictures, or points on the way to them, that are computed at once.
AT_ONCE = 64
KINDS = ("vanilla", "smooth", "integrated")
TITLES = {
    "vanilla": "vanilla gradient",
    "smooth": "SmoothGrad",
    "integrated": "integrated gradients",
}

# A network's gradient as a compiled function, so that the second map costs no tracing.
_compiled: weakref.WeakKeyDictionary[Any, Callable[..., Any]] = weakref.WeakKeyDictionary()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this method's own options."""
    options.add_image(parser, overlays.MOST)
    options.add_class(parser)


def draw(run: Run, out: Path, *, image: Sequence[str] = (), class_name: str = "") -> dict[str, Any]:
    """Writes saliency.png and saliency.npz.

    Args:
      run: the run folder.
      out: an existing folder.
      image: files to explain; none takes pictures of the run's validation split.
      class_name: the class to explain; empty takes each picture's best one.

    Raises:
      UserError: too many files, one that is no picture, or a class that does not exist.
      DataError: the run's data set is no longer where it was.
    """
    from alexnet_tf.figures import style

    trained, explained, warning = overlays.prepare(run, image, class_name)
    pixels = explained.shown.pixels
    found = {kind: maps(trained, pixels, kind, explained.labels) for kind in KINDS}
    path = style.save(figure(explained, found, style.subject(run), warning), out / "saliency.png")
    numbers = overlays.save(out / "saliency.npz", explained, found)
    return {
        "files": [str(path), str(numbers)],
        "pictures": len(pixels),
        "classes": list(explained.names),
        "warning": warning,
    }


def figure(explained: Explained, found: dict[str, np.ndarray], line: str, warning: str = "") -> Figure:
    """A row a picture: the picture, then a map of each kind.

    Args:
      explained: the pictures and their classes.
      found: by kind, maps float32 [N, S, S], 0 or more.
      line: below the title.
      warning: across the foot; empty for none.
    """
    cells = {TITLES[kind]: overlays.cells(overlays.heat_maps(values)) for kind, values in found.items()}
    return overlays.figure(explained, cells, "Which pixels a class hangs on", line, warning)


def vanilla(network: keras.Model, pixels: np.ndarray, classes: np.ndarray | None = None) -> np.ndarray:
    """The largest magnitude of a logit's gradient over a pixel's colours (Simonyan et al. 2013, section 3.1).

    Args:
      network: pixels -> logits.
      pixels: float32 [N, S, S, 3], mean subtracted.
      classes: labels [N]; None takes each picture's best class.

    Returns:
      float32 [N, S, S], 0 or more, in logits per unit of a pixel; the export divides by the largest.
    """
    return _largest(gradient(network, pixels, classes)[1])


def smooth_grad(
    network: keras.Model,
    pixels: np.ndarray,
    classes: np.ndarray | None = None,
    *,
    samples: int = 25,
    noise: float = 0.15,
    seed: int = 0,
) -> np.ndarray:
    """The gradient averaged over noisy copies, then as in `vanilla` (Smilkov and others 2017).

    Args:
      network, pixels, classes: as for `vanilla`; the best class is that of the picture without noise.
      samples: copies of each picture.
      noise: the noise's standard deviation as a share of the picture's range from darkest to lightest.
      seed: the noise is the same for every picture, whatever others there are.

    Returns:
      float32 [N, S, S], 0 or more.
    """
    from alexnet_tf.visualize.network import explained_classes

    labels = explained_classes(network, pixels, classes)
    deviation = noise * (pixels.max(axis=(1, 2, 3)) - pixels.min(axis=(1, 2, 3)))
    generator = np.random.default_rng(seed)
    total = np.zeros_like(pixels)
    for _ in progress.counted("SmoothGrad, samples", range(samples), samples):
        drawn = generator.standard_normal(pixels.shape[1:], np.float32)
        total += gradient(network, pixels + deviation[:, None, None, None] * drawn, labels)[1]
    return _largest(total / samples)


def integrated_gradients(
    network: keras.Model,
    pixels: np.ndarray,
    classes: np.ndarray | None = None,
    *,
    steps: int = 50,
    baseline: np.ndarray | None = None,
) -> np.ndarray:
    """Each value's contribution to the logit's change from a baseline (Sundararajan and others 2017).

    The integral is a midpoint sum. All attributions together are the logit of the picture minus that of
    the baseline, but for the sum's error, which falls as `steps` grows.

    Args:
      network, pixels, classes: as for `vanilla`.
      steps: points on the straight way.
      baseline: float32 [S, S, 3] or [N, S, S, 3]; None takes zeros, which is the mean picture.

    Returns:
      float32 [N, S, S, 3], signed, in logits.
    """
    from alexnet_tf.visualize.network import explained_classes

    labels = explained_classes(network, pixels, classes)
    start = np.zeros_like(pixels) if baseline is None else np.broadcast_to(baseline, pixels.shape)
    way = pixels - start
    total = np.zeros_like(pixels)
    shares = (np.arange(steps, dtype=np.float32) + 0.5) / steps
    for share in progress.counted("integrated gradients, steps", shares, steps):
        total += gradient(network, start + share * way, labels)[1]
    return way * total / steps


def maps(
    network: keras.Model, pixels: np.ndarray, kind: str, classes: np.ndarray | None = None
) -> np.ndarray:
    """Maps of one of KINDS, float32 [N, S, S], 0 or more.

    An integrated gradient is signed; its map is the size of the sum over a pixel's colours.
    """
    if kind == "integrated":
        return np.abs(integrated_gradients(network, pixels, classes).sum(axis=-1))
    return {"vanilla": vanilla, "smooth": smooth_grad}[kind](network, pixels, classes)


def gradient(
    network: keras.Model, pixels: np.ndarray, classes: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 [N, classes], and the signed gradient of one of them float32 [N, S, S, 3].

    Args:
      network, pixels, classes: as for `vanilla`.
    """
    labels = np.full(len(pixels), -1) if classes is None else np.asarray(classes)
    step = _function(network)
    parts = [
        step(pixels[first : first + AT_ONCE], labels[first : first + AT_ONCE].astype(np.int32))
        for first in range(0, len(pixels), AT_ONCE)
    ]
    columns = [[part.numpy() for part in column] for column in zip(*parts, strict=True)]
    logits, gradients = (column[0] if len(column) == 1 else np.concatenate(column) for column in columns)
    return logits, gradients


def _largest(gradients: np.ndarray) -> np.ndarray:
    """The largest size over a pixel's colours, [..., 3] -> [...]; `max` over so short an axis is slow."""
    return functools.reduce(np.maximum, (np.abs(gradients[..., c]) for c in range(gradients.shape[-1])))


def _function(network: keras.Model) -> Callable[..., Any]:
    """`gradient` of a batch, compiled at the first call."""
    import tensorflow as tf

    from alexnet_tf.network import input_gradient

    if network not in _compiled:
        compute = input_gradient.function(network)
        pixels = tf.TensorSpec([None, *network.input.shape[1:]], tf.float32)
        labels = tf.TensorSpec([None], tf.int32)

        def step(pixels: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return compute(pixels, input_gradient.of_class(labels))

        _compiled[network] = tf.function(step, input_signature=[pixels, labels], autograph=False)
    return _compiled[network]
