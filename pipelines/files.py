"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

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
