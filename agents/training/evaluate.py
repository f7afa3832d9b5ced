"""Evaluation: deterministic actions in environments of their own, the same starts at every evaluation."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wgf.agents.training.envs import Array, Envs
from wgf.agents.training.protocol import AnyAgent

__all__ = ["LONGEST", "Episodes", "deterministic", "evaluate", "starts"]

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
    policy: Policy, envs: Envs, seeds: Sequence[int | None], episodes: int, stopping: Callable[[], bool] = lambda: False, first: int = 0
) -> Episodes | None:
    """Plays ``episodes`` episodes per seed, from number ``first`` on, all side by side in ``envs``, which has one row of
    len(seeds) * episodes environments.

    A seed of None is left out; what stands in its place is of no use. The return of an episode whose environment goes wrong is nan, and
    ``envs.faults`` may say what it did. Returns None where it was stopped halfway.
    """
    shape = (len(seeds), episodes)
    began = [[None] * episodes if k is None else starts([k], first + episodes)[first:] for k in seeds]
    obs = envs.reset([start for own in began for start in own])  # (S * episodes, 1, D)
    n = len(obs)
    returns, lengths, running = np.zeros(n), np.zeros(n), np.ones(n, dtype=bool)
    while running.any() and lengths.max() < LONGEST:
        if stopping():
            return None
        outcome = envs.step(policy(obs.view(*shape, -1)).view(n, 1, -1))
        obs, finite = outcome.obs, outcome.finite()[:, 0].cpu().numpy()
        returns[running] += outcome.reward[:, 0].cpu().numpy()[running]
        returns[running & ~finite] = np.nan
        lengths[running] += 1
        running &= ~(outcome.terminated | outcome.truncated)[:, 0].cpu().numpy() & finite
    return Episodes(returns.reshape(shape).astype(np.float32), lengths.reshape(shape).astype(np.float32))
