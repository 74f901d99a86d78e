"""What the input pipeline needs to know, as one frozen dataclass; no TensorFlow import.

Section numbers refer to Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep
Convolutional Neural Networks" (NIPS 2012); file names to the 2012 source
(computerhistory/AlexNet-Source-Code) and to its successor (akrizhevsky/cuda-convnet2).
"""

from __future__ import annotations

import dataclasses

from pipelines.errors import DataError

SOURCE_KINDS = ("synthetic", "folder", "tfds", "records", "imagenet")
COLOUR_NOISES = ("none", "eigenvalue", "deviation")
MEANS = ("image", "channel")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which pictures, how they are split, prepared and augmented.

    Attributes:
      spec: `synthetic`, `folder:DIR`, `tfds:NAME`, `records:DIR` or `imagenet:DIR`.
      seed: decides the order of the examples in training and every augmentation.
      data_seed: decides which pictures are held out when the source has no validation split, their
        order, and the built-in pictures. Runs that share it may be averaged and compared.
      val_fraction: share of the training set held out when the source has no validation split.
      resize: short side in pixels that every picture is brought to (256 in section 2).
      crop: side of the square the network sees (224 in section 4.1).
      pad: reflected border in pixels around the resized picture before it is cropped (0 in 2012;
        for `resize == crop`, where a random crop would have nowhere to go).
      mirror: whether half of the training crops are flipped left to right (section 4.1).
      share_crops: consecutive training pictures that share one offset and one flip (1 in the
        paper; 32 in the source, convdata_jpeg.py).
      edge_crops: whether random crops reach the lower and the right edge: 33 x 33 offsets in 256 pixels
        (convdata_jpeg.py), else 32 x 32 (the "factor of 2048" of section 4.1, with the mirrors).
      colour_noise: PCA colour noise of section 4.1: `eigenvalue` scales each component by its
        eigenvalue on 0..1 data (the text), `deviation` by its standard deviation on 0..255 data
        (the source), `none` switches it off.
      colour_std: standard deviation of the random multipliers (0.1 in both).
      colour_statistics: `training_set` measures the components, `published` takes the released ones.
      colour_rescale: whether noisy, mean-subtracted pictures are divided by 1 + `colour_std` (by 1.1 in the
        source, convdata_jpeg.py), as long as there is noise: a schedule may end it.
      colour_divisor: pixels are divided by this in all of the training (1 in both).
      mean: subtract the mean `image` (both 2012 conventions) or one value a `channel`.
      mean_follows_crop: whether the mean image is cropped and mirrored with its picture, as if it were
        subtracted before (section 2); else its centre is subtracted from every crop (convdata_jpeg.py).
      pixel_divisor: mean-subtracted pixels are divided by this, in training and evaluation (1 in 2012).
      shuffle: whether the training set is reshuffled each epoch (the source cycles in fixed order).
      partial_batch: whether the pictures after an epoch's last whole batch make a smaller one (as in the
        source, where each had its place for ever); else they are left out until the next shuffle.
    """

    spec: str = "synthetic"
    seed: int = 0
    data_seed: int = 0
    val_fraction: float = 0.1
    resize: int = 256
    crop: int = 224
    pad: int = 0
    mirror: bool = True
    share_crops: int = 1
    edge_crops: bool = False
    colour_noise: str = "eigenvalue"
    colour_std: float = 0.1
    colour_statistics: str = "training_set"
    colour_rescale: bool = False
    colour_divisor: float = 1.0
    mean: str = "image"
    mean_follows_crop: bool = True
    pixel_divisor: float = 1.0
    shuffle: bool = True
    partial_batch: bool = False

    def __post_init__(self) -> None:
        kind = self.kind
        if kind not in SOURCE_KINDS:
            raise DataError(
                "--data must be synthetic, folder:DIR, tfds:NAME, records:DIR or imagenet:DIR; "
                f"received {self.spec!r}"
            )
        if kind != "synthetic" and not self.location:
            place = "NAME" if kind == "tfds" else "DIR"
            raise DataError(f"--data {kind}: names no place; write {kind}:{place}")
        if self.resize + 2 * self.pad < self.crop:
            raise DataError(
                f"`crop` must fit into `resize` + 2 `pad`; "
                f"received crop={self.crop}, resize={self.resize}, pad={self.pad}"
            )
        if not 0.0 < self.val_fraction < 1.0:
            raise DataError(f"`val_fraction` must lie between 0 and 1; received {self.val_fraction}")
        if self.share_crops < 1:
            raise DataError(f"`share_crops` must be 1 or more; received {self.share_crops}")
        for field, legal in (
            ("colour_noise", COLOUR_NOISES),
            ("mean", MEANS),
            ("colour_statistics", ("training_set", "published")),
        ):
            if getattr(self, field) not in legal:
                raise DataError(
                    f"`{field}` must be one of {', '.join(legal)}; received {getattr(self, field)!r}"
                )
        for field in ("colour_divisor", "pixel_divisor"):
            if getattr(self, field) <= 0:
                raise DataError(f"`{field}` must be positive; received {getattr(self, field)}")

    @property
    def crop_places(self) -> int:
        """How many offsets a random crop may have along each side."""
        room = self.resize + 2 * self.pad - self.crop
        return room + 1 if self.edge_crops else max(1, room)

    @property
    def mean_moves(self) -> bool:
        """Whether what is subtracted from a crop depends on where the crop was taken."""
        return self.mean == "image" and self.mean_follows_crop

    @property
    def kind(self) -> str:
        """The part of `spec` before the colon."""
        return self.spec.partition(":")[0]

    @property
    def location(self) -> str:
        """The part of `spec` after the colon; empty for `synthetic`."""
        return self.spec.partition(":")[2]
