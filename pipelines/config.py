"""The settings of the input pipeline; no TensorFlow import.

Section numbers refer to Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep
Convolutional Neural Networks" (NIPS 2012); file names to the 2012 source
(computerhistory/AlexNet-Source-Code) and to its successor (akrizhevsky/cuda-convnet2).
"""

from __future__ import annotations

import dataclasses
import os

from pipelines import fields
from pipelines.errors import DataError
from pipelines.fields import setting

SOURCE_KINDS = ("synthetic", "folder", "tfds", "records", "imagenet", "cifar")
SPECS = "synthetic, folder:DIR, tfds:NAME, records:DIR, imagenet:DIR or cifar:DIR"
NOT_FOLDERS = ("synthetic", "tfds")  # kinds whose place is none
TAKE_OPTIONS = ("tfds", "cifar")  # kinds of which `?label=fine` may follow the place
COLOUR_NOISES = ("none", "eigenvalue", "deviation")
COLOUR_STATISTICS = ("training_set", "published")
RESIZE_RULES = ("short_side", "warp", "squash")
MEANS = ("image", "channel")
# A mean picture of the longest side takes 800 MB.
LONGEST_SIDE = 8192
SIDE = fields.Range(lambda x: 1 <= x <= LONGEST_SIDE, f"lie between 1 and {LONGEST_SIDE}")
BORDER = fields.Range(lambda x: 0 <= x <= LONGEST_SIDE, f"lie between 0 and {LONGEST_SIDE}")


class ResizeRule:
    """Legal names of rules: those of RESIZE_RULES, alone or with a size, as in `warp_256`."""

    def complaint(self, value: str) -> str:
        legal = split_rule(value)[0] in RESIZE_RULES
        return "" if legal else f"be one of {self}, alone or as in warp_256; received {value!r}"

    def __str__(self) -> str:
        return ", ".join(RESIZE_RULES)


def split_rule(name: str) -> tuple[str, int | None]:
    """A rule and the size in its name: `warp_256` is ("warp", 256), `warp` is ("warp", None)."""
    rule, _, size = name.rpartition("_")
    return (rule, int(size)) if size.isascii() and size.isdecimal() else (name, None)


@dataclasses.dataclass(frozen=True)
class PictureSettings:
    """How pictures are split, prepared and augmented; each field says in its metadata what it means.

    Defaults are the paper's text.
    """

    seed: int = setting(0, "of weights, dropout, order and augmentation")
    data_seed: int = setting(
        0,
        "of the held-out share and the built-in pictures",
        more="runs that share it may be averaged and compared",
    )
    val_fraction: float = setting(
        0.1, "share held out where the data have no validation split", fields.BETWEEN
    )
    resize: int = setting(256, "short side of every picture, pixels (section 2)", SIDE)
    resize_rule: str = setting(
        "short_side",
        "how pictures become squares of `resize` pixels",
        ResizeRule(),
        more="`short_side` cuts the middle out (section 2); `warp` squeezes the whole picture by bilinear "
        "interpolation, as Caffe did; `squash` is a warp straight to `crop`; in `--set` a name with its size "
        "(`short_side_256`, `warp_256`, `squash_224`) sets `resize`, too",
    )
    exif_orientation: bool = setting(
        True,
        "photographs are turned upright as EXIF says",
        more="in training, evaluation and the export; not in the source, whose OpenCV did not know EXIF",
    )
    crop: int = setting(224, "side of what the network sees, pixels (section 4.1)", SIDE)
    pad: int = setting(
        0,
        "reflected border before the crop, pixels",
        BORDER,
        more="0 in 2012; for `resize` = `crop`, where a random crop would have nowhere to go",
    )
    mirror: bool = setting(True, "half of the training crops are flipped (section 4.1)", more="left to right")
    share_crops: int = setting(
        1,
        "training pictures that share one crop",
        fields.ONE_OR_MORE,
        more="consecutive ones, with one offset and one flip; 32 in the source (convdata_jpeg.py)",
    )
    edge_crops: bool = setting(
        False,
        "random crops reach the lower and the right edge, too",
        more="33 × 33 offsets in 256 pixels, as in the source (convdata_jpeg.py); else 32 × 32, the "
        '"factor of 2048" of section 4.1 with the mirrors',
    )
    colour_noise: str = setting(
        "eigenvalue",
        "noise along the colours' principal components (section 4.1)",
        fields.OneOf(COLOUR_NOISES),
        more="`eigenvalue` scales each component by its eigenvalue on 0..1 data (the text), `deviation` by "
        "its standard deviation on 0..255 data (the source), `none` switches it off",
    )
    colour_std: float = setting(
        0.1,
        "strength of the colour noise (section 4.1)",
        fields.NOT_NEGATIVE,
        more="standard deviation of the random multipliers",
    )
    colour_statistics: str = setting(
        "training_set",
        "where the colours' components come from",
        fields.OneOf(COLOUR_STATISTICS),
        more="`training_set` measures them, `published` takes the released ones",
    )
    colour_rescale: bool = setting(
        False,
        "noisy pixels are divided by 1 + the strength of the noise",
        more="after the mean is subtracted, as long as there is noise: a schedule may end it; by 1.1 in the "
        "source (convdata_jpeg.py)",
    )
    colour_divisor: float = setting(1.0, "divides all pixels in training", fields.POSITIVE, more="1 in 2012")
    mean: str = setting(
        "image",
        "subtracted mean: a picture (section 2), or one value a channel",
        fields.OneOf(MEANS),
        more="`image` in text and source",
    )
    mean_follows_crop: bool = setting(
        True,
        "the mean picture is cropped and mirrored with the picture",
        more="as if it were subtracted before (section 2); else its centre is subtracted from every crop "
        "(convdata_jpeg.py)",
    )
    pixel_divisor: float = setting(
        1.0,
        "divides the mean-subtracted pixels",
        fields.POSITIVE,
        more="in training and evaluation; 1 in 2012",
    )
    shuffle: bool = setting(True, "new order every epoch", more="the source cycles in a fixed order")
    partial_batch: bool = setting(
        False,
        "an epoch's last pictures make a smaller batch",
        more="as in the source, where each had its place for ever; else they are left out until the next "
        "shuffle",
    )

    @property
    def preparation(self) -> PictureSettings:
        """The settings on which a prepared picture depends, the others as by default."""
        return PictureSettings(
            resize=self.resize, resize_rule=self.resize_rule, exif_orientation=self.exif_orientation
        )

    @property
    def squeezes(self) -> bool:
        """Whether the whole picture is made a square, its aspect given up."""
        return split_rule(self.resize_rule)[0] != "short_side"


