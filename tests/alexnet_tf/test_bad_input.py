"""What a user's bad data gets from `train`: one line that names the file, or a skip that is counted."""

import re

import numpy as np
import pytest
from PIL import Image

from alexnet_tf import model, train
from alexnet_tf.run_record import Run
from pipelines import scan
from tests.support.pictures import encoded, textured
from tests.support.small_records import hurt
from tests.support.tiny_network import tiny_network

SETTINGS = ["--set", "batch_size=4", "--set", "epochs=1", "--set", "precision=float32", "--set", "resize=224"]


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    monkeypatch.setattr(model, "build", tiny_network)


def trained(data, workdir):
    return train.main(["--recipe", "quickstart", "--data", data, "--workdir", str(workdir), *SETTINGS])


def refusal(data, workdir, capsys):
    """The one line with which training on `data` is refused; no run folder is left behind."""
    assert trained(data, workdir) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert not (workdir / "recipe.json").exists()
    return lines[0]


def test_an_empty_folder(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    assert str(tmp_path / "data") in refusal(f"folder:{tmp_path}/data", tmp_path / "w", capsys)


def test_one_class(class_folder, tmp_path, capsys):
    line = refusal(f"folder:{class_folder({'cat': 6})}", tmp_path / "w", capsys)
    assert "cat" in line
    assert "one class" in line


def test_files_that_are_no_pictures_only(tmp_path, capsys):
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "notes.txt").write_text("no picture")
    assert str(tmp_path / "data") in refusal(f"folder:{tmp_path}/data", tmp_path / "w", capsys)


def test_all_pictures_of_a_class_broken(class_folder, tmp_path, capsys):
    root = class_folder({"cat": 6, "dog": 6})
    for path in (root / "dog").iterdir():
        path.write_bytes(path.read_bytes()[:40])
    line = refusal(f"folder:{root}", tmp_path / "w", capsys)
    assert "no picture of the class dog can be read" in line
    assert re.search(r"dog/000\d.jpg: damaged or truncated JPEG file", line)


def test_a_data_set_that_does_not_exist(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert "no_such_set" in refusal("tfds:no_such_set", tmp_path / "w", capsys)


@pytest.mark.parametrize("damage", ["missing", "shorter"])
def test_records_with_a_damaged_shard(records_folder, tmp_path, capsys, damage):
    shard = sorted(records_folder.glob("train*.tfrecord"))[0]
    hurt(shard, damage)
    line = refusal(f"records:{records_folder}", tmp_path / "w", capsys)
    assert shard.name in line
    assert "pipelines.prepare" in line


def test_single_bad_pictures_are_skipped_counted_and_listed(class_folder, tmp_path, capsys):
    root = class_folder({"cat": 20, "dog": 20})
    (root / "cat" / "empty.jpg").write_bytes(b"")
    (root / "cat" / "text.jpg").write_text("this is no picture")
    whole = encoded(textured(40, 60), "JPEG")
    (root / "dog" / "short.jpg").write_bytes(whole[: len(whole) // 2])
    assert trained(f"folder:{root}", tmp_path / "w") == 0
    assert "left out 3 broken pictures" in capsys.readouterr().out
    listed = dict(scan.read_skipped(tmp_path / "w" / "skipped.csv"))
    assert listed == {
        "cat/empty.jpg": "empty file",
        "cat/text.jpg": "not a JPEG, PNG, GIF, BMP, WebP or PPM file",
        "dog/short.jpg": "damaged or truncated JPEG file",
    }
    source = Run.open(tmp_path / "w").open_source()
    assert source.count("train") + source.count("val") == 40


def test_unusual_pictures_are_read(class_folder, tmp_path, capsys):
    root = class_folder({"cat": 12, "dog": 12})
    picture = Image.fromarray(textured(40, 60))
    deep = (np.arange(2400, dtype=np.uint16) * 27).reshape(40, 60)
    frames = [Image.fromarray(textured(40, 60, seed=seed)) for seed in (1, 2)]
    for name, content in {
        "cmyk.jpg": encoded(picture.convert("CMYK"), "JPEG"),
        "gray.jpg": encoded(picture.convert("L"), "JPEG"),
        "deep.png": encoded(Image.fromarray(deep), "PNG"),
        "alpha.png": encoded(picture.convert("RGBA"), "PNG"),
        "moving.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "misnamed.JPEG": encoded(picture, "PNG"),
    }.items():
        (root / "cat" / name).write_bytes(content)
    assert trained(f"folder:{root}", tmp_path / "w") == 0
    assert "+ 0 left out" in capsys.readouterr().out
    assert not (tmp_path / "w" / "skipped.csv").exists()


def test_a_workdir_that_cannot_be_made(class_folder, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    line = refusal(f"folder:{class_folder({'cat': 8, 'dog': 8})}", tmp_path / "file" / "w", capsys)
    assert str(tmp_path / "file") in line
