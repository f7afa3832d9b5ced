"""Evaluation: deterministic actions in environments of their own, the same starts at every evaluation."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from agents.training.envs import Array, Envs
from agents.training.protocol import Agent


class Episodes(NamedTuple):
    """Undiscounted returns and lengths, (S, episodes)."""

    returns: Array
    lengths: Array


def evaluate(agent: Agent, cfg: Any, state: Any, envs: Envs, seeds: Sequence[int], episodes: int, device: torch.device) -> Episodes:
    """``episodes`` episodes a seed, all side by side in ``envs`` (len(seeds) * episodes of them), with the agent's greedy action.

    Episode i of seed k starts from environment seed 1,000,000 + 1,000 k + i.
    """
    starts = [1_000_000 + 1_000 * k + i for k in seeds for i in range(episodes)]
    obs = envs.reset(starts)
    returns, lengths, running = np.zeros(len(starts)), np.zeros(len(starts)), np.ones(len(starts), dtype=bool)
    while running.any():
        with torch.no_grad():
            action = agent.greedy(cfg, state, torch.from_numpy(obs).to(device).reshape(len(seeds), episodes, -1))
        step = envs.step(torch.nan_to_num(action).flatten(0, 1).cpu().numpy())
        returns += running * step.reward
        lengths += running
        running &= ~(step.terminated | step.truncated) & step.finite
        obs = step.obs
    shape = (len(seeds), episodes)
    return Episodes(returns.reshape(shape).astype(np.float32), lengths.reshape(shape).astype(np.float32))
