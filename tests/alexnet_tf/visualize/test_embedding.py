"""Maps of pictures: what we ask of t-SNE and principal components, and pictures that hide no other."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image
from scipy.spatial import distance
from sklearn import manifold

from alexnet_tf.visualize import __main__ as command
from alexnet_tf.visualize import embedding, network
from alexnet_tf.visualize.measures import projection
from alexnet_tf.visualize.spacing import evenly_spaced
from tests.support import small_runs, small_towers

NAMES = ["bird", "cat", "dog"]


def clusters(sizes, dimensions=20, seed=0):
    random = np.random.default_rng(seed)
    centres = 6 * random.normal(size=(len(sizes), dimensions))
    points = [
        centre + random.normal(size=(size, dimensions)) for centre, size in zip(centres, sizes, strict=True)
    ]
    return np.concatenate(points).astype(np.float32), np.repeat(np.arange(len(sizes)), sizes)


@pytest.mark.parametrize("shape", [(9, 30), (40, 6)])
def test_principal_components_are_those_of_the_singular_values(shape):
    points = np.random.default_rng(0).normal(size=shape) * np.linspace(3, 1, shape[1])
    scores = projection.principal_components(points, 3)
    left, values, _ = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    expected = left[:, :3] * values[:3]
    expected *= np.sign(expected[np.abs(expected).argmax(axis=0), range(3)])
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def conditional(points, perplexity):
    """Each point's shares by a search of its own, for the perplexity 2 ** entropy."""
    n = len(points)
    shares = np.zeros((n, n))
    for i in range(n):
        squared = ((points - points[i]) ** 2).sum(axis=1)
        squared[i] = np.inf
        squared -= squared.min()  # which changes no share
        low, high = 1e-6, 1e6
        for _ in range(200):
            precision = math.sqrt(low * high)
            row = np.exp(-squared * precision)
            row /= row.sum()
            entropy = -sum(p * math.log2(p) for p in row if p > 0)
            low, high = (precision, high) if entropy > math.log2(perplexity) else (low, precision)
        shares[i] = row
    return shares


def divergence(place, joint):
    """Kullback and Leibler's, of the map's affinities from the points' (van der Maaten and Hinton, eq. 2)."""
    near = 1.0 / (1.0 + distance.cdist(place, place, "sqeuclidean"))
    np.fill_diagonal(near, 0.0)
    some = joint > 0
    return (joint[some] * np.log(joint[some] / (near / near.sum())[some])).sum()


# So large that the neighbours which Barnes and Hut leave out count for nothing.
@pytest.mark.parametrize("perplexity", [12.0, 19.0])
def test_the_map_has_the_least_divergence_for_the_perplexity_asked_for(perplexity):
    points, _ = clusters([60], dimensions=4)
    joint = conditional(points, perplexity)
    joint = (joint + joint.T) / (2 * len(points))
    place = projection.tsne(points, perplexity=perplexity)
    least = divergence(place, joint)
    random = np.random.default_rng(3)
    spread = place.std()
    others = [place / 2, 2 * place, *(place + random.normal(0, 0.1 * spread, (5, *place.shape)))]
    assert least < min(divergence(other, joint) for other in others)
    assert least < 0.5 * divergence(30 * projection.plane(points), joint)


def test_few_points_have_a_perplexity_of_a_third_of_them(monkeypatch):
    given = {}

    class Recorded(manifold.TSNE):
        def __init__(self, **settings):
            given.update(settings)
            super().__init__(**settings)

    monkeypatch.setattr(manifold, "TSNE", Recorded)
    points, _ = clusters([6, 4])
    projection.tsne(points, perplexity=30.0, steps=300)
    assert given["perplexity"] == 3.0
    assert given["max_iter"] == 300
    # It begins with the principal components, very small, with a hundredth of noise.
    start = given["init"] / 1e-4
    plain = projection.plane(points)
    np.testing.assert_allclose(start, plain / plain[:, 0].std(), atol=0.06)
    assert (start != plain / plain[:, 0].std()).any()


def test_clusters_stay_together_and_the_seed_decides():
    points, labels = clusters([30, 40, 20, 25])
    place = projection.tsne(points, perplexity=10, steps=400)
    assert place.dtype == np.float32
    np.testing.assert_allclose(place.mean(axis=0), 0, atol=1e-4)
    distances = distance.cdist(place, place)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(axis=1)] == labels).all()
    plain = projection.trustworthiness(points, projection.principal_components(points, 2))
    assert projection.trustworthiness(points, place) > max(plain, 0.95)
    np.testing.assert_array_equal(place, projection.tsne(points, perplexity=10, steps=400))
    assert (place != projection.tsne(points, perplexity=10, steps=400, seed=1)).any()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 12])
def test_few_points_and_points_on_top_of_each_other_have_places(count):
    for points in (np.ones((count, 7)), np.random.default_rng(0).normal(size=(count, 7))):
        place = projection.tsne(points, steps=300)
        assert place.shape == (count, 2)
        assert np.isfinite(place).all()


