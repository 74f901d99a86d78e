"""Retries with exponential back-off: which errors, how long to wait, never past the deadline.

Waits double and are drawn at random up to their length ("full jitter"), so that clients which failed
together do not come back together.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from serving.errors import Code, ServingError

T = TypeVar("T")
# A server that starts, is full, or drains before it stops. Any other error would only come again.
WORTH_ANOTHER_TRY = (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED)


class CallError(ServingError):
    """A failed call, with what its transport knows about retrying it.

    Attributes:
      final: whether a retry is useless in spite of the code: an unknown host, a certificate that is not
        trusted.
      retry_after: seconds that the server asked to wait, or None.
    """

    def __init__(
        self, code: Code, message: str, *, final: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(code, message)
        self.final = final
        self.retry_after = retry_after


class RetryPolicy(NamedTuple):
    """How often and how fast a call is retried.

    Attributes:
      retries: tries after the first.
      first_wait: seconds, the longest wait before the first of them.
      longest_wait: seconds, where the doubling stops.
    """

    retries: int = 4
    first_wait: float = 0.1
    longest_wait: float = 5.0


def call(
    attempt: Callable[[], T],
    policy: RetryPolicy,
    deadline: float,
    closed: threading.Event,
    draw: Callable[[], float] = random.random,
) -> T:
    """Calls `attempt` until it succeeds, fails for good, or the deadline or the number of retries is reached.

    Args:
      attempt: one try; raises ServingError.
      policy: how often and how fast.
      deadline: second of time.monotonic() after which there is no further try.
      closed: ends a wait early; the last error is then raised.
      draw: numbers from 0 to 1.

    Raises:
      ServingError: the last try's.
    """
    for retry in range(policy.retries + 1):
        try:
            return attempt()
        except ServingError as error:
            if retry == policy.retries or not _worth_another_try(error):
                raise
            wait = draw() * min(policy.longest_wait, policy.first_wait * 2**retry)
            wait = max(wait, getattr(error, "retry_after", None) or 0.0)
            if time.monotonic() + wait >= deadline or closed.wait(wait):
                raise
    raise ValueError(f"retries must not be negative; received {policy.retries}")


def _worth_another_try(error: ServingError) -> bool:
    return error.code in WORTH_ANOTHER_TRY and not getattr(error, "final", False)
