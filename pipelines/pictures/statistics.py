"""Mean image and colour components of a training set, gathered in one pass.

The mean image is subtracted from every picture (section 2); the principal components of the RGB
values drive the colour noise of section 4.1. Both are measured on prepared pictures, 0..255.
"""

from __future__ import annotations

import dataclasses
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.files import replacing

_FIELDS = ("mean_image", "channel_mean", "eigenvalues", "eigenvectors", "count")
# Pixels laid side by side in one row of the matrix product that gives the second moments: a product
# with three columns leaves a processor idle.
_PIXELS_PER_ROW = 4
# So many products of two numbers from -128 to 127 add up to 2^24 at most: float32 holds every sum exactly.
_EXACT_ROWS = 1024
_PIXELS_AT_ONCE = 2**16
# Sums of so many uint8 values fit into uint16, which NumPy adds up several times faster than int64.
_LARGEST_EXACT_BATCH = 65535 // 255
# Second moments are taken about the middle grey: the sums stay smaller.
_CENTRE = np.uint8(128)


@dataclasses.dataclass(frozen=True)
class ColourComponents:
    """Principal components of RGB values.

    Attributes:
      eigenvalues: float32 [3], variances on 0..255 data, largest first.
      eigenvectors: float32 [3, 3], rows R, G, B; column k belongs to eigenvalue k.
    """

    eigenvalues: np.ndarray
    eigenvectors: np.ndarray


@dataclasses.dataclass(frozen=True)
class ImageStats(ColourComponents):
    """Mean image and colour components of a training set's prepared pictures, in grey levels of 0..255.

    Attributes:
      mean_image: float32 [resize, resize, 3].
      channel_mean: float32 [3], the mean of `mean_image` over its positions.
      count: how many pictures were averaged.
    """

    mean_image: np.ndarray
    channel_mean: np.ndarray
    count: int

    def mean_crop(self, config: DataConfig) -> np.ndarray:
        """What is subtracted from a crop: float32 [crop, crop, 3], or [1, 1, 3] for `mean="channel"`.

        The central crop of the mean image, reflected outwards where the crop is larger.

        Raises:
          DataError: the statistics belong to pictures of another size.
        """
        if config.mean == "channel":
            return self.channel_mean.reshape(1, 1, 3).astype(np.float32)
        whole = self.whole_mean(config)
        first = (len(whole) - config.crop) // 2
        window = slice(first, first + config.crop)
        return np.ascontiguousarray(whole[window, window])

    def whole_mean(self, config: DataConfig) -> np.ndarray:
        """The mean image with the border that pictures get before they are cropped.

        Returns:
          float32 [side, side, 3], side = resize + 2 pad.

        Raises:
          DataError: the statistics belong to pictures of another size.
        """
        side = self.mean_image.shape[0]
        if side != config.resize:
            raise DataError(
                f"the mean image is {side}x{side} but `resize` is {config.resize}; "
                "measure the statistics again with this `resize`"
            )
        border = ((config.pad,) * 2, (config.pad,) * 2, (0, 0))
        return np.pad(self.mean_image.astype(np.float32), border, mode="reflect")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the statistics as .npz; the file appears whole or not at all."""
        arrays: dict[str, Any] = {field: np.asarray(getattr(self, field)) for field in _FIELDS}
        # An open file: given a path, savez would add .npz to the temporary name.
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ImageStats:
        """Reads what `save` wrote.

        Raises:
          DataError: the file is missing, damaged or holds something else.
        """
        try:
            # Opened here, because NumPy leaves a damaged file open.
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                values: dict[str, Any] = {field: arrays[field] for field in _FIELDS}
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; it holds the training set's mean image") from None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: not a complete file of image statistics ({error})") from None
        values["count"] = int(values["count"])
        return cls(**values)


class StatsAccumulator:
    """Gathers ImageStats batch by batch; accumulators of disjoint pictures can be merged.

    All sums are whole numbers: the same pictures give the same statistics to the last bit, in whatever order
    and in however many parts they were added up.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sum: np.ndarray | None = None
        self._products = np.zeros((3, 3), np.int64)

    def update(self, images: np.ndarray) -> None:
        """Adds pictures, uint8 [batch, side, side, 3]; every batch must have the same side."""
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(
                f"`images` must be uint8 [batch, side, side, 3]; received {images.dtype} {images.shape}"
            )
        if not len(images):
            return
        if self._sum is not None and images.shape[1:] != self._sum.shape:
            raise ValueError(f"`images` must measure {self._sum.shape}; received {images.shape[1:]}")
        for first in range(0, len(images), _LARGEST_EXACT_BATCH):
            self._add(images[first : first + _LARGEST_EXACT_BATCH])

    def merge(self, other: StatsAccumulator) -> None:
        """Adds the pictures that `other` has accumulated."""
        if other._sum is None:
            return
        if self._sum is not None and self._sum.shape != other._sum.shape:
            raise ValueError(f"pictures must have one size; received {self._sum.shape}, {other._sum.shape}")
        if self._sum is None:
            self._sum = other._sum.copy()
        else:
            self._sum += other._sum
        self._products += other._products
        self.count += other.count

    def sums(self) -> dict[str, np.ndarray]:
        """What was added up, for `of_sums`: `count`, `sum` [side, side, 3], `products` [3, 3]; int64."""
        total = np.zeros((0, 0, 3), np.int64) if self._sum is None else self._sum
        return {"count": np.asarray(self.count), "sum": total, "products": self._products}

    @classmethod
    def of_sums(cls, sums: Mapping[str, np.ndarray]) -> StatsAccumulator:
        """The accumulator whose `sums` these are, of whatever type of whole numbers."""
        accumulator = cls()
        accumulator.count = int(sums["count"])
        accumulator._sum = sums["sum"].astype(np.int64) if accumulator.count else None
        accumulator._products = sums["products"].astype(np.int64)
        return accumulator

    def result(self) -> ImageStats:
        """The statistics of all pictures seen.

        Raises:
          DataError: there were none.
        """
        if self._sum is None:
            raise DataError("no picture to measure the mean image from")
        mean_image = self._sum / self.count
        channel_mean = mean_image.mean(axis=(0, 1))
        shifted = channel_mean - float(_CENTRE)
        covariance = self._products / (self.count * self._sum.size // 3) - np.outer(shifted, shifted)
        components = principal_components(covariance)
        return ImageStats(
            eigenvalues=components.eigenvalues,
            eigenvectors=components.eigenvectors,
            mean_image=mean_image.astype(np.float32),
            channel_mean=channel_mean.astype(np.float32),
            count=self.count,
        )

    def _add(self, images: np.ndarray) -> None:
        total = images.sum(axis=0, dtype=np.uint16)
        self._sum = total.astype(np.int64) if self._sum is None else self._sum + total
        pixels = images.reshape(-1, 3)
        size = min(len(pixels), _PIXELS_AT_ONCE)
        # Written over again and again, so that they stay in the processor's cache.
        centred, copy = np.empty((size, 3), np.uint8), np.empty((size, 3), np.float32)
        for first in range(0, len(pixels), size):
            part = pixels[first : first + size]
            np.bitwise_xor(part, _CENTRE, out=centred[: len(part)])
            # As signed numbers these are part - 128, which is a cheaper step than the subtraction.
            copy[: len(part)] = centred[: len(part)].view(np.int8)
            self._products += _second_moments(copy[: len(part)])
        self.count += len(images)


def principal_components(covariance: np.ndarray) -> ColourComponents:
    """Eigenvalues (largest first) and eigenvectors of a [3, 3] covariance.

    The sign of an eigenvector is arbitrary: here its largest entry is positive.
    """
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(3)]
    return ColourComponents(values.astype(np.float32), (vectors * np.sign(largest)).astype(np.float32))


