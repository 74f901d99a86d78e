"""What the loop says when something is wrong: a loss that does not move, units that are dead."""

import math

import numpy as np

from alexnet_tf import recipe
from alexnet_tf.training import diagnosis
from tests.support.tiny_network import tiny_network


def test_a_stuck_loss_is_explained_once_in_a_while():
    stuck = diagnosis.StuckLoss(1000, recipe.get("paper"), every=50)
    said = [stuck.add(step, math.log(1000) + 0.001) for step in range(1, 161)]
    assert [step + 1 for step, advice in enumerate(said) if advice] == [100, 150]
    assert "ln(classes) = 6.908" in said[99]
    assert "--set initializer=he --set pixel_divisor=30 --set clip_norm=5" in said[99]
    assert "learning_rate, now 0.01" in said[99]


def test_a_loss_that_moves_is_left_alone():
    stuck = diagnosis.StuckLoss(10, recipe.get("quickstart"))
    assert not any(stuck.add(step, math.log(10) * 0.98) for step in range(500))


def test_pixels_that_are_too_large_are_named_as_a_cause():
    stuck = diagnosis.StuckLoss(10, recipe.get("quickstart").replace({"pixel_divisor": "1"}))
    advice = [stuck.add(step, math.log(10)) for step in range(100)][-1]
    assert "conv1 moves too fast on pixels this large (cure: --set pixel_divisor=30)" in advice
    assert "clip_norm" not in advice


def test_dead_units_are_counted():
    network = tiny_network(classes=3)
    kernel = np.zeros((11, 11, 3, 4), "float32")
    network.get_layer("conv1").set_weights([kernel, np.array([1.0, -1.0, 0.0, 2.0], "float32")])
    share = diagnosis.DeadUnits(network).measure(np.zeros((2, 224, 224, 3), "float32"))
    assert share == {"dead_conv1": 0.5}
