"""The update rule on two replicas: the step that one device would take."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np

REPLICAS = """
import json
import keras
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from alexnet_tf.training.optimizer import PaperMomentum

x = np.random.default_rng(0).standard_normal((6, 8, 4)).astype("float32")

def weights(strategy, fused, clip=None):
    with strategy.scope():
        # Two layers of one shape, as the towers have.
        layers = [keras.layers.Dense(4, kernel_initializer=keras.initializers.HeNormal(k)) for k in (1, 2)]
        network = keras.Sequential([keras.Input((4,)), *layers])
        optimizer = PaperMomentum(0.1, 0.9, 0.05, bias_multiplier=2.0, fused=fused, global_clipnorm=clip)
        optimizer.build(network.trainable_variables)
    def one(batch):
        share = 8 // strategy.num_replicas_in_sync
        first = tf.distribute.get_replica_context().replica_id_in_sync_group * share
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(network(batch[first : first + share]) ** 2) / 8
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
    step = tf.function(lambda batch: strategy.run(one, args=(batch,)))
    for batch in x:
        step(tf.constant(batch))
    return [w.tolist() for w in network.get_weights()]

one = tf.distribute.get_strategy()
two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
print(json.dumps([weights(one, False), weights(one, True), weights(two, False), weights(two, True)]))
print(json.dumps([weights(one, False, 0.1), weights(one, True, 0.1), weights(two, True, 0.1)]))
"""


def test_two_replicas_take_the_step_of_one() -> None:
    run = subprocess.run(
        [sys.executable, "-c", REPLICAS], capture_output=True, text=True, timeout=200, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    free, clipped = (json.loads(line) for line in run.stdout.splitlines()[-2:])
    for first, *others in (free, clipped):
        for one, two in ((one, two) for other in others for one, two in zip(first, other, strict=True)):
            np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-5)
    assert np.abs(np.subtract(free[0][0], clipped[0][0])).max() > 0.01
