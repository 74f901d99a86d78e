"""Saliency is a derivative: checked by finite differences, by sums over the way and by the export's graph."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from alexnet_tf.export import signatures
from alexnet_tf.figures import heat
from alexnet_tf.network import input_gradient
from alexnet_tf.visualize import __main__ as command
from alexnet_tf.visualize import network, pictures, saliency
from pipelines.pictures import preprocess
from tests.support import small_runs, small_towers
from tests.support.tiny_network import tiny_network

NAMES = ["bird", "cat", "dog", "fish", "frog", "horse"]


def pictures_of(count, side=32, seed=0):
    return np.random.default_rng(seed).normal(0, 1, (count, side, side, 3)).astype(np.float32)


def plain_gradient(net, pixels, classes):
    """By TensorFlow's own way through every layer."""
    pixels = tf.constant(pixels)
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        chosen = tf.gather(net(pixels, training=False), classes, batch_dims=1)
    return tape.gradient(chosen, pixels).numpy()


def odd_network(side, kernel, stride, zeros):
    """One convolution after uneven padding, so that windows may leave pixels over at the end."""
    pixels = keras.Input((side, side, 3))
    x = keras.layers.ZeroPadding2D(zeros)(pixels)
    x = keras.layers.Conv2D(3, kernel, strides=stride, kernel_initializer=keras.initializers.HeNormal(1))(x)
    x = keras.layers.Flatten()(keras.layers.Activation("tanh")(x))
    return keras.Model(pixels, keras.layers.Dense(4, kernel_initializer=keras.initializers.HeNormal(2))(x))


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "zeros"),
    [
        (24, 5, 2, ((0, 3), (0, 3))),
        (23, 11, 4, ((1, 2), (2, 1))),
        (26, 3, 4, ((0, 0), (0, 0))),  # stride over kernel: pixels in no window
        (25, 4, 4, ((0, 0), (0, 0))),
        (21, 3, 1, ((1, 1), (1, 1))),
    ],
)
def test_the_fast_way_gives_the_plain_gradient(side, kernel, stride, zeros):
    net = odd_network(side, kernel, stride, zeros)
    pixels = pictures_of(3, side)
    classes = np.array([3, 0, 1])
    logits, found = saliency.gradient(net, pixels, classes)
    np.testing.assert_allclose(found, plain_gradient(net, pixels, classes), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(logits, net(pixels), rtol=1e-5, atol=1e-6)


def test_the_fast_way_is_taken_by_networks_of_strided_first_convolutions(monkeypatch):
    taken = []
    real = input_gradient._through_convolutions
    monkeypatch.setattr(
        input_gradient, "_through_convolutions", lambda *a: taken.append(len(a[1])) or real(*a)
    )
    saliency.gradient(small_towers.network(), pictures_of(1))
    saliency.gradient(tiny_network(), pictures_of(1, 224))
    saliency.gradient(small_runs.network(5, side=32), pictures_of(1))  # its ReLU is part of its convolution
    assert taken == [2, 1]


def test_vanilla_is_what_a_finite_difference_gives():
    classes, step = np.array([4, 1]), 3e-3
    pixels = pictures_of(2, seed=5)
    net = small_towers.network(seed=3)
    _, found = saliency.gradient(net, pixels, classes)
    strongest = np.argsort(-np.abs(found[0]).ravel())[:140:7]
    errors = []
    for place in strongest:
        way = np.zeros_like(pixels)
        way.reshape(2, -1)[:, place] = step
        ahead, behind = (np.asarray(net(pixels + sign * way), np.float64) for sign in (1, -1))
        slopes = (ahead - behind)[np.arange(2), classes] / (2 * step)
        errors.append(np.abs(slopes - found.reshape(2, -1)[:, place]))
    # Now and then a unit or a maximum changes between the two sides.
    assert np.median(errors, axis=0).max() < 3e-5
    assert np.abs(found.reshape(2, -1)[:, strongest]).max(axis=1).min() > 5e-3
    assert saliency.vanilla(net, pixels, classes).tolist() == np.abs(found).max(axis=-1).tolist()


def test_without_classes_each_picture_explains_its_best():
    net, pixels = small_towers.network(seed=1), pictures_of(40, seed=2)
    net.get_layer("fc8").bias.assign(np.asarray(net(pixels[:1]))[0] * -1)  # so that several classes win
    best = np.argmax(net(pixels), axis=1)
    assert len(set(best)) > 1
    np.testing.assert_array_equal(network.best_classes(net, pixels), best)
    assert saliency.vanilla(net, pixels).tolist() == saliency.vanilla(net, pixels, best).tolist()


def test_smooth_grad_is_the_mean_over_noisy_copies_and_repeats():
    net, pixels = small_towers.network(seed=2), pictures_of(2)
    classes = np.array([0, 3])
    found = saliency.smooth_grad(net, pixels, classes, samples=3, noise=0.2, seed=7)
    drawn = np.random.default_rng(7)
    spread = np.array([0.2 * (picture.max() - picture.min()) for picture in pixels])
    total = np.zeros_like(pixels)
    for _ in range(3):
        copies = pixels + spread[:, None, None, None] * drawn.standard_normal((32, 32, 3), np.float32)
        total += plain_gradient(net, copies, classes)
    np.testing.assert_allclose(found, np.abs(total / 3).max(axis=-1), rtol=1e-4, atol=1e-6)
    again = saliency.smooth_grad(net, pixels[1:], classes[1:], samples=3, noise=0.2, seed=7)
    np.testing.assert_allclose(again, found[1:], rtol=1e-5, atol=1e-7)
    other = saliency.smooth_grad(net, pixels, classes, samples=3, noise=0.2, seed=8)
    assert np.abs(other - found).max() > 1e-3
    without = saliency.smooth_grad(net, pixels, classes, samples=2, noise=0.0)
    np.testing.assert_allclose(without, saliency.vanilla(net, pixels, classes), rtol=1e-5, atol=1e-7)


def test_integrated_gradients_are_complete():
    net, pixels = odd_network(24, 5, 2, ((0, 3), (0, 3))), pictures_of(3, 24)
    rows, classes = np.arange(3), np.array([1, 2, 3])
    start = pictures_of(1, 24, seed=9)[0]
    for baseline in (None, start):
        empty = np.zeros((1, 24, 24, 3), np.float32) if baseline is None else start[None]
        rise = np.asarray(net(pixels))[rows, classes] - np.asarray(net(empty))[0, classes]
        errors = []
        for steps in (8, 16, 64):
            found = saliency.integrated_gradients(net, pixels, classes, steps=steps, baseline=baseline)
            errors.append(np.abs(found.sum(axis=(1, 2, 3)) - rise).max())
        assert errors[2] < 1e-3 < np.abs(rise).max() / 100
        assert errors[2] < errors[1] < errors[0]


def test_integrated_gradients_of_a_linear_function_are_its_terms():
    pixels = keras.Input((4, 4, 3))
    net = keras.Model(pixels, keras.layers.Dense(2)(keras.layers.Flatten()(pixels)))
    weights = np.random.default_rng(0).normal(0, 1, (48, 2)).astype(np.float32)
    net.layers[-1].set_weights([weights, np.ones(2)])
    picture = pictures_of(2, 4)
    found = saliency.integrated_gradients(net, picture, np.array([1, 0]), steps=3)
    terms = picture * weights.T.reshape(2, 4, 4, 3)[[1, 0]]
    np.testing.assert_allclose(found, terms, rtol=1e-4, atol=1e-6)
    sizes = saliency.maps(net, picture, "integrated", np.array([1, 0]))
    np.testing.assert_allclose(sizes, np.abs(terms.sum(axis=-1)), rtol=1e-3, atol=1e-5)


def test_the_exports_saliency_is_the_map_in_process(tmp_path):
    run = small_runs.create(tmp_path / "run", "synthetic", NAMES)
    net = tiny_network(classes=len(NAMES))
    # The signature takes a hidden layer by this name; nothing of this test asks for it.
    net = keras.Model(net.input, keras.layers.Activation("relu", name="relu7")(net.output))
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(NAMES) + "\n")
    module = signatures.Servable(net, run.stats, run.data, str(labels))
    tf.saved_model.save(module, str(tmp_path / "export"), signatures={"saliency": module.saliency})
    answer = tf.saved_model.load(str(tmp_path / "export")).signatures["saliency"]
    encoded = [small_runs.jpeg(seed) for seed in range(3)]
    found = answer(image_bytes=tf.constant(encoded))["heatmap"].numpy()
    crops = tf.stack([preprocess.evaluation_crop(tf.constant(picture), run.data) for picture in encoded])
    maps = saliency.vanilla(net, preprocess.to_pixels(crops, run.stats, run.data).numpy())
    np.testing.assert_allclose(found, heat.to_unit(maps), rtol=0, atol=1e-5)
    assert found.max(axis=(1, 2)).tolist() == [1.0] * 3


