"""What methods share: both towers as one layer, receptive fields, pictures, options, page and stage."""

from __future__ import annotations

import struct
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.colors import to_rgb
from PIL import Image

from alexnet_tf import model
from alexnet_tf.figures import grid, heat, style
from alexnet_tf.network import graph
from alexnet_tf.network.layers import TwoGroupConv2D
from alexnet_tf.visualize import __main__ as command
from alexnet_tf.visualize import options, pictures
from alexnet_tf.visualize.internals import receptive
from pipelines.errors import UserError
from tests.support import small_runs, small_towers

NAMES = ["bird", "cat", "dog", "fish", "frog", "horse"]


@pytest.fixture(scope="module")
def towers():
    return small_towers.network(classes=5, side=32)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).normal(0, 1, (2, 32, 32, 3)).astype(np.float32)


@pytest.fixture
def run(tmp_path):
    data = small_runs.folder(tmp_path / "data", NAMES, 4)
    return small_runs.create(tmp_path / "run", f"folder:{data}", NAMES)


def gradient_of_both_towers(network, pixels, name):
    """The best logit's gradient with respect to the maps, by way of the towers' own tensors."""
    own = [network.get_layer(name + tower).output for tower in graph.TOWERS]
    watched = keras.Model(network.input, [*own, network.output])
    with tf.GradientTape() as tape:
        *maps, logits = watched(pixels)
        best = tf.reduce_max(logits, axis=1)
    return np.concatenate([gradient.numpy() for gradient in tape.gradient(best, maps)], axis=-1)


@pytest.mark.parametrize("name", ["conv1", "relu1", "pool1", "conv3", "relu3", "pool5"])
def test_joined_maps_carry_the_whole_gradient(towers, pixels, name):
    joined = graph.joined(towers, name)
    with tf.GradientTape() as tape:
        maps, logits = joined(pixels)
        best = tf.reduce_max(logits, axis=1)
    np.testing.assert_allclose(logits, towers(pixels), atol=1e-6)
    gradient = tape.gradient(best, maps).numpy()
    expected = gradient_of_both_towers(towers, pixels, name)
    half = gradient.shape[-1] // 2
    assert np.abs(expected[..., :half]).max() > 0 < np.abs(expected[..., half:]).max()
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_one_layer_or_one_tower_is_joined_as_it_is(towers, pixels):
    for name in ("conv3_b", "fc7", "lrn1"):
        maps, logits = graph.joined(towers, name)(pixels)
        expected = keras.Model(towers.input, towers.get_layer(name).output)(pixels)
        np.testing.assert_allclose(maps, expected, atol=1e-6)
        np.testing.assert_allclose(logits, towers(pixels), atol=1e-6)


def test_taps_give_several_layers_at_once(towers, pixels):
    maps, hidden, logits = graph.taps(towers, "relu3", "fc7")(pixels)
    for tower, part in zip(graph.TOWERS, np.split(maps.numpy(), 2, axis=-1), strict=True):
        expected = keras.Model(towers.input, towers.get_layer(f"relu3{tower}").output)(pixels)
        np.testing.assert_allclose(part, expected, atol=1e-6)
    assert hidden.shape[1] == towers.get_layer("fc7").units
    np.testing.assert_allclose(logits, towers(pixels), atol=1e-6)


def test_steps_read_what_the_layers_read(towers):
    steps = {step.name: step.inputs for step in graph.steps(towers)}
    assert steps["pixels"] == ()
    assert steps["pool1_b"] == (("lrn1_split", 1),)
    assert steps["maps_join"] == (("pool5_a", 0), ("pool5_b", 0))


def test_a_layer_that_does_not_exist_is_answered_with_those_that_do(towers):
    with pytest.raises(
        UserError, match=r"no layer 'conv9' in .*; legal: pad, conv1, .*fc8, logits, and with _a"
    ):
        graph.parts(towers, "conv9")
    with pytest.raises(
        UserError, match=r"no layer of feature maps 'fc7'.*legal: pad, conv1.*pool5, and"
    ) as caught:
        graph.parts(towers, "fc7", maps=True)
    assert "fc6" not in str(caught.value)


# Worked by hand: after the convolution of side 11 and stride 4 comes pooling of 3 / 2, side 11 + 2 * 4 and
# stride 8, then 5 x 5 on maps 8 pixels apart, with zeros for the two units before the first, and so on.
FIELDS = {
    "paper": {"conv1": (4, 11, 0), "pool1": (8, 19, 0), "conv2": (8, 51, -16), "conv5": (16, 163, -64)},
    "merged": {"conv1": (4, 11, 0), "conv2": (8, 51, -16), "pool5": (32, 195, -64)},
    "one_weird_trick": {"conv1": (4, 11, -2), "conv2": (8, 51, -18)},
    "non_overlapping_pooling": {"pool1": (8, 15, 0), "conv2": (8, 47, -8)},
}


