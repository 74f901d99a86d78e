"""Pictures beside their explanation maps: what saliency, gradcam and occlusion share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from alexnet_tf.figures import text
from alexnet_tf.visualize.pictures import Pictures

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from alexnet_tf.figures.grid import Cell
    from alexnet_tf.run_record import Run

# A few pixels of a gradient outshine all others: from this percentile on, colours are the lightest.
LIGHTEST = 99.5
SIZE = 200
# Pictures that a figure holds, and those that it shows of a run's own data.
MOST, SHOWN = 8, 4


class Explained(NamedTuple):
    """Pictures, and the class that is explained in each.

    Attributes:
      shown: the pictures.
      labels: int [N].
      names: the classes' readable names.
      probabilities: float32 [N], what the network gives them.
    """

    shown: Pictures
    labels: np.ndarray
    names: tuple[str, ...]
    probabilities: np.ndarray


def explain(run: Run, network: keras.Model, shown: Pictures, label: int = -1) -> Explained:
    """Pairs each picture with the class to explain: `label`, or if it is -1 the picture's best one."""
    import tensorflow as tf

    probabilities = tf.nn.softmax(network(shown.pixels, training=False)).numpy()
    labels = probabilities.argmax(axis=1) if label < 0 else np.full(len(shown.keys), label)
    names = tuple(run.readable_names[index] for index in labels)
    return Explained(shown, labels, names, probabilities[np.arange(len(labels)), labels])


def prepare(run: Run, image: Sequence[str], class_name: str) -> tuple[keras.Model, Explained, str]:
    """The run's network, the pictures and classes to explain, and a warning for the figure.

    Args:
      run: the run folder.
      image: files to explain; none takes pictures of the run's validation split.
      class_name: the class to explain; empty takes each picture's best one.

    Raises:
      UserError: too many files, one that is no picture, or a class that does not exist.
      DataError: the run's data set is no longer where it was.
    """
    from alexnet_tf.visualize import network, options, pictures

    label = options.class_index(run, class_name) if class_name else -1
    shown = pictures.choose(run, image, MOST if image else SHOWN)
    trained, warning = network.load(run)
    return trained, explain(run, trained, shown, label), warning


def heat_maps(maps: np.ndarray) -> np.ndarray:
    """Maps float32 [N, S, S], 0 or more, as heatmaps uint8 [N, S, S, 3], each on a scale of its own."""
    from alexnet_tf.figures import heat

    most = np.percentile(maps, LIGHTEST, axis=(1, 2), keepdims=True)
    strength = np.minimum(maps / np.maximum(most, np.finfo(np.float32).tiny), 1.0)
    return heat.colour(strength).numpy().astype(np.uint8)


def overlaid(images: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Heatmaps over their pictures in grey, uint8 [N, S, S, 3]."""
    from alexnet_tf.figures import heat

    return heat.overlay(images, maps, window=1).numpy()


def cells(images: np.ndarray) -> list[Cell]:
    """Cells of pictures uint8 [N, S, S, 3] without captions."""
    from alexnet_tf.figures import grid

    return [grid.Cell(image) for image in images]


def figure(
    explained: Explained, columns: Mapping[str, Sequence[Cell]], heading: str, line: str, warning: str = ""
) -> Figure:
    """A row a picture: the picture with its class and probability, then one of each column.

    Args:
      explained: N pictures.
      columns: by name, N cells.
      heading, line: title, and what stands below it.
      warning: across the foot; empty for none.
    """
    from alexnet_tf.figures import grid

    rows = []
    for place, image in enumerate(explained.shown.images):
        caption = (explained.names[place], text.percent(explained.probabilities[place]))
        rows.append([grid.Cell(image, caption), *(cells[place] for cells in columns.values())])
    return grid.draw(rows, heading, line, size=SIZE, columns=("picture", *columns), warning=warning)


def save(path: Path, explained: Explained, found: Mapping[str, np.ndarray], **more: np.ndarray) -> Path:
    """Writes maps by name, with keys, labels, names and probabilities, as .npz."""
    from alexnet_tf.figures import style

    about = {
        "keys": np.asarray(explained.shown.keys),
        "labels": explained.labels,
        "names": np.asarray(explained.names),
        "probabilities": explained.probabilities,
    }
    maps = {name.replace("+", "p"): values for name, values in found.items()}
    return style.save_arrays(path, {**about, **maps, **more})
