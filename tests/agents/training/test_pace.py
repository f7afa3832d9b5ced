"""What a training takes, part by part: by a clock that each part moves on by a length of its own."""

import math
from itertools import islice

import gymnasium as gym
import numpy as np
import pytest

from wgf.agents import Agent
from wgf.agents.training.pace import Pace, Spent

TINY = {"device": "cpu", "compile": False, "hidden": (8,), "eval_episodes": 2}
ACT, STEP, LEARN, JUDGE = 1.0, 10.0, 100.0, 1000.0
LASTS = 20


class Level(gym.Env):
    """Observation 0, for ever."""

    observation_space, action_space = gym.spaces.Box(-1.0, 1.0, (2,)), gym.spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), 1.0, False, False, {}


class Short(Level):
    """It breaks in its step number 150."""

    t = 0

    def step(self, action):
        self.t += 1
        if self.t == 150:
            raise RuntimeError("a wheel came off")
        return super().step(action)


def by_a_clock(pace):
    """Each part of a training moves the clock on, and the clock is all that is looked at."""
    now, task, update = [3000.0], pace.task, pace.run.update

    def moving(function, seconds):
        def moved(*args, **kwargs):
            now[0] += seconds
            return function(*args, **kwargs)

        return moved

    class Slow:
        act, greedy = (staticmethod(moving(getattr(task.agent, name), s)) for name, s in (("act", ACT), ("greedy", JUDGE)))
        act_noise, noise = (staticmethod(getattr(task.agent, name)) for name in ("act_noise", "noise"))

    task.envs.step, task.eval_envs.step = moving(task.envs.step, STEP), moving(task.eval_envs.step, STEP)
    pace.task, pace.run.update, pace._now = task._replace(agent=Slow()), moving(update, LEARN), lambda: now[0]
    return pace


def paced(name, **settings):
    agent = Agent(name, Level, **TINY | settings)
    return by_a_clock(Pace(agent, 10_000))


@pytest.mark.parametrize(
    ("name", "settings", "ticks", "updates"),
    [
        ("sac", {"batch": 8}, 1, 1),
        ("sac", {"batch": 8, "envs": 3, "seeds": 2}, 1, 3),
        ("sac", {"preset": "modern", "batch": 8, "policy_delay": 4}, 4, 1),
        ("ppo", {"horizon": 16, "envs": 2, "batch": 8, "epochs": 2}, 16, 1),
        ("ddpg", {"batch": 8, "normalize": "both"}, 1, 1),
    ],
)
def test_each_part_has_the_time_that_it_took(name, settings, ticks, updates):
    steps = ticks * settings.get("envs", 1)
    assert paced(name, **settings).turn() == Spent(ACT * ticks, STEP * ticks, LEARN * updates, steps, updates)


def test_a_turn_begins_behind_an_update_and_ends_with_one():
    pace = paced("sac", preset="modern", batch=8, policy_delay=3)
    two = pace.turn() + pace.turn()
    assert two == Spent(6 * ACT, 6 * STEP, 2 * LEARN, 6, 2)
    assert two.seconds == 6 * (ACT + STEP) + 2 * LEARN


def test_what_acts_in_one_piece_with_the_environment_has_no_time_of_its_own():
    whole = Spent(math.nan, 10.0, 100.0, 1, 1)
    assert whole.seconds == 110.0
    assert math.isnan((whole + whole).acting)


def test_steps_as_machine_code_are_one_piece_and_are_compiled_in_the_first_turn(recordings):
    settings = {"horizon": 8, "envs": 2, "batch": 8, "epochs": 1}
    pace = Pace(Agent("ppo", "wgf/CartPole-v0", **TINY | settings | {"compile": True}), 10_000)
    spent, compiled = pace.turn(), len(recordings)
    assert math.isnan(spent.acting)
    assert (spent.steps, spent.updates) == (16, 1)
    assert pace.compiling > 0.0
    pace.turn()
    assert len(recordings) == compiled > 0
    pace.close()


def test_compiling_is_what_the_first_turn_took_beyond_the_second(monkeypatch):
    turns = iter([Spent(math.nan, 50.0, 70.0, 6, 3), Spent(math.nan, 4.0, 6.0, 2, 2)])
    monkeypatch.setattr(Pace, "turn", lambda self: next(turns))
    pace = Pace(Agent("sac", Level, **TINY | {"compile": True}, batch=8), 10_000)
    assert pace.compiling == (70.0 - 3 * 3.0) + (50.0 - 3 * 4.0)


def test_what_is_not_compiled_has_no_time_of_compiling():
    assert math.isnan(paced("sac", batch=8).compiling)


def test_a_step_of_an_evaluation_is_of_all_its_episodes_and_ends_in_time():
    pace = paced("sac", batch=8)
    before = pace._now()
    assert pace.judged(4.5 * (JUDGE + STEP)) == JUDGE + STEP
    assert pace._now() - before == 5 * (JUDGE + STEP)
    assert pace.longest == 10_000  # it has no time limit


def test_episodes_of_an_evaluation_that_end_soon_are_counted_to_their_end():
    pace = by_a_clock(Pace(Agent("sac", lambda: gym.wrappers.TimeLimit(Level(), LASTS), **TINY, batch=8), 10_000))
    before = pace._now()
    assert pace.judged(math.inf) == JUDGE + STEP
    assert pace._now() - before == LASTS * (JUDGE + STEP)


def test_it_knows_how_long_an_episode_lasts_and_learns_after_a_hundred_steps_at_most():
    pace = Pace(Agent("sac", "Pendulum-v1", **TINY, batch=8, warmup=5_000), 10_000)
    assert pace.longest == 200
    assert 100 <= pace.run.step <= 102
    pace = Pace(Agent("sac", "Pendulum-v1", **TINY, batch=8, warmup=7), 10_000)
    assert 7 <= pace.run.step <= 9


def test_an_environment_that_goes_wrong_is_told_in_a_line():
    pace = Pace(Agent("sac", Short, **TINY, batch=8), 10_000)
    turns = iter(pace.turn, None)
    with pytest.raises(ValueError, match=r"^environment 'Short' raised RuntimeError: a wheel came off at step 150$"):
        list(islice(turns, 200))


def test_a_replay_that_does_not_fit_is_refused_before_it_is_timed():
    with pytest.raises(ValueError, match="give a smaller --replay"):
        Pace(Agent("sac", "Pendulum-v1", **TINY, replay=10**15), 10**15)
