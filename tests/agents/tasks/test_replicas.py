"""Several humanoids as one task."""

import math

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from wgf.agents.training import envs

pytest.importorskip("dm_control", reason="needs the extra dm-control, which is for Python below 3.13")
from wgf.agents.tasks.replicas import smooth_min

CASES = {"wgf/HumanoidStand-v0": 1, "wgf/HumanoidStand3-v0": 3, "wgf/HumanoidStand5-v0": 5}


def test_the_smooth_minimum_lies_between_the_mean_and_the_least():
    x = np.array([0.2, 0.9, 0.5])
    e = [math.exp(-1.0), math.exp(-4.5), math.exp(-2.5)]
    assert smooth_min(x, 5.0) == pytest.approx((0.2 * e[0] + 0.9 * e[1] + 0.5 * e[2]) / sum(e), rel=1e-14)
    assert smooth_min(x, 0.0) == pytest.approx(1.6 / 3.0, rel=1e-14)
    assert smooth_min(x, 1e6) == 0.2
    assert smooth_min(np.array([0.7]), 5.0) == 0.7
    assert smooth_min(np.array([1.0, 0.0]), 5.0) == pytest.approx(1.0 / (1.0 + math.exp(5.0)), rel=1e-14)


@pytest.mark.parametrize(("name", "n"), CASES.items())
def test_each_humanoid_is_the_suites_and_the_reward_is_their_smooth_minimum(name, n):
    env = gym.make(name).unwrapped
    obs, _ = env.reset(seed=3)
    assert (obs.shape, env.action_space.shape) == ((67 * n,), (21 * n,))
    seeds = np.random.default_rng(np.random.SeedSequence(3)).integers(2**31, size=n)
    alone = [gym.make("dm_control/humanoid-stand-v0").unwrapped for _ in range(n)]
    flat = [gym.spaces.flatten(one.observation_space, one.reset(seed=int(k))[0]) for one, k in zip(alone, seeds, strict=True)]
    np.testing.assert_array_equal(obs, np.concatenate(flat))
    assert len({tuple(one) for one in flat}) == n
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, (5, 21 * n))
    for action in actions:
        obs, reward, terminated, truncated, info = env.step(action)
        rows = [one.step(a) for one, a in zip(alone, action.reshape(n, 21), strict=True)]
        np.testing.assert_array_equal(obs, np.concatenate([gym.spaces.flatten(alone[0].observation_space, row[0]) for row in rows]))
        np.testing.assert_array_equal(info["rewards"], [row[1] for row in rows])
        assert reward == pytest.approx(smooth_min(info["rewards"], 5.0), rel=1e-12)
        assert (terminated, truncated) == (False, False)


def test_seeds_give_starts_and_the_next_start_is_another():
    side = envs.Source("wgf/HumanoidStand3-v0").simulators(3)
    assert (side.obs_size, side.action_size) == (201, 63)
    first, again = side.reset([5, 6, 5]), side.reset([6, 5, 7])
    np.testing.assert_array_equal(first[[0, 1]], again[[1, 0]])
    np.testing.assert_array_equal(first[0], first[2])
    assert not np.array_equal(again[0], again[2])
    env = gym.make("wgf/HumanoidStand3-v0")
    assert not np.array_equal(env.reset(seed=5)[0], env.reset()[0])


def test_the_time_limit_is_the_suites():
    side = envs.Source("wgf/HumanoidStand-v0").simulators(1)
    side.reset([0])
    steps = [side.step(np.zeros((1, 21), np.float32)) for _ in range(1000)]
    assert [t for t, step in enumerate(steps) if step.truncated[0]] == [999]
    assert not any(step.terminated[0] for step in steps)


@pytest.mark.filterwarnings("ignore:.*Box observation space:UserWarning")  # the suite does not bound what it shows
def test_gymnasium_finds_nothing_wrong_and_humanoids_stand_side_by_side(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    env = gym.make("wgf/HumanoidStand3-v0", render_mode="rgb_array")
    check_env(env.unwrapped, skip_render_check=True)
    env.reset(seed=0)
    picture = env.render()
    assert (picture.shape, picture.dtype) == ((480, 1440, 3), np.uint8)
    for env_, part in zip(env.unwrapped.envs, np.split(picture, 3, 1), strict=True):
        np.testing.assert_array_equal(part, env_.render())
    assert len({part.tobytes() for part in np.split(picture, 3, 1)}) == 3
    env.close()
    assert gym.make("wgf/HumanoidStand-v0").unwrapped.render() is None
