"""Environments against ones stepped by hand, and what they refuse."""

import os
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from wgf.agents import tasks
from wgf.agents.tasks.fleet import Fleet, Outcome
from wgf.agents.training import envs, spaces


def real(action, space):
    """(-1, 1)^A to the bounds of a Box, in its type."""
    return 0.5 * (space.high + space.low) + 0.5 * (space.high - space.low) * action.astype(space.dtype)


def by_hand(name, seed, actions):
    """(obs to act on, obs led to, reward, terminated, truncated) a step, of one environment that is reset when it ends."""
    env = gym.make(name)
    obs, rows = env.reset(seed=seed)[0], []
    for action in actions:
        next_obs, reward, terminated, truncated, _ = env.step(real(action, env.action_space))
        obs = env.reset()[0] if terminated or truncated else next_obs
        rows.append((obs, next_obs, reward, terminated, truncated))
    return [np.array(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("name", ["toy/Walk-v0", "InvertedPendulum-v5", "Pendulum-v1"])
def test_every_step_is_that_of_an_environment_stepped_by_hand(name):
    side = envs.Source(name).simulators(3)
    actions = np.random.default_rng(0).uniform(-1, 1, (250, 3, side.action_size))
    np.testing.assert_array_equal(side.reset([5, 6, 7]), [gym.make(name).reset(seed=k)[0].astype(np.float32) for k in (5, 6, 7)])
    steps = [side.step(a) for a in actions]
    for s, seed in enumerate((5, 6, 7)):
        expected = by_hand(name, seed, actions[:, s])
        for column, want in zip(("obs", "next_obs", "reward", "terminated", "truncated"), expected, strict=True):
            np.testing.assert_array_equal([getattr(step, column)[s] for step in steps], want.astype(getattr(steps[0], column).dtype))
        assert any(expected[3]) or any(expected[4])
    assert all(step.obs.dtype == step.next_obs.dtype == step.reward.dtype == np.float32 for step in steps)


def test_the_last_observation_of_an_episode_is_its_own():
    side = envs.Source("toy/Walk-v0").simulators(2)
    side.reset([0, 1])
    seen = set()
    for _ in range(60):
        step = side.step(np.zeros((2, 1)))
        for s in range(2):
            episode, t = divmod(step.reward[s], 100.0)  # the reward tells episode and step
            assert tuple(step.next_obs[s, :2]) == (episode, t)
            ended = step.terminated[s] or step.truncated[s]
            assert tuple(step.obs[s, :2]) == ((episode + 1, 0) if ended else (episode, t))
            seen.add((bool(step.terminated[s]), bool(step.truncated[s])))
    assert seen >= {(False, False), (True, False), (False, True)}


def test_actions_are_clipped_and_rescaled_to_the_bounds():
    side = envs.Source("toy/Walk-v0").simulators(4)
    side.reset([0, 1, 2, 3])
    step = side.step(np.array([[-1.0, -1.0], [0.5, 0.0], [1.0, 1.0], [7.0, -9.0]]))  # the task checks its second number itself
    np.testing.assert_array_equal(step.next_obs[:, 2], [-2.0, 1.0, 2.0, 2.0])


def test_a_simulator_gone_wrong_is_marked():
    side = envs.Source("toy/Nan-v0").make(2)
    side.reset([0, 1])
    finite = torch.stack([side.step(torch.zeros(2, 1, 1)).finite()[:, 0] for _ in range(35)])
    assert finite[:, 0].all()
    assert torch.nonzero(~finite[:, 1]).flatten().tolist() == [29, 30, 31, 32, 33, 34]  # it is stepped no more
    assert list(side.faults) == [1]


@pytest.mark.parametrize("part", ["obs", "next_obs", "reward"])
@pytest.mark.parametrize("value", [1e39, np.inf, np.nan])
def test_numbers_beyond_float32_are_not_finite(part, value):
    rows = {"obs": np.zeros((2, 3)), "next_obs": np.zeros((2, 3)), "reward": np.zeros(2)}
    rows[part][0] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step = spaces.stepped(**rows, terminated=np.zeros(2, bool), truncated=np.zeros(2, bool))
    assert Outcome(*(torch.from_numpy(x)[:, None] for x in step)).finite().tolist() == [[False], [True]]


def test_simulators_are_gathered_as_so_many_for_each_seed():
    side, plain = envs.Source("toy/Walk-v0").make(2, 3, starts=lambda k: [k, 10 * k, 20 * k]), envs.Source("toy/Walk-v0").simulators(6)
    assert (side.obs_size, side.action_size) == (3, 2)
    first = plain.reset([7, 70, 140, 8, 80, 160])
    np.testing.assert_array_equal(side.reset([7, 8]).flatten(0, 1), first)
    action = torch.linspace(-1.0, 1.0, 12).view(2, 3, 2)
    for _ in range(9):
        for found, expected in zip(side.step(action), plain.step(action.flatten(0, 1).numpy()), strict=True):
            np.testing.assert_array_equal(found.flatten(0, 1), expected)
    side.close()


def test_by_itself_an_environment_has_the_seed_of_its_agent():
    source = envs.Source("Pendulum-v1")
    np.testing.assert_array_equal(source.make(2).reset([5, 6])[:, 0], source.simulators(2).reset([5, 6]))


def test_the_projects_own_tasks_are_a_fleet_whatever_the_backend():
    for backend in ("gymnasium", "envpool", "warp"):
        assert isinstance(envs.Source("wgf/CartPole-v0", backend).make(2, 3, home=envs.CPU), Fleet)


def test_an_environment_that_raises_is_named():
    side = envs.Source("toy/Raises-v0").simulators(2)
    side.reset([0, 1])
    for _ in range(29):
        side.step(np.zeros((2, 1)))
    assert side.faults == {}
    side.step(np.zeros((2, 1)))
    assert {i: str(fault) for i, fault in side.faults.items()} == dict.fromkeys(
        (0, 1), "environment 'toy/Raises-v0' raised RuntimeError: the gearbox broke"
    )


@pytest.mark.parametrize("name", ["Hopper-v5", "Pendulum-v1"])
def test_envpool_is_envpool_stepped_by_hand_and_reset_at_once(name):
    pool = pytest.importorskip("envpool")
    side = envs.Source(name, "envpool").simulators(3)
    space = pool.make_spec(name).action_space
    start = side.reset([5, 6, 7])
    rng, ends = np.random.default_rng(0), 0
    by_hand = [pool.make(name, env_type="gymnasium", num_envs=1, seed=[k]) for k in (5, 6, 7)]
    np.testing.assert_array_equal(start, np.concatenate([one.reset()[0] for one in by_hand]).astype(np.float32))
    for _ in range(250):
        action = rng.uniform(-1, 1, (3, side.action_size))
        step = side.step(action)
        for s, one in enumerate(by_hand):
            obs, reward, terminated, truncated, _ = one.step(real(action[s], space)[None])
            np.testing.assert_array_equal(step.next_obs[s], obs[0].astype(np.float32))
            assert (step.reward[s], step.terminated[s], step.truncated[s]) == (np.float32(reward[0]), terminated[0], truncated[0])
            if terminated[0] or truncated[0]:
                ends += 1
                obs = one.reset()[0]
            np.testing.assert_array_equal(step.obs[s], obs[0].astype(np.float32))
    assert ends >= 3
    assert step.obs.dtype == np.float32


def test_envpools_parts_of_an_observation_stand_one_after_another():
    pool = pytest.importorskip("envpool")
    side = envs.Source("QuadrupedFetch-v1", "envpool").simulators(2)
    by_hand = pool.make("QuadrupedFetch-v1", env_type="gymnasium", num_envs=2, seed=[3, 4])

    def row(parts):
        return np.concatenate([parts[name].reshape(2, -1) for name in pool.make_spec("QuadrupedFetch-v1").observation_space], 1)

    np.testing.assert_array_equal(side.reset([3, 4]), row(by_hand.reset()[0]).astype(np.float32))
    action = np.random.default_rng(0).uniform(-1, 1, (2, side.action_size))
    for _ in range(1000):
        step = side.step(action)
        obs, *_ = by_hand.step(real(action, pool.make_spec("QuadrupedFetch-v1").action_space))
    np.testing.assert_array_equal(step.next_obs, row(obs).astype(np.float32))
    assert step.next_obs.shape == (2, side.obs_size)
    assert step.truncated.all()
    assert not step.terminated.any()
    np.testing.assert_array_equal(step.obs, row(by_hand.reset(np.array([0, 1], np.int32))[0]).astype(np.float32))


def test_envpool_starts_again_as_it_was_seeded():
    pytest.importorskip("envpool")
    side = envs.Source("Pendulum-v1", "envpool").simulators(2)
    first = side.reset([3, 4])
    side.step(np.zeros((2, 1)))
    np.testing.assert_array_equal(side.reset([4, 3]), first[::-1])


class Odd(gym.Env):
    """A task with spaces of one's choice."""

    def __init__(self, obs, action):
        self.observation_space, self.action_space = obs, action


class Parts(gym.Env):
    """A Dict of a vector, a number and whole numbers, whose values tell step and episode."""

    observation_space = gym.spaces.Dict(
        b=gym.spaces.Box(-9.0, 9.0, (2,)), a=gym.spaces.Box(-9.0, 9.0, ()), c=gym.spaces.Box(0, 9, (1,), np.int64)
    )
    action_space = gym.spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 10.0]), dtype=np.float64)
    episode = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.episode = 0, self.episode + 1
        return self._parts(), {}

    def step(self, action):
        self.t += 1
        return self._parts(), 0.0, False, self.t == 2, {}

    def _parts(self):
        return {"a": np.array(self.t, np.float32), "b": np.array([7.0, 8.0], np.float32), "c": np.array([self.episode])}


