"""Score-CAM by tf-keras-vis 0.8.7, over the maps of both towers.

Called as its manual says, on a network of two towers, tf-keras-vis explains the whole by the last
convolution that it finds: tower b's. Here it is given the network of `graph.joined`, in which all maps
pass through one layer, and told not to look for another one. The network is not copied.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np

from alexnet_tf.network import graph
from alexnet_tf.visualize.network import explained_classes, in_batches

# Pictures that go through the network at once.
BATCH = 32


class _Explained(NamedTuple):
    """A network pixels -> logits, and the name of its layer that holds all the maps."""

    network: keras.Model
    layer: str


def score_cam(
    network: keras.Model,
    pixels: np.ndarray,
    classes: np.ndarray | None = None,
    layer: str = "relu5",
    *,
    max_maps: int | None = None,
) -> np.ndarray:
    """Score-CAM (Wang et al. 2020): maps weighted by the class's probability where they let a picture show.

    A forward pass for each map. As in tf-keras-vis a weight is the probability itself, not, as in the
    paper, the softmax over all maps of its rise against an empty picture.

    Args:
      network: pixels -> logits.
      pixels: float32 [N, S, S, 3].
      classes: int [N], the class that each picture's map explains; None for its best one.
      layer: a layer of feature maps.
      max_maps: only so many maps, those that differ most from place to place; None for all.

    Returns:
      float32 [N, h, w], 0 or more, on the layer's own grid.

    Raises:
      UserError: the network has no such layer of feature maps.
    """
    from tf_keras_vis.scorecam import Scorecam
    from tf_keras_vis.utils.scores import CategoricalScore

    explained = _explained(network, layer)
    width = int(explained.network.get_layer(explained.layer).output.shape[-1])
    method = Scorecam(_called(explained.network), clone=False)
    maps = []
    # One picture at a time: of several, tf-keras-vis takes the maps that differ most in any of them, and
    # it holds all masked pictures at once, 154 MB for each picture and 256 maps.
    for picture, label in zip(pixels, explained_classes(network, pixels, classes), strict=True):
        found = method(
            CategoricalScore(int(label)),
            picture[np.newaxis],
            penultimate_layer=explained.layer,
            seek_penultimate_conv_layer=False,
            batch_size=BATCH,
            max_N=None if max_maps is None else min(max_maps, width),
            expand_cam=False,
            normalize_cam=False,
        )
        maps.append(np.asarray(found, np.float32)[0])
    return np.stack(maps)


def _explained(network: keras.Model, layer: str) -> _Explained:
    """The network in which the maps of `layer` are those of one layer."""
    parts = graph.parts(network, layer, maps=True)
    if len(parts) == 1:
        return _Explained(network, layer)
    pixels_to_both = graph.joined(network, layer)
    logits = pixels_to_both.outputs[1]
    return _Explained(keras.Model(pixels_to_both.input, logits), f"{layer}_{graph.JOINED}")


def _called(network: keras.Model) -> keras.Model:
    """The same network with a `predict` that calls it directly.

    Keras' own traces the network anew for every picture and writes its progress into a command's output.
    """

    class Called(keras.Model):
        def predict(self, x: Any, batch_size: int = BATCH) -> np.ndarray:
            (pictures,) = x
            return in_batches(self, pictures, batch_size)

    return Called(network.input, network.output)
