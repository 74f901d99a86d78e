"""Neighbours are those that brute force finds, over features that are computed once, whatever interrupts."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from alexnet_tf.figures import style
from alexnet_tf.visualize import __main__ as command
from alexnet_tf.visualize import neighbours, network, pictures
from alexnet_tf.visualize.measures import feature_index, nearest
from pipelines import files
from pipelines.errors import DataError, UserError
from tests.support import small_runs, small_towers

NAMES = ["bird", "cat", "dog"]
SPLIT = {"train": 24, "val": 6}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A run of 30 pictures without an index, and its network."""
    root = tmp_path_factory.mktemp("neighbours")
    data = small_runs.folder(root / "data", NAMES, 10)
    # Of this seed's share each class gives up two.
    run = small_runs.create(root / "run", f"folder:{data}", NAMES, val_fraction="0.2", data_seed="45")
    return run, small_towers.network(len(NAMES), side=224)


@pytest.fixture
def trained(prepared):
    return prepared[1]


@pytest.fixture
def run(prepared, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_index, "BATCH_SIZE", 5)
    monkeypatch.setattr(network, "load", lambda run: (trained, ""))
    return dataclasses.replace(prepared[0], workdir=shutil.copytree(prepared[0].workdir, tmp_path / "run"))


def brute_force(features, queries, k):
    """Positions and distances by the definition, of rows equally far the first one first."""
    far = np.sqrt(np.square(queries[:, None].astype(np.float64) - features[None]).sum(axis=-1))
    order = np.argsort(far, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(far, order, axis=1)


def hidden_layer(trained, pixels):
    """relu7 by hand, layer after layer from pool5 on."""
    import keras

    flat = keras.Model(trained.input, trained.get_layer("flatten").output)(pixels).numpy()
    for number in "67":
        kernel, bias = trained.get_layer(f"fc{number}").get_weights()
        flat = np.maximum(flat @ kernel + bias, 0.0)
        flat = flat * 0.5 if number == "6" else flat  # dropout at test, between the two
    return flat


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("queries", [1, 70])
def test_neighbours_are_those_of_brute_force(queries, given):
    random = np.random.default_rng(queries)
    features = np.maximum(random.normal(size=(900, 40)), 0).astype(np.float32)
    features[500:520] = features[3]  # equally far
    asked = np.maximum(random.normal(size=(queries, 40)), 0).astype(np.float32)
    asked[0] = features[3]
    norms = feature_index.squared_norms(features) if given else None
    positions, distances = nearest.nearest(features, asked, 8, norms)
    expected, far = brute_force(features, asked, 8)
    np.testing.assert_array_equal(positions, expected)
    np.testing.assert_allclose(distances, far, rtol=1e-6)
    assert positions[0].tolist() == [3, *range(500, 507)]
    assert distances[0].tolist() == [0.0] * 8


def test_ranks_below_the_rounding_of_a_product_are_right_too():
    random = np.random.default_rng(1)
    features = (1000.0 + random.normal(size=(400, 64))).astype(np.float32)
    asked = features[:3] + random.normal(0, 0.5, (3, 64)).astype(np.float32)
    expected, _ = brute_force(features, asked, 10)
    by_product = (features**2).sum(axis=1) - 2 * asked @ features.T
    assert (np.argsort(by_product, axis=1)[:, :10] != expected).any()
    np.testing.assert_array_equal(nearest.nearest(features, asked, 10)[0], expected)


def test_of_fewer_rows_all_are_found():
    features = np.eye(3, dtype=np.float32)
    positions, distances = nearest.nearest(features, features[1:2], 6)
    assert positions.tolist() == [[1, 0, 2]]
    np.testing.assert_allclose(distances, [[0, np.sqrt(2), np.sqrt(2)]], rtol=1e-7)


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_index_holds_the_last_hidden_layer_in_the_splits_order(run, trained, split):
    index = feature_index.open_index(run, trained, split)
    shown = pictures.from_places(run, split, range(SPLIT[split]))
    np.testing.assert_allclose(index.features, hidden_layer(trained, shown.pixels), rtol=1e-4, atol=1e-5)
    assert index.features.std() > 0.01
    np.testing.assert_allclose(index.norms, np.square(index.features).sum(axis=1), rtol=1e-6)
    assert [index.key(place) for place in range(SPLIT[split])] == list(shown.keys)
    assert [NAMES[label] for label in index.labels] == list(shown.true_names)
    assert isinstance(index.features, np.memmap)
    np.testing.assert_allclose(
        feature_index.features_of(trained, shown.pixels), index.features, rtol=1e-4, atol=1e-5
    )


def test_some_pictures_from_all_over_the_split_will_do(run, trained, monkeypatch):
    some = feature_index.open_index(run, trained, most=5)
    assert [some.positions.tolist(), some.total] == [[0, 6, 12, 17, 23], SPLIT["train"]]
    shown = pictures.from_places(run, "train", some.positions.tolist())
    np.testing.assert_allclose(some.features, hidden_layer(trained, shown.pixels), rtol=1e-4, atol=1e-5)
    assert [some.key(row) for row in range(5)] == list(shown.keys)
    # A picture of the index does not find itself, and what is found is named by its place in the split.
    found = neighbours.find(run, trained, shown.pixels[:2], 3, most=5)
    assert [found.indexed, found.total] == [5, SPLIT["train"]]
    assert all(set(row) <= {0, 6, 12, 17, 23} for row in found.positions.tolist())
    assert [0 in found.positions[0], 6 in found.positions[1]] == [False, False]
    assert neighbours.pictures_of(run, found).keys == tuple(key for row in found.keys for key in row)
    # The whole takes the place of the part, and is then what a part is asked of.
    whole = feature_index.open_index(run, trained)
    assert not some.folder.exists()
    assert len(whole.positions) == SPLIT["train"]
    monkeypatch.delattr(feature_index, "_build")
    assert feature_index.open_index(run, trained, most=5).folder == whole.folder


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".npz"}


