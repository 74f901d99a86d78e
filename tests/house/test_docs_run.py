"""The commands of the pages run, and leave what files-of-a-run.md and json.md say, and no more."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexnet_tf.distribute.tower_trace import Crossing
from alexnet_tf.visualize.__main__ import METHODS
from tests.support import docs_walk
from tests.support.documented_commands import RUN_BY, WALKED
from tests.support.markdown_pages import page

pytestmark = pytest.mark.slow
FILES, KEYS = page("docs/files-of-a-run.md"), page("docs/json.md")
INSPECTED = page("docs/inspecting.md")
# What is on the page and not among what this walk leaves: of other networks, and of runs in bfloat16.
ELSEWHERE = {"dead_conv6"}
# Under these keys stand names of the data, of classes, tensors or kinds of files, which no page can list.
BY_NAME = {"signatures", "inputs", "outputs", "crops", "left_out"}


@pytest.fixture(scope="module")
def left():
    with docs_walk.walk() as done:
        yield done


def keys(value: Any, under: str = "") -> Iterator[str]:
    """Every key of a JSON value, but for those that are names of the data."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if under not in BY_NAME:
                yield key
            yield from keys(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner, under)


def numbered(name: str) -> str:
    """A name with its numbers as one sign each: which step or shard it is does not matter."""
    return re.sub(r"\d+|N{2,}", "#", name)


def documented_files(title: str) -> set[str]:
    return {numbered(name) for name in FILES.coded(title)}


def arrays(path: Path) -> set[str]:
    with np.load(path, allow_pickle=False) as file:
        return set(file.files)


def columns(path: Path) -> list[str]:
    with open(path, newline="", encoding="utf-8") as file:
        return next(csv.reader(file))


def first_column(title: str) -> set[str]:
    """The names in the first cells of a section's table."""
    cells = [row.split("|")[1] for row in FILES.table(title).values()]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def keys_of_the_table(title: str) -> set[str]:
    rows = KEYS.table(title).values()
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


def test_every_command_ends_well(left):
    assert set(WALKED[1:]) <= set(left.printed)
    assert set(left.methods) == set(METHODS) - {"placement"}  # which wants two devices, before anything else


def test_the_quickstart_runs(left):
    lines = [line for line in left.printed if line.startswith("make quickstart: ")]
    assert lines == [f"make quickstart: {line}" for line in docs_walk.quickstart()]
    likewise = {command for command, name in RUN_BY.items() if name == "test_the_quickstart_runs"}
    for command in likewise:  # the same, but for where it writes
        what = re.sub(r" --(?:out|export-dir) \S+", "", command)
        assert any(set(what.split()) <= set(line.split()) for line in lines), command


def test_a_photograph_is_named_over_http(left):
    answer = left.printed[WALKED[-1]]
    if answer is None:
        pytest.skip("bash, base64 or curl is missing")
    ((best,),) = ([row["classes"] for row in answer["predictions"]],)
    assert len(best) == 5


def test_every_file_of_a_run_folder_is_on_the_page(left):
    run = left.folder / "runs" / "quickstart"
    own = documented_files("The run folder")
    report, export = documented_files("An evaluation"), documented_files("An export")
    features, figures = documented_files("Features"), documented_files("Figures")
    for path in run.rglob("*"):
        if path.is_dir():
            continue
        first, *rest = path.relative_to(run).parts
        inside = "/".join(rest)
        if first.startswith("evaluation"):
            assert f"{first}/" in report
            assert inside in report
        elif first == "export":
            assert numbered("/".join(rest[1:])) in export
        elif first == "features":
            assert rest[-1] in features
        elif first == "figures":
            assert rest[0] in figures
        elif first == "checkpoints":
            assert numbered(rest[0]) in own
            assert "checkpoints/" in own
        elif rest:
            assert first in ("pictures", "tensorboard")
        else:
            assert first in own | {"report.html"}


def test_every_file_of_records_and_figures_is_on_the_page(left):
    records = documented_files("Records")
    assert {numbered(path.name) for path in (left.folder / "records").iterdir()} <= records
    for method, printed in left.methods.items():
        row = FILES.table("Figures")[method]
        assert {f"`{Path(name).name}`" for name in printed["files"]} == set(
            re.findall(rf"`{method}\.\w+`", row)
        )
    assert [path.name for path in (left.folder / "overlays").iterdir()] == ["photograph-overlay.png"]


@pytest.mark.parametrize(
    ("title", "path"),
    [
        ("`metrics.csv`", "runs/quickstart/metrics.csv"),
        ("`skipped.csv`", "records/skipped.csv"),
        ("`per_class.csv`", "runs/quickstart/evaluation/per_class.csv"),
        ("`predictions.csv`", "runs/quickstart/evaluation/predictions.csv"),
    ],
)
def test_columns(left, title, path):
    assert first_column(title) - ELSEWHERE == set(columns(left.folder / path))


def test_arrays_of_statistics_and_features(left):
    run = left.folder / "runs" / "quickstart"
    assert first_column("`image_stats.npz`") == arrays(run / "image_stats.npz")
    assert arrays(left.folder / "records" / "image_stats.npz") == arrays(run / "image_stats.npz")
    indexes = list(run.glob("features/*/examples.npz"))
    assert indexes
    assert all(first_column("`examples.npz`") == arrays(examples) for examples in indexes)


