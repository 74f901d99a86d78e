"""Whether data are those of a run: their classes, and which pictures trained and which validated.

A run folder keeps a fingerprint of every picture's key (of every shard of records), so that pictures that
were added, removed or moved to the other split are noticed before they do harm, wherever the data lie.
"""

from __future__ import annotations

import functools
import os
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipelines.config import TAKE_OPTIONS
from pipelines.errors import DataError, UserError
from pipelines.files import replacing

if TYPE_CHECKING:
    from alexnet_tf.run_record import Run
    from pipelines.config import DataConfig
    from pipelines.sources.source import Source

PICTURES_FILE = "pictures.npz"
# Kinds of data that lie at no path.
PLACELESS = ("synthetic", "tfds")


class Pictures(NamedTuple):
    """The pictures of both splits, broken ones among them, by fingerprints: uint64 [n] each, ascending."""

    train: np.ndarray
    val: np.ndarray

    @classmethod
    def of(cls, source: Source) -> Pictures:
        """Those of a source from which no broken ones were left out."""
        return cls(source.fingerprints("train"), source.fingerprints("val"))

    @classmethod
    def load(cls, workdir: Path) -> Pictures | None:
        """Those that a run folder keeps; None for a run of before they were kept.

        Raises:
          UserError: the file is damaged.
        """
        path = workdir / PICTURES_FILE
        try:
            with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                return cls(file["train"], file["val"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: damaged ({error}); take it from a copy of the run folder") from None

    def save(self, workdir: Path) -> None:
        """Writes them into a run folder; the file appears whole or not at all."""
        with replacing(workdir / PICTURES_FILE) as temporary, open(temporary, "wb") as file:
            np.savez(file, train=self.train, val=self.val)

    def changes(self, now: Pictures, unit: str = "pictures") -> str:
        """How `now` differs, in words such as `3 training pictures more, 1 validation picture gone`."""
        parts = []
        for split, word in (("train", "training"), ("val", "validation")):
            before, after = getattr(self, split), getattr(now, split)
            more, gone = (int((~_among(*pair)).sum()) for pair in ((after, before), (before, after)))
            for number, what in ((more, "more"), (gone, "gone")):
                if number:
                    parts.append(f"{number:,} {word} {unit if number > 1 else unit.removesuffix('s')} {what}")
        return ", ".join(parts)


def _among(these: np.ndarray, those: np.ndarray) -> np.ndarray:
    """Which of ascending numbers are among others, bool [n]; NumPy's functions would sort them again."""
    if not those.size:
        return np.zeros(these.shape, bool)
    places = np.minimum(np.searchsorted(those, these), those.size - 1)
    found: np.ndarray = those[places] == these
    return found


def unit(kind: str) -> str:
    """What has a fingerprint in data of a kind: `pictures` or `shards`."""
    return "shards" if kind == "records" else "pictures"


def same_place(spec: str, other: str) -> bool:
    """Whether two SPECs name the same data: `folder:D/` is `folder:D`, and so is its absolute path."""
    return _normalised(spec) == _normalised(other)


def _normalised(spec: str) -> str:
    kind, colon, location = spec.partition(":")
    if not location or kind in PLACELESS:
        return spec
    place, mark, options = location.partition("?") if kind in TAKE_OPTIONS else (location, "", "")
    return f"{kind}{colon}{os.path.realpath(os.path.expanduser(place))}{mark}{options}"


def class_difference(run: Sequence[str], data: Sequence[str]) -> str:
    """How the classes of some data differ from a run's, in words; empty where they are the same, in order."""
    if tuple(run) == tuple(data):
        return ""
    gone, new = (
        [name for name in these if name not in set(those)] for these, those in ((run, data), (data, run))
    )
    parts = [f"{_listed(gone)} of the run {_is_or_are(gone)} not among them"] * bool(gone)
    parts += [f"{_listed(new)} {_is_or_are(new)} new"] * bool(new)
    if len(run) == len(data):
        index = next(i for i, (ours, theirs) in enumerate(zip(run, data, strict=True)) if ours != theirs)
        parts.append(f"label {index} is {data[index]!r}, {run[index]!r} in the run")
    else:
        parts.append(f"{len(data)} classes, {len(run)} in the run")
    return "; ".join(parts)


def _listed(names: Sequence[str], most: int = 3) -> str:
    listed = ", ".join(repr(name) for name in names[:most])
    return f"{listed} and {len(names) - most} others" if len(names) > most else listed


def _is_or_are(names: Sequence[str]) -> str:
    return "are" if len(names) > 1 else "is"


def check_classes(run: Run, source: Source, spec: str) -> None:
    """Makes sure that labels mean in the data what they mean in the run.

    Args:
      run: whose classes count.
      source: the data's pictures.
      spec: of the data, for the message.

    Raises:
      UserError: a class was added, removed or renamed, or they stand in another order.
    """
    if difference := class_difference(run.class_names, source.class_names):
        raise UserError(
            f"{spec}: its classes are not those of the run {run.workdir} ({difference}); give the data the "
            "classes of its class_ids.txt again, or train in another --workdir"
        )


def is_own(run: Run, source: Source, spec: str) -> bool:
    """Whether the data are those of the run, at their old place or at another.

    Args:
      run: the run.
      source: the data's pictures, broken ones among them.
      spec: of the data.
    """
    return same_place(spec, run.data.spec) or not difference(run, source, spec)


def difference(run: Run, source: Source, spec: str) -> str:
    """What tells data at another place from those of the run, in words; empty where they are the same."""
    kind, own_kind = (text.partition(":")[0] for text in (spec, run.data.spec))
    if kind != own_kind:
        return f"{own_kind} became {kind}"
    if classes := class_difference(run.class_names, source.class_names):
        return classes
    kept = Pictures.load(run.workdir)
    if kept is None:
        return f"the run is of before {PICTURES_FILE} was kept"
    return kept.changes(Pictures.of(source), unit(kind))


def check(run: Run, source: Source, spec: str | None = None, *, training: bool = False) -> None:
    """Makes sure that the run's own data still hold its classes, and the pictures that it began with.

    A training goes on only with all of them. Elsewhere validation pictures must not have trained the run;
    that they are not those of its training is said in a line.

    Args:
      run: whose data they are.
      source: their pictures, broken ones among them.
      spec: where they lie, if not where the run's record says.
      training: whether the run is about to be trained further.

    Raises:
      UserError: they do not hold them.
    """
    spec = spec or run.data.spec
    check_classes(run, source, spec)
    kept = Pictures.load(run.workdir)
    if kept is None:
        _without_record(run, source, spec, training=training)
        return
    now, unit_of = Pictures.of(source), unit(run.data.kind)
    changes = kept.changes(now, unit_of)
    if training and changes:
        raise UserError(
            f"{spec}: not the pictures with which the run {run.workdir} began ({changes}); restore them, or "
            "train in another --workdir"
        )
    trained = int(_among(now.val, kept.train).sum())
    if trained:
        raise UserError(
            f"{spec}: {trained:,} of its {len(now.val):,} validation {unit_of} trained the run {run.workdir} "
            f"({changes}); restore the data, or evaluate on pictures that it has not seen"
        )
    if not np.array_equal(now.val, kept.val):
        _warn_once(f"{spec}: not the validation pictures of the run {run.workdir} ({changes})")


def same_pictures(run: Run, source: Source, split: str) -> bool:
    """Whether a split of the run's own data still holds what it held; taken for granted without a record."""
    kept = Pictures.load(run.workdir)
    return kept is None or np.array_equal(getattr(kept, split), source.fingerprints(split))


def _without_record(run: Run, source: Source, spec: str, *, training: bool) -> None:
    """What can be said of a run of before the file of its pictures was kept."""
    if not source.held_out:
        return
    unknown = f"{spec}: which of its pictures trained the run {run.workdir} is unknown (no {PICTURES_FILE})"
    if training:
        raise UserError(f"{unknown}, and a share is now held out by another rule; train in another --workdir")
    _warn_once(f"{unknown}; validation pictures that did would flatter its errors")


@functools.cache
def _warn_once(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr)


def explain_missing(error: DataError, config: DataConfig) -> DataError:
    """The error of data that could not be opened, with the cure where there is nothing at their place."""
    if config.kind in PLACELESS or Path(config.place).exists():
        return error
    return DataError(
        f"{error}; --data says where the data now lie, if they have moved (`train` with the run's settings "
        "records it)"
    )
