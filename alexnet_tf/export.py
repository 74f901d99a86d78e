"""Command `export`: a run's network -> EXPORT_DIR/<version>/, which TF Serving deploys unchanged.

    python -m alexnet_tf.export --workdir runs/quickstart --export-dir export

A version appears whole or not at all, after it has been loaded again and has given the network's answers.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import command, files, progress
from pipelines.errors import UserError

if TYPE_CHECKING:
    import keras

    from alexnet_tf.run_record import Run

MODEL_NAME = "alexnet"
CHECKPOINTS = ("best", "newest")
EXTRA_FOLDER = "assets.extra"
CARD_FILE = "MODEL_CARD.md"
LARGEST_VERSION = 2**63 - 1  # TF Serving reads version numbers as int64
# Probabilities of the exported graph and of the network in this process: the same operations, whose
# sums a graph optimiser may order otherwise.
TOLERANCE = 1e-5


def main(argv: list[str] | None = None) -> int:
    """Parses the command line and exports; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m alexnet_tf.export", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--workdir", required=True, help="run folder whose network is exported")
    parser.add_argument("--export-dir", required=True, help="folder of versions; made if need be")
    parser.add_argument(
        "--version", type=int, help="number to write (default: the highest there and one more)"
    )
    parser.add_argument(
        "--checkpoint",
        choices=CHECKPOINTS,
        default=CHECKPOINTS[0],
        help="lowest validation error, or newest (default %(default)s)",
    )
    command.add_json_flag(parser)
    arguments = parser.parse_args(argv)
    return command.run(lambda: _export(arguments), as_json=arguments.json)


def _export(arguments: argparse.Namespace) -> dict[str, Any]:
    from alexnet_tf.run_record import Run

    began = time.monotonic()
    run = Run.open(Path(arguments.workdir).expanduser())
    folder = export(run, Path(arguments.export_dir).expanduser(), arguments.version, arguments.checkpoint)
    figures = {
        "folder": str(folder),
        "version": int(folder.name),
        "megabytes": round(_size(folder) / 1e6, 1),
        "signatures": list(_forms()),
        "seconds": round(time.monotonic() - began, 1),
    }
    print(f"{folder}: {figures['megabytes']} MB in {figures['seconds']} s, answers as the network does")
    for name, form in _forms().items():
        print(f"  {name:16} {form.takes:24} -> {form.gives:40} {form.purpose}")
    return figures


def _forms() -> dict[str, Any]:
    from alexnet_tf.signatures import FORMS

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

    number = _free_version(export_dir, version)
    with tf.device("CPU:0"):
        network, step = checkpoints.load_network(run, checkpoint)
    # Its name is no number until then, so that a server watching the parent passes it over.
    with files.appearing(export_dir / str(number)) as folder:
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
    return export_dir / str(number)


def _write(folder: Path, run: Run, network: keras.Model, step: int) -> None:
    import tensorflow as tf

    from alexnet_tf import model_card, run_record, signatures, warmup

    servable = signatures.Servable(network, run.stats, run.data, str(run.workdir / run_record.LABELS_FILE))
    tf.saved_model.save(servable, str(folder), signatures=servable.signatures())
    # tf.saved_model.save notes the method `predict` for all; the Classify call insists on its own.
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    for name, method in signatures.METHOD_NAMES.items():
        updater.replace_method_name(name, method)
    updater.save()

    extra = folder / EXTRA_FOLDER
    extra.mkdir()
    warmup.write(extra / warmup.WARMUP_FILE, MODEL_NAME, signatures.IMAGE_BYTES)
    for name in (run_record.LABELS_FILE, run_record.CLASSES_FILE):
        shutil.copyfile(run.workdir / name, extra / name)
    described = {"parameters": network.count_params(), "step": step}
    card = model_card.text(run, signatures.FORMS, model_name=MODEL_NAME, **described)
    (extra / CARD_FILE).write_text(card, encoding="utf-8")


def _check(folder: Path, run: Run, network: keras.Model) -> None:
    """Raises UserError unless the written graph answers as the network in this process does."""
    import numpy as np
    import tensorflow as tf

    from alexnet_tf import warmup
    from pipelines.pictures import preprocess

    image_bytes = tf.io.encode_jpeg(warmup.textured_image(375, 500))
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
    """The number to write: `version`, or the highest in the folder and one more."""
    if version is not None and not 1 <= version <= LARGEST_VERSION:
        raise UserError(f"--version must be 1 to {LARGEST_VERSION}; received {version}")
    taken = _versions(export_dir)
    if version is None:
        return max(taken, default=0) + 1
    if version in taken:
        raise UserError(f"{export_dir}: version {version} exists; leave out --version to write the next one")
    return version


def _versions(export_dir: Path) -> set[int]:
    """Numbers of the versions in a folder; TF Serving reads any name that is a decimal number."""
    if not export_dir.exists():
        return set()
    return {int(path.name) for path in export_dir.iterdir() if path.name.isascii() and path.name.isdecimal()}


def _size(folder: Path) -> int:
    """Bytes of all files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    sys.exit(main())
