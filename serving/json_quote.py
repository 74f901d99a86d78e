"""JSON values as they are quoted in error messages, and the names of their types."""

from __future__ import annotations

import itertools
import json
import json.encoder
from collections.abc import Iterator
from typing import Any

from serving.errors import ServingError, invalid
from serving.json_text import number_text

QUOTED_BYTES = 256
CUT = "..."
INDENTATION = "    "


def quote(value: Any) -> str:
    """A value as indented JSON, cut after 256 bytes; as little of it is written as that needs."""
    pieces, length = [], 0
    for piece in _pieces(value):
        pieces.append(piece)
        length += len(piece)
        if length > QUOTED_BYTES:
            break
    text = "".join(pieces)
    encoded = text.encode("utf-8", "surrogateescape")
    if len(encoded) <= QUOTED_BYTES:
        return text
    return encoded[:QUOTED_BYTES].decode("utf-8", "ignore") + CUT


def type_name(value: Any) -> str:
    """RapidJSON's name of a value's type."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, (int, float)):
        return "Number"
    if isinstance(value, str):
        return "String"
    return "Array" if isinstance(value, list) else "Object"


def format_error(value: Any, complaint: str) -> ServingError:
    """`JSON Value: V COMPLAINT`."""
    return invalid(f"JSON Value: {quote(value)} {complaint}")


def _pieces(value: Any) -> Iterator[str]:
    """A value's text in pieces, without recursion: bodies may be nested ten thousand deep."""
    stack: list[Iterator[Any]] = [iter([("", value)])]
    closers = [""]
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
            closer = closers.pop()
            if closer:
                yield f"\n{INDENTATION * (len(stack) - 1)}{closer}"
            continue
        before, item = entry
        yield before
        if not isinstance(item, (list, dict)) or not item:
            yield _scalar(item)
            continue
        yield "[" if isinstance(item, list) else "{"
        stack.append(_members(item, f"\n{INDENTATION * len(stack)}"))
        closers.append("]" if isinstance(item, list) else "}")


def _members(container: list[Any] | dict[str, Any], line: str) -> Iterator[tuple[str, Any]]:
    """Every element with what stands before it."""
    commas = itertools.chain(("",), itertools.repeat(","))
    if isinstance(container, list):
        return ((comma + line, item) for comma, item in zip(commas, container, strict=False))
    return (
        (f"{comma}{line}{_string(key)}: ", item)
        for comma, (key, item) in zip(commas, container.items(), strict=False)
    )


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, (list, dict)):
        return "[]" if isinstance(value, list) else "{}"
    return json.dumps(value)


def _string(value: str) -> str:
    return json.encoder.encode_basestring(value[: QUOTED_BYTES + 1])
