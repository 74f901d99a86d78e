"""What the input pipeline makes of the cores beside bare loops, its memory, and what training waits for it.

    python -m benchmarks.input_limits --photos DIR

Bare loops have their files in memory and a thread for each core, which does nothing but decode and crop (of
records), or decode, resize and encode (of photographs). Beside the first stands `pipelines.dataset` from the
same JPEG records, shuffled, augmented and batched; beside the second `pipelines.prepare`. They take turns.
Then processes of their own read sets of 100,000 pictures, and a training of the recipe `small_data` from the
records says for which share of its time it waits for the next batch.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import functools
import itertools
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.input import BATCH, Turn, lay_out
from benchmarks.turns import check_counts
from pipelines import command
from pipelines.config import DataConfig
from pipelines.errors import DataError

if TYPE_CHECKING:
    import tensorflow as tf

    from pipelines.sources.source import Source

PARTS = ("read", "prepare", "memory", "wait")
TARGETS = {"read": 0.85, "prepare": 0.90, "memory": 1.5, "wait": 0.02}
LARGE_SET = 100_000
CROP, SIDE = 224, 256
RECIPE = "small_data"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.input_limits", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--photos", metavar="DIR", type=Path, help="JPEG files to use instead of drawn ones")
    parser.add_argument("--pictures", type=int, default=2048, help="how many (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="of a turn of reading (default %(default)s)"
    )
    parser.add_argument(
        "--steps", type=int, default=30, help="of the training that waits (default %(default)s)"
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure")
    command.add_json_flag(parser)
    arguments = parser.parse_args(argv)
    check_counts(parser, arguments, "pictures", "rounds", "steps")
    if arguments.pictures < 4 * BATCH:
        parser.error(f"--pictures must be {4 * BATCH} or more; received {arguments.pictures}")
    return command.run(lambda: _measure(arguments), as_json=arguments.json)


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    from pipelines import record_writer, sources

    figures: dict[str, Any] = {"cores": os.cpu_count(), "load": os.getloadavg()[0]}
    print(f"{figures['cores']} cores, load {figures['load']:.1f} before; targets {TARGETS}")
    with tempfile.TemporaryDirectory(prefix="benchmark_input_") as temporary:
        folder = Path(temporary)
        lay_out(folder / "photographs", arguments.photos, arguments.pictures)
        config = DataConfig(spec=f"folder:{folder / 'photographs'}", val_fraction=0.01)
        source = sources.open_source(config)
        record_writer.write(source, config, folder / "records")
        records = sources.open_source(DataConfig(f"records:{folder / 'records'}"))
        if "read" in arguments.only:
            figures |= _report("read", _reading(records, arguments))
        if "prepare" in arguments.only:
            figures |= _report("prepare", _preparing(source, config, folder, arguments.rounds))
        if "memory" in arguments.only:
            figures |= _memory(folder, arguments.pictures)
        if "wait" in arguments.only:
            figures |= _waiting(folder, arguments.steps)
    return figures


def _report(what: str, turns: list[tuple[Turn, Turn]]) -> dict[str, float]:
    """The medians of bare loops and ours, and of their ratios: by the clock, and of processor time."""
    shares = [ours.rate / bare.rate for bare, ours in turns]
    figures = {
        f"{what}_bare": statistics.median(bare.rate for bare, _ in turns),
        f"{what}_ours": statistics.median(ours.rate for _, ours in turns),
        f"{what}_share": statistics.median(shares),
        f"{what}_processor_share": statistics.median(bare.cost / ours.cost for bare, ours in turns),
    }
    spread = ", ".join(f"{100 * share:.0f}" for share in shares)
    print(
        f"{what}: bare {figures[f'{what}_bare']:.0f} pictures/s, ours {figures[f'{what}_ours']:.0f}:"
        f" {100 * figures[f'{what}_share']:.1f} % (turns {spread}),"
        f" of processor time {100 * figures[f'{what}_processor_share']:.1f} %"
    )
    return figures


@contextlib.contextmanager
def _turn(count: Callable[[], int]) -> Iterator[list[Turn]]:
    """Gives a list that holds the block's Turn after it; `count` says how many pictures there were."""
    taken: list[Turn] = []
    began, busy = time.perf_counter(), time.process_time()
    yield taken
    wall, busy = time.perf_counter() - began, time.process_time() - busy
    taken.append(Turn(count() / wall, 1e6 * busy / count()))


