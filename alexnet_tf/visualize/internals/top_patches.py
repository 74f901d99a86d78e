"""The pictures in which each unit of a layer fires most, and the places where it does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import keras

    from alexnet_tf.run_record import Run
    from alexnet_tf.visualize.internals.receptive import Field

# Pictures that the network sees at once.
BATCH = 64
# What stands for what lies outside the picture: the network reads zeros there, which is the mean.
OUTSIDE = 128


class Strongest(NamedTuple):
    """The `count` pictures in which each unit of a layer fires most, one place in each, strongest first.

    Attributes:
      values: float32 [units, count], the activations.
      positions: int64 [units, count], numbers of the pictures in the order they came in.
      places: int64 [units, count, 2], row and column in the layer's maps; 0, 0 for a layer without maps.
    """

    values: np.ndarray
    positions: np.ndarray
    places: np.ndarray


def strongest(network: keras.Model, batches: Iterable[np.ndarray], layer: str, count: int = 9) -> Strongest:
    """Finds each unit's strongest pictures in one pass, keeping `count` of each.

    Args:
      network: pixels -> logits, with or without towers.
      batches: of pixels float32 [n, S, S, 3], one or more.
      layer: such as `conv5`: both towers' units, tower b's after tower a's.
      count: pictures of each unit; fewer where fewer come in.

    Raises:
      UserError: no such layer.
    """
    peaks_of = _peaks(network, layer)
    kept: Strongest | None = None
    seen = 0
    for pixels in batches:
        values, rows, columns = (np.asarray(part).T for part in peaks_of(pixels))
        positions = np.broadcast_to(seen + np.arange(len(pixels)), values.shape)
        new = Strongest(values, positions, np.stack([rows, columns], axis=-1))
        kept = _best(new if kept is None else _join(kept, new), count)
        seen += len(pixels)
    if kept is None:
        raise ValueError("`batches` must hold at least one batch")
    return kept


def over_run(
    run: Run,
    network: keras.Model,
    layer: str,
    split: str,
    *,
    count: int = 9,
    most: int | None = None,
) -> Strongest:
    """`strongest` over a split of the run's own data, in its fixed order, as pictures are evaluated.

    Args:
      run: the run folder.
      network: its network.
      layer: such as `conv5`.
      split: `val` or `train`.
      count: pictures of each unit.
      most: how many pictures of the split to use; None for all.

    Raises:
      UserError: no such layer.
      DataError: the data set is no longer where it was.
    """
    from pipelines import dataset, progress
    from pipelines.pictures import preprocess

    source, stats = run.open_source(), run.stats
    total = min(source.count(split), most or source.count(split))

    def batches() -> Iterable[np.ndarray]:
        seen = 0
        opened = dataset.build(source, run.data, split, BATCH, training=False)
        for batch in progress.counted(f"looking at the {split} pictures", opened, total, each=BATCH):
            images = batch["image"][: min(BATCH, total - seen)]
            yield preprocess.to_pixels(images, stats, run.data)
            seen += len(images)
            if seen == total:
                return

    return strongest(network, batches(), layer, count)


def patches(images: np.ndarray, places: np.ndarray, field: Field, outside: float = OUTSIDE) -> np.ndarray:
    """Each picture cropped to the receptive field of one place.

    Args:
      images: [N, S, S, 3], such as uint8 crops or projections.
      places: int [N, 2], rows and columns in the layer's maps.
      field: the layer's receptive fields.
      outside: stands where a field hangs over the picture's edge.

    Returns:
      [N, side, side, 3] of the images' type, as large as a field.
    """
    border = field.size
    padded = np.pad(images, ((0, 0), (border, border), (border, border), (0, 0)), constant_values=outside)
    cut = []
    for image, (row, column) in zip(padded, places.tolist(), strict=True):
        top, left = (field.bounds(index)[0] + border for index in (row, column))
        cut.append(image[top : top + field.size, left : left + field.size])
    return np.stack(cut)


def _peaks(network: keras.Model, layer: str) -> Callable[[np.ndarray], tuple[np.ndarray, ...]]:
    """A function pixels [n, S, S, 3] -> strongest activations, their rows and columns, each [n, units]."""
    import keras
    import tensorflow as tf

    from alexnet_tf.network import graph

    tapped = graph.taps(network, layer)
    lower = keras.Model(tapped.input, tapped.outputs[0])

    # One graph for every number of pictures: the last batch is smaller.
    spec = tf.TensorSpec([None, *lower.input_shape[1:]], tf.float32)

    @tf.function(autograph=False, input_signature=[spec])
    def peaks(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        maps = lower(pixels, training=False)
        width = maps.shape[2] if maps.shape.rank == 4 else 1
        flat = tf.reshape(maps, [tf.shape(maps)[0], -1, maps.shape[-1]])
        index = tf.argmax(flat, axis=1)
        return tf.reduce_max(flat, axis=1), index // width, index % width

    return peaks


def _join(first: Strongest, second: Strongest) -> Strongest:
    return Strongest(*(np.concatenate(pair, axis=1) for pair in zip(first, second, strict=True)))


def _best(all_of: Strongest, count: int) -> Strongest:
    """The strongest of each unit; of equal ones those that came first."""
    order = np.argsort(-all_of.values, axis=1, kind="stable")[:, :count]
    values, positions = (np.take_along_axis(part, order, axis=1) for part in all_of[:2])
    return Strongest(values, positions, np.take_along_axis(all_of.places, order[..., None], axis=1))
