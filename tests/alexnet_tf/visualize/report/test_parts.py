"""The report's parts: what they read, what they count, and what becomes of a run that lacks something."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from alexnet_tf import checkpoint, recipe
from alexnet_tf.evaluation.report import evaluations
from alexnet_tf.figures import kernels
from alexnet_tf.recipe import CADENCE
from alexnet_tf.visualize import __main__ as command
from alexnet_tf.visualize import network, pictures
from alexnet_tf.visualize.measures.training_curves import Level
from alexnet_tf.visualize.report import charts, curves, explained, html, page, sections
from alexnet_tf.visualize.report.charts import Line
from tests.support import report_runs, small_runs

NASTY = '<b>"it\'s" & so\udcff</b>'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    return report_runs.create(root)


@pytest.fixture
def copied(made, tmp_path):
    """A run of its own for tests that change the folder."""
    shutil.copytree(made.workdir, tmp_path / "run")
    return dataclasses.replace(made, workdir=tmp_path / "run")


def test_only_html_enters_a_page_as_it_is():
    shown = "&lt;b&gt;&#34;it&#39;s&#34; &amp; so\\udcff&lt;/b&gt;"
    paragraph = html.rendered(html.note(NASTY, NASTY)).strip()
    # In a command every word has a place of its own.
    words = " ".join(f"<span>{word}</span>" for word in shown.split(" "))
    assert paragraph == f'<p>{shown}<code class="command">{words}</code></p>'
    bars = [{"name": NASTY, "share": 0.25, "correct": False}]
    row = {"name": NASTY, "pictures": [(NASTY, html.Picture(NASTY, NASTY, 3, 2))], "bars": bars}
    section = html.rendered(html.Content("explanations.html", {"rows": [row], "caption": NASTY}))
    assert f'<img src="{shown}" alt="{shown}" width="3" height="2">' in section
    assert f'<span class="name" title="{shown}">{shown}</span>' in section
    assert section.count(shown) == 7  # and as name of the picture, of the row, and as caption
    assert section.count("<b>") == 1  # the template's own
    numbers = {
        "verdict": "",
        "charts": [],
        "caption": "",
        "head": [NASTY],
        "rows": [[NASTY]],
        "medians": NASTY,
    }
    table = html.rendered(html.Content("towers.html", numbers))
    assert "<b>" not in table
    assert table.count(shown) == 4  # as heading of a column, of a row, as caption and as the box's name


def test_names_in_charts_are_escaped():
    chart = charts.lines(NASTY, [0, 1], [Line(NASTY, NASTY, [1, 2])], level=Level(1.0, NASTY))
    drawing = html.rendered(html.Content("charts.html", {"charts": [chart], "caption": ""}))
    assert "<b>" not in drawing
    # Title and name above, the level's name in the drawing, and both in what a screen reader reads.
    assert drawing.count("&lt;b&gt;") - drawing.count('="&lt;b&gt;') - drawing.count(":&lt;b&gt;") >= 4
    for attribute in re.findall(r'="([^"]*)"', drawing):
        assert "<" not in attribute


def test_help_does_not_wait_for_the_templates():
    script = "import sys, alexnet_tf.visualize.report; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def shown(content: html.Content) -> str:
    """A section as the page has it, without the breaks between its elements."""
    return re.sub(r">\n\s*<", "><", html.rendered(content))


def test_every_field_has_its_meaning_and_departures_are_those_that_differ():
    fields = {field.name for field in dataclasses.fields(recipe.Recipe)}
    assert set(recipe.MEANINGS) == fields - CADENCE - {"name"}
    assert recipe.departures(recipe.PAPER) == []
    changed = recipe.PAPER.replace({"epochs": "3", "mirror": "false", "log_every": "7"})
    found = {(row.field, row.paper, row.here) for row in recipe.departures(changed)}
    assert found == {("epochs", "90", "3"), ("mirror", "yes", "no")}


def test_evaluations_are_read_with_readable_names_and_half_of_one_is_passed_over(copied):
    (copied.workdir / "evaluation-cut").mkdir()
    (copied.workdir / "evaluation-cut" / "summary.json").write_text('{"crops": 1')
    (copied.workdir / "evaluation-ten-crop" / "per_class.csv").unlink()
    (only,) = evaluations(copied, most_mistakes=4)
    assert only.folder.name == "evaluation"
    assert only.protocol == "centre crop, best checkpoint (step 40)"
    count = only.summary["count"]
    assert sum(only.pairs.values()) == count == len(report_runs.NAMES)
    assert only.pairs["bird", "cat"] == 1
    assert [row.name for row in only.classes] == list(report_runs.READABLE)
    # Surest first: the last row of predictions.csv was given the highest probability.
    assert [mistake.position for mistake in only.mistakes] == [5, 4, 3, 2]
    assert only.mistakes[0].probability == pytest.approx(0.5 + 0.4 * 5 / 6)
    folder = only.mistakes[0].key.split("/")[-2]
    assert only.mistakes[0].true_name == report_runs.READABLE[report_runs.NAMES.index(folder)]


def test_the_plainest_evaluation_comes_first(made):
    assert [one.summary["crops"] for one in evaluations(made, 1)] == [1, 10]


def numbers(text: str) -> list[float]:
    return [float(value) for value in re.findall(r"-?\d+\.\d", text)]


def test_lines_go_through_their_values_and_stop_at_gaps():
    chart = charts.lines("x", [0, 1, 2, 4], [Line("a", "red", [0, 3, math.nan, 6])]).svg
    left, right = charts.LEFT, charts.WIDTH - charts.RIGHT
    floor, top = charts.HEIGHT - charts.BOTTOM, charts.TOP
    per_epoch, per_unit = (right - left) / 4, (floor - top) / (6 * 1.06)
    path = re.search(r'd="(M[^"]*)"', chart)[1]
    assert path.count("M") == 2  # a new start after the gap
    assert numbers(path) == pytest.approx(
        [left, floor, left + per_epoch, floor - 3 * per_unit, right, floor - 6 * per_unit], abs=0.06
    )
    assert "x over 4 evaluations: a from 0 to 6" in chart


def test_logarithmic_lines_are_straight_for_powers_and_leave_out_zero():
    chart = charts.lines("rate", [0, 1, 2, 3], [Line("", "red", [1e-2, 1e-3, 1e-4, 0.0])], log=True).svg
    heights = numbers(re.search(r'd="(M[^"]*)"', chart)[1])[1::2]
    assert len(heights) == 3
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.11)
    assert ">10⁻⁴<" in chart
    assert ">0.01<" in chart


def test_histograms_count_each_tower_on_its_side():
    first, second = Line("a", "red", [0.01, 0.02, 0.99]), Line("b", "blue", [0.5, 0.5])
    chart = charts.histogram("index", [first, second], bins=4).svg
    bars = re.findall(r'y="([\d.]+)" height="([\d.]+)" style="fill:(\w+)"', chart)
    up = {colour: [float(height) for _, height, own in bars if own == colour] for colour in ("red", "blue")}
    unit = up["red"][3]
    assert up["red"] == pytest.approx([2 * unit, 0, 0, unit], abs=0.11)
    assert up["blue"] == pytest.approx([0, 0, 2 * unit, 0], abs=0.11)
    axis = max(float(y) + float(height) for y, height, colour in bars if colour == "red")
    assert float(next(y for y, height, own in bars if own == "blue" and float(height))) == axis
    assert ">median 0.02<" in chart
    assert ">median 0.50<" in chart


def test_a_training_of_one_evaluation_or_none_is_drawn():
    row = report_runs.metrics(1)
    assert "80.00\N{NO-BREAK SPACE}%, at epoch 0.5" in shown(curves.section([row], 6))
    assert "nothing to draw" in shown(curves.section([], 6))
    few = {name: math.nan if "top5" in name else value for name, value in row.items()}
    assert "top-5" not in shown(curves.section([few], 3))


def test_kernels_stand_apart_by_nothing_at_all():
    stack = np.random.default_rng(0).uniform(size=(14, 5, 5, 3)).astype(np.float32)
    picture = sections._tiled(stack)
    opaque = picture[..., 3] == 255
    assert opaque.sum() == 14 * (5 * sections.MAGNIFICATION) ** 2
    assert (picture[..., 3][~opaque] == 0).all()
    colours = kernels.tile(stack, sections.COLUMNS, sections.MAGNIFICATION)
    np.testing.assert_array_equal(picture[opaque][:, :3], colours[opaque])


def test_a_thousand_classes_show_the_worst(tmp_path):
    names = [f"class {number:03d}" for number in range(1000)]
    run = small_runs.create(tmp_path / "run", "synthetic", names)
    keys = [(f"{name}/{number}", name) for name in names for number in range(2)]
    # Class 700 is always taken for 3, class 20 half of the time for 5, every other is right.
    answers = [true for _, true in keys]
    answers[1400:1402] = ["class 003"] * 2
    answers[40] = "class 005"
    report_runs.evaluate(run, "evaluation", keys, names=names, predicted=answers)
    found = evaluations(run, 12)
    errors, confusion = shown(sections.errors(run, found)), shown(sections.confusion(run, found))
    plain = re.compile(r'<span class="clip" title="[^"]*">([^<]*)</span>')
    errors, confusion = plain.sub(r"\1", errors), plain.sub(r"\1", confusion)
    rows = re.findall(r'<th scope="row">([^<]*)</th>', errors)
    assert rows[1:3] == ["class 700", "class 020"]
    assert len(rows) == 1 + sections.MOST_CLASSES
    assert "The 20 of 1,000 classes" in errors
    pairs = re.findall(r'<th scope="row">([^<]*)</th><td>([^<]*)</td><td[^>]*>(\d+)</td>', confusion)
    assert pairs == [("class 700", "class 003", "2"), ("class 020", "class 005", "1")]


def test_classes_that_people_call_the_same_are_not_taken_for_one(tmp_path):
    names = ["n02012849", "n03126707"]
    run = small_runs.create(tmp_path / "run", "synthetic", names, readable=["crane", "crane"])
    keys = [("a", names[0]), ("b", names[0]), ("c", names[1]), ("d", names[1])]
    report_runs.evaluate(run, "evaluation", keys, names=names, predicted=[names[1], *names, names[1]])
    found = evaluations(run, 12)
    matrix = shown(sections.confusion(run, found))
    assert re.findall(r">(\d+)</td>", matrix) == ["50", "50", "100"]
    assert len(found[0].mistakes) == 1


def test_the_matrix_holds_shares_of_the_true_class(made):
    text = shown(sections.confusion(made, evaluations(made, 1)))
    assert text.count("--share:1.000") == len(report_runs.NAMES)
    assert "frog taken for horse" in text
    assert 'class="right' not in text  # not one was right


def test_a_run_without_checkpoint_evaluation_or_data_gets_a_report_that_says_so(tmp_path, monkeypatch):
    untrained = (checkpoint.Trained(report_runs.network(), 0), "untrained: these are its initial weights")
    monkeypatch.setattr(network, "load_with_step", lambda run: untrained)
    data = small_runs.folder(tmp_path / "data", ["a", "b"], 2)
    run = small_runs.create(tmp_path / "run", f"folder:{data}", ["a", "b"], variant="half")
    shutil.rmtree(data)
    (tmp_path / "out").mkdir()
    figures = page.draw(run, tmp_path / "out")
    assert figures["top1_error"] is None
    assert figures["warning"] == untrained[1]
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for words in (
        'class="warning">untrained',
        "it has no evaluation yet.",
        "there is nothing to draw",
        "python -m alexnet_tf.evaluate",
        "pictures cannot be read",
        "no tower to compare",
    ):
        assert words in re.sub(r"</?span>", "", text), words


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (["x.jpg"] * 7, "holds 6 pictures; received 7"),
        (["missing.jpg"], "missing.jpg: No such file"),
        (["broken.jpg"], "broken.jpg: not a JPEG, PNG, GIF, BMP, WebP or PPM file"),
    ],
)
def test_pictures_that_cannot_be_explained_are_one_line(made, tmp_path, monkeypatch, capsys, images, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    words = ["report", "--workdir", str(made.workdir), "--out", str(tmp_path / "out"), "--image", *images]
    assert command.main(words) == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert complaint.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_chosen_pictures_are_those_given(made, tmp_path, monkeypatch, capsys):
    trained = checkpoint.Trained(report_runs.network(), 40)
    monkeypatch.setattr(network, "load_with_step", lambda run: (trained, "not the trained weights"))
    (tmp_path / "mine.jpg").write_bytes(small_runs.jpeg(1))
    words = ["report", "--workdir", str(made.workdir), "--out", str(tmp_path), "--json"]
    assert command.main([*words, "--image", str(tmp_path / "mine.jpg")]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert figures["files"] == [str(tmp_path / "report.html")]
    assert figures["bytes"] == len(text.encode())
    assert figures["top1_error"] == 1.0
    assert text.count('class="explained"') == 1
    assert 'class="warning">not the trained weights' in text
    assert "<b>mine.jpg</b>" in text


def test_neighbours_of_many_training_pictures_are_looked_for_among_some(copied, monkeypatch):
    monkeypatch.setattr(explained, "MOST_INDEXED", 8)
    chosen = pictures.from_split(copied, 2)
    section = shown(explained.neighbours(copied, report_runs.network(), chosen))
    total = copied.open_source().count("train")
    assert total > 8
    assert f"Looked at were 8 of the {total} training pictures" in section
    assert "alexnet_tf.visualize neighbours --workdir" in re.sub("<[^>]+>", "", section)
    monkeypatch.setattr(explained, "MOST_INDEXED", total)
    assert "Looked at were" not in shown(explained.neighbours(copied, report_runs.network(), chosen))