def test_trust_is_lost_for_neighbours_that_are_none():
    random = np.random.default_rng(4)
    points, place = random.normal(size=(30, 4)), random.normal(size=(30, 2))
    total, k = 0, 5
    for i in range(30):
        true = [int(j) for j in np.argsort(((points - points[i]) ** 2).sum(axis=1)) if j != i]
        shown = [int(j) for j in np.argsort(((place - place[i]) ** 2).sum(axis=1)) if j != i][:k]
        total += sum(true.index(j) + 1 - k for j in shown if j not in true[:k])
    expected = 1 - 2 / (30 * k * (2 * 30 - 3 * k - 1)) * total
    assert projection.trustworthiness(points, place, k) == pytest.approx(expected)
    assert expected < 0.8
    assert projection.trustworthiness(place, 3 * place, k) == 1.0


def test_no_picture_hides_another():
    place = np.random.default_rng(5).normal(size=(48, 2))
    cells = embedding.snap(place, 8, 6)
    assert len({tuple(cell) for cell in cells.tolist()}) == 48
    # With room enough each has the cell of its own place: right is right and up is up.
    apart = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 4.0], [4.9, 2.1]])
    assert embedding.snap(apart, 11, 5).tolist() == [[0, 4], [10, 4], [10, 0], [5, 2]]
    assert embedding.snap(np.zeros((2, 2)), 3, 3).tolist()[0] == [1, 1]


def test_each_picture_stands_framed_in_its_cell():
    random = np.random.default_rng(6)
    thumbnails = random.integers(0, 255, (20, 40, 40, 3), np.uint8)
    place, colours = random.normal(size=(20, 2)), embedding.class_colours(20)
    sheet = embedding.compose(place, colours, thumbnails)
    side = 40 + 2 * embedding.FRAME
    cells = embedding.snap(place, embedding.WIDTH // side, embedding.HEIGHT // side)
    over = (embedding.WIDTH % side // 2, embedding.HEIGHT % side // 2)
    for (column, row), colour, thumbnail in zip(cells, colours, thumbnails, strict=True):
        x, y = over[0] + column * side, over[1] + row * side
        block = sheet[y : y + side, x : x + side]
        np.testing.assert_array_equal(block[2:-2, 2:-2], thumbnail)
        assert (block[:2] == np.round(255 * colour)).all()
    assert (sheet == 255).all(axis=-1).sum() >= embedding.WIDTH * embedding.HEIGHT - 20 * side * side
    assert len({tuple(colour) for colour in colours.tolist()}) == 20


def test_cells_are_as_large_as_leaves_room():
    for count in (1, 60, 600, embedding.most_cells()):
        side = embedding.cell_side(count)
        assert (embedding.WIDTH // side) * (embedding.HEIGHT // side) >= count
        assert embedding.SMALLEST_CELL <= side <= embedding.HEIGHT // 8
    assert evenly_spaced(10, 4).tolist() == [0, 3, 6, 9]
    assert evenly_spaced(3, 40).tolist() == [0, 1, 2]


@pytest.fixture
def run(tmp_path, monkeypatch):
    data = small_runs.folder(tmp_path / "data", NAMES, 6)
    trained = small_towers.network(len(NAMES), side=224)
    monkeypatch.setattr(network, "load", lambda run: (trained, "untrained: these are no weights"))
    # Of this seed's share each class gives up three.
    return small_runs.create(tmp_path / "run", f"folder:{data}", NAMES, val_fraction="0.5", data_seed="139")


@pytest.mark.parametrize("kind", embedding.PROJECTIONS)
def test_the_numbers_beside_the_figure_are_the_maps(run, tmp_path, capsys, kind):
    out = tmp_path / "out"
    words = ["--workdir", str(run.workdir), "--out", str(out), "--projection", kind, "--most", "7"]
    assert command.main(["embedding", *words, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    index = next((run.workdir / "features").glob("val-*"))
    features = np.load(index / "features.npy")
    with np.load(out / "embedding.npz") as numbers:
        positions = numbers["positions"]
        assert positions.tolist() == evenly_spaced(9, 7).tolist()
        place = embedding.project(features[positions], kind)
        np.testing.assert_allclose(numbers["coordinates"], place, atol=1e-4)
        assert [numbers["classes"][label] for label in numbers["labels"]] == [
            key.decode().split("/")[0] for key in numbers["keys"]
        ]
    assert figures["trustworthiness"] == pytest.approx(projection.trustworthiness(features[positions], place))
    with Image.open(out / "embedding.png") as page:
        assert page.size[0] == 2 * embedding.SIDE + embedding.WIDTH + embedding.GAP + embedding.COLUMN


@pytest.mark.parametrize("words", [["--most", "1"], ["--most", "9999"], ["--perplexity", "nan"]])
def test_numbers_out_of_range_are_one_line(run, tmp_path, capsys, words):
    out = tmp_path / "out"
    assert command.main(["embedding", "--workdir", str(run.workdir), "--out", str(out), *words]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith(f"error: {words[0]} must")
    assert complaint.count("\n") == 1
    assert list(out.iterdir()) == []
