"""The input benchmarks' own parts: turns, records that stand for many, and copies that are told apart."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from benchmarks import copies, input_limits
from benchmarks.input import Turn
from pipelines.config import DataConfig
from pipelines.sources import records
from tests.support import small_runs
from tests.support.pictures import textured


def test_shares_are_medians_of_turns_that_belong_together(capsys):
    turns = [(Turn(100.0, 10.0), Turn(90.0, 12.5)), (Turn(50.0, 10.0), Turn(50.0, 20.0))]
    figures = input_limits._report("read", [*turns, turns[0]])
    assert (figures["read_share"], figures["read_processor_share"]) == (0.9, 0.8)
    assert "90.0 % (turns 90, 100, 90)" in capsys.readouterr().out


def test_a_turn_counts_its_pictures():
    with input_limits._turn(lambda: 640) as taken:
        np.linalg.svd(np.random.default_rng(0).normal(size=(200, 200)))
    assert taken[0].rate > 0
    assert taken[0].cost > 0


def test_records_are_multiplied_without_being_copied(tmp_path):
    folder, shards = tmp_path / "records", []
    folder.mkdir()
    for split, count in {"train": 4, "val": 2}.items():
        path = folder / f"{split}-00000-of-00001.tfrecord"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for number in range(count):
                writer.write(records.serialize(b"a picture", number % 2, f"{split}/{number}".encode()))
        shards.append(records.Shard(path.name, split, count, path.stat().st_size, records.checksum(path), ()))
    small_runs.stats(16).save(folder / records.STATS_NAME)
    names = ("cat", "dog")
    settings = records.Settings(1, "folder:x", 16, 0, 0.1, 8, {"train": 4, "val": 2}, names, names)
    records.Index(settings, tuple(shards), complete=True).save(folder)

    input_limits._multiply(folder, tmp_path / "many", 5)
    many = records.RecordsSource(DataConfig(f"records:{tmp_path / 'many'}"))
    assert (many.count("train"), many.count("val")) == (20, 10)
    assert len(list(many.dataset("train"))) == 20
    (one, *_) = records.Index.load(tmp_path / "many").shards
    assert (tmp_path / "many" / one.name).stat().st_nlink == 6


def test_copies_are_hits_and_other_pictures_are_not(tmp_path, capsys):
    for number in range(6):
        Image.fromarray(textured(90, 120, number)).save(tmp_path / f"{number}.jpg", quality=95)
    assert copies.main(["--photos", str(tmp_path), "--copied", "3"]) == 0
    lines = {line[:32].strip(): line[32:].split() for line in capsys.readouterr().out.splitlines()[1:]}
    assert set(lines["pairs found"]) == {"0"}
    assert set(lines["mirrored"]) == set(lines["half the size"]) == {"100.0%"}
    assert set(lines) - {"bits of 256", "pairs found"} == set(copies.copies())


def test_a_folder_without_photographs_is_one_line(tmp_path, capsys):
    assert copies.main(["--photos", str(tmp_path)]) == 2
    assert "fewer than two JPEG files" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        input_limits.main(["--pictures", "10"])
