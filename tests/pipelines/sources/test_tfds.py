"""TFDS as a source, on data sets built on the spot and on a genuine imagenet2012 of four pictures."""

import io
import tarfile

import pytest
import tensorflow as tf

from pipelines import scan
from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.pictures.decode import decode
from pipelines.sources import open_source
from pipelines.sources import tfds as tfds_source
from tests.support import tiny_tfds
from tests.support.pictures import encoded, textured

tfds = tfds_source.tfds


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture
def prepared(data_dir, monkeypatch):
    """A function that builds a class of `tiny_tfds` and opens it; `shards` > 1 spreads it over files."""
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(data_dir))

    def build(builder_class, shards=1, query="", **settings):
        builder = builder_class(data_dir=data_dir)
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=shards))
        return open_source(DataConfig(f"tfds:{builder.name}{query}", **settings))

    return build


def numbers(source, split, **which):
    """The pictures by the number in their red channel."""
    images = source.dataset(split, **which).map(lambda e: decode(e["image_bytes"])[0, 0, 0])
    return [int(number) for number in images.as_numpy_iterator()]


def test_bytes_labels_and_keys(prepared):
    source = prepared(tiny_tfds.TinyThreeSplits)
    assert source.class_names == ("cat", "dog")
    assert (source.count("train"), source.count("val")) == (20, 6)
    elements = list(source.dataset("val").as_numpy_iterator())
    assert sorted(numbers(source, "val")) == list(range(6))
    assert [e["label"] for e in elements] == [number % 2 for number in numbers(source, "val")]
    assert all(e["image_bytes"].startswith(b"\x89PNG") for e in elements)
    assert len({e["key"] for e in elements}) == 6
    assert all(e["key"].startswith(b"val/tiny_three_splits-validation.tfrecord") for e in elements)


def test_test_stands_in_for_validation_when_it_has_labels(prepared):
    assert prepared(tiny_tfds.TinyTest).count("val") == 8
    unlabelled = prepared(tiny_tfds.TinyUnlabelledTest)
    assert unlabelled.description.endswith("; its test split has no labels")
    assert (unlabelled.count("train"), unlabelled.count("val")) == (18, 2)


def test_a_seeded_stratified_share_otherwise(prepared):
    source = prepared(tiny_tfds.TinyTrainOnly, val_fraction=0.2)
    held = numbers(source, "val")
    assert 2 <= len(held) <= 18
    assert 1 <= sum(number % 2 for number in held) < len(held)
    assert sorted(numbers(source, "train") + held) == list(range(40))
    assert set(numbers(source, "train", epoch=3)) == set(range(40)) - set(held)
    assert held == numbers(prepared(tiny_tfds.TinyTrainOnly, val_fraction=0.2), "val")
    assert set(held) != set(numbers(prepared(tiny_tfds.TinyTrainOnly, val_fraction=0.2, data_seed=1), "val"))


@pytest.mark.parametrize("builder_class", [tiny_tfds.TinyTrainOnly, tiny_tfds.TinyThreeSplits])
def test_an_epoch_is_a_function_of_seed_and_number(prepared, builder_class):
    source = prepared(builder_class)
    first = numbers(source, "train", epoch=0)
    tf.random.set_seed(5)
    assert numbers(source, "train", epoch=0) == first
    assert numbers(source, "train", epoch=1) != first
    assert numbers(prepared(builder_class, seed=1), "train", epoch=0) != first
    assert sorted(first) == sorted(numbers(source, "train"))
    assert numbers(source, "train", epoch=1, start=7) == numbers(source, "train", epoch=1)[7:]
    assert numbers(source, "train", start=7) == numbers(source, "train")[7:]
    fixed = prepared(builder_class, shuffle=False)
    assert numbers(fixed, "train", epoch=1) == numbers(fixed, "train")


def test_the_share_stays_apart_over_many_files(prepared, data_dir, monkeypatch):
    class TinyManyFiles(tiny_tfds.TinyTrainOnly):
        pass

    source = prepared(TinyManyFiles, shards=5)
    assert len(list((data_dir / "tiny_many_files" / "1.0.0").glob("*.tfrecord*"))) == 5
    held = set(numbers(source, "val"))
    monkeypatch.setattr(tfds_source, "FILES_AT_ONCE", 2)
    for epoch in range(3):
        order = numbers(source, "train", epoch=epoch)
        assert sorted(order) == sorted(set(range(40)) - held)