@pytest.fixture
def run(tmp_path, monkeypatch):
    data = small_runs.folder(tmp_path / "data", NAMES, 4)
    monkeypatch.setattr(network, "load", lambda run: (tiny_network(classes=len(NAMES)), ""))
    return small_runs.create(tmp_path / "run", f"folder:{data}", NAMES)


def words(run, out, *more):
    return ["saliency", "--workdir", str(run.workdir), "--out", str(out), *more]


def test_the_method_writes_its_page_and_its_maps(run, tmp_path, capsys):
    out = tmp_path / "out"
    files = [str(tmp_path / "data" / "cat" / f"00{number}.jpg") for number in range(2)]
    assert command.main(words(run, out, "--image", *files, "--class", "dog", "--json")) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["classes"] == ["dog", "dog"]
    assert figures["files"] == [str(out / "saliency.png"), str(out / "saliency.npz")]
    shown = pictures.from_files(run, files)
    with np.load(out / "saliency.npz") as numbers:
        assert numbers["labels"].tolist() == [2, 2]
        for kind in saliency.KINDS:
            expected = saliency.maps(tiny_network(classes=len(NAMES)), shown.pixels, kind, np.array([2, 2]))
            np.testing.assert_allclose(numbers[kind], expected, rtol=1e-4, atol=1e-6)
    page = np.asarray(Image.open(out / "saliency.png").convert("RGB"))
    assert page.shape[0] > 400


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--class", "whale"], "no class 'whale'; legal: bird, cat, dog, fish, frog, horse"),
        (["--image", *["x.jpg"] * 9], "--image: a figure holds 8 pictures; received 9"),
    ],
)
def test_what_cannot_be_explained_is_one_line(run, tmp_path, capsys, more, message):
    assert command.main(words(run, tmp_path / "out", *more)) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert list((tmp_path / "out").iterdir()) == []
