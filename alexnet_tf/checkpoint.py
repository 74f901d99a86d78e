"""Checkpoints: everything that a run needs to resume exactly, in one file that is whole or absent.

A checkpoint is an .npz: the network's weights, the optimizer's velocities and rates, the dropout
generators' states, and a JSON text with the step and the schedule's state. The position of the input
needs no entry, since the batches are a pure function of the step. zip's checksums reveal a damaged file.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipelines import progress
from pipelines.errors import UserError
from pipelines.files import replacing

if TYPE_CHECKING:
    import keras

    from alexnet_tf.run_record import Run


BEST = "best.npz"
_STATE, _WEIGHT = "state.json", "network/"
# What zip and NumPy raise on damaged files, according to which byte it is.
_DAMAGES = (ValueError, KeyError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error)
_NEWEST = re.compile(r"step-(\d{8,})\.npz")

Arrays = dict[str, np.ndarray]
# The half of a layer in `network/fc6_a/kernel`, `optimizer/paper_momentum/fc6_a_kernel_velocity` and
# `seed/dropout6_a_seed/seed_generator_state`; towers of convolutions are layers of their own.
_HALF = re.compile(r"(?<=/)(fc[67]|dropout[67])_([ab])(?=[/_])")


class DamagedCheckpoint(UserError):
    """A checkpoint file that is cut short or altered."""


def write(path: Path, arrays: Arrays, state: dict[str, Any]) -> None:
    """Writes one checkpoint; on any failure the old file, if there was one, stays as it was.

    The two halves of a layer on two devices are joined: a checkpoint is that of one device.
    """
    arrays = join_halves(arrays)
    record = json.dumps({"arrays": len(arrays), "state": state})
    entries: dict[str, Any] = {_STATE: np.frombuffer(record.encode(), np.uint8), **arrays}
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **entries)
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name, too, survives a loss of power
    finally:
        os.close(folder)


def read(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Reads one checkpoint.

    Raises:
      DamagedCheckpoint: the file is cut short or altered.
    """
    with open(path, "rb") as opened:
        try:
            with np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            record = json.loads(arrays.pop(_STATE).tobytes())
            if len(arrays) != record["arrays"]:  # zip overlooks entries behind an altered length
                raise ValueError(f"{len(arrays)} of {record['arrays']} arrays")
        except _DAMAGES as error:
            raise DamagedCheckpoint(f"{path}: damaged or cut short ({error}); remove it") from None
    return arrays, record["state"]


class Checkpoints:
    """The checkpoints of one run folder.

    Args:
      folder: where they lie.
      keep: how many of the newest are kept, besides the best.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    def newest(self) -> list[Path]:
        """Numbered checkpoints, newest first."""
        found = {path: _NEWEST.fullmatch(path.name) for path in self.folder.glob("step-*.npz")}
        steps = {path: int(match[1]) for path, match in found.items() if match}
        return sorted(steps, key=steps.__getitem__, reverse=True)

    def save(self, step: int, arrays: Arrays, state: dict[str, Any]) -> Path:
        """Writes the checkpoint of `step` and removes the oldest beyond `keep`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step:08d}.npz"
        write(path, arrays, {**state, "step": step})
        for old in self.newest()[self.keep :]:
            old.unlink(missing_ok=True)
        return path

    def save_best(self, step: int, arrays: Arrays, error: float) -> None:
        """Writes the weights alone: those of the lowest validation error so far."""
        self.folder.mkdir(parents=True, exist_ok=True)
        weights = {name: array for name, array in arrays.items() if name.startswith(_WEIGHT)}
        write(self.folder / BEST, weights, {"step": step, "val_top1_error": error})

    def load_newest(self) -> tuple[Arrays, dict[str, Any]] | None:
        """The newest checkpoint that is whole; damaged ones are passed over with a warning.

        Returns:
          Its arrays and state, or None when the run has no checkpoint yet.

        Raises:
          UserError: there are checkpoints, and all of them are damaged.
        """
        paths = self.newest()
        for path in paths:
            try:
                return read(path)
            except DamagedCheckpoint as error:
                print(f"warning: {error}; going on from the one before it", file=sys.stderr)
        if paths:
            raise UserError(
                f"{self.folder}: all {len(paths)} checkpoints are damaged; start anew in another --workdir"
            )
        return None


def network_arrays(network: keras.Model) -> Arrays:
    """A copy of every weight of a network by its path, such as `network/conv1_a/kernel`."""
    return _copied(_weights(network), {})


def _weights(network: keras.Model) -> Iterator[tuple[str, Any]]:
    return ((f"{_WEIGHT}{variable.path}", variable) for variable in network.weights)


def _copied(named: Iterable[tuple[str, Any]], into: Arrays) -> Arrays:
    """Copies the values of variables into arrays, into those of `into` where it has them."""
    for name, variable in named:
        # TensorFlow gives a view of the very memory that the next step writes; Keras would copy it twice.
        tensor = variable.value
        value = np.asarray(tensor.read_value() if hasattr(tensor, "read_value") else tensor)
        if name in into:
            np.copyto(into[name], value)
        else:
            into[name] = np.array(value, copy=True)
    return into


def _state_variables(
    network: keras.Model, optimizer: keras.optimizers.Optimizer
) -> Iterator[tuple[str, Any]]:
    """Names and variables other than the weights: dropout's seed generators, then the optimizer's."""
    own = {id(v) for v in network.weights}
    for variable in network.variables:
        if id(variable) not in own:
            yield f"seed/{variable.path}", variable
    for variable in optimizer.variables:
        yield f"optimizer/{variable.path}", variable


