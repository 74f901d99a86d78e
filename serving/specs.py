"""Model specs, servable ids, version states and version numbers, as TF Serving defines them."""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

from serving.errors import Code

DEFAULT_SIGNATURE = "serving_default"
# What absl::SimpleAtoi accepts: a sign, and after leading zeros at most 19 digits for an int64.
_VERSION = re.compile(r"[ \t\n\v\f\r]*([+-]?)0*([0-9]{1,19})[ \t\n\v\f\r]*")
_INT64 = range(-(2**63), 2**63)


class ModelSpec(NamedTuple):
    """Which model and version a request means; ModelSpec of tensorflow_serving/apis/model.proto.

    Attributes:
      name: the model's.
      version: the version's number; None for the label's version, or else the latest available one.
      label: a version label of the configuration; never set together with `version`.
      signature_name: empty for `serving_default`.
    """

    name: str
    version: int | None = None
    label: str | None = None
    signature_name: str = ""


class ServableId(NamedTuple):
    """The id of one version of a model; as text `{name: M version: V}`, as in TF Serving."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{{name: {self.name} version: {self.version}}}"


class State(enum.IntEnum):
    """The state of a version (ModelVersionStatus.State of tensorflow_serving/apis/get_model_status.proto)."""

    UNKNOWN = 0
    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


class VersionStatus(NamedTuple):
    """The status of a version as in GetModelStatus; `code` is OK unless its loading failed."""

    version: int
    state: State
    code: Code = Code.OK
    message: str = ""


def version_number(name: str) -> int | None:
    """The version number in a folder's name: `7` and `007` are both 7; None for `7.tmp`, `_7`, `7e2`.

    Of two folders with one version the server takes the one whose name comes last in order of text.
    """
    match = _VERSION.fullmatch(name)
    if match is None:
        return None
    number = int(match[1] + match[2])
    return number if number in _INT64 else None
