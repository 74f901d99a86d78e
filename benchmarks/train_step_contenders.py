"""The paper's network and one training step of it, as we write it and as others do.

Every maker returns a function that takes one step on one batch of made-up pictures, and returns when the
weights are updated. The peers are given float32 pixels, mean subtracted; ours gets uint8 crops, as in a run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from alexnet_tf.recipe import Recipe
    from alexnet_tf.training.placement import Placement
    from alexnet_tf.training.state import TrainState

SIDE, CLASSES = 224, 1000
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 5e-4
Step = Callable[[], None]


@dataclasses.dataclass(frozen=True)
class Contender:
    """A way to take the step: what it is, and what makes it (arguments: batch size)."""

    description: str
    make: Callable[[int], Step]


def _pictures(batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Uint8 [batch, 224, 224, 3] and int32 [batch]."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, SIDE, SIDE, 3), np.uint8)
    return images, rng.integers(0, CLASSES, batch, np.int32)


def _ours(precision: str, batch: int) -> Step:
    """The step of the training loop itself."""
    from alexnet_tf import recipe
    from alexnet_tf.training import placement

    chosen = recipe.get("paper").replace({"batch_size": str(batch), "precision": precision})
    return ours_at(placement.place("one"), chosen)[0]


def ours_at(here: Placement, chosen: Recipe, *, summed: bool = True) -> tuple[Step, TrainState]:
    """The training loop's step of a recipe somewhere, and what it changes.

    Args:
      here: where; a process of several takes its share of the batch.
      chosen: the recipe.
      summed: False leaves out the sum of the replicas' gradients, and with it their communication:
        each replica goes a way of its own.
    """
    import tensorflow as tf

    from alexnet_tf.training import step as train_step
    from alexnet_tf.training.schedule import Rates, Schedule
    from alexnet_tf.training.state import TrainState
    from pipelines.pictures.statistics import ImageStats

    network, optimizer = here.build(chosen, CLASSES)
    if not summed:
        setattr(optimizer, "_all_reduce_sum_gradients", list)  # noqa: B010 - in the place of a method
    mean = np.full((chosen.resize, chosen.resize, 3), 120.0, np.float32)
    stats = ImageStats(np.ones(3, np.float32), np.eye(3, dtype=np.float32), mean, mean[0, 0], 1)
    data = chosen.data_config("synthetic")
    steps = train_step.build(network, optimizer, chosen, data, stats, here.strategy)
    images, labels = _pictures(chosen.batch_size)
    index, count = here.shard
    given = {
        "image": tf.constant(images[index::count]),
        "label": tf.constant(labels[index::count]),
        "mask": tf.ones([len(labels[index::count])]),
        "colour_shift": tf.zeros([len(labels[index::count]), 3]),
        "window": tf.zeros([len(labels[index::count]), 3], tf.int32),
    }
    batches = iter(here.distribute(lambda _: tf.data.Dataset.from_tensors(given).repeat()))
    rates = [Rates(LEARNING_RATE, LEARNING_RATE, LEARNING_RATE, 1.0)]

    def step() -> None:
        steps(batches, rates, False, (0.0,))  # waits for the sums, as the loop does

    return step, TrainState(network, optimizer, Schedule(chosen, steps_per_epoch=1))


def _usual_keras(batch: int) -> Step:
    """Grouped convolutions, TensorFlow's normalisation, Keras' SGD, `train_on_batch`."""
    import keras
    import tensorflow as tf
    from keras import layers

    class Normalization(layers.Layer):
        def call(self, x: Any) -> Any:
            return tf.nn.local_response_normalization(x, depth_radius=2, bias=2.0, alpha=1e-4, beta=0.75)

    network = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.ZeroPadding2D(((0, 3), (0, 3))),
            layers.Conv2D(96, 11, 4, activation="relu"),
            Normalization(),
            layers.MaxPooling2D(3, 2),
            layers.Conv2D(256, 5, padding="same", groups=2, activation="relu"),
            Normalization(),
            layers.MaxPooling2D(3, 2),
            layers.Conv2D(384, 3, padding="same", activation="relu"),
            layers.Conv2D(384, 3, padding="same", groups=2, activation="relu"),
            layers.Conv2D(256, 3, padding="same", groups=2, activation="relu"),
            layers.MaxPooling2D(3, 2),
            layers.Flatten(),
            layers.Dense(4096, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(4096, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(CLASSES),
        ]
    )
    rule = keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    network.compile(rule, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images, labels = _pictures(batch)
    pixels = images.astype(np.float32) - 120.0

    def step() -> None:
        network.train_on_batch(pixels, labels)

    return step


def _torch_network(normalization: Callable[[int], Any]) -> Any:
    """The network as a torch Sequential; `normalization` makes the layer for so many channels."""
    from torch import nn

    return nn.Sequential(
        nn.ZeroPad2d((0, 3, 0, 3)),
        nn.Conv2d(3, 96, 11, 4),
        nn.ReLU(inplace=True),
        normalization(96),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, padding=2, groups=2),
        nn.ReLU(inplace=True),
        normalization(256),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 384, 3, padding=1, groups=2),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1, groups=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Flatten(),
        nn.Linear(9216, 4096),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(4096, 4096),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(4096, CLASSES),
    )


def _usual_torch(batch: int) -> Step:
    """Grouped convolutions, torch's normalisation, torch's SGD, float32."""
    import torch
    from torch import nn

    network = _torch_network(lambda channels: nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)).train()
    rule = torch.optim.SGD(network.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY)
    images, labels = _pictures(batch)
    pixels = torch.tensor(images.astype(np.float32) - 120.0).permute(0, 3, 1, 2).contiguous()
    targets = torch.tensor(labels, dtype=torch.int64)

    def step() -> None:
        rule.zero_grad()
        nn.functional.cross_entropy(network(pixels), targets).backward()
        rule.step()

    return step


def _banded_normalization(channels: int) -> Any:
    """Response normalisation whose window is summed by a 1x1 convolution with a banded kernel."""
    import torch
    from torch import nn

    class Banded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            index = torch.arange(channels)
            near = (index[:, None] - index[None, :]).abs() <= 2
            self.register_buffer("band", 1e-4 * near.float()[:, :, None, None])
            self.register_buffer("k", torch.full((channels,), 2.0))

        def forward(self, x: Any) -> Any:
            root = nn.functional.conv2d(x * x, self.band, self.k).rsqrt()
            return x * (root * root.sqrt()).to(x.dtype)  # base^-3/4

    return Banded()


def _tuned_torch(precision: str, batch: int) -> Step:
    """Channels-last, banded normalisation, the fused SGD; in bfloat16 by autocast."""
    import torch
    from torch import nn

    network = _torch_network(_banded_normalization).train().to(memory_format=torch.channels_last)
    rule = torch.optim.SGD(
        network.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY, fused=True
    )
    images, labels = _pictures(batch)
    pixels = torch.tensor(images.astype(np.float32) - 120.0).permute(0, 3, 1, 2)  # channels-last as it lies
    targets = torch.tensor(labels, dtype=torch.int64)

    def step() -> None:
        rule.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = network(pixels)
        nn.functional.cross_entropy(logits.float(), targets).backward()
        rule.step()

    return step


CONTENDERS = {
    "ours_float32": Contender("this package, float32", lambda batch: _ours("float32", batch)),
    "ours_bfloat16": Contender("this package, bfloat16", lambda batch: _ours("bfloat16", batch)),
    "usual_keras": Contender("Keras, Conv2D(groups=2), tf.nn.lrn, SGD", _usual_keras),
    "usual_torch": Contender("PyTorch, Conv2d(groups=2), LocalResponseNorm", _usual_torch),
    "tuned_torch_float32": Contender(
        "PyTorch, channels-last, float32, banded norm", lambda batch: _tuned_torch("float32", batch)
    ),
    "tuned_torch_bfloat16": Contender(
        "PyTorch, channels-last, bfloat16, banded norm", lambda batch: _tuned_torch("bfloat16", batch)
    ),
}
