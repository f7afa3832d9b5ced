"""What a training is called, where it lies, and how it is said to have ended."""

from dataclasses import replace

import pytest
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.wrappers import TimeLimit

from wgf.agents import Agent
from wgf.agents.registry import find
from wgf.agents.training.checkpoint import write_sealed
from wgf.agents.training.schedule import Schedule
from wgf.runs.command.options import LONGEST_NAME, Place
from wgf.runs.trainer.training import Job, exit_code, finish, report, resume, words

TINY = {"hidden": (8, 8), "batch": 8, "warmup": 20, "eval_every": 20, "eval_episodes": 1, "device": "cpu"}


def job(label="sac", **changes):
    given = {"agent": "sac", "preset": "paper", "cfg": find("sac", "paper")[1], "env": "a/B/C-v0", "seeds": (0,)}
    return Job(label, **given | changes, schedule=Schedule(), place=Place(out="runs", name="main"))


def test_a_run_lies_in_a_folder_of_its_environment_agent_and_seed():
    assert job().folder(3).parts == ("runs", "main", "a_B_C-v0", "sac", "seed-3")


def test_a_label_is_as_long_as_the_name_of_a_folder_may_be():
    job("ä" + "a" * (LONGEST_NAME - 2))
    with pytest.raises(ValueError, match=rf"has {LONGEST_NAME + 1} bytes; a folder's name has at most {LONGEST_NAME}$"):
        job("a" * (LONGEST_NAME + 1))


def test_what_makes_an_experiment_is_neither_its_seed_nor_its_length():
    assert job(seeds=(1, 2)).identity() == job().identity()
    assert job(preset="modern").identity() != job().identity()
    assert isinstance(job().identity()["config"]["hidden"], list)  # as JSON gives it back


def test_a_training_says_what_memory_it_takes_how_long_it_is_and_where_it_goes_on(tmp_path):
    for step, steps, gone in ((0, 40, ""), (40, 60, ", from step 40 on")):
        agent, said = Agent("ddpg", "Pendulum-v1", seeds=(0, 1), **TINY), []
        if step:
            agent.resume(tmp_path)
        needs = agent.needs(steps - step)
        assert f"2 x {2 * steps + 2} rows" in needs
        assert finish(agent, "mine", replace(agent.schedule, steps=steps), tmp_path, said.append) == ["finished", "finished"]
        assert said == [needs, f"mine on Pendulum-v1: seeds 0, 1, {steps} steps each{gone}, cpu, 1 thread"]


def test_the_simulators_of_a_training_are_freed_at_its_end(tmp_path):
    class Task(PendulumEnv):
        opened, closed = [], []

        def __init__(self):
            super().__init__()
            self.opened.append(self)

        def close(self):
            self.closed.append(self)

    agent = Agent("ddpg", lambda: TimeLimit(Task(), 20), **TINY)
    finish(agent, "mine", replace(agent.schedule, steps=22), tmp_path, str)
    assert set(map(id, Task.opened)) == set(map(id, Task.closed))


@pytest.mark.parametrize("change", [{"stack": 0}, {"threads": None}, {"schedule": {}}, {"schedule": {"steps": "60"}}])
def test_a_run_that_does_not_say_how_it_goes_on_is_refused(tmp_path, change):
    write_sealed(tmp_path / "config.json", {"stack": [0], "threads": 1, "schedule": {"steps": 60}} | change)
    with pytest.raises(ValueError, match=r"config\.json does not say which seeds, threads and steps: it was not written by wgf train"):
        resume(tmp_path, None, str)


@pytest.mark.parametrize(
    ("seeds", "text"),
    [
        ((3,), "seed 3"),
        ((0, 1), "seeds 0, 1"),
        ((2, 3, 4), "seeds 2 to 4"),
        ((0, 1, 3), "seeds 0, 1, 3"),
        ((2, 1, 0), "seeds 2, 1, 0"),
    ],
)
def test_seeds_in_words(seeds, text):
    assert words(seeds) == text


@pytest.mark.parametrize(
    ("endings", "code"),
    [
        ([], 0),
        (["finished", "finished"], 0),
        (["finished", "failed: a"], 70),
        (["failed: a", "interrupted"], 75),
    ],
)
def test_an_interruption_is_told_before_a_failure(endings, code):
    assert exit_code(endings) == code


def test_seeds_that_ended_alike_are_told_together_and_what_is_kept_where_it_is(tmp_path, capsys):
    for seed in (0, 1, 2, 4, 5):
        (tmp_path / f"seed-{seed}").mkdir()
        (tmp_path / f"seed-{seed}" / "policy.json").touch()
    endings = ["finished", "failed: a", "failed: a", "failed: b", "interrupted", "finished"]
    assert report(tmp_path, range(6), endings) == 75
    assert capsys.readouterr().err.splitlines() == [
        f"wgf: {tmp_path}, seeds 1, 2 failed: a; the last saved policy is kept",
        f"wgf: {tmp_path}, seed 3 failed: b",
        f"wgf: {tmp_path}, seed 4 interrupted; the same command goes on from here",
    ]
