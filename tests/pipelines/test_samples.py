"""Pictures written out of a data set are that set's own, named after their classes."""

from __future__ import annotations

from pipelines import samples, sources
from pipelines.config import DataConfig


def test_files_hold_the_stored_bytes_under_the_class_name(tmp_path):
    source = sources.open_source(DataConfig(spec="synthetic:12,24", data_seed=3))
    stored = {
        element["image_bytes"]: (source.readable_names[element["label"]], element["key"].decode())
        for element in source.dataset("val").as_numpy_iterator()
    }
    files = samples.write(source, 5, tmp_path / "new" / "folder", seed=1)
    assert len(set(files)) == 5
    for file in files:
        name, key = stored[file.read_bytes()]
        assert file.name == f"{name.replace(' ', '_')}-{key.removeprefix('val/')}.jpg"


def test_the_seed_chooses(tmp_path):
    source = sources.open_source(DataConfig(spec="synthetic:12,24"))
    names = [[f.name for f in samples.write(source, 6, tmp_path, seed)] for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]


def test_a_small_split_gives_all_it_has(tmp_path):
    source = sources.open_source(DataConfig(spec="synthetic:12,12"))
    assert len(samples.write(source, 50, tmp_path)) == 12


def test_wrong_counts_and_places_are_one_line(tmp_path, capsys):
    assert samples.main(["--data", "synthetic", "--out", str(tmp_path), "--count", "0"]) == 2
    assert samples.main(["--data", f"folder:{tmp_path}/none", "--out", str(tmp_path)]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == "error: --count must be 1 or more; received 0"
    assert f"{tmp_path}/none" in second


def test_endings_follow_the_content():
    starts = (
        b"\xff\xd8\xff\xe0",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"BM12",
        b"RIFF....WEBPVP8 ",
        b"RIFF....WAVE",
    )
    assert [samples.ending(start) for start in starts] == [".jpg", ".png", ".gif", ".bmp", ".webp", ".bin"]