def _reading(records: Source, arguments: argparse.Namespace) -> list[tuple[Turn, Turn]]:
    """Turns of the bare loop over records, and of the training stream."""
    import tensorflow as tf

    from pipelines import dataset

    files = [bytes(one["image_bytes"].numpy()) for one in records.dataset("train").take(8 * BATCH)]
    blocks = [tf.constant(files[first : first + BATCH]) for first in range(0, len(files), BATCH)]
    decode = _decode_and_crop()
    config, stats = DataConfig("synthetic"), records.stored_stats()

    turns = []
    for _ in range(arguments.rounds):
        bare = _on_all_cores([functools.partial(decode, block) for block in blocks], arguments.seconds)
        stream = iter(dataset.build(records, config, "train", BATCH, training=True, stats=stats))
        following = functools.partial(next, stream)
        _repeated(following, arguments.seconds / 3)  # fills the buffers
        pictures: list[int] = []
        with _turn(functools.partial(sum, pictures)) as ours:
            pictures.append(_repeated(following, arguments.seconds))
        del stream, following  # one that waits for its turn would go on filling its buffers
        turns.append((bare, ours[0]))
    return turns


def _decode_and_crop() -> Callable[[tf.Tensor], tf.Tensor]:
    """A graph that decodes the middle of each file of a block."""
    import tensorflow as tf

    first = (SIDE - CROP) // 2

    def one(file: tf.Tensor) -> tf.Tensor:
        window = tf.constant([first, first, CROP, CROP])
        return tf.io.decode_and_crop_jpeg(file, window, channels=3, dct_method="INTEGER_ACCURATE")

    def block(files: tf.Tensor) -> tf.Tensor:
        spec = tf.TensorSpec([CROP, CROP, 3], tf.uint8)
        return tf.map_fn(one, files, fn_output_signature=spec, parallel_iterations=1)

    return tf.function(block, input_signature=[tf.TensorSpec([BATCH], tf.string)], autograph=False)


def _repeated(step: Callable[[], Any], seconds: float) -> int:
    """Takes steps of one batch each for so long; returns how many pictures that were."""
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step()
        count += BATCH
    return count


def _on_all_cores(steps: list[Callable[[], Any]], seconds: float) -> Turn:
    """A turn of a thread for each core, each with its own order of the steps."""
    cores = os.cpu_count() or 1

    def work(number: int) -> int:
        mine = itertools.cycle([*steps[number:], *steps[:number]])
        return _repeated(lambda: next(mine)(), seconds)

    pictures: list[int] = []
    with concurrent.futures.ThreadPoolExecutor(cores) as pool, _turn(lambda: sum(pictures)) as taken:
        pictures += pool.map(work, range(cores))
    return taken[0]


def _preparing(source: Source, config: DataConfig, folder: Path, rounds: int) -> list[tuple[Turn, Turn]]:
    """Turns of the bare loop over photographs, and of `pipelines.prepare`."""
    import tensorflow as tf

    from pipelines import record_writer

    count = source.count("train") + source.count("val")
    files = [tf.constant(one.image_bytes) for one in source.pick("train", range(source.count("train")))]
    encode = _decode_resize_encode()
    turns = []
    for number in range(rounds):
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool, _turn(lambda: len(files)) as bare:
            list(pool.map(encode, files))
        with _turn(lambda: count) as ours:
            record_writer.write(source, config, folder / f"again{number}")
        shutil.rmtree(folder / f"again{number}")
        turns.append((bare[0], ours[0]))
    return turns


