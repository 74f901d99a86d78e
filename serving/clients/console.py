"""The client command's output: classes with bars, versions and their states, signatures."""

from __future__ import annotations

import base64
import math
import shutil
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from serving.clients.client import Metadata, TensorInfo
from serving.clients.pictures import PictureResult
from serving.command import printable
from serving.specs import VersionStatus

FULL, PARTIAL, PLAIN = "█", " ▏▎▍▌▋▊▉", "#"
WIDEST_BAR = 40
SHOWN_VALUES = 5
# Width where the output is no terminal: lines are not wrapped.
ENDLESS = 1000


def show_result(answered: PictureResult) -> None:
    """Prints a picture's name and the model's outputs for it."""
    outputs = answered.outputs
    table = Table.grid(padding=(0, 2))
    if isinstance(outputs.get("classes"), list) and isinstance(outputs.get("scores"), list):
        for _ in range(2):
            table.add_column()
        table.add_column(no_wrap=True)
        for name, score in zip(outputs["classes"], outputs["scores"], strict=False):
            table.add_row(
                as_text(name), Text(f"{100 * score:6.2f} %", justify="right"), bar(score, _bar_room())
            )
    else:
        for name in sorted(outputs):
            table.add_row(as_text(name), as_text(summary(outputs[name])))
    show(as_text(answered.name))
    show(table, indent=2)


def show_status(versions: Sequence[VersionStatus]) -> None:
    """Prints a model's versions, highest first."""
    table = table_with_columns("version", "state", "error")
    for one in versions:
        table.add_row(
            str(one.version), one.state.name, as_text(f"{one.code.name}: {one.message}" if one.code else "")
        )
    show(table)


def show_metadata(metadata: Metadata) -> None:
    """Prints a model's signatures with their inputs and outputs."""
    show(as_text(f"{metadata.model}, version {metadata.version}"))
    table = table_with_columns("signature", "takes", "gives", "method")
    for name, signature in metadata.signatures.items():
        method = signature.method_name.removeprefix("tensorflow/serving/")
        table.add_row(as_text(name), _tensors(signature.inputs), _tensors(signature.outputs), as_text(method))
    show(table)


def summary(value: object) -> str:
    """One picture's row of an output in one line: its shape and first values, or the size of bytes."""
    shape: list[int] = []
    innermost: list[object] = []
    first = value
    while isinstance(first, list):
        shape.append(len(first))
        innermost = first
        first = first[0] if first else None
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if not shape:
        return _number(value)
    shown = ", ".join(map(_number, innermost[:SHOWN_VALUES]))
    return f"[{', '.join(map(str, shape))}] {shown}{', ...' if math.prod(shape) > SHOWN_VALUES else ''}"


def plain_outputs(outputs: Mapping[str, object]) -> dict[str, object]:
    """Outputs with bytes as base64 objects in TF Serving's form, for JSON."""
    return {name: _jsonable(value) for name, value in outputs.items()}


def bar(share: float, longest: int) -> str:
    """A fraction (0 to 1) as a text bar, in eighths of a character where stdout's encoding has them."""
    share = min(max(share, 0.0), 1.0)  # not every model's scores are probabilities
    if printable(FULL) != FULL:
        return PLAIN * round(longest * share)
    whole, eighths = divmod(round(8 * longest * share), 8)
    return (FULL * whole + PARTIAL[eighths]).rstrip()


def _bar_room() -> int:
    return max(8, min(WIDEST_BAR, shutil.get_terminal_size().columns - 44))


def _number(value: object) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _jsonable(value: object) -> object:
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode("ascii")}
    return [_jsonable(one) for one in value] if isinstance(value, list) else value


def _tensors(tensors: Mapping[str, TensorInfo]) -> Text:
    return as_text("\n".join(f"{name} {_shaped(info)}" for name, info in tensors.items()))


def _shaped(info: TensorInfo) -> str:
    kind = info.dtype.removeprefix("DT_").lower()
    if info.shape is None:
        return f"{kind} of any shape"
    return f"{kind} [{', '.join('N' if size < 0 else str(size) for size in info.shape)}]"


def table_with_columns(*columns: str) -> Table:
    """An empty table with these columns."""
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def as_text(text: object) -> Text:
    """Text that rich prints verbatim: names may hold what it would take for markup."""
    return Text(printable(str(text)), overflow="fold")


def show(what: RenderableType, indent: int = 0) -> None:
    """Prints text or a table without trailing blanks."""
    width = None if sys.stdout.isatty() else ENDLESS
    console = Console(file=sys.stdout, width=width, highlight=False)
    with console.capture() as captured:
        console.print(Padding(what, (0, 0, 0, indent), expand=False))
    for line in captured.get().splitlines():
        print(line.rstrip())
