"""Batches out of a source: order, shard, decode, augment, batch, pad, prefetch.

Training is an endless stream that is a pure function of (config.seed, step): it can be entered at any
step and goes on as if it had never stopped. Evaluation yields every example exactly once; its last
batch is filled up and a mask tells the filling apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import tensorflow as tf

from pipelines import service_client
from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.pictures import augment, preprocess
from pipelines.pictures.statistics import ImageStats
from pipelines.sources import records

if TYPE_CHECKING:
    from pipelines.sources.source import Source


# Independent streams of random numbers under one config.seed.
_WINDOW_STREAM, _COLOUR_STREAM = 0, 1
_STREAMS = 2


def steps_per_epoch(source: Source, batch_size: int, *, partial: bool = False) -> int:
    """Batches in one pass over the training split.

    Args:
      source: where the pictures come from.
      batch_size: of all shards together.
      partial: whether what is left after the whole batches makes one more (`config.partial_batch`); else
        it waits for the next shuffle.

    Raises:
      DataError: the training split is smaller than one batch, or empty.
    """
    count = source.count("train")
    if count < (1 if partial else batch_size):
        raise DataError(
            f"the training split holds {count} pictures, fewer than one batch; "
            f"received batch_size={batch_size}"
        )
    return -(-count // batch_size) if partial else count // batch_size


def pictures_until(step: int, source: Source, batch_size: int, *, partial: bool = False) -> int:
    """How many pictures the first `step` steps of training see; arguments as for `steps_per_epoch`."""
    if not partial:
        return step * batch_size
    epochs_behind, steps = divmod(step, steps_per_epoch(source, batch_size, partial=True))
    return epochs_behind * source.count("train") + steps * batch_size


def build(
    source: Source,
    config: DataConfig,
    split: str,
    batch_size: int,
    *,
    training: bool,
    stats: ImageStats | None = None,
    start_step: int = 0,
    crops: int = 1,
    shard: tuple[int, int] = (0, 1),
    service: Sequence[str] = (),
    as_supervised: bool = False,
) -> tf.data.Dataset:
    """Batches of crops, ready for `preprocess.to_pixels` on the device.

    Each batch is a dict: `image` uint8 [batch, crop, crop, 3] ([batch, crops, crop, crop, 3] for nine or
    ten), `label` int32 [batch], `mask` float32 [batch] (1 for an example, 0 for filling), `key`
    string [batch] and, in training, `colour_shift` float32 [batch, 3]; with `config.mean_moves` also
    `window` int32 [batch, 3] (top, left, 1 if mirrored). With `config.partial_batch` an epoch's last batch
    is filled up like that of an evaluation, and `weight` float32 [batch] is what the mask is, times the
    global batch's size over its own pictures: weighted losses, summed and divided by `batch_size`, are the
    mean over its own. All shapes stay what they are, for the step's graph and for replicas.

    `as_supervised` makes each batch a pair for `keras.Model.fit` instead: the network's input, float32
    [n, crop, crop, 3] (`preprocess.to_pixels`), and `label` int32 [n]. Filling is left out, so that a last
    batch may be smaller; training stays endless, which takes `fit` a `steps_per_epoch`.

    Args:
      source: where the pictures come from (pipelines.sources.Source).
      config: preparation and augmentation.
      split: "train" or "val".
      batch_size: of all shards together.
      training: endless, shuffled and augmented; otherwise every example once, in fixed order.
      stats: the training set's statistics, for colour noise measured on it and for `as_supervised`.
      start_step: in training, how many batches to leave out at the start.
      crops: 1 (centre), 9 or 10 (section 4.1), in evaluation; see `preprocess.view_offsets`.
      shard: (index, count): this process takes every count-th example of each global batch, so that
        all shards together see what one process would, in equally many batches.
      service: addresses of data services that decode and augment in training, the same batches in the
        same order; () does it here. Fetch them by `service_client.Watch`, which tells when one dies.

    Raises:
      DataError: the split is empty or smaller than a whole training batch, or a service does not answer.
      ValueError: arguments that contradict each other.
    """
    _check(training, batch_size, crops, shard, start_step, service)
    if as_supervised and (stats is None or crops != 1):
        raise ValueError(f"`as_supervised` needs `stats` and one crop; received {stats}, crops={crops}")
    records.check_rule(config)
    config = config.reading(source.prepared_size)
    if training:
        batches = _training_batches(source, config, batch_size, start_step, stats, shard, service)
    else:
        batches = _evaluation_batches(source, config, split, batch_size, crops, shard)
    if as_supervised and stats is not None:
        own = len(range(shard[0], source.count(split), shard[1])) * shard[1]
        batches = _supervised(batches, config, stats, None if training else -(-own // batch_size))
    return batches.prefetch(tf.data.AUTOTUNE).with_options(_options())


def _check(
    training: bool,
    batch_size: int,
    crops: int,
    shard: tuple[int, int],
    start_step: int,
    service: Sequence[str],
) -> None:
    """Raises ValueError where arguments of `build` contradict each other."""
    index, shards = shard
    if batch_size < 1 or shards < 1 or batch_size % shards or not 0 <= index < shards:
        raise ValueError(
            f"`batch_size` must be a multiple of the shards; received {batch_size}, shard={shard}"
        )
    if crops not in preprocess.CENTRES or (training and crops != 1):
        raise ValueError(f"`crops` must be 1, 9 or 10, and 1 in training; received {crops}")
    if start_step and not training:
        raise ValueError(f"`start_step` belongs to training; received {start_step}")
    if service and not training:
        raise ValueError(f"`service` belongs to training; received {service}")


def _supervised(
    batches: tf.data.Dataset, config: DataConfig, stats: ImageStats, count: int | None
) -> tf.data.Dataset:
    """Pairs of pixels and labels without filling: `count` batches, or endless ones of training."""
    training = count is None
    filled = config.partial_batch or not training

    @tf.autograph.experimental.do_not_convert
    def pair(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        if filled:
            examples = batch["mask"] > 0
            batch = {name: tf.boolean_mask(part, examples) for name, part in batch.items()}
        where = {"colour_shift": batch.get("colour_shift"), "windows": batch.get("window")}
        pixels = preprocess.to_pixels(batch["image"], stats, config, training=training, **where)
        return pixels, batch["label"]

    pairs = batches.map(pair, num_parallel_calls=tf.data.AUTOTUNE)
    if filled:
        # Of several shards one may have nothing but filling in its last batch.
        pairs = pairs.filter(lambda _, labels: tf.size(labels) > 0)
    # Keras warns of data that end before they said so.
    return pairs if count is None else pairs.apply(tf.data.experimental.assert_cardinality(count))


def _training_batches(
    source: Source,
    config: DataConfig,
    batch_size: int,
    start_step: int,
    stats: ImageStats | None,
    shard: tuple[int, int],
    service: Sequence[str],
) -> tf.data.Dataset:
    """The endless stream of this shard's augmented batches from `start_step` on."""
    index, shards = shard
    steps = steps_per_epoch(source, batch_size, partial=config.partial_batch)
    per_epoch = min(steps * batch_size, source.count("train"))
    filling = steps * batch_size - per_epoch
    own = slice(index, None, shards)

    # Nothing in the streams is Python's control flow, and looking for it is most of their tracing.
    @tf.autograph.experimental.do_not_convert
    def augmented(step: tf.Tensor, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        windows = _draw_windows(config, step, batch_size)[own]
        shifts = augment.colour_shifts(config, stats, _seed(config, _COLOUR_STREAM, step), batch_size)
        elements = _elements(_crop_all(batch["image_bytes"], windows, source, config), batch, config)
        elements["colour_shift"] = shifts[own]
        if config.mean_moves:
            elements["window"] = windows
        if config.partial_batch:
            pictures = tf.minimum(per_epoch - step % steps * batch_size, batch_size)
            mask = tf.cast(tf.range(batch_size, dtype=tf.int64) < pictures, tf.float32)[own]
            elements["mask"] = mask
            elements["weight"] = mask * tf.cast(batch_size / pictures, tf.float32)
        return elements

    examples = endless(source, per_epoch, start_step * batch_size, filling).shard(shards, index)
    batches = examples.batch(batch_size // shards, drop_remainder=True).enumerate(start=start_step)
    # Several batches are worked on at a time, each by one thread: handing over single pictures
    # from thread to thread costs a tenth of their time.
    if not service:
        return batches.map(augmented, num_parallel_calls=tf.data.AUTOTUNE)

    def part(number: int, count: int) -> tf.data.Dataset:
        own_batches = batches.shard(count, number).map(
            lambda step, batch: (step, augmented(step, batch)), num_parallel_calls=tf.data.AUTOTUNE
        )
        return own_batches.prefetch(tf.data.AUTOTUNE).with_options(_options())

    return service_client.in_turn(part, service, start_step)


def _draw_windows(config: DataConfig, step: tf.Tensor, batch_size: int) -> tf.Tensor:
    """The windows of a step, int32 [batch_size, 3]: top, left, 1 if mirrored.

    `share_crops` consecutive examples of the stream share one.
    """
    groups = (step * batch_size + tf.range(batch_size, dtype=tf.int64)) // config.share_crops
    # Groups draw in blocks of `batch_size`; a batch may lie across two of them.
    block = groups[0] // batch_size
    windows = [
        augment.draw_windows(config, _seed(config, _WINDOW_STREAM, block + following), batch_size)
        for following in (0, 1)
    ]
    rows = [tf.stack([tf.cast(part, tf.int32) for part in one], axis=1) for one in windows]
    return tf.gather(tf.concat(rows, axis=0), groups - block * batch_size)


def _crop_all(image_bytes: tf.Tensor, windows: tf.Tensor, source: Source, config: DataConfig) -> tf.Tensor:
    """Decodes pictures and cuts out their windows: string [n], int32 [n, 3] -> uint8 [n, crop, crop, 3]."""
    form = source.prepared_form
    fits = source.prepared_size == config.resize and config.pad == 0

    def crop_one(arguments: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        one, (top, left, mirrored) = arguments[0], tf.unstack(arguments[1])
        window = augment.Window(top, left, tf.cast(mirrored, tf.bool))
        if form is not None and fits:
            return augment.decode_crop_mirror(one, config, window, form)
        return augment.crop_mirror(preprocess.prepare(one, config, form=form), config, window)

    signature = tf.TensorSpec([config.crop, config.crop, 3], tf.uint8)
    # One after another: the cores are busy with other batches.
    return tf.map_fn(crop_one, (image_bytes, windows), fn_output_signature=signature, parallel_iterations=1)


def _evaluation_batches(
    source: Source, config: DataConfig, split: str, batch_size: int, crops: int, shard: tuple[int, int]
) -> tf.data.Dataset:
    """Batches of this shard's examples, each example once; the last batch is padded."""
    index, shards = shard
    count = source.count(split)
    if count < 1:
        raise DataError(f"the {split} split is empty ({source.description})")

    def function(image_bytes: tf.Tensor) -> tf.Tensor:
        if crops == 1:
            return preprocess.evaluation_crop(image_bytes, config, form=source.prepared_form)
        return preprocess.views(image_bytes, config, crops, form=source.prepared_form)

    @tf.autograph.experimental.do_not_convert
    def cropped(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return _elements(function(example["image_bytes"]), example, config)

    examples = source.dataset(split).shard(shards, index).map(cropped, num_parallel_calls=tf.data.AUTOTUNE)
    # Every shard gets equally many batches: processes that evaluate together must step together.
    local = len(range(index, count, shards))
    wanted = -(-count // batch_size) * (batch_size // shards)
    spec = examples.element_spec
    filling = {name: tf.zeros(part.shape, part.dtype) for name, part in spec.items()}
    filled = examples.concatenate(tf.data.Dataset.from_tensors(filling).repeat(wanted - local))
    return filled.batch(batch_size // shards, drop_remainder=True)


def _elements(images: tf.Tensor, examples: dict[str, tf.Tensor], config: DataConfig) -> dict[str, tf.Tensor]:
    """One example, or a batch of them, as the dictionary that `build` describes."""
    return {
        "image": tf.ensure_shape(images, [*images.shape[:-3], config.crop, config.crop, 3]),
        "label": tf.cast(examples["label"], tf.int32),
        "mask": tf.ones_like(examples["label"], tf.float32),
        "key": examples["key"],
    }


def _seed(config: DataConfig, stream: int, counter: tf.Tensor) -> tf.Tensor:
    """Int64 [2]: one seed for each (config.seed, stream, counter)."""
    return tf.stack([tf.constant(config.seed * _STREAMS + stream, tf.int64), tf.cast(counter, tf.int64)])


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    # Shards are cut above; letting tf.distribute cut again would drop or repeat examples.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options


_NO_END = 2**40


def endless(source: Source, per_epoch: int, position: int, filling: int = 0) -> tf.data.Dataset:
    """The training examples of all epochs one after another.

    Args:
      source: whose `train` split is read.
      per_epoch: so many examples of each epoch's order are used.
      position: of the first example, counted from the start of epoch 0; those before it are left out.
      filling: so many follow at the end of each epoch, which fill up its last batch: its first examples
        once more. `position` counts them.

    Returns:
      An infinite dataset of the source's elements.
    """
    first_epoch, seen = divmod(position, per_epoch + filling)

    @tf.autograph.experimental.do_not_convert
    def one_epoch(number: tf.Tensor) -> tf.data.Dataset:
        start = tf.where(number == first_epoch, tf.constant(seen, tf.int64), 0)
        own = tf.minimum(start, per_epoch)
        examples = source.dataset("train", epoch=number, start=own).take(per_epoch - own)
        if not filling:
            return examples
        again = source.dataset("train", epoch=number).take(per_epoch).repeat().take(filling)
        return examples.concatenate(again.skip(start - own))

    return tf.data.Dataset.range(first_epoch, _NO_END).flat_map(one_epoch)
