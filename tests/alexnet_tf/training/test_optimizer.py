"""The update rule against hand-worked steps, PyTorch, Keras, and itself after a restart."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf import checkpoint
from alexnet_tf.training.optimizer import PaperMomentum

FIRST_LAYER = ("conv1_a",)
RNG_SHAPES = {"conv1_a/kernel": (3, 4), "conv1_a/bias": (4,), "fc8/kernel": (4, 5), "fc8/bias": (5,)}


def _variable(path: str, value: np.ndarray | float) -> keras.Variable:
    layer, _, kind = path.rpartition("/")
    with keras.name_scope(layer or "fc6"):
        return keras.Variable(np.asarray(value, "float32"), name=kind)


def _variables(seed: int = 0) -> dict[str, keras.Variable]:
    rng = np.random.default_rng(seed)
    return {path: _variable(path, rng.standard_normal(shape)) for path, shape in RNG_SHAPES.items()}


def _gradients(step: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1000 + step)
    return {path: rng.standard_normal(shape).astype("float32") for path, shape in RNG_SHAPES.items()}


def _apply(
    optimizer: PaperMomentum, variables: dict[str, keras.Variable], gradients: dict[str, np.ndarray]
) -> None:
    optimizer.apply([tf.convert_to_tensor(gradients[path]) for path in variables], list(variables.values()))


def _rates(step: int) -> tuple[float, float, float]:
    """(weights, biases, conv1): a rate that drops, biases that stay, conv1 that stops."""
    weights = 0.1 if step < 10 else 0.01
    return weights, 0.2, weights if step < 20 else 0.0


class ByHand:
    """The rule of section 5 in float64, a rate for each kind of variable."""

    def __init__(self, variables: dict[str, keras.Variable], momentum: float, decay: float) -> None:
        self.w = {path: np.asarray(v, "float64") for path, v in variables.items()}
        self.v = {path: np.zeros_like(w) for path, w in self.w.items()}
        self.momentum, self.decay = momentum, decay

    def step(self, gradients: dict[str, np.ndarray], weights: float, biases: float, conv1: float) -> None:
        for path, gradient in gradients.items():
            rate = biases if path.endswith("bias") else weights
            if path.startswith(FIRST_LAYER):
                rate *= conv1 / weights
            if rate == 0:
                continue
            decay = 0.0 if path.endswith("bias") else self.decay
            self.v[path] = self.momentum * self.v[path] - decay * rate * self.w[path] - rate * gradient
            self.w[path] = self.w[path] + self.v[path]


@pytest.mark.parametrize("fused", [False, True])
def test_three_steps_worked_by_hand(fused: bool) -> None:
    # v1 = -0.1 (0.5 + 0.01 * 1) = -0.051;            w1 = 0.949
    # v2 = 0.9 v1 - 0.1 (0.5 + 0.01 w1) = -0.096849;   w2 = 0.852151
    # v3 = 0.9 v2 - 0.1 (0.5 + 0.01 w2) = -0.138016251; w3 = 0.714134749
    w = _variable("kernel", 1.0)
    optimizer, seen = PaperMomentum(0.1, 0.9, 0.01, fused=fused), []
    for _ in range(3):
        optimizer.apply([tf.constant(0.5)], [w])
        seen.append(float(w))
    assert seen == pytest.approx([0.949, 0.852151, 0.714134749], abs=1e-7)
    assert float(optimizer.velocities[0]) == pytest.approx(-0.138016251, abs=1e-7)
    # Keras' decay lies outside the momentum: another, weaker rule.
    w = _variable("kernel", 1.0)
    keras_rule = keras.optimizers.SGD(0.1, 0.9, weight_decay=0.01)
    for _ in range(3):
        keras_rule.apply([tf.constant(0.5)], [w])
    assert float(w) == pytest.approx(0.71670, abs=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_thirty_steps_with_falling_rates_and_a_frozen_conv1(fused: bool) -> None:
    variables = _variables()
    hand, optimizer = (
        ByHand(variables, 0.9, 0.01),
        PaperMomentum(0.1, 0.9, 0.01, first_layer=FIRST_LAYER, fused=fused),
    )
    optimizer.build(list(variables.values()))
    for step in range(30):
        optimizer.set_rates(*_rates(step))
        _apply(optimizer, variables, _gradients(step))
        hand.step(_gradients(step), *_rates(step))
    for (path, variable), velocity in zip(variables.items(), optimizer.velocities, strict=True):
        np.testing.assert_allclose(variable, hand.w[path], rtol=1e-4, atol=1e-5, err_msg=path)
        np.testing.assert_allclose(velocity, hand.v[path], rtol=1e-4, atol=1e-5, err_msg=path)


def test_compiled_and_plain_updates_agree_inside_a_graph() -> None:
    after = []
    for fused in (False, True):
        variables, optimizer = _variables(), PaperMomentum(0.1, first_layer=FIRST_LAYER, fused=fused)
        optimizer.build(list(variables.values()))
        update = tf.function(functools.partial(_apply, optimizer, variables))
        for step in range(25):
            optimizer.set_rates(*_rates(step))
            update({path: tf.constant(g) for path, g in _gradients(step).items()})
        after.append(variables)
    for path, plain in after[0].items():
        np.testing.assert_allclose(after[1][path], plain, rtol=1e-5, atol=1e-6, err_msg=path)


@pytest.mark.parametrize("fused", [False, True])
def test_a_rate_of_0_leaves_weight_and_velocity_alone(fused: bool) -> None:
    variables = _variables()
    optimizer = PaperMomentum(0.1, first_layer=FIRST_LAYER, fused=fused)
    optimizer.build(list(variables.values()))
    _apply(optimizer, variables, _gradients(0))
    optimizer.set_rates(0.01, 0.02, 0.0)
    everything = [*variables.values(), *optimizer.velocities]
    before = [np.array(v) for v in everything]
    _apply(optimizer, variables, _gradients(1))
    unchanged = [np.array_equal(old, new) for old, new in zip(before, everything, strict=True)]
    assert unchanged == [True, True, False, False] * 2


def test_only_the_variables_that_are_given_move() -> None:
    variables = _variables()
    optimizer = PaperMomentum(0.1)
    optimizer.build(list(variables.values()))
    before = {path: np.array(v) for path, v in variables.items()}
    _apply(
        optimizer,
        {path: v for path, v in variables.items() if not path.startswith(FIRST_LAYER)},
        _gradients(0),
    )
    assert [p for p, v in variables.items() if np.any(np.array(v) != before[p])] == ["fc8/kernel", "fc8/bias"]
    np.testing.assert_allclose(
        before["fc8/bias"] - 0.1 * _gradients(0)["fc8/bias"], variables["fc8/bias"], rtol=1e-5
    )


def test_biases_have_their_own_rate_and_no_decay() -> None:
    w, b = _variable("fc6/kernel", 3.0), _variable("fc6/bias", 3.0)
    PaperMomentum(0.1, 0.9, 0.01, bias_multiplier=2.0).apply([tf.constant(1.0), tf.constant(1.0)], [w, b])
    assert float(w) == pytest.approx(3.0 - 0.1 * (1.0 + 0.01 * 3.0))
    assert float(b) == pytest.approx(3.0 - 0.2 * 1.0)


@pytest.mark.parametrize("fused", [False, True])
def test_a_gradient_too_long_is_scaled_down_as_a_whole(fused: bool) -> None:
    # |(3, 4)| = 5: with a limit of 1 the step is that of (0.6, 0.8), with one of 6 that of (3, 4).
    for limit, expected in ((1.0, [-0.06, -0.08]), (6.0, [-0.3, -0.4]), (None, [-0.3, -0.4])):
        a, b = _variable("fc6/kernel", 0.0), _variable("fc7/kernel", 0.0)
        optimizer = PaperMomentum(0.1, 0.9, 0.0, fused=fused, global_clipnorm=limit)
        optimizer.apply([tf.constant(3.0), tf.constant(4.0)], [a, b])
        assert [float(a), float(b)] == pytest.approx(expected)


def test_keras_other_clipping_stays() -> None:
    w = _variable("fc6/kernel", 0.0)
    PaperMomentum(0.1, 0.9, 0.0, clipvalue=0.5).apply([tf.constant(3.0)], [w])
    assert float(w) == pytest.approx(-0.05)


def test_clipping_hides_no_infinity() -> None:
    a, b = _variable("fc6/kernel", 0.0), _variable("fc7/kernel", 0.0)
    PaperMomentum(0.1, global_clipnorm=1.0).apply([tf.constant(np.inf), tf.constant(1.0)], [a, b])
    assert (float(a), float(b)) == pytest.approx((-np.inf, -0.1))


def test_momentum_is_pytorchs_until_the_rate_falls() -> None:
    torch = pytest.importorskip("torch")
    start, gradients = (
        np.linspace(-1, 1, 6, dtype="float32"),
        np.random.default_rng(0).standard_normal((60, 6)),
    )
    ours, theirs = _variable("kernel", start), torch.tensor(start.copy(), requires_grad=True)
    optimizer, sgd = (
        PaperMomentum(0.1, 0.9, 0.01),
        torch.optim.SGD([theirs], 0.1, momentum=0.9, weight_decay=0.01),
    )
    distance = []
    for step, gradient in enumerate(gradients.astype("float32")):
        if step == 20:
            optimizer.learning_rate = sgd.param_groups[0]["lr"] = 0.01
        before = np.array(ours)
        optimizer.apply([tf.constant(gradient)], [ours])
        theirs.grad = torch.tensor(gradient)
        old = theirs.detach().numpy().copy()
        sgd.step()
        distance.append(np.abs((np.array(ours) - before) - (theirs.detach().numpy() - old)).max())
    assert max(distance[:20]) < 1e-6
    # PyTorch's buffer holds no rate: at a drop by 10 it throws 9/10 of the momentum away. Ours lets the
    # old steps run out: the first step differs by 0.9 * 0.9 of the velocity, and 0.9^40 of it stays.
    assert distance[20] > 0.05
    assert max(distance[55:]) < 0.03 * distance[20]
    np.testing.assert_allclose(distance[21:40], 0.9 * np.array(distance[20:39]), rtol=0.02, atol=1e-5)


def test_keras_sgd_with_half_the_decay_as_a_penalty_is_the_same_rule() -> None:
    decay, rng = 5e-2, np.random.default_rng(0)
    inputs, targets = (rng.standard_normal((40, 8, units)).astype("float32") for units in (4, 3))
    penalty = keras.regularizers.L2(decay / 2)
    dense = keras.layers.Dense(3), keras.layers.Dense(3, kernel_regularizer=penalty)
    ours, theirs = (keras.Sequential([keras.Input((4,)), layer]) for layer in dense)
    theirs.set_weights(ours.get_weights())
    rules = PaperMomentum(0.1, 0.9, decay), keras.optimizers.SGD(0.1, momentum=0.9)
    for step in range(40):
        for network, rule in zip((ours, theirs), rules, strict=True):
            rule.learning_rate = 0.1 if step < 20 else 0.01
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((network(inputs[step]) - targets[step]) ** 2) + sum(network.losses)
            rule.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def _small_network(seed: int = 1) -> keras.Model:
    dense = keras.layers.Dense(3, name="fc8", kernel_initializer=keras.initializers.HeNormal(seed))
    conv = keras.layers.Conv2D(2, 3, name="conv1", kernel_initializer=keras.initializers.HeNormal(seed))
    return keras.Sequential([keras.Input((5, 5, 1)), conv, keras.layers.Flatten(), dense], name="network")


def _train(network: keras.Model, optimizer: PaperMomentum, steps: range) -> None:
    for step in steps:
        rng = np.random.default_rng(step)
        x, y = rng.standard_normal((4, 5, 5, 1)).astype("float32"), rng.integers(0, 3, 4)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, network(x)))
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)


@pytest.mark.parametrize("way", ["keras file", "checkpoint arrays"])
def test_a_restored_optimizer_goes_on_as_if_never_stopped(way: str, tmp_path) -> None:
    network = _small_network()
    network.compile(optimizer=PaperMomentum(0.05, 0.9, 0.01, first_layer=["conv1"]))
    network.optimizer.build(network.trainable_variables)
    network.optimizer.set_rates(0.05, 0.1, 0.005)
    _train(network, network.optimizer, range(5))
    if way == "keras file":
        network.save(tmp_path / "network.keras")
        again = keras.models.load_model(tmp_path / "network.keras")
    else:
        again = _small_network(seed=2)
        again.compile(optimizer=PaperMomentum(0.7, first_layer=["conv1"]))
        again.optimizer.momentum, again.optimizer.decay = 0.9, 0.01
        again.optimizer.build(again.trainable_variables)
        taken = checkpoint.training_arrays(network, network.optimizer)
        arrays = {name: array.copy() for name, array in taken.items()}
        checkpoint.restore_training(again, again.optimizer, arrays, "here")
    for n in (network, again):
        _train(n, n.optimizer, range(5, 10))
    assert int(again.optimizer.iterations) == 10
    ours, theirs = ([np.array(v) for v in (*n.weights, *n.optimizer.variables)] for n in (network, again))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_optimizer_is_its_configuration() -> None:
    config = PaperMomentum(
        0.03,
        0.8,
        1e-3,
        bias_multiplier=2.0,
        conv1_multiplier=0.5,
        first_layer=FIRST_LAYER,
        fused=True,
        global_clipnorm=4.0,
    ).get_config()
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(PaperMomentum.from_config(config))
    )
    assert isinstance(again, PaperMomentum)
    assert again.get_config() == config
    assert (again.momentum, again.decay, again.fused, again.global_clipnorm) == (0.8, 1e-3, True, 4.0)
    rates = [float(v) for v in (again.learning_rate, again.bias_multiplier, again.conv1_multiplier)]
    assert rates == pytest.approx([0.03, 2.0, 0.5])
    assert again.first_layer == FIRST_LAYER


def test_a_momentum_outside_0_to_1_is_named() -> None:
    with pytest.raises(ValueError, match=r"`momentum` must lie in \[0, 1\).*momentum=1.0"):
        PaperMomentum(momentum=1.0)
