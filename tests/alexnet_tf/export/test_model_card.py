"""The card says what the run's own files say, and nothing that they do not."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from alexnet_tf.export import model_card
from alexnet_tf.export.signatures import FORMS
from tests.support import small_runs

NAMES = [f"class {index:02d}" for index in range(30)]


def card(run, step=20):
    return model_card.text(run, FORMS, parameters=60_965_224, step=step, model_name="alexnet")


@pytest.fixture
def run(tmp_path):
    return small_runs.create(tmp_path / "run", "folder:/home/someone/photographs", NAMES)


def row(step, error):
    return {"step": step, "epoch": step / 10, "val_top1_error": error, "val_top5_error": error / 4}


def test_card_names_data_recipe_and_convention(run):
    text = card(run)
    assert "60,965,224 parameters" in text
    assert "`folder:photographs`" in text
    assert "/home/someone" not in text  # where the data lay is nobody's business
    assert "class 19, and 10 more" in text
    assert "(2 + 0.0001 × sum of squares)^0.75" in text
    assert "the training set's mean picture subtracted, divided by 60" in text
    for name in FORMS:
        assert f"| `{name}` |" in text


def test_conventions_differ_where_the_networks_do(tmp_path):
    original = card(small_runs.create(tmp_path / "a", "synthetic", NAMES, variant="original"))
    assert "5 channels within each tower: x / (2 + 2e-05 × sum of squares)^0.75" in original
    assert "within each map over 5 × 5 places: x / (1 + 4e-05" in original
    without = card(small_runs.create(tmp_path / "b", "synthetic", NAMES, variant="no_normalization"))
    assert "No response normalisation." in without


def test_errors_are_those_of_the_exported_weights(run):
    assert "Not measured" in card(run)
    for step, error in ((10, 0.5), (20, 0.125), (30, 0.25)):
        run.append_metrics(row(step, error))
    report = run.workdir / "evaluation-ten-crop"
    report.mkdir()
    summary = {"crops": 10, "runs": 1, "steps": [20], "top1_error": 0.1, "top5_error": None, "count": 600.0}
    summary["data"] = run.data.spec
    (report / "summary.json").write_text(json.dumps(summary))
    text = card(run)
    assert "| validation | centre crop, during training, at epoch 2 | 12.50% | 3.12% |  |" in text
    assert "| validation | ten crops averaged | 10.00% |  | 600 |" in text
    assert "Not measured" not in text
    assert "weights after step 20." in text
    newest = card(run, step=30)
    assert "| validation | centre crop, during training, at epoch 3 | 25.00% | 6.25% |  |" in newest
    assert "ten crops averaged" not in newest
    assert "Not measured" in card(run, step=35)


def test_errors_on_other_data_are_named(run):
    summary = {"crops": 1, "steps": [20], "top1_error": 0.5, "top5_error": None, "count": 60.0}
    own = {"data": run.data.spec, "split": "val", "own_validation": True, "runs": 2, "steps": [30, 20]}
    for folder, more in (
        ("evaluation", {"data": "folder:/home/someone/TEST", "own_validation": False, "split": "all"}),
        ("evaluation-of-D", {"data": "tfds:mnist", "own_validation": False, "split": "test"}),
        ("evaluation-ensemble", own),  # whose first run's weights are others
    ):
        (run.workdir / folder).mkdir()
        (run.workdir / folder / "summary.json").write_text(json.dumps({**summary, **more}))
    rows = [line for line in card(run).splitlines() if "50.00%" in line]
    assert rows == [
        "| `folder:TEST`, all pictures | centre crop | 50.00% |  | 60 |",
        "| `tfds:mnist`, split test | centre crop | 50.00% |  | 60 |",
    ]
    assert "/home/someone" not in card(run)


def test_a_damaged_report_is_passed_over(run):
    for name, content in (("evaluation", "{"), ("evaluation-other", "[1]")):
        (run.workdir / name).mkdir()
        (run.workdir / name / "summary.json").write_text(content)
    assert model_card.measured(run, 20) == []


def test_examples_are_requests_that_a_shell_builds(run, tmp_path):
    """Runs the card's own lines with a `curl` that prints what it is given."""
    (tmp_path / "picture.jpg").write_bytes(bytes(range(256)) * 8)
    (block,) = [b for b in re.findall(r"```sh\n(.*?)```", card(run), re.DOTALL) if "curl" in b]
    script = 'curl() { cat; echo " ${@: -1}"; }\n' + block
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = re.findall(r"(\{.*\})\s+(http\S+)", done.stdout)
    bodies = [json.loads(body) for body, _ in lines]
    assert [url.rpartition(":")[2] for _, url in lines] == ["predict", "predict", "classify"]
    assert bodies[1]["signature_name"] == "ten_crop"
    assert bodies[2]["examples"][0]["image_bytes"] == bodies[0]["instances"][0]
    assert len(bodies[0]["instances"][0]["b64"]) == (256 * 8 + 2) // 3 * 4
