"""ILSVRC-2012 in each of the forms in which people have it."""

import tarfile

import pytest

from pipelines import scan
from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.sources import imagenet, open_source, validation_synsets
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


def put(root, key, content):
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def put_training(root, form):
    """Training pictures in one of their forms; returns what a source must give, by key."""
    if form == "archive":
        write_train(root / imagenet.TRAIN_ARCHIVE)
        return EXPECTED_TRAIN
    expected = {
        key if form == "folder" else key.removeprefix("train/"): pair for key, pair in EXPECTED_TRAIN.items()
    }
    for key, (_, content) in expected.items():
        put(root, key, content)
    return expected


def put_validation(root, form):
    """The same of validation pictures: those of the third synset of the list are not in the training set."""
    if form == "archive":
        write_val(root / imagenet.VAL_ARCHIVE)
        return EXPECTED_VAL
    expected = {}
    for number, synset in VALIDATION.items():
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        shown = SYNSETS[number - 1] if form == "sorted" else synset
        key = {"sorted": f"val/{shown}/{name}", "flat": f"val/{name}", "loose": name}[form]
        put(root, key, picture(synset, 100))
        if shown in SYNSETS:
            expected[key] = (shown, picture(synset, 100))
    return expected


@pytest.mark.parametrize("validation", ["archive", "flat", "sorted", "loose"])
@pytest.mark.parametrize("training", ["archive", "folder", "class folders"])
def test_any_training_pictures_go_with_any_validation_pictures(tmp_path, training, validation):
    expected_train, expected_val = put_training(tmp_path, training), put_validation(tmp_path, validation)
    source = opened(tmp_path)
    assert by_key(source, "train") == expected_train
    assert by_key(source, "val") == expected_val
    assert not source.held_out
    others = {} if validation == "sorted" else {"validation pictures of other synsets": 1}
    assert source.left_out == others
    assert "passed over" not in source.description


@pytest.mark.parametrize("form", ["archive", "flat", "loose"])
def test_validation_pictures_alone_can_be_evaluated(tmp_path, form):
    put_validation(tmp_path, form)
    source = opened(tmp_path)
    assert (source.count("train"), source.count("val"), source.held_out) == (0, 3, False)
    assert len(source.class_names) == 1000
    assert sorted(synset for synset, _ in by_key(source, "val").values()) == sorted(VALIDATION.values())


def test_what_is_not_used_is_named(tmp_path):
    put_training(tmp_path, "archive")
    put_training(tmp_path, "folder")
    put(tmp_path, "test/ILSVRC2012_test_00000001.JPEG", b"")
    (tmp_path / "ILSVRC2012_devkit_t12.tar.gz").touch()
    source = opened(tmp_path)
    assert source.description.endswith(
        " pictures (ILSVRC2012_img_train.tar for train, a share of it for val)"
        "; test/, train/, ILSVRC2012_devkit_t12.tar.gz passed over"
    )
    assert by_key(source, "train") | by_key(source, "val") == EXPECTED_TRAIN


@pytest.mark.parametrize("given", ["", "ILSVRC", "ILSVRC/Data/CLS-LOC"])
def test_kaggles_folders(tmp_path, given):
    base = tmp_path / "ILSVRC/Data/CLS-LOC"
    expected_train, expected_val = put_training(base, "folder"), put_validation(base, "flat")
    put(base, "test/ILSVRC2012_test_00000001.JPEG", b"")
    # Its list counts, so that the test can tell which was read: picture 3 shows a fish by this one.
    put(
        tmp_path,
        "LOC_val_solution.csv",
        b"ImageId,PredictionString\n"
        b"ILSVRC2012_val_00000003,n01440764 85 1 499 272 n02105855 1 2 3 4\n"
        b"ILSVRC2012_val_00000001,n01751748 1 1 2 2 \n",
    )
    put(tmp_path, "LOC_synset_mapping.txt", b"n09193705 alp\nn01751748 sea snake\nn01440764 tench, fish\n")
    source = opened(tmp_path / given)
    if not given:
        expected_val["val/ILSVRC2012_val_00000003.JPEG"] = ("n01440764", picture(VALIDATION[3], 100))
    assert by_key(source, "train") == expected_train
    assert by_key(source, "val") == expected_val
    assert source.readable_names == ("tench", "sea snake", "alp")
    assert source.description.endswith("; test/ passed over")


