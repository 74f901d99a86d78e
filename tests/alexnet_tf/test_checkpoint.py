"""Checkpoints are whole or absent: cut files, altered files, full disks, other networks."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path

import keras
import numpy as np
import pytest

from alexnet_tf import checkpoint, model, recipe
from alexnet_tf.checkpoint import BEST, Checkpoints, DamagedCheckpoint
from alexnet_tf.network import variants
from alexnet_tf.network.layers import PaperDropout
from alexnet_tf.run_record import Run
from alexnet_tf.training.optimizer import PaperMomentum
from pipelines.errors import UserError
from pipelines.pictures.statistics import ImageStats

ARRAYS = {
    "network/conv1/kernel": np.arange(12, dtype="float32").reshape(3, 4),
    "seed/dropout6_seed/state": np.array([1, 2], "uint32"),
    "optimizer/iteration": np.array(7, "int64"),
}
STATE = {"schedule": {"drops": 1}, "best_error": float("inf"), "seconds": 1.5}


def _same(arrays: checkpoint.Arrays, expected: checkpoint.Arrays) -> bool:
    return arrays.keys() == expected.keys() and all(
        np.array_equal(arrays[name], array) and arrays[name].dtype == array.dtype
        for name, array in expected.items()
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "x.npz", ARRAYS, STATE)
    arrays, state = checkpoint.read(tmp_path / "x.npz")
    assert _same(arrays, ARRAYS)
    assert state == STATE
    assert os.listdir(tmp_path) == ["x.npz"]


def test_a_file_cut_anywhere_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    checkpoint.write(path, ARRAYS, STATE)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 7), *range(len(whole) - 24, len(whole))]:
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedCheckpoint, match=r"x\.npz: damaged or cut short") as caught:
            checkpoint.read(path)
        assert "\n" not in str(caught.value)


def test_an_altered_file_is_damaged_or_says_the_same(tmp_path: Path) -> None:
    path, refused = tmp_path / "x.npz", 0
    checkpoint.write(path, ARRAYS, STATE)
    whole = path.read_bytes()
    tried = range(0, len(whole), 3)
    for place in tried:
        altered = bytearray(whole)
        altered[place] ^= 1 << place % 8
        path.write_bytes(altered)
        try:
            arrays, state = checkpoint.read(path)
        except DamagedCheckpoint:
            refused += 1
            continue
        assert _same(arrays, ARRAYS), place
        assert state == STATE, place
    assert refused > len(tried) / 2  # the others are dates and rights, of which zip keeps no checksum


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.npz"
    checkpoint.write(path, ARRAYS, STATE)
    before = path.read_bytes()

    def half_written(file, **entries) -> None:
        file.write(before[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", half_written)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write(path, {"other": np.zeros(3)}, {})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.npz"]


def test_the_newest_are_kept(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "checkpoints", keep=2)
    assert kept.newest() == []
    assert kept.load_newest() is None
    for step in (5, 10, 200, 15):  # a run that was taken up again at 10 writes a smaller number
        kept.save(step, ARRAYS, STATE)
    (tmp_path / "checkpoints" / "step-x.npz").write_bytes(b"not ours")
    assert [path.name for path in kept.newest()] == ["step-00000200.npz", "step-00000015.npz"]
    assert (tmp_path / "checkpoints" / "step-x.npz").exists()
    arrays, state = kept.load_newest()
    assert _same(arrays, ARRAYS)
    assert state == {**STATE, "step": 200}


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Checkpoints(tmp_path, keep=3)
    paths = [kept.save(step, ARRAYS, STATE) for step in (1, 2, 3)]
    paths[2].write_bytes(paths[2].read_bytes()[:-40])
    assert kept.load_newest()[1]["step"] == 2
    warning = capsys.readouterr().err
    assert warning.startswith(f"warning: {paths[2]}: damaged or cut short")
    assert warning.count("\n") == 1
    paths[1].write_bytes(b"")
    assert kept.load_newest()[1]["step"] == 1
    paths[0].write_bytes(b"PK")
    with pytest.raises(UserError, match="all 3 checkpoints are damaged; start anew in another --workdir"):
        kept.load_newest()


def _network(units: int = 3, seed: int = 1) -> keras.Model:
    inputs = keras.Input((4,))
    kernel = keras.initializers.HeNormal(seed)
    x = keras.layers.Dense(8, name="fc6", kernel_initializer=kernel)(inputs)
    x = PaperDropout(seed=seed, name="dropout6")(x)
    x = PaperDropout(seed=seed + 1, name="dropout7")(x)
    return keras.Model(inputs, keras.layers.Dense(units, name="fc8", kernel_initializer=kernel)(x))


def _train(network: keras.Model, optimizer: PaperMomentum, steps: range) -> None:
    import tensorflow as tf

    for step in steps:
        x = np.random.default_rng(step).standard_normal((5, 4)).astype("float32")
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(network(x, training=True) ** 2)
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)


def _start(seed: int) -> tuple[keras.Model, PaperMomentum]:
    network, optimizer = _network(seed=seed), PaperMomentum(0.05, 0.9, 0.01, bias_multiplier=2.0)
    optimizer.build(network.trainable_variables)
    return network, optimizer


def test_weights_momentum_rates_and_dropout_go_on_as_if_never_stopped(tmp_path: Path) -> None:
    network, optimizer = _start(seed=1)
    _train(network, optimizer, range(3))
    kept = Checkpoints(tmp_path)
    kept.save(3, checkpoint.training_arrays(network, optimizer), {})
    _train(network, optimizer, range(3, 6))
    for _ in range(2):  # whatever else the process has built before
        other, others_optimizer = _start(seed=9)
    checkpoint.restore_training(other, others_optimizer, kept.load_newest()[0], "here")
    _train(other, others_optimizer, range(3, 6))
    ours, theirs = (
        checkpoint.training_arrays(*pair) for pair in ((network, optimizer), (other, others_optimizer))
    )
    assert _same(ours, theirs)
    assert sum(name.startswith("seed/") for name in ours) == 2
    assert sum(name.endswith("velocity") for name in ours) == 4


def test_the_checkpoint_of_another_network_is_named(tmp_path: Path) -> None:
    network, optimizer = _start(seed=1)
    arrays = checkpoint.training_arrays(network, optimizer)
    wrong_shape = r"here: the checkpoint tells 3 classes apart, and the run lists 5; take the class_ids.txt"
    with pytest.raises(UserError, match=wrong_shape):
        checkpoint.restore_network(_network(units=5), arrays, "here")
    del arrays["optimizer/paper_momentum/fc6_kernel_velocity"]
    with pytest.raises(UserError, match=r"fc6_kernel_velocity must have shape \(4, 8\); received nothing"):
        checkpoint.restore_training(network, optimizer, arrays, "here")


def test_a_refused_checkpoint_changes_nothing() -> None:
    network, optimizer = _start(seed=1)
    other = _network(units=5, seed=2)
    before = {name: array.copy() for name, array in checkpoint.network_arrays(other).items()}
    with pytest.raises(UserError):
        checkpoint.restore_network(other, checkpoint.training_arrays(network, optimizer), "here")
    assert _same(checkpoint.network_arrays(other), before)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The folder of a run of the real network, with few hidden units."""
    slim = dataclasses.replace(variants.get("paper"), hidden=8)
    monkeypatch.setitem(variants.VARIANTS, "paper", slim)
    chosen = recipe.get("smoke").replace({"dropout_rate": "0.25"})
    flat = np.zeros((2, 2, 3), "float32")
    stats = ImageStats(np.ones(3, "float32"), np.eye(3, dtype="float32"), flat, flat[0, 0], 1)
    return Run.create(tmp_path / "run", chosen, "synthetic", ["cat", "dog", "owl"], stats)


