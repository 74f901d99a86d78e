"""What units see of an object: against hand-worked fields, and against the units' own derivatives."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.network import graph
from alexnet_tf.visualize.internals import effective_field, receptive
from pipelines.errors import UserError
from tests.support import small_towers


def pixels_of(count, side=32):
    return np.random.default_rng(0).normal(0, 1, (count, side, side, 3)).astype(np.float32)


def test_of_a_linear_layer_the_weights_are_its_kernels_sizes():
    """One map of one convolution: whatever the picture, its derivative is the kernel."""
    inputs = keras.Input((9, 9, 3), name="pixels")
    layer = keras.layers.Conv2D(1, 3, strides=2, name="conv1")
    network = keras.Model(inputs, keras.layers.Flatten()(layer(inputs)))
    kernel = np.arange(27, dtype=np.float32).reshape(3, 3, 3, 1) - 13
    layer.set_weights([kernel, np.zeros(1, np.float32)])
    expected = np.abs(kernel).sum(axis=(2, 3))
    found = effective_field.weights(network, pixels_of(2, 9), "conv1")
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-5)


@pytest.mark.parametrize("layer", ["conv2", "relu3"])
def test_weights_add_up_to_one_and_both_towers_count(layer):
    network = small_towers.network(seed=3)
    field = receptive.field(network, layer)
    both, *towers = (
        effective_field.weights(network, pixels_of(4), layer + tower) for tower in ("", "_a", "_b")
    )
    for found in (both, *towers):
        assert found.shape == (field.size, field.size)
        assert found.min() >= 0
        assert found.sum() == pytest.approx(1, rel=1e-5)
    assert np.abs(both - towers[1]).max() > 1e-4


def test_shares_are_those_of_windows_cut_by_hand():
    field = receptive.Field(stride=2, size=5, start=-2)
    masks = np.random.default_rng(1).random((2, 8, 8)) > 0.5
    weight = np.random.default_rng(2).random((5, 5)).astype(np.float32)
    weight /= weight.sum()
    found = effective_field.share_seen(masks, field, weight, 4)
    padded = np.pad(masks, ((0, 0), (2, 3), (2, 3)))
    for picture in range(2):
        for row in range(4):
            for column in range(4):
                window = padded[picture, 2 * row : 2 * row + 5, 2 * column : 2 * column + 5]
                assert found[picture, row, column] == pytest.approx((window * weight).sum(), rel=1e-5)


def test_fields_that_begin_inside_the_picture():
    field = receptive.Field(stride=3, size=2, start=1)
    masks = np.zeros((1, 8, 8), bool)
    masks[0, 4:6, 1:3] = True
    found = effective_field.share_seen(masks, field, np.full((2, 2), 0.25, np.float32), 2)
    np.testing.assert_allclose(found, [[[0, 0], [1, 0]]], atol=1e-6)


def test_an_object_everywhere_is_seen_wherever_the_field_is_inside():
    network = small_towers.network(seed=3)
    seen = effective_field.seen(network, pixels_of(2), np.ones((1, 32, 32), bool), "relu3")
    assert seen.shape == (1, 32, 32)
    assert seen[0, 16, 16] == pytest.approx(1, rel=1e-4)
    assert seen[0, 0, 0] < 1  # where the field hangs over the edge there is nothing


def test_an_object_at_a_place_is_seen_by_the_units_that_its_pixels_move():
    """A unit sees the share of its derivative that lies on the object, up to what pictures differ in."""
    network = small_towers.network(seed=3)
    pixels = pixels_of(12)
    mask = np.zeros((1, 32, 32), bool)
    mask[0, 8:20, 14:26] = True
    weight = effective_field.weights(network, pixels, "conv2")
    field = receptive.field(network, "conv2")
    own = effective_field.share_seen(mask, field, weight, 7)[0, 3, 3]
    taps = graph.taps(network, "conv2")
    with tf.GradientTape() as tape:
        x = tf.constant(pixels)
        tape.watch(x)
        unit = taps(x)[0][:, 3, 3, 0]
    size = np.abs(tape.gradient(unit, x)).sum(axis=(0, 3))
    assert own == pytest.approx(size[mask[0]].sum() / size.sum(), abs=0.1)
    assert 0.1 < own < 0.9


def test_a_layer_without_maps_is_refused():
    with pytest.raises(UserError, match="no layer of feature maps 'fc6'"):
        effective_field.weights(small_towers.network(), pixels_of(1), "fc6")
