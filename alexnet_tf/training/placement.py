"""Placement of a run on devices: one, a replica on each of several, or a tower on each of two."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import tensorflow as tf

from alexnet_tf import model
from alexnet_tf.distribute import towers
from alexnet_tf.distribute.cluster import Cluster
from alexnet_tf.network import backend, graph
from alexnet_tf.recipe import Recipe
from alexnet_tf.training.optimizer import PaperMomentum
from pipelines.errors import UserError

DEVICES = ("one", "mirrored", "multi-worker", "towers")
DTYPE_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
# What the step reads of a batch; the pictures' names stay behind, as strings have no place on a GPU.
FEATURES = ("image", "label", "mask", "weight", "colour_shift", "window")

Shard = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Placement:
    """The devices and processes of a run.

    Attributes:
      strategy: under which variables are made and steps are run.
      cluster: the processes that train together, of which this is one; None for one alone.
      tower_devices: devices of towers a and b; None where a device holds whole networks.
      unbroken: wraps what the loss of another process must not cut short (`Peers.unbroken`).
    """

    strategy: tf.distribute.Strategy
    cluster: Cluster | None = None
    tower_devices: tuple[str, str] | None = None
    unbroken: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run folder."""
        return self.cluster is None or self.cluster.is_chief

    @property
    def shard(self) -> Shard:
        """(index, count): this process' share of every global batch."""
        return (0, 1) if self.cluster is None else (self.cluster.index, self.cluster.count)

    @property
    def replicas(self) -> int:
        """Copies of the network, over all processes."""
        return int(self.strategy.num_replicas_in_sync)

    def build(self, recipe: Recipe, classes: int) -> tuple[keras.Model, PaperMomentum]:
        """Builds the recipe's network and optimizer on their devices.

        Raises:
          UserError: the batch cannot be shared out, or the variant has no two towers.
        """
        shares = self.replicas * recipe.accumulation_steps
        if recipe.batch_size % shares:
            parts = "" if recipe.accumulation_steps == 1 else f" x {recipe.accumulation_steps} parts"
            raise UserError(
                f"`batch_size` must be a multiple of the {self.replicas} replicas{parts}; "
                f"received {recipe.batch_size}"
            )
        if recipe.precision not in DTYPE_POLICIES:
            raise ValueError(
                f"`precision` must be settled first (precision.settle); received {recipe.precision}"
            )
        if self.tower_devices and recipe.xla:
            raise UserError("--devices towers: one XLA program has one device; leave out xla=true")
        settings: dict[str, Any] = {
            "dtype_policy": DTYPE_POLICIES[recipe.precision],
            "initializer": recipe.initializer,
            "pixel_std": recipe.pixel_std,
            "dropout_rate": recipe.dropout_rate,
            "seed": recipe.seed,
            "fused": True,
        }
        with self.strategy.scope():
            if self.tower_devices:
                network = towers.build(recipe.variant, classes, devices=self.tower_devices, **settings)
            else:
                network = model.build(recipe.variant, classes, **settings)
            optimizer = PaperMomentum(
                recipe.scaled_learning_rate,
                recipe.momentum,
                recipe.weight_decay,
                first_layer=[layer.name for layer in graph.first_layers(network)],
                fused=True,
                global_clipnorm=recipe.clip_norm or None,
            )
            optimizer.build(network.trainable_variables)
        return network, optimizer

    def distribute(self, open_shard: Callable[[Shard], tf.data.Dataset]) -> Any:
        """Batches for `strategy.run`, prefetched to the devices that will use them.

        Args:
          open_shard: gives a process' share of the global batches (`pipelines.dataset.build`).
        """

        def local(_: tf.distribute.InputContext) -> tf.data.Dataset:
            batches = open_shard(self.shard).map(_features)
            here = self.replicas // self.shard[1]
            if here > 1:
                size = int(batches.element_spec["label"].shape[0]) // here
                batches = batches.rebatch(size, drop_remainder=True)
            gpus = tf.config.list_logical_devices("GPU")
            if gpus and self.replicas == 1:  # a strategy of several fetches for itself
                batches = batches.apply(tf.data.experimental.prefetch_to_device(gpus[0].name, 2))
            return batches

        return self.strategy.distribute_datasets_from_function(local)

    def wait_for_all(self) -> None:
        """Waits until every process has called this."""
        self.check_same("where they wait", 0)

    def check_same(self, what: str, value: float) -> None:
        """Waits for all processes, and makes sure that they agree on a number.

        Raises:
          UserError: one of them has another.
        """
        mean, square = self.mean((value, value * value))
        if mean != value or square != value * value:
            raise UserError(
                f"the workers differ in {what} (here {value:g}): --workdir must be one folder that all see"
            )

    def mean(self, numbers: Sequence[float]) -> list[float]:
        """Averages each of the processes' numbers over all replicas; waits for all processes."""
        if self.cluster is None:
            return list(numbers)

        @tf.function
        def mean_of(numbers: tf.Tensor) -> tf.Tensor:
            own = self.strategy.run(tf.identity, args=(numbers,))
            return self.strategy.reduce(tf.distribute.ReduceOp.MEAN, own, axis=None)

        averages: list[float] = mean_of(tf.constant(numbers, tf.float64)).numpy().tolist()
        return averages


