"""CIFAR in each of the forms in which people have it."""

import io
import os
import pickle
import tarfile

import numpy as np
import pytest
import tensorflow as tf

from pipelines import dataset
from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.pictures.decode import decode
from pipelines.sources import cifar_files, open_source
from tests.support import tiny_cifar
from tests.support.tiny_cifar import BATCHES, COARSE, COUNT, FINE, TEN


def opened(folder, query="", **settings):
    return open_source(DataConfig(f"cifar:{folder}{query}", resize=32, crop=24, **settings))


def by_key(source, split):
    return {
        element["key"].decode(): (decode(tf.constant(element["image_bytes"])).numpy(), int(element["label"]))
        for element in source.dataset(split).as_numpy_iterator()
    }


def expected(files, classes=10):
    return {
        f"{name}/{place:05d}": (tiny_cifar.pixels(seed)[place], tiny_cifar.labels(seed, classes)[place])
        for seed, name in files
        for place in range(COUNT)
    }


def assert_same(received, wanted):
    assert received.keys() == wanted.keys()
    for key, (image, label) in wanted.items():
        np.testing.assert_array_equal(received[key][0], image)
        assert received[key][1] == label


TRAIN, TEST = list(enumerate(BATCHES)), (5, "test_batch")


@pytest.mark.parametrize(
    ("write", "below", "test"),
    [
        (tiny_cifar.write_python, "cifar-10-batches-py", "test_batch"),
        (tiny_cifar.write_binary, "cifar-10-batches-bin", "test_batch"),
        (tiny_cifar.write_author, "", "data_batch_6"),
    ],
)
def test_ten_classes(tmp_path, write, below, test):
    write(tmp_path / below)
    source = opened(tmp_path)
    assert source.class_names == TEN
    assert not source.held_out
    assert_same(by_key(source, "train"), expected(TRAIN))
    assert_same(by_key(source, "val"), expected([(5, test)]))
    example = next(source.pick("val", [3]))
    assert decode(tf.constant(example.image_bytes)).shape == (32, 32, 3)
    file = test if write is not tiny_cifar.write_binary else "test_batch.bin"
    assert source.description.endswith(f", {file} for val)")


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_hundred_classes(tmp_path, protocol):
    tiny_cifar.write_hundred(tmp_path, protocol)
    source, coarse = opened(tmp_path), opened(tmp_path, "?label=coarse")
    assert (source.class_names, coarse.class_names) == (FINE, COARSE)
    assert_same(by_key(source, "train"), expected([(0, "train")], 3))
    assert_same(by_key(coarse, "val"), expected([(1, "test")], 2))


def test_a_hundred_classes_binary(tmp_path):
    tiny_cifar.write_hundred_binary(tmp_path / "cifar-100-binary")
    assert_same(by_key(opened(tmp_path), "train"), expected([(0, "train")], 3))
    assert_same(by_key(opened(tmp_path, "?label=coarse"), "val"), expected([(1, "test")], 2))


def test_a_share_is_held_out_where_asked_or_where_no_test_pictures_are(tmp_path):
    tiny_cifar.write_python(tmp_path)
    source = opened(tmp_path, "?val=share", val_fraction=0.2)
    assert source.held_out
    assert source.splits == ("train", "val", "test")
    assert 0 < source.count("val") < 50
    assert_same(by_key(source, "train") | by_key(source, "val"), expected(TRAIN))
    assert_same(by_key(source, "test"), expected([TEST]))
    (tmp_path / "test_batch").unlink()
    alone = opened(tmp_path, val_fraction=0.2)
    assert by_key(alone, "val").keys() == by_key(source, "val").keys()
    assert alone.splits == ("train", "val")


def test_test_pictures_alone_can_be_evaluated(tmp_path):
    tiny_cifar.write_python(tmp_path)
    for name in BATCHES:
        (tmp_path / name).unlink()
    source = opened(tmp_path)
    assert (source.count("train"), source.count("val"), source.held_out) == (0, COUNT, False)


def test_training_crops_are_cut_out_of_the_pictures(tmp_path):
    tiny_cifar.write_python(tmp_path)
    config = DataConfig(f"cifar:{tmp_path}", resize=32, crop=24, colour_noise="none", mirror=False)
    source = open_source(config)
    batch = next(iter(dataset.build(source, config, "train", 4, training=True)))
    wanted = expected(TRAIN)
    for crop, key in zip(batch["image"].numpy(), batch["key"].numpy(), strict=True):
        image = wanted[key.decode()][0]
        windows = np.lib.stride_tricks.sliding_window_view(image, (24, 24), axis=(0, 1)).transpose(
            0, 1, 3, 4, 2
        )
        assert (windows == crop).all(axis=(2, 3, 4)).sum() == 1


