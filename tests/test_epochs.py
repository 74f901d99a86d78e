import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf

from pipelines import epochs


class NumberSource:
    """Ten numbered examples; an epoch starts where the last one ended."""

    def __init__(self):
        self.opened = []

    def dataset(self, split, *, epoch=None, start=0):
        self.opened.append((epoch, start))
        order = np.roll(np.arange(10), -epoch)[start:]
        return tf.data.Dataset.from_tensor_slices(
            {"image_bytes": order.astype(bytes), "label": order, "key": order.astype(bytes)}
        )


def labels(examples, count):
    return [int(example["label"]) for example in examples.take(count)]


def test_epochs_follow_one_another_each_cut_to_whole_batches():
    assert labels(epochs.endless(NumberSource(), 4, 0), 10) == [0, 1, 2, 3, 1, 2, 3, 4, 2, 3]


@pytest.mark.parametrize("position", [1, 4, 7, 401])
def test_entered_anywhere_it_goes_on_the_same(position):
    source = NumberSource()
    expected = [(epoch + place) % 10 for epoch, place in (divmod(position + k, 4) for k in range(9))]
    assert labels(epochs.endless(source, 4, position), 9) == expected
    assert source.opened[0] == divmod(position, 4)
    assert all(start == 0 for _, start in source.opened[1:])


def test_an_epoch_is_opened_when_the_stream_arrives_there():
    source = NumberSource()
    assert labels(epochs.endless(source, 10, 0), 25)[-1] == 6
    assert [epoch for epoch, _ in source.opened] == [0, 1, 2]


def test_a_program_ends_in_peace_while_the_stream_reads_ahead(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            from test_epochs import NumberSource

            from pipelines import epochs

            # Small epochs and a long way to read ahead: at the end threads are busy opening epochs.
            streams = [iter(epochs.endless(NumberSource(), 2, 0).prefetch(4000)) for _ in range(3)]
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