def test_a_computation_that_was_killed_goes_on_where_it_was(run, trained, monkeypatch):
    whole = feature_index.open_index(run, trained)
    expected, keys = content(whole.folder), whole.keys.tolist()
    shutil.rmtree(whole.folder)
    batches, computed = feature_index._batches, []

    def counted(*arguments):
        for features, examples in batches(*arguments):
            computed.append(len(features))
            if len(computed) == 3:
                raise KeyboardInterrupt
            yield features, examples

    monkeypatch.setattr(feature_index, "_batches", counted)
    with pytest.raises(KeyboardInterrupt):
        feature_index.open_index(run, trained)
    building = whole.folder.with_name(whole.folder.name + feature_index.BUILDING)
    assert not whole.folder.exists()
    # What a kill in the middle of writing leaves: a row whose line is cut short, and a part of a row.
    with open(building / feature_index.FEATURES_FILE, "ab") as file:
        file.write(b"x" * 77)
    with open(building / feature_index.LINES_FILE, "ab") as file:
        file.write(b'["cat/00')
    again = feature_index.open_index(run, trained)
    assert sum(computed) == 5 + 5 + 5 + 14  # ten were kept of the first fifteen
    assert content(again.folder) == expected
    assert again.keys.tolist() == keys
    assert not building.exists()


def test_an_index_is_used_again_until_the_weights_change(run, trained, monkeypatch):
    first = feature_index.open_index(run, trained)
    feature_index.open_index(run, trained, "val")
    with monkeypatch.context() as changed:
        changed.delattr(feature_index, "_build")
        assert feature_index.open_index(run, trained).folder == first.folder
    other = small_towers.network(len(NAMES), side=224)
    kernel, bias = other.get_layer("fc7").get_weights()
    bias[4] += 0.5
    other.get_layer("fc7").set_weights([kernel, bias])
    second = feature_index.open_index(run, other)
    assert second.folder != first.folder
    left = sorted(path.name.partition("-")[0] for path in first.folder.parent.iterdir() if path.is_dir())
    assert left == ["train", "val"]
    np.testing.assert_array_equal(second.features[:, :4], first.features[:, :4])
    assert (second.features[:, 4] != first.features[:, 4]).any()


def test_two_do_not_build_at_once_and_damage_is_named(run, trained):
    (run.workdir / feature_index.FOLDER).mkdir()
    with (
        files.exclusive(run.workdir / feature_index.FOLDER / feature_index.LOCK_FILE, "x"),
        pytest.raises(DataError, match="an index of features is under way"),
    ):
        feature_index.open_index(run, trained)
    index = feature_index.open_index(run, trained)
    path = index.folder / feature_index.FEATURES_FILE
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match=r"train-\w+: damaged"):
        feature_index.open_index(run, trained)