def _decode_resize_encode() -> Callable[[tf.Tensor], tf.Tensor]:
    """A graph that does to a photograph what preparing does, without a look at its header."""
    import tensorflow as tf

    def one(file: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE")
        shape = tf.shape(image)[:2]
        short = tf.reduce_min(shape)
        size = (2 * shape * SIDE + short) // (2 * short)
        method = tf.image.ResizeMethod.AREA
        large = tf.image.resize(image, size, method)
        first = (size - SIDE) // 2
        square = tf.cast(large[first[0] : first[0] + SIDE, first[1] : first[1] + SIDE] + 0.5, tf.uint8)
        return tf.io.encode_jpeg(square, format="rgb", quality=95, chroma_downsampling=True)

    return tf.function(one, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)


def _memory(folder: Path, pictures: int) -> dict[str, float]:
    """Peak memory, GiB, of processes that read a folder and records of LARGE_SET pictures."""
    many = folder / "many"
    originals = sorted((folder / "photographs").rglob("*.jpg"))
    for number in range(LARGE_SET):
        place = many / str(number % 10) / f"{number:06d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(originals[number % len(originals)].resolve())
    _multiply(folder / "records", folder / "many-records", -(-LARGE_SET // pictures))
    figures = {}
    for name in ("many", "many-records"):
        spec = f"{'records' if 'records' in name else 'folder'}:{folder / name}"
        words = [sys.executable, "-m", "benchmarks.input_limits_reader", spec]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DataError(f"{' '.join(words)}: {done.stderr.strip()[-500:]}")
        kind, gibibytes = spec.partition(":")[0], float(done.stdout.split()[-1])
        figures[f"memory_{kind}"] = gibibytes
        print(f"memory: {LARGE_SET:,} pictures of {kind}: {gibibytes:.2f} GiB")
    return figures


def _multiply(folder: Path, larger: Path, times: int) -> None:
    """Records whose shards are those of a folder, under so many names each."""
    import dataclasses

    from pipelines.sources.records import STATS_NAME, Index, Shard

    index = Index.load(folder)
    larger.mkdir()
    shards: list[Shard] = []
    for shard in index.shards:
        for _ in range(times):
            name = f"{shard.split}-{len(shards):05d}-of-{times * len(index.shards):05d}.tfrecord"
            os.link(folder / shard.name, larger / name)
            shards.append(dataclasses.replace(shard, name=name))
    shutil.copy(folder / STATS_NAME, larger / STATS_NAME)
    Index(index.settings, tuple(shards), complete=True).save(larger)


def peak_gibibytes() -> float:
    """The most memory that this process has had, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _waiting(folder: Path, steps: int) -> dict[str, float]:
    """The share of its time for which a training waits for the next batch."""
    import tensorflow as tf

    from alexnet_tf import recipe
    from alexnet_tf.training import placement, precision
    from alexnet_tf.training import step as train_step
    from alexnet_tf.training.schedule import Rates
    from pipelines import dataset, sources
    from pipelines.pictures.statistics import ImageStats
    from pipelines.sources.records import STATS_NAME

    here = placement.place("one")
    settled = precision.settle(recipe.get(RECIPE).precision, [], here)
    chosen = recipe.get(RECIPE).replace({"resize": str(SIDE), "pad": "0", "precision": settled.name})
    data = chosen.data_config(f"records:{folder / 'records'}")
    source = sources.open_source(data)
    stats = ImageStats.load(folder / "records" / STATS_NAME)
    network, optimizer = here.build(chosen, 1000)
    step = train_step.build(network, optimizer, chosen, data, stats, here.strategy)
    stream = iter(dataset.build(source, data, "train", chosen.batch_size, training=True, stats=stats))
    rates = [Rates(1e-3, 1e-3, 1e-3, 1.0)]

    def only(batch: dict[str, tf.Tensor], _: object) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensors(batch)

    waits, whole = [], []
    for _ in range(steps + 3):
        began = time.perf_counter()
        batch = next(stream)
        waits.append(time.perf_counter() - began)
        step(iter(here.distribute(functools.partial(only, batch))), rates, False, (0.0,))
        whole.append(time.perf_counter() - began)
    share = sum(waits[3:]) / sum(whole[3:])  # the first compiles, and the next ones find full buffers
    seconds = statistics.median(whole[3:])
    print(f"wait: {100 * share:.2f} % of {steps} steps of {seconds:.2f} s, {chosen.batch_size} pictures each")
    return {"wait_share": share, "step_seconds": seconds}


if __name__ == "__main__":
    sys.exit(main())
