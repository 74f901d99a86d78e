"""Training pictures a second: the usual TensorFlow input pipeline against ours from records.

    python -m benchmarks.input                      # photographs drawn on the spot
    python -m benchmarks.input --photos DIR         # real ones, anywhere below DIR

Usual: read the file, decode the whole photograph, resize its short side to 256, crop 224 at random,
mirror, float32 minus the mean, batch. Ours: the same pictures prepared once into 256x256 records of
either encoding (timed apart), then `pipelines.dataset`. All run in turns over the same pictures in one
process and deliver shuffled batches: ours uint8 as they go to the device, once also with the conversion
to float32 (`preprocess.to_pixels`) done by the host, and once made by a data service on this machine: its
rate says what the way through the service costs, its processor time (of this process alone) what is left to
do where a service is on another machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipelines import command
from pipelines.config import DataConfig
from pipelines.errors import DataError

BATCH = 64
HEIGHT, WIDTH = 375, 500  # the common size of ImageNet's photographs
DISTINCT = 96  # drawings; more pictures than these are the same under other names
SUFFIXES = (".jpg", ".jpeg")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.input", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--photos",
        metavar="DIR",
        type=lambda text: Path(command.path(text)),
        help="JPEG files to use instead of drawn ones",
    )
    parser.add_argument("--pictures", type=int, default=6000, help="how many (default %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=5, help="turns each pipeline gets (default %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a turn (default %(default)s)")
    command.add_json_flag(parser)
    arguments = parser.parse_args(argv)
    if arguments.pictures < 4 * BATCH:
        parser.error(f"--pictures must be {4 * BATCH} or more; received {arguments.pictures}")
    return command.run(lambda: _measure(arguments), as_json=arguments.json)


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    import tensorflow as tf

    from pipelines import dataset, record_writer, sources
    from pipelines.pictures import preprocess
    from pipelines.pictures import statistics as image_stats
    from pipelines.sources import records

    with tempfile.TemporaryDirectory(prefix="benchmark_input_") as temporary, _data_service() as service:
        photographs = Path(temporary) / "photographs"
        lay_out(photographs, arguments.photos, arguments.pictures)
        config = DataConfig(spec=f"folder:{photographs}", val_fraction=0.01)
        source = sources.open_source(config)
        prepared, folders = {}, {}
        for encoding in records.ENCODINGS:
            folders[encoding] = stored = Path(temporary) / encoding
            began = time.perf_counter()
            record_writer.write(source, config, stored, encoding=encoding)
            prepared[encoding] = source.count("train") / (time.perf_counter() - began)
        stats = image_stats.ImageStats.load(stored / records.STATS_NAME)
        paths = [str(path) for path in sorted(photographs.rglob("*.*"))]

        def ours(encoding: str, services: Sequence[str] = ()) -> tf.data.Dataset:
            config = DataConfig(spec=f"records:{folders[encoding]}")
            source = sources.open_source(config)
            return dataset.build(source, config, "train", BATCH, training=True, stats=stats, service=services)

        def to_float(batch: dict[str, tf.Tensor]) -> tf.Tensor:
            shift = batch["colour_shift"]
            where = {"colour_shift": shift, "windows": batch.get("window")}
            return preprocess.to_pixels(batch["image"], stats, config, training=True, **where)

        turns = _take_turns(
            {
                "usual": lambda: usual(paths, stats.channel_mean),
                "jpeg": lambda: ours("jpeg"),
                "jpeg_service": lambda: ours("jpeg", [service]),
                "ppm": lambda: ours("ppm"),
                "ppm_float32": lambda: ours("ppm").map(to_float, tf.data.AUTOTUNE).prefetch(2),
            },
            arguments.rounds,
            arguments.seconds,
        )
        sizes = {name: sum(f.stat().st_size for f in place.iterdir()) for name, place in folders.items()}
    return _report(turns, prepared, sizes, arguments)


@contextlib.contextmanager
def _data_service() -> Iterator[str]:
    """The address of a data service in a process of its own."""
    command_line = [sys.executable, "-m", "pipelines.data_service", "--port", "0", "--host", "127.0.0.1"]
    with subprocess.Popen(command_line, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None or not (line := process.stdout.readline()):
                raise DataError(f"{' '.join(command_line)}: did not start")
            yield line.split()[-1]
        finally:
            process.terminate()


def usual(paths: list[str], mean: Any) -> Any:
    """The pipeline as tutorials write it, with parallel calls and prefetching left to TensorFlow."""
    import tensorflow as tf

    def load(path: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        shape = tf.cast(tf.shape(image)[:2], tf.float32)
        shape = tf.cast(tf.math.ceil(shape * 256.0 / tf.reduce_min(shape)), tf.int32)
        image = tf.image.resize(image, shape)
        image = tf.image.random_crop(image, [224, 224, 3])
        return tf.image.random_flip_left_right(image) - mean

    files = tf.data.Dataset.from_tensor_slices(paths).shuffle(len(paths)).repeat()
    loaded = files.map(load, num_parallel_calls=tf.data.AUTOTUNE)
    return loaded.batch(BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


class Turn(NamedTuple):
    """One turn of a pipeline: pictures a second, and processor microseconds a picture over all threads."""

    rate: float
    cost: float


def _take_turns(
    pipelines: dict[str, Callable[[], Any]], rounds: int, seconds: float
) -> dict[str, list[Turn]]:
    """Every pipeline once a round, so that a slow spell of the machine hits all of them."""
    turns: dict[str, list[Turn]] = {name: [] for name in pipelines}
    for _ in range(rounds):
        for name, make in pipelines.items():
            # A new iterator each time: one that waits for its turn would fill its buffers meanwhile.
            batches = iter(make())
            warm = time.perf_counter() + seconds / 3
            while time.perf_counter() < warm:
                next(batches)
            began, busy, count = time.perf_counter(), time.process_time(), 0
            while time.perf_counter() - began < seconds:
                next(batches)
                count += BATCH
            wall, busy = time.perf_counter() - began, time.process_time() - busy
            turns[name].append(Turn(count / wall, 1e6 * busy / count))
            del batches
    return turns


def _report(
    turns: dict[str, list[Turn]],
    prepared: dict[str, float],
    sizes: dict[str, int],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    kind = f"photographs of {arguments.photos}" if arguments.photos else f"drawn {WIDTH}x{HEIGHT} photographs"
    print(f"{arguments.pictures} {kind}, {os.cpu_count()} cores, medians of {arguments.rounds} turns")
    figures: dict[str, Any] = {}
    for name, own in turns.items():
        figures[name] = statistics.median(turn.rate for turn in own)
        cost = statistics.median(turn.cost for turn in own)
        pairs = list(zip(own, turns["usual"], strict=True))
        ratio = statistics.median(turn.rate / peer.rate for turn, peer in pairs)
        saving = statistics.median(peer.cost / turn.cost for turn, peer in pairs)
        print(
            f"{name:13}{figures[name]:7.0f} pictures/s {ratio:6.2f} x usual"
            f"{cost:9.0f} us of processor time a picture {saving:6.2f} x less"
        )
        if name != "usual":
            figures |= {f"{name}_over_usual": ratio, f"{name}_processor_saving": saving}
    for encoding, speed in prepared.items():
        kilobytes = sizes[encoding] / arguments.pictures / 1000
        figures |= {f"preparing_{encoding}": speed, f"kilobytes_{encoding}": kilobytes}
        print(f"preparing {encoding:4}{speed:6.0f} pictures/s, once; {kilobytes:.0f} kB a picture")
    return figures


def lay_out(folder: Path, photos: Path | None, count: int) -> None:
    """Fills two class folders with `count` files."""
    if photos is None:
        drawn = folder.parent / "drawn"
        drawn.mkdir()
        originals = [drawn / f"{number}.jpg" for number in range(min(count, DISTINCT))]
        for number, path in enumerate(originals):
            path.write_bytes(draw(number))
    else:
        originals = sorted(path for path in photos.rglob("*") if path.suffix.lower() in SUFFIXES)[:count]
        if not originals:
            raise DataError(f"--photos {photos}: no JPEG files below this folder")
    for number in range(count):
        place = folder / str(number % 2) / f"{number:06d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(originals[number % len(originals)].resolve())


def draw(seed: int) -> bytes:
    """A JPEG of noise at all scales, 4:4:4 and 110 kB like most ImageNet photographs of this size."""
    import io

    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(seed)
    picture = np.full((HEIGHT, WIDTH, 3), 118.0, np.float32)
    for cells in (3, 6, 12, 24, 48, 96, 192):
        rough = generator.integers(0, 256, (cells * 3 // 4, cells, 3), dtype=np.uint8)
        smooth = Image.fromarray(rough).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        picture += (np.asarray(smooth, np.float32) - 127.5) / cells**0.4
    file = io.BytesIO()
    Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(
        file, "JPEG", quality=95, subsampling="4:4:4"
    )
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(main())
