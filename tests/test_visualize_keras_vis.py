"""tf-keras-vis behind its adapter gives what the papers' formulae give, of both towers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import small_towers
import tensorflow as tf
from scipy.ndimage import zoom
from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
from tf_keras_vis.utils.scores import CategoricalScore

from alexnet_tf.errors import UserError
from alexnet_tf.layers import TwoGroupConv2D
from alexnet_tf.visualize import graph, keras_vis

CLASSES = np.array([2, 0, 4])


@pytest.fixture(scope="module")
def network():
    return small_towers.network()


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(3).normal(0, 1, (3, 32, 32, 3)).astype(np.float32)


def maps_and_gradient(network, pixels, classes, layer):
    """The maps of both towers, and the logits' gradient with respect to them, through the joined network."""
    x = tf.constant(pixels)
    with tf.GradientTape() as tape:
        tape.watch(x)
        maps, logits = graph.joined(network, layer)(x, training=False)
        explained = tf.gather(logits, classes, batch_dims=1)
    return maps.numpy(), tape.gradient(explained, maps).numpy()


def plus_plus(maps, gradient):
    """Equations 10 and 19 of Chattopadhyay et al. with the score's derivatives those of its exponential."""
    total = maps.sum(axis=(1, 2), keepdims=True)
    below = 2 * gradient**2 + gradient**3 * total
    share = np.divide(gradient**2, below, out=np.zeros_like(below), where=gradient != 0)
    sums = share.sum(axis=(1, 2), keepdims=True)
    share /= np.where(sums == 0, 1, sums)
    weights = (share * np.maximum(gradient, 0)).sum(axis=(1, 2))
    return np.maximum(np.einsum("nhwc,nc->nhw", maps, weights), 0)


def score_weighted(network, picture, maps, label):
    """A map's weight: the class's probability for the picture seen through it."""
    total = 0.0
    for channel in range(maps.shape[-1]):
        mask = zoom(maps[..., channel], 32 / maps.shape[0], order=1, mode="nearest")
        mask = (mask - mask.min()) / (mask.max() - mask.min() + keras.backend.epsilon())
        logits = np.asarray(network((picture * mask[..., None])[None]))[0]
        total = total + maps[..., channel] * (np.exp(logits) / np.exp(logits).sum())[label]
    return np.maximum(total, 0)


def test_plus_plus_is_its_formula_over_the_maps_of_both_towers(network, pixels):
    found = keras_vis.grad_cam_plus_plus(network, pixels, CLASSES, "relu3")
    assert found.dtype == np.float32
    maps, gradient = maps_and_gradient(network, pixels, CLASSES, "relu3")
    assert maps.shape[-1] == 4
    np.testing.assert_allclose(found, plus_plus(maps, gradient), rtol=1e-4, atol=1e-6)
    assert (found.max(axis=(1, 2)) > 0).all()


def test_plus_plus_of_both_towers_is_not_what_the_library_gives_by_itself(network, pixels):
    found = keras_vis.grad_cam_plus_plus(network, pixels, CLASSES, "relu3")
    as_documented = GradcamPlusPlus(network, clone=False)(
        CategoricalScore(CLASSES.tolist()), pixels, expand_cam=False
    )
    own_scale = found / found.max(axis=(1, 2), keepdims=True)
    assert np.abs(own_scale - as_documented).max() > 0.2


def test_one_tower_is_explained_when_it_is_asked_for(network, pixels):
    found = keras_vis.grad_cam_plus_plus(network, pixels, CLASSES, "relu3_b")
    maps, gradient = maps_and_gradient(network, pixels, CLASSES, "relu3")
    np.testing.assert_allclose(found, plus_plus(maps[..., 2:], gradient[..., 2:]), rtol=1e-4, atol=1e-6)


def test_groups_along_one_path_are_explained_together(pixels):
    keras.utils.set_random_seed(5)
    picture = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 5, strides=3, activation="relu", name="conv1")(picture)
    x = TwoGroupConv2D(4, 3, padding=1, name="conv5")(x)
    x = keras.layers.Activation("relu", name="relu5")(x)
    network = keras.Model(picture, keras.layers.Dense(5)(keras.layers.Flatten()(x)))
    found = keras_vis.grad_cam_plus_plus(network, pixels, CLASSES)
    maps, gradient = maps_and_gradient(network, pixels, CLASSES, "relu5")
    np.testing.assert_allclose(found, plus_plus(maps, gradient), rtol=1e-4, atol=1e-6)


def test_large_logits_do_not_overflow(network, pixels):
    louder = keras.Model(network.input, network.output + 200.0)
    found = keras_vis.grad_cam_plus_plus(louder, pixels, CLASSES, "relu3_a")
    np.testing.assert_allclose(
        found, keras_vis.grad_cam_plus_plus(network, pixels, CLASSES, "relu3_a"), rtol=1e-5
    )


def test_score_cam_is_its_definition_over_the_maps_of_both_towers(network, pixels, capsys):
    found = keras_vis.score_cam(network, pixels, CLASSES, "relu3")
    maps, _ = maps_and_gradient(network, pixels, CLASSES, "relu3")
    expected = [score_weighted(network, *each) for each in zip(pixels, maps, CLASSES, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert capsys.readouterr().out == ""


def test_fewer_maps_are_those_that_differ_most_in_each_picture(network, pixels):
    found = keras_vis.score_cam(network, pixels, CLASSES, "relu3", max_maps=2)
    maps, _ = maps_and_gradient(network, pixels, CLASSES, "relu3")
    for own, picture, of_picture, label in zip(found, pixels, maps, CLASSES, strict=True):
        liveliest = np.argsort(of_picture.std(axis=(0, 1)))[-2:]
        expected = score_weighted(network, picture, of_picture[..., liveliest], label)
        np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-6)


def test_without_classes_the_best_one_is_explained(network, pixels):
    best = np.asarray(network(pixels)).argmax(axis=-1)
    for method in (keras_vis.grad_cam_plus_plus, keras_vis.score_cam):
        named = method(network, pixels, best, "relu3")
        np.testing.assert_array_equal(method(network, pixels, layer="relu3"), named)


def test_a_picture_s_map_does_not_hang_on_its_neighbours(network, pixels):
    for method in (keras_vis.grad_cam_plus_plus, keras_vis.score_cam):
        alone = method(network, pixels[1:2], CLASSES[1:2], "relu3_a")
        np.testing.assert_allclose(method(network, pixels, CLASSES, "relu3_a")[1], alone[0], rtol=1e-4)


def test_the_network_is_left_as_it_was(network, pixels):
    before, names = network.get_weights(), [layer.name for layer in network.layers]
    keras_vis.grad_cam_plus_plus(network, pixels, CLASSES, "relu3")
    keras_vis.score_cam(network, pixels[:1], CLASSES[:1], "relu3")
    assert [layer.name for layer in network.layers] == names
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_layers_without_maps_are_refused(network, pixels):
    with pytest.raises(UserError, match="no layer of feature maps 'fc7'"):
        keras_vis.grad_cam_plus_plus(network, pixels, CLASSES, "fc7")
    with pytest.raises(UserError, match="no layer of feature maps 'relu5' in small_towers"):
        keras_vis.score_cam(network, pixels, CLASSES, "relu5")
