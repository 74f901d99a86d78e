"""Whether maps can be believed: do they lie on the object, do they hang on the weights?

Two measures. The energy on the object: the share of a map's sum that lies on the object's mask, the
energy-based pointing game (Wang and others 2020, section 4.2). And what is left of a map once weights are
random, from the last layer down to the first: a map that stays explains the picture, not the network
(Adebayo and others 2018, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from alexnet_tf.errors import UserError

if TYPE_CHECKING:
    import keras

    from alexnet_tf.run_record import Run

# Pixels [N, S, S, 3], labels [N] -> maps [N, S, S], 0 or more.
Explain = Callable[["keras.Model", np.ndarray, np.ndarray], np.ndarray]


def explainers() -> dict[str, Explain]:
    """The maps that are judged, by name."""
    from alexnet_tf.visualize import gradcam, saliency

    return {
        "gradcam": gradcam.grad_cam,
        "layercam": gradcam.layer_cam,
        "vanilla": saliency.vanilla,
        "smooth": saliency.smooth_grad,
    }


def check_data(run: Run) -> None:
    """Raises UserError for a run of other data than the built-in ones, of which alone masks are known."""
    if run.data.kind != "synthetic":
        raise UserError(
            f"{run.workdir}: trained on {run.data.spec}; only of the built-in data (--data synthetic) "
            "is it known where the objects are"
        )


def masks(run: Run, keys: tuple[str, ...]) -> np.ndarray:
    """Where the object can be seen in the crops of some of a run's pictures: bool [N, S, S].

    Raises:
      UserError: the run's data are not the built-in ones, of which alone that is known.
    """
    import tensorflow as tf

    from pipelines import preprocess
    from pipelines.synthetic import SyntheticSource

    check_data(run)
    source = SyntheticSource(run.data)
    found = []
    for key in keys:
        grey = np.repeat(source.mask(key)[:, :, np.newaxis], 3, axis=-1).astype(np.uint8) * 255
        # The way of the picture itself.
        crop = preprocess.evaluation_crop(tf.io.encode_png(grey), run.data)
        found.append(crop.numpy()[..., 0] > 127)
    return np.stack(found)


def energy_on(masks: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Share of each map's sum that lies on its mask; nan for a map of zeros.

    Args:
      masks: bool [N, S, S].
      maps: float [N, S, S], 0 or more.

    Returns:
      float64 [N].
    """
    whole = np.asarray(maps, np.float64)
    total = whole.sum(axis=(1, 2))
    return np.divide(
        (whole * masks).sum(axis=(1, 2)), total, out=np.full(len(total), np.nan), where=total > 0
    )


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's correlation of the pixels of maps [N, S, S] in pairs, float64 [N]; nan for a flat map."""
    pairs = zip(*(np.reshape(maps, (len(maps), -1)) for maps in (first, second)), strict=True)
    return np.array([_correlation(_ranks(one), _ranks(other)) for one, other in pairs])


def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Structural similarity (Wang and others 2004) of maps [N, S, S] in pairs, float32 [N].

    Each map is first divided by its largest value.
    """
    import tensorflow as tf

    from alexnet_tf import heat

    one, other = (heat.to_unit(tf.constant(maps, tf.float32))[..., tf.newaxis] for maps in (first, second))
    return tf.image.ssim(one, other, max_val=1.0).numpy()


def layers_with_weights(network: keras.Model) -> list[tuple[str, list[keras.layers.Layer]]]:
    """Names and layers from the last to the first; two towers' layers of one name are one."""
    from alexnet_tf.visualize import graph

    found = []
    for name in graph.layer_names(network):
        parts = graph.parts(network, name)
        if hasattr(parts[0], "kernel") and not name.endswith(graph.TOWERS):
            found.append((name, parts))
    return found[::-1]


def cascade(network: keras.Model, fresh: keras.Model) -> Iterator[str]:
    """Gives a network's layers random weights, from the last to the first, and at the end its own back.

    Args:
      network: whose weights change: after each name that comes, those of that layer and of all above
        it are random.
      fresh: the same network with other random weights.

    Yields:
      Names of layers, such as `fc8`, `conv5`.
    """
    own = [(layer, layer.get_weights()) for _, layers in layers_with_weights(network) for layer in layers]
    try:
        for name, layers in layers_with_weights(network):
            for layer in layers:
                layer.set_weights(fresh.get_layer(layer.name).get_weights())
            yield name
    finally:
        for layer, weights in own:
            layer.set_weights(weights)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of values [n], the mean rank for equal ones, float64 [n]."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation of values [n]; nan where either has no spread."""
    one, other = one - one.mean(), other - other.mean()
    spread = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / spread if spread else float("nan")
