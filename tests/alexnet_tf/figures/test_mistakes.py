"""The evaluation's two pictures: what they show, and where."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from alexnet_tf.figures import confusion, mistakes


def test_most_confused_orders_by_the_share_of_the_true_class():
    counts = np.array([[95, 5, 0], [0, 5, 5], [2, 0, 18]])
    assert confusion.most_confused(counts, 5) == [(1, 2), (2, 0), (0, 1)]
    assert confusion.most_confused(counts, 1) == [(1, 2)]
    assert confusion.most_confused(np.array([[8, 2], [20, 80]]), 2) == [(1, 0), (0, 1)]  # equal shares
    np.testing.assert_allclose(confusion.row_shares(counts)[1], [0, 0.5, 0.5])
    assert confusion.row_shares(np.zeros((2, 2), int)).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("classes", [3, 30, 70])
def test_the_confusion_picture_is_dark_where_the_counts_are(tmp_path, classes):
    counts = np.zeros((classes, classes), int)
    counts[:, 1] = 4  # everything is taken for class 1
    names = ["$x$ and y_1", "犬", *(f"class {i}" for i in range(2, classes))]
    confusion.draw(tmp_path / "picture.png", counts, names, "everything is a dog")
    pixels = np.asarray(Image.open(tmp_path / "picture.png").convert("RGB")).astype(int)
    # The colour of a whole row's share: dark blue, or pale yellow on black.
    full = (np.abs(pixels - ([8, 48, 107] if classes < 61 else [252, 255, 164])).sum(axis=2) < 30).sum(axis=0)
    height, width = pixels.shape[:2]
    matrix = np.flatnonzero(full[: int(0.6 * width)] > 0.5 * height)
    # One column, as wide as one class, somewhere in the left half of the matrix.
    assert 0 < len(matrix) < 0.5 * width
    assert matrix[-1] - matrix[0] < 1.6 * height / classes


def test_the_sheet_of_mistakes_shows_the_pictures_in_order(tmp_path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255), (0, 0, 0)]
    pictures = [
        mistakes.MisclassifiedPicture(
            np.full((8, 8, 3), colour, np.uint8), "true", "predicted", 0.5, f"{i}.jpg"
        )
        for i, colour in enumerate(colours)
    ]
    mistakes.draw(tmp_path / "sheet.png", pictures, "mistakes")
    pixels = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB"))
    places = [np.argwhere((pixels == colour).all(axis=2)).mean(axis=0) for colour in colours[:6]]
    assert [place[1] for place in places] == sorted(place[1] for place in places)
    assert np.ptp([place[0] for place in places]) < 1
    # Six in a row; the seventh lies below the first.
    black = np.argwhere((pixels == 0).all(axis=2))
    below = black[black[:, 0] > places[0][0] + 200]
    assert len(below) > 200**2
    assert abs(np.median(below[:, 1]) - places[0][1]) < 5
