"""metrics.csv of a run folder: a row an evaluation, whose columns may differ from those before."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from pipelines.errors import UserError
from pipelines.files import write_text


def append(path: Path, row: dict[str, float]) -> None:
    """Adds a row in the place of those of its step and later ones.

    Rows before it stay as they were written. Whole numbers are written whole, others with six digits.
    """
    earlier = [old for old in _written(path) if float(old["step"]) < row["step"]]
    _write(path, [*earlier, {name: _number(value) for name, value in row.items()}])


def drop_after(path: Path, step: int) -> None:
    """Removes the rows of later steps than `step`."""
    rows = _written(path)
    kept = [row for row in rows if float(row["step"]) <= step]
    if len(kept) < len(rows):
        _write(path, kept)


def read(path: Path) -> list[dict[str, float]]:
    """The rows, oldest first, an empty cell as NaN; no rows where there is no file.

    Raises:
      UserError: the file is damaged.
    """
    return [{name: float(text) if text else math.nan for name, text in row.items()} for row in _written(path)]


def _written(path: Path) -> list[dict[str, str]]:
    """The rows as text, each cell of which is a number or empty."""
    if not path.exists():
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [dict(row) for row in csv.DictReader(file)]
        for row in rows:
            [float(text) for text in row.values() if text]
    except (ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{path}: damaged ({error}); mend or remove it") from None
    if not all(row.get("step") for row in rows):
        raise UserError(f"{path}: damaged (no column `step`); mend or remove it")
    return rows


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    """Writes the file with the columns of all rows, in the order of the newest."""
    columns = list(dict.fromkeys(name for row in reversed(rows) for name in row))
    lines = [columns, *([row.get(name) or "" for name in columns] for row in rows)]
    write_text(path, "".join(",".join(line) + "\n" for line in lines if columns))


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "" if math.isnan(value) else str(value)
    return str(int(value)) if value == int(value) else f"{value:.6g}"
