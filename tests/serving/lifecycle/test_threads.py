"""Periodic tasks, and logs that they do not flood."""

from __future__ import annotations

import logging
import threading

from serving.lifecycle import threads
from serving.lifecycle.threads import PeriodicTask, ThrottledLog
from tests.support.fake_servables import SECONDS


def test_periodic_goes_on_after_a_failure(caplog):
    calls, enough = [], threading.Event()

    def work():
        calls.append(len(calls))
        if len(calls) == 3:
            enough.set()
        raise ValueError("odd")

    periodic = PeriodicTask("test", work, 0.001)
    periodic.start()
    assert enough.wait(SECONDS)
    periodic.stop()
    assert "ValueError: odd" in caplog.text


def test_periodic_without_a_period_waits_to_be_woken():
    called = threading.Event()
    periodic = PeriodicTask("test", called.set, 0)
    periodic.start()
    assert not called.wait(0.05)
    periodic.wake()
    assert called.wait(SECONDS)
    periodic.stop()


def test_messages_do_not_flood(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    now = [0.0]
    monkeypatch.setattr(threads.time, "monotonic", lambda: now[0])
    throttled = ThrottledLog()
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
        throttled.report(subject, logging.WARNING, text)
        if caplog.messages:
            calls = caplog.messages
            assert calls == [text]
            assert (second, subject) in [(0, "a"), (1, "b"), (60, "a"), (61, "a"), (63, "a")]
        else:
            assert (second, subject) in [(1, "a"), (59, "a"), (62, "a")]
