"""TensorBoard summaries, where TensorBoard is installed; silently nothing elsewhere."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
import tensorflow as tf

from alexnet_tf.visualize import filters


class Board:
    """Writes scalars and the conv1 kernels under `workdir/tensorboard`.

    Args:
      workdir: the run folder.
      active: False for a process that writes nothing.
    """

    def __init__(self, workdir: Path, *, active: bool = True) -> None:
        writes = active and importlib.util.find_spec("tensorboard") is not None
        self.writer = tf.summary.create_file_writer(str(workdir / "tensorboard")) if writes else None

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.writer is not None:
            self.writer.close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one point of each curve."""
        if self.writer is None:
            return
        with self.writer.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def conv1(self, step: int, kernels: np.ndarray) -> None:
        """Writes conv1's kernels, [k, k, 3, filters], as one picture."""
        if self.writer is None:
            return
        with self.writer.as_default(step):
            tf.summary.image("conv1", filters.tile(filters.unit_kernels(kernels), magnification=4)[None])
