"""Settings as dataclass fields that describe themselves; no TensorFlow import.

`setting` makes such a field: its meaning, default and legal values stand once, there. From them come the
check of a value, a line of `--help`, a row of the documentation's table, and the report's words.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator
from typing import Any, ClassVar, NamedTuple, Protocol


class Settings(Protocol):
    """A dataclass of `setting` fields."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


class Legal(Protocol):
    """Which values a field may have."""

    def complaint(self, value: Any) -> str:
        """What an error says of a value, after "must"; empty for a legal one."""

    def __str__(self) -> str:
        """The legal values in a few words."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Legal values of a number.

    Attributes:
      holds: whether a value is legal; false for NaN.
      must: what a legal value must do, such as `be positive`.
    """

    holds: Callable[[float], bool]
    must: str

    def complaint(self, value: float) -> str:
        return "" if self.holds(value) else f"{self.must}; received {value}"

    def __str__(self) -> str:
        return self.must.removeprefix("be ").removeprefix("lie ")


@dataclasses.dataclass(frozen=True)
class OneOf:
    """Legal values of a text: one of some names, which are read anew at each check."""

    names: Collection[str]

    def complaint(self, value: str) -> str:
        return "" if value in self.names else f"be one of {', '.join(self.names)}; received {value!r}"

    def __str__(self) -> str:
        return ", ".join(self.names)


POSITIVE = Range(lambda x: 0 < x < math.inf, "be positive")
NOT_NEGATIVE = Range(lambda x: 0 <= x < math.inf, "be 0 or more")
BELOW_ONE = Range(lambda x: 0 <= x < 1, "lie in [0, 1)")
UP_TO_ONE = Range(lambda x: 0 < x <= 1, "lie in (0, 1]")
BETWEEN = Range(lambda x: 0 < x < 1, "lie between 0 and 1")
ONE_OR_MORE = Range(lambda x: 1 <= x < math.inf, "be 1 or more")
# What every field must keep to: whole numbers are computed with as int64, a thousand times as large at most,
# and are exact in JSON; other numbers are float32 in the end.
LARGEST: dict[type, float] = {int: 2**53, float: 3.4e38}

_KINDS = {bool: "true or false", int: "whole number", float: "number", str: ""}


def setting(
    default: bool | float | str, meaning: str, legal: Legal | None = None, *, more: str = "", **marks: object
) -> Any:
    """A dataclass field that describes itself.

    Args:
      default: its value where nobody sets one; of type bool, int, float or str.
      meaning: in a few words, with unit and source.
      legal: which values it may have; None for all of its type.
      more: what somebody has to know who sets it.
      **marks: further entries of the field's metadata.
    """
    return dataclasses.field(
        default=default, metadata={"meaning": meaning, "legal": legal, "more": more, **marks}
    )


def check(settings: Settings, error: type[ValueError], of: type[Settings] | None = None) -> None:
    """Makes sure that all values are legal.

    Args:
      settings: what to check.
      error: raised for the first value that is not legal.
      of: a base class whose fields are checked alone; None for all fields.
    """
    for field in dataclasses.fields(of or settings):
        legal: Legal | None = field.metadata["legal"]
        value = getattr(settings, field.name)
        complaint = (legal.complaint(value) if legal else "") or _beyond(type(field.default), value)
        if complaint:
            raise error(f"`{field.name}` must {complaint}")


def _beyond(kind: type, value: Any) -> str:
    """The complaint about a number that is too large to compute with; empty for others."""
    most = LARGEST.get(kind, math.inf)
    if kind not in LARGEST or -most <= value <= most:
        return ""
    return f"lie between {-most} and {most}; received {value}"


class Description(NamedTuple):
    """A field in words.

    Attributes:
      name: the field's.
      meaning: in a few words.
      more: what somebody has to know who sets it; may be empty.
      default: as text.
      legal: its legal values.
    """

    name: str
    meaning: str
    more: str
    default: str
    legal: str


def describe(settings: type[Settings]) -> Iterator[Description]:
    """The fields of a dataclass in words, in order."""
    for field in dataclasses.fields(settings):
        words = [_KINDS[type(field.default)], str(field.metadata["legal"] or "")]
        meaning, more = field.metadata["meaning"], field.metadata["more"]
        yield Description(field.name, meaning, more, worded(field.default), ", ".join(filter(None, words)))


def worded(value: object) -> str:
    """A value as `--set` takes it: `true`, `0.0005`, `image`."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
