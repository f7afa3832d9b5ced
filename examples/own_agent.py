"""An agent of one's own: augmented random search on linear policies (Mania et al. 2018, arXiv 1803.07055, Algorithm 1, version V1).

From the folder of this file: wgf train own_agent:MyAgent --env Pendulum-v1 --horizon 200
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from wgf.agents.training.protocol import Info, Streams
from wgf.agents.training.rollout import Rollout, Segment
from wgf.agents.training.schedule import Schedule


@dataclass(frozen=True)
class Config:
    """Settings of the search."""

    directions: int = 8
    """Directions in which the weights are changed, each forwards and backwards."""
    horizon: int = 20
    """Steps of each changed policy between two updates."""
    batch: int = 1
    """Environments of each changed policy."""
    deviation: float = 0.3
    """Size of the changes."""
    lr: float = 0.3
    """Step size."""
    gamma: float = 1.0
    """Discount, of no effect here."""
    reward_scale: float = 1.0
    """Factor of the reward, of no effect here."""


PRESETS = {"paper": Config()}


@dataclass
class State:
    """Weights (S, D + 1, A), the last row a constant, and the directions that are tried, (S, K, D + 1, A)."""

    weights: Tensor
    directions: Tensor


def memory(cfg: Config, schedule: Schedule) -> Rollout:
    """Says how it collects: segments of 2 K policies, whose weights ``explore`` changes before each."""
    return Rollout(2 * cfg.directions, cfg.batch, cfg.horizon, cfg.gamma, pieces=1, explore=partial(explore, cfg))


def init(cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device) -> State:
    """Makes weights of 0."""
    weights = torch.zeros(len(generators), obs + 1, action, device=device)
    return State(weights, torch.zeros(len(generators), cfg.directions, obs + 1, action, device=device))


def explore(cfg: Config, state: State, draw: Streams) -> None:
    """Draws directions from N(0, I)."""
    state.directions.copy_(draw.normal(*state.directions.shape[1:]))


def linear(weights: Tensor, obs: Tensor) -> Tensor:
    """Actions tanh((obs, 1) weights): weights (S, M, D + 1, A), obs (S, M n, D), policy by policy -> (S, M n, A)."""
    each = torch.unflatten(obs, 1, (weights.shape[1], -1))
    return torch.tanh(torch.cat([each, torch.ones_like(each[..., :1])], -1) @ weights).flatten(1, 2)


def act_noise(cfg: Config, action: int, n: int, draw: Streams) -> None:
    """Draws nothing: the weights explore."""


def act(cfg: Config, state: State, obs: Tensor, noise: None) -> Tensor:
    """Returns the actions of the changed policies."""
    change = cfg.deviation * torch.cat([state.directions, -state.directions], 1)
    return linear(state.weights[:, None] + change, obs)


def greedy(cfg: Config, state: State, obs: Tensor) -> Tensor:
    """Returns the actions of the weights themselves."""
    return linear(state.weights[:, None], obs)


def noise(cfg: Config, action: int, draw: Streams) -> None:
    """Draws nothing."""


def update(cfg: Config, state: State, batch: Segment, noise: None) -> Info:
    """weights += lr / (K deviation of the returns) sum_k (return forwards - return backwards) direction_k."""
    returns = batch.reward.sum((2, 3))  # (S, 2 K)
    forwards, backwards = returns.chunk(2, 1)
    share = (forwards - backwards) / (returns.std(1, keepdim=True) + 1e-8)
    state.weights += cfg.lr * (share[..., None, None] * state.directions).mean(1)
    return lambda: {"losses/policy": -returns.mean(1)}


MyAgent = sys.modules[__name__]
