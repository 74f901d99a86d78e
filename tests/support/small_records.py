"""Small prepared records, and ways of looking at and damaging them, that several tests share."""

from pipelines import record_writer
from pipelines.config import DataConfig
from pipelines.sources import open_source

SIDE = 16


def write(config, folder, *, encoding="jpeg"):
    """Shards of eight pictures."""
    return record_writer.write(open_source(config), config, folder, encoding=encoding, shard_size=8)


def stored(folder, **settings):
    return open_source(DataConfig(f"records:{folder}", resize=SIDE, crop=SIDE, **settings))


def keys(source, split, **which):
    dataset = source.dataset(split, **which).map(lambda example: example["key"])
    return [key.decode() for key in dataset.as_numpy_iterator()]


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def hurt(path, damage):
    if damage == "missing":
        path.unlink()
    elif damage == "shorter":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        whole = bytearray(path.read_bytes())
        whole[len(whole) // 2] ^= 1
        path.write_bytes(whole)
