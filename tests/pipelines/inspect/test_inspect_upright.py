"""Photographs that EXIF turns are looked at upright: their copies are found, and their sizes are as seen."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipelines import sources
from pipelines.config import DataConfig
from pipelines.inspect import copies, sheets, survey
from pipelines.inspect.__main__ import main
from pipelines.pictures import preprocess
from pipelines.sources import records
from tests.support.pictures import encoded, textured

NUMBERS = range(1, 9)
# What a camera does that notes a number: the opposite of the turn that a viewer makes of it.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def as_stored(image, number):
    turn = STORED[number]
    return image if turn is None else image.transpose(turn)


def photograph(image, number, kind="JPEG"):
    """The file of a picture whose sensor lay as the number says."""
    exif = Image.Exif()
    exif[0x0112] = number
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}, "PNG": {}}[kind]
    return encoded(as_stored(image, number), kind, exif=exif, **options)


def write(root, name, content):
    path = Path(root) / "train" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def opened(root, **settings):
    config = DataConfig(spec=f"folder:{root}", **settings)
    return sources.open_source(config), config


def looked(root, **settings):
    """Sizes by key, and the groups of copies as sets of keys."""
    seen = survey.survey(*opened(root, **settings))
    keys = [os.fsdecode(key) for key in seen.key]
    sizes = dict(zip(keys, zip(seen.width.tolist(), seen.height.tolist(), strict=True), strict=True))
    found = copies.find(seen, 56)
    return sizes, [{keys[number] for number in group.members} for group in found.groups]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of one photograph a copy for each number of EXIF, in two classes, among others."""
    root = tmp_path_factory.mktemp("data")
    upright = Image.fromarray(
        textured(300, 200, 1)
    )  # so large that JPEG files are decoded at half their size
    for number in NUMBERS:
        write(root, f"{('odd', 'even')[number % 2]}/turned{number}.jpg", photograph(upright, number))
    write(root, "odd/turned.png", photograph(upright, 6, "PNG"))
    write(root, "odd/turned.webp", photograph(upright, 8, "WEBP"))
    for seed in (2, 3):
        write(root, f"odd/{seed}.jpg", encoded(textured(200, 300, seed), "JPEG"))
    return root


def test_copies_that_exif_turns_are_one_group_and_have_upright_sizes(folder):
    sizes, groups = looked(folder)
    (group,) = groups
    assert group == {key for key in sizes if "turned" in key}
    assert len(group) == 10
    assert {sizes[key] for key in group} == {(200, 300)}
    assert {size for key, size in sizes.items() if "turned" not in key} == {(300, 200)}


def test_pictures_that_are_not_turned_in_training_are_compared_as_they_lie(folder):
    sizes, groups = looked(folder, exif_orientation=False)
    widths = {
        number: next(size for key, size in sizes.items() if f"turned{number}" in key) for number in NUMBERS
    }
    assert widths == {number: (200, 300) if number < 5 else (300, 200) for number in NUMBERS}
    assert not any({"train/even/turned1.jpg", "train/odd/turned6.jpg"} <= group for group in groups)


def test_the_second_look_is_upright_too(folder, monkeypatch):
    def fails(image_bytes, form):
        with tf.control_dependencies([tf.debugging.Assert(tf.equal(image_bytes, ""), ["nothing at first"])]):
            return survey.look_closely(tf.identity(image_bytes), form)

    monkeypatch.setattr(survey, "look", fails)
    sizes, (group,) = looked(folder)
    assert group == {key for key in sizes if "turned" in key}
    assert {sizes[key] for key in group} == {(200, 300)}


def test_the_hash_is_that_of_the_pixels_that_training_prepares(folder):
    source, config = opened(folder, resize_rule="warp")
    seen = survey.survey(source, config)
    training = seen.position[seen.within("train")].tolist()
    for number, example in enumerate(source.pick("train", training)):
        pixels = preprocess.prepare(tf.constant(example.image_bytes), config).numpy()
        gray = np.asarray(
            Image.fromarray(pixels).convert("L").resize((32, 32), Image.Resampling.BOX), np.float32
        )
        bits = survey.hashing.hashes(gray[np.newaxis])
        assert survey.hashing.distance(bits.long, seen.hashes.long[number : number + 1]) <= 40, example.key


def test_small_pictures_of_copies_are_upright(folder):
    source, config = opened(folder)
    seen = survey.survey(source, config)
    shown = sheets.small_pictures(source, config, seen, copies.find(seen, 56).groups)
    assert len(shown) == sheets.MOST_IN_GROUP
    first = next(iter(shown.values())).astype(np.int64)
    assert all(np.abs(image - first).mean() < 10 for image in shown.values())


def test_records_are_left_as_they_are_stored(tmp_path):
    """What lies in records was turned when they were written: no note of theirs counts."""
    shards = []
    for split in ("train", "val"):
        path = tmp_path / f"{split}-00000-of-00001.tfrecord"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for number, label in ((1, 0), (6, 1)):
                file = photograph(Image.fromarray(textured(16, 16, label)), number)
                writer.write(records.serialize(file, label, f"{split}/{number}".encode()))
        shards.append(records.Shard(path.name, split, 2, path.stat().st_size, records.checksum(path), ()))
    settings = records.Settings(1, "folder:x", 16, 0, 0.1, 8, {"train": 2, "val": 2}, ("a", "b"), ("a", "b"))
    records.Index(settings, tuple(shards), complete=True).save(tmp_path)
    config = DataConfig(f"records:{tmp_path}")
    source = sources.open_source(config)
    seen = survey.survey(source, config)
    stored = np.asarray(as_stored(Image.fromarray(textured(16, 16, 1)), 6).convert("L"), np.float32)
    gray = stored.repeat(2, axis=0).repeat(2, axis=1)
    number = seen.label.tolist().index(1)
    bits = survey.hashing.distance(
        survey.hashing.hashes(gray[np.newaxis]).long, seen.hashes.long[number : number + 1]
    )
    assert bits <= 40


def test_a_turned_copy_of_a_validation_picture_is_a_finding(tmp_path):
    root = tmp_path / "data"
    for split in ("train", "val"):
        for label, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            seed = 10 * label + (split == "val")
            (root / split / name / "0.jpg").write_bytes(encoded(textured(80, 60, seed), "JPEG"))
    (root / "train" / "dog" / "phone.jpg").write_bytes(photograph(Image.fromarray(textured(80, 60, 11)), 6))
    out = tmp_path / "out"
    assert main(["--data", f"folder:{root}", "--out", str(out), "--pictures", "1"]) == 0
    figures = json.loads((out / "inspect.json").read_text(encoding="utf-8"))
    assert figures["copies"]["val_pictures_also_in_train"] == 1
    assert figures["sizes"]["width"]["most"] == 60
