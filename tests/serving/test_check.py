"""`python -m serving.check`: finds a server equal that is, and every way in which one is not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorflow.core.protobuf import saved_model_pb2

from serving import check
from serving.checks import cases as export_folder
from serving.checks.answers import Tolerance, difference
from serving.checks.cases import Feature, cases, draw_pictures
from serving.command import UserError
from serving.errors import Code
from tests.support.fake_serving import fake_serving
from tests.support.picture_model import brightness, encoded, running
from tests.support.saved_models import half_plus, kinds

ROOT = Path(__file__).resolve().parents[2]


def without(folder, *names):
    """Takes signatures out of an export's list: `slow` is slow, and every request is made several times."""
    saved_model = saved_model_pb2.SavedModel()
    path = folder / "saved_model.pb"
    saved_model.ParseFromString(path.read_bytes())
    for name in names:
        del saved_model.meta_graphs[0].signature_def[name]
    path.write_bytes(saved_model.SerializeToString())


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    without(kinds(folder / "kinds", version=3), "slow")
    brightness(folder / "pictures", version=1)
    half_plus(folder / "half", version=1, add=2.0)
    half_plus(folder / "other", version=1, add=2.001)
    return folder


def checked(capsys, *words):
    """Exit status, what differs by (subject, transport), all that was compared, and the lines shown."""
    status = check.main(["--json", *map(str, words)])
    out = capsys.readouterr().out.splitlines()
    compared = json.loads(out[-1])["compared"] if status != 2 else []
    differ = {(one["subject"], one["over"]): one["difference"] for one in compared if not one["equal"]}
    return status, differ, {(one["subject"], one["over"]) for one in compared}, out[:-1]


def addresses(server):
    return ("--server", f"127.0.0.1:{server.rest_port}", "--grpc", f"127.0.0.1:{server.grpc_port}")


def test_our_own_server_is_equal(root, capsys):
    with running(model_name="kinds", model_base_path=str(root / "kinds")) as server:
        status, differ, compared, shown = checked(capsys, *addresses(server), "--export", root / "kinds")
    assert differ == {}
    assert status == 0
    names = ("serving_default", "texts", "scalar", "lookup", "flags", "classify", "regress", "fails")
    assert {(name, over) for name in names for over in ("REST", "gRPC")} <= compared
    assert {("classify (Classify)", "REST"), ("regress (Regress)", "gRPC"), ("status", "gRPC")} <= compared
    assert ("texts", "REST rows") in compared
    assert ("scalar", "REST rows") not in compared  # it has no rows
    assert shown[-1] == f"kinds, version 3: {len(compared)} compared, 0 differ"


def test_pictures_are_drawn_or_given(root, capsys, tmp_path):
    (tmp_path / "light.png").write_bytes(encoded(230))
    with running(model_name="pictures", model_base_path=str(root / "pictures")) as server:
        words = (*addresses(server), "--export", root / "pictures" / "1")
        status, differ, compared, _ = checked(capsys, *words)
        assert (status, differ) == (0, {})
        assert {("saliency", "REST"), ("classify (Classify)", "gRPC")} <= compared
        assert checked(capsys, *words, tmp_path / "light.png")[:2] == (0, {})
        assert checked(capsys, *words, *["x.png"] * 9)[0] == 2


def test_another_models_answers_differ(root, capsys):
    with running(model_name="half", model_base_path=str(root / "half")) as server:
        words = (*addresses(server), "--export", root / "other")
        status, differ, _, shown = checked(capsys, *words)
        assert status == 1
        expected = {("serving_default", over) for over in ("REST", "REST rows", "gRPC")}
        assert set(differ) == expected
        assert set(differ.values()) == {"y: largest difference 0.001"}
        assert "serving_default, gRPC: y: largest difference 0.001" in shown
        assert checked(capsys, *words, "--atol", "0.01")[0] == 0
        status, differ, _, _ = checked(capsys, *words[:-1], root / "kinds", "--model", "half")
        assert status == 1
        assert differ["status", "REST"].startswith("NOT_FOUND: ")


def test_a_server_that_only_resembles(root, capsys):
    with fake_serving() as fake:
        words = ("--server", fake.address, "--export", root / "pictures", "--model", "pets")
        status, differ, _, _ = checked(capsys, *words)
    assert status == 1
    assert {("status", "REST"), ("metadata", "REST"), ("serving_default", "REST")} <= set(differ)
    assert {("body that is no JSON", "REST"), ("unknown verb", "REST")} <= set(differ)
    assert ("unknown model", "REST") not in differ


@pytest.mark.parametrize("words", [("--server", "127.0.0.1:1"), ("--grpc", "127.0.0.1:1")])
def test_no_server_is_a_mistake_not_a_difference(root, capsys, words):
    status = check.main([*words, "--export", str(root / "half"), "--model", "half"])
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1