def test_a_training_picture_and_its_copies_do_not_find_themselves(run, trained, tmp_path):
    index = feature_index.open_index(run, trained)
    folder = tmp_path / "data"
    shutil.copytree(run.data.location, folder)
    own = index.key(4)
    for name in ("dog/copy-1.jpg", "bird/copy-2.jpg"):
        shutil.copy(folder / own, folder / name)
    # All of it is training set, so that both copies are.
    (folder / "train").mkdir()
    (folder / "val").mkdir()
    for name in NAMES:
        (folder / "val" / name).mkdir()
        shutil.move(folder / name / "009.jpg", folder / "val" / name / "009.jpg")
        shutil.move(folder / name, folder / "train" / name)
    data = dataclasses.replace(run.data, spec=f"folder:{folder}")
    other = dataclasses.replace(run, data=data)
    copied = feature_index.open_index(other, trained)
    place = [copied.key(p) for p in range(len(copied.keys))].index(f"train/{own}")
    shown = pictures.from_places(other, "train", [place, 0])
    found = neighbours.find(other, trained, shown.pixels, 5)
    same = [p for p in range(len(copied.keys)) if np.array_equal(copied.features[p], copied.features[place])]
    assert len(same) == 3
    order = brute_force(copied.features, np.asarray(copied.features[[place]]), len(copied.keys))[0][0]
    assert found.positions[0].tolist() == [p for p in order if p not in same][:5]
    assert 0 not in found.positions[1]
    assert found.keys[0] == tuple(copied.key(p) for p in found.positions[0])


def test_the_figure_shows_what_brute_force_finds(run, trained, tmp_path, capsys):
    out = tmp_path / "out"
    assert command.main(["neighbours", "--workdir", str(run.workdir), "--out", str(out), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    queries = pictures.from_split(run, 5)
    training = pictures.from_places(run, "train", range(SPLIT["train"]))
    features = hidden_layer(trained, training.pixels)
    expected, far = brute_force(features, hidden_layer(trained, queries.pixels), 6)
    rows = json.loads((out / "neighbours.json").read_text())
    for row, key, places, distances in zip(rows, queries.keys, expected, far, strict=True):
        assert row["key"] == key
        assert [hit["key"] for hit in row["nearest"]] == [training.keys[place] for place in places]
        assert [hit["class"] for hit in row["nearest"]] == [training.true_names[place] for place in places]
        np.testing.assert_allclose([hit["distance"] for hit in row["nearest"]], distances, rtol=1e-3)
    same = [hit["class"] == row["true_class"] for row in rows for hit in row["nearest"]]
    assert figures["same_class"] == pytest.approx(np.mean(same))


def test_each_neighbour_stands_in_its_place_and_other_classes_are_framed(run, trained):
    queries = pictures.from_split(run, 2)
    found = neighbours.find(run, trained, queries.pixels, 3)
    hits = neighbours.pictures_of(run, found)
    page = neighbours.figure(queries, found, hits, "line")
    shown = [axes.images[0].get_array() for axes in page.axes]
    expected = [
        image
        for row in range(2)
        for image in (queries.images[row], *pictures.from_places(run, "train", found.positions[row]).images)
    ]
    np.testing.assert_array_equal(shown, expected)
    framed = [axes.axison and to_rgb(axes.spines["left"].get_edgecolor()) for axes in page.axes]
    other = [
        name != queries.true_names[row] for row in range(2) for name in hits.true_names[3 * row : 3 * row + 3]
    ]
    orange = to_rgb(style.SECOND)
    assert framed == [x for row in range(2) for x in (False, *(o and orange for o in other[3 * row :][:3]))]
    assert any(other)
    words = [text.get_text() for text in page.texts]
    assert f"distance {found.distances[1, 2]:.3g}" in words


def test_pictures_that_were_exchanged_since_are_noticed(run, trained, tmp_path):
    found = neighbours.find(run, trained, pictures.from_split(run, 1).pixels, 2)
    keys = (("elsewhere.jpg", found.keys[0][1]),)
    with pytest.raises(UserError, match=r"not the pictures that were indexed any more; remove .*features"):
        neighbours.pictures_of(run, found._replace(keys=keys))
