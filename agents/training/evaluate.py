"""Evaluation: deterministic actions in environments of their own, the same starts at every evaluation."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from wgf.agents.training.envs import Array, Envs
from wgf.agents.training.protocol import Agent

LONGEST = 10_000  # steps of an episode; a task without an end or a time limit is cut here

Policy = Callable[[Array], Array]  # observations (S, n, D) -> actions (S, n, A)


class Episodes(NamedTuple):
    """Undiscounted returns and lengths, (S, episodes)."""

    returns: Array
    lengths: Array


def deterministic(agent: Agent, cfg: Any, state: Any, device: torch.device) -> Policy:
    """The agent's greedy actions; where they are not finite, as a policy that diverged gives them, zero."""

    def policy(obs: Array) -> Array:
        action = agent.greedy(cfg, state, torch.from_numpy(obs).to(device))
        return torch.nan_to_num(action).cpu().numpy()

    return policy


def starts(seeds: Sequence[int], episodes: int) -> list[int]:
    """Environment seeds: episode i of seed k starts from 1,000,000 + 1,000 k + i, far from any seed of training."""
    return [1_000_000 + 1_000 * k + i for k in seeds for i in range(episodes)]


def evaluate(
    policy: Policy, envs: Envs, seeds: Sequence[int], episodes: int, stopping: Callable[[], bool] = lambda: False
) -> Episodes | None:
    """``episodes`` episodes a seed, all side by side in ``envs`` (len(seeds) * episodes of them); None where it was stopped halfway."""
    shape = (len(seeds), episodes)
    obs = envs.reset(starts(seeds, episodes))
    n = len(obs)
    returns, lengths, running = np.zeros(n), np.zeros(n), np.ones(n, dtype=bool)
    while running.any() and lengths.max() < LONGEST:
        if stopping():
            return None
        step = envs.step(policy(obs.reshape(*shape, -1)).reshape(n, -1))
        returns[running] += step.reward[running]
        lengths[running] += 1
        running &= ~(step.terminated | step.truncated) & step.finite
        obs = step.obs
    return Episodes(returns.reshape(shape).astype(np.float32), lengths.reshape(shape).astype(np.float32))
