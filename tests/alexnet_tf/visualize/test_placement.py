"""The picture of the towers on two devices shows what was traced, and is drawn by the command."""

from __future__ import annotations

import keras
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from alexnet_tf.distribute.tower_trace import Crossing, Trace
from alexnet_tf.figures.crossings import WIDTH, picture
from tests.support import two_devices

HERE, THERE = "GPU:4", "GPU:7"


def crossing(place, phase, source, shape, tensor="t"):
    return Crossing(tensor, source, THERE if source == HERE else HERE, place, phase, "float32", shape)


def sizes(crossings):
    """Bytes a step by (place, phase), both directions together."""
    sums = {}
    for crossing in crossings:
        key = crossing.place, crossing.phase
        sums[key] = sums.get(key, 0) + (crossing.bytes or 0)
    return sums


@pytest.fixture
def trace():
    kernels = {("forward", "Conv2D"): 2, ("backward", "Conv2DBackpropFilter"): 2, ("forward", "MatMul"): 1}
    return Trace(
        [
            crossing("pad", "forward", HERE, (2, 500, 500, 3)),
            crossing("conv3", "forward", HERE, (2, 10, 10, 150)),
            crossing("conv3", "forward", THERE, (2, 10, 10, 150)),
            crossing("conv3", "backward", HERE, (2, 10, 10, 150)),
            crossing("fc8", "forward", THERE, (2, 32)),
            crossing("", "", HERE, ()),
            crossing("", "", HERE, None),
        ],
        {HERE: kernels, THERE: {("forward", "Conv2D"): 1}},
    )


def network():
    """The layers of interest of two towers, and some that are not drawn."""
    pixels = keras.Input((500, 500, 3))
    x = keras.layers.ZeroPadding2D(0, name="pad")(pixels)
    outputs = []
    for tower in ("_a", "_b"):
        t = keras.layers.Conv2D(4, 50, strides=50, name=f"conv3{tower}")(x)
        t = keras.layers.Activation("relu", name=f"relu3{tower}")(t)
        t = keras.layers.MaxPooling2D(2, name=f"pool5{tower}")(t)
        outputs.append(keras.layers.GlobalAveragePooling2D()(t))
    return keras.Model(pixels, [keras.layers.Dense(3, name="fc8")(outputs[0]), outputs[1]])


def width(path):
    with Image.open(path) as picture:
        return picture.width


def drawn_texts(tmp_path, trace, monkeypatch):
    """Every text of the figure, with its place on the page from the left and from above."""
    seen = []
    save = Figure.savefig

    def keep(self, *args, **kwargs):
        seen.extend((t.get_text(), *t.get_position()) for axes in self.axes for t in axes.texts)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    path = picture(tmp_path / "placement.png", network(), trace, "tiny network, batch 2")
    assert width(path) == WIDTH
    return [(text, x, y) for text, x, y in seen if text]


def test_the_picture_says_what_crosses_and_where(tmp_path, trace, monkeypatch):
    texts = drawn_texts(tmp_path, trace, monkeypatch)
    words = [text for text, _, _ in texts]
    # 2 x 500 x 500 x 3 x 4 bytes, one way; 2 x 10 x 10 x 150 x 4 each way; 2 x 32 x 4 one way.
    assert "500 × 500 × 3:  6.0 MB" in words
    assert "10 × 10 × 150:  0.1 MB each way" in words
    assert "10 × 10 × 150:  0.1 MB" in words  # backward, from one side only
    assert "32:  256 B" in words
    assert "crosses in a step: 6.2 MB forward, 0.1 MB backward" in words
    assert "besides, 2 scalars of the update: 4 bytes" in words
    assert [w for w in words if w.startswith("tower")] == [f"tower a  on  {HERE}", f"tower b  on  {THERE}"]
    assert words.count("forward: 2 convolutions, 1 matrix products") == 1
    assert words.count("forward: 1 convolutions, 0 matrix products") == 1


def test_no_text_leaves_the_page(tmp_path, trace, monkeypatch):
    """A step in float32 has the longest line: what is left of 3 x 3 convolutions is counted beside them."""
    counts = {("forward", "Conv2D"): 2, ("backward", "Conv2DBackpropFilter"): 3}
    counts |= {(phase, "BatchMatMulV2"): n for phase, n in (("forward", 3), ("backward", 6))}
    counts |= {(phase, "MatMul"): n for phase, n in (("forward", 3), ("backward", 6))}
    long = trace._replace(operations=dict.fromkeys(trace.operations, counts))
    spans = []
    save = Figure.savefig

    def measure(self, *args, **kwargs):
        save(self, *args, **kwargs)
        renderer = FigureCanvasAgg(self).get_renderer()
        texts = [text for axes in self.axes for text in axes.texts]
        spans.extend((t.get_text(), t.get_window_extent(renderer), self.bbox.width) for t in texts)

    monkeypatch.setattr(Figure, "savefig", measure)
    picture(tmp_path / "placement.png", network(), long, "tiny network, batch 2")
    assert [text for text, _, _ in spans].count(
        "backward: 3 + 6 Winograd convolutions, 6 matrix products"
    ) == 2
    assert [text for text, box, page in spans if box.x0 < 0 or box.x1 > page] == []


def test_each_layer_stands_in_its_towers_column(tmp_path, trace, monkeypatch):
    texts = drawn_texts(tmp_path, trace, monkeypatch)
    columns = {name: [x > WIDTH / 2 for text, x, _ in texts if text == name] for name in ("conv3", "pool5")}
    assert columns == {"conv3": [False, True], "pool5": [False, True]}
    assert [x < WIDTH / 2 for text, x, _ in texts if text in ("pixels", "fc8")] == [True, True]
    assert not [text for text, _, _ in texts if "relu" in text]
    levels = {text: y for text, _, y in texts}
    assert levels["pixels"] < levels["500 × 500 × 3:  6.0 MB"] < levels["conv3"]
    assert levels["pool5"] < levels["32:  256 B"] < levels["fc8"]


def test_sizes_add_up_both_directions(trace):
    assert sizes(trace.crossings) == {
        ("pad", "forward"): 6_000_000,
        ("conv3", "forward"): 240_000,
        ("conv3", "backward"): 120_000,
        ("fc8", "forward"): 256,
        ("", ""): 4,
    }


COMMAND = """
import sys
sys.path.insert(0, "tests")
from tests.support import small_runs
from pathlib import Path
from alexnet_tf.visualize import __main__ as command

run = small_runs.create(Path({folder!r}) / "run", "synthetic", ["a", "b", "c"], variant="original",
                        batch_size="4", resize="67", crop="67", precision="float32")
status = command.main(["placement", "--workdir", str(run.workdir), "--out", {folder!r}, "--json"])
sys.exit(status)
"""


def test_the_command_traces_a_step_of_the_run(tmp_path):
    (figures,) = two_devices.run(COMMAND.format(folder=str(tmp_path)))
    assert width(tmp_path / "placement.png") == WIDTH
    # Pixels; then conv3, fc6 and fc7 each way, and fc8 one way: the small network of `two_devices`.
    meetings = 2 * (4 * 3 * 3 * 16 + 4 * 16 + 4 * 32) + 4 * 32
    assert figures["backward_bytes"] == 4 * meetings
    assert figures["forward_bytes"] == 4 * (meetings + 4 * 70 * 70 * 3)
