"""Index of the last hidden layer's activations for a split, computed once and kept in the run folder.

W/features/<split>-<digest>/ holds

    features.npy    float32 [n, units], in the split's fixed order; read by memory mapping
    examples.npz    key, label, squared length and position in the split of each row
    index.json      what the digest stands for: layer, weights and data

The folder takes its name only when all of it is written. Until then it ends in `.building`, from where a
computation that was killed goes on. Other weights or other data have another digest: what was computed
for them before is removed.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from alexnet_tf.run_record import SKIPPED_FILE
from alexnet_tf.visualize.spacing import evenly_spaced
from pipelines import files
from pipelines.errors import UserError
from pipelines.files import write_text

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from alexnet_tf.run_record import Run
    from pipelines.config import DataConfig
    from pipelines.sources.source import Source

FOLDER, LOCK_FILE = "features", "index.lock"
FEATURES_FILE, EXAMPLES_FILE, INDEX_FILE = "features.npy", "examples.npz", "index.json"
# Rows that are written already: key, label and squared length, a line each.
LINES_FILE, BUILDING = "examples.jsonl", ".building"
BATCH_SIZE, AT_ONCE = 64, 32
# Of the data's settings those that decide which pictures there are and what the network sees of them.
PREPARATION = ("spec", "data_seed", "val_fraction", "resize", "crop", "pad", "mean", "pixel_divisor")


class Index(NamedTuple):
    """The features of a split.

    Attributes:
      folder: where they lie.
      split: `train` or `val`.
      features: float32 [n, units], memory-mapped, in the split's fixed order.
      norms: float32 [n], each row's squared length.
      labels: int64 [n].
      keys: bytes [n], as `pipelines.sources.encode_key` writes them.
      positions: int64 [n], each row's place in the split's fixed order.
      total: pictures of the split, of which an index may hold a part.
    """

    folder: Path
    split: str
    features: np.ndarray
    norms: np.ndarray
    labels: np.ndarray
    keys: np.ndarray
    positions: np.ndarray
    total: int

    def key(self, position: int) -> str:
        """The key of the picture in a row of the index."""
        from pipelines.sources.source import decode_key

        return decode_key(bytes(self.keys[position]))


def features_of(network: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """The last hidden layer's activations after ReLU and before dropout scales them (section 6.1).

    Args:
      network: pixels -> logits.
      pixels: float32 [N, S, S, 3], mean subtracted.

    Returns:
      float32 [N, units].

    Raises:
      UserError: the network has no such layer.
    """
    from alexnet_tf.visualize.network import in_batches

    return np.asarray(in_batches(_hidden(network), pixels, AT_ONCE), np.float32)


def open_index(run: Run, network: keras.Model, split: str = "train", most: int | None = None) -> Index:
    """The index of a split, built first where there is none of these weights yet.

    Args:
      run: whose data are indexed and whose folder holds the index.
      network: whose features they are; an index belongs to its very weights.
      split: `train` or `val`.
      most: of a larger split so many pictures will do, from all over it, where there is no index of the
        whole yet; None for all.

    Raises:
      UserError, DataError: the data set is no longer where it was, or the index is being built elsewhere.
      OSError: the run folder cannot be written.
    """
    identity = _identity(run, network, split)
    folder = _folder(run, identity)
    if most is not None and not folder.exists():
        identity |= {"most": most}
        folder = _folder(run, identity)
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        with files.exclusive(folder.parent / LOCK_FILE, "an index of features"):
            if not folder.exists():
                _build(run, network, split, identity, folder)
    return _read(folder, split)


def _folder(run: Run, identity: dict[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return run.workdir / FOLDER / f"{identity['split']}-{digest}"


def check_same(run: Run, indexed: Sequence[str], read: Sequence[str]) -> None:
    """Raises UserError when the data set's pictures, by their keys, are no longer those that were indexed."""
    if list(indexed) != list(read):
        raise UserError(
            f"{run.data.spec}: not the pictures that were indexed any more; "
            f"remove {run.workdir / FOLDER} to index them anew"
        )


