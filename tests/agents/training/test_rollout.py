"""Segments against environments stepped by hand."""

import numpy as np
import pytest
import torch

from wgf.agents.tasks.fleet import Fleet, Outcome
from wgf.agents.training import envs
from wgf.agents.training.rollout import Rollout

CPU = torch.device("cpu")
M, E, T = 2, 3, 40


def pushed(obs):
    """A policy: a push that depends on the state and on the place among the environments."""
    return torch.sin(obs[..., :1] + torch.arange(obs.shape[1])[:, None])


def sides(name, memory):
    return [envs.Source(name).make(2, memory.envs, starts=memory.starts) for _ in range(2)]


@pytest.mark.parametrize("name", ["wgf/CartPole-v0", "toy/Walk-v0"])
def test_a_segment_is_what_the_environments_showed_policy_by_policy(name):
    memory = Rollout(M, E, T, 0.9, pieces=1)
    side, other = sides(name, memory)
    memory.begin(side, [3, 4], CPU)
    obs = other.reset([3, 4])
    returns, lengths = torch.zeros(2, M * E), torch.zeros(2, M * E)
    for _ in range(2):
        finished, finite = memory.collect(pushed)
        (segment,) = memory.batches()
        assert finite.tolist() == [True, True]
        totals, ages, counts = (np.zeros((2, M)) for _ in range(3))
        for t in range(T):
            action = pushed(obs)
            outcome = other.step(action)
            returns, lengths = returns + outcome.reward, lengths + 1
            for m in range(M):
                n = slice(E * m, E * m + E)
                ended = outcome.terminated | outcome.truncated
                for found, expected in zip(
                    segment, (obs, action, outcome.reward, 0.9 * ~outcome.terminated, ended, outcome.next_obs), strict=True
                ):
                    assert torch.equal(found[:, m, t], expected[:, n])
                for sums, values in ((totals, returns), (ages, lengths), (counts, torch.ones(2, M * E))):
                    sums[:, m] += (values * ended)[:, n].sum(1).numpy()
            returns, lengths = returns * ~ended, lengths * ~ended
            obs = outcome.obs
        for found, expected in zip(finished, (totals, ages, counts), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert counts.sum() > 0
    assert list(memory.batches()) == []  # a segment is learned from once
    side.close()


def test_a_seed_gone_wrong_is_marked_at_its_segment():
    memory = Rollout(1, 2, 20, 0.9, pieces=1)
    memory.begin(envs.Source("toy/Nan-v0").make(2, 2, starts=lambda k: [0, k]), [0, 1], CPU)  # the environment of seed 1 breaks at step 30
    assert [memory.collect(lambda obs: torch.zeros(2, 2, 1))[1].tolist() for _ in range(2)] == [[True, True], [True, False]]


class Extreme:
    """Two seeds with one environment each: all numbers are 3e38, whose sums overflow, but the second's third reward, which is none."""

    def reset(self, seeds):
        self.t = 0
        return torch.full((2, 1, 2), 3e38)

    def step(self, action):
        self.t += 1
        obs, ended = torch.full((2, 1, 2), 3e38), torch.zeros(2, 1, dtype=torch.bool)
        return Outcome(obs, obs, torch.tensor([[3e38], [-torch.inf if self.t == 3 else 3e38]]), ended, ended)


def test_large_numbers_are_finite_and_a_reward_alone_that_is_not_is_marked():
    memory = Rollout(1, 1, 2, 0.9, pieces=1)
    memory.begin(Extreme(), [0, 1], CPU)
    assert [memory.collect(lambda obs: torch.zeros(2, 1, 1))[1].tolist() for _ in range(2)] == [[True, True], [True, False]]


def test_a_rollout_says_what_it_needs():
    memory = Rollout(M, E, T, 0.9, pieces=7)
    assert [memory.updates(steps) for steps in (1, M * E * T, M * E * T + 1)] == [7, 7, 14]  # of as many segments as it takes
    assert (memory.policies, memory.envs, memory.size, memory.warmup) == (M, M * E, M * E * T, 0)
    assert memory.starts(7) == [10_007_000 + i for i in range(M * E)]
    assert memory.place(torch.device("meta")) == torch.device("meta")
    memory.begin(Fleet("CartPole", M * E, CPU), [0, 1, 2], CPU)
    memory.collect(pushed)
    (segment,) = memory.batches()
    held = sum(t.numel() * 4 for t in segment)  # an end is a byte, counted as four
    assert memory.needs(3, 4, 1) == (2 * held, "segment: 3 x 2 x 3 x 40 steps", "--batch", 0)


def test_exploration_is_left_to_the_agent_before_each_segment():
    seen = []
    Rollout(1, 1, 1, 0.9, pieces=1, explore=lambda *args: seen.append(args)).explore("state", "draw")
    Rollout(1, 1, 1, 0.9, pieces=1).explore("state", "draw")
    assert seen == [("state", "draw")]