def training_arrays(
    network: keras.Model, optimizer: keras.optimizers.Optimizer, into: Arrays | None = None
) -> Arrays:
    """A copy of every array of a run: weights, the optimizer's variables, seed generators.

    Args:
      network, optimizer: of the run.
      into: an earlier copy whose memory is used again: to touch half a gigabyte for the first time takes
        longer than to copy it.
    """
    named = itertools.chain(_weights(network), _state_variables(network, optimizer))
    return _copied(named, {} if into is None else into)


def restore_network(network: keras.Model, arrays: Arrays, where: str) -> None:
    """Loads a network's weights from a checkpoint's arrays.

    Raises:
      UserError: the arrays belong to another network, or to one of another number of classes.
    """
    named = list(_weights(network))
    last, variable = named[-1]  # the bias of the layer of the classes
    if (
        last in arrays
        and arrays[last].ndim == len(variable.shape) == 1
        and len(arrays[last]) != variable.shape[0]
    ):
        raise UserError(
            f"{where}: the checkpoint tells {len(arrays[last])} classes apart, and the run lists "
            f"{variable.shape[0]}; take the class_ids.txt and labels.txt that the run was trained with"
        )
    _assign(named, arrays, where)


def restore_training(
    network: keras.Model, optimizer: keras.optimizers.Optimizer, arrays: Arrays, where: str
) -> None:
    """Loads a network and its optimizer from a checkpoint's arrays; the inverse of `training_arrays`.

    Raises:
      UserError: the arrays belong to another network.
    """
    restore_network(network, arrays, where)
    _assign(list(_state_variables(network, optimizer)), arrays, where)


def _assign(named: list[tuple[str, Any]], arrays: Arrays, where: str) -> None:
    arrays = split_halves(arrays, [name for name, _ in named])
    for name, variable in named:
        if name not in arrays or arrays[name].shape != tuple(variable.shape):
            received = f"shape {arrays[name].shape}" if name in arrays else "nothing"
            raise UserError(
                f"{where}: the checkpoint of another network: {name} must have shape "
                f"{tuple(variable.shape)}; received {received}"
            )
    for name, variable in named:
        variable.assign(arrays[name])


class Trained(NamedTuple):
    """A run's network, and the number of updates of its weights."""

    network: keras.Model
    step: int


def load_network(run: Run, which: str = "best") -> Trained:
    """Builds a run's network in float32, without devices or compiled parts, with its weights.

    Weights and step come from one reading of one file: a training may save others at any moment.

    float32 whatever it was trained in: where bfloat16 is emulated it would take ten times as long, and a
    network's predictions should not depend on the machine.

    Args:
      run: the run folder.
      which: `best` (lowest validation error; the newest where there was no evaluation) or `newest`.

    Raises:
      UserError: the run has no checkpoint, or a damaged one.
    """
    with progress.phase("loading the network"):
        return _load_network(run, which)


def _load_network(run: Run, which: str) -> Trained:
    from alexnet_tf import model

    best = run.checkpoint_dir / BEST
    if which == "best" and best.exists():
        (arrays, state), where = read(best), str(best)
    else:
        found = Checkpoints(run.checkpoint_dir).load_newest()
        if found is None:
            raise UserError(f"{run.workdir}: the run has no checkpoint yet; train it first")
        (arrays, state), where = found, str(run.checkpoint_dir)
    network = model.build(run.recipe.variant, len(run.class_names), dropout_rate=run.recipe.dropout_rate)
    restore_network(network, arrays, where)
    return Trained(network, int(state["step"]))


def join_halves(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Joins the halves of fc6 and fc7 by columns, weights and velocities alike.

    Args:
      arrays: by their names in a checkpoint.

    Returns:
      The arrays of the network on one device. Of the halves' dropout seeds, which are the same, one.

    Raises:
      UserError: half of a pair is missing.
    """
    joined: Arrays = {}
    for name, array in arrays.items():
        match = _HALF.search(name)
        if match is None:
            joined[name] = array
        elif match.group(2) == "a":
            other = _HALF.sub(r"\1_b", name)
            if other not in arrays:
                raise UserError(
                    f"checkpoint: {other} is missing beside {name}; take the checkpoint before it"
                )
            whole = array if _is_seed(match) else np.concatenate([array, arrays[other]], axis=-1)
            joined[_HALF.sub(r"\1", name)] = whole
    return joined


def split_halves(arrays: Mapping[str, np.ndarray], names: Iterable[str]) -> Arrays:
    """Splits fc6 and fc7 into halves for a network that has them so; the inverse of `join_halves`.

    Args:
      arrays: of the network on one device, by their names in a checkpoint.
      names: all that is wanted, such as `network/fc6_a/kernel`; a name without its whole in `arrays` is
        left out.

    Returns:
      `arrays` with the wholes of wanted halves replaced by them.
    """
    split = dict(arrays)
    for name in names:
        match = _HALF.search(name)
        whole_name = _HALF.sub(r"\1", name)
        if match is None or whole_name not in arrays:
            continue
        whole = arrays[whole_name]
        split.pop(whole_name, None)
        index = "ab".index(match.group(2))
        split[name] = whole if _is_seed(match) else np.split(whole, 2, axis=-1)[index]
    return split


def _is_seed(match: re.Match[str]) -> bool:
    return match.group(1).startswith("dropout")
