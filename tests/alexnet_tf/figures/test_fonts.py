"""Names in other scripts: a font that has them where there is one, else one line that says so."""

from __future__ import annotations

import warnings

import pytest
from matplotlib.figure import Figure

from alexnet_tf.figures import fonts, style

# A digit that DejaVu Sans lacks and a font that comes with matplotlib has, and a character that none has.
ELSEWHERE, NOWHERE = "\N{MATHEMATICAL MONOSPACE DIGIT NINE}", "\U0010fffd"


@pytest.fixture(autouse=True)
def _untold():
    fonts._told.clear()
    yield
    fonts._told.clear()


def figure_of(name):
    """A figure that shows a name as text, as a title and at a tick."""
    figure = Figure(figsize=(3, 2))
    axes = figure.add_subplot()
    axes.set_title(f"about {name}")
    axes.set_yticks([0, 1], [name, "b"])
    axes.text(0, 0, name)
    return figure


def test_another_font_is_taken_for_what_the_own_one_lacks(tmp_path, capsys):
    plain = fonts._covered("DejaVu Sans")
    if ELSEWHERE in plain or not plain:
        pytest.skip("the figures' font has it here")
    figure = figure_of(f"a{ELSEWHERE}")
    fonts.adapt(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(tmp_path / "f.png")
        figure.savefig(tmp_path / "f.svg")
    assert capsys.readouterr().err == ""


def test_what_no_font_has_is_said_once(tmp_path, capsys):
    for number in range(2):
        style.save(figure_of(NOWHERE), tmp_path / f"{number}.png")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: figures show boxes for {NOWHERE}, which no font of this machine has")


def test_the_package_that_would_help_is_named():
    assert {one: fonts._package(one).split(" (")[1] for one in "狐여あ🦊"} == {
        "狐": "fonts-noto-cjk)",
        "여": "fonts-noto-cjk)",
        "あ": "fonts-noto-cjk)",
        "🦊": "fonts-noto-core, fonts-symbola)",
    }


def test_usual_names_need_no_search(monkeypatch):
    monkeypatch.setattr(fonts, "_fallbacks", lambda _: pytest.fail("fonts are searched"))
    for name in ("cat", "Müller", "Mu\u0308ller", "кот", "a\u200db\ufe0f"):
        fonts.adapt(figure_of(name))


def test_bytes_that_are_no_text_are_escaped(tmp_path):
    figure = Figure()
    text = figure.text(0, 0, "caf\udce9")
    style.save(figure, tmp_path / "f.png")
    assert text.get_text() == "caf\\xe9"
