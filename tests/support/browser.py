"""Headless Chromium for tests, driven through its DevTools protocol over a websocket of our own."""

import base64
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--use-fake-ui-for-media-stream",  # a moving pattern as camera, without a question
    "--use-fake-device-for-media-stream",
    "--remote-debugging-port=0",
)
PATIENCE = 20.0
START_PATIENCE = 60.0  # beside a busy test run


class WebSocket:
    """The client's half of RFC 6455, as far as DevTools need it: text messages, whole or in pieces."""

    def __init__(self, url):
        host, _, path = url.removeprefix("ws://").partition("/")
        name, _, port = host.partition(":")
        self.socket = socket.create_connection((name, int(port)), timeout=PATIENCE)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = (
            f"GET /{path} HTTP/1.1",
            f"Host: {host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
        )
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self.reader = self.socket.makefile("rb")
        status = self.reader.readline()
        assert b" 101 " in status, status
        while self.reader.readline().strip():
            pass

    def send(self, text):
        data, mask = text.encode(), os.urandom(4)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
        if len(data) < 126:
            length = bytes([0x80 | len(data)])
        elif len(data) < 2**16:
            length = bytes([0x80 | 126]) + len(data).to_bytes(2, "big")
        else:
            length = bytes([0x80 | 127]) + len(data).to_bytes(8, "big")
        self.socket.sendall(b"\x81" + length + mask + masked)

    def receive(self):
        text = b""
        while True:
            first, second = self.reader.read(2)
            length = second & 0x7F
            if length >= 126:
                length = int.from_bytes(self.reader.read(2 if length == 126 else 8), "big")
            data = self.reader.read(length)
            if first & 0x0F < 3:  # text and its continuations; pings and the like are left alone
                text += data
                if first & 0x80:
                    return text.decode()

    def close(self):
        self.reader.close()
        self.socket.close()


class Page:
    """One tab.

    Attributes:
      messages: what the page and the browser wrote to the console.
    """

    def __init__(self, url):
        self.socket = WebSocket(url)
        self.number = 0
        self.messages = []
        for domain in ("Page", "Runtime", "Log", "DOM", "Accessibility"):
            self.command(f"{domain}.enable")

    def command(self, method, **params):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            said = json.loads(self.socket.receive())
            if said.get("method") == "Log.entryAdded":
                self.messages.append(said["params"]["entry"]["text"])
            elif said.get("method") == "Runtime.consoleAPICalled":
                self.messages.append(str([one.get("value") for one in said["params"]["args"]]))
            elif said.get("method") == "Runtime.exceptionThrown":
                self.messages.append(said["params"]["exceptionDetails"]["text"])
            if said.get("id") == self.number:
                assert "error" not in said, said["error"]
                return said["result"]

    def do(self, script):
        """The value of an expression; promises are waited for."""
        said = self.command(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def open(self, url):
        self.command("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def wait(self, condition):
        """Waits until an expression is true."""
        ends = time.monotonic() + PATIENCE
        while not self.do(f"Boolean({condition})"):
            shown = self.do("document.body?.innerText")  # there is no body yet while a page begins to load
            assert time.monotonic() < ends, f"{condition}\n{shown}\n{self.messages}"
            time.sleep(0.03)

    def text(self, selector):
        return self.do(f"document.querySelector({json.dumps(selector)}).innerText")

    def visible(self, selector):
        return self.do(f"document.querySelector({json.dumps(selector)}).checkVisibility()")

    def choose(self, selector, path):
        """Chooses a file, as the user does in the browser's own dialog."""
        root = self.command("DOM.getDocument")["root"]["nodeId"]
        node = self.command("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.command("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def give(self, path, event, holder):
        """Drops or pastes a file.

        Args:
          event: start of the event's constructor: `DragEvent('drop'`.
          holder: which of its fields holds the files.
        """
        content = base64.b64encode(path.read_bytes()).decode()
        self.do(
            f"""{{
            const bytes = Uint8Array.from(atob("{content}"), (c) => c.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], {json.dumps(path.name)}));
            document.body.dispatchEvent(new {event}, {{bubbles: true, cancelable: true, {holder}: data}}));
            }}"""
        )

    def press(self, key, code=None, text=None):
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if text and kind == "keyDown" else {}
            virtual = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}[key]
            self.command(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=code or key,
                windowsVirtualKeyCode=virtual,
                **more,
            )

    def size(self, width, height, phone=False):
        shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.command("Emulation.setDeviceMetricsOverride", **shape)

    def scheme(self, name):
        feature = {"name": "prefers-color-scheme", "value": name}
        self.command("Emulation.setEmulatedMedia", features=[feature])

    def pdf(self):
        """The page as it is printed, in the size that its style asks for."""
        said = self.command("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        return base64.b64decode(said["data"])

    def screenshot(self, path):
        said = self.command("Page.captureScreenshot", captureBeyondViewport=True)
        Path(path).write_bytes(base64.b64decode(said["data"]))


def luminance(colour):
    """Relative luminance of `rgb(R, G, B)`, after WCAG 2."""
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


def contrast(one, other):
    """WCAG's ratio of two colours: 4.5 is what text needs."""
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


@contextlib.contextmanager
def browser(folder):
    """A new Chromium with one empty page; the test is skipped where there is none.

    Args:
      folder: holds the browser's profile.
    """
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    words = [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
    if os.geteuid() == 0:
        words.insert(1, "--no-sandbox")
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        page = Page(_page_address(Path(folder) / "DevToolsActivePort", running))
        yield page
        page.socket.close()
    finally:
        running.terminate()
        running.wait(PATIENCE)


def _page_address(port_file, running):
    ends = time.monotonic() + START_PATIENCE
    while time.monotonic() < ends and running.poll() is None:
        with contextlib.suppress(OSError, ValueError, IndexError):
            port = int(port_file.read_text().splitlines()[0])
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE) as answer:
                return next(one for one in json.load(answer) if one["type"] == "page")["webSocketDebuggerUrl"]
        time.sleep(0.05)
    return pytest.skip("the browser does not start here")
