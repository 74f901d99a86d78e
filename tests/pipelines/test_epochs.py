import subprocess
import sys
import textwrap

import pytest
import tensorflow as tf

from pipelines import dataset, epochs
from pipelines.config import DataConfig
from pipelines.sources import open_source
from tests.support.small_records import stored


class NumberSource:
    """Ten numbered examples; an epoch starts where the last one ended."""

    def __init__(self):
        self.calls = 0

    def dataset(self, split, *, epoch=None, start=0):
        self.calls += 1
        order = tf.roll(tf.range(10, dtype=tf.int64), -epoch, axis=0)[start:]
        digits = tf.strings.as_string(order)
        return tf.data.Dataset.from_tensor_slices({"image_bytes": digits, "label": order, "key": digits})


def labels(examples, count):
    return [int(example["label"]) for example in examples.take(count)]


def test_epochs_follow_one_another_each_cut_to_whole_batches():
    assert labels(dataset.endless(NumberSource(), 4, 0), 10) == [0, 1, 2, 3, 1, 2, 3, 4, 2, 3]


@pytest.mark.parametrize("position", [1, 4, 7, 401])
def test_entered_anywhere_it_goes_on_the_same(position):
    expected = [(epoch + place) % 10 for epoch, place in (divmod(position + k, 4) for k in range(9))]
    assert labels(dataset.endless(NumberSource(), 4, position), 9) == expected


@pytest.mark.parametrize("position", [0, 3, 8, 12, 15, 16, 403])
def test_an_epoch_filled_up_begins_again_where_it_is_entered(position):
    # Ten examples of each epoch, and the first six of them once more.
    def label(place):
        epoch, within = divmod(place, 16)
        return (epoch + within % 10) % 10

    expected = [label(position + k) for k in range(40)]
    assert labels(dataset.endless(NumberSource(), 10, position, 6), 40) == expected
    few = dataset.endless(NumberSource(), 2, 0, 5)
    assert labels(few, 9) == [0, 1, 0, 1, 0, 1, 0, 1, 2]


def test_a_permutation_is_a_function_of_seed_and_epoch_alone():
    def order(seed, epoch):
        return tuple(epochs.permutation(30, seed, epoch).numpy().tolist())

    first = order(0, 0)
    tf.random.set_seed(12)
    assert order(0, 0) == first
    assert sorted(first) == list(range(30))
    assert len({order(seed, epoch) for seed in (0, 1, -1, 2**31) for epoch in (0, 1, 2)}) == 12
    in_graph = tf.function(lambda epoch: epochs.permutation(30, 0, epoch))
    assert tuple(in_graph(tf.constant(0, tf.int64)).numpy().tolist()) == first


def shuffled(seed, epoch, buffer=8):
    numbers = tf.data.Dataset.range(20).map(lambda n: {"n": n, "text": tf.strings.as_string(n)})
    rows = epochs.shuffle(numbers, buffer, seed, epoch).as_numpy_iterator()
    return [int(row["n"]) for row in rows if int(row["text"]) == row["n"]]


def test_a_shuffle_moves_nothing_further_ahead_than_its_buffer():
    order = shuffled(0, 0)
    assert order != list(range(20)) == sorted(order)
    assert all(number < place + 8 for place, number in enumerate(order))
    assert shuffled(0, 0, buffer=1) == list(range(20))


def test_a_shuffle_depends_on_seed_and_epoch_but_on_no_global_seed():
    order = shuffled(1, 2)
    tf.random.set_seed(99)
    assert shuffled(1, 2) == order
    assert len({tuple(shuffled(seed, epoch)) for seed in (0, 1, -1) for epoch in (0, 1)}) == 6


@pytest.mark.parametrize(
    ("count", "size", "expected"), [(10, 1000, 65536), (10**6, 30_000 * 10**6, 4473), (9, 10**9, 512)]
)
def test_buffers_are_measured_in_bytes(count, size, expected):
    assert epochs.buffer_for(count, size) == expected


def test_python_is_done_once_the_stream_stands():
    source = NumberSource()
    stream = dataset.endless(source, 10, 0)
    assert labels(stream, 55)[-1] == 9
    assert source.calls == 1


def operations(stream):
    """The names of all operations in a stream's graph, those inside its functions too."""
    graph = tf.compat.v1.GraphDef.FromString(
        tf.raw_ops.DatasetToGraphV2(input_dataset=stream._variant_tensor).numpy()
    )
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return {node.op for node in nodes}


@pytest.mark.parametrize("kind", ["folder", "records", "synthetic"])
def test_no_operation_of_a_stream_enters_python(kind, class_folder, records_folder):
    if kind == "records":
        source = stored(records_folder)
    else:
        spec = f"folder:{class_folder({'cat': 5, 'dog': 5})}" if kind == "folder" else "synthetic:12,12"
        source = open_source(DataConfig(spec))
    config = DataConfig("synthetic", resize=40, crop=32, colour_statistics="published")
    found = operations(dataset.build(source, config, "train", 4, training=True))
    assert {"FlatMapDataset", "RangeDataset"} <= found
    assert not [name for name in found if "PyFunc" in name or "Generator" in name]


def test_a_program_ends_in_peace_while_the_stream_reads_ahead(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            from tests.pipelines.test_epochs import NumberSource

            from pipelines.dataset import endless

            # Small epochs and a long way to read ahead: at the end threads are still busy with them.
            streams = [iter(endless(NumberSource(), 2, 0).prefetch(4000)) for _ in range(3)]
            for stream in streams:
                next(stream)
            """
        )
    )
    ended = subprocess.run(
        [sys.executable, str(script)],
        env={"PYTHONPATH": ":".join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr[-500:]
