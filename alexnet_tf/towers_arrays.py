"""Checkpoints know one network, however it is laid out: arrays of the halves to the whole, and back.

The towers' fc6 and fc7 are two halves each (`fc6_a`, `fc6_b`). In a checkpoint they are whole, so that a
run goes on on other devices. Names of every other network pass through unchanged. No TensorFlow import.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from pipelines.errors import UserError

Arrays = dict[str, np.ndarray]
# The half of a layer in `network/fc6_a/kernel`, `optimizer/paper_momentum/fc6_a_kernel_velocity` and
# `seed/dropout6_a_seed/seed_generator_state`; towers of convolutions are layers of their own.
_HALF = re.compile(r"(?<=/)(fc[67]|dropout[67])_([ab])(?=[/_])")


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
    """Gives halves to a network that has them; the inverse of `join_halves`.

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
