"""A log that a thread which looks every second does not flood."""

from __future__ import annotations

import logging
import time

log = logging.getLogger("serving")

AGAIN_SECONDS = 60.0


class Notices:
    """Says a thing about a subject once, and again each minute while it lasts; not thread-safe."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[str, float]] = {}

    def say(self, subject: str, level: int, text: str) -> None:
        """Logs `text` unless it is what was said last of `subject`; empty when all is well again."""
        if not text:
            self._said.pop(subject, None)
            return
        now = time.monotonic()
        last, when = self._said.get(subject, ("", 0.0))
        if text != last or now - when >= AGAIN_SECONDS:
            self._said[subject] = (text, now)
            log.log(level, "%s", text)
