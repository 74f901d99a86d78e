"""Method `gradcam`: class activation maps, which show where in a picture the evidence for a class lies.

Four kinds. `gradcam`: the maps weighed by the mean of the logit's gradient (Selvaraju and others 2017).
`gradcam++`: weighed by its positive part with a correction for several objects (Chattopadhay and others
2018; other programs normalise a map's corrections to a sum of 1, which its equations do not, and so differ
by several per cent). `scorecam`: weighed by the probability that is left when only a map's places are shown
(Wang and others 2020). `layercam`: every place weighed by its own gradient (Jiang and others 2021).

All take the maps of both towers together. A map is laid over the picture with each cell at the centre of
its receptive field, where other programs enlarge it to the picture's size: with 13 x 13 cells that puts
the outer ones up to eight pixels too far out.
"""

from __future__ import annotations

import argparse
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alexnet_tf.visualize import options, overlays

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from alexnet_tf.run_record import Run
    from alexnet_tf.visualize.overlays import Explained

KINDS = ("gradcam", "gradcam++", "scorecam", "layercam")
TITLES = {"gradcam": "Grad-CAM", "gradcam++": "Grad-CAM++", "scorecam": "Score-CAM", "layercam": "LayerCAM"}
LAYER = "relu5"
AT_ONCE = 32

# A network's maps and their gradient as a compiled function, a layer an entry.
_compiled: weakref.WeakKeyDictionary[Any, dict[str, Callable[..., Any]]] = weakref.WeakKeyDictionary()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this method's own options."""
    options.add_image(parser, overlays.MOST)
    options.add_class(parser)
    options.add_layer(parser, LAYER)


def draw(
    run: Run, out: Path, *, image: Sequence[str] = (), class_name: str = "", layer: str = LAYER
) -> dict[str, Any]:
    """Writes gradcam.png and gradcam.npz.

    Args:
      run: the run folder.
      out: an existing folder.
      image: files to explain; none takes pictures of the run's validation split.
      class_name: the class to explain; empty takes each picture's best one.
      layer: whose maps; `relu5` those of both towers, `relu5_b` one's.

    Raises:
      UserError: too many files, one that is no picture, or a class or layer that does not exist.
      DataError: the run's data set is no longer where it was.
    """
    from alexnet_tf.figures import style
    from alexnet_tf.network import graph

    trained, explained, warning = overlays.prepare(run, image, class_name)
    graph.parts(trained, layer, maps=True)
    pixels = explained.shown.pixels
    found = {kind: maps(trained, pixels, kind, explained.labels, layer) for kind in KINDS}
    line = f"maps of {layer}; {style.subject(run)}"
    path = style.save(figure(explained, found, line, warning), out / "gradcam.png")
    numbers = overlays.save(out / "gradcam.npz", explained, found, layer=np.asarray(layer))
    return {
        "files": [str(path), str(numbers)],
        "pictures": len(pixels),
        "classes": list(explained.names),
        "layer": layer,
        "warning": warning,
    }


def figure(explained: Explained, found: dict[str, np.ndarray], line: str, warning: str = "") -> Figure:
    """A row a picture: the picture, then a map of each kind laid over it.

    Args:
      explained: the pictures and their classes.
      found: by kind, maps float32 [N, S, S], 0 or more.
      line: below the title.
      warning: across the foot; empty for none.
    """
    images = explained.shown.images
    cells = {
        TITLES[kind]: overlays.cells(overlays.overlaid(images, values)) for kind, values in found.items()
    }
    return overlays.figure(explained, cells, "Where a class's evidence lies", line, warning)


def grad_cam(
    network: keras.Model, pixels: np.ndarray, classes: np.ndarray | None = None, layer: str = LAYER
) -> np.ndarray:
    """Grad-CAM of both towers (Selvaraju and others 2017, equations 1 and 2) over the picture.

    Args:
      network: pixels -> logits.
      pixels: float32 [N, S, S, 3], mean subtracted.
      classes: labels [N]; None takes each picture's best class.
      layer: one with feature maps, such as `relu5`, of both towers, or `relu5_a` of one.

    Returns:
      float32 [N, S, S], 0 or more, each cell at the centre of its receptive field.

    Raises:
      UserError: the network has no such layer of feature maps.
    """
    return maps(network, pixels, "gradcam", classes, layer)


