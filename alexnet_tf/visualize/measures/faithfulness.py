"""Sanity checks of explanation maps: do they lie on the object, and do they depend on the weights?

Two measures. The energy on the object: the share of a map's sum that lies on the object's mask, or in
the box around it, which is the energy-based pointing game (Wang and others 2020). And what is left of a
map once weights are random, from the last layer down to the first: a map that stays explains the picture,
not the network (Adebayo and others 2018, section 3).
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipelines import progress
from pipelines.errors import UserError

if TYPE_CHECKING:
    import keras

    from alexnet_tf.run_record import Run

# Maps whose weights are randomised; SmoothGrad would take 25 times the vanilla gradient's time.
RANDOMISED = ("gradcam", "vanilla")
LAYER = "relu5"
RANDOMISED_PICTURES = 12
# Pixels [N, S, S, 3], labels [N] -> maps [N, S, S], 0 or more.
Explain = Callable[["keras.Model", np.ndarray, np.ndarray], np.ndarray]


class Energy(NamedTuple):
    """Mean shares of maps' sums in a region, the object or its box; None where no map counts.

    Attributes:
      trained: of the trained network, pictures named correctly.
      untrained: of the network with random weights, all pictures.
      uniform: of a map that is the same everywhere: the region's share of the area, all pictures.
      seen: of the object as the layer's units see it (`effective_field`), all pictures.
    """

    trained: dict[str, float | None]
    untrained: dict[str, float | None]
    uniform: float
    seen: float | None


class Randomised(NamedTuple):
    """Similarity of maps to the trained network's while weights become random from the last layer down.

    Attributes:
      layers: `trained`, then names of layers.
      maps: by kind, float32 [layers, N, S, S].
      rank_correlation, similarity: by kind, the mean over pictures against `trained`, a value a layer.
      others: by kind, the mean rank correlation of `trained` maps of different pictures: what maps have in
        common whatever they explain, such as a dark margin.
    """

    layers: tuple[str, ...]
    maps: dict[str, np.ndarray]
    rank_correlation: dict[str, list[float | None]]
    similarity: dict[str, list[float | None]]
    others: dict[str, float | None]


def explainers(layer: str) -> dict[str, Explain]:
    """The explanation methods that are checked, by name; Grad-CAM and LayerCAM weigh the maps of `layer`."""
    from alexnet_tf.visualize import gradcam, saliency

    return {
        "gradcam": functools.partial(gradcam.grad_cam, layer=layer),
        "layercam": functools.partial(gradcam.layer_cam, layer=layer),
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
    """Masks of the object in the crops of some of a run's pictures: bool [N, S, S].

    Raises:
      UserError: the run's data are not the built-in ones, of which alone that is known.
    """
    import tensorflow as tf

    from pipelines.pictures import preprocess
    from pipelines.sources.synthetic import SyntheticSource

    check_data(run)
    source = SyntheticSource(run.data)
    found = []
    for key in keys:
        grey = np.repeat(source.mask(key)[:, :, np.newaxis], 3, axis=-1).astype(np.uint8) * 255
        # The way of the picture itself.
        crop = preprocess.evaluation_crop(tf.io.encode_png(grey), run.data)
        found.append(crop.numpy()[..., 0] > 127)
    return np.stack(found)


def boxes(masks: np.ndarray) -> np.ndarray:
    """The bounding box of each mask, as a mask of the same shape bool [N, S, S]; empty for an empty one."""
    found = np.zeros_like(masks)
    for box, mask in zip(found, masks, strict=True):
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        if len(rows):
            box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return found


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


def energies(
    trained: keras.Model,
    fresh: keras.Model,
    pixels: np.ndarray,
    labels: np.ndarray,
    masks: np.ndarray,
    layer: str = LAYER,
) -> tuple[dict[str, Energy], int]:
    """Energy by region and kind of map, and how many pictures the trained network names correctly.

    Args:
      trained, fresh: the network, and the same with random weights.
      pixels: float32 [N, S, S, 3].
      labels: int [N], the true classes, which the maps explain.
      masks: bool [N, S, S].
      layer: whose maps Grad-CAM and LayerCAM weigh.

    Returns:
      By region, `object` and `box`, the mean shares, and the number of pictures.
    """
    from alexnet_tf.visualize.internals import effective_field
    from alexnet_tf.visualize.network import best_classes

    right = best_classes(trained, pixels) == labels
    regions = {"object": masks, "box": boxes(masks)}
    of_right = {name: region[right] for name, region in regions.items()}
    of_trained = _shares(trained, pixels[right], labels[right], of_right, layer, "trained")
    of_fresh = _shares(fresh, pixels, labels, regions, layer, "untrained")
    with progress.phase("measuring what units see"):
        seen = effective_field.seen(trained, pixels, masks, layer)
    found = {
        name: Energy(of_trained[name], of_fresh[name], float(region.mean()), _mean(energy_on(region, seen)))
        for name, region in regions.items()
    }
    return found, int(right.sum())


def rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's correlation of the pixels of maps [N, S, S] in pairs, float64 [N]; nan for a flat map."""
    from scipy import stats

    pairs = zip(*(np.reshape(maps, (len(maps), -1)) for maps in (first, second)), strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)  # the nan says it
        return np.array([stats.spearmanr(one, other).statistic for one, other in pairs])


def similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Structural similarity (Wang and others 2004) of maps [N, S, S] in pairs, float32 [N].

    Each map is first divided by its largest value.
    """
    import tensorflow as tf

    from alexnet_tf.figures import heat

    one, other = (heat.to_unit(tf.constant(maps, tf.float32))[..., tf.newaxis] for maps in (first, second))
    return tf.image.ssim(one, other, max_val=1.0).numpy()


def layers_with_weights(network: keras.Model) -> list[tuple[str, list[keras.layers.Layer]]]:
    """The layers with weights by name, from the last to the first; both towers' layers share a name."""
    from alexnet_tf.network import graph

    found = []
    for name in graph.layer_names(network):
        parts = graph.parts(network, name)
        if hasattr(parts[0], "kernel") and not name.endswith(graph.TOWERS):
            found.append((name, parts))
    return found[::-1]


def randomise(
    trained: keras.Model, fresh: keras.Model, pixels: np.ndarray, labels: np.ndarray, layer: str = LAYER
) -> Randomised:
    """Maps under cascading randomisation of the weights, fc8 to conv1 (Adebayo and others 2018, section 3.1).

    Args:
      trained: whose weights change meanwhile, and are put back.
      fresh: the same network with the random weights.
      pixels: float32 [N, S, S, 3].
      labels: int [N], the classes that the maps explain.
      layer: whose maps Grad-CAM weighs.
    """
    explain = {name: explainers(layer)[name] for name in RANDOMISED}
    layers = ["trained"]
    maps = {name: [of(trained, pixels, labels)] for name, of in explain.items()}
    order = layers_with_weights(trained)
    counted = progress.counted("randomising layers", cascade(trained, fresh), len(order))
    for random_down_to in counted:
        layers.append(random_down_to)
        for name, of in explain.items():
            maps[name].append(of(trained, pixels, labels))
    stages = {name: np.stack(found) for name, found in maps.items()}
    others = {
        name: _mean(rank_correlation(found[0], np.roll(found[0], 1, axis=0))) if len(pixels) > 1 else None
        for name, found in stages.items()
    }
    return Randomised(
        tuple(layers),
        stages,
        _similarities(rank_correlation, stages),
        _similarities(similarity, stages),
        others,
    )


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


def _shares(
    network: keras.Model,
    pixels: np.ndarray,
    labels: np.ndarray,
    regions: dict[str, np.ndarray],
    layer: str,
    which: str,
) -> dict[str, dict[str, float | None]]:
    """The mean energy by region and kind of map; None where no map counts."""
    if not len(pixels):
        return {name: dict.fromkeys(explainers(layer)) for name in regions}
    kinds = explainers(layer)
    counted = progress.counted(f"kinds of maps of the {which} network", kinds.items(), len(kinds))
    maps = {kind: explain(network, pixels, labels) for kind, explain in counted}
    return {
        name: {kind: _mean(energy_on(region, found)) for kind, found in maps.items()}
        for name, region in regions.items()
    }


def _similarities(
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray], maps: dict[str, np.ndarray]
) -> dict[str, list[float | None]]:
    """By kind, the mean similarity of maps [layers, N, S, S] to those of the first layer."""
    return {name: [_mean(measure(stages[0], stage)) for stage in stages] for name, stages in maps.items()}


def _mean(values: np.ndarray) -> float | None:
    """The mean of the finite values; None without any."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None
