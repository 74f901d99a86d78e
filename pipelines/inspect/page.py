"""The page index.html: every value is escaped where it enters, and pictures, charts and style are within."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipelines.inspect import charts, findings
from pipelines.inspect.duplicates import Group
from pipelines.inspect.sheets import Row
from pipelines.inspect.survey import Survey
from pipelines.sources.source import Source, decode_key

if TYPE_CHECKING:
    from jinja2 import Environment

JPEG_QUALITY = 85
# A page stays one that a browser opens at once; the rest is in inspect.json.
MOST_UNREADABLE = 200
OPEN_CLASSES = 30  # a longer list is folded


class Shown(NamedTuple):
    """A picture on the page.

    Attributes:
      address: its `data:` address; empty where it could not be read any more.
      name: of its class.
      key, split: which picture it is.
      difference: how it differs from the first of its group, in words.
    """

    address: str
    name: str
    key: str
    split: str
    difference: str = ""

    @property
    def file(self) -> str:
        """The last part of the key: what stands before it is its class most of the time."""
        return self.key.rpartition("/")[2]


class Part(NamedTuple):
    """A split as the page names it.

    Attributes:
      key: its name.
      word: what a person calls its pictures.
      colour: class of the style sheet for its bars.
      pictures: how many can be read.
      leaked: how many of these look like a training picture; None where that says nothing.
    """

    key: str
    word: str
    colour: str
    pictures: int
    leaked: int | None


class Sheet(NamedTuple):
    """One row of the contact sheet: the picture, and the addresses of its stages."""

    picture: Shown
    stages: tuple[str, ...]


class Likeness(NamedTuple):
    """A group of copies: pictures that are shown, how many more there are, and what is wrong with it."""

    pictures: tuple[Shown, ...]
    more: int
    marks: tuple[str, ...]


class Pictures(NamedTuple):
    """What is shown, as arrays.

    Attributes:
      rows: of the contact sheet.
      groups: of copies.
      copies: pictures of the groups by their numbers in the survey, uint8 [side, side, 3].
    """

    rows: Sequence[Row]
    groups: Sequence[Group]
    copies: Mapping[int, np.ndarray]


def render(figures: Mapping[str, Any], source: Source, survey: Survey, pictures: Pictures) -> str:
    """The whole document; bytes of a file's name that are no text are shown by their numbers.

    Args:
      figures: what inspect.json holds.
      source: the data set.
      survey: its pictures.
      pictures: those to show.
    """
    per_class = figures["per_class"]
    counts = [tuple(row[split] for split in survey.splits) for row in per_class]
    text = (
        _environment()
        .get_template("page.html")
        .render(
            figures=figures,
            problems=[one["text"] for one in figures["findings"] if one["weight"] == "problem"],
            notes=[one["text"] for one in figures["findings"] if one["weight"] == "note"],
            account=findings.account(figures),
            splits=_parts(figures, survey),
            classes=charts.classes(counts),
            most=max(map(sum, counts)),
            named=any(row["class"] != row["name"] for row in per_class),
            open_classes=len(per_class) <= OPEN_CLASSES,
            sizes=_sizes(figures["sizes"]),
            most_unreadable=MOST_UNREADABLE,
            rows=[_sheet(source, survey, row) for row in pictures.rows],
            groups=[_likeness(source, survey, group, pictures.copies) for group in pictures.groups],
        )
    )
    return text.encode("utf-8", "backslashreplace").decode()


def _parts(figures: Mapping[str, Any], survey: Survey) -> list[Part]:
    """The splits that have pictures."""
    colours = zip(survey.splits, charts.PARTS, strict=False)
    return [
        Part(
            split,
            findings.WORDS[split],
            colour,
            figures[split],
            figures["copies"].get(f"{split}_pictures_also_in_train") if figures["train"] else None,
        )
        for split, colour in colours
        if figures[split]
    ]


def _sizes(sizes: Mapping[str, dict[str, Any]]) -> list[charts.Chart]:
    titles = (
        ("short_side", "Short side", " px"),
        ("width", "Width", " px"),
        ("height", "Height", " px"),
        ("aspect", "Width divided by height", ""),
        ("kilobytes", "Size of the file", " kB"),
    )
    return [charts.bars(title, unit, sizes[key]) for key, title, unit in titles]


def _sheet(source: Source, survey: Survey, row: Row) -> Sheet:
    stages = tuple(map(embed, (row.stored, row.prepared, *row.drawn)))
    return Sheet(_shown(source, survey, row.number, ""), stages)


def _likeness(source: Source, survey: Survey, group: Group, copies: Mapping[int, np.ndarray]) -> Likeness:
    shown = []
    for place, number in enumerate(group.members.tolist()):
        if number in copies:
            picture = _shown(source, survey, number, embed(copies[number]))
            shown.append(picture._replace(difference=_difference(survey, group, place)))
    splits, labels = survey.split[group.members], survey.label[group.members]
    marks = ["in several splits"] * bool((splits != splits[0]).any())
    marks += ["in several classes"] * bool((labels != labels[0]).any())
    return Likeness(tuple(shown), len(group.members) - len(shown), tuple(marks))


def _difference(survey: Survey, group: Group, place: int) -> str:
    """How a picture differs from the first of its group."""
    first, number = group.members[0], group.members[place]
    if not place:
        return ""
    if survey.content[first] == survey.content[number] and survey.size[first] == survey.size[number]:
        return "the same file"
    words = f"{group.bits[place]} of 256 bits differ"
    return f"mirrored, {words}" if group.mirrored[place] else words


def _shown(source: Source, survey: Survey, number: int, address: str) -> Shown:
    name = source.readable_names[int(survey.label[number])]
    return Shown(address, name, decode_key(survey.key[number]), survey.splits[int(survey.split[number])])


def embed(pixels: np.ndarray) -> str:
    """The `data:` address of a picture, uint8 [height, width, 3]."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


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
    environment.filters["thousands"] = lambda number: f"{number:,}"
    environment.filters["share"] = findings.share
    return environment
