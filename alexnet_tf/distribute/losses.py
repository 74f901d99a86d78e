"""Errors with which the loss of a worker ends the others, and their exit statuses; no TensorFlow import."""

from __future__ import annotations

import asyncio
import socket

from pipelines.command import EXIT_TRY_AGAIN, EXIT_USER_ERROR
from pipelines.errors import DataError, UserError

EXIT_PEER_LOST = EXIT_TRY_AGAIN
CURE = "start all workers again: the run goes on from its last checkpoint"


class PeerLost(UserError):
    """Another worker is missing or has gone; nothing is wrong with this one's settings."""

    exit_status = EXIT_PEER_LOST


class PeerMistaken(PeerLost):
    """Another worker has stopped for its settings, data or folder; to start again would not help."""

    exit_status = EXIT_USER_ERROR


def describe(error: BaseException) -> str:
    """The reason why a worker could not be reached, in words."""
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(error, socket.gaierror):
        return "its name is not known here"
    return "no answer" if isinstance(error, asyncio.TimeoutError) else str(error)


def is_mistake(error: BaseException) -> bool:
    """Whether an error that ends a worker is one of its user's, which ends the others for good, too."""
    user_s = isinstance(error, (UserError, DataError))
    return user_s and getattr(error, "exit_status", EXIT_USER_ERROR) == EXIT_USER_ERROR
