"""Files that appear whole or not at all, and folders that one process writes at a time."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from pipelines.config import DataError

# What an interrupted write leaves behind; nothing reads files of this name.
PART_SUFFIX = ".part"


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path beside `path`; what the block writes there takes the place of `path`.

    When the block raises, `path` stays as it was and the temporary file is removed.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}{PART_SUFFIX}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_parts(folder: str | os.PathLike[str]) -> None:
    """Removes what killed processes have half written in a folder; nobody else may write there now."""
    for path in Path(folder).glob(f"*{PART_SUFFIX}"):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Holds a lock file; the operating system frees it when the process ends, however it ends.

    A file system without locks (some network ones) holds nobody up.

    Args:
      path: the lock file; it stays behind, empty of meaning.
      what: who holds such locks, for the message.

    Raises:
      DataError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # no POSIX system
        yield
        return
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                file.seek(0)
                holder = file.read(100).strip() or "another process"
                raise DataError(
                    f"{Path(path).parent}: {what} is under way there already ({holder}); "
                    "let it end or choose another folder"
                ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()}\n")
        file.flush()
        yield
