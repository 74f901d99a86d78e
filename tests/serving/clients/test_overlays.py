"""`python -m serving.client --overlay`: the pictures that a model draws, as files."""

from __future__ import annotations

import json

import pytest

from serving import client
from serving.clients import pictures as overlay_files
from tests.support.fake_serving import PNG


@pytest.fixture
def run(fake, capsys):
    """Runs the command against a fake server; returns exit status, stdout and stderr."""

    def one(*words):
        status = client.main(["--server", fake.address, *map(str, words)])
        return status, *capsys.readouterr()

    return one


@pytest.fixture
def pictures(tmp_path):
    for name in ("tom.jpg", "rex.jpg", "sub/felix.PNG"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"cat")
    return tmp_path


def test_overlays(run, pictures, tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("overlays")
    target = tmp_path / "out" / "tom.png"
    status, out, _ = run("--overlay", target, pictures / "tom.jpg")
    assert status == 0
    assert out.splitlines()[-1] == f"written: {target}"
    assert target.read_bytes() == PNG
    (pictures / "broken.jpg").write_bytes(b"bad")
    status, out, err = run("--json", "--overlay", tmp_path / "all", pictures)
    assert status == 2
    assert len(err.splitlines()) == 1
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == [
        "felix-overlay.png",
        "rex-overlay.png",
        "tom-overlay.png",
    ]
    assert len(json.loads(out.splitlines()[-1])["overlays"]) == 3
    assert "error: " in run("--overlay", target, pictures / "tom.jpg", pictures / "rex.jpg")[2]


def test_overlays_of_one_name():
    taken = set()
    names = [overlay_files.overlay_name(name, taken) for name in ("a/x.jpg", "b/x.png", "-", "c/x.jpg")]
    assert names == ["x-overlay.png", "x-overlay-2.png", "stdin-overlay.png", "x-overlay-3.png"]
