"""Files through a graph, block by block: order, failures, formats, and threads that end."""

import threading

import numpy as np
import pytest
import tensorflow as tf

from pipelines import passes
from pipelines.config import DataConfig
from pipelines.pictures.decode import decode
from pipelines.pictures.file_types import JPEG
from pipelines.sources import open_source
from tests.support.pictures import encoded, textured

SIZE = 4


def corner(image_bytes, form):
    """A colour of a picture, and which graph has read it."""
    return {"colour": decode(image_bytes, form=form)[0, 0], "jpegs": tf.constant(form == JPEG)}


@pytest.fixture(scope="module")
def graph():
    return passes.FileGraph(
        corner, {"colour": tf.TensorSpec([3], tf.uint8), "jpegs": tf.TensorSpec([], tf.bool)}
    )


@pytest.fixture
def source(class_folder):
    """18 training pictures in five blocks, the last of two."""
    return open_source(DataConfig(spec=f"folder:{class_folder({'cat': 10, 'dog': 10})}"))


def read(source, graph, positions=None):
    return list(passes.blocks(source, "train", positions, graph, lambda block: block, size=SIZE))


def broken(monkeypatch, source, bad):
    """The source with nonsense in the place of some pictures."""
    numbered = source.numbered

    def spoiled(split, positions=None):
        def spoil(element):
            is_bad = tf.reduce_any(tf.equal(element["position"], tf.constant(bad, tf.int64)))
            return {**element, "image_bytes": tf.where(is_bad, "?", element["image_bytes"])}

        return numbered(split, positions).map(spoil)

    monkeypatch.setattr(source, "numbered", spoiled)


def test_blocks_keep_the_order_and_drop_only_failures(source, graph, monkeypatch):
    examples = list(source.dataset("train").as_numpy_iterator())
    bad = [0, 8, 9, 10, 11, 17]
    broken(monkeypatch, source, bad)
    found = read(source, graph)
    assert [block.places.tolist() for block in found] == [
        *([4 * n + i for i in range(4)] for n in range(4)),
        [16, 17],
    ]
    assert [len(block.positions) for block in found] == [3, 4, 0, 4, 1]
    good = [place for place in range(18) if place not in bad]
    assert np.concatenate([block.positions for block in found]).tolist() == good
    assert np.concatenate([block.keys for block in found]).tolist() == [examples[p]["key"] for p in good]
    assert np.concatenate([block.labels for block in found]).tolist() == [examples[p]["label"] for p in good]
    colours = [decode(examples[p]["image_bytes"])[0, 0] for p in good]
    np.testing.assert_array_equal(np.concatenate([block.made["colour"] for block in found]), colours)


def test_only_the_places_that_are_asked_for(source, graph):
    found = read(source, graph, np.array([2, 3, 5, 7, 11]))
    assert np.concatenate([block.positions for block in found]).tolist() == [2, 3, 5, 7, 11]
    assert read(source, graph, np.zeros(0, np.int64)) == []


def test_jpegs_alone_need_no_other_decoder(graph):
    picture = textured(20, 30)
    jpeg, png = (tf.constant(encoded(picture, kind)) for kind in ("JPEG", "PNG"))
    assert graph(tf.stack([jpeg, jpeg]))["jpegs"].numpy().tolist() == [True, True]
    mixed = graph(tf.stack([jpeg, png]))
    assert mixed["jpegs"].numpy().tolist() == [False, False]
    np.testing.assert_array_equal(mixed["colour"][0], graph(tf.stack([jpeg]))["colour"][0])
    np.testing.assert_array_equal(mixed["colour"][1], picture[0, 0])


def test_a_graph_is_traced_once_for_either_kind_of_block(source):
    traced = []

    def one(image_bytes, form):
        traced.append(form)
        return {"size": tf.strings.length(image_bytes)}

    graph = passes.FileGraph(one, {"size": tf.TensorSpec([], tf.int32)})
    for _ in range(3):
        read(source, graph)
    graph(tf.constant(["?"]))
    assert traced == [JPEG, None]


def test_an_error_of_the_source_is_not_a_picture_left_out(source, graph, monkeypatch):
    lost = tf.data.Dataset.range(3).map(
        lambda n: tf.debugging.check_numerics(0.0 / tf.cast(n - 1, tf.float32), "x")
    )
    numbered = source.numbered("train")
    monkeypatch.setattr(
        source,
        "numbered",
        lambda split, positions=None: tf.data.Dataset.zip(numbered, lost).map(lambda element, _: element),
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="x"):
        read(source, graph)


def test_a_pass_that_is_left_ends_its_threads(source, graph):
    blocks = passes.blocks(source, "train", None, graph, lambda block: block, size=SIZE)
    next(blocks)
    assert any(thread.name.startswith("pass") for thread in threading.enumerate())
    blocks.close()
    assert not any(thread.name.startswith("pass") for thread in threading.enumerate())


def test_no_tuner_sleeps_when_a_pass_ends(source, graph, monkeypatch):
    begun = []
    iterate = tf.data.Dataset.__iter__
    monkeypatch.setattr(tf.data.Dataset, "__iter__", lambda data: begun.append(data) or iterate(data))
    read(source, graph)
    assert [dataset.options().autotune.enabled for dataset in begun] == [False]
