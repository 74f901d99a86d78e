"""The architectures as data, each number with its source; no TensorFlow import.

[P n] is section n of the paper (Krizhevsky, Sutskever and Hinton, NIPS 2012); [S file] a file of the
source released by its authors (computerhistory/AlexNet-Source-Code), where configuration 145 is the
network whose logged errors are the paper's; [C file] of its successor cuda-convnet2; [CF] BVLC/caffe;
[TV] pytorch/vision. (row n) is a row of docs/conventions.md, where text and source disagree.
"""

from __future__ import annotations

import dataclasses

from pipelines.errors import UserError

INITIALIZERS = ("published", "he")
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


@dataclasses.dataclass(frozen=True)
class ChannelNorm:
    """Response normalisation across channels: x / (k + alpha * sum of `size` squares)^beta [P 3.3]."""

    k: float = 2.0
    alpha: float = 1e-4
    beta: float = 0.75
    size: int = 5
    across_towers: bool = True


@dataclasses.dataclass(frozen=True)
class SpatialNorm:
    """Response normalisation inside one map over a `size` x `size` window [S layers-145.cfg]."""

    alpha: float = 0.001 / 25
    beta: float = 0.75
    size: int = 5


@dataclasses.dataclass(frozen=True)
class FirstLayer:
    """The convolution that reads the pixels.

    Attributes:
      name: of the layer, without a tower's suffix.
      kernel: side of its square kernels, in pixels.
      stride: of its windows, in pixels.
    """

    name: str = "conv1"
    kernel: int = 11
    stride: int = 4


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One network, from the picture to the logits.

    Attributes:
      layout: `two_tower` (two of everything, as on two GPUs in 2012), `merged` (the same function
        along one path whose convolutions 2, 4 and 5 connect in two groups) or `single` (no groups).
      input_size: side of the square the network sees, in pixels.
      first_layer: kernel and stride of the convolution that reads the pixels.
      conv1_padding: zeros (before, after) each side of the input, in pixels (row 1).
      filters: feature maps of conv1..conv5, both towers together.
      relu1_after_pool: layer 1's ReLU comes last: conv, norm, pool, ReLU instead of conv, ReLU, norm, pool
        (row 2).
      norm_after_pool: layers 1 and 2 pool before they normalise (CaffeNet).
      channel_norm: the normalisation of layers 1 and 2, None for none (rows 4 and 5).
      spatial_norm: a second normalisation of layer 2, None for none (row 3).
      pool_size: side of the pooling windows; their stride is 2.
      conv2_padding, conv5_padding: zeros around those layers' inputs, in pixels.
      conv6: a sixth convolution, 256 maps, over the last pooled maps [P 6.1, the asterisked nets].
      hidden: units of fc6 and fc7.
      weight_std: standard deviation of the Gaussian initial weights, a value a layer (row 6).
      bias: initial biases, a value a layer.
      dropout: `paper` masks in training and halves in testing; `inverted` doubles survivors in
        training (row 11); `inverted_before` is that, applied before fc6 and fc7 instead of after.
    """

    layout: str
    input_size: int = 224
    first_layer: FirstLayer = FirstLayer()
    conv1_padding: tuple[int, int] = (0, 3)
    filters: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256)
    relu1_after_pool: bool = False
    norm_after_pool: bool = False
    channel_norm: ChannelNorm | None = ChannelNorm()
    spatial_norm: SpatialNorm | None = None
    pool_size: int = 3
    conv2_padding: int = 2
    conv5_padding: int = 1
    conv6: bool = False
    hidden: int = 4096
    weight_std: tuple[float, ...] = (0.01,) * 8
    bias: tuple[float, ...] = (0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0)
    dropout: str = "paper"

    @property
    def towers(self) -> tuple[str, ...]:
        """Suffixes of the tower's layers: the original source's `a` and `b`, or one empty suffix."""
        return ("_a", "_b") if self.layout == "two_tower" else ("",)

    @property
    def first_layers(self) -> tuple[str, ...]:
        """Names of the layers that read the pixels, one a tower."""
        return tuple(self.first_layer.name + tower for tower in self.towers)

    @property
    def groups(self) -> int:
        """Groups in which convolutions 2, 4 and 5 connect within one path."""
        return 2 if self.layout == "merged" else 1


# The text. Row 1: a 224-pixel input gives 55 x 55 only if the last window hangs 3 pixels over the
# edge and reads zeros, which is what the source did; the text gives both numbers and no rule.
# Row 5: the text sums over all kernel maps of the layer, so the window crosses the towers.
PAPER = Architecture(layout="two_tower")

# Configuration 145 as it ran.
ORIGINAL = Architecture(
    layout="two_tower",
    relu1_after_pool=True,  # row 2 [S layers-145.cfg]: conv1 is linear, its ReLU follows the pooling
    spatial_norm=SpatialNorm(),  # row 3 [S layers-145.cfg, layer-params-145.cfg]: cnorm2a, cnorm2b
    # Row 4 [S layer.py]: scale 1e-4 is divided by size 5. Row 5 [S layers-145.cfg]: inside each tower.
    channel_norm=ChannelNorm(alpha=2e-5, across_towers=False),
    weight_std=(0.01, 0.01, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01),  # row 6 [S layers-145.cfg]
)

# [CF models/bvlc_alexnet/train_val.prototxt]: 227-pixel crops without padding, k = 1, biases 0.1.
CAFFE = Architecture(
    layout="merged",
    input_size=227,
    conv1_padding=(0, 0),
    channel_norm=ChannelNorm(k=1.0, alpha=2e-5),
    weight_std=(0.01, 0.01, 0.01, 0.01, 0.01, 0.005, 0.005, 0.01),
    bias=(0.0, 0.1, 0.0, 0.1, 0.1, 0.1, 0.1, 0.0),
    dropout="inverted",
)

VARIANTS: dict[str, Architecture] = {
    "paper": PAPER,
    "original": ORIGINAL,
    "merged": dataclasses.replace(PAPER, layout="merged"),
    # [P 3.2] and its footnote: half the kernels of a one-GPU net, but conv5 and the fully connected
    # layers keep their size, so that both nets have about the same number of parameters.
    "half": dataclasses.replace(PAPER, layout="single", filters=(48, 128, 192, 192, 256)),
    # [P 3.3; S layers-148.cfg]: without any response normalisation.
    "no_normalization": dataclasses.replace(PAPER, channel_norm=None),
    # [P 3.4; S layers-147.cfg]: 2 x 2 windows; narrower padding lets the maps still end at 6 x 6.
    "non_overlapping_pooling": dataclasses.replace(PAPER, pool_size=2, conv2_padding=1, conv5_padding=0),
    # [P 6; S layers-146-*.cfg]: "1 CNN*" and the two pre-trained nets of "7 CNNs*".
    "conv6": dataclasses.replace(PAPER, conv6=True),
    # [TV torchvision/models/alexnet.py], after Krizhevsky, "One weird trick ..." (2014).
    # Shape and dropout are torchvision's; the standard deviations are cuda-convnet2's, the biases ours.
    "one_weird_trick": Architecture(
        layout="single",
        conv1_padding=(2, 2),
        filters=(64, 192, 384, 256, 256),
        channel_norm=None,
        weight_std=(0.01, 0.01, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01),
        bias=(0.0,) * 8,
        dropout="inverted_before",
    ),
    "caffe": CAFFE,
    # [CF models/bvlc_reference_caffenet]: pooling before normalisation, biases 1.
    "caffenet": dataclasses.replace(CAFFE, norm_after_pool=True, bias=PAPER.bias),
}


def get(name: str) -> Architecture:
    """Returns the architecture called `name`; raises UserError listing the names that exist."""
    if name not in VARIANTS:
        raise UserError(f"`variant` must be one of {', '.join(VARIANTS)}; received {name!r}")
    return VARIANTS[name]


def require_two_towers(variant: str) -> None:
    """Raises UserError for a variant without two towers, which `--devices towers` puts on a device each."""
    if len(get(variant).towers) != 2:
        legal = [name for name, arch in VARIANTS.items() if len(arch.towers) == 2]
        raise UserError(
            f"--devices towers: `variant` must have two towers: {', '.join(legal)}; received {variant!r}"
        )
