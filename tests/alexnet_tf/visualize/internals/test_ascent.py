"""Pictures climb to the known maximum, can be repeated, and stay between black and white."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf.visualize.internals import ascent, receptive
from pipelines.errors import UserError
from tests.support import small_towers

LOW, HIGH = -2.0, 1.0
# Without penalties and jitter, which trade some of the activation for plainer pictures.
STRAIGHT = ascent.AscentSettings(
    first_step=3000.0, size_cost=0.0, variation_cost=0.0, shake=0.0, turn=0.0, power=0.0
)


@pytest.fixture(scope="module")
def network():
    return small_towers.network()


def climb(network, units, **options):
    return ascent.maximise(network, np.asarray(units), LOW, HIGH, **{"steps": 12, **options})


def activations(network, pixels, layer=""):
    return np.asarray(ascent.target(network, layer)(pixels))


@pytest.mark.parametrize("unit", [0, 3])
def test_a_linear_unit_ends_at_the_one_picture_that_is_best(network, unit):
    # Of a sum of weights times pixels between two bounds: white where a weight is positive, black elsewhere.
    layer = network.get_layer(f"conv1_{'ab'[unit // 2]}")
    kernel, bias = (w[..., unit % 2] for w in layer.get_weights())
    best = np.where(kernel > 0, HIGH, LOW)
    found = climb(network, [unit], layer="conv1", steps=30, settings=STRAIGHT)
    np.testing.assert_allclose(found[0][ascent.window(network, "conv1").slices], best, atol=1e-5)
    reached = activations(network, found, "conv1")[0, unit]
    assert reached == pytest.approx((kernel * best).sum() + bias, rel=1e-5)


def test_a_unit_of_a_layer_of_two_towers_is_tower_a_s_or_b_s(network):
    pixels = np.random.default_rng(0).normal(0, 1, (2, 32, 32, 3)).astype(np.float32)
    joined = activations(network, pixels, "conv3")
    towers = [keras.Model(network.input, network.get_layer(f"conv3_{tower}").output) for tower in "ab"]
    apart = np.concatenate([np.asarray(tower(pixels))[:, 3, 3] for tower in towers], axis=-1)
    np.testing.assert_allclose(joined, apart, rtol=1e-5)


@pytest.mark.parametrize(("layer", "units"), [("", [0, 1, 2, 3, 4]), ("conv3", [1, 2, 3])])
def test_units_rise_above_what_noise_gives_them(network, layer, units):
    noise = np.random.default_rng(1).uniform(LOW, HIGH, (100, 32, 32, 3)).astype(np.float32)
    settings = STRAIGHT._replace(first_step=30.0, power=1.0)
    found = climb(network, units, layer=layer, steps=30, settings=settings)
    own = activations(network, found, layer)[range(len(units)), units]
    assert (own > activations(network, noise, layer).max(axis=0)[units]).all()
    assert found.dtype == np.float32
    assert found.min() >= LOW
    assert found.max() <= HIGH


def test_the_same_seed_gives_the_same_pictures_whatever_was_drawn_before(network):
    keras.utils.set_random_seed(1)
    first = climb(network, [0, 4])
    keras.utils.set_random_seed(2)
    np.random.default_rng().normal(size=3)
    np.testing.assert_array_equal(climb(network, [0, 4]), first)
    assert np.abs(climb(network, [0, 4], seed=1) - first).max() > 0.1


def test_a_unit_s_picture_does_not_hang_on_the_others(network):
    np.testing.assert_allclose(climb(network, [3]), climb(network, [0, 3, 1])[1:2], atol=1e-4)


def test_the_gradient_is_that_of_the_unit(network):
    pixels = np.random.default_rng(2).normal(0, 1, (2, 32, 32, 3)).astype(np.float32)
    objective = ascent._Objective(ascent.target(network, "conv3"), ascent.window(network, "conv3"))
    objective.units = tf.constant([1, 2])
    variable = tf.Variable(pixels)
    with tf.GradientTape() as tape:
        (values,) = objective([variable])
    slope = tape.gradient(values, variable).numpy()
    direction = np.random.default_rng(3).normal(0, 1, pixels.shape).astype(np.float32)
    ends = [activations(network, pixels + s * 1e-3 * direction, "conv3")[[0, 1], [1, 2]] for s in (1, -1)]
    np.testing.assert_allclose((slope * direction).sum(axis=(1, 2, 3)), (ends[0] - ends[1]) / 2e-3, rtol=2e-3)
    np.testing.assert_allclose(values, activations(network, pixels, "conv3")[[0, 1], [1, 2]], rtol=1e-5)


def test_shaken_pictures_come_back_into_place():
    bounds = (np.full((8, 8, 3), -1.0, np.float32), np.full((8, 8, 3), 1.0, np.float32))
    settings = ascent.AscentSettings(shake=0.5, turn=0.0)
    jitter = ascent._Jitter(ascent.Window(0, 8), bounds, settings, seed=0)
    start = np.random.default_rng(0).uniform(-0.9, 0.9, (1, 8, 8, 3)).astype(np.float32)
    pixels, seen = start, set()
    for _ in range(20):
        pixels = jitter(pixels)
        seen.add(tuple(jitter.shift.tolist()))
        np.testing.assert_array_equal(jitter.back(pixels), start)
    assert len(seen) > 10
    assert {max(map(abs, shift)) for shift in seen} <= {0, 1, 2, 3, 4}


def test_steps_grow_with_wavelength_and_shrink_with_time():
    waves = {count: np.cos(2 * np.pi * count * np.arange(16) / 16) for count in (1, 4)}
    gradient = (waves[1] + waves[4])[np.newaxis, :, np.newaxis, np.newaxis] * np.ones((1, 16, 16, 3))
    stride = ascent._step_modifier(ascent.Window(0, 16), 16, 4, 3.0, 1.5)
    steps = [stride(tf.constant(gradient, tf.float32)).numpy() for _ in range(4)]
    sizes = [np.sqrt((step**2).mean()) for step in steps]
    np.testing.assert_allclose(sizes, 1.5 * (1 + np.cos(np.pi * np.arange(4) / 4)), rtol=1e-5)
    spectrum = np.abs(np.fft.rfft(steps[0][0, :, 0, 0]))
    assert spectrum[1] / spectrum[4] == pytest.approx(4**1.5, rel=1e-4)


def test_the_window_is_the_field_of_the_middle_unit(network):
    assert ascent.window(network) == ascent.window(network, "fc7") == (0, 32)
    assert ascent.window(network, "conv1") == receptive.field(network, "conv1").bounds(8)


def test_a_layer_that_does_not_exist_is_named(network):
    with pytest.raises(UserError, match="no layer 'conv9' in small_towers"):
        climb(network, [0], layer="conv9")