def _features(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return {name: batch[name] for name in FEATURES if name in batch}


def place(devices: str = "one", *, cluster: Cluster | None = None) -> Placement:
    """The placement that `--devices` names.

    Args:
      devices: `one` (the first GPU, or the CPU); `mirrored` or `mirrored:N` (a copy on every GPU of this
        machine, or on N of them; without GPUs on N logical CPUs, 2 by default); `multi-worker` (a copy on
        every device of every worker); `towers` (tower a on one GPU, b on another; without GPUs on two
        logical CPUs).
      cluster: the workers, for `multi-worker`.

    Raises:
      UserError: for another name, or devices that are not there.
    """
    backend.require_tensorflow("training")
    kind, _, number = devices.partition(":")
    if kind not in DEVICES or (number and kind != "mirrored"):
        raise UserError(
            f"--devices must be one of {', '.join(DEVICES)} (mirrored:N for N devices); received {devices!r}"
        )
    if kind == "mirrored":
        if number and not (number.isdecimal() and int(number) > 0):
            raise UserError(f"--devices mirrored:N takes a number of devices; received {devices!r}")
        return Placement(_mirrored(devices, int(number) if number else None))
    if kind == "multi-worker":
        if cluster is None:
            raise ValueError("`cluster` is needed for multi-worker")
        return Placement(_multi_worker(cluster), cluster)
    if kind == "towers":
        return Placement(tf.distribute.get_strategy(), tower_devices=_tower_devices())
    return Placement(tf.distribute.get_strategy())


def _mirrored(devices: str, wanted: int | None) -> tf.distribute.Strategy:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        if wanted and wanted > len(gpus):
            raise UserError(
                f"--devices {devices}: this machine has {len(gpus)} GPUs; ask for as many or fewer"
            )
        names = [device.name for device in tf.config.list_logical_devices("GPU")][:wanted]
        return tf.distribute.MirroredStrategy(names)
    names = _logical_cpus(wanted or 2, devices)
    # Between devices that share their memory a sum in one place is faster than a ring.
    return tf.distribute.MirroredStrategy(names, cross_device_ops=tf.distribute.ReductionToOneDevice())


def _tower_devices() -> tuple[str, str]:
    gpus = tf.config.list_physical_devices("GPU")
    if len(gpus) == 1:
        raise UserError(
            "--devices towers needs two GPUs, or none; this machine has one "
            "(hide it to compute on the processor: CUDA_VISIBLE_DEVICES=-1)"
        )
    if not gpus:
        _logical_cpus(2, "towers")
    return towers.devices()


def _logical_cpus(count: int, devices: str) -> list[str]:
    """Names of `count` logical CPUs, which are configured first if there are none yet."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    if tf.config.get_logical_device_configuration(cpu) is None:
        parts = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
        with contextlib.suppress(RuntimeError):  # TensorFlow has computed already: devices are fixed
            tf.config.set_logical_device_configuration(cpu, parts)
    names = [device.name for device in tf.config.list_logical_devices("CPU")]
    if len(names) < count:
        raise UserError(
            f"--devices {devices}: needs {count} logical CPUs and there are {len(names)}; "
            "choose the devices before TensorFlow computes anything"
        )
    return names[:count]


def _multi_worker(cluster: Cluster) -> tf.distribute.Strategy:
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.workers)}),
        task_type="worker",
        task_id=cluster.index,
        rpc_layer="grpc",
    )
    return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
