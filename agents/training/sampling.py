"""What soft Q-learning and DP-WGF share: a sampling network whose draws at a state are its action particles, and how it acts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wgf.agents.training.descent import Adam, train_
from wgf.agents.training.networks import body, critic
from wgf.agents.training.protocol import Batch, Streams
from wgf.agents.training.settings import PaperSettings, PolicySettings
from wgf.agents.training.targets import td_target
from wgf.policies.critics import QNetwork
from wgf.policies.sampler import SamplingNetwork

__all__ = ["Nets", "SamplingSettings", "State", "act", "act_noise", "evaluate_", "greedy", "init", "networks"]


@dataclass(frozen=True)
class SamplingSettings(PaperSettings, PolicySettings):
    """Settings of agents whose policy is a sampling network."""

    members: int = 1
    """Q networks; targets and the policy use the least of them."""
    particles: int = 32
    """Action particles per state (App. E.3)."""
    alpha: float = 1.0
    """Temperature."""
    squash: Literal["exact", "soft_q"] = "soft_q"
    """Particles on u with the exact density, or on tanh(u) with the barrier of soft Q-learning's public code."""


class Nets(NamedTuple):
    """The functions of theta."""

    policy: SamplingNetwork
    q: QNetwork


@dataclass
class State:
    """What an update changes, every tensor with the seeds as its first axis; and the functions of theta, which it does not change."""

    nets: Nets
    policy: Adam
    q: Adam
    q_target: Tensor


def networks(cfg: SamplingSettings, obs: int, action: int) -> Nets:
    """Makes the networks of a configuration; the noise has as many numbers as an action."""
    policy = SamplingNetwork(body(cfg, obs + action, cfg.policy_hidden or cfg.hidden, action, cfg.activation), action)
    return Nets(policy, critic(cfg, obs + action, cfg.hidden, cfg.activation))


def init(
    cfg: SamplingSettings,
    obs: int,
    action: int,
    generators: Sequence[torch.Generator],
    device: torch.device,
    nets: Nets | None = None,
) -> State:
    """Makes a fresh state of len(generators) seeds."""
    nets = nets or networks(cfg, obs, action)
    policy, q = nets.policy.init(generators).to(device), nets.q.init(cfg.members, generators).to(device)
    return State(nets, Adam(policy, cfg.lr, cfg.lr_fall // cfg.policy_delay), Adam(q, cfg.lr, cfg.lr_fall), q.clone())


def evaluate_(cfg: SamplingSettings, state: State, part: Batch, next_value: Tensor) -> tuple[Tensor, Tensor]:
    """Takes one gradient step of Q on a minibatch towards y = r + discount V(s'), V (S, B), then moves its target by tau.

    Returns the loss and the mean Q, (S,) each.
    """
    y = td_target(cfg.reward_scale * part.reward, part.discount, next_value)
    found = train_(state.q, state.nets.q, partial(QNetwork.fit, obs=part.obs, action=part.action, y=y))
    state.q_target.lerp_(state.q.theta, cfg.tau)
    return found


def act_noise(cfg: SamplingSettings, action: int, n: int, draw: Streams) -> Tensor:
    """Draws xi ~ N(0, I), (S, n, 1, A), held for up to ``held`` steps."""
    return draw.held(n, action, cfg.held)[:, :, None]


def act(cfg: object, state: State, obs: Tensor, noise: Tensor) -> Tensor:
    """Returns one draw of the sampling network, (S, n, A)."""
    return torch.tanh(state.nets.policy.particles(state.policy.theta, obs, noise))[..., 0, :]


def greedy(cfg: SamplingSettings, state: State, obs: Tensor) -> Tensor:
    """Returns the one of M fixed draws that has the largest Q, (S, n, A)."""
    policy, q = state.nets
    return q.best(state.q.theta, obs, policy.mode(state.policy.theta, obs, cfg.particles))
