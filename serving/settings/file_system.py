"""Reads files and folders: local paths directly, URIs such as gs://bucket/model through TensorFlow.

Local paths do without TensorFlow, so that a configuration is checked before TensorFlow is loaded, and because
a folder that is polled every second should cost one system call.
"""

from __future__ import annotations

import errno
import os
import re

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")


def is_uri(path: str) -> bool:
    """Whether `path` is a URI: `gs://bucket/model`, `s3://...`, `file:///...`."""
    return _SCHEME.match(path) is not None


def is_absolute(path: str) -> bool:
    """Whether `path` is an absolute path or a URI, independent of the current folder."""
    return is_uri(path) or path.startswith("/")


def join(folder: str, name: str) -> str:
    """`folder/name`, with one slash between them; URIs take forward slashes on every system."""
    return f"{folder.rstrip('/')}/{name}"


def _checked(path: str) -> str:
    """`path`; raises FileNotFoundError for one with a NUL, for which Python would raise ValueError."""
    if "\0" in path:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return path


def children(folder: str) -> list[str]:
    """Names of the folders in `folder`; for a URI, names of files may be among them.

    Raises:
      OSError: the folder is missing, is no folder, or cannot be read.
    """
    if not is_uri(folder):
        with os.scandir(_checked(folder)) as entries:
            return [entry.name for entry in entries if entry.is_dir()]
    import tensorflow as tf

    try:
        if not tf.io.gfile.isdir(folder):
            raise FileNotFoundError(f"{folder} not found")
        # Object stores list folders with a trailing slash.
        return [name.rstrip("/") for name in tf.io.gfile.listdir(folder)]
    except tf.errors.OpError as error:
        raise OSError(error.message) from error


def exists(path: str) -> bool:
    """Whether there is a file or folder; False where that cannot be determined."""
    if not is_uri(path):
        return os.path.exists(path)
    import tensorflow as tf

    try:
        return bool(tf.io.gfile.exists(path))
    except tf.errors.OpError:
        return False


def read(path: str) -> bytes:
    """Reads a whole file.

    Raises:
      OSError: it is missing, is no file, or cannot be read; the text names it.
    """
    if not is_uri(path):
        with open(_checked(path), "rb") as file:
            return file.read()
    import tensorflow as tf

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            content: bytes = file.read()
    except tf.errors.NotFoundError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
    except tf.errors.OpError as error:
        raise OSError(error.message.removeprefix(f"{path}; ")) from error
    return content