class _Attack:
    def __reduce__(self):
        return os.system, ("touch attacked",)


@pytest.mark.parametrize("name", ["data_batch_2", "batches.meta"])
def test_a_pickle_runs_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    tiny_cifar.write_python(tmp_path)
    (tmp_path / name).write_bytes(pickle.dumps({"data": _Attack(), "labels": [0]}))
    with pytest.raises(
        DataError, match=rf"{name}: not a file of CIFAR, or a damaged one \(it asks for \w+\.system"
    ):
        opened(tmp_path)
    assert not (tmp_path / "attacked").exists()


def pickled(**content):
    return pickle.dumps(content, protocol=2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a file of CIFAR, or a damaged one"),
        (b"<html>no such file</html>", "not a file of CIFAR, or a damaged one"),
        (pickle.dumps([1]), r"a damaged one \(no dictionary\)"),
        (tiny_cifar.python2_pickle(tiny_cifar.rows(1), {"labels": [0]})[:5000], "a damaged one"),
        (pickled(data=tiny_cifar.rows(1)), "holds no labels"),
        (
            pickled(data=tiny_cifar.rows(1), labels=[0]),
            "must be uint8 of 1 x 3072, .* received uint8 of 20 x 3072",
        ),
        (pickled(data=tiny_cifar.rows(1) / 255, labels=[0] * COUNT), "received float64 of 20 x 3072"),
        (pickled(data=tiny_cifar.rows(1), labels=["cat"] * COUNT), "its labels are no numbers"),
        (pickled(data=tiny_cifar.rows(1), labels=[10] * COUNT), "labels must be 0 to 9; received 10 to 10"),
        (pickled(data=np.array(["a"], object), labels=[0]), "numbers in a list"),
        (pickled(data=np.array(["a"]), labels=[0]), "numbers of the type 'U1'"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, message):
    tiny_cifar.write_python(tmp_path)
    (tmp_path / "data_batch_2").write_bytes(content)
    with pytest.raises(DataError, match=f"data_batch_2: .*{message}") as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_damaged_binary_file_is_named(tmp_path):
    tiny_cifar.write_binary(tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(b"\0" * 5000)
    with pytest.raises(
        DataError, match=r"test_batch\.bin: damaged: must hold 3073 bytes for each picture; .* 5000"
    ):
        opened(tmp_path)


def packed(root):
    with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("cifar-10-batches-py/readme.html"), io.BytesIO())


def two_releases(root):
    tiny_cifar.write_binary(root / "cifar-10-batches-bin")
    tiny_cifar.write_hundred(root / "cifar-100-python")


def incomplete(root):
    tiny_cifar.write_python(root)
    (root / "data_batch_3").unlink()


def without_names(root):
    tiny_cifar.write_python(root)
    (root / "batches.meta").unlink()


@pytest.mark.parametrize(
    ("write", "query", "message"),
    [
        (packed, "", r"cifar-10-python\.tar\.gz: an archive; unpack it"),
        (packed, "/cifar-10-python.tar.gz", r"cifar-10-python\.tar\.gz: an archive; unpack it"),
        (two_releases, "", r"holds CIFAR-10 \(binary\) in .* and CIFAR-100 in .*; name the folder"),
        (incomplete, "", "data_batch_3 missing; fetch CIFAR-10 again"),
        (without_names, "", r"batches\.meta missing, which names the classes"),
        (
            tiny_cifar.write_hundred,
            "?label=middle",
            "no middle labels in CIFAR-100: `label` must be fine or coarse",
        ),
        (tiny_cifar.write_python, "?label=coarse", "no coarse labels in CIFAR-10: only CIFAR-100 has two"),
        (tiny_cifar.write_python, "?val=train", "`val` must be test or share; received 'train'"),
        (tiny_cifar.write_python, "?test=1", r"after `\?` come label=fine\|coarse or val=test\|share"),
        (tiny_cifar.write_python, "/none", "no such folder"),
        (os.listdir, "", "no files of CIFAR here"),
    ],
)
def test_what_cannot_be_opened(tmp_path, write, query, message):
    write(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        opened(tmp_path, query)
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_numbers(tmp_path):
    (tmp_path / "a").write_bytes(pickled(labels=[np.int64(3), np.int32(4)]))
    assert cifar_files.read_pickle(tmp_path / "a")["labels"] == [3.0, 4.0]