@pytest.fixture(scope="module", params=FIELDS)
def variant(request):
    return request.param, model.build(request.param, 12)


def test_receptive_fields(variant):
    name, network = variant
    assert {layer: tuple(receptive.field(network, layer)) for layer in FIELDS[name]} == FIELDS[name]


def test_strides_in_two_groups_count():
    pixels = keras.Input((16, 16, 4))
    strided = TwoGroupConv2D(4, 3, padding=1, strides=2, name="strided")(pixels)
    network = keras.Model(pixels, keras.layers.Conv2D(2, 3, name="last")(strided))
    assert tuple(receptive.field(network, "last")) == (2, 7, -1)


def test_only_the_field_reaches_a_unit(towers, pixels):
    """Pixels outside a unit's field have no gradient, those at its corners have one."""
    field = receptive.field(towers, "conv2")
    joined = graph.joined(towers, "conv2")
    units = joined.output[0].shape[1]
    index = units // 2
    with tf.GradientTape() as tape:
        watched = tf.constant(pixels)
        tape.watch(watched)
        unit = tf.reduce_sum(joined(watched)[0][:, index, index])
    reached = np.abs(tape.gradient(unit, watched)).max(axis=(0, 3)) > 0
    rows, columns = np.nonzero(reached)
    first, end = (min(max(bound, 0), 32) for bound in field.bounds(index))
    assert (rows.min(), rows.max() + 1) == (columns.min(), columns.max() + 1)
    assert first <= rows.min()
    assert rows.max() < end
    assert rows.max() - rows.min() >= 0.7 * (end - first)


def test_a_map_is_laid_over_the_centres_of_its_fields():
    field = receptive.Field(stride=16, size=163, start=-64)
    assert field.centre(0) == 17.0
    assert field.bounds(1) == (-48, 115)
    single = np.zeros((1, 13, 13))
    single[0, 3, 5] = 2.0
    large = field.enlarge(single, 224)
    assert np.unravel_index(large.argmax(), large.shape) == (0, 17 + 3 * 16, 17 + 5 * 16)
    assert large[0, 17 + 3 * 16 + 8, 17 + 5 * 16] == pytest.approx(1.0)  # half-way to the next unit
    np.testing.assert_allclose(field.enlarge(np.ones((1, 13, 13)), 224), 1.0, rtol=1e-6)  # edges too


def test_colours_rise_from_dark_to_light():
    table = heat.colour(tf.linspace(0.0, 1.0, 256)).numpy()
    assert (np.diff(table @ [0.299, 0.587, 0.114]) > 0).all()
    crops, maps = tf.fill([1, 20, 20, 3], tf.constant(90, tf.uint8)), np.zeros((1, 20, 20), np.float32)
    np.testing.assert_array_equal(heat.overlay(crops, tf.constant(maps)), 90)  # nothing to show
    maps[0, :, 10:] = 1.0
    shown = heat.overlay(crops, tf.constant(maps), window=1).numpy()[0]
    assert (shown[:, :10] == 90).all()
    assert (shown[:, 10:] == heat.COLOURS[-1]).all()


def test_pictures_of_the_split_are_one_of_each_class_first(run):
    shown = pictures.choose(run, (), 6)
    assert sorted(shown.true_names) == NAMES
    assert (shown.images.shape, shown.pixels.shape) == ((6, 224, 224, 3),) * 2
    mean = run.stats.mean_crop(run.data)
    np.testing.assert_allclose(shown.pixels, (shown.images - mean) / run.data.pixel_divisor, atol=1e-4)
    some = shown.take([4, 0])
    assert some.keys == (shown.keys[4], shown.keys[0])
    np.testing.assert_array_equal(some.images[1], shown.images[0])


def test_pictures_at_places_are_those_of_the_fixed_order(run):
    examples = list(run.open_source().pick("train", [5, 2]))
    shown = pictures.from_places(run, "train", [5, 2])
    assert shown.keys == tuple(example.key for example in examples)
    assert shown.true_names == tuple(NAMES[example.label] for example in examples)


def test_a_class_is_called_by_name_identifier_or_number(tmp_path):
    readable = ["tench, Tinca tinca", "tabby, tabby cat", "tiger cat"]
    run = small_runs.create(tmp_path / "run", "synthetic", ["n01", "n02", "n03"], readable=readable)
    composed = small_runs.create(tmp_path / "composed", "synthetic", ["M\u00fcller", "b"])
    assert options.class_index(composed, "Mu\u0308ller") == 0
    words = {"tiger cat": 2, "n02": 1, "0": 0, "Tabby": 1, "tinca tinca": 0}
    assert {word: options.class_index(run, word) for word in words} == words
    with pytest.raises(
        UserError, match=r"no class '3'; legal: tench, Tinca tinca, tabby, tabby cat, tiger cat"
    ):
        options.class_index(run, "3")