gym.register("odd/Parts-v0", entry_point=Parts)


def test_a_dict_of_observations_is_one_vector():
    side = envs.Source("odd/Parts-v0").simulators(2)
    assert (side.obs_size, side.action_size) == (4, 2)
    np.testing.assert_array_equal(side.reset([0, 1]), [[7.0, 8.0, 0.0, 1.0]] * 2)  # in the order of the space: b, a, c
    np.testing.assert_array_equal(side.step(np.zeros((2, 2))).obs, [[7.0, 8.0, 1.0, 1.0]] * 2)
    last = side.step(np.zeros((2, 2)))
    np.testing.assert_array_equal(last.next_obs, [[7.0, 8.0, 2.0, 1.0]] * 2)
    np.testing.assert_array_equal(last.obs, [[7.0, 8.0, 0.0, 2.0]] * 2)


@pytest.mark.parametrize("name", ["dm_control/hopper-hop-v0", "wgf/HumanoidStand3-v0"])
def test_a_missing_extra_is_named(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "dm_control", None)
    for module in ("wgf.agents.tasks.suite", "wgf.agents.tasks.replicas"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(ValueError, match=rf"^environment '{name}' needs the extra dm-control: pip install 'wgflow\[dm-control\]'$"):
        envs.Source(name).simulators(1)


def test_the_extras_are_those_of_the_project():
    known = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(tasks.EXTRAS.values()) <= set(known)


BOX = gym.spaces.Box(-1.0, 1.0, (2,))
ODD = {
    "Discrete": (BOX, gym.spaces.Discrete(3), r"has Discrete\(3\) actions; agents here need Box actions"),
    "Many": (BOX, gym.spaces.MultiDiscrete([2, 2]), r"has MultiDiscrete\(2,\) actions"),
    "DictAction": (BOX, gym.spaces.Dict(a=BOX), r"has Dict actions; agents here need Box actions"),
    "Plane": (BOX, gym.spaces.Box(-1.0, 1.0, (2, 2)), r"has Box\(2, 2\) actions; agents here need a Box of one axis"),
    "Whole": (BOX, gym.spaces.Box(0, 5, (2,), np.int64), r"a Box of one axis of real numbers"),
    "Unbounded": (BOX, gym.spaces.Box(-np.inf, np.inf, (2,)), r"has unbounded actions"),
    "Huge": (BOX, gym.spaces.Box(-1e10, 1e10, (2,)), r"has unbounded actions"),
    "Scalar": (gym.spaces.Box(-1.0, 1.0, ()), BOX, r"has Box observations"),
    "DictImage": (gym.spaces.Dict(a=BOX, b=gym.spaces.Box(0, 255, (8, 8), np.uint8)), BOX, r"has Box\(8, 8\) observations; .*Flatten"),
    "DictDict": (gym.spaces.Dict(a=gym.spaces.Dict(b=BOX)), BOX, r"has Dict observations"),
    "DictDiscrete": (gym.spaces.Dict(a=gym.spaces.Discrete(3)), BOX, r"has Discrete\(3\) observations"),
    "Image": (gym.spaces.Box(0, 255, (8, 8, 3), np.uint8), BOX, r"has Box\(8, 8, 3\) observations"),
}
for task, (obs_space, action_space, _) in ODD.items():
    gym.register(f"odd/{task}-v0", entry_point=Odd, kwargs={"obs": obs_space, "action": action_space})


@pytest.mark.parametrize("task", ODD)
def test_spaces_that_agents_cannot_use_are_refused(task):
    with pytest.raises(ValueError, match=ODD[task][2]) as caught:
        envs.Source(f"odd/{task}-v0").simulators(1)
    assert f"'odd/{task}-v0'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Hoper-v5", "did you mean 'Hopper-v5'?"),
        ("hopper-v5", "did you mean 'Hopper-v5'?"),
        ("Hopper-v9", "did you mean 'Hopper-v5'?"),
        ("Hopper-v3", "moved to the gymnasium-robotics project"),
        ("Hopper", "has no version; did you mean 'Hopper-v5'?"),
        ("CartPole-v1", "has Discrete(2) actions"),
        ("Nothing-v0", "doesn't exist"),
        ("", "Malformed environment ID"),
        ("nothing:Task-v0", "No module named 'nothing'"),
        ("phys2d/CartPole-v1", ""),
    ],
)
@pytest.mark.filterwarnings("error")
def test_an_environment_that_cannot_be_made_is_one_line(name, words):
    with pytest.raises(ValueError, match=r"^environment .*$") as caught:
        envs.Source(name).simulators(1)
    assert repr(name) in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_envpool_names_what_it_lacks(monkeypatch):
    pytest.importorskip("envpool")
    with pytest.raises(ValueError, match=r"'Hoppr-v5' is not one of EnvPool's; did you mean 'Hopper-v5'\?"):
        envs.Source("Hoppr-v5", "envpool").simulators(1)
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(ValueError, match=r"^backend 'envpool' needs the package envpool: pip install envpool, or use --backend gymnasium$"):
        envs.Source("Hopper-v5", "envpool").simulators(1)