def squared_norms(features: np.ndarray) -> np.ndarray:
    """The squared length of each row of float32 [n, d], in float32 [n]."""
    return np.einsum("ij,ij->i", features, features)


def _read(folder: Path, split: str) -> Index:
    try:
        features = np.load(folder / FEATURES_FILE, mmap_mode="r")
        with np.load(folder / EXAMPLES_FILE, allow_pickle=False) as examples:
            own = {name: examples[name] for name in ("norms", "labels", "keys", "positions")}
            return Index(folder, split, features, **own, total=int(examples["total"]))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: damaged ({error}); remove it, it will be computed again") from None


def _identity(run: Run, network: keras.Model, split: str) -> dict[str, Any]:
    """Everything that decides an index, as JSON can hold it."""
    from alexnet_tf.export.signatures import LAST_HIDDEN

    skipped = run.workdir / SKIPPED_FILE
    return {
        "split": split,
        "layer": LAST_HIDDEN,
        "units": int(_hidden(network).output.shape[-1]),
        "weights": fingerprint(network),
        "data": {name: getattr(run.data, name) for name in PREPARATION},
        "left_out": hashlib.sha256(skipped.read_bytes()).hexdigest() if skipped.exists() else "",
    }


def fingerprint(network: keras.Model) -> str:
    """A digest of all weights: any other value of any of them gives another."""
    digest = hashlib.sha256()  # 1.7 GB/s with the processor's own instructions
    for variable in network.weights:
        digest.update(f"{variable.path} {variable.shape}".encode())
        digest.update(np.ravel(variable.value).data)
    return digest.hexdigest()


def _hidden(network: keras.Model) -> keras.Model:
    """Pixels -> the last hidden layer's activations."""
    import keras

    from alexnet_tf.export.signatures import LAST_HIDDEN
    from alexnet_tf.network import graph

    (layer,) = graph.parts(network, LAST_HIDDEN)
    return keras.Model(network.input, layer.output)


def _build(run: Run, network: keras.Model, split: str, identity: dict[str, Any], folder: Path) -> None:
    """Computes the rows that are missing, and gives the folder its final name."""
    import tensorflow as tf

    from alexnet_tf.evaluation import validation
    from pipelines import progress
    from pipelines.sources import records

    source = validation.open_pictures([run], run.data).source
    in_split = source.count(split)
    if not in_split:
        raise UserError(f"{run.data.spec}: the {split} split is empty")
    total = min(identity.get("most", in_split), in_split)
    positions = evenly_spaced(in_split, total)
    building = folder.with_name(folder.name + BUILDING)
    for other in folder.parent.glob(f"{split}-*"):
        if other != building:
            shutil.rmtree(other, ignore_errors=True)
    building.mkdir(exist_ok=True)
    with open(building / FEATURES_FILE, "ab") as rows, open(building / LINES_FILE, "ab") as lines:
        done = _go_on(rows, lines, (total, identity["units"]))
        try:
            with progress.phase(f"features of the {split} pictures", total, done=done) as phase:
                for features, examples in _batches(run, network, source, split, positions[done:]):
                    done += len(features)
                    _append(rows, features.tobytes())
                    # A line says that its row is there, so it comes after it.
                    _append(lines, "".join(json.dumps(example) + "\n" for example in examples).encode())
                    phase.reached(done)
        except tf.errors.OpError as error:
            raise UserError(records.describe(error, run.data)) from None
    if done != total:
        raise UserError(f"{run.data.spec}: the {split} split holds {done} pictures of {total} announced")
    _finish(building, identity | {"pictures": total}, positions, in_split)
    os.rename(building, folder)
    (folder / LINES_FILE).unlink(missing_ok=True)


