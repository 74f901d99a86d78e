"""The releases of CIFAR-10 and CIFAR-100 with a few pictures of noise in each file."""

from __future__ import annotations

import pickle
import struct

import numpy as np

COUNT = 20  # pictures a file
TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FINE, COARSE = ("apple", "baby", "bear"), ("fruit", "mammals")
BATCHES = [f"data_batch_{number}" for number in range(1, 6)]


def pixels(seed):
    """uint8 [20, 32, 32, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (COUNT, 32, 32, 3), np.uint8)


def rows(seed):
    """The same as the files have it: a channel after another."""
    return np.ascontiguousarray(pixels(seed).transpose(0, 3, 1, 2).reshape(COUNT, -1))


def labels(seed, classes=10):
    return [(seed + place) % classes for place in range(COUNT)]


def python2_pickle(data, names):
    """A dictionary as Python 2 pickled it, with `data` (uint8 [n, m]) and lists of small numbers."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    height, width = (b"J" + struct.pack("<i", side) for side in data.shape)
    kind = (
        b"cnumpy\ndtype\n" + text(b"u1") + b"K\0K\1\x87R(K\3" + text(b"|") + b"NNN" + b"J\xff\xff\xff\xff" * 2
    )
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85" + text(b"b") + b"\x87R"
        b"(K\1"
        + height
        + width
        + b"\x86"
        + kind
        + b"K\0tb\x89T"
        + struct.pack("<i", data.size)
        + data.tobytes()
    )
    content = text(b"data") + array + b"tb"
    for name, values in names.items():
        content += text(name.encode()) + b"](" + b"".join(b"K" + bytes([value]) for value in values) + b"e"
    return b"\x80\x02}(" + content + b"u."


def write_python(folder, *, test="test_batch"):
    """CIFAR-10 as the python release has it."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate([*BATCHES, test]):
        (folder / name).write_bytes(python2_pickle(rows(seed), {"labels": labels(seed)}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(TEN)}, protocol=2))


def write_author(folder):
    """As the author's batches have it: a picture in each column, the sixth file for testing."""
    write_python(folder, test="data_batch_6")
    for seed, name in enumerate([*BATCHES, "data_batch_6"]):
        columns = np.ascontiguousarray(rows(seed).T)
        (folder / name).write_bytes(python2_pickle(columns, {"labels": labels(seed)}))
    meta = {"label_names": list(TEN), "data_mean": np.zeros((3072, 1), np.float32), "num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))


def write_binary(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate([*BATCHES, "test_batch"]):
        content = np.concatenate([np.array(labels(seed), np.uint8)[:, None], rows(seed)], axis=1)
        (folder / f"{name}.bin").write_bytes(content.tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(TEN) + "\n\n")


def write_hundred(folder, protocol=2):
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(["train", "test"]):
        content = {"data": rows(seed), "fine_labels": labels(seed, 3), "coarse_labels": labels(seed, 2)}
        (folder / name).write_bytes(pickle.dumps(content, protocol=protocol))
    meta = {"fine_label_names": list(FINE), "coarse_label_names": list(COARSE)}
    (folder / "meta").write_bytes(pickle.dumps(meta, protocol=protocol))


def write_hundred_binary(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(["train", "test"]):
        both = np.array([labels(seed, 2), labels(seed, 3)], np.uint8).T
        (folder / f"{name}.bin").write_bytes(np.concatenate([both, rows(seed)], axis=1).tobytes())
    (folder / "fine_label_names.txt").write_text("\n".join(FINE) + "\n")
    (folder / "coarse_label_names.txt").write_text("\n".join(COARSE) + "\n")
