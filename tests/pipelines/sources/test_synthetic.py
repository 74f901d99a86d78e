"""The built-in data set: reproducible, balanced, colour-blind, and beyond a linear model."""

from __future__ import annotations

import gc
import io
import weakref

import numpy as np
import pytest
from PIL import Image

from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.sources import open_source, synthetic
from pipelines.sources.synthetic import SyntheticSource

CLASSES = 12


def _source(seed: int = 0, train: int = 24, val: int = 24) -> SyntheticSource:
    return SyntheticSource(DataConfig(data_seed=seed), train_count=train, val_count=val)


def _image(image_bytes: bytes, side: int = 256) -> np.ndarray:
    """uint8 [side, side, 3]."""
    return np.asarray(Image.open(io.BytesIO(image_bytes)).resize((side, side), Image.Resampling.BOX))


def test_a_picture_is_a_function_of_seed_split_and_index() -> None:
    first, again, other = _source(1), _source(1, train=36), _source(2)
    keys = [f"{split}/{index:06d}" for split in ("train", "val") for index in range(12)]
    pictures = [first.image_bytes(key) for key in keys]
    assert pictures == [again.image_bytes(key) for key in keys]
    assert len(set(pictures) | {other.image_bytes(key) for key in keys}) == 2 * len(keys)


def _set(seed: int) -> weakref.ref:
    """What is kept of a seed's pictures."""
    return weakref.ref(synthetic._shared[seed])


def test_pictures_are_drawn_once_and_kept_as_long_as_their_source_or_the_last_seed(monkeypatch) -> None:
    drawn = []
    draw = synthetic.scene.draw
    monkeypatch.setattr(synthetic.scene, "draw", lambda *which: drawn.append(which) or draw(*which))
    first, other = _source(801), _source(802)
    pictures = [source.image_bytes("val/000001") for source in (first, other, first, _source(801))]
    assert len(drawn) == 2
    assert pictures[0] == pictures[2] == pictures[3] != pictures[1]
    kept_first, kept_other = _set(801), _set(802)
    del first, other
    gc.collect()
    assert list(kept_first()) == [("val", 1)]  # the last seed's, for a source that is opened anew
    assert kept_other() is None
    assert _source(801).image_bytes("val/000001") == pictures[0]
    assert len(drawn) == 2
    _source(803)
    gc.collect()
    assert kept_first() is None


def test_the_sets_of_many_seeds_do_not_add_up() -> None:
    for seed in range(810, 813):
        list(_source(seed, train=12, val=12).dataset("val").as_numpy_iterator())
    gc.collect()
    assert len(set(synthetic._shared) & set(range(810, 813))) == 1


def test_pictures_are_jpegs_of_the_prepared_size() -> None:
    source = _source()
    image_bytes = source.image_bytes("val/000003")
    picture = Image.open(io.BytesIO(image_bytes))
    assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (256, 256))
    assert source.prepared_size == 256


def test_dataset_gives_every_picture_once_with_its_label() -> None:
    source = _source()
    fixed = list(source.dataset("val").as_numpy_iterator())
    assert source.count("val") == len(fixed) == 24
    assert len({element["key"] for element in fixed}) == 24
    for element in fixed:
        key = element["key"].decode()
        assert element["image_bytes"] == source.image_bytes(key)
        assert element["label"] == int(key[4:]) % CLASSES
    assert np.bincount([element["label"] for element in fixed]).tolist() == [2] * CLASSES


def test_single_pictures_are_those_of_the_order_and_no_others_are_drawn(monkeypatch) -> None:
    source = SyntheticSource(DataConfig(seed=0, data_seed=77), train_count=40, val_count=12)
    drawn = []
    draw = synthetic._image_bytes
    monkeypatch.setattr(synthetic, "_image_bytes", lambda *which: drawn.append(which) or draw(*which))
    picked = list(source.pick("train", [3, 17]))
    assert len(drawn) == 2
    order = list(source.dataset("train").as_numpy_iterator())
    for example, position in zip(picked, (3, 17), strict=True):
        expected = order[position]
        assert example.key == expected["key"].decode()
        assert example.label == expected["label"]
        assert example.image_bytes == expected["image_bytes"]
    rest = source.without({picked[0].key})
    assert [example.key for example in rest.pick("train", range(39))] == [
        element["key"].decode() for element in rest.dataset("train").as_numpy_iterator()
    ]