def test_a_server_must_be_named(root):
    with pytest.raises(SystemExit) as stopped:
        check.main(["--export", str(root)])
    assert stopped.value.code == 2


def test_folders_that_are_no_exports(root, tmp_path):
    with pytest.raises(UserError, match="no export"):
        export_folder.open_export(tmp_path)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"\x0a\xff")
    with pytest.raises(UserError, match="no SavedModel"):
        export_folder.open_export(tmp_path)


def test_the_newest_version_is_the_one_that_the_server_would_load(tmp_path):
    for name in ("9", "0010", "10", "11.tmp", "١٢", "v13"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").write_bytes(b"\x0a\xff")
    with pytest.raises(UserError, match=f"{tmp_path}/10/saved_model.pb: no SavedModel"):
        export_folder.open_export(tmp_path)


def test_what_is_read_of_an_export(root):
    export = export_folder.open_export(root / "kinds")
    assert (export.version, export.features) == (3, {"x": Feature("float32", 1)})
    assert export_folder.open_export(root / "pictures").features == {"image_bytes": Feature("string", 1)}
    assert export.signatures["lookup"].inputs["index"][:2] == ("DT_INT64", (-1,))


def test_requests_are_made_for_every_kind_of_input(root):
    made = {
        case.signature_name: case for case in cases(export_folder.open_export(root / "kinds"), [b"a", b"b"])
    }
    assert "__saved_model_init_op" not in made
    assert made["serving_default"].inputs["b"].dtype == np.int32
    assert made["flags"].inputs["flag"].dtype == np.bool_
    assert made["texts"].inputs["text"].tolist() == [b"a", b"b"]
    assert made["classify"].examples == [{"x": [0.5]}, {"x": [0.5]}]
    assert made["classify"].outputs["scores"].tolist() == [[0.5, 0.5]] * 2
    assert {case.code for case in made.values()} == {Code.OK}


def test_a_refusal_of_tensorflow_is_kept(root):
    (case,) = (
        case
        for case in cases(export_folder.open_export(root / "pictures"), [b"no picture"])
        if case.signature_name == "saliency"
    )
    assert case.outputs is None
    assert case.code == Code.INVALID_ARGUMENT


def test_drawn_pictures_are_always_the_same():
    assert draw_pictures() == draw_pictures()
    assert all(picture.startswith(b"\xff\xd8\xff") for picture in draw_pictures())


@pytest.mark.parametrize(
    ("name", "got", "expected", "text"),
    [
        ("y", [1.0, 2.0], [1.0, 2.0], ""),
        ("y", [1.00005], [1.0], ""),
        ("y", [1.01, 2.0], [1.0, 2.0], "y: largest difference 0.01"),
        ("y", [float("nan")], [float("nan")], ""),
        ("y", [1.0], [[1.0]], "y: shape [1], expected [1, 1]"),
        ("y", [[]], [[]], ""),
        ("y", ["a", "b"], ["a", "c"], 'y: "b", expected "c"'),
        ("y", ["a"], [1.0], "y: 'a', expected 1.0"),
        ("y", True, True, ""),
        ("p_bytes", [b"a"], [b"a"], ""),
        ("p_bytes", [b"a"], [b"b"], "p_bytes: \"b'a'\", expected \"b'b'\""),
        ("p_bytes", [encoded(100)], [encoded(100, compress_level=0)], ""),
        ("p_bytes", [encoded(100)], [encoded(101)], ""),
        ("p_bytes", [encoded(100)], [encoded(110)], "p_bytes: pixels differ by 10 levels"),
    ],
)
def test_when_tensors_are_equal(name, got, expected, text):
    assert difference(name, got, expected, Tolerance(1e-4, 1e-5)) == text


def test_the_command_prints_no_notices_of_tensorflow(root, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    with running(model_name="half", model_base_path=str(root / "half")) as server:
        done = subprocess.run(
            [sys.executable, "-m", "serving.check", *addresses(server), "--export", root / "half"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert "half, version 1: " in done.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_serve_check(monkeypatch, tmp_path):
    """What make would run is a command line that check takes."""
    (tmp_path / "bin").mkdir()
    (tmp_path / ".installed").touch()
    words = ["make", "-n", "-o", str(tmp_path / ".installed"), "serve-check", f"VENV={tmp_path}", "EXPORT=E"]
    done = subprocess.run(
        [*words, "SERVER=h:1", "GRPC="], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    (line,) = (line for line in done.stdout.splitlines() if "serving.check" in line)
    asked = {}
    monkeypatch.setattr(check, "_check", lambda args, different: asked.update(vars(args)) or {})
    assert check.main(line.split()[3:]) == 0
    assert (asked["server"], asked["grpc"], str(asked["export"]), asked["model"]) == (
        "h:1",
        None,
        "E",
        "alexnet",
    )
