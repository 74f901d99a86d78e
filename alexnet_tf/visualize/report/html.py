"""The report's HTML, from the templates in `templates/`: every value is escaped where it enters the page.

Names hold `<`, `&`, quotes and worse. Only the charts enter as they are, in the macro `chart`, since
ElementTree has escaped what is in them.
"""

from __future__ import annotations

import base64
import functools
import io
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from alexnet_tf.figures import text

if TYPE_CHECKING:
    from jinja2 import Environment

JPEG_QUALITY = 88


class Content(NamedTuple):
    """What stands in one section of the report.

    Attributes:
      template: a file in `templates/`.
      data: what that template calls `data`.
    """

    template: str
    data: dict[str, Any]


class Picture(NamedTuple):
    """A picture inside the page: its `data:` address, what it shows in words, and its size in pixels."""

    address: str
    alt: str
    width: int
    height: int


def note(words: str, command: str = "") -> Content:
    """A section that is one paragraph, with a command to type at its end."""
    return Content("note.html", {"words": words, "command": command})


def embed(pixels: np.ndarray, alt: str, *, lossless: bool = False) -> Picture:
    """A picture as a `data:` address.

    Args:
      pixels: uint8 [H, W, 3], or [H, W, 4] with opacity.
      alt: what it shows, for those who do not see it.
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
    return Picture(address, alt, width, height)


def percent(share: float | None, digits: int = 1) -> str:
    """A share in per cent, whose sign stays on the number's line; a dash for None and NaN."""
    return text.percent(share, digits, "\N{NO-BREAK SPACE}")


def rendered(content: Content) -> str:
    """One section alone."""
    return render(content.template, data=content.data)


def render(template: str, **values: Any) -> str:
    """A template with its values; bytes of a file's name that are no text are shown by their numbers."""
    return _environment().get_template(template).render(values).encode("utf-8", "backslashreplace").decode()


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = percent
    return environment