def test_of_many_classes_the_likest_are_named(tmp_path):
    names = [f"n{number:08d}" for number in range(1000)]
    readable = [f"thing {number}" for number in range(999)] + ["Great Dane"]
    run = small_runs.create(tmp_path / "run", "synthetic", names, readable=readable)
    with pytest.raises(
        UserError, match=r"no class 'great danes' among 1000; the likest: Great Dane.*labels.txt"
    ):
        options.class_index(run, "great danes")


def test_units_that_a_layer_does_not_have():
    options.check_units([0, 95], "conv1", 96)
    for wrong in (-1, 96):
        with pytest.raises(UserError, match=f"--units: conv1 has units 0 to 95; received {wrong}"):
            options.check_units([3, wrong], "conv1", 96)


def test_a_grid_shows_its_pictures_pixel_for_pixel_where_they_belong(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 50, 50, 3), np.uint8)
    rows = [
        [grid.Cell(images[0], ("a name",)), grid.Cell(None), grid.Cell(images[1])],
        [grid.Cell(images[2])],
    ]
    figure = grid.draw(
        rows, "Heading", "line", size=50, columns=["x", "y", "z"], names=["r", "s"], warning="w"
    )
    shown = np.asarray(Image.open(style.save(figure, tmp_path / "grid.png")).convert("RGB"))
    left, top = grid.SIDE + grid.ROW_NAME, grid.TITLE + grid.HEADING
    across, down = 50 + grid.GAP, 50 + grid.LINE + grid.GAP
    for image, row, column in ((images[0], 0, 0), (images[1], 0, 2), (images[2], 1, 0)):
        y, x = top + row * down, left + column * across
        np.testing.assert_array_equal(shown[y : y + 50, x : x + 50], image)
    assert (shown[top : top + 50, left + across : left + across + 50] == 255).all()
    page = np.round(255 * np.array(to_rgb(style.WARNING_PAGE)))
    assert (shown[-34:] == page).all(axis=-1).any()


def test_an_export_is_not_taken_for_a_run(tmp_path, capsys):
    (tmp_path / "export" / "1").mkdir(parents=True)
    (tmp_path / "export" / "1" / "saved_model.pb").touch()
    for folder in (tmp_path / "export", tmp_path / "export" / "1"):
        assert command.main(["filters", "--workdir", str(folder), "--out", str(tmp_path / "out")]) == 2
        assert capsys.readouterr().err == (
            f"error: {folder}: an export, without recipe.json; give the --workdir of a training run\n"
        )
    assert not (tmp_path / "out").exists()


def test_a_method_that_fails_after_its_first_file_leaves_nothing(run, tmp_path, monkeypatch, capsys):
    class Halting:
        @staticmethod
        def add_arguments(parser):
            pass

        @staticmethod
        def draw(run, out):
            (out / "filters.png").write_bytes(b"new")
            raise UserError("no numbers")

    monkeypatch.setattr(command, "_module", lambda method: Halting)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "filters.png").write_bytes(b"old")
    words = ["filters", "--workdir", str(run.workdir), "--out", str(tmp_path / "out")]
    assert command.main(words) == 2
    assert capsys.readouterr().err == "error: no numbers\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["filters.png"]
    assert (tmp_path / "out" / "filters.png").read_bytes() == b"old"


def test_prepared_pictures_are_shown_as_training_reads_them(run, monkeypatch):
    source = run.open_source()
    (first,) = source.pick("val", [0])
    as_stored = pictures.from_places(run, "val", [0]).images[0]
    upside_down = Image.Exif()
    upside_down[0x0112] = 3
    noted = b"\xff\xe1" + struct.pack(">H", len(upside_down.tobytes()) + 2) + upside_down.tobytes()
    path = Path(run.data.location, first.key)
    path.write_bytes(first.image_bytes[:2] + noted + first.image_bytes[2:])
    assert not np.array_equal(pictures.from_places(run, "val", [0]).images[0], as_stored)
    monkeypatch.setattr(type(source), "prepared_size", 256)
    for shown in (pictures.from_places(run, "val", [0]), pictures.from_split(run, 6)):
        (image,) = (image for image, key in zip(shown.images, shown.keys, strict=True) if key == first.key)
        np.testing.assert_array_equal(image, as_stored)
