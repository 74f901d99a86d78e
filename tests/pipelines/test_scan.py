"""The pass before training: statistics against NumPy, and every broken picture by name."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines import passes, scan
from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.pictures import preprocess
from pipelines.sources import open_source
from tests.support import attacks
from tests.support.pictures import encoded, textured

JPEG = encoded(textured(20, 30), "JPEG")
BROKEN = {
    "empty.jpg": (b"", "empty file"),
    "text.jpg": (b"hello, I am no picture", "not a JPEG, PNG, GIF, BMP, WebP or PPM file"),
    "phone.jpg": (
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        "this is a HEIC file; JPEG, PNG, GIF, BMP, WebP and PPM are read",
    ),
    "large.png": (
        attacks.png(20_000, 20_000),
        "PNG file of 20000 x 20000 pixels; a picture may hold at most 67108864 pixels",
    ),
    "cut.webp": (encoded(textured(20, 30), "WEBP")[:60], "damaged or truncated WebP file"),
    "cut.jpg": (JPEG[: len(JPEG) // 2], "damaged or truncated JPEG file"),
    "cut.png": (encoded(textured(20, 30), "PNG")[:200], "damaged or truncated PNG file"),
    "cut.gif": (encoded(textured(20, 30), "GIF")[:40], "damaged or truncated GIF file"),
    "cut.bmp": (encoded(textured(20, 30), "BMP")[:60], "damaged or truncated BMP file"),
}


def sixteen_bits():
    image = Image.fromarray((np.arange(600).reshape(20, 30) * 100).astype(np.uint16))
    return encoded(image, "PNG")


UNUSUAL = {
    "png_by_another_name.JPEG": encoded(textured(20, 30), "PNG"),
    "gray.jpg": encoded(Image.fromarray(textured(20, 30)).convert("L"), "JPEG"),
    "cmyk.jpg": encoded(Image.fromarray(textured(20, 30)).convert("CMYK"), "JPEG"),
    "palette.png": encoded(Image.fromarray(textured(20, 30)).convert("P"), "PNG"),
    "alpha.png": encoded(Image.fromarray(textured(20, 30)).convert("RGBA"), "PNG"),
    "sixteen_bits.png": sixteen_bits(),
    "animated.gif": encoded(
        Image.fromarray(textured(20, 30)),
        "GIF",
        save_all=True,
        append_images=[Image.fromarray(textured(20, 30, 1))],
    ),
    "still.webp": encoded(textured(20, 30), "WEBP"),
    "one_pixel.bmp": encoded(textured(1, 1), "BMP"),
}


@pytest.fixture
def config(class_folder):
    return DataConfig(f"folder:{class_folder({'cat': 12, 'dog': 12})}", resize=16, crop=16)


def folder_of(config):
    return Path(config.location)


def test_statistics_are_those_of_the_training_split(config):
    source = open_source(config)
    result = scan.scan(source, config)
    images = np.stack(
        [preprocess.prepare(example["image_bytes"], config).numpy() for example in source.dataset("train")]
    ).astype(np.float64)
    assert result.skipped == ()
    assert result.stats.count == len(images) == source.count("train")
    np.testing.assert_allclose(result.stats.mean_image, images.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(result.stats.channel_mean, images.mean(axis=(0, 1, 2)), atol=1e-4)
    variances = np.linalg.eigvalsh(np.cov(images.reshape(-1, 3).T, bias=True))[::-1]
    np.testing.assert_allclose(result.stats.eigenvalues, variances, rtol=1e-3)


def test_broken_pictures_are_named_with_their_reason(config):
    for name, (content, _) in BROKEN.items():
        (folder_of(config) / "cat" / name).write_bytes(content)
    source = open_source(config)
    result = scan.scan(source, config)
    assert dict(result.skipped) == {f"cat/{name}": reason for name, (_, reason) in BROKEN.items()}
    rest = source.without(skipped.key for skipped in result.skipped)
    assert rest.count("train") + rest.count("val") == 24
    assert scan.scan(rest, config).skipped == ()


def test_unusual_pictures_are_no_broken_ones(config):
    for name, content in UNUSUAL.items():
        (folder_of(config) / "dog" / name).write_bytes(content)
    result = scan.scan(open_source(config), config)
    assert result.skipped == ()
    assert np.isfinite(result.stats.mean_image).all()


def test_a_file_that_vanished_is_skipped_too(config):
    source = open_source(config)
    key = next(source.pick("train", [0])).key
    (folder_of(config) / key).unlink()
    assert scan.scan(source, config).skipped == (scan.Skipped(key, "cannot be read (NotFoundError)"),)


def test_a_broken_picture_does_not_change_the_statistics_of_the_others(config):
    source = open_source(config)
    key = next(source.pick("train", [5])).key
    (folder_of(config) / key).write_bytes(b"")
    expected = scan.scan(source.without([key]), config).stats
    received = scan.scan(source, config).stats
    assert received.count == expected.count == source.count("train") - 1
    np.testing.assert_allclose(received.mean_image, expected.mean_image, atol=1e-5)


def test_limit_looks_at_the_front_of_each_split(config, monkeypatch, told):
    monkeypatch.setattr(passes, "BLOCK", 2)
    source = open_source(config)
    result = scan.scan(source, config, limit=5)
    assert result.stats.count == 5
    train = [("looking at the train pictures", done, 5) for done in (0, 2, 4)]
    held = source.count("val")
    assert told == [*train, *(("looking at the val pictures", done, held) for done in range(0, held, 2))]


def test_a_limited_look_does_not_call_a_class_empty(config):
    source = open_source(config)
    (folder_of(config) / next(source.pick("train", [0])).key).write_bytes(b"")
    result = scan.scan(source, config, limit=2)
    assert (len(result.skipped), result.stats.count) == (1, 1)


def test_a_class_without_a_readable_picture_is_an_error(config):
    for path in folder_of(config).glob("dog/*.jpg"):
        path.write_text("no picture")
    with pytest.raises(DataError, match="no picture of the class dog can be read, for example dog/"):
        scan.scan(open_source(config), config)


def test_no_readable_picture_at_all_is_an_error(config):
    for path in folder_of(config).rglob("*.jpg"):
        path.write_bytes(b"")
    source = open_source(config)
    message = rf"none of the {source.count('train')} train pictures can be read, for example .*: empty file"
    with pytest.raises(DataError, match=message):
        scan.scan(source, config)


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_first_broken_picture_is_an_error_where_that_is_wanted(config, split):
    source = open_source(config)
    keys = [example.key for example in source.pick(split, [0, 1])]
    for key in keys:
        (folder_of(config) / key).write_bytes(b"")
    with pytest.raises(DataError, match=f"^{keys[0]}: empty file$"):
        scan.scan(source, config, strict=True)
    assert len(scan.scan(source, config).skipped) == 2


def test_everything_found_is_accounted_for():
    left_out = {"hidden files": 2, "broken pictures": 3, ".txt files": 0}
    assert scan.summary(60, left_out) == (
        "65 found = 60 used + 5 left out: 3 broken pictures, 2 hidden files"
    )
    assert scan.summary(60, {}) == "60 found = 60 used + 0 left out"
    assert scan.summary(60, {"hidden files": 1}, not_looked_at=40) == (
        "101 found = 60 used + 40 not looked at + 1 left out: 1 hidden files"
    )


def test_there_must_be_something_to_hold_out(class_folder):
    config = DataConfig(f"folder:{class_folder({'cat': 1, 'dog': 1})}", resize=16, crop=16)
    with pytest.raises(DataError, match="one picture a class leaves none to hold out"):
        scan.scan(open_source(config), config)


def test_there_must_be_something_to_train_on(class_folder):
    root = class_folder({"cat": 2, "dog": 2}, "data/val").parent
    config = DataConfig(f"folder:{root}", resize=16, crop=16)
    with pytest.raises(DataError, match="nothing to train on"):
        scan.scan(open_source(config), config)


def test_validation_pictures_are_decoded_too(config):
    source = open_source(config)
    first, *others = (element["key"].decode() for element in source.dataset("val").as_numpy_iterator())
    source = source.without(others[1:])
    second = others[0]
    (folder_of(config) / second).write_bytes(JPEG[:-200])
    assert scan.scan(source, config).skipped == (scan.Skipped(second, "damaged or truncated JPEG file"),)
    (folder_of(config) / first).write_bytes(b"")
    with pytest.raises(DataError, match="none of the 2 val pictures can be read"):
        scan.scan(source, config)


def test_the_list_of_skipped_pictures_survives_a_file(tmp_path):
    skipped = (
        scan.Skipped('odd, "quoted"/ü.jpg', "empty file"),
        scan.Skipped("a\udce9.jpg", "text\nin lines"),
    )
    scan.write_skipped(tmp_path / "skipped.csv", skipped)
    assert scan.read_skipped(tmp_path / "skipped.csv") == skipped
    assert [path.name for path in tmp_path.iterdir()] == ["skipped.csv"]


def test_a_failing_write_leaves_the_old_list(tmp_path):
    path = tmp_path / "skipped.csv"
    scan.write_skipped(path, [scan.Skipped("old", "empty file")])
    with pytest.raises(csv.Error):
        scan.write_skipped(path, [None])
    assert scan.read_skipped(path) == (scan.Skipped("old", "empty file"),)
    assert [file.name for file in tmp_path.iterdir()] == ["skipped.csv"]


@pytest.mark.parametrize("content", ["", "name,why\n", "key,reason\na\n"])
def test_other_files_are_no_list(tmp_path, content):
    (tmp_path / "skipped.csv").write_text(content)
    with pytest.raises(DataError, match="no list of skipped pictures"):
        scan.read_skipped(tmp_path / "skipped.csv")


def test_reason_of_a_picture_that_is_whole():
    assert scan.reason(JPEG) == "could not be read at first, but can be now"


USUAL = "baseline and progressive ones are read"


def rewritten(**parts):
    """A JPEG whose frame header says something else."""
    data = bytearray(JPEG)
    at = data.index(b"\xff\xc0")
    places = {"marker": (1, 1), "bits": (4, 1), "height": (5, 2), "width": (7, 2)}
    for name, value in parts.items():
        place, size = places[name]
        data[at + place : at + place + size] = value.to_bytes(size, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("image_bytes", "words"),
    [
        (rewritten(width=65501), "JPEG file of 65501 x 20 pixels; a side may have at most 65500"),
        (rewritten(bits=12), "JPEG file of 12 bits a colour; 8 are read"),
        (
            rewritten(marker=0xC3),
            "lossless or hierarchical JPEG file; baseline and progressive ones are read",
        ),
        (rewritten(height=20)[:300], "damaged or truncated JPEG file"),
        (JPEG[:8], "damaged or truncated JPEG file"),
        (JPEG[:2] + b"\xff", "damaged or truncated JPEG file"),
    ],
)
def test_whole_jpegs_of_rare_kinds_are_not_called_damaged(image_bytes, words):
    assert scan.reason(image_bytes) == words


def test_a_folder_of_webp_is_read_and_one_of_heic_says_what_to_do(tmp_path):
    for label, options in (("cat", {"lossless": True}), ("dog", {"quality": 80})):
        (tmp_path / label).mkdir()
        for number in range(6):
            picture = Image.fromarray(textured(20, 30, number)).convert("RGBA" if number % 2 else "RGB")
            (tmp_path / label / f"{number}.webp").write_bytes(encoded(picture, "WEBP", **options))
    config = DataConfig(f"folder:{tmp_path}", resize=16, crop=16)
    source = open_source(config)
    result = scan.scan(source, config)
    assert (result.skipped, result.stats.count) == ((), source.count("train"))
    assert source.count("train") + source.count("val") == 12

    (tmp_path / "fox").mkdir()
    (tmp_path / "fox" / "phone.heic").write_bytes(BROKEN["phone.jpg"][0])
    message = r"no pictures .*\.heic files, .* a HEIC file: convert them to JPEG or PNG"
    with pytest.raises(DataError, match=message):
        open_source(config)
