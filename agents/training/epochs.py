"""What PPO and TRPO share: one policy per seed, segments of a fixed horizon, and epochs of minibatches that go through them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wgf.agents.training.onpolicy import Nets, estimate
from wgf.agents.training.protocol import Streams
from wgf.agents.training.rollout import Rollout, Segment
from wgf.agents.training.schedule import Schedule
from wgf.mlp import MLP
from wgf.policies.critics import VNetwork
from wgf.policies.diagonal import DiagonalPolicy

__all__ = ["EpochSettings", "begin", "divergence", "memory", "minibatches", "networks", "noise", "samples", "taken"]


@dataclass(frozen=True)
class EpochSettings:
    """Policies that learn from segments of a fixed horizon, in epochs."""

    hidden: tuple[int, ...] = (64, 64)
    """Hidden units of policy and critic."""
    activation: str = "tanh"
    """Activation: tanh or relu."""
    horizon: int = 2048
    """Steps of each environment between two updates."""
    envs: int = 1
    """Environments side by side."""
    batch: int = 64
    """Transitions of a minibatch."""
    epochs: int = 10
    """Passes over the segment."""
    gamma: float = 0.99
    """Discount."""
    lam: float = 0.95
    """Lambda of the advantages."""
    reward_scale: float = 1.0
    """Factor of the reward."""


def memory(cfg: EpochSettings, schedule: Schedule) -> Rollout:
    """They learn from segments."""
    return Rollout(1, cfg.envs, cfg.horizon, cfg.gamma, pieces=cfg.epochs * -(-cfg.horizon * cfg.envs // cfg.batch))


def networks(cfg: EpochSettings, obs: int, action: int) -> Nets:
    """Makes the networks of a configuration: deviations of 1 and means near 0 at first.

    Weights start orthogonal, as in Stable-Baselines3 and the code of PPO's authors.
    """
    policy = DiagonalPolicy(MLP((obs, *cfg.hidden, action), cfg.activation, gain=0.01), action)
    return Nets(policy, VNetwork(MLP((obs, *cfg.hidden, 1), cfg.activation, gain=1.0)))


def begin(
    cfg: EpochSettings, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device, nets: Nets | None
) -> tuple[Nets, Tensor, Tensor]:
    """Returns the networks, given or of the configuration, and fresh parameters of policy and critic, (S, 1, P) each."""
    nets = nets or networks(cfg, obs, action)
    return nets, nets.policy.init(1, generators).to(device), nets.v.init((len(generators), 1), generators).to(device)


def noise(cfg: EpochSettings, action: int, draw: Streams) -> Tensor:
    """Draws the order in which epochs take the transitions, (S, epochs, horizon x envs)."""
    return draw.permutations(cfg.epochs, cfg.horizon * cfg.envs)


def samples(cfg: EpochSettings, value: Callable[[Tensor], Tensor], segment: Segment) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns observations, actions, advantages and targets of V, each (S, 1, horizon x envs, ...); ``value``: obs -> V."""
    estimates = estimate(value, segment, cfg.reward_scale, cfg.gamma * cfg.lam)
    obs, action, advantage, target = (t.flatten(2, 3) for t in (segment.obs, segment.action, *estimates))
    return obs, action, advantage, target


def minibatches(order: Tensor, size: int) -> list[Tensor]:
    """Rows (S, k) of every minibatch, epoch after epoch, of an order (S, epochs, n); the last of an epoch may be smaller."""
    return [rows for epoch in order.unbind(1) for rows in torch.split(epoch, size, -1)]


def taken(values: Tensor, rows: Tensor) -> Tensor:
    """Rows (S, k) of values (S, 1, B, ...), (S, 1, k, ...): a minibatch."""
    index = rows.view(len(rows), 1, -1, *[1] * (values.ndim - 3))
    return values.gather(2, index.expand(-1, -1, -1, *values.shape[3:]))


def divergence(log_ratio: Tensor) -> Tensor:
    """E[r - 1 - log r], (S,), of log r = log pi(a | s) - log pi_old(a | s), (S, 1, k): an estimate of KL(pi_old || pi), without bias, >= 0.

    **Source** the third estimator of Schulman's note on approximating KL (2020). **Limits** infinite where r is, from log r = 88.7 on in
    float32; it stays finite where r is rounded to 0, below -104.
    """
    return (log_ratio.expm1() - log_ratio).mean((1, 2))
