"""What the trainings of a sweep take, how seeds are divided among them, and how they are stopped."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from wgf.agents.training.schedule import Schedule
from wgf.runs.command.options import Place, Sweep
from wgf.runs.sweeps import pool
from wgf.runs.sweeps.grid import entries, settings
from wgf.runs.sweeps.pool import PROCESS, Room, Task


@pytest.fixture
def task(monkeypatch):
    """``task(*seeds)``: some of the four seeds of a setting, which all together take 400 bytes of the machine's memory, 80 of a GPU's."""
    monkeypatch.setattr(pool, "demand", lambda job: (400.0, 80.0))
    what = Sweep(environments=("a/B-v0",), agents=["sac"], seeds=4)
    (setting,) = settings(what, entries(what, ()), Schedule(), Place())
    return lambda *seeds: Task(setting, replace(setting.job, seeds=seeds), 2)


def test_a_training_takes_the_share_of_its_seeds_and_a_process(task):
    assert task(3).demand == (PROCESS + 100.0, 20.0)
    assert task(0, 1, 2, 3).demand == (PROCESS + 400.0, 80.0)


def test_a_training_begins_where_all_that_it_takes_is_left_and_the_first_one_always(task):
    two = {"trainings": 2, "threads": 4, "host": 2 * PROCESS + 300.0, "device": 60.0}  # what these two take
    assert Room(**two).for_one_more([task(0)], task(1, 2))
    for name, most in two.items():
        assert not Room(**{**two, name: most - 1}).for_one_more([task(0)], task(1, 2))
    assert Room(0, 0, 0, 0).for_one_more([], task(0))


def test_seeds_of_a_process_follow_one_another_and_are_at_most_so_many():
    assert list(pool._stacks((0, 1, 2, 5, 6), 2)) == [(0, 1), (2,), (5, 6)]
    assert list(pool._stacks((0, 1, 2, 5, 6), 0)) == [(0, 1, 2), (5, 6)]


@pytest.mark.parametrize("patience", [None, 5.0])
def test_what_does_not_end_is_killed_when_patience_is_over(monkeypatch, patience):
    """By a clock that goes on where the program sleeps: this training ends by itself after 20 seconds, or at once when it is killed."""
    now, said = [100.0], []

    class Slow:
        def poll(self):
            return 0 if now[0] > 120.0 or "kill" in dict(said) else None

        def terminate(self):
            said.append(("terminate", now[0]))

        def kill(self):
            said.append(("kill", now[0]))

    def sleep(seconds):
        now[0] += seconds

    monkeypatch.setattr(pool, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    pool._stop([Slow()], patience)
    (first, *rest) = said
    assert first == ("terminate", 100.0)
    assert [name for name, _ in rest] == ([] if patience is None else ["kill"])
    assert all(105.0 < when < 105.0 + 3 * pool.LOOK for _, when in rest)