@pytest.mark.parametrize(
    "line", [b"ILSVRC2012_val_00000003,cat 1 2 3 4", b"ILSVRC2012_val_00000003", b"\xff,\xff"]
)
def test_kaggles_list_damaged(tmp_path, line):
    put_training(tmp_path, "folder")
    put_validation(tmp_path, "flat")
    put(tmp_path, "LOC_val_solution.csv", b"ImageId,PredictionString\n" + line + b"\n")
    with pytest.raises(DataError, match=r"LOC_val_solution\.csv: damaged; each line must be"):
        opened(tmp_path)


def test_synset_archives_that_are_still_packed(tmp_path):
    put_training(tmp_path, "folder")
    (tmp_path / "train" / "n01440764.tar").touch()
    assert opened(tmp_path).count("train") > 0
    (tmp_path / "train" / "n01443537.tar").touch()
    message = r"train: 1 archives of synsets are still to be unpacked, .*\(n01443537\.tar into n01443537/\)"
    with pytest.raises(DataError, match=message):
        opened(tmp_path)


def test_only_packed_synset_archives(tmp_path):
    (tmp_path / "n01440764.tar").touch()
    with pytest.raises(DataError, match="1 archives of synsets are still to be unpacked"):
        opened(tmp_path)


def half_sorted(root):
    put_validation(root, "flat")
    put_validation(root, "sorted")


def empty_archive(root):
    tarfile.open(root / imagenet.VAL_ARCHIVE, "w").close()


def empty_file(root):
    (root / imagenet.VAL_ARCHIVE).touch()


def empty_folder(root):
    (root / "val").mkdir()


def foreign_pictures(root):
    put(root, "val/ILSVRC2012_val_00000003.JPEG", picture(VALIDATION[3], 100))


def fewer_classes(root):
    for synset in SYNSETS[:2]:
        put(root, f"val/{synset}/a.JPEG", picture(synset, 100))


def other_names(root):
    with tarfile.open(root / imagenet.VAL_ARCHIVE, "w") as archive:
        add(archive, "some/cat.jpg", picture(SYNSETS[0], 1))


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (
            half_sorted,
            r"val: sorted into folders in part: holds n01440764/ beside ILSVRC2012_val_00000001\.JPEG",
        ),
        (empty_archive, r"ILSVRC2012_img_val\.tar: holds no pictures; fetch it again or remove it"),
        (empty_file, r"ILSVRC2012_img_val\.tar: damaged archive \(empty file\)"),
        (empty_folder, r"val: holds neither ILSVRC2012_val_\*\.JPEG nor folders named by synsets"),
        (foreign_pictures, r"none of the 1 pictures of val/ shows one of the 3 classes of train/"),
        (fewer_classes, r"train/ and val/ must hold the same synsets; only one of them has n01440764"),
        (other_names, r"ILSVRC2012_img_val\.tar: none of its 1 pictures is called ILSVRC2012_val_"),
    ],
)
def test_validation_pictures_that_cannot_be_used_are_not_passed_over(tmp_path, prepare, message):
    put_training(tmp_path, "folder")
    prepare(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)


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


def with_header_damaged(data):
    """Eight bytes overwritten in the header of a picture that is not the first of its archive."""
    place = data.index(f"{SYNSETS[1]}_2.JPEG".encode())
    return data[:place] + b"#" * 8 + data[place + 8 :]


def with_outer_header_damaged(data):
    place = data.index(f"{SYNSETS[1]}.tar".encode())
    return data[:place] + b"#" * 8 + data[place + 8 :]