def _weights(network: keras.Model) -> np.ndarray:
    return np.concatenate([w.ravel() for w in network.get_weights()])


def test_a_runs_network_is_its_best_or_its_newest(run: Run) -> None:
    with pytest.raises(UserError, match="run: the run has no checkpoint yet; train it first"):
        checkpoint.load_network(run)
    best, newest = (
        model.build("paper", 3, seed=seed, dtype_policy="mixed_bfloat16", fused=True) for seed in (1, 2)
    )
    kept = Checkpoints(run.checkpoint_dir)
    kept.save(4, checkpoint.network_arrays(newest), {})
    loaded, step = checkpoint.load_network(run, "best")
    np.testing.assert_array_equal(_weights(loaded), _weights(newest))
    assert step == 4
    kept.save_best(2, checkpoint.network_arrays(best), 0.5)
    loaded, step = checkpoint.load_network(run, "newest")
    np.testing.assert_array_equal(_weights(loaded), _weights(newest))
    assert step == 4
    loaded, step = checkpoint.load_network(run)
    np.testing.assert_array_equal(_weights(loaded), _weights(best))
    assert step == 2
    assert loaded.dtype_policy.name == "float32"
    assert not loaded.get_layer("lrn1").fused
    assert loaded.get_layer("dropout6").rate == 0.25
    assert loaded.output_shape == (None, 3)
    assert kept.load_newest()[1]["step"] == 4  # the best is none of the numbered ones

    path = run.checkpoint_dir / BEST
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DamagedCheckpoint, match=r"best\.npz: damaged or cut short"):
        checkpoint.load_network(run)


def test_a_training_that_saves_meanwhile_does_not_change_the_step(run: Run, monkeypatch) -> None:
    """The best weights are replaced just after they were read."""
    first, second = (checkpoint.network_arrays(model.build("paper", 3, seed=seed)) for seed in (1, 2))
    kept = Checkpoints(run.checkpoint_dir)
    kept.save_best(10, first, 0.5)
    read = checkpoint.read

    def overtaken(path):
        found = read(path)
        kept.save_best(20, second, 0.4)
        return found

    monkeypatch.setattr(checkpoint, "read", overtaken)
    network, step = checkpoint.load_network(run)
    assert step == 10
    np.testing.assert_array_equal(network.get_layer("fc8").kernel, first["network/fc8/kernel"])


def test_the_checkpoint_of_a_run_with_other_classes_is_refused(run: Run) -> None:
    Checkpoints(run.checkpoint_dir).save_best(1, checkpoint.network_arrays(model.build("paper", 4)), 0.5)
    with pytest.raises(
        UserError, match=r"best\.npz: the checkpoint tells 4 classes apart, and the run lists 3; "
    ):
        checkpoint.load_network(run)