@dataclasses.dataclass(frozen=True)
class _Source:
    """The data set."""

    spec: str = setting(
        "synthetic",
        "data set: `synthetic`, `folder:DIR`, `tfds:NAME`, `records:DIR`, `imagenet:DIR` or `cifar:DIR`",
    )


# The fields of the last base come first.
@dataclasses.dataclass(frozen=True)
class DataConfig(PictureSettings, _Source):
    """The data set (`spec`), and how its pictures are split, prepared and augmented (see `PictureSettings`).

    Raises:
      DataError: a value is not legal, or contradicts another.
    """

    def __post_init__(self) -> None:
        kind = self.kind
        if kind not in SOURCE_KINDS:
            raise DataError(f"--data must be {SPECS}; received {self.spec!r}")
        if kind != "synthetic" and not self.location:
            place = "NAME" if kind == "tfds" else "DIR"
            raise DataError(f"--data {kind}: names no place; write {kind}:{place}")
        if kind not in NOT_FOLDERS and self.location.startswith("~"):
            raise DataError(f"--data {self.spec}: no such user; a folder of this name is {kind}:./...")
        fields.check(self, DataError)
        self._settle_rule()
        if self.resize + 2 * self.pad < self.crop:
            raise DataError(
                f"`crop` must fit into `resize` + 2 `pad`; "
                f"received crop={self.crop}, resize={self.resize}, pad={self.pad}"
            )

    def _settle_rule(self) -> None:
        """Checks the size in a rule's name, and that in the rule's meaning; the name stays without it."""
        rule, size = split_rule(self.resize_rule)
        if size not in (None, self.resize):
            raise DataError(
                f"`resize_rule` names another size than `resize`; "
                f"received resize_rule={self.resize_rule}, resize={self.resize}"
            )
        if rule == "squash" and self.resize != self.crop:
            raise DataError(
                f"`resize` must be `crop` with resize_rule=squash, which leaves nothing to cut off; received "
                f"resize={self.resize}, crop={self.crop}"
            )
        object.__setattr__(self, "resize_rule", rule)

    @property
    def crop_places(self) -> int:
        """The number of offsets that a random crop may have along each side."""
        room = self.resize + 2 * self.pad - self.crop
        return room + 1 if self.edge_crops else max(1, room)

    @property
    def mean_moves(self) -> bool:
        """Whether the mean that is subtracted from a crop depends on the crop's place."""
        return self.mean == "image" and self.mean_follows_crop

    def reading(self, prepared_size: int | None) -> DataConfig:
        """How a source's pictures are read: prepared ones (`Source.prepared_size`) need no turn any more."""
        return self if prepared_size is None else dataclasses.replace(self, exif_orientation=False)

    @property
    def kind(self) -> str:
        """The part of `spec` before the colon."""
        return self.spec.partition(":")[0]

    @property
    def location(self) -> str:
        """The part of `spec` after the colon, `~` expanded in a path; empty for `synthetic`."""
        place = self.spec.partition(":")[2]
        return place if self.kind in NOT_FOLDERS else os.path.expanduser(place)

    @property
    def place(self) -> str:
        """`location` without the options that may follow it (`sources.options`)."""
        return self.location.partition("?")[0] if self.kind in TAKE_OPTIONS else self.location
