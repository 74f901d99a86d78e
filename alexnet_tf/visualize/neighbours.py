"""Method `neighbours`: the training pictures nearest to some pictures (figure 4 of the paper, right).

Five pictures in the first column, and beside each the six training pictures whose last hidden activations
lie at the smallest Euclidean distance from its own (section 6.1). Every training picture is compared, over
an index that is computed once; see `feature_index`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from alexnet_tf.figures import text
from alexnet_tf.visualize import options
from alexnet_tf.visualize.measures.nearest import nearest
from pipelines.files import write_text

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from alexnet_tf.run_record import Run
    from alexnet_tf.visualize.measures.feature_index import Index
    from alexnet_tf.visualize.pictures import Pictures

ROWS, NEAREST = 5, 6
PICTURE, LONGEST = 160, 20  # pixels on the page, and letters below a picture
SPLIT = "train"
# Distances below this share of a query's length are looked into: rounding differs from batch to batch.
SAME = 1e-3
ORDINALS = ("nearest", "second", "third", "fourth", "fifth", "sixth")


class Neighbours(NamedTuple):
    """The nearest training pictures of N queries, the nearest first.

    Attributes:
      positions: int64 [N, k], places in the training split's fixed order.
      distances: float32 [N, k], Euclidean.
      labels: int64 [N, k].
      keys: their names, N times k.
      indexed: among how many training pictures they were found.
      total: how many training pictures there are.
    """

    positions: np.ndarray
    distances: np.ndarray
    labels: np.ndarray
    keys: tuple[tuple[str, ...], ...]
    indexed: int
    total: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this method's own options."""
    options.add_image(parser, ROWS)


def draw(run: Run, out: Path, *, image: Sequence[str] = ()) -> dict[str, Any]:
    """Writes neighbours.png and neighbours.json into an existing folder.

    Args:
      run: the run folder, which keeps the index.
      out: the folder.
      image: files to look up; none takes pictures of the run's validation split.

    Raises:
      UserError: more than five files, or one that is no picture.
      DataError: the run's data set is no longer where it was.
    """
    from alexnet_tf.figures import style
    from alexnet_tf.visualize import network, pictures

    queries = pictures.choose(run, image, ROWS)
    trained, warning = network.load(run)
    found = find(run, trained, queries.pixels, NEAREST)
    page = figure(queries, found, pictures_of(run, found), style.subject(run), warning)
    picture, numbers = style.save(page, out / "neighbours.png"), out / "neighbours.json"
    rows = _rows(run, queries, found)
    write_text(numbers, json.dumps(rows, indent=2) + "\n")
    same = [hit["class"] == row["true_class"] for row in rows if row["true_class"] for hit in row["nearest"]]
    return {
        "files": [str(picture), str(numbers)],
        "pictures": len(rows),
        "same_class": float(np.mean(same)) if same else None,
        "warning": warning,
    }


def find(
    run: Run, network: keras.Model, pixels: np.ndarray, k: int = NEAREST, most: int | None = None
) -> Neighbours:
    """The training pictures nearest to some pictures; a picture of the training set does not find itself.

    The first call computes the training set's features and keeps them in the run folder.

    Args:
      run: whose training pictures are searched.
      network: pixels -> logits, with the paper's last hidden layer.
      pixels: float32 [N, S, S, 3], mean subtracted.
      k: how many to find; fewer are found where the training set is smaller.
      most: among how many training pictures to look, see `feature_index.open_index`.

    Raises:
      UserError, DataError: see `feature_index.open_index`.
    """
    from alexnet_tf.visualize.measures import feature_index

    index = feature_index.open_index(run, network, SPLIT, most)
    queries = feature_index.features_of(network, pixels)
    itself: list[set[int]] = [set() for _ in queries]
    while True:
        # Copies of a query in the training set are the query itself too.
        most = k + max(map(len, itself), default=0)
        positions, distances = nearest(index.features, queries, most, index.norms)
        copies = _copies(run, pixels, queries, positions, distances, index)
        if all(new <= known for new, known in zip(copies, itself, strict=True)):
            break
        itself = [known | new for known, new in zip(itself, copies, strict=True)]
    kept = [
        [rank for rank, place in enumerate(row) if place not in own]
        for row, own in zip(positions.tolist(), itself, strict=True)
    ]
    columns = min([k, *(len(ranks) for ranks in kept)])
    ranks = np.array([row[:columns] for row in kept], np.int64).reshape(len(queries), columns)
    places = np.take_along_axis(positions, ranks, axis=1)
    return Neighbours(
        index.positions[places],
        np.take_along_axis(distances, ranks, axis=1),
        index.labels[places],
        tuple(tuple(index.key(place) for place in row) for row in places.tolist()),
        len(index.positions),
        index.total,
    )


