"""The quadruped before a wall: Gymnasium's Ant, in another world and with another reward."""

import ctypes.util
import os
import subprocess
import sys

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import wgf.agents.tasks  # noqa: F401  # registers it
from wgf.agents.tasks.ant_wall import BOXES


@pytest.fixture(scope="module")
def env():
    made = gym.make("wgf/AntWall-v0").unwrapped
    yield made
    made.close()


def test_gymnasium_finds_nothing_wrong_with_it(env):
    check_env(env, skip_render_check=True)
    assert gym.spec("wgf/AntWall-v0").max_episode_steps == 400
    assert (env.observation_space.shape, env.action_space.shape, env.dt) == ((107,), (8,), 0.05)


def test_before_the_wall_it_moves_as_gymnasiums_ant_and_has_minus_the_distance_to_the_goal(env):
    other = gym.make("Ant-v5", terminate_when_unhealthy=False, exclude_current_positions_from_observation=False).unwrapped
    first, obs = (e.reset(seed=3)[0] for e in (env, other))
    np.testing.assert_array_equal(first, obs)
    rng = np.random.default_rng(0)
    for _ in range(60):
        action = rng.uniform(-1.0, 1.0, 8)
        found, reward, ended, cut, about = env.step(action)
        obs, _, _, _, _ = other.step(action)
        np.testing.assert_allclose(found, obs, rtol=1e-9, atol=1e-9)
        assert reward == pytest.approx(-np.hypot(about["x_position"] - 15.0, about["y_position"]), rel=1e-12)
        assert (about["x_position"], about["y_position"]) == pytest.approx(tuple(other.data.body(1).xpos[:2]), rel=1e-9)
        assert (ended, cut) == (False, False)
    assert abs(obs[0]) > 0.01
    other.close()


def test_an_ant_that_stands_still_has_about_minus_six_thousand():
    env = gym.make("wgf/AntWall-v0")
    env.reset(seed=0)
    rewards = [env.step(np.zeros(8)) for _ in range(400)]
    assert rewards[-1][3]  # the time limit
    assert not any(ended or cut for _, _, ended, cut, _ in rewards[:-1])
    assert sum(reward for _, reward, *_ in rewards) == pytest.approx(-6000.0, rel=0.02)
    env.close()


def test_the_wall_has_its_places_and_stops_what_runs_into_it(env):
    model = env.model
    boxes = [k for k in range(model.ngeom) if model.geom_type[k] == mujoco.mjtGeom.mjGEOM_BOX]
    places = [(tuple(model.geom_pos[k][:2]), tuple(model.geom_size[k][:2])) for k in boxes]
    np.testing.assert_allclose(places, BOXES)
    assert all(model.geom_pos[k][2] == model.geom_size[k][2] == 1.0 for k in boxes)  # they stand on the ground
    ends = {}
    for y in (0.0, 4.0):  # into the U, and past it
        env.reset(seed=0)
        at = env.init_qpos.copy()
        at[:2] = (3.5, y)
        speed = np.zeros_like(env.init_qvel)
        speed[0] = 8.0
        env.set_state(at, speed)
        for _ in range(20):
            env.step(np.zeros(8))
        ends[y] = env.data.qpos[0]
    assert ends[0.0] < 4.9
    assert ends[4.0] > 5.5


@pytest.mark.skipif(ctypes.util.find_library("EGL") is None, reason="no EGL on this machine")
def test_a_picture_shows_the_wall():
    program = """
import gymnasium as gym, wgf.agents.tasks
env = gym.make("wgf/AntWall-v0", render_mode="rgb_array", width=160, height=120)
env.reset(seed=0)
picture = env.render().astype(float)
assert picture.shape == (120, 160, 3)
print(((picture[..., 0] > 1.3 * picture[..., 2]) & (picture[..., 0] > 1.2 * picture[..., 1])).sum())
"""
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | {"MUJOCO_GL": "egl"}, capture_output=True, text=True)
    assert int(done.stdout) > 100, done.stderr
