"""Threads that look again and again, and logs that they do not flood."""

from __future__ import annotations

import logging
import threading

from serving.lifecycle import threads as notices
from serving.lifecycle.threads import Periodic
from tests.support.fake_servables import SECONDS


def test_periodic_goes_on_after_a_failure(caplog):
    calls, enough = [], threading.Event()

    def work():
        calls.append(len(calls))
        if len(calls) == 3:
            enough.set()
        raise ValueError("odd")

    periodic = Periodic("test", work, 0.001)
    periodic.start()
    assert enough.wait(SECONDS)
    periodic.stop()
    assert "ValueError: odd" in caplog.text


def test_periodic_without_a_period_waits_to_be_woken():
    called = threading.Event()
    periodic = Periodic("test", called.set, 0)
    periodic.start()
    assert not called.wait(0.05)
    periodic.wake()
    assert called.wait(SECONDS)
    periodic.stop()


def test_notices_do_not_flood(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    now = [0.0]
    monkeypatch.setattr(notices.time, "monotonic", lambda: now[0])
    said = notices.Notices()
    for second, subject, text in [
        (0, "a", "bad"),
        (1, "a", "bad"),
        (1, "b", "bad"),
        (59, "a", "bad"),
        (60, "a", "bad"),
        (61, "a", "worse"),
        (62, "a", ""),
        (63, "a", "worse"),
    ]:
        now[0] = float(second)
        caplog.clear()
        said.say(subject, logging.WARNING, text)
        if caplog.messages:
            calls = caplog.messages
            assert calls == [text]
            assert (second, subject) in [(0, "a"), (1, "b"), (60, "a"), (61, "a"), (63, "a")]
        else:
            assert (second, subject) in [(1, "a"), (59, "a"), (62, "a")]
