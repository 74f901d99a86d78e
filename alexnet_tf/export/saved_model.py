"""Writing of a run's network as one version of a SavedModel, which appears whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import files, progress
from pipelines.errors import UserError

if TYPE_CHECKING:
    import keras

    from alexnet_tf.run_record import Run


MODEL_NAME = "alexnet"
EXTRA_FOLDER = "assets.extra"
CARD_FILE = "MODEL_CARD.md"
LARGEST_VERSION = 2**63 - 1  # TF Serving reads version numbers as int64
# Probabilities of the exported graph and of the network in this process: the same operations, whose
# sums a graph optimiser may order otherwise.
TOLERANCE = 1e-5


def forms() -> dict[str, Any]:
    """The signatures that are written, by name, with their inputs and outputs."""
    from alexnet_tf.export.signatures import FORMS

    return FORMS


def export(run: Run, export_dir: Path, version: int | None = None, checkpoint: str = "best") -> Path:
    """Writes one version of a run's network.

    Args:
      run: the run folder.
      export_dir: folder of versions, named by numbers.
      version: its number; None takes the highest there and one more.
      checkpoint: `best` or `newest`.

    Returns:
      The version's folder: saved_model.pb, variables, assets/labels.txt, and in assets.extra the
      warm-up requests and the model card.

    Raises:
      UserError: the version exists, the run has no checkpoint, or the files cannot be written.
    """
    with progress.phase("loading Keras"):
        import tensorflow as tf

        from alexnet_tf import checkpoint as checkpoints
        from alexnet_tf.network import backend

    backend.require_tensorflow("an export")
    number = _free_version(export_dir, version)
    with tf.device("CPU:0"):
        network, step = checkpoints.load_network(run, checkpoint)
    export_dir.mkdir(parents=True, exist_ok=True)
    files.remove_parts(export_dir)
    # Its name is no number until then, so that a server watching the parent passes it over.
    with files.scratch(export_dir / str(number)) as folder:
        try:
            # Outside any device: one that is noted in the graph would bind every server to it.
            with progress.phase("writing the SavedModel"):
                _write(folder, run, network, step)
            # On the CPU, where float32 is float32; GPUs round the factors of convolutions.
            with progress.phase("comparing its answers with the network's"), tf.device("CPU:0"):
                _check(folder, run, network)
        except tf.errors.OpError as error:
            raise UserError(
                f"{export_dir}: the export could not be written or read back "
                f"({type(error).__name__}: {error.message}); is the disk full?"
            ) from None
        return _publish(folder, export_dir, number, asked=version is not None)


def _publish(folder: Path, export_dir: Path, number: int, *, asked: bool) -> Path:
    """Names a finished export by its number, or by the next where another took that meanwhile.

    Raises:
      UserError: the number was asked for, and is taken.
    """
    while True:
        try:
            files.name_scratch(folder, export_dir / str(number))
        except FileExistsError:
            if asked:
                raise UserError(
                    f"{export_dir}: another export has taken version {number} meanwhile; leave out "
                    "--version to write the next one"
                ) from None
            number = _free_version(export_dir, None)
        else:
            return export_dir / str(number)


def _write(folder: Path, run: Run, network: keras.Model, step: int) -> None:
    import tensorflow as tf

    from alexnet_tf import run_record
    from alexnet_tf.export import model_card, signatures, warmup_requests

    servable = signatures.Servable(network, run.stats, run.data, str(run.workdir / run_record.LABELS_FILE))
    tf.saved_model.save(servable, str(folder), signatures=servable.signatures())
    # tf.saved_model.save notes the method `predict` for all; the Classify call insists on its own.
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    for name, method in signatures.METHOD_NAMES.items():
        updater.replace_method_name(name, method)
    updater.save()

    extra = folder / EXTRA_FOLDER
    extra.mkdir()
    warmup_requests.write(extra / warmup_requests.WARMUP_FILE, MODEL_NAME, signatures.IMAGE_BYTES)
    for name in (run_record.LABELS_FILE, run_record.CLASSES_FILE):
        shutil.copyfile(run.workdir / name, extra / name)
    described = {"parameters": network.count_params(), "step": step}
    card = model_card.text(run, signatures.FORMS, model_name=MODEL_NAME, **described)
    (extra / CARD_FILE).write_text(card, encoding="utf-8")


def _check(folder: Path, run: Run, network: keras.Model) -> None:
    """Raises UserError unless the written graph gives the scores of the network in this process."""
    import numpy as np
    import tensorflow as tf

    from alexnet_tf.export import warmup_requests
    from pipelines.pictures import preprocess

    image_bytes = tf.io.encode_jpeg(warmup_requests.textured_image(375, 500))
    answer = tf.saved_model.load(str(folder)).signatures["serving_default"](
        image_bytes=image_bytes[tf.newaxis]
    )
    pixels = preprocess.to_pixels(preprocess.evaluation_crop(image_bytes, run.data), run.stats, run.data)
    expected = tf.nn.softmax(network(pixels[tf.newaxis], training=False))[0].numpy()

    scores = answer["scores"][0].numpy()
    named = [expected[run.readable_names.index(name.decode())] for name in answer["classes"][0].numpy()]
    best = np.sort(expected)[::-1][: len(scores)]
    # Both: each name carries its own probability, and no better class was passed over.
    difference = float(max(np.abs(scores - named).max(), np.abs(scores - best).max()))
    if not difference <= TOLERANCE:
        raise UserError(
            f"{folder}: the exported graph answers otherwise than the network: probabilities differ by "
            f"{difference:.2g}, more than {TOLERANCE}; nothing was exported"
        )


def _free_version(export_dir: Path, version: int | None) -> int:
    """The version number to write: `version`, or the highest in the folder and one more."""
    if version is not None and not 1 <= version <= LARGEST_VERSION:
        raise UserError(f"--version must be 1 to {LARGEST_VERSION}; received {version}")
    taken = files.numbered(export_dir) if export_dir.exists() else {}
    if version is None:
        return max(taken, default=0) + 1
    if version in taken:
        raise UserError(f"{export_dir}: version {version} exists; leave out --version to write the next one")
    return version


def size(folder: Path) -> int:
    """Bytes of all files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
