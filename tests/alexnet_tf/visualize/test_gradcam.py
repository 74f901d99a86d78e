"""Class activation maps: both towers' maps, weighed by gradients that finite differences confirm."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from alexnet_tf.network import graph
from alexnet_tf.visualize import __main__ as command
from alexnet_tf.visualize import gradcam, network, pictures
from alexnet_tf.visualize.internals import cams, receptive
from pipelines.errors import UserError
from tests.support import small_runs, small_towers

NAMES = ["bird", "cat", "dog", "fish", "frog", "horse"]


def pictures_of(count, side=32, seed=0):
    return np.random.default_rng(seed).normal(0, 1, (count, side, side, 3)).astype(np.float32)


def slopes_by_differences(net, maps, label, step=1e-3):
    """A logit's slope with respect to every value of relu3's maps [7, 7, 4], tower a's first."""
    towers = [net.get_layer(name).output for name in ("relu3_a", "relu3_b")]
    rest = keras.Model(towers, net.output)
    count = maps.size
    shifts = step * np.eye(count, dtype=np.float32).reshape(count, *maps.shape)
    ahead, behind = (
        np.asarray(rest(np.split(maps + sign * shifts, 2, axis=-1)), np.float64) for sign in (1, -1)
    )
    return ((ahead - behind)[:, label] / (2 * step)).reshape(maps.shape)


@pytest.fixture(scope="module")
def explained():
    """A network, two pictures, labels, relu3's maps of both towers, and slopes by finite differences."""
    net, pixels, labels = small_towers.network(seed=3), pictures_of(2), np.array([1, 4])
    maps = np.asarray(graph.taps(net, "relu3")(pixels)[0])
    slopes = np.stack([slopes_by_differences(net, m, label) for m, label in zip(maps, labels, strict=True)])
    return net, pixels, labels, maps, slopes


def test_slopes_are_those_of_finite_differences(explained):
    net, pixels, labels, maps, slopes = explained
    found_maps, found = gradcam.maps_and_slopes(net, pixels, labels, "relu3")
    np.testing.assert_allclose(found_maps, maps, rtol=1e-5, atol=1e-6)
    # Zeros within one window of pooling are equal maxima: either of them may get the slope of the whole.
    alone = maps > 0
    np.testing.assert_allclose(found[alone], slopes[alone], rtol=0.02, atol=2e-4)
    for tower in (slice(0, 2), slice(2, 4)):
        assert np.abs(found[..., tower]).max() > 1e-2


def test_both_kinds_are_their_formulae(explained):
    net, pixels, labels, maps, _ = explained
    _, slopes = gradcam.maps_and_slopes(net, pixels, labels, "relu3")
    weighed, placed = np.zeros((2, 7, 7)), np.zeros((2, 7, 7))
    for n in range(2):
        for c in range(4):
            mean = sum(slopes[n, y, x, c] for y in range(7) for x in range(7)) / 49
            weighed[n] += mean * maps[n, :, :, c]
            placed[n] += np.where(slopes[n, :, :, c] > 0, slopes[n, :, :, c], 0) * maps[n, :, :, c]
    assert (weighed < 0).any()
    field = receptive.field(net, "relu3")
    for kind, expected in (("gradcam", np.maximum(weighed, 0)), ("layercam", placed)):
        found = gradcam.coarse(net, pixels, kind, labels, "relu3")
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
        assert found.max() > 0
        np.testing.assert_allclose(
            gradcam.maps(net, pixels, kind, labels, "relu3"), field.enlarge(found, 32), rtol=1e-5
        )
    np.testing.assert_allclose(
        gradcam.grad_cam(net, pixels, labels, "relu3"), field.enlarge(np.maximum(weighed, 0), 32), atol=1e-5
    )
    np.testing.assert_allclose(
        gradcam.layer_cam(net, pixels, labels, "relu3"), field.enlarge(placed, 32), atol=1e-5
    )


def test_both_towers_are_not_one(explained):
    net, pixels, labels, _, _ = explained
    both, a, b = (
        gradcam.coarse(net, pixels, "layercam", labels, f"relu3{tower}") for tower in ("", "_a", "_b")
    )
    np.testing.assert_allclose(both, a + b, rtol=1e-4, atol=1e-6)
    assert min(a.max(), b.max()) > 1e-3


def test_without_classes_each_picture_explains_its_best(explained):
    net, pixels, _, _, _ = explained
    best = np.argmax(net(pixels), axis=1)
    for kind in gradcam.KINDS:
        found = gradcam.maps(net, pixels, kind, layer="relu3")
        np.testing.assert_allclose(found, gradcam.maps(net, pixels, kind, best, "relu3"), rtol=1e-5)
        assert found.shape == (2, 32, 32)
        assert found.min() >= 0
        assert found.max() > 0


