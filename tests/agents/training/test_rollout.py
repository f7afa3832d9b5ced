"""Segments against environments stepped by hand."""

import numpy as np
import pytest
import torch

from wgf.agents.tasks.fleet import Fleet
from wgf.agents.training import envs, rollout
from wgf.agents.training.rollout import Finished, Gathered, Rollout, Shape

CPU = torch.device("cpu")
SHAPE = Shape(2, 3, 40)


def pushed(obs):
    """A policy: a push that depends on the state and on the place in the side."""
    return torch.sin(obs[..., :1] + torch.arange(obs.shape[1])[:, None])


@pytest.mark.parametrize("name", ["wgf/CartPole-v0", "toy/Walk-v0"])
def test_a_segment_is_what_the_environments_showed_policy_by_policy(name):
    side = rollout.side(name, SHAPE, 2, "gymnasium", CPU)
    other = rollout.side(name, SHAPE, 2, "gymnasium", CPU)
    memory = Rollout(side, SHAPE, [3, 4], 0.9)
    obs = other.reset([3, 4])
    returns, lengths = torch.zeros(2, 6), torch.zeros(2, 6)
    for _ in range(2):
        segment, finished = memory.collect(pushed)
        totals, ages, counts = (np.zeros((2, 2)) for _ in range(3))
        for t in range(SHAPE.steps):
            action = pushed(obs)
            outcome = other.step(action)
            returns, lengths = returns + outcome.reward, lengths + 1
            for m in range(2):
                n = slice(3 * m, 3 * m + 3)
                ended = outcome.terminated | outcome.truncated
                for found, expected in zip(
                    segment, (obs, action, outcome.reward, 0.9 * ~outcome.terminated, ended, outcome.next_obs), strict=True
                ):
                    assert torch.equal(found[:, m, t], expected[:, n])
                for sums, values in ((totals, returns), (ages, lengths), (counts, torch.ones(2, 6))):
                    sums[:, m] += (values * ended)[:, n].sum(1).numpy()
            returns, lengths = returns * ~ended, lengths * ~ended
            obs = outcome.obs
        for found, expected in zip(finished, (totals, ages, counts), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert counts.sum() > 0
    side.close()


def test_the_projects_own_tasks_are_a_fleet_and_others_are_gathered():
    assert isinstance(rollout.side("wgf/CartPole-v0", SHAPE, 2, "gymnasium", CPU), Fleet)
    gathered = rollout.side("toy/Walk-v0", SHAPE, 2, "gymnasium", CPU)
    assert isinstance(gathered, Gathered)
    plain = envs.make("toy/Walk-v0", 12)
    obs = gathered.reset([7, 8])
    first = plain.reset([10_000_000 + 1_000 * k + i for k in (7, 8) for i in range(6)])
    np.testing.assert_array_equal(obs.flatten(0, 1), first)
    action = torch.linspace(-1.0, 1.0, 12 * gathered.action_size).view(2, 6, -1)
    for found, expected in zip(gathered.step(action), plain.step(action.flatten(0, 1).numpy()), strict=False):
        np.testing.assert_array_equal(found.flatten(0, 1), expected)


def test_means_are_over_episodes_and_the_best_policy_is_told():
    finished = Finished(
        np.array([[6.0, 1.0], [0.0, 0.0], [0.0, -4.0]]),
        np.array([[9.0, 3.0], [0.0, 0.0], [0.0, 8.0]]),
        np.array([[2.0, 1.0], [0.0, 0.0], [0.0, 2.0]]),
    )
    returns, lengths = finished.mean()
    np.testing.assert_allclose(returns, [7.0 / 3.0, np.nan, -2.0])
    np.testing.assert_allclose(lengths, [4.0, np.nan, 4.0])
    np.testing.assert_allclose(finished.best(), [3.0, np.nan, -2.0])


def test_a_shape_counts_environments_and_steps():
    assert (SHAPE.side, SHAPE.size) == (6, 240)
    segment, _ = Rollout(Fleet("CartPole", 6, CPU), SHAPE, [0, 1, 2], 0.9).collect(pushed)
    held = sum(t.numel() * 4 for t in segment)  # an end is a byte, counted as four
    assert Rollout.bytes(3, SHAPE, 4, 1) == 2 * held
