"""The pages speak of what exists: rows, recipes, variants, files, and Python that runs."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from alexnet_tf import checkpoint, model, recipe
from alexnet_tf.network import variants
from alexnet_tf.visualize.__main__ import METHODS
from pipelines import samples, sources
from pipelines.config import SOURCE_KINDS, DataConfig
from serving.settings.flags import Flags
from tests.support import docs_walk, small_runs
from tests.support.markdown_pages import ROOT, ours, page
from tests.support.picture_model import brightness, encoded, running

CONVENTIONS = page("docs/conventions.md")
# Where a block of Python stands that a test of this module runs.
EXAMPLES = {
    ("README.md", "From Python"),
    ("docs/explaining.md", "From Python"),
    ("docs/python.md", "Network and data"),
    ("docs/python.md", "Training with `keras.Model.fit`"),
    ("docs/python.md", "Recipes"),
    ("docs/python.md", "Runs"),
    ("docs/python.md", "Explaining"),
    ("docs/python.md", "Serving"),
    ("docs/serving.md", "Asking"),
}


def test_every_row_that_the_code_cites_is_in_the_table_once():
    rows = [int(cell) for cell in CONVENTIONS.table("Two conventions") if cell.isdecimal()]
    numbers_shown = re.findall(r"^\| (\d+) \|", CONVENTIONS.section("Two conventions"), re.MULTILINE)
    cited = set()
    for package in ("alexnet_tf", "pipelines"):
        for path in (ROOT / package).rglob("*.py"):
            for numbers in re.findall(r"\b[Rr]ows? (\d+(?:, \d+)*)", path.read_text(encoding="utf-8")):
                cited |= {int(number) for number in numbers.split(", ")}
    assert rows == list(range(1, 16)) == list(map(int, numbers_shown))
    assert {1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 13} <= cited <= set(rows)


def test_the_places_where_a_row_is_chosen_exist():
    named = re.findall(r"`([\w/]+\.py)` ((?:`[\w.]+`(?:, )?)+)", CONVENTIONS.section("Two conventions"))
    assert len(named) >= 10
    for name, fields in named:
        (found,) = (ROOT / "alexnet_tf").rglob(name.rpartition("/")[2])
        source = found.read_text(encoding="utf-8")
        for field in re.findall(r"`([\w.]+)`", fields):
            assert re.search(rf"\b{field.rpartition('.')[2]}\b", source), f"{name} {field}"


def test_recipes_variants_and_specs_are_all_named():
    training = page("docs/training.md")
    assert set(recipe.RECIPES) == set(training.table("Recipes")) - {"recipe"}
    assert training.coded("Variants") >= set(variants.VARIANTS)
    kinds = {cell.partition(":")[0] for cell in page("docs/data.md").table("Where pictures come from")}
    assert kinds >= set(SOURCE_KINDS)


def test_every_flag_that_is_named_exists():
    serving = page("docs/serving.md")
    named = set(re.findall(r"`--([a-z_]+_[a-z_]+)", serving.prose))
    assert named
    assert named <= {known.name for known in dataclasses.fields(Flags)}


def test_every_method_is_in_the_table():
    rows = re.findall(r"^\| ([`\w, ]+) \|", page("docs/explaining.md").section("The methods"), re.MULTILINE)
    assert {method for cell in rows for method in re.findall(r"`(\w+)`", cell)} == set(METHODS)
    assert f"{len(METHODS)} methods" in page("docs/README.md").section("Commands")


def test_every_example_of_python_is_run_below():
    shown = {(one.name, fence.body) for one in ours() for fence in one.fences() if fence.language == "python"}
    assert shown == {(name, example(name, title)) for name, title in EXAMPLES}


def example(name: str, title: str) -> str:
    """The only block of Python in a section."""
    (fence,) = (fence for fence in page(name).fences(title) if fence.language == "python")
    return fence.body


def run(name: str, title: str, *changes: tuple[str, str]) -> dict:
    """Runs an example, changed where an address or a folder is another; returns its names."""
    text = example(name, title)
    for shown, here in changes:
        assert shown in text
        text = text.replace(shown, here)
    found: dict = {}
    exec(compile(text, name, "exec"), found)
    return found


@pytest.fixture
def quickstart(tmp_path, monkeypatch):
    """The run folder that the examples open, without a checkpoint; the working directory is above it."""
    names = sources.open_source(DataConfig(spec="synthetic:24,12")).class_names
    made = small_runs.create(tmp_path / "runs" / "quickstart", "synthetic:24,12", names)
    monkeypatch.chdir(tmp_path)
    return made


def test_the_client_s_example_runs(tmp_path, monkeypatch, capsys):
    brightness(tmp_path / "alexnet")
    (tmp_path / "photograph.jpg").write_bytes(encoded(255, "JPEG"))
    monkeypatch.chdir(tmp_path)
    with running(model_name="alexnet", model_base_path=str(tmp_path / "alexnet")) as server:
        run("docs/serving.md", "Asking", ("localhost:8501", f"127.0.0.1:{server.rest_port}"))
    assert capsys.readouterr().out == "['light', 'dark'] [1.0, 0.0]\n"


def test_the_server_s_example_runs(tmp_path, monkeypatch, capsys):
    brightness(tmp_path / "export")
    monkeypatch.chdir(tmp_path)
    run("docs/python.md", "Serving", ('"export"', repr(str(tmp_path / "export"))))
    assert capsys.readouterr().out.splitlines()[-1] == "['AVAILABLE']"


def photographs(folder, source):
    """Built-in pictures as class folders in `photographs`."""
    for file in samples.write(source, 24, folder):
        place = folder / "photographs" / file.name.partition("-")[0]
        place.mkdir(parents=True, exist_ok=True)
        file.rename(place / file.name)


def test_the_python_example_runs(tmp_path, monkeypatch):
    photographs(tmp_path, sources.open_source(DataConfig(spec="synthetic:24,24")))
    monkeypatch.chdir(tmp_path)
    names = run("docs/python.md", "Network and data")
    assert names["network"].count_params() == 60_965_224
    batch = next(iter(names["batches"]))
    assert batch["image"].shape == (64, 224, 224, 3)
    assert batch["mask"].numpy().sum() == 12  # one of two pictures a class is held out
    assert set(batch) <= set(page("docs/python.md").table("Network and data"))


def test_the_example_of_keras_runs(tmp_path, monkeypatch):
    photographs(tmp_path, sources.open_source(DataConfig(spec="synthetic:24,24")))
    monkeypatch.chdir(tmp_path)
    names = run("docs/python.md", "Training with `keras.Model.fit`")
    pixels, labels = next(iter(names["validation"]))
    assert pixels.shape == (4, 64, 64, 3)
    assert pixels.numpy().min() < 0 < pixels.numpy().max()
    assert labels.shape == (4,)
    assert np.isfinite(names["history"].history["val_loss"]).all()


def test_the_example_of_recipes_runs(capsys):
    assert run("docs/python.md", "Recipes")["ours"].seed == 1
    assert capsys.readouterr().out == "10.0 64 0.02\n"


def test_the_example_of_runs_runs(quickstart, monkeypatch, capsys):
    monkeypatch.setattr(model, "build", docs_walk.tiny_network)
    network = docs_walk.tiny_network()
    checkpoint.write(
        quickstart.checkpoint_dir / checkpoint.BEST, checkpoint.network_arrays(network), {"step": 234}
    )
    quickstart.append_metrics({"step": 234, "val_top1_error": 0.25})
    names = run("docs/python.md", "Runs")
    assert names["step"] == 234
    assert capsys.readouterr().out.startswith("quickstart (")


def test_the_example_of_saliency_runs(quickstart):
    names = run("docs/python.md", "Explaining")
    assert names["maps"].shape == (2, 224, 224)
    assert "untrained" in names["warning"]


def test_the_readme_s_example_runs(quickstart, capsys):
    run("README.md", "From Python")
    first, second = capsys.readouterr().out.splitlines()
    assert first == "60,965,224 weights"
    assert len(re.findall(r"\('[\w ]+', '[\w ]+'\)", second)) == 4


def test_the_example_of_maps_runs(quickstart):
    found = run("docs/explaining.md", "From Python")
    assert found["maps"].shape == (4, 224, 224)
    assert found["maps"].max() > 0
    assert isinstance(found["page"], Figure)
