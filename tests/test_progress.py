"""The progress that a person sees: lines where there is no terminal, a bar that fits where there is one."""

import io

import pytest
from rich.console import Console

from alexnet_tf import progress


def test_a_log_gets_a_line_every_so_many_steps(capsys):
    with progress.TrainingProgress(total=50, done=0, every=20) as shown:
        for step in range(1, 51):
            shown.step(step, 83.4, 1.5, 0.754, 0.0098)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["20/50", "40/50", "50/50"]
    assert "83 images/s  loss 1.500  top-1 error 75.4%  rate 0.0098" in lines[0]
    assert lines[-1].endswith("0:00:00 left")


@pytest.mark.parametrize("width", [80, 120])
def test_every_figure_fits_on_a_terminal(monkeypatch, width):
    screen = io.StringIO()
    monkeypatch.setattr(
        progress,
        "Console",
        lambda **_: Console(file=screen, force_terminal=True, width=width, color_system=None),
    )
    with progress.TrainingProgress(total=10009, done=5000, every=20) as shown:
        shown.step(5001, 83.4, 1.5, 0.754, 0.0098)
        shown.say("epoch 1.00: validation top-1 error 9.67%")
    last = [line for line in screen.getvalue().splitlines() if "step 5001/10009" in line][-1]
    assert "83 images/s  loss 1.500  top-1 error 75.4%  rate 0.0098" in last
    assert "epoch 1.00: validation top-1 error 9.67%" in screen.getvalue()
    assert ("━" in last) == (width >= progress.WIDE_TERMINAL)
