"""How much of what the cores could do the input pipeline takes: beside bare loops, in memory, and in waiting.

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
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.input import BATCH, lay_out
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


def _report(what: str, turns: list[tuple[float, float]]) -> dict[str, float]:
    """The medians of (bare, ours) pictures a second, and of their ratios."""
    share = statistics.median(ours / bare for bare, ours in turns)
    bare, ours = (statistics.median(rates) for rates in zip(*turns, strict=True))
    spread = ", ".join(f"{100 * ours / bare:.0f}" for bare, ours in turns)
    print(f"{what}: bare {bare:.0f} pictures/s, ours {ours:.0f}: {100 * share:.1f} % (turns {spread})")
    return {f"{what}_bare": bare, f"{what}_ours": ours, f"{what}_share": share}


def _reading(records: Source, arguments: argparse.Namespace) -> list[tuple[float, float]]:
    """Turns of the bare loop over records, and of the training stream."""
    import tensorflow as tf

    from pipelines import dataset

    files = [bytes(one["image_bytes"].numpy()) for one in records.dataset("train").take(8 * BATCH)]
    blocks = [tf.constant(files[first : first + BATCH]) for first in range(0, len(files), BATCH)]
    decode = _decode_and_crop()
    config, stats = DataConfig("synthetic"), records.stored_stats()

    def ours() -> float:
        stream = iter(dataset.build(records, config, "train", BATCH, training=True, stats=stats))
        return _timed(lambda: next(stream), arguments.seconds)

    def bare() -> float:
        return _on_all_cores([lambda block=block: decode(block) for block in blocks], arguments.seconds)

    return [(bare(), ours()) for _ in range(arguments.rounds)]


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


def _timed(step: Callable[[], Any], seconds: float) -> float:
    """Pictures a second of steps of one batch each, after a third of the time to warm up."""
    warm = time.perf_counter() + seconds / 3
    while time.perf_counter() < warm:
        step()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step()
        count += BATCH
    return count / (time.perf_counter() - began)


def _on_all_cores(steps: list[Callable[[], Any]], seconds: float) -> float:
    """The same of a thread for each core, which take turns with the steps."""
    cores = os.cpu_count() or 1

    def work(number: int) -> float:
        mine = [steps[(number + place) % len(steps)] for place in range(len(steps))]
        turn = iter(range(1 << 62))
        return _timed(lambda: mine[next(turn) % len(mine)](), seconds)

    with concurrent.futures.ThreadPoolExecutor(cores) as pool:
        return sum(pool.map(work, range(cores)))


def _preparing(source: Source, config: DataConfig, folder: Path, rounds: int) -> list[tuple[float, float]]:
    """Turns of the bare loop over photographs, and of `pipelines.prepare`."""
    import tensorflow as tf

    from pipelines import record_writer

    count = source.count("train") + source.count("val")
    files = [tf.constant(one.image_bytes) for one in source.pick("train", range(source.count("train")))]
    encode = _decode_resize_encode()
    turns = []
    for number in range(rounds):
        began = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(encode, files))
        bare = len(files) / (time.perf_counter() - began)
        began = time.perf_counter()
        record_writer.write(source, config, folder / f"again{number}")
        ours = count / (time.perf_counter() - began)
        shutil.rmtree(folder / f"again{number}")
        turns.append((bare, ours))
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

    from pipelines.sources.records import STATS_NAME, Index

    index = Index.load(folder)
    larger.mkdir()
    shards = []
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

    here = placement.place("one")
    settled = precision.settle(recipe.get(RECIPE).precision, [], here)
    chosen = recipe.get(RECIPE).replace({"resize": str(SIDE), "pad": "0", "precision": settled.name})
    data = chosen.data_config(f"records:{folder / 'records'}")
    source = sources.open_source(data)
    stats = source.stored_stats()
    network, optimizer = here.build(chosen, 1000)
    step = train_step.build(network, optimizer, chosen, data, stats, here.strategy)
    stream = iter(dataset.build(source, data, "train", chosen.batch_size, training=True, stats=stats))
    rates = [Rates(1e-3, 1e-3, 1e-3, 1.0)]
    waits, whole = [], []
    for _ in range(steps + 3):
        began = time.perf_counter()
        batch = next(stream)
        waits.append(time.perf_counter() - began)
        step(iter(here.distribute(lambda _, b=batch: tf.data.Dataset.from_tensors(b))), rates, False, (0.0,))
        whole.append(time.perf_counter() - began)
    share = sum(waits[3:]) / sum(whole[3:])  # the first compiles, and the next ones find full buffers
    seconds = statistics.median(whole[3:])
    print(f"wait: {100 * share:.2f} % of {steps} steps of {seconds:.2f} s, {chosen.batch_size} pictures each")
    return {"wait_share": share, "step_seconds": seconds}


if __name__ == "__main__":
    sys.exit(main())
