"""The tasks as Gymnasium environments."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from scipy.spatial import KDTree

from wgf.agents import tasks
from wgf.agents.tasks.fleet import Fleet
from wgf.agents.tasks.single import DOT, LINE
from wgf.agents.training import envs


@pytest.mark.parametrize("name", tasks.IDS)
def test_gymnasium_finds_nothing_wrong(name, recwarn):
    env, task = gym.make(name, render_mode="rgb_array"), tasks.TASKS[tasks.IDS[name]]
    check_env(env.unwrapped)
    assert [str(w.message) for w in recwarn if "wgf" in str(w.message)] == []
    assert env.spec.max_episode_steps == task.horizon
    assert env.metadata["render_fps"] == pytest.approx(1.0 / task.seconds)


@pytest.mark.parametrize("name", tasks.IDS)
def test_a_step_takes_the_tasks_own_units_and_is_the_tasks_own(name):
    env = gym.make(name)
    first, _ = env.reset(seed=3)
    again, _ = gym.make(name).reset(seed=3)
    np.testing.assert_array_equal(first, again)
    task, before = env.unwrapped.task, env.unwrapped.state
    share = torch.linspace(0.3, -0.2, task.action_size, dtype=torch.float32)
    obs, reward, terminated, truncated, _ = env.step(task.limit * share.numpy())
    state, expected, ended = task.advance(before, share.double())
    np.testing.assert_allclose(obs, task.observe(state), rtol=1e-6)
    assert reward == pytest.approx(expected.item(), rel=1e-6)
    assert (terminated, truncated) == (bool(ended), False)


def test_a_picture_shows_the_joints_where_they_are():
    env = gym.make("wgf/CartPoleSwingUp-v0", render_mode="rgb_array").unwrapped
    env.reset(seed=0)
    env.state = torch.tensor([1.0, np.pi / 2, 0.0, 0.0], dtype=torch.float64)
    picture = env.render()
    assert (picture.shape, picture.dtype) == ((320, 320, 3), np.uint8)

    def at(x, y):
        return tuple(int(v) for v in picture[int(160 - y / 3.4 * 160), int(160 + x / 3.4 * 160)])

    assert at(1.0, 0.0) == (200, 40, 40)  # the foot
    assert at(0.5, 0.0) == (40, 40, 40)  # the pole lies to the left: an angle is anticlockwise
    assert at(-1.0, 0.0) == (170, 170, 170)  # the track
    assert at(1.5, 0.0) == (170, 170, 170)
    assert at(0.5, 0.5) == (255, 255, 255)
    assert gym.make("wgf/CartPoleSwingUp-v0").unwrapped.render() is None


@pytest.mark.parametrize("angles", [(0.6, 2.0), (-2.5, -1.0)])
def test_a_picture_is_dark_near_the_links_and_red_near_the_joints(angles):
    """Every pixel by its distance to 2,000 points of each link; none is judged whose distance is within a thousandth of a limit."""
    env = gym.make("wgf/DoublePendulum-v0", render_mode="rgb_array").unwrapped
    env.state = torch.tensor([*angles, 0.0, 0.0], dtype=torch.float64)
    middles = 3.4 * ((np.arange(320) + 0.5) / 160 - 1.0)
    pixels = np.stack(np.broadcast_arrays(middles[None], -middles[:, None]), -1)
    elbow = np.array([np.sin(angles[0]), -np.cos(angles[0])])
    tip = elbow + np.array([np.sin(angles[1]), -np.cos(angles[1])])
    share = np.linspace(0.0, 1.0, 2000)[:, None]
    to_links = KDTree(np.concatenate([share * elbow, elbow + share * (tip - elbow)])).query(pixels)[0] / 3.4
    to_joints = KDTree([[0.0, 0.0], elbow]).query(pixels)[0] / 3.4
    expected = np.where(np.abs(pixels[..., 1]) < 3.4 / 160, 170, 255)
    expected = np.where(to_links < LINE, 40, expected)
    expected = np.where((to_joints < DOT)[..., None], [200, 40, 40], expected[..., None])
    sure = (np.abs(to_links - LINE) > 1e-3) & (np.abs(to_joints - DOT) > 1e-3)
    np.testing.assert_array_equal(env.render()[sure], expected[sure])
    assert sure.mean() > 0.99


def test_a_picture_shows_a_point_and_its_goals():
    env = gym.make("wgf/MultiGoal-v0", render_mode="rgb_array").unwrapped
    env.reset(seed=0)
    env.state = torch.tensor([2.0, -3.0], dtype=torch.float64)
    picture = env.render()

    def at(x, y):
        return tuple(int(v) for v in picture[int(160 - y / 7.5 * 160), int(160 + x / 7.5 * 160)])

    assert [at(5.0, 0.0), at(-5.0, 0.0), at(0.0, 5.0), at(0.0, -5.0)] == [(200, 40, 40)] * 4
    assert at(2.0, -3.0) == (40, 40, 40)
    assert at(2.0, 3.0) == at(2.3, -3.0) == at(5.3, 0.5) == (255, 255, 255)


@pytest.mark.parametrize("name", tasks.IDS)
def test_agents_step_all_copies_at_once(name):
    side = envs.Source(name).make(3)
    assert isinstance(side, Fleet)
    alone = envs.Source(name).make(1)
    assert torch.equal(side.reset([5, 6, 7])[1:2], alone.reset([6]))
    actions = 2.0 * torch.rand(200, 3, 1, 1, generator=torch.Generator().manual_seed(0)) - 1.0
    for a in actions:
        both = side.step(a), alone.step(a[1:2])
        for together, one in zip(*both, strict=True):
            assert torch.equal(together[1:2], one)
        assert both[0].finite().all()
    side.close()
