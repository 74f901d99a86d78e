"""Files and folders that appear whole or not at all, and folders that one process writes at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import DataError

if TYPE_CHECKING:
    pass


# What an interrupted write leaves behind; nothing reads files of this name.
PART_SUFFIX = ".part"
# What stands before it is drawn: the process of another container may have the same number.
PART_NAME = re.compile(r".+\.[0-9a-f]+\.part", re.DOTALL)
# In a folder that is being written, held until the folder has its own name.
LOCK_NAME = ".writing"
# Where locks cannot tell whether a writer is still there, it has ended if this long nothing was written.
STALE_SECONDS = 86_400.0


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a temporary path beside `path`; what the block writes there takes the place of `path`.

    When the block raises, `path` stays as it was and the temporary file is removed. What killed processes
    have left of the same file goes first.
    """
    path = Path(path)
    _remove_left(path.parent, f"{path.name}.")
    with contextlib.ExitStack() as stack:
        temporary = _begin_file(path, stack)
        stack.callback(temporary.unlink, missing_ok=True)
        with naming(path):
            yield temporary
            os.replace(temporary, path)


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Has errors from writing, which name no file (a full disk, above all), name this one."""
    try:
        yield
    except OSError as error:
        # A pipe that nobody reads, or a connection, is none of the file's.
        if error.filename is None and not isinstance(error, ConnectionError):
            error.filename = str(path)
        raise


@contextlib.contextmanager
def appearing(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a folder to write into that becomes `folder` at the end, or vanishes when the block raises.

    What killed processes have left of folders beside it goes first.

    Raises:
      OSError: `folder` exists already, with something in it.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_parts(folder.parent)
    with scratch(folder) as temporary:
        yield temporary
        name_scratch(temporary, folder)


def name_scratch(temporary: Path, folder: Path) -> None:
    """Gives a folder of `scratch` its own name.

    Raises:
      FileExistsError: `folder` exists already, with something in it.
    """
    try:
        os.rename(temporary, folder)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder)) from None
        raise
    (folder / LOCK_NAME).unlink(missing_ok=True)


@contextlib.contextmanager
def scratch(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a folder beside `path` that vanishes with the block; in it lies LOCK_NAME.

    What killed processes have left of the same name goes first.
    """
    path = Path(path)
    _remove_left(path.parent, f"{path.name}.")
    with contextlib.ExitStack() as stack:
        temporary = _begin_folder(path, stack)
        stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        with naming(path):
            yield temporary


def remove_parts(folder: str | os.PathLike[str]) -> None:
    """Removes what killed processes have half written in a folder; what is still being written stays."""
    _remove_left(Path(folder), "")


def _remove_left(folder: Path, beginning: str) -> None:
    """Removes parts whose names begin so and whose writers have ended."""
    try:
        names = [name for name in os.listdir(folder) if name.startswith((beginning, f".{beginning}"))]
    except FileNotFoundError:
        return
    for name in names:
        path = folder / name
        if not PART_NAME.fullmatch(name):
            continue
        with _ended(path) as ended:
            if ended and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif ended:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def _ended(path: Path) -> Iterator[bool]:
    """Whether nobody writes a part any more; while the block runs, nobody begins to."""
    try:
        lock = path / LOCK_NAME if path.is_dir() else path
        descriptor = os.open(lock, os.O_RDWR)
    except FileNotFoundError:  # it is gone, or a folder of an older release, or one that is just being made
        yield not path.name.startswith(".")
        return
    except OSError:  # somebody else's
        yield False
        return
    try:
        held = _locked(descriptor)
        yield time.time() - os.fstat(descriptor).st_mtime > STALE_SECONDS if held is None else held
    finally:
        os.close(descriptor)


def _begin_file(path: Path, stack: contextlib.ExitStack) -> Path:
    """An empty temporary file beside `path`, locked until the stack is closed."""
    while True:
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PART_SUFFIX}")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if _keep(descriptor, stack):
            return temporary


def _begin_folder(folder: Path, stack: contextlib.ExitStack) -> Path:
    """An empty temporary folder beside `folder`, locked until the stack is closed."""
    while True:
        temporary = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}{PART_SUFFIX}")
        hidden = temporary.with_name(f".{temporary.name}")  # until it is locked
        hidden.mkdir()
        descriptor = os.open(hidden / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if _keep(descriptor, stack):
            os.rename(hidden, temporary)
            return temporary


def _keep(descriptor: int, stack: contextlib.ExitStack) -> bool:
    """Locks what was just made; whether it is still there, since another process may just have swept."""
    if os.name != "posix":  # an open file could not be renamed
        os.close(descriptor)
        return True
    stack.callback(os.close, descriptor)
    _locked(descriptor, wait=True)
    return os.fstat(descriptor).st_nlink > 0


def _locked(descriptor: int, *, wait: bool = False) -> bool | None:
    """Locks an open file until it is closed: False when another has it, None where there are no locks."""
    try:
        import fcntl
    except ImportError:  # no POSIX system
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


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
    with open(path, "a+", encoding="utf-8") as file:
        if _locked(file.fileno()) is False:
            file.seek(0)
            holder = file.read(100).strip() or "another process"
            raise DataError(
                f"{Path(path).parent}: {what} is under way there already ({holder}); "
                "let it end or choose another folder"
            )
        file.truncate(0)
        file.write(f"process {os.getpid()}\n")
        file.flush()
        yield


def write_text(path: Path, text: str) -> None:
    """Writes a small file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def numbered(folder: Path) -> dict[int, Path]:
    """Entries of an existing folder whose names are decimal numbers, as the versions of a model are.

    Only ASCII digits count, as for TensorFlow Serving.
    """
    entries = (path for path in folder.iterdir() if path.name.isascii() and path.name.isdecimal())
    return {int(path.name): path for path in entries}