def published(colour_noise: str) -> ColourComponents:
    """The released components of the ImageNet training set that belong to a convention of colour noise.

    `deviation`: cuda-convnet2's make-data/input_meta (standard deviations on 0..255 data, squared
    here). `eigenvalue`: the table of fb.resnet.torch (eigenvalues on 0..1 data, here times 255^2).
    The two disagree by 5 to 30 per cent in variance, having been measured on differently prepared pictures.
    """
    if colour_noise == "deviation":
        values = np.square([121.780, 37.094, 19.721])
        vectors = [
            [-0.56351, -0.71258, 0.41796],
            [-0.57618, -0.02354, -0.81698],
            [-0.59200, 0.70120, 0.39731],
        ]
    else:
        values = np.multiply([0.2175, 0.0188, 0.0045], 255.0**2)
        vectors = [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    return ColourComponents(values.astype(np.float32), np.asarray(vectors, np.float32))


def _second_moments(rgb: np.ndarray) -> np.ndarray:
    """Sum over pixels of the outer products of RGB values [pixels, 3] from -128 to 127, as int64 [3, 3]."""
    block = _EXACT_ROWS * _PIXELS_PER_ROW
    whole = len(rgb) // block * block
    rest = rgb[whole:].astype(np.int64)
    rows = rgb[:whole].reshape(-1, _EXACT_ROWS, 3 * _PIXELS_PER_ROW)
    products = (rows.transpose(0, 2, 1) @ rows).astype(np.int64).sum(axis=0)
    # Pixels meet themselves in the blocks on the diagonal only.
    products = products.reshape(_PIXELS_PER_ROW, 3, _PIXELS_PER_ROW, 3)
    return np.einsum("iaib->ab", products) + rest.T @ rest
