"""Reads request bodies in TF Serving's dialect of JSON.

The dialect is RapidJSON's: `NaN`, `Inf`, `Infinity` and their negatives are numbers, bytes after the first
value are ignored, depth is practically unlimited, and a number that no double can hold is an error instead of
infinity. Texts and offsets of errors are RapidJSON's too, because clients read them. No JSON library for
Python has this dialect and these errors, so the reader is written by hand.

The standard library's C scanner reads almost every body. Where it would differ, a cheap test of the body or
its own error leads to the exact reader of this module, which does not recurse.
"""

from __future__ import annotations

import json
import json.decoder
import math
import re
from typing import Any, NoReturn

from serving.errors import invalid

# A list takes 64 bytes, so a body of brackets alone would grow by that factor in memory. No tensor has more
# than 254 dimensions.
MAX_DEPTH = 1_000_000
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# A number that no double can hold has an exponent of three digits or, with at most e99 behind them, more than
# 200 digits in a row: a run so long fills one of the blocks that a body is cut into.
DIGITS_OF_LARGEST_DOUBLE = 309
BLOCK = (DIGITS_OF_LARGEST_DOUBLE - 99) // 2

SPACE = re.compile(r"[ \t\n\r]*")
# Two patterns, because one that begins with a letter is searched for ten times as fast as one with a choice.
LARGE_EXPONENTS = (re.compile(rb"e\+?[0-9]{3}"), re.compile(rb"E\+?[0-9]{3}"))
INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
FRACTION = re.compile(r"\.[0-9]+")
EXPONENT = re.compile(r"[eE][+-]?[0-9]+")
# Group 1 is half a surrogate pair without the other half; whole pairs and other escapes match without it.
ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.S
)
WORD = re.compile(r"true|false|null|-?(?:NaN|Infinity|Inf(?!i))")
WORDS = {
    "true": True,
    "false": False,
    "null": None,
    "NaN": math.nan,
    "-NaN": math.nan,
    "Infinity": math.inf,
    "-Infinity": -math.inf,
    "Inf": math.inf,
    "-Inf": -math.inf,
}


def read(body: bytes) -> Any:
    """Reads the first JSON value of a body.

    Bytes that are not UTF-8 become lone surrogates (`surrogateescape`), so that a string's bytes can be
    restored.

    Raises:
      ServingError: INVALID_ARGUMENT `JSON Parse error: REASON at offset: N`, N in bytes.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    mark = len(BYTE_ORDER_MARK) if body.startswith(BYTE_ORDER_MARK) else 0
    text = body[mark:].decode("utf-8", "surrogateescape") if mark else body.decode("utf-8", "surrogateescape")
    try:
        if not _has_lone_surrogate(text):
            return _decoder(body).raw_decode(text, _skip(text, 0))[0]
    except (ValueError, RecursionError):
        pass  # invalid, valid only in this dialect, or too deep: the exact reader decides
    return _ExactReader(text, mark).read()


def _decoder(body: bytes) -> json.JSONDecoder:
    """The standard library's decoder; with checks of every number only where one may be too large."""
    if any(pattern.search(body) for pattern in LARGE_EXPONENTS) or _has_long_number(body):
        return json.JSONDecoder(parse_float=_finite, parse_int=_storable)
    return json.JSONDecoder()


def _has_long_number(body: bytes) -> bool:
    """Whether a run of digits may be too long for a double: it would fill one of these blocks."""
    return any(body[i : i + BLOCK].isdigit() for i in range(0, len(body), BLOCK))


def _has_lone_surrogate(text: str) -> bool:
    if "\\ud" not in text and "\\uD" not in text:
        return False
    return any(match.group(1) for match in ESCAPE.finditer(text))


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(digits)
    return value


def _storable(digits: str) -> int:
    """Converts digits to an integer; ValueError for one beyond the range of doubles."""
    if len(digits) > DIGITS_OF_LARGEST_DOUBLE + 1:  # with the sign; Python may refuse to convert longer ones
        raise ValueError(digits)
    value = int(digits)
    try:
        float(value)
    except OverflowError as error:
        raise ValueError(digits) from error
    return value


def _skip(text: str, position: int) -> int:
    """The next position that is not white space."""
    return SPACE.match(text, position).end()  # type: ignore[union-attr]  # it matches everywhere


