"""Classification of encoded pictures by a run's checkpoint or by an exported SavedModel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from alexnet_tf.checkpoint import load_network
from alexnet_tf.evaluation import metrics
from alexnet_tf.run_record import Run
from pipelines import scan
from pipelines.errors import UserError
from pipelines.files import numbered
from pipelines.pictures import preprocess

SIGNATURES = {1: "serving_default", 10: "ten_crop"}
EXPORTED_NAMES = 5


class TopClasses(NamedTuple):
    """A picture's most probable classes, best first, with their probabilities."""

    classes: list[str]
    scores: list[float]


# Classifies a batch of encoded pictures; raises tf.errors.OpError when one of them cannot be decoded.
Classifier = Callable[[Sequence[bytes]], list[TopClasses]]


def classify_files(
    classifier: Classifier, paths: Sequence[str], batch: int
) -> Iterator[tuple[str, TopClasses | str]]:
    """Yields each path with its classes, or the reason why it has none; reads files batch by batch."""
    for start in range(0, len(paths), batch):
        some = paths[start : start + batch]
        contents = [_read(path) for path in some]
        classes = iter(_classify_each(classifier, [c for c in contents if isinstance(c, bytes)]))
        yield from (
            (p, next(classes) if isinstance(c, bytes) else c) for p, c in zip(some, contents, strict=True)
        )


def _read(path: str) -> bytes | str:
    """The file's bytes, or the reason in words why it cannot be read."""
    try:
        return Path(path).read_bytes()
    except IsADirectoryError:
        return "is a folder; name the pictures in it"
    except OSError as error:
        return error.strerror or str(error)


def _classify_each(classifier: Classifier, contents: list[bytes]) -> list[TopClasses | str]:
    """Classifies pictures as one batch; halves a batch that fails until the picture at fault stands alone."""
    if not contents:
        return []
    try:
        return list(classifier(contents))
    except tf.errors.InvalidArgumentError as error:
        if len(contents) == 1:
            return [_reason(contents[0], error)]
    half = len(contents) // 2
    return _classify_each(classifier, contents[:half]) + _classify_each(classifier, contents[half:])


def _reason(content: bytes, error: tf.errors.OpError) -> str:
    """Why a picture has no classes, in words."""
    why = scan.reason(content)
    # An export may be older than this program, and read fewer formats.
    return f"refused ({' '.join(error.message.split())})" if why == scan.READABLE else why


def load_run(workdir: str, top: int, crops: int) -> Classifier:
    """A classifier from a run's best checkpoint.

    Raises:
      UserError: it is no run folder, or has no checkpoint.
    """
    run = Run.open(workdir)
    stats, config = run.stats, run.data
    network = load_network(run).network
    evaluator = metrics.Evaluator(
        network, lambda images: preprocess.to_pixels(images, stats, config), crops=crops
    )
    function = preprocess.ten_crops if crops == 10 else preprocess.evaluation_crop
    crop = tf.function(
        lambda image_bytes: function(image_bytes, config), input_signature=[tf.TensorSpec([], tf.string)]
    )

    def classify(contents: Sequence[bytes]) -> list[TopClasses]:
        images = tf.stack([crop(content) for content in contents])
        probabilities = np.exp(evaluator.log_probabilities(images))
        scores, classes = tf.math.top_k(probabilities, min(top, len(run.class_names)))
        rows = zip(classes.numpy().tolist(), scores.numpy().tolist(), strict=True)
        return [TopClasses([run.readable_names[index] for index in best], values) for best, values in rows]

    return classify


def load_export(folder: str, top: int, crops: int) -> Classifier:
    """A classifier from a SavedModel, by the signatures that a server calls.

    Raises:
      UserError: there is no such export, or it names fewer classes than `top`.
    """
    if top > EXPORTED_NAMES:
        raise UserError(
            f"--top: an export names {EXPORTED_NAMES} classes; received {top} (more: give --workdir)"
        )
    version = find_version(Path(folder))
    try:
        loaded = tf.saved_model.load(str(version))
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise UserError(f"{version}: cannot be loaded as a SavedModel ({error}); export it again") from None
    signature = loaded.signatures.get(SIGNATURES[crops])
    if signature is None or "image_bytes" not in signature.structured_input_signature[1]:
        offered = ", ".join(sorted(loaded.signatures)) or "none"
        raise UserError(
            f"{version}: has no signature {SIGNATURES[crops]} that takes image_bytes; it offers {offered}"
        )

    # `loaded` owns the variables: the default keeps it as long as the function lives.
    def classify(contents: Sequence[bytes], owner: Any = loaded) -> list[TopClasses]:
        outputs = signature(image_bytes=tf.constant(list(contents)))
        rows = zip(outputs["classes"].numpy()[:, :top], outputs["scores"].numpy()[:, :top], strict=True)
        return [
            TopClasses([str(n, "utf-8", "replace") for n in names], scores.tolist()) for names, scores in rows
        ]

    return classify


def find_version(folder: Path) -> Path:
    """The SavedModel folder that `folder` is or whose newest version it holds.

    Raises:
      UserError: there is none.
    """
    if (folder / "saved_model.pb").is_file():
        return folder
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; --export takes what `python -m alexnet_tf.export` has written"
        )
    versions = {n: path for n, path in numbered(folder).items() if (path / "saved_model.pb").is_file()}
    if not versions:
        raise UserError(f"{folder}: holds no exported version (a numbered folder with saved_model.pb)")
    return versions[max(versions)]
