"""Pictures in tar archives: listed by the archives' headers, read in place where they lie.

Nothing in these archives is compressed, so that a picture lies whole at one place of the outer file, also
when an archive lies in another.
"""

from __future__ import annotations

import contextlib
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple, cast

import tensorflow as tf

from pipelines.errors import DataError
from pipelines.sources.source import encode_key

# Zeros that may follow an archive's last member: tar fills up its last record, of 10 kB where nobody says
# otherwise. More is the part of a file that was never fetched.
MOST_PADDING = 2**20


class Member(NamedTuple):
    """A file in an archive.

    Attributes:
      key: the picture's in its source.
      archive: path of the outermost file.
      offset, size: of the content there, in bytes.
    """

    key: str
    archive: Path
    offset: int
    size: int


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tarfile.TarFile]:
    """An archive for `members_of`.

    Raises:
      DataError: the archive is damaged, also when this shows while it is read.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            yield archive
    except tarfile.TarError as error:
        raise DataError(f"{path}: damaged archive ({error}); fetch it again") from None


@contextlib.contextmanager
def opened_within(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[tarfile.TarFile]:
    """An archive that is a member of another; its members' offsets count from its own beginning."""
    content = archive.extractfile(member)
    try:
        with tarfile.open(fileobj=content, mode="r:") as inner:
            yield inner
    except tarfile.TarError as error:
        raise tarfile.ReadError(f"{member.name} in it: {error}") from None


def members_of(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """What an archive holds, up to its end: a block of zeros, and nothing but zeros behind it.

    `tarfile` takes anything that is no header for the end, and so loses what follows a damaged one.

    Raises:
      tarfile.ReadError: the archive is damaged or cut short.
    """
    yield from archive
    file = cast("IO[bytes]", archive.fileobj)
    file.seek(archive.offset)
    rest = file.read(MOST_PADDING + 1)
    if len(rest) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"it is cut short at byte {archive.offset}")
    if any(rest[: tarfile.BLOCKSIZE]):
        raise tarfile.ReadError(f"no header at byte {archive.offset}")
    if any(rest):
        raise tarfile.ReadError(f"more after its end at byte {archive.offset}")
    if len(rest) > MOST_PADDING:
        raise tarfile.ReadError(f"only zeros from byte {archive.offset} on, as if fetched in part")


def reader(members: Sequence[Member]) -> Callable[[tf.Tensor], tf.Tensor]:
    """A graph function from a member's key (string scalar) to its content (string scalar).

    Args:
      members: with keys that differ.
    """
    keys, paths, offsets, sizes = zip(*members, strict=True)
    row_of = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(
            tf.constant([encode_key(key) for key in keys]), tf.range(len(keys), dtype=tf.int64)
        ),
        default_value=-1,
    )
    # Absolute: a data service may have another working directory.
    archives = tf.constant([os.fsencode(path.absolute()) for path in paths])
    lengths = {path: path.stat().st_size for path in set(paths)}
    places = tf.constant([offsets, sizes, [lengths[path] for path in paths]], tf.int64)

    def read(key: tf.Tensor) -> tf.Tensor:
        row = row_of.lookup(key)
        offset, size, total = tf.unstack(tf.gather(places, row, axis=1))
        # The only reader of TensorFlow that starts in the middle of a file.
        return tf.data.FixedLengthRecordDataset(
            tf.gather(archives, row),
            record_bytes=size,
            header_bytes=offset,
            footer_bytes=total - offset - size,
        ).get_single_element()

    return read
