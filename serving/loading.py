"""One load and one unload of a servable: whatever they raise becomes an answer, and memory goes back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from serving import process_memory
from serving.errors import Code, ServingError, from_tensorflow
from serving.specs import ServableId

if TYPE_CHECKING:
    from serving.servable import Servable

log = logging.getLogger("serving")

Load = Callable[[ServableId, str], "Servable"]


def load(loader: Load, servable_id: ServableId, path: str) -> tuple[Servable | None, ServingError | None]:
    """Tries to load a version folder.

    Returns:
      The servable, or why there is none; either is None.
    """
    log.info("Loading servable version %s from %s", servable_id, path)
    try:
        return loader(servable_id, path), None
    except BaseException as error:  # what others put into a folder must not end a thread
        if not isinstance(error, ServingError):
            log.debug("Loading %s raised", servable_id, exc_info=True)
        failure = _as_serving_error(error)
    # Only now that the error is gone are the frames that it held, and the half of a model in them.
    process_memory.give_back()
    return None, failure


def unload(servable: Servable, servable_id: ServableId) -> None:
    """Closes a servable that nobody holds; the caller must let go of it for its memory to be free."""
    try:
        servable.close()
    except BaseException as error:  # noqa: BLE001 - the version is gone all the same
        log.error("Unloading servable version %s: %s: %s", servable_id, type(error).__name__, error)


def _as_serving_error(error: BaseException) -> ServingError:
    """A new error without the frames of the old one, which live as long as a status is shown."""
    if isinstance(error, ServingError):
        return ServingError(error.code, error.message)
    # TensorFlow's own, told by its attributes so that it need not be imported here.
    if hasattr(error, "error_code") and hasattr(error, "message"):
        return from_tensorflow(error)
    return ServingError(Code.UNKNOWN, f"{type(error).__name__}: {error}")
