"""Figures show the numbers that lie beside them, where they belong, whole or not at all."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import keras
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from alexnet_tf.figures import style
from alexnet_tf.figures.kernels import tile, tower_labels, unit_kernels
from alexnet_tf.figures.text import SCALINGS
from alexnet_tf.network import variants
from alexnet_tf.visualize import __main__ as command
from alexnet_tf.visualize import curves, filters, network, panels
from tests.support import small_runs

NAMES = ["bird", "cat", "dog", "fish", "frog", "horse"]


@pytest.fixture
def run(tmp_path):
    data = small_runs.folder(tmp_path / "data", NAMES, 4)
    return small_runs.create(tmp_path / "run", f"folder:{data}", NAMES)


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def gabor(count, seed=0):
    """Kernels that differ, float32 [11, 11, 3, count]."""
    return np.random.default_rng(seed).normal(0, 0.1, (11, 11, 3, count)).astype(np.float32)


def two_towers(kernels):
    """A network with nothing but two first convolutions that hold these kernels."""
    pixels = keras.Input((224, 224, 3))
    outputs = []
    for name, part in zip(("conv1_b", "conv1_a"), np.split(kernels, 2, axis=-1)[::-1], strict=True):
        layer = keras.layers.Conv2D(part.shape[-1], 11, name=name)
        outputs.append(layer(pixels))
        layer.set_weights([part, np.zeros(part.shape[-1])])
    return keras.Model(pixels, outputs)


def read(path):
    return np.asarray(Image.open(path).convert("RGB"))


def test_joint_scaling_spans_all_kernels_and_filter_scaling_each():
    kernels = gabor(5) * np.array([1, 2, 3, 4, 5], np.float32)
    joint = unit_kernels(kernels)
    expected = (kernels - kernels.min()) / (kernels.max() - kernels.min())
    np.testing.assert_allclose(joint, expected.transpose(3, 0, 1, 2), atol=1e-6)
    alone = unit_kernels(kernels, "filter")
    assert alone.min(axis=(1, 2, 3)).tolist() == [0.0] * 5
    assert alone.max(axis=(1, 2, 3)).tolist() == [1.0] * 5
    for scaling in SCALINGS:
        assert (unit_kernels(np.zeros((11, 11, 3, 2)), scaling) == 0.5).all()


def test_tiles_stand_in_rows_with_a_gap_of_one_weight():
    stack = np.full((18, 11, 11, 3), 10 / 255) * np.arange(18)[:, None, None, None]
    sheet = tile(stack, magnification=2)
    assert sheet.shape == (2 * (2 * 12 - 1), 2 * (16 * 12 - 1), 3)
    for number in range(18):
        top, left = 24 * (number // 16), 24 * (number % 16)
        assert (sheet[top : top + 22, left : left + 22] == 10 * number).all()
    assert (sheet[22:24] == 255).all()
    assert (sheet[:, 22:24] == 255).all()
    assert (sheet[24:, 48:] == 255).all()  # the second row has two kernels only


def test_towers_belong_to_networks_whose_later_layers_keep_them_apart():
    labelled = {name for name in variants.VARIANTS if len(tower_labels(name)) == 2}
    assert set(variants.VARIANTS) - labelled == {"half", "one_weird_trick"}


@pytest.mark.parametrize("scaling", SCALINGS)
def test_filters_show_tower_a_above_tower_b_pixel_for_pixel(run, out, monkeypatch, scaling):
    kernels = gabor(96)
    monkeypatch.setattr(network, "load", lambda run: (two_towers(kernels), ""))
    figures = filters.draw(run, out, scaling=scaling)
    picture = read(out / "filters.png")
    height = 3 * 12 * 8 - 8
    for part in range(2):
        block = tile(unit_kernels(kernels, scaling)[48 * part : 48 * part + 48])
        top = filters.TOP + part * (height + filters.BETWEEN)
        shown = picture[top : top + height, filters.LEFT : filters.LEFT + block.shape[1]]
        np.testing.assert_array_equal(shown, block)
    assert picture.shape[1] > 1000
    with np.load(out / "filters.npz") as numbers:
        np.testing.assert_array_equal(numbers["kernels"], kernels)
        assert numbers["towers"].tolist() == ["tower a", "tower b"]
    assert figures["smallest"] == pytest.approx(float(kernels.min()))


def test_an_untrained_run_shows_its_initial_weights_with_a_warning(tmp_path, out, capsys):
    run = small_runs.create(tmp_path / "run", "synthetic", NAMES, variant="half", seed=4)
    figures = filters.draw(run, out)
    assert "untrained" in figures["warning"]
    assert "untrained" in capsys.readouterr().err
    foot = read(out / "filters.png")[-34:]
    assert (foot == np.round(255 * np.array(to_rgb(style.WARNING_PAGE)))).all(axis=-1).sum() > 1000
    with np.load(out / "filters.npz") as numbers:
        # Drawn with variance 2 / fan-in, as the recipe says.
        assert numbers["kernels"].std() == pytest.approx(math.sqrt(2 / 363), rel=0.05)
        assert numbers["kernels"].shape == (11, 11, 3, 48)


def history(run, count=5):
    rows = []
    for number in range(1, count + 1):
        row = {
            "step": 10 * number,
            "epoch": number / 2,
            "images_per_second": 80.0 + number,
            "learning_rate": 0.1**number,
            "train_loss": math.nan if number == 1 else 2.0 / number,
            "train_top1_error": 0.9 / number,
            "val_loss": 2.1 / number,
            "val_top1_error": 0.5 + 0.1 * (number - 3) ** 2,
            "dead_conv1": 0.01 * number,
            "dead_fc7": 0.2,
        }
        run.append_metrics(row)
        rows.append(row)
    return rows


def test_curves_plot_what_metrics_say(run):
    rows = history(run)
    with style.sheet(curves.WIDTH, curves.HEIGHT) as figure:
        curves._lay_out(figure, rows, 6)
        panels_of = {axes.get_title("left"): axes for axes in figure.axes}
        lines = {
            title: {str(line.get_label()): line for line in axes.lines} for title, axes in panels_of.items()
        }
    epochs = [0.5, 1.0, 1.5, 2.0, 2.5]
    error = lines["top-1 error, per cent"]["validation"]
    assert error.get_xdata().tolist() == epochs
    np.testing.assert_allclose(error.get_ydata(), [90, 60, 50, 60, 90])
    assert [text.get_text() for text in panels_of["top-1 error, per cent"].texts] == [
        "best: 50.00 % at epoch 1.5"
    ]
    assert set(lines["top-1 error, per cent"]) == {"training (augmented)", "validation"}
    np.testing.assert_allclose(lines["loss"]["training"].get_ydata()[1:], [1, 2 / 3, 0.5, 0.4])
    chance = panels_of["loss"].texts[0].get_text()
    assert chance == "guessing: ln 6 = 1.79"
    assert panels_of["learning rate"].get_yscale() == "log"
    assert panels_of["pictures per second"].get_ylim()[0] == 0
    np.testing.assert_allclose(lines["dead units, per cent"]["conv1"].get_ydata(), [1, 2, 3, 4, 5])


def test_curves_are_written_twice_alike_with_their_numbers(run, out):
    rows = history(run)
    figures = curves.draw(run, out)
    first = {name: (out / name).read_bytes() for name in ("curves.png", "curves.svg", "curves.json")}
    assert figures["evaluations"] == 5
    assert figures["best_val_top1_error"] == 0.5
    curves.draw(run, out)
    assert {name: (out / name).read_bytes() for name in first} == first
    numbers = json.loads(first["curves.json"])
    assert numbers["train_loss"] == [None, 1.0, pytest.approx(2 / 3, rel=1e-5), 0.5, 0.4]
    assert numbers["step"] == [row["step"] for row in rows]


def test_curves_of_an_untrained_run_say_so(run, out, capsys):
    figures = curves.draw(run, out)
    assert (figures["evaluations"], figures["best_val_top1_error"]) == (0, None)
    assert "no evaluation yet" in capsys.readouterr().err
    assert json.loads((out / "curves.json").read_text()) == {}


def classifier():
    return small_runs.network(len(NAMES))


def test_panels_show_one_picture_of_every_class_first(run, out, monkeypatch):
    monkeypatch.setattr(network, "load", lambda run: (classifier(), ""))
    figures = panels.draw(run, out)
    rows = json.loads((out / "panels.json").read_text())
    assert sorted(row["true_name"] for row in rows) == NAMES  # the held-out tenth: one picture a class
    assert figures["pictures"] == 6
    assert figures["right"] == sum(row["classes"][0] == row["true_name"] for row in rows)
    for row in rows:
        assert row["scores"] == sorted(row["scores"], reverse=True)
        assert len(row["classes"]) == len(set(row["classes"])) == 5


def test_panels_of_files_take_their_class_from_the_folder(run, out, tmp_path, monkeypatch):
    import tensorflow as tf

    from pipelines.pictures import preprocess

    trained = classifier()
    monkeypatch.setattr(network, "load", lambda run: (trained, ""))
    known, unknown = tmp_path / "data" / "dog" / "000.jpg", tmp_path / "some.jpg"
    unknown.write_bytes(small_runs.jpeg(99))
    panels.draw(run, out, image=[str(known), str(unknown)])
    rows = json.loads((out / "panels.json").read_text())
    assert [(row["key"], row["true_name"]) for row in rows] == [("000.jpg", "dog"), ("some.jpg", "")]
    crop = preprocess.evaluation_crop(tf.constant(unknown.read_bytes()), run.data)
    pixels = preprocess.to_pixels(crop, run.stats, run.data)
    expected = tf.nn.softmax(trained(pixels[None]))[0].numpy()
    np.testing.assert_allclose(rows[1]["scores"], np.sort(expected)[::-1][:5], atol=1e-5)
    assert rows[1]["classes"] == [NAMES[index] for index in np.argsort(-expected)[:5]]


def test_the_correct_class_is_pink_and_bars_are_as_long_as_scores():
    panel = panels.Panel("k", np.zeros((8, 8, 3), np.uint8), "cat", ["dog", "cat", "fish"], [0.6, 0.3, 0.1])
    with style.sheet(400, 300) as figure:
        panels._draw_bars(figure, (0, 0, 1, 1), panel)
        bars = [
            patch for patch in figure.axes[0].patches if to_rgb(patch.get_facecolor()) != to_rgb(style.TRACK)
        ]
    assert [round(bar.get_width(), 6) for bar in bars] == [0.6, 0.3, 0.1]
    assert [to_rgb(bar.get_facecolor()) == to_rgb(style.CORRECT) for bar in bars] == [False, True, False]


def words(method, run, out, *more):
    return [method, "--workdir", str(run.workdir), "--out", str(out), *more]


def test_an_unknown_method_is_one_line_that_lists_them(capsys):
    assert command.main(["portrait", "--workdir", "w", "--out", "o"]) == 2
    legal = ", ".join(command.METHODS)
    assert capsys.readouterr().err == f"error: no method 'portrait'; legal: {legal}\n"


def test_every_method_is_a_module_with_both_functions():
    for name in command.METHODS:
        module = command._module(name)
        assert callable(module.add_arguments)
        assert callable(module.draw)


def test_json_is_the_last_line(run, out, capsys):
    history(run)
    assert command.main(words("curves", run, out / "new" / "folder", "--json")) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["files"][0] == str(out / "new" / "folder" / "curves.png")


@pytest.mark.parametrize("below", ["", "figures"])
def test_a_place_that_cannot_be_written_is_one_line(run, tmp_path, capsys, below):
    (tmp_path / "file").touch()
    assert command.main(words("curves", run, tmp_path / "file" / below)) == 2
    assert capsys.readouterr().err == f"error: --out takes a folder: {tmp_path / 'file'} is none\n"


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (["x.jpg"] * 9, "holds 8 pictures; received 9"),
        (["broken.jpg"], "broken.jpg: not a JPEG, PNG, GIF, BMP, WebP or PPM file"),
        (["missing.jpg"], "missing.jpg: No such file or directory"),
    ],
)
def test_pictures_that_cannot_be_shown_are_one_line(run, out, tmp_path, monkeypatch, capsys, images, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(network, "load", lambda run: (classifier(), ""))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    assert command.main(words("panels", run, out, "--image", *images)) == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert complaint.count("\n") == 1
    assert list(out.iterdir()) == []


def test_a_figure_that_fails_half_way_leaves_the_old_one(run, out, monkeypatch, capsys):
    history(run)
    curves.draw(run, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def half(self, path, **_options):
        path.write_bytes(b"half a picture")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Figure, "savefig", half)
    assert command.main(words("curves", run, out)) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_drawing_leaves_matplotlib_as_it_was(run, out):
    before = dict(mpl.rcParams)
    history(run)
    curves.draw(run, out)
    assert dict(mpl.rcParams) == before


def test_curves_are_drawn_without_tensorflow(run, out):
    """They come from metrics.csv alone, and the import takes longer than the drawing."""
    history(run)
    words = ["curves", "--workdir", str(run.workdir), "--out", str(out)]
    program = (
        "import sys\nfrom alexnet_tf.visualize import __main__\n"
        f"status = __main__.main({words!r})\nsys.exit(status or 'tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert (out / "curves.png").exists()