def test_left_out_pictures_are_gone_and_the_others_stay() -> None:
    remainder = _source().without({"train/000000", "train/000023"})
    elements = list(remainder.dataset("train", epoch=1).as_numpy_iterator())
    assert remainder.count("train") == len(elements) == 22
    assert {element["key"].decode() for element in elements} == {f"train/{i:06d}" for i in range(1, 23)}
    assert all(
        element["image_bytes"] == remainder.image_bytes(element["key"].decode()) for element in elements
    )


def test_spec_gives_the_counts() -> None:
    source = open_source(DataConfig(spec="synthetic:36,12"))
    assert (source.count("train"), source.count("val")) == (36, 12)
    assert len(source.class_names) == len(set(source.class_names)) == CLASSES


@pytest.mark.parametrize("spec", ["synthetic:36", "synthetic:a,b", "synthetic:36,-12", "synthetic:1,2,3"])
def test_malformed_counts_are_one_line(spec: str) -> None:
    with pytest.raises(DataError, match="TRAIN,VAL") as error:
        open_source(DataConfig(spec=spec))
    assert "\n" not in str(error.value)


def test_a_split_smaller_than_the_classes_is_refused() -> None:
    with pytest.raises(DataError, match="12 classes; received 11"):
        open_source(DataConfig(spec="synthetic:24,11"))


@pytest.fixture(scope="module")
def pictures() -> dict[str, np.ndarray]:
    """float32 [n, 32, 32, 3] of each split: thirty and ten pictures a class."""
    source = _source(3, train=30 * CLASSES, val=10 * CLASSES)
    return {
        split: np.stack(
            [_image(source.image_bytes(f"{split}/{i:06d}"), 32) for i in range(source.count(split))]
        ).astype(np.float32)
        for split in ("train", "val")
    }


def _labels(count: int) -> np.ndarray:
    return np.arange(count) % CLASSES


def _linear_accuracy(train: np.ndarray, val: np.ndarray) -> float:
    """Ridge regression onto the classes, the best of several penalties: share of val pictures it names."""
    x, z = train.reshape(len(train), -1), val.reshape(len(val), -1)
    x, z = x - x.mean(axis=0), z - x.mean(axis=0)
    targets = np.eye(CLASSES)[_labels(len(x))] - 1 / CLASSES
    gram, cross = x @ x.T, z @ x.T
    scale = np.trace(gram) / len(x)
    scores = [
        cross @ np.linalg.solve(gram + penalty * scale * np.eye(len(x)), targets)
        for penalty in (0.01, 0.1, 1.0, 10.0)
    ]
    return max(float(np.mean(score.argmax(axis=1) == _labels(len(z)))) for score in scores)


def test_no_linear_model_of_the_pixels_knows_the_classes(pictures: dict[str, np.ndarray]) -> None:
    assert _linear_accuracy(pictures["train"], pictures["val"]) < 0.35
    # The same model finds a faint class-coloured veil: it could have found pixels that give a class away.
    veil = np.random.default_rng(0).normal(0.0, 4.0, (CLASSES, 32, 32, 3))
    train, val = (pictures[split] + veil[_labels(len(pictures[split]))] for split in ("train", "val"))
    assert _linear_accuracy(train, val) > 0.8


def _variance_ratio(values: np.ndarray) -> np.ndarray:
    """F statistic of a one-way analysis of variance over the classes, a value a column."""
    groups = values.reshape(-1, CLASSES, values.shape[-1])
    between = len(groups) * groups.mean(axis=0).var(axis=0, ddof=1)
    within = groups.var(axis=0, ddof=1).mean(axis=0)
    return between / within


def test_colour_says_nothing_about_the_class(pictures: dict[str, np.ndarray]) -> None:
    colours = pictures["train"].mean(axis=(1, 2))
    # 3.0 is the 99.9 % quantile of F(11, 348); one class brighter by 16 grey levels would pass it.
    assert _variance_ratio(colours).max() < 3.0
    brighter = colours + 16.0 * (_labels(len(colours)) == 5)[:, None]
    assert _variance_ratio(brighter).max() > 3.0


def test_masks_cover_the_object() -> None:
    source = _source(4)
    patterned = 0
    for index in range(24):
        key = f"val/{index:06d}"
        mask, luma = source.mask(key), _image(source.image_bytes(key)).mean(axis=2)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert mask.shape == (256, 256)
        assert mask.dtype == bool
        assert 0.05 < mask.mean() < 0.5
        assert 0.4 < max(np.ptp(rows), np.ptp(columns)) / 256 < 0.95
        patterned += luma[mask].std() > 1.5 * luma[~mask].std()
    assert patterned >= 20


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(DataError, match="val/000123"):
        _source().mask("cat.jpg")
