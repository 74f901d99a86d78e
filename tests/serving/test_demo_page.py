"""The demo page in a real browser, on a real server, with a tiny model."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.browser import browser, contrast, luminance
from tests.support.picture_model import brightness, encoded, running
from tests.support.saved_models import half_plus

DEMO = Path(__file__).resolve().parents[2] / "serving" / "demo"
CONFIG = """
model_config_list {{
  config {{ name: "halves" base_path: "{0}/halves" model_platform: "tensorflow" }}
  config {{ name: "pictures" base_path: "{0}/pictures" model_platform: "tensorflow" }}
  config {{ name: "plain" base_path: "{0}/plain" model_platform: "tensorflow" }}
}}
"""
ANSWERED = "document.querySelectorAll('#names li').length && !document.querySelector('#names.waiting')"
UPSIDE = 0x0112  # EXIF's orientation


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    half_plus(root / "halves")
    brightness(root / "pictures")
    brightness(root / "plain", with_saliency=False)
    (root / "models.config").write_text(CONFIG.format(root))
    with running(model_config_file=str(root / "models.config")) as one:
        yield one


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture
def page(server, tab):
    """The page, freshly opened, with the model that has everything."""
    tab.messages.clear()
    tab.size(1200, 800)
    tab.open(f"http://127.0.0.1:{server.rest_port}/")
    tab.wait("!document.getElementById('model').disabled")
    pick(tab, "pictures")
    return tab


@pytest.fixture
def light(tmp_path):
    path = tmp_path / "it's light.png"
    path.write_bytes(encoded(204))
    return path


def pick(page, model):
    page.do(f"model.value = '{model}'; model.dispatchEvent(new Event('change'))")


def names(page):
    return [
        row.splitlines()
        for row in page.do("[...document.querySelectorAll('#names li')].map(r => r.innerText)")
    ]


def test_a_picture_gets_its_names(page, light):
    page.choose("#file", light)
    page.wait(ANSWERED)
    assert names(page) == [["light", "80.0 %"], ["dark", "20.0 %"]]
    widths = page.do("[...document.querySelectorAll('.bar')].map(b => b.style.width)")
    assert [round(float(width.rstrip("%")), 3) for width in widths] == [80.0, 20.0]
    assert re.fullmatch(r"\d+ ms to the server and back", page.text("#timing"))
    assert page.text("#picture-facts") == "it's light.png · 1 kB · 12\u00a0×\u00a09"
    assert re.fullmatch(r"light, 80.0 %. Answered in \d+ milliseconds.", page.do("spoken.textContent"))
    assert not page.visible("#error")
    assert page.messages == []


def test_saliency_where_the_model_has_it(page, light):
    page.choose("#file", light)
    page.wait("overlay.complete && overlay.naturalWidth")
    assert page.do("[overlay.naturalWidth, overlay.naturalHeight]") == [8, 8]
    assert page.visible("#saliency")
    pick(page, "plain")
    page.wait(ANSWERED)
    assert page.text("#names li .name") == "light"
    assert not page.visible("#saliency")


def test_a_model_without_pictures_says_so(page, light):
    pick(page, "halves")
    page.choose("#file", light)
    page.wait("!error.hidden")
    assert "Model halves has no signature that takes a picture" in page.text("#error")
    assert names(page) == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_command_asks_for_the_same(page, light):
    page.choose("#file", light)
    page.wait(ANSWERED)
    page.do("curl.open = true")
    command = page.text("#command")
    assert "'it'\\''s light.png'" in command
    for shell in ("sh", "bash"):
        done = subprocess.run(
            [shell, "-c", command], cwd=light.parent, capture_output=True, text=True, timeout=30
        )
        (answer,) = json.loads(done.stdout)["predictions"]
        assert answer["classes"] == ["light", "dark"]
        assert answer["scores"] == pytest.approx([0.8, 0.2], abs=1e-6)
    page.do("copy.click()")
    page.wait("copied.textContent")
    assert page.text("#copied") in ("Copied", "Selected: copy it with the keyboard")


@pytest.mark.parametrize(
    ("event", "holder"),
    [("DragEvent('drop'", "dataTransfer"), ("ClipboardEvent('paste'", "clipboardData")],
    ids=["drop", "paste"],
)
def test_other_ways_in(page, light, event, holder):
    page.give(light, event, holder)
    page.wait(ANSWERED)
    assert names(page)[0] == ["light", "80.0 %"]


def test_the_camera(page):
    page.do("camera.click()")
    page.wait("viewfinder.open && video.videoWidth")
    assert page.do("document.activeElement.id") == "shoot"
    page.do("shoot.click()")
    page.wait(ANSWERED)
    assert page.text("#picture-facts").startswith("photograph.jpg · ")
    page.wait("!viewfinder.open && video.srcObject.getTracks().every(t => t.readyState === 'ended')")


def test_escape_ends_the_camera(page):
    page.do("camera.focus(); camera.click()")
    page.wait("viewfinder.open && video.videoWidth")
    page.press("Escape")
    page.wait("!viewfinder.open && video.srcObject.getTracks().every(t => t.readyState === 'ended')")
    assert names(page) == []  # nothing was photographed, and nothing asked
    assert page.do("document.activeElement.id") == "camera"


@pytest.mark.parametrize("still", [True, False])
def test_what_the_model_cannot_read_is_converted(page, tmp_path, still):
    moving = {} if still else {"save_all": True, "append_images": [Image.new("RGB", (12, 9))]}
    (tmp_path / "a.webp").write_bytes(encoded(204, "WEBP", lossless=True, **moving))
    page.choose("#file", tmp_path / "a.webp")
    page.wait(ANSWERED)
    assert names(page)[0] == ["light", "80.0 %"]
    assert ("turned it into a JPEG first" in page.text("#picture-facts")) is not still


def test_a_photograph_on_its_side_is_turned(page, tmp_path):
    exif = Image.Exif()
    exif[UPSIDE] = 6
    pixels = np.zeros((20, 40, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", exif=exif)
    (tmp_path / "side.jpg").write_bytes(stream.getvalue())
    page.choose("#file", tmp_path / "side.jpg")
    page.wait(ANSWERED)
    assert "20\u00a0×\u00a040. The browser turned it upright first" in page.text("#picture-facts")
    assert names(page)[0] == ["dark", "100.0 %"]


def test_files_that_are_no_pictures(page, tmp_path, light):
    (tmp_path / "notes.txt").write_text("no picture")
    page.choose("#file", tmp_path / "notes.txt")
    page.wait("!error.hidden")
    assert page.text("#error") == "notes.txt is no picture that this browser can read."
    (tmp_path / "cut.png").write_bytes(encoded(204)[:40])
    page.choose("#file", tmp_path / "cut.png")
    page.wait("!error.hidden && error.textContent.indexOf('notes') < 0")
    assert page.text("#error")  # the server's own words
    page.choose("#file", light)
    page.wait(ANSWERED)
    assert not page.visible("#error")


def test_a_server_that_is_gone(page, light):
    page.choose("#file", light)
    page.wait(ANSWERED)
    page.do("window.fetch = () => Promise.reject(new TypeError('Failed to fetch'))")
    pick(page, "plain")
    page.wait("!error.hidden")
    assert page.text("#error") == "The server does not answer."
    assert names(page) == []


def test_nothing_comes_from_elsewhere_and_nothing_is_inline(page, light):
    page.choose("#file", light)
    page.wait("overlay.complete && overlay.naturalWidth")
    loaded = page.do("performance.getEntriesByType('resource').map(e => e.name)")
    origin = page.do("location.origin")
    assert {"/style.css", "/page.js", "/pictures.js", "/server.js", "/models"} <= {
        name.removeprefix(origin) for name in loaded
    }
    assert [name for name in loaded if not name.startswith((origin, "blob:", "data:"))] == []
    for path in DEMO.iterdir():
        text = path.read_text(encoding="utf-8")
        addresses = set(re.findall(r"https?://[^\s\"']+", text)) - {"http://www.w3.org/2000/svg"}
        assert addresses == set(), path
    html = (DEMO / "index.html").read_text(encoding="utf-8")
    policy = page.do("fetch('/').then(answer => answer.headers.get('content-security-policy'))")
    assert policy == "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'"
    assert re.findall(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", html) == []


def test_it_works_with_the_keyboard_alone(page):
    page.do("document.activeElement.blur()")
    reached = []
    for _ in range(3):
        page.press("Tab")
        reached.append(page.do("document.activeElement.id"))
        assert page.do("document.activeElement.matches(':focus-visible')")
        assert page.do("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert reached == ["model", "choose", "camera"]
    page.do("window.asked = 0; file.click = () => { window.asked += 1; }; choose.focus()")
    page.press("Enter", text="\r")
    page.press(" ", code="Space", text=" ")
    assert page.do("asked") == 2


def test_everything_has_a_name_for_screen_readers(page, light):
    page.choose("#file", light)
    page.wait("overlay.complete && overlay.naturalWidth")
    page.do("curl.open = true")
    nodes = page.command("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "combobox", "textbox", "image", "region", "heading", "figure"}
    found = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node.get("ignored") and node["role"]["value"] in roles
    ]
    assert ("combobox", "Model") in found
    assert ("image", "The chosen picture: it's light.png") in found
    assert [role for role, name in found if not name and role != "figure"] == []
    assert page.do("[spoken, error].map(one => one.getAttribute('role'))") == ["status", "alert"]


@pytest.mark.parametrize("width", [320, 390, 768])
def test_it_fits_a_phone(page, light, width):
    page.size(width, 800, phone=True)
    page.choose("#file", light)
    page.wait("overlay.complete && overlay.naturalWidth")
    page.do("curl.open = true")
    assert page.do("document.documentElement.scrollWidth") <= width
    small = page.do(
        "[...document.querySelectorAll('button')].filter(b => b.offsetHeight && b.offsetHeight < 40).length"
    )
    assert small == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(page, light, scheme):
    page.scheme(scheme)
    page.choose("#file", light)
    page.wait(ANSWERED)
    paper = page.do("getComputedStyle(document.body).backgroundColor")
    assert (luminance(paper) > 0.5) == (scheme == "light")
    for selector in ("h1", ".name", ".share", "#timing"):
        ink = page.do(f"getComputedStyle(document.querySelector('{selector}')).color")
        assert contrast(ink, paper) >= 4.5, selector


def test_a_token_is_asked_for_when_the_server_wants_one(tab, tmp_path, light):
    brightness(tmp_path / "pictures")
    (tmp_path / "token").write_text("s3cret\n")
    flags = {"model_name": "pictures", "model_base_path": str(tmp_path / "pictures")}
    with running(**flags, api_token_file=str(tmp_path / "token")) as server:
        tab.open(f"http://127.0.0.1:{server.rest_port}/")
        tab.wait("!document.getElementById('token-form').hidden")
        assert tab.do("document.activeElement.id") == "token"
        tab.do("token.value = 'wrong'; document.querySelector('#token-form button').click()")
        tab.wait("!error.hidden")
        assert tab.text("#error") == "The server does not accept this API token."
        tab.do("token.value = 's3cret'; document.querySelector('#token-form button').click()")
        tab.wait("!document.getElementById('model').disabled")
        assert not tab.visible("#token-form")
        tab.choose("#file", light)
        tab.wait(ANSWERED)
        assert names(tab)[0] == ["light", "80.0 %"]
        assert '-H "Authorization: Bearer $TOKEN"' in tab.do("document.getElementById('command').textContent")
        assert "s3cret" not in tab.do("document.body.innerText")
