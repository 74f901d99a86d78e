"""The README speaks of what exists: rows, recipes, variants, files, and Python that runs."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import small_runs
from matplotlib.figure import Figure
from picture_model import brightness, encoded, running

from alexnet_tf import recipe, variants
from alexnet_tf.visualize.__main__ import METHODS
from pipelines import samples, sources
from pipelines.config import SOURCE_KINDS, DataConfig
from serving.flags import Flags

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_cells(title: str) -> list[str]:
    """The first column of a section's tables without their heads, code marks removed."""
    cells = re.findall(r"^\| *`?([^`|]+?)`? *\|", section(title), re.MULTILINE)
    return [cell for cell in cells if not cell.startswith("---")]


def test_every_row_that_the_code_cites_is_in_the_table_once():
    rows = [int(cell) for cell in first_cells("Two conventions") if cell.isdecimal()]
    cited = set()
    for package in ("alexnet_tf", "pipelines"):
        for path in (ROOT / package).rglob("*.py"):
            for numbers in re.findall(r"\b[Rr]ows? (\d+(?:, \d+)*)", path.read_text(encoding="utf-8")):
                cited |= {int(number) for number in numbers.split(", ")}
    assert rows == list(range(1, 16))
    assert {1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 13} <= cited <= set(rows)


def test_the_places_where_a_row_is_chosen_exist():
    for name, fields in re.findall(r"`(\w+\.py)` ((?:`[\w.]+`(?:, )?)+)", section("Two conventions")):
        source = (ROOT / "alexnet_tf" / name).read_text(encoding="utf-8")
        for field in re.findall(r"`([\w.]+)`", fields):
            assert re.search(rf"\b{field.rpartition('.')[2]}\b", source), f"{name} {field}"


def test_recipes_variants_and_specs_are_all_named():
    assert set(recipe.RECIPES) <= set(first_cells("Commands"))
    assert [name for name in variants.VARIANTS if f"`{name}`" not in section("Commands")] == []
    assert {cell.partition(":")[0] for cell in first_cells("Your own pictures")} >= set(SOURCE_KINDS)


def python_example(title: str) -> str:
    (example,) = re.findall(r"```python\n(.*?)```", section(title), re.DOTALL)
    return example


def test_the_client_s_example_runs(tmp_path, monkeypatch, capsys):
    brightness(tmp_path / "alexnet")
    (tmp_path / "photograph.jpg").write_bytes(encoded(255, "JPEG"))
    monkeypatch.chdir(tmp_path)
    with running(model_name="alexnet", model_base_path=str(tmp_path / "alexnet")) as server:
        example = python_example("Serving").replace("localhost:8501", f"127.0.0.1:{server.rest_port}")
        exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out == "['light', 'dark'] [1.0, 0.0]\n"


def test_every_flag_that_is_named_exists():
    named = set(re.findall(r"`--([a-z_]+_[a-z_]+)", section("Serving")))
    assert named
    assert named <= {known.name for known in dataclasses.fields(Flags)}


def test_the_python_example_runs(tmp_path, monkeypatch):
    source = sources.open_source(DataConfig(spec="synthetic:24,24"))
    for file in samples.write(source, 24, tmp_path):
        folder = tmp_path / "photographs" / file.name.partition("-")[0]
        folder.mkdir(parents=True, exist_ok=True)
        file.rename(folder / file.name)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(python_example("From Python"), "README.md", "exec"), names)
    assert names["network"].count_params() == 60_965_224
    batch = next(iter(names["batches"]))
    assert batch["image"].shape == (64, 224, 224, 3)
    assert batch["mask"].numpy().sum() == 12  # one of two pictures a class is held out


def test_every_method_is_in_the_table():
    named = set(re.findall(r"^\| ([`\w, ]+) \|", section("What it has learnt"), re.MULTILINE)) - {"method"}
    assert {method for cell in named for method in re.findall(r"`(\w+)`", cell)} == set(METHODS)
    assert f"{len(METHODS)} methods" in section("Commands")


def test_the_example_of_maps_runs(tmp_path, monkeypatch):
    names = sources.open_source(DataConfig(spec="synthetic:24,12")).class_names
    small_runs.create(tmp_path / "runs" / "quickstart", "synthetic:24,12", names)
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(compile(python_example("What it has learnt"), "README.md", "exec"), found)
    assert found["maps"].shape == (4, 224, 224)
    assert found["maps"].max() > 0
    assert isinstance(found["page"], Figure)