def test_making_and_stepping_is_silent_and_leaves_nothing_behind(tmp_path):
    code = (
        "from wgf.agents.training import envs; import numpy as np, sys\n"
        "for backend in ('gymnasium', *sys.argv[1:]):\n"
        "    for name in ('HalfCheetah-v5', 'Hopper-v4', 'Pendulum-v1'):\n"
        "        side = envs.Source(name, backend).simulators(2)\n"
        "        side.reset([0, 1])\n"
        "        side.step(np.ones((2, side.action_size))); side.close()\n"
    )
    pool = ["envpool"] if pytest.importorskip("envpool") else []
    done = subprocess.run([sys.executable, "-c", code, *pool], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert os.listdir(tmp_path) == []


def test_a_broken_simulation_is_worth_a_word():
    side = envs.Source("Hopper-v5").simulators(1)
    side.reset([0])
    side.envs[0].unwrapped.data.qvel[:] = 1e12
    with pytest.warns(UserWarning, match="MuJoCo: Nan, Inf or huge value in QVEL"):
        side.step(np.zeros((1, 3)))


def test_thresholds_are_gymnasiums():
    assert envs.reward_threshold("Hopper-v5") == 3800.0
    assert envs.reward_threshold("toy/Walk-v0") is None
    assert envs.reward_threshold("Nothing-v0") is None


def test_a_fleet_is_asked_for_as_many_environments_as_all_seeds_have(monkeypatch):
    asked = []
    monkeypatch.setattr(envs, "fitting", lambda name, count, *_: asked.append((name, count)))
    envs.Source("wgf/CartPole-v0").make(3, 2)
    assert asked == [("wgf/CartPole-v0", 6)]
