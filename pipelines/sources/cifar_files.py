"""The files of CIFAR-10 and CIFAR-100 as arrays: those of the python release, the author's, the binary ones.

Pickles can run any code when they are opened. These are opened by a reader that knows lists, numbers, texts
and NumPy arrays of numbers, and refuses a file that asks for anything else.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipelines.errors import DataError

SIDE = 32  # pixels
_VALUES = 3 * SIDE * SIDE
_NUMBERS = re.compile(r"[uif][1248]|b1")


class Batch(NamedTuple):
    """The content of a file.

    Attributes:
      pixels: uint8 [n, 32, 32, 3], RGB.
      labels: kind (`label`, or `fine` and `coarse`) -> int64 [n].
    """

    pixels: np.ndarray
    labels: dict[str, np.ndarray]


def read_pickle(path: Path) -> Mapping[str, Any]:
    """A pickled dictionary of lists, numbers, texts and arrays.

    Raises:
      DataError: the file is damaged, or asks for more than that.
    """
    try:
        with open(path, "rb") as file:
            content = _Unpickler(file, encoding="latin1").load()
        if not isinstance(content, dict):
            raise TypeError("no dictionary")
        return {
            str(name): value.numbers() if isinstance(value, _Array) else value
            for name, value in content.items()
        }
    # What a damaged pickle may raise; a MemoryError where it announces more than there is.
    except (
        pickle.UnpicklingError,
        ArithmeticError,
        AttributeError,
        EOFError,
        ImportError,
        LookupError,
        MemoryError,
        TypeError,
        ValueError,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: not a file of CIFAR, or a damaged one ({reason}); fetch it again") from None


def read_python(path: Path, kinds: Mapping[str, str]) -> Batch:
    """A file of the python release, or one of the author's, which hold a picture in each column.

    Args:
      path: the file.
      kinds: kind of label -> its name in the file.
    """
    content = read_pickle(path)
    lacking = [name for name in ("data", *kinds.values()) if name not in content]
    if lacking:
        raise DataError(f"{path}: not a file of CIFAR: holds no {', '.join(lacking)}")
    data = np.asarray(content["data"])
    labels = {kind: _integers(path, content[name]) for kind, name in kinds.items()}
    count = len(next(iter(labels.values())))
    if data.dtype != np.uint8 or data.shape not in ((count, _VALUES), (_VALUES, count)):
        raise DataError(
            f"{path}: not a file of CIFAR: its data must be uint8 of {count} x {_VALUES}, as there are "
            f"{count} labels; received {data.dtype} of {' x '.join(map(str, data.shape))}"
        )
    return Batch(_pixels(data if data.shape == (count, _VALUES) else data.T), labels)


def read_binary(path: Path, kinds: Mapping[str, str]) -> Batch:
    """A file of a binary release: for each picture its labels, a byte each, and its pixels.

    Args:
      path: the file.
      kinds: the kinds of labels in their order.
    """
    content = np.fromfile(path, np.uint8)
    size = len(kinds) + _VALUES
    if not content.size or content.size % size:
        raise DataError(
            f"{path}: damaged: must hold {size} bytes for each picture; received {content.size} bytes"
        )
    rows = content.reshape(-1, size)
    labels = {kind: rows[:, place].astype(np.int64) for place, kind in enumerate(kinds)}
    return Batch(_pixels(rows[:, len(kinds) :]), labels)


def read_lines(path: Path) -> tuple[str, ...]:
    """The names in a text, one a line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a list of class names in UTF-8 text") from None
    return tuple(line.strip() for line in lines if line.strip())


def _pixels(rows: np.ndarray) -> np.ndarray:
    """uint8 [n, 3072], a channel after another -> [n, 32, 32, 3]."""
    return np.ascontiguousarray(rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))


def _integers(path: Path, labels: Any) -> np.ndarray:
    try:
        return np.asarray(labels, np.float64).astype(np.int64).reshape(-1)
    except (TypeError, ValueError):
        raise DataError(f"{path}: not a file of CIFAR: its labels are no numbers") from None


class _Array:
    """A pickled array: what NumPy would have been given to build it."""

    def __init__(self, state: tuple[Any, ...] = ()) -> None:
        self._state = state

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._state = state

    def numbers(self) -> np.ndarray:
        """The array; raises TypeError or ValueError when it is none of numbers, or not whole."""
        _, shape, kind, by_columns, raw = self._state
        values = np.frombuffer(_bytes(raw), kind.numpy())
        return values.reshape([int(side) for side in shape], order="F" if by_columns else "C")


class _Kind:
    """A pickled data type."""

    def __init__(self, name: str, *_: Any) -> None:
        self._name, self._order = name, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._order = state[1]

    def numpy(self) -> np.dtype[Any]:
        if not _NUMBERS.fullmatch(self._name) or self._order not in ("<", ">", "|", "="):
            raise ValueError(f"numbers of the type {self._name!r}")
        return np.dtype(self._order + self._name)


def _scalar(kind: _Kind, raw: Any) -> float:
    """A pickled number of NumPy's."""
    return float(np.frombuffer(_bytes(raw), kind.numpy())[0])


def _bytes(raw: Any) -> bytes:
    """The bytes of numbers, for which Python 2 had its strings."""
    if not isinstance(raw, (str, bytes, bytearray)):
        raise TypeError(f"numbers in a {type(raw).__name__}")
    return raw.encode("latin1") if isinstance(raw, str) else bytes(raw)


def _latin1(text: str, encoding: str) -> bytes:
    """How Python 3 pickles bytes for Python 2."""
    return text.encode({"latin1": "latin1"}[encoding])


def _from_buffer(raw: bytes, kind: _Kind, shape: tuple[int, ...], order: str) -> _Array:
    """How NumPy pickles an array in protocol 5."""
    return _Array((1, shape, kind, order == "F", raw))


# All that these files may ask for: our stand-ins for NumPy's functions, whose names changed with NumPy 2.
_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): _latin1,
    ("numpy", "dtype"): _Kind,
    ("numpy", "ndarray"): _Array,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", lambda *_: _Array()),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None