def test_stored_order_and_keys_are_those_of_tfds(prepared, data_dir):
    class TinyReadByBoth(tiny_tfds.TinyTrainOnly):
        pass

    source = prepared(TinyReadByBoth, shards=3)
    theirs = TinyReadByBoth(data_dir=data_dir).as_dataset(
        split="train", read_config=tfds.ReadConfig(add_tfds_id=True, interleave_cycle_length=1)
    )
    expected = [(int(e["image"][0, 0, 0]), e["tfds_id"].numpy()) for e in theirs]
    kept = zip(numbers(source, "train"), source.dataset("train").as_numpy_iterator(), strict=True)
    held = set(numbers(source, "val"))
    assert [(n, e["key"].removeprefix(b"train/")) for n, e in kept] == [
        pair for pair in expected if pair[0] not in held
    ]


def test_another_file_format_is_an_error(prepared, data_dir, monkeypatch):
    class TinyArrays(tiny_tfds.TinyTrainOnly):
        pass

    prepared(TinyArrays)
    info = data_dir / "tiny_arrays" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace('"tfrecord"', '"array_record"'))
    with pytest.raises(DataError, match=r"array_record, which TensorFlow cannot read; run `tfds build"):
        open_source(DataConfig("tfds:tiny_arrays"))


def test_features_of_other_names(prepared):
    source = prepared(tiny_tfds.TinyOtherNames)
    assert sorted(numbers(source, "train") + numbers(source, "val")) == list(range(40))


def test_pictures_can_be_left_out_and_scanned(prepared):
    source = prepared(tiny_tfds.TinyTrainOnly)
    key = next(source.pick("train", [4])).key
    rest = source.without([key])
    assert (rest.count("train"), rest.count("val")) == (source.count("train") - 1, source.count("val"))
    config = DataConfig("tfds:tiny_train_only", resize=8, crop=8)
    result = scan.scan(rest, config)
    assert (result.skipped, result.stats.count) == ((), rest.count("train"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_set", ["no_such_set", "no data set of this name"]),
        ("mnist", ["mnist", "not built in", "run `tfds build mnist`"]),
        ("imagenet2012", ["run `tfds build imagenet2012`", "downloads/manual"]),
        ("mnist:99.0.0", ["mnist:99.0.0", "only: 3.0.1"]),
        ("Not A Name!", ["Not A Name!", "cannot open"]),
    ],
)
def test_names_that_cannot_be_opened(data_dir, monkeypatch, name, words):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(data_dir))
    with pytest.raises(DataError) as caught:
        open_source(DataConfig(f"tfds:{name}"))
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("builder_class", "message"),
    [
        (
            tiny_tfds.TinyTwoImages,
            r"has 2 Image features, left, right; choose one: tfds:tiny_two_images\?image=left$",
        ),
        (tiny_tfds.TinyNoLabel, r"tfds:tiny_no_label: has no ClassLabel feature, only image \(Image\)$"),
        (tiny_tfds.TinyVideo, r"has no Image feature, only clip \(Video\), label \(ClassLabel\)$"),
    ],
)
def test_data_of_another_kind(prepared, builder_class, message):
    with pytest.raises(DataError, match=message):
        prepared(builder_class)


def test_features_are_chosen(prepared):
    source = prepared(tiny_tfds.TinyManyFeatures, query="?label=fine&image=photo")
    assert source.class_names == ("cat", "dog", "owl")
    assert {int(e["label"]) for e in source.dataset("val").as_numpy_iterator()} == {0, 2}
    assert prepared(tiny_tfds.TinyManyFeatures, query="?image=photo&label=coarse").class_names == (
        "pet",
        "bird",
    )


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?image=photo", r"has 2 ClassLabel features, coarse, fine; choose one: \S+features\?label=coarse$"),
        ("?label=fine", "has 4 Image features, photo, depth, metres, scan; choose one"),
        ("?label=photo&image=photo", "no ClassLabel feature 'photo'; `label` can be coarse, fine$"),
        ("?label=fine&split=x", r"after `\?` come image=FEATURE or label=FEATURE, .*received 'split=x'$"),
        ("?label=", "received 'label='$"),
        ("?label=fine&label=coarse", "received 'label=coarse'$"),
    ],
)
def test_choices_that_are_none(prepared, query, message):
    with pytest.raises(DataError, match=message):
        prepared(tiny_tfds.TinyManyFeatures, query=query)


