"""HTML as text that cannot be broken by what it shows: names hold `<`, `&`, quotes and worse.

Only `Html` goes into a page as it is; every other value is escaped where it enters.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

import numpy as np

STYLE = "report.css"
EMPTY_ELEMENTS = {"img", "link", "meta"}
# Nothing is loaded from anywhere, and nothing runs: all that a report needs stands in it.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
JPEG_QUALITY = 88


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def escape(value: Any) -> Html:
    """A value as HTML; bytes of a file's name that are no text are shown by their numbers."""
    if isinstance(value, Html):
        return value
    words = str(value).encode("utf-8", "backslashreplace").decode()
    return Html(html.escape(words))


def join(parts: Iterable[Any]) -> Html:
    """Several values one after another."""
    return Html("".join(escape(part) for part in parts))


def element(name: str, /, *children: Any, **attributes: Any) -> Html:
    """One element, such as `element("td", "a < b", class_="number")`.

    Args:
      name: of the element.
      children: what is in it; anything but Html is escaped.
      attributes: `class_` is `class`, `aria_label` is `aria-label`; None leaves one out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in EMPTY_ELEMENTS:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def image(pixels: np.ndarray, alt: str, *, class_: str | None = None, lossless: bool = False) -> Html:
    """A picture inside the page.

    Args:
      pixels: uint8 [H, W, 3], or [H, W, 4] with opacity.
      alt: what it shows, for those who do not see it.
      class_: of the element.
      lossless: PNG instead of JPEG, as kernels need.
    """
    from PIL import Image

    stream = io.BytesIO()
    picture = Image.fromarray(pixels)
    if lossless:
        picture.save(stream, "PNG", optimize=True)
    else:
        picture.save(stream, "JPEG", quality=JPEG_QUALITY)
    kind = "png" if lossless else "jpeg"
    address = f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
    height, width = pixels.shape[:2]
    return element("img", src=address, alt=alt, width=width, height=height, class_=class_)


def table(
    head: Sequence[Any],
    rows: Iterable[Sequence[Any]],
    caption: Any,
    *,
    numbers: Sequence[int] = (),
    class_: str = "",
) -> Html:
    """A table that a narrow screen can push sideways, below its caption; a row's first cell is its heading.

    Args:
      head: names of the columns.
      rows: cells.
      caption: what the table shows.
      numbers: columns whose cells stand at the right.
      class_: of the table.
    """

    def cell(kind: str, column: int, value: Any, **more: str) -> Html:
        return element(kind, value, class_="number" if column in numbers else None, **more)

    body = [
        element(
            "tr",
            *(
                cell("th", 0, value, scope="row") if column == 0 else cell("td", column, value)
                for column, value in enumerate(row)
            ),
        )
        for row in rows
    ]
    heading = element("tr", *(cell("th", column, name, scope="col") for column, name in enumerate(head)))
    inner = element("table", element("thead", heading), element("tbody", *body), class_=class_ or None)
    return element("figure", element("figcaption", caption), scrolling(inner, caption), class_="table")


def scrolling(inner: Html, name: Any) -> Html:
    """Something wide in a box of its own, which the keyboard reaches too."""
    return element("div", inner, class_="scroll", tabindex="0", role="region", aria_label=name)


def figure(body: Html, caption: Any, *, class_: str = "") -> Html:
    """A figure with a number of its own, which the style counts."""
    return element("figure", body, element("figcaption", caption), class_=f"numbered {class_}".rstrip())


def paragraph(*parts: Any, class_: str | None = None) -> Html:
    """A paragraph."""
    return element("p", *parts, class_=class_)


def code(text: str) -> Html:
    """A name of the program's within a sentence."""
    return element("code", text)


def clipped(name: Any) -> Html:
    """A name that may be long: two lines of it are shown, and all of it when pointed at."""
    return element("span", name, class_="clip", title=name)


def command(text: str) -> Html:
    """A command to type, whose lines end between words only."""
    words = [element("span", word) for word in text.split(" ")]
    spaced = [part for word in words for part in (" ", word)][1:]
    return element("code", *spaced, class_="command")


def page(title: str, body: Html) -> Html:
    """The whole document, its style within."""
    style = resources.files(__package__).joinpath(STYLE).read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("link", rel="icon", href="data:,"),
        element("style", Html(style)),
    )
    return Html(f"<!DOCTYPE html>\n{element('html', head, element('body', body), lang='en')}\n")
