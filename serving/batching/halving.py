"""Finds the one bad request of a batch that was refused: by halves, until it stands alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from serving.errors import Code, ServingError

T = TypeVar("T")


def run_in_halves(
    items: Sequence[T],
    run: Callable[[Sequence[T]], None],
    refuse: Callable[[T, ServingError], None],
    is_pending: Callable[[T], bool] = lambda item: True,
) -> None:
    """Runs a batch; if it is refused for what is in it, runs each half by itself, and so on.

    Only INVALID_ARGUMENT can be the fault of one item among others. A batch of n items takes at most 2n - 1
    runs when all are bad, and 2 log2(n) + 1 with a single bad one.

    Args:
      items: the batch, in order; parts of it run in that order.
      run: runs a part of the batch and takes care of its answers.
      refuse: takes care of an item that was refused alone, and of the error.
      is_pending: whether an item still needs a run; called before each.

    Raises:
      ServingError: of `run`, but for INVALID_ARGUMENT.
    """
    pending = [item for item in items if is_pending(item)]
    if not pending:
        return
    try:
        run(pending)
    except ServingError as error:
        if error.code is not Code.INVALID_ARGUMENT:
            raise
        if len(pending) == 1:
            refuse(pending[0], error)
            return
    else:
        return
    middle = len(pending) // 2
    for half in (pending[:middle], pending[middle:]):
        run_in_halves(half, run, refuse, is_pending)
