"""The strongest pictures of every unit, found in passing, are those that sorting all would find."""

from __future__ import annotations

import numpy as np
import pytest

from alexnet_tf.network import graph
from alexnet_tf.visualize.internals import receptive, top_patches
from pipelines.errors import UserError
from tests.support import small_runs, small_towers


@pytest.fixture(scope="module")
def model():
    return small_towers.network()


@pytest.fixture(scope="module")
def pixels():
    pixels = np.random.default_rng(1).normal(0, 1, (13, 32, 32, 3)).astype(np.float32)
    pixels[9] = pixels[2]  # equal activations
    return pixels


@pytest.mark.parametrize("layer", ["conv3", "conv3_b", "pool5", "fc7"])
def test_passing_finds_what_sorting_finds(model, pixels, layer):
    found = top_patches.strongest(model, np.split(pixels, [4, 8, 12]), layer, 5)
    maps = np.asarray(graph.taps(model, layer)(pixels)[0])
    flat = maps.reshape(len(pixels), -1, maps.shape[-1])
    for unit in range(maps.shape[-1]):
        peaks = flat[..., unit].max(axis=1)
        order = sorted(range(13), key=lambda i: (-peaks[i], i))[:5]
        assert found.positions[unit].tolist() == order
        np.testing.assert_allclose(found.values[unit], peaks[order], atol=1e-6)
        for position, (row, column), value in zip(order, found.places[unit], found.values[unit], strict=True):
            own = maps[position] if maps.ndim == 4 else maps[position][None, None]
            assert own[row, column, unit] == pytest.approx(value, abs=1e-6)


def test_fewer_pictures_than_places_are_all_there(model, pixels):
    found = top_patches.strongest(model, [pixels[:2]], "conv2", 9)
    assert found.values.shape == (4, 2)
    assert found.places.shape == (4, 2, 2)
    with pytest.raises(ValueError, match="at least one batch"):
        top_patches.strongest(model, [], "conv2")
    with pytest.raises(UserError, match="no layer 'conv9'"):
        top_patches.strongest(model, [pixels], "conv9")


def test_patches_are_all_that_a_unit_sees(model, pixels):
    """Pixels outside a unit's patch do not move it, and the patch's own are in their places."""
    field = receptive.field(model, "conv2")
    maps = graph.taps(model, "conv2")
    place = np.array([[3, 2]])
    picture = pixels[:1]
    (patch,) = top_patches.patches(picture, place, field, outside=0)
    (top, bottom), (left, right) = (field.bounds(i) for i in place[0])
    np.testing.assert_array_equal(patch, picture[0, top:bottom, left:right])
    alone = np.zeros_like(picture)
    alone[0, top:bottom, left:right] = patch
    np.testing.assert_allclose(maps(alone)[0][0, 3, 2], maps(picture)[0][0, 3, 2], atol=1e-5)


def test_outside_the_picture_is_grey():
    field = receptive.Field(4, 6, -2)
    images = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    first, last = top_patches.patches(images, np.array([[0, 0], [1, 2]]), field)
    assert (first[:2] == top_patches.OUTSIDE).all()
    assert (first[:, :2] == top_patches.OUTSIDE).all()
    np.testing.assert_array_equal(first[2:, 2:], images[0, :4, :4])
    np.testing.assert_array_equal(last[:, :2], images[1, 2:8, 6:8])
    assert (last[:, 2:] == top_patches.OUTSIDE).all()
    whole = top_patches.patches(images, np.zeros((2, 2), int), receptive.Field(1, 8, 0))
    np.testing.assert_array_equal(whole, images)


def test_a_run_s_split_is_seen_once_in_its_own_order(tmp_path, monkeypatch, told):
    data = small_runs.folder(tmp_path / "data", ["cat", "dog"], 6)
    run = small_runs.create(tmp_path / "run", f"folder:{data}", ["cat", "dog"])
    model = small_towers.network(2, side=224)
    monkeypatch.setattr(top_patches, "BATCH", 4)
    found = top_patches.over_run(run, model, "fc7", "train", count=20, most=7)
    assert told == [("looking at the train pictures", done, 7) for done in (0, 4)]
    assert sorted(found.positions[0].tolist()) == list(range(7))
    from alexnet_tf.visualize import pictures

    shown = pictures.from_places(run, "train", range(7))
    activations = np.asarray(graph.taps(model, "fc7")(shown.pixels)[0])
    np.testing.assert_allclose(found.values[3], activations[found.positions[3], 3], atol=1e-4)