def with_header_zeroed(data):
    place = data.index(f"{SYNSETS[1]}.tar".encode())
    return data[:place] + bytes(512) + data[place + 512 :]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: b"no archive" * 100, "damaged archive"),
        (lambda data: data[: len(data) // 2 - 700], "damaged archive"),
        (lambda data: b"", r"damaged archive \(empty file\)"),
        (with_header_damaged, r"damaged archive \(n09193705\.tar in it: no header at byte"),
        (with_outer_header_damaged, r"damaged archive \(no header at byte"),
        (with_header_zeroed, r"damaged archive \(more after its end at byte"),
        # As by a program that reserves the whole file before it fetches it.
        (lambda data: data.rstrip(b"\0") + bytes(2**21), r"damaged archive \(only zeros from byte \d+ on"),
        (lambda data: data[: data.rindex(b"JPEG") // 512 * 512], "damaged archive"),
    ],
)
def test_a_damaged_archive_is_named(archives, damage, words):
    path = archives / imagenet.TRAIN_ARCHIVE
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=rf"ILSVRC2012_img_train\.tar: {words}") as caught:
        opened(archives)
    assert "\n" not in str(caught.value)


def test_a_damaged_header_in_the_validation_archive(archives):
    path = archives / imagenet.VAL_ARCHIVE
    data = path.read_bytes()
    place = data.index(b"ILSVRC2012_val_00000002")
    path.write_bytes(data[:place] + b"#" * 8 + data[place + 8 :])
    with pytest.raises(DataError, match=r"ILSVRC2012_img_val\.tar: damaged archive \(no header at byte"):
        opened(archives)


@pytest.mark.parametrize("cut", [512, 1024 + 512])
def test_only_a_block_of_zeros_ends_an_archive(archives, cut):
    path = archives / imagenet.VAL_ARCHIVE
    data = path.read_bytes()
    end = len(data.rstrip(b"\0")) // 512 * 512 + 512
    path.write_bytes(data[: end + 512])
    assert opened(archives).count("val") == 2
    path.write_bytes(data[: end + 512 - cut])
    with pytest.raises(DataError, match=r"damaged archive \((it is cut short|unexpected end of data)"):
        opened(archives)


def test_what_is_no_picture_in_an_archive_is_counted(archives):
    for name in (imagenet.TRAIN_ARCHIVE, imagenet.VAL_ARCHIVE):
        with tarfile.open(archives / name, "a") as archive:
            add(archive, "._n01440764.tar", b"resource fork")
            folder = tarfile.TarInfo("folder")
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
    with tarfile.open(archives / imagenet.VAL_ARCHIVE, "a") as archive:
        add(archive, "README.txt", b"text")
        add(archive, "ILSVRC2012_val_99999999.JPEG", picture(SYNSETS[0], 1))
    assert opened(archives).left_out == {
        "hidden files": 2,
        "files that are no pictures": 1,
        "validation pictures of other synsets": 1,
        "validation pictures without a known number": 1,
    }


def test_a_synset_twice(archives):
    write_train(archives / imagenet.TRAIN_ARCHIVE, (*SYNSETS, SYNSETS[0]))
    with pytest.raises(DataError, match=r"ILSVRC2012_img_train\.tar: holds n01751748\.tar twice"):
        opened(archives)


def test_a_picture_twice(archives):
    with tarfile.open(archives / imagenet.VAL_ARCHIVE, "a") as archive:
        add(archive, "more/ILSVRC2012_val_00000001.JPEG", picture(SYNSETS[0], 1))
    with pytest.raises(DataError, match=r"holds ILSVRC2012_val_00000001\.JPEG 2 times"):
        opened(archives)


def test_a_synset_without_pictures(archives):
    write_train(archives / imagenet.TRAIN_ARCHIVE, count=0)
    with pytest.raises(DataError, match=r"n01751748\.tar in it holds no pictures"):
        opened(archives)


def test_an_archive_of_pictures_is_not_the_training_archive(archives):
    write_val(archives / imagenet.TRAIN_ARCHIVE)
    with pytest.raises(DataError, match=r"ILSVRC2012_val_00000001\.JPEG is no archive of a synset"):
        opened(archives)


def test_one_synset_is_too_few(archives):
    write_train(archives / imagenet.TRAIN_ARCHIVE, SYNSETS[:1])
    with pytest.raises(DataError, match="at least two synsets"):
        opened(archives)


def test_the_validation_labels_are_all_there():
    synsets = validation_synsets._by_number()
    assert len(synsets) == 50_000
    assert [synsets[number - 1] for number in VALIDATION] == list(VALIDATION.values())
    assert {synsets.count(synset) for synset in VALIDATION.values()} == {50}
