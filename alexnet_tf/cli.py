"""What every command shares: `pipelines.command`, for UserError too. No TensorFlow import."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from alexnet_tf.errors import UserError
from pipelines import command
from pipelines.command import add_json_flag, describe_os_error, quiet_tensorflow
from pipelines.config import DataError

__all__ = ["add_json_flag", "describe_os_error", "quiet_tensorflow", "run"]


def run(
    body: Callable[[], dict[str, Any]],
    *,
    as_json: bool = False,
    tensorflow: bool = True,
    outlives_reader: bool = False,
) -> int:
    """Runs a command's body; see `pipelines.command.run`."""
    return command.run(
        body,
        as_json=as_json,
        user_errors=(UserError, DataError),
        tensorflow=tensorflow,
        outlives_reader=outlives_reader,
    )