def test_score_cam_is_that_of_tf_keras_vis_over_receptive_fields(explained):
    net, pixels, labels, _, _ = explained
    expected = receptive.field(net, "relu3").enlarge(cams.score_cam(net, pixels, labels, "relu3"), 32)
    np.testing.assert_allclose(gradcam.maps(net, pixels, "scorecam", labels, "relu3"), expected, rtol=1e-5)


def test_plus_plus_weights_worked_by_hand():
    """Two maps of 2 x 2 places: sum(A) is 4 and 0."""
    maps = np.array([[[1, 0], [0, 0]], [[2, 0], [1, 0]]], np.float32)[np.newaxis]
    slopes = np.array([[[0.5, 3], [-1, 0]], [[0, -2], [1, 1]]], np.float32)[np.newaxis]
    # Of the first 0.25 / (0.5 + 4/8) x 0.5 and 1 / (2 + 4) x 1; of an empty map a half of each slope.
    found = gradcam.plus_plus_weights(maps, slopes)
    np.testing.assert_allclose(found, [[[[0.125 + 1 / 6, 2.0]]]], rtol=1e-6)


def test_plus_plus_is_its_equations_with_derivatives_by_differences(explained):
    """Second and third derivatives of exp(logit) by differences, into equations 10 and 19 as they stand."""
    net, pixels, labels, maps, _ = explained
    _, slopes = gradcam.maps_and_slopes(net, pixels, labels, "relu3")
    step = 0.02
    score = [np.exp(k * step * slopes.astype(np.float64)) for k in (-2, -1, 0, 1, 2)]  # over exp(logit)
    first = (score[3] - score[1]) / (2 * step)
    second = (score[3] - 2 * score[2] + score[1]) / step**2
    third = (score[4] - 2 * score[3] + 2 * score[1] - score[0]) / (2 * step**3)
    below = 2 * second + maps.sum(axis=(1, 2), keepdims=True) * third
    alphas = np.divide(second, below, out=np.zeros_like(below), where=np.abs(slopes) > 1e-4)
    weights = (alphas * np.maximum(first, 0)).sum(axis=(1, 2), keepdims=True)
    expected = np.maximum((maps * weights).sum(axis=-1), 0)
    found = gradcam.coarse(net, pixels, "gradcam++", labels, "relu3")
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * expected.max())
    assert (found.max(axis=(1, 2)) > 0).all()
    one_tower = gradcam.coarse(net, pixels, "gradcam++", labels, "relu3_b")
    of_b = np.maximum((maps * weights)[..., 2:].sum(axis=-1), 0)
    np.testing.assert_allclose(one_tower, of_b, rtol=1e-3, atol=1e-3 * expected.max())


def test_large_logits_do_not_overflow(explained):
    net, pixels, labels, _, _ = explained
    louder = keras.Model(net.input, net.output + 200.0)
    found = gradcam.coarse(louder, pixels, "gradcam++", labels, "relu3_a")
    np.testing.assert_allclose(
        found, gradcam.coarse(net, pixels, "gradcam++", labels, "relu3_a"), rtol=1e-5, atol=1e-7
    )


def test_a_batch_in_parts_is_the_same(explained):
    net, _, _, _, _ = explained
    pixels = pictures_of(35, seed=4)
    labels = np.arange(35) % 5
    whole = gradcam.grad_cam(net, pixels, labels, "relu3")
    last = gradcam.grad_cam(net, pixels[34:], labels[34:], "relu3")
    np.testing.assert_allclose(whole[34:], last, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", gradcam.KINDS)
def test_a_layer_without_maps_is_refused(explained, kind):
    net, pixels, labels, _, _ = explained
    with pytest.raises(UserError, match="no layer of feature maps 'fc6' in small_towers; legal: pad, conv1"):
        gradcam.maps(net, pixels, kind, labels, "fc6")


def test_the_method_writes_its_page_and_its_maps(tmp_path, monkeypatch, capsys):
    net = small_towers.network(classes=len(NAMES), side=224)
    monkeypatch.setattr(network, "load", lambda run: (net, ""))
    data = small_runs.folder(tmp_path / "data", NAMES, 1)
    run = small_runs.create(tmp_path / "run", f"folder:{data}", NAMES)
    file = str(tmp_path / "data" / "fish" / "000.jpg")
    out = tmp_path / "out"
    words = ["gradcam", "--workdir", str(run.workdir), "--out", str(out), "--image", file]
    assert command.main([*words, "--layer", "relu3", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["layer"] == "relu3"
    shown = pictures.from_files(run, [file])
    best = int(np.argmax(net(shown.pixels)))
    assert figures["classes"] == [NAMES[best]]
    with np.load(out / "gradcam.npz") as numbers:
        expected = gradcam.grad_cam(net, shown.pixels, layer="relu3")
        np.testing.assert_allclose(numbers["gradcam"], expected, rtol=1e-4, atol=1e-7)
        assert {"gradcampp", "scorecam", "layercam"} <= set(numbers)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert command.main([*words, "--layer", "conv9"]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("error: no layer of feature maps 'conv9' in small_towers; legal: pad, conv1,")
    assert complaint.count("\n") == 1
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