def test_arrays_of_checkpoints(left):
    patterns = [
        re.escape(name).replace("LAYER", r"\w+").replace(r"\.\.\.", ".+")
        for name in first_column("Checkpoints")
    ]
    folder = left.folder / "runs" / "quickstart" / "checkpoints"
    (newest,) = folder.glob("step-*.npz")
    assert [name for name in arrays(newest) if not any(re.fullmatch(p, name) for p in patterns)] == []
    assert [p for p in patterns if not any(re.fullmatch(p, name) for name in arrays(newest))] == []
    assert {name.partition("/")[0] for name in arrays(folder / "best.npz")} == {"network", "state.json"}
    for path in (newest, folder / "best.npz"):
        with np.load(path) as file:
            state = json.loads(file["state.json"].tobytes())
        assert set(keys(state)) <= KEYS.coded("The state of a checkpoint")


def test_arrays_of_figures(left):
    table, section = FILES.table("Figures"), FILES.section("Figures")
    shared = set(re.findall(r"`(\w+)`", section.partition("The four that ")[2]))
    assert shared == {"keys", "labels", "names", "probabilities"}
    for method, printed in left.methods.items():
        for path in (Path(name) for name in printed["files"] if name.endswith(".npz")):
            listed = set(re.findall(r"`(\w+)`", table[method]))
            more = shared if "the four below" in table[method] else set()
            # Of maps that `sanity` keeps the names are those of kinds.
            kinds = {"gradcam", "vanilla"} if method == "sanity" else set()
            assert arrays(left.folder / path) - kinds <= listed | more
            assert listed - {method} <= arrays(left.folder / path) | more


@pytest.mark.parametrize(
    ("title", "path"),
    [
        ("`recipe.json`", "runs/quickstart/recipe.json"),
        ("`environment.json`", "runs/quickstart/environment.json"),
        ("`summary.json`", "runs/quickstart/evaluation/summary.json"),
        ("`records.json`", "records/records.json"),
        ("`selectivity.json`", "figures/selectivity.json"),
        ("`architecture.json`", "figures/architecture.json"),
        ("`panels.json`", "figures/panels.json"),
        ("`neighbours.json`", "figures/neighbours.json"),
        ("`deconvnet.json`", "figures/deconvnet.json"),
        ("`sanity.json`", "figures/sanity.json"),
    ],
)
def test_keys_of_json_files(left, title, path):
    found = json.loads((left.folder / path).read_text(encoding="utf-8"))
    assert set(keys(found)) - KEYS.coded(title) == set()
    if isinstance(found, dict) and title != "`recipe.json`":
        assert keys_of_the_table(title) - {"precision"} <= set(found)  # which is measured for `auto` alone


def test_what_inspecting_leaves(left):
    folder = left.folder / "inspected"
    files = {path.name for path in folder.iterdir()}
    listed = {name for name in INSPECTED.table("Inspecting a data set") if re.fullmatch(r"\w+\.\w+", name)}
    assert files | {"copies.png"} == listed
    found = json.loads((folder / "inspect.json").read_text(encoding="utf-8"))
    cells = [row.split("|")[1] for row in INSPECTED.table("`inspect.json`").values()]
    assert set(found) == {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    assert set(keys(found)) - INSPECTED.coded("`inspect.json`") == set()


def test_every_field_of_a_recipe_and_no_other_is_a_key(left):
    found = json.loads((left.folder / "runs/quickstart/recipe.json").read_text(encoding="utf-8"))
    assert set(found) == {"recipe", "data"}
    assert keys_of_the_table("`recipe.json`") == set(found["recipe"])


def test_the_other_json_files(left):
    run = left.folder / "runs" / "quickstart"
    for index in run.glob("features/*/index.json"):
        assert set(keys(json.loads(index.read_text(encoding="utf-8")))) <= KEYS.coded("`index.json`")
    curves = json.loads((run / "figures" / "curves.json").read_text(encoding="utf-8"))
    assert list(curves) == columns(run / "metrics.csv")
    crossing = {field.name for field in dataclasses.fields(Crossing)}
    assert {*crossing, "bytes", "crossings", "operations"} <= KEYS.coded("`placement.json`")
    for line in (left.folder / "access.log").read_text(encoding="utf-8").splitlines():
        assert set(json.loads(line)) == keys_of_the_table("The access log")


def rows_of_commands() -> dict[str, set[str]]:
    """A command of json.md -> the keys that its row names."""
    titles = ("Training", "Evaluating and exporting", "Pictures", "Serving")
    rows = {name: row for title in titles for name, row in KEYS.table(title).items()}
    return {
        name: set(re.findall(r"`([^`]+)`", row.partition("|")[2].partition("|")[2]))
        for name, row in rows.items()
    }


def test_keys_that_commands_print(left):
    rows = rows_of_commands()
    for command, printed in left.printed.items():
        found = re.search(r"-m ([\w.]+)(?: .*?(--verify|--status|--metadata))?", command)
        if printed is None or found is None or "visualize" in command:
            continue
        row = rows[" ".join(filter(None, found.groups()))]
        if found[1] == "alexnet_tf.evaluate":
            row = {"crops"} | KEYS.coded("`summary.json`")
        if found[1] == "pipelines.inspect":
            row |= INSPECTED.coded("`inspect.json`")
        assert set(keys(printed)) - row == set(), command


def test_keys_that_methods_print(left):
    table = KEYS.table("Explaining")
    for method, printed in left.methods.items():
        row = set(re.findall(r"`(\w+)`", table[method]))
        if method in ("sanity", "selectivity"):
            row = {*keys_of_the_table(f"`{method}.json`")}
        assert set(printed) - {"files", "warning"} == row - {method}, method
    assert set(re.findall(r"`(\w+)`", table["placement"])) == {"placement", "forward_bytes", "backward_bytes"}
