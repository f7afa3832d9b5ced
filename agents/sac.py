"""Soft actor-critic with twin Q and automatic temperature (Haarnoja et al. 2018b, arXiv 1812.05905)."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from agents.targets import squared_error, td_target, temperature_loss
from agents.training.descent import adam, descend_
from agents.training.protocol import Batch, Info, Streams
from policies.critics import QNetwork
from policies.gaussian import GaussianPolicy
from policies.mlp import polyak_


@dataclass(frozen=True)
class Config:
    """Today's SAC. The defaults are those of Stable-Baselines3."""

    hidden: tuple[int, ...] = (256, 256)
    """Hidden units of every network."""
    activation: str = "relu"
    """Activation: tanh or relu."""
    batch: int = 256
    """Transitions an update and seed."""
    lr: float = 3e-4
    """Adam's step size, all networks and the temperature."""
    gamma: float = 0.99
    """Discount."""
    tau: float = 0.005
    """Target smoothing."""
    members: int = 2
    """Q networks; targets and the policy use the least of them."""
    reward_scale: float = 1.0
    """Factor of the reward."""


PRESETS = {"modern": Config()}


@dataclass
class State:
    """Networks and optimisers, every tensor with the seeds as its first axis."""

    policy: GaussianPolicy
    q: QNetwork
    q_target: QNetwork
    log_alpha: Tensor
    policy_adam: torch.optim.Adam
    q_adam: torch.optim.Adam
    alpha_adam: torch.optim.Adam


class Noise(NamedTuple):
    """xi ~ N(0, I) (S, B, A): at the next states and at the states of the minibatch."""

    target: Tensor
    policy: Tensor


def init(cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device) -> State:
    """Fresh networks of len(generators) seeds; alpha = 1."""
    policy = GaussianPolicy(obs, action, cfg.hidden, cfg.activation, generators).to(device)
    q = QNetwork(obs, action, cfg.members, cfg.hidden, cfg.activation, generators).to(device)
    log_alpha = torch.zeros(len(generators), device=device, requires_grad=True)
    adams = adam(policy.parameters(), cfg.lr), adam(q.parameters(), cfg.lr), adam([log_alpha], cfg.lr)
    return State(policy, q, deepcopy(q), log_alpha, *adams)


def act_noise(cfg: Config, action: int, n: int, draw: Streams) -> Tensor:
    """(S, n, A)."""
    return draw.normal(n, action)


def act(cfg: Config, state: State, obs: Tensor, noise: Tensor) -> Tensor:
    """A draw from the policy, (S, n, A)."""
    return state.policy(obs, noise).action  # type: ignore[no-any-return]


def greedy(cfg: Config, state: State, obs: Tensor) -> Tensor:
    """tanh(mean), (S, n, A)."""
    return state.policy.mode(obs)


def noise(cfg: Config, action: int, draw: Streams) -> Noise:
    """The noise of one update."""
    return Noise(draw.normal(cfg.batch, action), draw.normal(cfg.batch, action))


def update(cfg: Config, state: State, batch: Batch, noise: Noise) -> Info:
    """One gradient step of each network on one minibatch."""
    alpha = state.log_alpha.detach().exp()[:, None]

    # Update Q function: y = r + discount (min Q_target(s', a') - alpha log pi(a' | s'))
    with torch.no_grad():
        after = state.policy(batch.next_obs, noise.target)
        next_value = state.q_target.least(batch.next_obs, after.action) - alpha * after.log_prob
        y = td_target(cfg.reward_scale * batch.reward, batch.discount, next_value)
    q = state.q(batch.obs, batch.action)
    q_loss = squared_error(q, y)
    descend_(q_loss, state.q_adam)

    # Update policy: descend alpha log pi(a | s) - min Q(s, a) through a = tanh(mean + std xi)
    now = state.policy(batch.obs, noise.policy)
    value, slope = state.q.action_gradient(batch.obs, now.action)
    policy_loss = (alpha * now.log_prob - (slope * now.action).sum(-1)).mean(-1)
    descend_(policy_loss, state.policy_adam)

    # Update temperature: towards an entropy of -A
    alpha_loss = temperature_loss(state.log_alpha, now.log_prob, -batch.action.shape[-1])
    descend_(alpha_loss, state.alpha_adam)

    # Update target
    polyak_(state.q_target, state.q, cfg.tau)
    entropy = -now.log_prob.detach().mean(-1)
    return {
        "losses/q": q_loss.detach(),
        "losses/q_values": q.detach().mean((1, 2)),
        "losses/policy": -(value.mean(-1) + alpha[:, 0] * entropy),
        "policy/entropy": entropy,
        "policy/alpha": alpha[:, 0],
    }
