"""The tokamak: its actions and observations by hand, and, where the extra is installed, an episode of it."""

import sys

import gymnasium as gym
import numpy as np
import pytest

from wgf.agents.tasks.tokamak import command, observe
from wgf.agents.training import envs

RANGES = gym.spaces.Dict(
    ECRH=gym.spaces.Box(np.array([0.0, 0.0, 0.01]), np.array([2e7, 1.0, 1.0]), dtype=np.float64),
    Ip=gym.spaces.Box(np.array([1e3]), np.array([15e6]), dtype=np.float64),
    NBI=gym.spaces.Box(np.array([0.0, 0.0, 0.01]), np.array([3.3e7, 1.0, 1.0]), dtype=np.float64),
)


def test_a_command_spreads_the_cube_over_the_ranges():
    sent = command(np.array([-1.0, 1.0, 0.0, 0.5, 0.0, -3.0, 3.0]), RANGES)
    assert list(sent) == ["ECRH", "Ip", "NBI"]
    np.testing.assert_allclose(sent["ECRH"], [0.0, 1.0, 0.505], rtol=1e-14)
    np.testing.assert_allclose(sent["Ip"], [0.25 * 1e3 + 0.75 * 15e6], rtol=1e-14)
    np.testing.assert_allclose(sent["NBI"], [1.65e7, 0.0, 1.0], rtol=1e-14)  # beyond the cube is cut
    assert all(RANGES[name].contains(part) for name, part in sent.items())


def test_an_observation_is_the_profiles_at_five_radii_the_scalars_the_current_and_the_time():
    ramp = np.arange(27.0)
    profiles = {"T_e": ramp, "T_i": 2.0 * ramp, "n_e": 1e20 * ramp, "q": np.arange(26.0), "Ip_profile": 3e6 * np.linspace(0.0, 1.0, 26)}
    scalars = {"Q_fusion": [5.0], "H98": [0.9], "beta_N": [1.8], "li3": [0.8], "q95": [4.0], "q_min": [1.1]}
    obs = observe({"profiles": profiles, "scalars": scalars}, 30.0)
    radii = np.array([0.0, 6.0, 13.0, 20.0, 26.0])  # of 27 points; 25 / 4 k of 26, rounded, below
    expected = [radii / 10.0, radii / 5.0, radii, np.array([0.0, 6.0, 12.0, 19.0, 25.0]) / 10.0, [0.5, 0.9, 1.8, 0.8, 0.4, 1.1, 0.2, 0.2]]
    np.testing.assert_allclose(obs, np.concatenate(expected), rtol=1e-14)
    assert obs.shape == (28,)


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymtorax", None)
    with pytest.raises(ValueError, match=r"^environment 'wgf/IterHybrid-v0' needs the extra tokamak: pip install 'wgflow\[tokamak\]'$"):
        envs.make("wgf/IterHybrid-v0", 1)


@pytest.mark.slow
def test_an_episode_is_gym_toraxs_own():
    torax = pytest.importorskip("gymtorax", reason="needs the extra tokamak")
    side, plant = envs.make("wgf/IterHybrid-v0", 1), torax.IterHybridEnv(log_level="error")
    assert (side.obs_size, side.action_size) == (28, 7)
    first, (state, _) = side.reset([0]), plant.reset()
    np.testing.assert_allclose(first[0], observe(state, 0.0), rtol=1e-6)
    action = np.array([0.2, -0.3, -0.5, 1.0, 0.4, -0.5, -0.2], np.float32)
    for t in range(151):
        step = side.step(action[None])
        state, reward, terminated, truncated, _ = plant.step(command(action, plant.action_space))
        np.testing.assert_allclose(step.next_obs[0], observe(state, t + 1.0), rtol=1e-4, atol=1e-5)
        assert step.reward[0] == pytest.approx(reward, rel=1e-4)
        assert (step.terminated[0], step.truncated[0]) == (terminated, truncated)
        if terminated:
            break
    assert terminated
    np.testing.assert_allclose(step.obs, first, rtol=1e-5)
