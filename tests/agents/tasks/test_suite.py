"""Tasks of the DeepMind Control Suite against the suite itself."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from wgf.agents.training import envs

pytest.importorskip("dm_control", reason="needs the extra dm-control, which is for Python below 3.13")
from dm_control import suite

import wgf.agents.tasks.suite

CASES = [("cartpole", "swingup"), ("humanoid", "stand"), ("quadruped", "run"), ("finger", "turn_easy")]


@pytest.mark.parametrize(("domain", "task"), CASES)
def test_an_episode_is_the_suites_own_for_the_same_seed(domain, task):
    side = envs.Source(f"dm_control/{domain}-{task}-v0").simulators(2)
    starts, alone = side.reset([5, 6]), [suite.load(domain, task, task_kwargs={"random": k}) for k in (5, 6)]
    low, high = alone[0].action_spec().minimum, alone[0].action_spec().maximum
    rng = np.random.default_rng(0)

    def row(now):
        return np.concatenate([np.ravel(now.observation[name]) for name in sorted(now.observation)]).astype(np.float32)

    for start, one in zip(starts, alone, strict=True):
        np.testing.assert_array_equal(start, row(one.reset()))
    for _ in range(20):
        action = rng.uniform(-1.0, 1.0, (2, side.action_size)).astype(np.float32)
        step = side.step(action)
        for s, one in enumerate(alone):
            now = one.step(low + (action[s].astype(np.float64) + 1.0) / 2.0 * (high - low))
            np.testing.assert_allclose(step.next_obs[s], row(now), rtol=1e-4, atol=1e-4)  # actions differ by 1e-16, and contacts magnify it
            assert step.reward[s] == pytest.approx(now.reward, rel=1e-4, abs=1e-6)
    assert np.isfinite(step.obs).all()
    side.close()


def test_the_time_limit_truncates_and_the_next_start_is_another():
    side = envs.Source("dm_control/cartpole-swingup-v0").simulators(1)
    first = side.reset([3])
    steps = [side.step(np.zeros((1, 1), np.float32)) for _ in range(1001)]
    assert not any(step.terminated[0] for step in steps)
    np.testing.assert_array_equal(np.flatnonzero([step.truncated[0] for step in steps]), [999])
    assert not np.array_equal(steps[999].obs, steps[999].next_obs)
    assert not np.array_equal(steps[999].obs, first)


def test_a_discount_of_zero_terminates(monkeypatch):
    env = gym.make("dm_control/cartpole-balance-v0").unwrapped
    env.reset(seed=0)
    monkeypatch.setattr(env.env.task, "get_termination", lambda physics: 0.0)
    assert env.step(np.zeros(1))[2:4] == (True, False)


@pytest.mark.parametrize("name", ["dm_control/cartpole-swingup-v0", "dm_control/humanoid-stand-v0"])
@pytest.mark.filterwarnings("ignore:.*Box observation space:UserWarning")  # the suite does not bound what it shows
def test_gymnasium_finds_nothing_wrong(name):
    check_env(gym.make(name, render_mode="rgb_array").unwrapped, skip_render_check=True)


def test_a_task_is_filmed_at_its_own_speed(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    film = envs.Film("dm_control/cartpole-swingup-v0", 4)
    before = film.frame()
    assert (film.fps, before.shape, before.dtype) == (100, (480, 480, 3), np.uint8)
    assert sum(np.size(part) for part in film.obs.values()) == 5  # as the suite gives it, which ``predict`` takes
    for _ in range(20):
        obs, reward, goes_on = film.step(np.ones(1, np.float32))
    assert (obs.keys(), goes_on) == (film.obs.keys(), True)
    assert 0.0 <= reward <= 1.0
    assert (film.frame() != before).any()
    film.close()


def test_what_has_no_bounds_and_what_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"'dm_control/lqr-lqr_2_1-v0' has unbounded actions"):
        envs.Source("dm_control/lqr-lqr_2_1-v0").simulators(1)
    with pytest.raises(ValueError, match=r"doesn't exist .*; did you mean 'dm_control/cartpole-swingup-v0'\?$"):
        envs.Source("dm_control/cartpole-swingupp-v0").simulators(1)


def test_every_task_of_the_suite_is_registered():
    named = {f"dm_control/{domain}-{task}-v0" for domain, task in suite.ALL_TASKS}
    assert named == {name for name in gym.registry if name.startswith("dm_control/")}
    assert wgf.agents.tasks.suite.Suite.metadata["render_modes"] == ["rgb_array"]


def test_a_task_is_made_in_silence(tmp_path):
    code = """from wgf.agents.training import envs
for name in ("cartpole-swingup", "dog-run"):
    envs.Source(f"dm_control/{name}-v0").simulators(1).reset([0])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
