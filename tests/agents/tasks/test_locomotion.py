import gymnasium as gym
import numpy as np
import pytest
import torch

from wgf.agents.tasks.locomotion import ROBOTS, Data, reward, start


def data_of(env):
    """What MuJoCo knows of one environment, as a row."""
    return Data(*(torch.from_numpy(np.array(getattr(env.data, name)))[None] for name in Data._fields))


@pytest.mark.parametrize("name", ROBOTS)
def test_reward_observation_and_end_are_those_of_gymnasium_step_by_step(name):
    env, robot = gym.make(name).unwrapped, ROBOTS[name]
    mass, rng, ends, touched, steps = torch.from_numpy(env.model.body_mass), np.random.default_rng(0), 0, 0, 0
    first, _ = env.reset(seed=3)
    np.testing.assert_allclose(robot.observe(data_of(env))[0], first, rtol=0, atol=1e-12)
    while steps < 300 or (ends < 3 and name not in ("HalfCheetah-v5", "Ant-v5")):  # these hardly end by chance
        before = robot.place(data_of(env), mass)
        action = rng.uniform(env.action_space.low, env.action_space.high)
        obs, earned, terminated, *_ = env.step(action)
        data, ctrl = data_of(env), torch.from_numpy(action)[None]
        speed = (robot.place(data, mass) - before) / env.dt
        np.testing.assert_allclose(robot.observe(data)[0], obs, rtol=0, atol=1e-9)
        np.testing.assert_allclose(reward(robot, data, speed, ctrl).item(), earned, rtol=1e-12, atol=1e-9)
        assert robot.healthy(data).item() is not terminated
        touched += int(np.abs(env.data.cfrc_ext).max() > 1.0)
        steps += 1
        if terminated:
            ends += 1
            env.reset(seed=steps)
    assert touched > 20  # forces that the bounds of Ant cut
    env.close()


@pytest.mark.parametrize(
    ("name", "place", "edges"),
    [
        ("Hopper-v5", ("qpos", 1), (0.7, np.inf)),
        ("Hopper-v5", ("qpos", 2), (-0.2, 0.2)),
        ("Hopper-v5", ("qpos", 4), (-100.0, 100.0)),
        ("Hopper-v5", ("qvel", 0), (-100.0, 100.0)),
        ("Walker2d-v5", ("qpos", 1), (0.8, 2.0)),
        ("Walker2d-v5", ("qpos", 2), (-1.0, 1.0)),
        ("Ant-v5", ("qpos", 2), (0.2, 1.0)),
        ("Humanoid-v5", ("qpos", 2), (1.0, 2.0)),
    ],
)
def test_a_robot_is_healthy_between_the_edges_that_gymnasium_says(name, place, edges):
    env = gym.make(name).unwrapped
    env.reset(seed=0)
    values = getattr(env.data, place[0])
    near = [edge + delta for edge in edges for delta in (-1e-9, 0.0, 1e-9) if np.isfinite(edge)]
    for value in near:
        values[place[1]] = value
        assert ROBOTS[name].healthy(data_of(env)).item() is bool(env.is_healthy)
    env.close()


def test_an_ant_with_a_number_that_is_not_finite_is_not_healthy():
    env = gym.make("Ant-v5").unwrapped
    env.reset(seed=0)
    for value, healthy in ((0.0, True), (np.inf, False), (np.nan, False)):
        env.data.qvel[3] = value
        assert ROBOTS["Ant-v5"].healthy(data_of(env)).item() is healthy is bool(env.is_healthy)
    env.close()


def test_the_contact_cost_of_a_humanoid_has_a_bound():
    env = gym.make("Humanoid-v5").unwrapped
    env.reset(seed=0)
    for force in (1.0, 1e3, 1e4):
        env.data.cfrc_ext[:] = force
        np.testing.assert_allclose(ROBOTS["Humanoid-v5"].contact(data_of(env)).item(), env.contact_cost, rtol=1e-12)
    assert env.contact_cost == 10.0
    env.close()


@pytest.mark.parametrize("name", ROBOTS)
def test_starts_have_the_law_of_gymnasiums(name):
    """Bounds and moments of each number: 4 standard errors of a mean, and of a variance whose kurtosis is at most 3."""
    env, robot, n = gym.make(name).unwrapped, ROBOTS[name], 20_000
    middle = torch.from_numpy(env.init_qpos), torch.from_numpy(env.init_qvel)
    drawn = start(robot, *middle, n, torch.Generator().manual_seed(0))
    scale = env._reset_noise_scale
    for x, about, normal in zip(drawn, middle, (False, robot.normal), strict=True):
        variance = scale**2 * (1.0 if normal else 1.0 / 3.0)
        assert x.shape == (n, len(about))
        assert ((x - about).mean(0).abs() < 4.0 * (variance / n) ** 0.5).all()
        assert (((x - about).var(0) / variance - 1.0).abs() < 4.0 * (2.0 / n) ** 0.5).all()
        assert ((x - about).abs().max() <= scale).item() is not normal
    env.close()
