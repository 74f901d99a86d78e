"""What stands beside the code: citation, changelog, security, hooks, and the pictures of docs/."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml
from PIL import Image

import alexnet_tf

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())
PICTURES = ROOT / "docs" / "pictures"
LARGEST = 150_000
# Of the Citation File Format's schema, version 1.2.0: what it requires, and what it knows at the top.
CFF_REQUIRED = {"authors", "cff-version", "message", "title"}
CFF_REFERENCE_REQUIRED = {"authors", "title", "type"}
CFF_KEYS = CFF_REQUIRED | {
    "abstract",
    "commit",
    "contact",
    "date-released",
    "doi",
    "identifiers",
    "keywords",
    "license",
    "license-url",
    "preferred-citation",
    "references",
    "repository",
    "repository-artifact",
    "repository-code",
    "type",
    "url",
    "version",
}
CHANGES = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


class TestCitation:
    citation = yaml.safe_load(text("CITATION.cff"))

    def test_its_keys_are_legal(self):
        assert set(self.citation) >= CFF_REQUIRED
        assert set(self.citation) <= CFF_KEYS
        assert self.citation["cff-version"] == "1.2.0"
        assert self.citation["type"] == "software"

    def test_it_is_of_this_version_and_licence(self):
        # A version such as 0.10 without quotes would be a number.
        assert str(self.citation["version"]) == alexnet_tf.__version__
        assert self.citation["license"] == "Apache-2.0"
        assert self.citation["authors"] == [{"name": "The alexnet_tf authors"}]

    def test_it_names_the_paper(self):
        (paper,) = self.citation["references"]
        assert set(paper) >= CFF_REFERENCE_REQUIRED
        assert paper["type"] == "conference-paper"
        assert [author["family-names"] for author in paper["authors"]] == [
            "Krizhevsky",
            "Sutskever",
            "Hinton",
        ]
        assert (paper["year"], paper["volume"]) == (2012, 25)


class TestChangelog:
    changelog = text("CHANGELOG.md")

    def test_what_is_unreleased_comes_first_and_then_this_version(self):
        headings = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", self.changelog, re.MULTILINE)
        assert headings[0] == ("Unreleased", "")
        assert headings[1][0] == alexnet_tf.__version__
        assert all(date for _, date in headings[1:])
        assert len(headings) == len(re.findall(r"^## ", self.changelog, re.MULTILINE))

    def test_changes_are_of_the_usual_kinds(self):
        assert set(re.findall(r"^### (.+)$", self.changelog, re.MULTILINE)) <= CHANGES


def lint_commands() -> list[str]:
    """What `make lint` runs once the environment is there."""
    shown = subprocess.run(
        ["make", "-n", "lint", "VENV=missing"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = re.findall(r"^missing/bin/(python -m (?!pip).+)$", shown.stdout, re.MULTILINE)
    return [line for line in found if "venv" not in line]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_hooks_are_make_lint_and_fetch_nothing():
    config = yaml.safe_load(text(".pre-commit-config.yaml"))
    (repository,) = config["repos"]
    assert repository["repo"] == "local"
    assert [hook["entry"] for hook in repository["hooks"]] == lint_commands()
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
    assert not any(
        hook["pass_filenames"] or "additional_dependencies" in hook for hook in repository["hooks"]
    )


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md"])
def test_flags_of_the_server_that_are_named_exist(name):
    usage = subprocess.run(
        [sys.executable, "-m", "serving.server", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    known = set(re.findall(r"^  --(\w+)=", usage.stdout, re.MULTILINE))
    named = set(re.findall(r"`--([a-z]+_[a-z_]+)", text(name)))
    assert named <= known
    assert named or name != "SECURITY.md"


def test_the_places_that_contributing_names_exist():
    named = set(re.findall(r"`((?:[\w.]+/)+[\w.]*|\w+\.(?:py|md|toml))`", text("CONTRIBUTING.md"))) - {
        "utils.py"
    }
    assert len(named) > 20
    # A place inside the largest package may be named from there.
    roots = (ROOT, ROOT / "alexnet_tf")
    assert [place for place in sorted(named) if not any((root / place).exists() for root in roots)] == []


def test_pictures_are_small_whole_and_said_where_from():
    pictures = [path for path in PICTURES.iterdir() if path.suffix in (".png", ".svg")]
    drawn = {"augmentation.png", "kernels.png", "saliency.png", "report.png", "terminal.svg"}
    assert {path.name for path in pictures} == drawn
    assert {path.name: size for path in pictures if (size := path.stat().st_size) > LARGEST} == {}
    about = (PICTURES / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in pictures if f"| `{path.name}` |" not in about] == []
    for path in pictures:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()


def test_the_terminal_fetches_nothing():
    drawing = (PICTURES / "terminal.svg").read_text(encoding="utf-8")
    ET.fromstring(drawing)
    assert "@font-face" not in drawing
    assert set(re.findall(r"\w+://[^\s\"')]+", drawing)) == {"http://www.w3.org/2000/svg"}
    assert "make&#160;quickstart" in drawing


def test_the_pictures_script_says_how_it_is_used():
    done = subprocess.run(
        [sys.executable, str(PICTURES / "make.py"), "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--run" in done.stdout
    assert "--log" in done.stdout
