"""The numbers that progress shows; bar and plain lines are seen in test_train."""

import numpy as np
import pytest

from wgf.agents.training.loop import Tick
from wgf.runs.command import progress

NAN = np.nan


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([NAN], "-"),
        ([12.4], "12"),
        ([1.0, NAN, -3.6], "1 - -4"),
        ([NAN] * 5, "-"),
        ([1.0, 2.0, NAN, 6.0], "3 (1 to 6)"),
        ([10.0, 20.0, 30.0, 40.0, 50.0], "30 (10 to 50)"),
    ],
)
def test_few_seeds_are_shown_each_and_many_by_mean_and_range(values, text):
    assert progress.numbers(np.array(values, np.float32)) == text


def test_a_narrow_terminal_shows_the_mean():
    assert progress.numbers(np.array([1.0, 3.0], np.float32), 0) == "2"
    assert progress.numbers(np.array([NAN], np.float32), 0) == "-"


def test_plain_lines_come_now_and_then_and_at_the_end(monkeypatch, capsys):
    now = {"time": 0.0}
    monkeypatch.setattr(progress.time, "monotonic", lambda: now["time"])
    with progress.Progress("sac", 1000) as shown:
        for step in (100, 200, 300, 1000):
            now["time"] += 6.0
            shown.tell(Tick(step, {"charts/steps_per_second": np.array([16.6]), "charts/episodic_return": np.array([5.0])}))
    assert capsys.readouterr().out.splitlines() == [
        "sac  100/1,000  17 steps/s  return 5  eval -  54 s left",
        "sac  300/1,000  17 steps/s  return 5  eval -  42 s left",
        "sac  1,000/1,000  17 steps/s  return 5  eval -  0 s left",
    ]


def test_the_time_that_is_left_is_told_by_the_steps_since_it_went_on(monkeypatch, capsys):
    now = {"time": 50.0}
    monkeypatch.setattr(progress.time, "monotonic", lambda: now["time"])
    with progress.Progress("sac", 1000, first=600) as shown:
        now["time"] += 20.0
        shown.show(700, "")
    assert capsys.readouterr().out == "sac  700/1,000    60 s left\n"  # 100 steps took 20 s, and 300 are left
