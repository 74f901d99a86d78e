"""tf-keras-vis behind its adapter gives what the papers' formulae give, of both towers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from scipy.ndimage import zoom

from alexnet_tf.network import graph
from alexnet_tf.network.layers import TwoGroupConv2D
from alexnet_tf.visualize.internals import cams
from pipelines.errors import UserError
from tests.support import small_towers

CLASSES = np.array([2, 0, 4])


@pytest.fixture(scope="module")
def network():
    return small_towers.network()


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(3).normal(0, 1, (3, 32, 32, 3)).astype(np.float32)


def maps_of(network, pixels, layer):
    """The maps of both towers, through the joined network."""
    return np.asarray(graph.joined(network, layer)(pixels, training=False)[0])


def score_weighted(network, picture, maps, label):
    """A map's weight: the class's probability for the picture seen through it."""
    total = 0.0
    for channel in range(maps.shape[-1]):
        mask = zoom(maps[..., channel], 32 / maps.shape[0], order=1, mode="nearest")
        mask = (mask - mask.min()) / (mask.max() - mask.min() + keras.backend.epsilon())
        logits = np.asarray(network((picture * mask[..., None])[None]))[0]
        total = total + maps[..., channel] * (np.exp(logits) / np.exp(logits).sum())[label]
    return np.maximum(total, 0)


def test_score_cam_is_its_definition_over_the_maps_of_both_towers(network, pixels, capsys):
    found = cams.score_cam(network, pixels, CLASSES, "relu3")
    maps = maps_of(network, pixels, "relu3")
    expected = [score_weighted(network, *each) for each in zip(pixels, maps, CLASSES, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert capsys.readouterr().out == ""


def test_groups_along_one_path_are_explained_together(pixels):
    keras.utils.set_random_seed(5)
    picture = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 5, strides=3, activation="relu", name="conv1")(picture)
    x = TwoGroupConv2D(4, 3, padding=1, name="conv5")(x)
    x = keras.layers.Activation("relu", name="relu5")(x)
    network = keras.Model(picture, keras.layers.Dense(5)(keras.layers.Flatten()(x)))
    found = cams.score_cam(network, pixels, CLASSES)
    maps = maps_of(network, pixels, "relu5")
    expected = [score_weighted(network, *each) for each in zip(pixels, maps, CLASSES, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_fewer_maps_are_those_that_differ_most_in_each_picture(network, pixels):
    found = cams.score_cam(network, pixels, CLASSES, "relu3", max_maps=2)
    maps = maps_of(network, pixels, "relu3")
    for own, picture, of_picture, label in zip(found, pixels, maps, CLASSES, strict=True):
        liveliest = np.argsort(of_picture.std(axis=(0, 1)))[-2:]
        expected = score_weighted(network, picture, of_picture[..., liveliest], label)
        np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-6)


def test_without_classes_the_best_one_is_explained(network, pixels):
    best = np.asarray(network(pixels)).argmax(axis=-1)
    named = cams.score_cam(network, pixels, best, "relu3")
    np.testing.assert_array_equal(cams.score_cam(network, pixels, layer="relu3"), named)


def test_a_picture_s_map_does_not_hang_on_its_neighbours(network, pixels):
    alone = cams.score_cam(network, pixels[1:2], CLASSES[1:2], "relu3_a")
    together = cams.score_cam(network, pixels, CLASSES, "relu3_a")
    np.testing.assert_allclose(together[1], alone[0], rtol=1e-4)


def test_the_network_is_left_as_it_was(network, pixels):
    before, names = network.get_weights(), [layer.name for layer in network.layers]
    cams.score_cam(network, pixels[:1], CLASSES[:1], "relu3")
    assert [layer.name for layer in network.layers] == names
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_layers_without_maps_are_refused(network, pixels):
    with pytest.raises(UserError, match="no layer of feature maps 'fc7'"):
        cams.score_cam(network, pixels, CLASSES, "fc7")
    with pytest.raises(UserError, match="no layer of feature maps 'relu5' in small_towers"):
        cams.score_cam(network, pixels, CLASSES, "relu5")
