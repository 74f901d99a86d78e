"""ILSVRC-2012 in each of the forms in which people have it."""

import tarfile

import pytest

from pipelines import scan
from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.sources import imagenet, open_source
from tests.support.imagenet_archives import SYNSETS, add, picture, write_train

# Validation pictures 1 and 2 show a snake and an alp, as training pictures do; picture 3 shows a sheepdog.
VALIDATION = {1: "n01751748", 2: "n09193705", 3: "n02105855"}


def write_val(path):
    with tarfile.open(path, "w") as archive:
        for number, synset in VALIDATION.items():
            add(archive, f"ILSVRC2012_val_{number:08d}.JPEG", picture(synset, 100))


def opened(folder, **settings):
    return open_source(DataConfig(f"imagenet:{folder}", resize=16, crop=16, **settings))


def by_key(source, split):
    elements = source.dataset(split).as_numpy_iterator()
    return {e["key"].decode(): (source.class_names[e["label"]], e["image_bytes"]) for e in elements}


@pytest.fixture
def archives(tmp_path):
    write_train(tmp_path / imagenet.TRAIN_ARCHIVE)
    write_val(tmp_path / imagenet.VAL_ARCHIVE)
    return tmp_path


EXPECTED_TRAIN = {f"train/{s}/{s}_{n}.JPEG": (s, picture(s, n)) for s in SYNSETS for n in range(4)}
EXPECTED_VAL = {
    f"val/ILSVRC2012_val_{number:08d}.JPEG": (VALIDATION[number], picture(VALIDATION[number], 100))
    for number in (1, 2)
}


def test_archives_are_read_in_place(archives):
    source = opened(archives)
    assert source.class_names == tuple(sorted(SYNSETS))
    assert by_key(source, "train") == EXPECTED_TRAIN
    assert by_key(source, "val") == EXPECTED_VAL
    assert next(source.pick("val", [0])).image_bytes in {content for _, content in EXPECTED_VAL.values()}
    assert scan.scan(source, DataConfig(f"imagenet:{archives}", resize=16, crop=16)).stats.count == 12


def test_without_the_second_archive_a_share_is_held_out(archives):
    (archives / imagenet.VAL_ARCHIVE).unlink()
    source = opened(archives, val_fraction=0.25)
    assert (source.count("train"), source.count("val")) == (9, 3)
    assert by_key(source, "train") | by_key(source, "val") == EXPECTED_TRAIN


def test_names_come_from_a_word_list(archives):
    (archives / "LOC_synset_mapping.txt").write_text(
        "n09193705 alp\nn01751748 sea snake\nn01440764 tench, fish\n"
    )
    assert opened(archives).readable_names == ("tench", "sea snake", "alp")


@pytest.mark.parametrize("flat", [True, False])
def test_unpacked(tmp_path, flat):
    for key, (_, content) in EXPECTED_TRAIN.items():
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(content)
    expected = {}
    for number, synset in VALIDATION.items():
        folder = "val" if flat else f"val/{SYNSETS[number - 1]}"
        key = f"{folder}/ILSVRC2012_val_{number:08d}.JPEG"
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(picture(synset, 100))
        expected[key] = (synset if flat else SYNSETS[number - 1], picture(synset, 100))
    if flat:
        del expected["val/ILSVRC2012_val_00000003.JPEG"]  # its synset is not in the training set
    source = opened(tmp_path)
    assert by_key(source, "train") == EXPECTED_TRAIN
    assert by_key(source, "val") == expected


def test_class_folders_alone(tmp_path):
    for key, (_, content) in EXPECTED_TRAIN.items():
        path = tmp_path / key.removeprefix("train/")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    assert opened(tmp_path).class_names == tuple(sorted(SYNSETS))


@pytest.mark.parametrize("where", ["none", ""])
def test_neither_archives_nor_folders(tmp_path, where):
    with pytest.raises(DataError, match=r"needs ILSVRC2012_img_train\.tar or folders named by synsets"):
        opened(tmp_path / where)


@pytest.mark.parametrize(
    "damage", [lambda data: b"no archive" * 100, lambda data: data[: len(data) // 2 - 700], lambda data: b""]
)
def test_a_damaged_archive_is_named(archives, damage):
    path = archives / imagenet.TRAIN_ARCHIVE
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"ILSVRC2012_img_train\.tar: ") as caught:
        opened(archives)
    assert "\n" not in str(caught.value)


def test_an_archive_of_pictures_is_not_the_training_archive(archives):
    write_val(archives / imagenet.TRAIN_ARCHIVE)
    with pytest.raises(DataError, match=r"ILSVRC2012_val_00000001\.JPEG is no archive of a synset"):
        opened(archives)


def test_one_synset_is_too_few(archives):
    write_train(archives / imagenet.TRAIN_ARCHIVE, SYNSETS[:1])
    with pytest.raises(DataError, match="at least two synsets"):
        opened(archives)


def test_the_validation_labels_are_all_there():
    synsets = imagenet._validation_synsets()
    assert len(synsets) == 50_000
    assert [synsets[number - 1] for number in VALIDATION] == list(VALIDATION.values())
    assert {synsets.count(synset) for synset in VALIDATION.values()} == {50}