class _ExactReader:
    """Reads one text, value by value, with an explicit stack instead of recursion."""

    def __init__(self, text: str, bytes_before: int) -> None:
        self.text = text
        self.bytes_before = bytes_before
        self.position = 0
        self.stack: list[list[Any] | dict[str, Any]] = []
        self.keys: list[str] = []  # of the objects on the stack, innermost last

    def read(self) -> Any:
        self.position = _skip(self.text, 0)
        if self.position == len(self.text):
            self.fail("The document is empty.")
        while True:
            value, done = self.begin_value()
            while done:
                if not self.stack:
                    return value
                value, done = self.put(value)

    def begin_value(self) -> tuple[Any, bool]:
        """Reads a scalar or an empty container, or opens a container and returns (None, False)."""
        self.position = _skip(self.text, self.position)
        sign = self.peek()
        if sign == '"':
            return self.string(), True
        if sign not in ("[", "{"):
            return self.scalar(), True
        self.position = _skip(self.text, self.position + 1)
        if self.peek() == {"[": "]", "{": "}"}[sign]:
            self.position += 1
            return ([] if sign == "[" else {}), True
        if len(self.stack) == MAX_DEPTH:
            self.fail("Nested too deep.")
        if sign == "[":
            self.stack.append([])
        else:
            self.stack.append({})
            self.keys.append(self.name())
        return None, False

    def put(self, value: Any) -> tuple[Any, bool]:
        """Adds a value to the innermost container; returns it with True if it ends, else (None, False)."""
        container = self.stack[-1]
        self.position = _skip(self.text, self.position)
        sign = self.peek()
        if isinstance(container, list):
            container.append(value)
            if sign not in (",", "]"):
                self.fail("Missing a comma or ] after an array element.")
        else:
            container[self.keys.pop()] = value
            if sign not in (",", "}"):
                self.fail("Missing a comma or } after an object member.")
        self.position += 1
        if sign != ",":
            return self.stack.pop(), True
        if isinstance(container, dict):
            self.position = _skip(self.text, self.position)
            self.keys.append(self.name())
        return None, False

    def name(self) -> str:
        if self.peek() != '"':
            self.fail("Missing a name for object member.")
        name = self.string()
        self.position = _skip(self.text, self.position)
        if self.peek() != ":":
            self.fail("Missing a colon after a name of object member.")
        self.position += 1
        return name

    def string(self) -> str:
        begin = self.position
        value: str
        try:
            value, end = json.decoder.scanstring(self.text, begin + 1, True)  # type: ignore[attr-defined]
        except json.JSONDecodeError as error:
            self.fail_string(error)
        for match in ESCAPE.finditer(self.text, begin, end):
            if match.group(1):
                self.fail("The surrogate pair in string is invalid.", match.start())
        self.position = end
        return value

    def fail_string(self, error: json.JSONDecodeError) -> NoReturn:
        if error.msg.startswith("Unterminated"):
            self.fail("Missing a closing quotation mark in string.", len(self.text))
        if error.msg.startswith("Invalid control"):
            self.fail("Invalid encoding in string.", error.pos)
        hexadecimal = "uXXXX" in error.msg
        reason = "Incorrect hex digit after \\u escape" if hexadecimal else "Invalid escape character"
        self.fail(f"{reason} in string.", self.text.rfind("\\", 0, error.pos + 1))

    def scalar(self) -> Any:
        integer = INTEGER.match(self.text, self.position)
        if integer is not None:
            return self.number(integer.end())
        word = WORD.match(self.text, self.position)
        if word is None:
            self.fail("Invalid value.", self.position + max(map(self.shared_with, WORDS)))
        self.position = word.end()
        return WORDS[word.group()]

    def shared_with(self, word: str) -> int:
        """Length of the prefix of `word` at the current position."""
        here = self.text[self.position : self.position + len(word)]
        return next((n for n, (a, b) in enumerate(zip(here, word, strict=False)) if a != b), len(here))

    def number(self, end: int) -> float | int:
        begin, whole = self.position, True
        for part, mark, reason in (
            (FRACTION, ".", "Miss fraction part in number."),
            (EXPONENT, "eE", "Miss exponent in number."),
        ):
            match = part.match(self.text, end)
            if match is not None:
                end, whole = match.end(), False
            elif end < len(self.text) and self.text[end] in mark:
                self.fail(reason, end + 1)
        try:
            value = (_storable if whole else _finite)(self.text[begin:end])
        except ValueError:
            self.fail("Number too big to be stored in double.")
        self.position = end
        return value

    def peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def fail(self, reason: str, position: int | None = None) -> NoReturn:
        before = self.text[: self.position if position is None else position]
        offset = self.bytes_before + len(before.encode("utf-8", "surrogateescape"))
        raise invalid(f"JSON Parse error: {reason} at offset: {offset}")
