"""Run folders and a network small enough for tests, in the place of the real one's 61 million weights."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from alexnet_tf import recipe
from alexnet_tf.run_data import Pictures
from alexnet_tf.run_record import Run
from pipelines import sources
from pipelines.errors import DataError
from pipelines.pictures.statistics import ImageStats


def network(classes: int, seed: int = 0, side: int = 224) -> keras.Model:
    """Pixels [N, side, side, 3] -> logits [N, classes] that hang on where things are in the picture."""
    pixels = keras.Input((side, side, 3))
    initial = keras.initializers.RandomNormal(0.0, 0.05, seed)
    x = keras.layers.Conv2D(4, side // 7, strides=side // 7, activation="relu", kernel_initializer=initial)(
        pixels
    )
    x = keras.layers.Flatten()(x)
    initial = keras.initializers.RandomNormal(0.0, 0.2, seed + 1)
    return keras.Model(pixels, keras.layers.Dense(classes, kernel_initializer=initial)(x))


def stats(side: int = 256, seed: int = 0) -> ImageStats:
    """Statistics with a mean image that is not flat, so that subtracting it at a wrong place shows."""
    mean = np.random.default_rng(seed).uniform(60, 180, (side, side, 3)).astype(np.float32)
    return ImageStats(
        eigenvalues=np.ones(3, np.float32),
        eigenvectors=np.eye(3, dtype=np.float32),
        mean_image=mean,
        channel_mean=mean.mean(axis=(0, 1)),
        count=1,
    )


def create(
    workdir: Path,
    spec: str,
    class_names: Sequence[str],
    seed: int = 0,
    readable: Sequence[str] | None = None,
    **settings: str,
) -> Run:
    """A run folder without a checkpoint; tests put `network` in the place of a real one."""
    fixed = {"mean": "image", "pixel_divisor": "60", "seed": str(seed), "precision": "bfloat16"}
    chosen = recipe.get("quickstart").replace({**fixed, **settings})
    pictures = None
    with contextlib.suppress(DataError):  # where there are any
        pictures = Pictures.of(sources.open_source(chosen.data_config(spec)))
    return Run.create(
        workdir, chosen, spec, class_names, stats(chosen.resize, seed), readable, pictures=pictures
    )


def jpeg(seed: int, height: int = 260, width: int = 300) -> bytes:
    """A textured picture, so that crops, mirrors and shifted means all give other pixels."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def folder(root: Path, classes: Sequence[str], pictures: int, seed: int = 0) -> Path:
    """Class folders of such pictures."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(pictures):
            (root / name / f"{number:03d}.jpg").write_bytes(jpeg(seed + 1000 * label + number))
    return root