def layer_cam(
    network: keras.Model, pixels: np.ndarray, classes: np.ndarray | None = None, layer: str = LAYER
) -> np.ndarray:
    """LayerCAM of both towers (Jiang and others 2021, equations 6 and 7) over the picture; see `grad_cam`."""
    return maps(network, pixels, "layercam", classes, layer)


def maps(
    network: keras.Model,
    pixels: np.ndarray,
    kind: str,
    classes: np.ndarray | None = None,
    layer: str = LAYER,
) -> np.ndarray:
    """Maps of one of KINDS over the picture, float32 [N, S, S]; see `grad_cam`."""
    from alexnet_tf.visualize.internals import receptive

    field = receptive.field(network, layer)
    return field.enlarge(coarse(network, pixels, kind, classes, layer), pixels.shape[1])


def coarse(
    network: keras.Model,
    pixels: np.ndarray,
    kind: str,
    classes: np.ndarray | None = None,
    layer: str = LAYER,
) -> np.ndarray:
    """Maps of one of KINDS, a value for each place of the layer: float32 [N, h, w], 0 or more.

    Raises:
      UserError: the network has no such layer of feature maps.
    """
    if kind != "scorecam":
        found, slopes = maps_and_slopes(network, pixels, classes, layer)
        if kind == "gradcam":
            weights = slopes.mean(axis=(1, 2), keepdims=True)
        else:
            weights = plus_plus_weights(found, slopes) if kind == "gradcam++" else np.maximum(slopes, 0.0)
        return np.maximum((found * weights).sum(axis=-1), 0.0)
    from alexnet_tf.network import graph
    from alexnet_tf.visualize.internals import cams
    from alexnet_tf.visualize.network import explained_classes

    graph.parts(network, layer, maps=True)
    labels = explained_classes(network, pixels, classes)
    return cams.score_cam(network, pixels, labels, layer)


def plus_plus_weights(found: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Grad-CAM++'s weight of each map (Chattopadhay and others 2018, equations 10, 12 and 19).

    Of the exponential of a logit with slopes g all derivatives are powers of g times the exponential: the
    corrections are g^2 / (2 g^2 + sum(A) g^3), multiplied with the positive part of g and summed over places.
    The factor exp(logit), the same for all maps, is left out: it overflows for a logit over 88.

    Args:
      found: maps A, float32 [N, h, w, C].
      slopes: g, the gradient of the logit with respect to them, of the same shape.

    Returns:
      float32 [N, 1, 1, C], 0 or more where no map's sum is negative.
    """
    positive = np.maximum(slopes, 0.0)
    below = 2.0 + found.sum(axis=(1, 2), keepdims=True) * positive  # divided by g^2
    corrected = np.divide(positive, below, out=np.zeros_like(positive), where=below != 0.0)
    return corrected.sum(axis=(1, 2), keepdims=True)


def maps_and_slopes(
    network: keras.Model, pixels: np.ndarray, classes: np.ndarray | None = None, layer: str = LAYER
) -> tuple[np.ndarray, np.ndarray]:
    """A layer's maps, and the gradient of a class's logit with respect to them: float32 [N, h, w, C] both.

    Args:
      network, pixels, classes, layer: as for `grad_cam`.

    Raises:
      UserError: the network has no such layer of feature maps.
    """
    labels = np.full(len(pixels), -1) if classes is None else np.asarray(classes)
    step = _function(network, layer)
    parts = [
        step(pixels[first : first + AT_ONCE], labels[first : first + AT_ONCE].astype(np.int32))
        for first in range(0, len(pixels), AT_ONCE)
    ]
    found, slopes = (np.concatenate([part.numpy() for part in column]) for column in zip(*parts, strict=True))
    return found, slopes


def _function(network: keras.Model, layer: str) -> Callable[..., Any]:
    """`maps_and_slopes` of a batch, compiled at the first call."""
    import tensorflow as tf

    from alexnet_tf.network import graph, input_gradient

    known = _compiled.setdefault(network, {})
    if layer not in known:
        graph.parts(network, layer, maps=True)
        model = graph.joined(network, layer)
        specs = [
            tf.TensorSpec([None, *network.input.shape[1:]], tf.float32),
            tf.TensorSpec([None], tf.int32),
        ]

        def step(pixels: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(pixels)
                found, logits = model(pixels, training=False)
            weights = tf.stop_gradient(input_gradient.of_class(labels)(logits))
            return found, tape.gradient(logits, found, weights)

        known[layer] = tf.function(step, input_signature=specs, autograph=False)
    return known[layer]
