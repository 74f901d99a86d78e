"""What the two towers on two devices are made of, and what else a run does with them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf import checkpoint
from alexnet_tf.distribute import towers
from alexnet_tf.network.layers import InvertedDropout, PaperDropout
from alexnet_tf.network.normalization import HaloResponseNormalization, LocalResponseNormalization
from pipelines.errors import UserError
from tests.support import bfloat16_here, two_devices

OTHERS = """
one, two = networks("conv6", fused=True, dtype_policy="POLICY")
pixels, labels = pictures(4)
step, optimizer = trainer(two, fused=False)
print(json.dumps([float(trainer(one, fused=False)[0](pixels, labels)), float(step(pixels, labels))]))

# What training does between steps: a checkpoint into another layout, evaluation, dead units, pictures.
whole = checkpoint.join_halves(checkpoint.training_arrays(two, optimizer))
checkpoint.restore_network(one, whole, "here")
_, other = networks("conv6", dtype_policy="POLICY", seed=5)
_, its_optimizer = trainer(other, fused=False)
wanted = list(checkpoint.training_arrays(other, its_optimizer))
halves = checkpoint.split_halves(whole, wanted)
checkpoint.restore_training(other, its_optimizer, halves, "here")
batch = {"image": pixels, "label": labels, "mask": tf.ones([4])}
losses = [metrics.Evaluator(n, lambda image: image).evaluate([batch]).loss for n in (one, two, other)]
dead = [diagnosis.DeadUnits(network).measure(pixels) for network in (one, two)]
kernels = [model.conv1_kernels(network) for network in (one, two)]
print(json.dumps({
    "losses": losses,
    "dead": dead,
    "kernels": bool(np.array_equal(*kernels)),
    "halves_wanted": sorted(set(halves)) == sorted(wanted),
    "devices": {v.path: v.value.device[-5:] for v in (*two.variables, *optimizer.variables)},
    "eager": float(tf.reduce_max(tf.abs(two(pixels) - other(pixels)))),
}))
"""


def test_checkpoints_evaluation_and_diagnosis_fit_both_layouts() -> None:
    losses, figures = two_devices.run(OTHERS.replace("POLICY", bfloat16_here.policy()))
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    assert figures["losses"] == pytest.approx([figures["losses"][0]] * 3, rel=1e-2)
    assert figures["eager"] < 0.05
    assert figures["kernels"]
    assert figures["halves_wanted"]
    one, two = figures["dead"]
    assert list(one) == list(two) == [*(f"dead_conv{n}" for n in range(1, 7)), "dead_fc6", "dead_fc7"]
    for path, device in figures["devices"].items():
        tower_b = "_b_" in path.replace("/", "_")
        assert device == ("CPU:1" if tower_b else "CPU:0"), path


@pytest.mark.parametrize("fused", [False, True])
def test_a_halo_normalises_as_the_joined_towers_do(fused: bool) -> None:
    settings = {"size": 5, "k": 2.0, "alpha": 0.05, "beta": 0.75, "fused": fused}
    rng = np.random.default_rng(0)
    maps, upstream = (tf.constant(rng.normal(0, 3, (2, 3, 4, 12)), tf.float32) for _ in range(2))
    joined = LocalResponseNormalization(**settings)
    a = HaloResponseNormalization(halo_first=False, **settings)
    b = HaloResponseNormalization(halo_first=True, **settings)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(maps)
        whole = joined(maps)
        parts = [a([maps[..., :6], maps[..., 6:8]]), b([maps[..., 6:], maps[..., 4:6]])]
        halves = tf.concat(parts, -1)
    np.testing.assert_allclose(halves, whole, rtol=1e-6)
    gradients = [tape.gradient(y, maps, output_gradients=upstream) for y in (whole, halves)]
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-5, atol=1e-6)
    # Without its neighbour a tower's last maps come out otherwise: the halo is not idle.
    alone = LocalResponseNormalization(**settings)(maps[..., :6])
    assert np.abs(alone - whole[..., :6])[..., 4:].min() > 1e-4


def test_a_halo_of_another_width_is_refused() -> None:
    layer = HaloResponseNormalization(halo_first=True, size=5)
    with pytest.raises(ValueError, match="the halo must have 2 channels"):
        layer([tf.zeros([1, 2, 2, 4]), tf.zeros([1, 2, 2, 3])])


@pytest.mark.parametrize("kind", [PaperDropout, InvertedDropout])
def test_parts_of_a_dropout_share_the_mask_of_the_whole(kind: type) -> None:
    x = tf.constant(np.random.default_rng(0).normal(size=(3, 8)), tf.float32)
    whole, parts = kind(0.5, seed=3), [kind(0.5, seed=3, part=(index, 2)) for index in (0, 1)]
    for _ in range(2):  # the second call draws anew, in all of them alike
        expected = whole(x, training=True)
        halves = [part(half, training=True) for part, half in zip(parts, tf.split(x, 2, -1), strict=True)]
        np.testing.assert_array_equal(tf.concat(halves, -1), expected)
    again = kind.from_config(parts[1].get_config())
    assert again.part == (1, 2)
    with pytest.raises(ValueError, match="`part` must be"):
        kind(part=(2, 2))


def test_halves_join_by_columns_and_part_again() -> None:
    rng = np.random.default_rng(0)
    whole = {
        "network/conv1_a/kernel": rng.normal(size=(2, 3)),
        "network/conv1_b/kernel": rng.normal(size=(2, 3)),
        "network/fc6/kernel": rng.normal(size=(3, 4)),
        "network/fc8/kernel": rng.normal(size=(4, 2)),
        "seed/dropout6_seed/seed_generator_state": np.array([3, 1]),
        "optimizer/paper_momentum/fc6_kernel_velocity": rng.normal(size=(3, 4)),
        "optimizer/paper_momentum/conv1_a_kernel_velocity": rng.normal(size=(2, 3)),
        "optimizer/paper_momentum/learning_rate": np.array(0.1),
    }
    wanted = [
        "network/conv1_a/kernel",
        "network/fc6_a/kernel",
        "network/fc6_b/kernel",
        "seed/dropout6_a_seed/seed_generator_state",
        "seed/dropout6_b_seed/seed_generator_state",
        "optimizer/paper_momentum/fc6_a_kernel_velocity",
        "optimizer/paper_momentum/fc6_b_kernel_velocity",
    ]
    halves = checkpoint.split_halves(whole, wanted)
    kept = {name for name in whole if "fc6" not in name and "dropout6" not in name}
    assert set(halves) == {*wanted, *kept}
    np.testing.assert_array_equal(halves["network/fc6_b/kernel"], whole["network/fc6/kernel"][:, 2:])
    again = checkpoint.join_halves(halves)
    assert set(again) == set(whole)
    for name, array in whole.items():
        np.testing.assert_array_equal(again[name], array)
    # The network of one device asks for none of the halves, and has none.
    assert checkpoint.split_halves(whole, list(whole)) == whole
    assert checkpoint.join_halves(whole) == whole


def test_half_of_a_pair_is_refused() -> None:
    with pytest.raises(UserError, match="network/fc6_b/kernel is missing"):
        checkpoint.join_halves({"network/fc6_a/kernel": np.zeros((2, 2))})


def test_one_device_is_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = tf.config.LogicalDevice("/device:CPU:0", "CPU")
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [cpu] if kind == "CPU" else [])
    with pytest.raises(UserError, match=r"needs two devices.*received 0 GPU and 1 CPU.*cure") as caught:
        towers.devices()
    assert "\n" not in str(caught.value)


def test_gpus_come_before_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"GPU": ["GPU:0", "GPU:1", "GPU:2"], "CPU": ["CPU:0", "CPU:1"]}
    found = {kind: [tf.config.LogicalDevice(f"/device:{n}", kind) for n in names[kind]] for kind in names}
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: found[kind])
    assert towers.devices() == ("/device:GPU:0", "/device:GPU:1")
    del found["GPU"][1:]
    assert towers.devices() == ("/device:CPU:0", "/device:CPU:1")


@pytest.mark.parametrize("variant", ["merged", "half", "caffe", "one_weird_trick"])
def test_variants_without_two_towers_are_refused(variant: str) -> None:
    with pytest.raises(UserError, match=rf"two towers: paper, original, .*; received '{variant}'"):
        towers.build(variant, devices=("/device:CPU:0", "/device:CPU:0"))
