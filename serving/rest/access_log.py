"""The access log: one line with a JSON object for each request."""

from __future__ import annotations

import datetime
import json
import logging
import threading
from typing import BinaryIO

STDOUT = "-"

log = logging.getLogger("serving")


class AccessLog:
    """Appends lines to a file, or prints them to stdout.

    A full disk, or a stdout without a reader, is logged once and fails no request.

    Args:
      path: the file, or `-` for stdout.

    Raises:
      OSError: the file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._failed = False
        # Unbuffered: a buffer would keep what a full disk refuses, and grow.
        self._file: BinaryIO | None = None if path == STDOUT else _open_for_append(path)

    def write(
        self,
        *,
        method: str,
        path: str,
        status: int,
        bytes_in: int,
        bytes_out: int,
        seconds: float,
        model: str,
        client: str,
    ) -> None:
        """Writes the line of a request.

        Args:
          method: as sent.
          path: as sent, with the query string.
          status: HTTP's; 0 when the client disconnected before the answer.
          bytes_in: size of the body as it was sent.
          bytes_out: size of the answer's body.
          seconds: from the end of the request's header to the answer.
          model: its name; empty where the request named none.
          client: the client's address.
        """
        now = datetime.datetime.now(datetime.timezone.utc)
        line = json.dumps(
            {
                "time": now.isoformat(timespec="milliseconds"),
                "method": method,
                "path": path,
                "status": status,
                "bytes_in": bytes_in,
                "bytes_out": bytes_out,
                "seconds": round(seconds, 6),
                "model": model,
                "client": client,
            }
        )
        with self._lock:
            try:
                if self._file is not None:
                    self._file.write(line.encode() + b"\n")
                else:
                    print(line, flush=True)
                self._failed = False
            except (OSError, ValueError) as error:  # ValueError: closed
                if not self._failed:
                    log.error("access log %s: %s", self._path, error)
                self._failed = True

    def close(self) -> None:
        """Closes the file; stdout stays open."""
        with self._lock:
            if self._file is not None:
                self._file.close()


def _open_for_append(path: str) -> BinaryIO:
    return open(path, "ab", buffering=0)
