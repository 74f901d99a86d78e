"""The report in a real browser: offline, by day and night, on a phone and on paper."""

from __future__ import annotations

import re

import pytest

from alexnet_tf import checkpoint
from alexnet_tf.visualize import __main__ as command
from alexnet_tf.visualize import network
from tests.support import report_runs
from tests.support.browser import browser, contrast, luminance

SECTIONS = [
    "Recipe",
    "Training",
    "Errors",
    "Confusion",
    "Worst mistakes",
    "First kernels",
    "Towers",
    "Explanations",
    "Neighbours",
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """report.html of a run with everything."""
    root = tmp_path_factory.mktemp("report")
    run, trained = report_runs.create(root), report_runs.network()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "load_with_step", lambda run: (checkpoint.Trained(trained, 40), ""))
        words = ["report", "--workdir", str(run.workdir), "--out", str(root / "out")]
        assert command.main(words) == 0
    return root / "out" / "report.html"


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture
def page(report, tab):
    tab.messages.clear()
    tab.command("Emulation.setEmulatedMedia", media="", features=[])
    tab.size(1200, 800)
    tab.open(report.as_uri())
    return tab


def test_it_holds_every_section_and_all_of_its_pictures(page):
    assert page.do("[...document.querySelectorAll('h2')].map(h => h.textContent)") == SECTIONS
    assert page.text("h1") == 'a <run> & "more"'
    pictures = page.do("[...document.images].map(i => i.complete && i.naturalWidth > 0 && i.alt.length > 0)")
    assert all(pictures)
    # Kernels of two towers; six explained pictures in four forms, and beside each six neighbours.
    assert page.do("document.querySelectorAll('.kernels').length") == 2
    assert page.do("document.querySelectorAll('.explained img').length") == 24
    assert page.do("document.querySelectorAll('.near img').length") == 42
    assert page.do("document.querySelectorAll('.mistakes img').length") == 6
    assert page.do("document.querySelectorAll('.charts svg').length") == 8


def test_contents_lead_to_the_sections(page):
    links = page.do("[...document.querySelectorAll('nav a')].map(a => [a.textContent, a.hash])")
    assert [name for name, _ in links] == SECTIONS
    for name, place in links:
        assert page.do(f"document.querySelector('{place} h2').textContent") == name


def test_nothing_is_loaded_and_nothing_runs(page, report):
    assert (
        page.do("performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length")
        == 0
    )
    assert page.do("document.scripts.length") == 0
    assert "broken" not in page.do("document.title")
    assert page.messages == []
    html = report.read_text(encoding="utf-8")
    assert re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]*", html) == []
    assert re.findall(r"https?://|url\(|@import", html) == []
    assert len(html) < 6e6


def test_the_policy_would_stop_what_slipped_in(page):
    page.do(
        "{ const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        " const i = new Image(); i.src = 'file:///no/picture.png'; document.body.append(s, i); }"
    )
    assert page.do("window.ran === undefined")
    page.do("new Promise(done => setTimeout(done, 50))")
    assert sum("Content Security Policy" in message for message in page.messages) == 2


def test_names_are_shown_as_they_are(page):
    shown = page.do("document.body.textContent")
    for name in report_runs.READABLE:
        assert name in shown


def test_bars_are_as_long_as_probabilities(page):
    rows = page.do(
        "[...document.querySelectorAll('.bars li')].map(li => [li.querySelector('.share').textContent,"
        " li.querySelector('.bar').getBoundingClientRect().width / li.getBoundingClientRect().width])"
    )
    assert len(rows) == 30
    for share, width in rows:
        assert width == pytest.approx(float(share.split()[0]) / 100, abs=2e-3)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(page, scheme):
    page.scheme(scheme)
    paper = page.do("getComputedStyle(document.body).backgroundColor")
    assert (luminance(paper) > 0.5) == (scheme == "light")
    for selector in ("h1", ".lead", "dt", "figcaption", "thead th", "td", "summary", ".mistakes .wrong"):
        ink = page.do(f"getComputedStyle(document.querySelector('{selector}')).color")
        assert contrast(ink, paper) >= 4.5, selector
    words = page.do("[...document.querySelectorAll('svg text')].map(t => getComputedStyle(t).fill)")
    assert min(contrast(ink, paper) for ink in set(words)) >= 4.5


@pytest.mark.parametrize("width", [320, 390, 768])
def test_it_fits_a_phone(page, width):
    page.size(width, 800, phone=True)
    assert page.do("document.documentElement.scrollWidth") <= width
    # What is wider than the page moves within a box that the keyboard reaches.
    boxes = page.do("[...document.querySelectorAll('.scroll')].map(b => [b.tabIndex, b.ariaLabel])")
    assert all(index == 0 and name for index, name in boxes)
    assert (
        page.do("Math.min(...[...document.querySelectorAll('.explained img')].map(i => i.offsetWidth))") > 60
    )


def test_it_prints_dark_on_white_whatever_the_screen_is(page):
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.command("Emulation.setEmulatedMedia", media="print", features=features)
    assert luminance(page.do("getComputedStyle(document.body).color")) < 0.1
    assert not page.visible("nav")
    printed = page.pdf()
    assert printed.startswith(b"%PDF")
    assert 4 <= len(re.findall(rb"/Type /Page\b", printed)) <= 14
    assert b"/MediaBox [0 0 594.9" in printed or b"/MediaBox [0 0 595" in printed  # A4


def test_it_says_in_words_what_charts_show(page):
    nodes = page.command("Accessibility.getFullAXTree")["nodes"]
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node.get("ignored") and node["role"]["value"] in ("image", "img", "region", "table", "heading")
    ]
    assert [role for role, name in named if not name and role != "table"] == []
    assert any(name.startswith("loss over 4 evaluations: training from 1.87 to 0.4675") for _, name in named)
