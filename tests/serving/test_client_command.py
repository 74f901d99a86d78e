"""`python -m serving.client`: what users type, see and get as exit status."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serving import client, command, security
from serving.clients import console as client_report

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fake(fake, monkeypatch):
    monkeypatch.delenv(security.TOKEN_VARIABLE, raising=False)
    return fake


@pytest.fixture
def asked(fake, capsys):
    """Runs the command against the fake; returns exit status, stdout and stderr."""

    def run(*words):
        status = client.main(["--server", fake.address, "--retries", "1", *map(str, words)])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def pictures(tmp_path):
    for name, content in {"tom.jpg": b"cat", "rex.jpg": b"dog", "sub/felix.PNG": b"cat"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_names_with_bars(asked, fake, pictures):
    status, out, err = asked(pictures / "tom.jpg", pictures / "rex.jpg")
    assert (status, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert [line[:3] for line in lines] == [
        [str(pictures / "tom.jpg")],
        ["cat", "75.00", "%"],
        ["dog", "25.00", "%"],
        [str(pictures / "rex.jpg")],
        ["dog", "75.00", "%"],
        ["cat", "25.00", "%"],
    ]
    assert len(lines[1][3]) == 3 * len(lines[2][3])
    assert fake.paths() == ["GET /models", "POST /v1/models/pets:predict"]  # one batch


def test_json_is_the_last_line(asked, fake, pictures):
    status, out, _ = asked("--json", "--model", "pets", pictures / "tom.jpg")
    figures = json.loads(out.splitlines()[-1])
    assert status == 0
    assert figures["pictures"] == [
        {"file": str(pictures / "tom.jpg"), "classes": ["cat", "dog"], "scores": [0.75, 0.25]}
    ]
    assert (figures["server"], figures["model"], figures["failed"]) == (fake.address, "pets", [])
    assert figures["seconds"] > 0


def test_a_folder_stands_for_its_pictures(asked, pictures):
    status, out, _ = asked(pictures)
    assert status == 0
    assert [line for line in out.splitlines() if line.startswith("/")] == [
        str(pictures / name) for name in ("rex.jpg", "sub/felix.PNG", "tom.jpg")
    ]


def test_standard_input(asked, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"cat")))
    status, out, _ = asked("-")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == ["-", "cat", "dog"]


def test_batches_and_concurrency(asked, fake, pictures):
    for number in range(7):
        (pictures / f"{number}.jpg").write_bytes(b"cat" if number % 2 else b"dog")
    names = [pictures / f"{n}.jpg" for n in range(7)]
    status, out, _ = asked("--json", "--batch-size", 2, "--concurrency", 3, *names)
    assert status == 0
    sizes = [
        len(json.loads(body)["instances"]) for method, _, _, body, _ in fake.requests if method == "POST"
    ]
    assert sorted(sizes) == [1, 2, 2, 2]
    found = json.loads(out.splitlines()[-1])["pictures"]
    assert [(one["file"], one["classes"][0]) for one in found] == [
        (str(name), "cat" if number % 2 else "dog") for number, name in enumerate(names)
    ]


def test_only_the_broken_picture_goes_without_an_answer(asked, pictures):
    (pictures / "broken.jpg").write_bytes(b"bad")
    (pictures / "empty.jpg").write_bytes(b"")
    names = ["tom.jpg", "broken.jpg", "none.jpg", "rex.jpg", "empty.jpg", "sub/felix.PNG"]
    status, out, err = asked("--json", *(pictures / name for name in names))
    assert status == 2
    assert err.splitlines() == [
        f"error: {pictures}/broken.jpg: Unknown image file format. One of JPEG, PNG, GIF, BMP required.",
        f"error: {pictures}/none.jpg: No such file or directory",
        f"error: {pictures}/empty.jpg: the file is empty",
    ]
    figures = json.loads(out.splitlines()[-1])
    assert [Path(one["file"]).name for one in figures["pictures"]] == ["tom.jpg", "rex.jpg", "felix.PNG"]
    assert [Path(one["file"]).name for one in figures["failed"]] == ["broken.jpg", "none.jpg", "empty.jpg"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--signature", "x"],
            "model 'pets' has no signature 'x'; those that may: probabilities, saliency, ",
        ),
        (
            ["--signature", "pixels"],
            "signature 'pixels' of model 'pets' takes no encoded pictures; those that ",
        ),
        (["--model", "dogs"], "Servable not found for request: Latest(dogs)"),
        (["--batch-size", "0"], "--batch-size must be positive; received 0"),
        (["--deadline", "-1"], "--deadline must be positive; received -1.0"),
        (["--version", "1", "--label", "a"], "a version and a label exclude each other"),
        (["--ca-file", "/nowhere/ca.pem"], "/nowhere/ca.pem: No such file or directory"),
        (["--api-token-file", "/nowhere/token"], "/nowhere/token: No such file or directory"),
        (["-", "-"], "standard input can be read only once"),
    ],
)
def test_mistakes_are_one_line(asked, pictures, words, line):
    status, out, err = asked(*words, pictures / "tom.jpg", pictures / "rex.jpg")
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {line}")
    assert len(err.splitlines()) == 1


def test_an_empty_folder(asked, tmp_path):
    assert (
        asked(tmp_path)[2]
        == f"error: {tmp_path}: a folder without pictures (.jpg, .jpeg, .png, .gif, .bmp, .webp)\n"
    )


@pytest.mark.parametrize("words", [[], ["--status", "--metadata"], ["--status", "a.jpg"], ["--overlay", "o"]])
def test_what_is_asked_for_must_be_one_thing(asked, words):
    with pytest.raises(SystemExit) as stopped:
        asked(*words)
    assert stopped.value.code == 2


def test_several_models_ask_for_a_choice(asked, fake, pictures):
    several = {"models": [{"name": "a"}, {"name": "b"}]}
    fake.script = [(200, several)]
    assert "error: the server has several models; name one with --model: a, b\n" in asked(
        pictures / "tom.jpg"
    )


def test_a_server_that_lists_no_models(asked, fake, pictures):
    fake.script = [(404, b"<html>")]
    status, _, err = asked(pictures / "tom.jpg")
    assert (status, err) == (
        2,
        "error: Servable not found for request: Latest(default) (name the model with --model)\n",
    )


def test_a_token_is_asked_for(asked, fake, pictures, monkeypatch):
    fake.script = [(401, {"error": "no token"})]
    assert asked(pictures)[2] == "error: no token (give the API token with --api-token-file)\n"
    (pictures / "token").write_text("from-file\n")
    assert asked("--api-token-file", pictures / "token", "--status")[0] == 0
    assert fake.requests[-1][2]["Authorization"] == "Bearer from-file"
    monkeypatch.setenv(security.TOKEN_VARIABLE, "from-environment")
    assert asked("--status")[0] == 0
    assert fake.requests[-1][2]["Authorization"] == "Bearer from-environment"


def test_the_deadline_for_everything(asked, fake, pictures):
    fake.script = [lambda handler: time.sleep(8) or handler.send(200, {})] * 3
    began = time.monotonic()
    status, _, err = asked("--model", "pets", "--deadline", 0.4, pictures)
    assert time.monotonic() - began < 7.5  # the server would answer after eight
    assert (status, err) == (2, f"error: {fake.address}: no answer in time\n")


def test_status_and_metadata(asked):
    status, out, _ = asked("--status", "--json")
    assert status == 0
    assert out.splitlines()[1].split() == ["7", "AVAILABLE"]
    assert json.loads(out.splitlines()[-1])["versions"] == [
        {"version": 7, "state": "AVAILABLE", "code": "OK", "message": ""}
    ]
    status, out, _ = asked("--metadata")
    assert out.splitlines()[0] == "pets, version 7"
    (line,) = [line for line in out.splitlines() if line.startswith("pixels")]
    assert re.split(r" {2,}", line.strip()) == [
        "pixels",
        "pixels float [N, 2, 2, 3]",
        "logits float [N, 2]",
        "predict",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5"),
        ("word", "word"),
        (b"12345", "5 bytes"),
        ([1, 2], "[2] 1, 2"),
        ([0.1] * 6, "[6] 0.1, 0.1, 0.1, 0.1, 0.1, ..."),
        ([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "[3, 2] 1, 2, ..."),
        ([], "[0] "),
    ],
)
def test_other_outputs_in_a_line(value, text):
    assert client_report.summary(value) == text


def test_labels_are_no_markup(asked, fake, pictures):
    answer = {"predictions": [{"classes": ["[red]x[/red]", "\udcff"], "scores": [0.9, 0.1]}]}
    fake.script = [(200, json.dumps(answer).encode())]
    _, out, _ = asked("--model", "pets", pictures / "tom.jpg")
    assert "[red]x[/red]" in out
    assert "\\xff" in out


def test_ctrl_c(fake, pictures):
    fake.script = [lambda handler: time.sleep(20)]
    words = [
        sys.executable,
        "-m",
        "serving.client",
        "--server",
        fake.address,
        "--model",
        "pets",
        str(pictures),
    ]
    # A suite that a shell has put into the background has its children ignore Ctrl-C.
    running = subprocess.Popen(
        words,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while not fake.requests and running.poll() is None:
            time.sleep(0.05)
        began = time.monotonic()
        running.send_signal(2)
        out, err = running.communicate(timeout=20)
    finally:
        running.kill()
    assert (running.returncode, out, err) == (130, "", "interrupted\n")
    assert time.monotonic() - began < 15  # the server would answer after 20


def test_help_says_how_to_give_the_token():
    done = subprocess.run(
        [sys.executable, "-m", "serving.client", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0
    assert "--api-token-file" in done.stdout


def test_a_reader_that_has_seen_enough_is_no_error():
    script = (
        "import sys; from serving import command; "
        "sys.exit(command.run(lambda: {'lines': [print('x' * 99) for _ in range(9999)]}))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == command.EXIT_BROKEN_PIPE