def _copies(
    run: Run,
    pixels: np.ndarray,
    queries: np.ndarray,
    positions: np.ndarray,
    distances: np.ndarray,
    index: Index,
) -> list[set[int]]:
    """The found pictures that equal their query pixel for pixel, by query."""
    near = distances <= SAME * np.linalg.norm(queries, axis=1, keepdims=True)
    suspects = sorted(set(positions[near].tolist()))
    places, keys = index.positions[suspects].tolist(), [index.key(place) for place in suspects]
    loaded = _load(run, places, keys) if suspects else None
    crops = dict(zip(suspects, loaded.pixels, strict=True)) if loaded else {}
    return [
        {place for place in row[mask].tolist() if np.array_equal(crops[place], query)}
        for row, mask, query in zip(positions, near, pixels, strict=True)
    ]


def pictures_of(run: Run, found: Neighbours) -> Pictures:
    """The crops of the neighbours, N times k: those of the first query, nearest first, then of the second.

    Raises:
      UserError: the data set has changed since the index was built.
      DataError: it is no longer where it was.
    """
    return _load(run, found.positions.ravel().tolist(), [key for row in found.keys for key in row])


def _load(run: Run, positions: Sequence[int], keys: Sequence[str]) -> Pictures:
    from alexnet_tf.visualize import pictures
    from alexnet_tf.visualize.measures import feature_index

    loaded = pictures.from_places(run, SPLIT, positions)
    feature_index.check_same(run, keys, loaded.keys)
    return loaded


def figure(queries: Pictures, found: Neighbours, hits: Pictures, line: str, warning: str = "") -> Figure:
    """Page with a row for each query: itself, then its nearest training pictures with their distances.

    Args:
      queries: N pictures.
      found: their neighbours.
      hits: `pictures_of` them.
      line: below the title.
      warning: across the foot.
    """
    from matplotlib.lines import Line2D

    from alexnet_tf.figures import grid, style

    count = found.positions.shape[1]
    rows = []
    for number, (key, image, name) in enumerate(
        zip(queries.keys, queries.images, queries.true_names, strict=True)
    ):
        cells = [grid.Cell(image, (text.shorten(name or key, LONGEST), "query"))]
        for rank in range(count):
            place = number * count + rank
            other = hits.true_names[place]
            frame = style.SECOND if name and other != name else ""
            distance = f"distance {found.distances[number, rank]:.3g}"
            cells.append(grid.Cell(hits.images[place], (text.shorten(other, LONGEST), distance), frame))
        rows.append(cells)
    framed = "another class is framed; " if any(queries.true_names) else ""
    page = grid.draw(
        rows,
        "The nearest training pictures",
        f"by Euclidean distance of the last hidden layer; {framed}{line}",
        size=PICTURE,
        columns=("picture", *ORDINALS[:count]),
        warning=warning,
    )
    width, height = page.get_size_inches() * style.DPI
    x = (grid.SIDE + PICTURE + grid.GAP / 2) / width
    ends = (1 - (grid.TITLE + grid.HEADING) / height, grid.FOOT / height)
    page.add_artist(Line2D([x, x], ends, color=style.MUTED, linewidth=0.8))
    return page


def _rows(run: Run, queries: Pictures, found: Neighbours) -> list[dict[str, Any]]:
    """What neighbours.json holds: each picture and what was found for it."""
    return [
        {
            "key": key,
            "true_class": name,
            "nearest": [
                {"key": hit, "class": run.readable_names[label], "position": place, "distance": distance}
                for hit, label, place, distance in zip(
                    keys, labels.tolist(), places.tolist(), distances.tolist(), strict=True
                )
            ],
        }
        for key, name, keys, labels, places, distances in zip(
            queries.keys,
            queries.true_names,
            found.keys,
            found.labels,
            found.positions,
            found.distances,
            strict=True,
        )
    ]
