"""Evaluation: deterministic actions in environments of their own, the same starts at every evaluation."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wgf.agents.training.envs import Array, Envs
from wgf.agents.training.protocol import AnyAgent

LONGEST = 10_000  # steps of an episode; a task without an end or a time limit is cut here

Policy = Callable[[Tensor], Tensor]  # observations (S, n, D) -> actions (S, n, A)


class Episodes(NamedTuple):
    """Undiscounted returns and lengths, (S, episodes)."""

    returns: Array
    lengths: Array


def deterministic(agent: AnyAgent, cfg: Any, state: Any, device: torch.device) -> Policy:
    """Returns the agent's greedy actions; where they are not finite, as a policy that diverged gives them, zero."""
    return lambda obs: torch.nan_to_num(agent.greedy(cfg, state, obs.to(device))).to(obs.device)


def starts(seeds: Sequence[int], episodes: int) -> list[int]:
    """Returns the environments' seeds: episode i of seed k starts from 1,000,000 + 1,000 k + i, far from any seed of training."""
    return [1_000_000 + 1_000 * k + i for k in seeds for i in range(episodes)]


def evaluate(
    policy: Policy, envs: Envs, seeds: Sequence[int], episodes: int, stopping: Callable[[], bool] = lambda: False
) -> Episodes | None:
    """Plays ``episodes`` episodes per seed, all side by side in ``envs``, which has one row of len(seeds) * episodes environments.

    Returns None where it was stopped halfway.
    """
    shape = (len(seeds), episodes)
    obs = envs.reset(starts(seeds, episodes))  # (S * episodes, 1, D)
    n = len(obs)
    returns, lengths, running = np.zeros(n), np.zeros(n), np.ones(n, dtype=bool)
    while running.any() and lengths.max() < LONGEST:
        if stopping():
            return None
        outcome = envs.step(policy(obs.view(*shape, -1)).view(n, 1, -1))
        obs, finite = outcome.obs, outcome.finite()
        reward, goes_on = outcome.reward[:, 0].cpu().numpy(), ~(outcome.terminated | outcome.truncated) & finite
        returns[running] += reward[running]
        lengths[running] += 1
        running &= goes_on[:, 0].cpu().numpy()
    return Episodes(returns.reshape(shape).astype(np.float32), lengths.reshape(shape).astype(np.float32))
