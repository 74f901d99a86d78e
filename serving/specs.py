"""Names of things: which model a request means, which version it is, and in which state."""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

from serving.errors import Code

DEFAULT_SIGNATURE = "serving_default"
# What absl::SimpleAtoi takes for a number: a sign, and the digits after leading zeros, 19 at most for int64.
_VERSION = re.compile(r"[ \t\n\v\f\r]*([+-]?)0*([0-9]{1,19})[ \t\n\v\f\r]*")
_INT64 = range(-(2**63), 2**63)


class ModelSpec(NamedTuple):
    """Which model a request means, as tensorflow_serving/apis/model.proto says it.

    Attributes:
      name: the model's.
      version: this version alone; None for the label's, or the latest available one.
      label: the version that the configuration gives this label; never set beside `version`.
      signature_name: empty for `serving_default`.
    """

    name: str
    version: int | None = None
    label: str | None = None
    signature_name: str = ""


class ServableId(NamedTuple):
    """One version of one model; as text `{name: M version: V}`, TF Serving's way."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{{name: {self.name} version: {self.version}}}"


class State(enum.IntEnum):
    """tensorflow_serving/apis/get_model_status.proto."""

    UNKNOWN = 0
    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


class VersionStatus(NamedTuple):
    """What GetModelStatus tells of a version; `code` is OK unless its loading failed."""

    version: int
    state: State
    code: Code = Code.OK
    message: str = ""


def version_number(name: str) -> int | None:
    """The version in a folder's name: `7` and `007` are both 7; None for `7.tmp`, `_7`, `7e2`.

    Of two folders with one version the server takes the one whose name comes last in order of text.
    """
    match = _VERSION.fullmatch(name)
    if match is None:
        return None
    number = int(match[1] + match[2])
    return number if number in _INT64 else None
