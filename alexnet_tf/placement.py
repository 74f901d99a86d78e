"""Where the network runs: one device, or a copy on each device of this machine."""

from __future__ import annotations

import tensorflow as tf

from alexnet_tf.errors import UserError

DEVICES = ("one", "mirrored")


def strategy(devices: str = "one") -> tf.distribute.Strategy:
    """The strategy under which variables are made and steps are run.

    Args:
      devices: `one` (the first GPU, or the CPU) or `mirrored` (every GPU of this machine, or every
        logical CPU where there is none; the batch is shared out between them).

    Raises:
      UserError: for another name.
    """
    if devices == "one":
        return tf.distribute.get_strategy()
    if devices == "mirrored":
        names = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in names])
    raise UserError(f"--devices must be one of {', '.join(DEVICES)}; received {devices!r}")