def _go_on(rows: IO[bytes], lines: IO[bytes], shape: tuple[int, int]) -> int:
    """Truncates both files to the rows that both hold, or writes the array's header; returns their number.

    A file that grows is written, not a mapping: on a full disk writing raises an error, and touching a
    mapped page ends the process.
    """
    head = _head(shape)
    row = 4 * shape[1]
    with open(rows.name, "rb") as file:
        started = file.read(len(head)) == head
        written = (file.seek(0, os.SEEK_END) - len(head)) // row
    complete = Path(lines.name).read_bytes().splitlines(keepends=True)
    if complete and not complete[-1].endswith(b"\n"):
        complete.pop()
    done = min(written, len(complete)) if started else 0
    rows.truncate(len(head) + done * row if started else 0)
    lines.truncate(sum(len(line) for line in complete[:done]))
    if not started:
        _append(rows, head)
    return done


def _head(shape: tuple[int, int]) -> bytes:
    """The first bytes of a float32 .npy file of that shape."""
    buffer = io.BytesIO()
    layout = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, layout)
    return buffer.getvalue()


def _append(file: IO[bytes], content: bytes) -> None:
    """Appends to a file and waits until it is on disk."""
    with files.naming(file.name):
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _batches(
    run: Run, network: keras.Model, source: Source, split: str, positions: np.ndarray
) -> Iterator[tuple[np.ndarray, list[tuple[str, int, float]]]]:
    """Features float32 [n, units] of the pictures at some places, with their keys, labels and norms."""
    import tensorflow as tf

    from pipelines.pictures import preprocess

    config, stats, hidden = run.data, run.stats, _hidden(network)
    images = tf.TensorSpec([None, config.crop, config.crop, 3], tf.uint8)

    @tf.function(input_signature=[images], autograph=False)
    def compute(crops: tf.Tensor) -> tf.Tensor:
        return hidden(preprocess.to_pixels(crops, stats, config), training=False)

    for crops, labels, names in _crops(source, split, positions, run.data):
        features = np.ascontiguousarray(compute(crops), "<f4")
        norms = squared_norms(features)
        yield features, list(zip(names, labels, norms.tolist(), strict=True))


def _crops(
    source: Source, split: str, positions: np.ndarray, config: DataConfig
) -> Iterator[tuple[tf.Tensor, list[int], list[str]]]:
    """Crops as in evaluation, labels and keys of the pictures at some ascending places, batch by batch."""
    import tensorflow as tf

    from pipelines.pictures import preprocess
    from pipelines.sources.source import decode_key

    config, form = config.reading(source.prepared_size), source.prepared_form

    def crop(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return (
            preprocess.evaluation_crop(example["image_bytes"], config, form=form),
            example["label"],
            example["key"],
        )

    if len(positions) and len(positions) == source.count(split) - positions[0]:  # all the rest of the split
        examples = source.dataset(split, start=int(positions[0])).map(
            crop, num_parallel_calls=tf.data.AUTOTUNE
        )
        for crops, labels, keys in examples.batch(BATCH_SIZE).prefetch(tf.data.AUTOTUNE):
            yield crops, labels.numpy().tolist(), [decode_key(key) for key in keys.numpy()]
        return
    # A few from all over: a stream would read, and the built-in pictures draw, those between as well.
    picked = source.pick(split, positions.tolist())
    while batch := list(itertools.islice(picked, BATCH_SIZE)):
        crops = tf.stack([preprocess.evaluation_crop(example.image_bytes, config) for example in batch])
        yield crops, [example.label for example in batch], [example.key for example in batch]


def _finish(building: Path, identity: dict[str, Any], positions: np.ndarray, total: int) -> None:
    """Writes examples.npz and index.json."""
    from pipelines.sources.source import encode_key

    with open(building / LINES_FILE, encoding="utf-8") as file:
        names, labels, norms = zip(*map(json.loads, file), strict=True)
    with files.replacing(building / EXAMPLES_FILE) as temporary, open(temporary, "wb") as archive:
        np.savez(
            archive,
            keys=np.array([encode_key(name) for name in names], np.bytes_),
            labels=np.array(labels, np.int64),
            norms=np.array(norms, np.float32),
            positions=positions,
            total=total,
        )
    write_text(building / INDEX_FILE, json.dumps(identity, indent=2) + "\n")