@pytest.mark.parametrize("image", ["depth", "scan"])
def test_pixels_of_other_types_become_grey_levels(prepared, image):
    source = prepared(tiny_tfds.TinyManyFeatures, query=f"?label=fine&image={image}")
    element = next(source.dataset("val").as_numpy_iterator())
    pixels = decode(tf.constant(element["image_bytes"])).numpy()
    assert pixels.shape == (4, 5, 3)
    assert set(pixels.ravel()) == {179 if image == "scan" else 178}


def test_floating_point_pixels_of_another_range_are_refused(prepared):
    source = prepared(tiny_tfds.TinyManyFeatures, query="?label=fine&image=metres")
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"metres must lie between 0 and 1 .* 2\.1 to 2\.1"
    ):
        next(source.dataset("val").as_numpy_iterator())


def test_examples_without_a_label_are_left_out_of_a_held_out_share(prepared):
    source = prepared(tiny_tfds.TinySomeUnlabelled)
    assert (source.count("train") + source.count("val"), source.left_out) == (
        30,
        {"examples without a label (-1)": 10},
    )
    assert sorted(numbers(source, "train") + numbers(source, "val")) == [n for n in range(40) if n % 4]


def test_examples_without_a_label_are_found_by_a_scan(prepared):
    source = prepared(tiny_tfds.TinySomeUnlabelledOfEach)
    assert [source.count(split) for split in source.splits] == [8, 6, 5]
    result = scan.scan(source, DataConfig("tfds:x", resize=8, crop=8))
    assert [reason for _, reason in result.skipped] == ["has no label (-1)"] * 4
    rest = source.without([key for key, _ in result.skipped])
    assert (rest.count("train"), rest.count("val")) == (6, 4)
    assert sorted(numbers(rest, "train")) == [1, 2, 3, 5, 6, 7]
    assert sorted(numbers(rest, "train", epoch=2)) == [1, 2, 3, 5, 6, 7]
    assert source.fingerprints("train").tolist() == rest.fingerprints("train").tolist()


def test_a_test_split_alone_can_be_evaluated(prepared):
    source = prepared(tiny_tfds.TinyTestOnly)
    assert (source.count("train"), source.count("val"), source.held_out) == (0, 6, False)
    assert list(source.dataset("train", epoch=0)) == []
    assert sorted(numbers(source, "val")) == list(range(6))
    assert source.description.endswith("0 + 6 pictures, its test split for val")


def add(archive, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def test_the_genuine_imagenet_builder(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(data_dir))
    synsets = ("n01440764", "n15075141")
    with tarfile.open(tmp_path / "ILSVRC2012_img_train.tar", "w") as outer:
        for synset in synsets:
            inner_bytes = io.BytesIO()
            with tarfile.open(fileobj=inner_bytes, mode="w") as inner:
                for number in range(3):
                    add(inner, f"{synset}_{number}.JPEG", encoded(textured(20, 30, number), "JPEG"))
            add(outer, f"{synset}.tar", inner_bytes.getvalue())
    for name in ("val", "test"):
        with tarfile.open(tmp_path / f"ILSVRC2012_img_{name}.tar", "w") as archive:
            for number in (1, 2):
                add(
                    archive, f"ILSVRC2012_{name}_{number:08d}.JPEG", encoded(textured(20, 30, number), "JPEG")
                )
    builder = tfds.builder("imagenet2012")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=tmp_path))

    source = open_source(DataConfig("tfds:imagenet2012"))
    assert (len(source.class_names), source.count("train"), source.count("val")) == (1000, 6, 2)
    labels = [int(e["label"]) for e in source.dataset("train").as_numpy_iterator()]
    assert sorted(source.class_names[label] for label in labels) == [synsets[0]] * 3 + [synsets[1]] * 3
    received = {e["image_bytes"] for e in source.dataset("train").as_numpy_iterator()}
    assert received == {encoded(textured(20, 30, number), "JPEG") for number in range(3)}
