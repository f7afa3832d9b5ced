"""Soft actor-critic with twin Q and automatic temperature (Haarnoja et al. 2018b, arXiv 1812.05905)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from wgf.agents.training.descent import Adam, descend_, squared_error
from wgf.agents.training.memory import memory
from wgf.agents.training.protocol import Batch, Info, Streams
from wgf.agents.training.settings import SmoothedSettings
from wgf.agents.training.targets import td_target
from wgf.mlp import MLP
from wgf.policies.critics import QNetwork
from wgf.policies.gaussian import GaussianPolicy

__all__ = ["PRESETS", "Config", "State", "act", "act_noise", "greedy", "init", "memory", "networks", "noise", "update"]


@dataclass(frozen=True)
class Config(SmoothedSettings):
    """Today's SAC. The defaults are those of Stable-Baselines3."""

    members: int = 2
    """Q networks; targets and the policy use the least of them."""


PRESETS = {"modern": Config()}


class Nets(NamedTuple):
    """The functions of theta."""

    policy: GaussianPolicy
    q: QNetwork


@dataclass
class State:
    """What an update changes, every tensor with the seeds as its first axis; and the functions of theta, which it does not change."""

    nets: Nets
    policy: Adam
    q: Adam
    q_target: Tensor
    log_alpha: Adam


def networks(cfg: Config, obs: int, action: int) -> Nets:
    """Makes the networks of a configuration, for so many numbers of an observation and of an action."""
    policy = GaussianPolicy(MLP((obs, *cfg.hidden, 2 * action), cfg.activation))
    return Nets(policy, QNetwork(MLP((obs + action, *cfg.hidden, 1), cfg.activation)))


def init(
    cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device, nets: Nets | None = None
) -> State:
    """Makes a fresh state of len(generators) seeds; alpha = 1."""
    nets = nets or networks(cfg, obs, action)
    policy, q = nets.policy.init(generators).to(device), nets.q.init(cfg.members, generators).to(device)
    log_alpha = torch.zeros(len(generators), device=device)
    return State(nets, Adam(policy, cfg.lr), Adam(q, cfg.lr), q.clone(), Adam(log_alpha, cfg.lr))


def act_noise(cfg: Config, action: int, n: int, draw: Streams) -> Tensor:
    """Draws xi ~ N(0, I), (S, n, A)."""
    return draw.normal(n, action)


def act(cfg: Config, state: State, obs: Tensor, noise: Tensor) -> Tensor:
    """Returns a draw from the policy, (S, n, A)."""
    return state.nets.policy.draw(state.policy.theta, obs, noise).action


def greedy(cfg: Config, state: State, obs: Tensor) -> Tensor:
    """Returns tanh(mean), (S, n, A)."""
    return state.nets.policy.mode(state.policy.theta, obs)


def noise(cfg: Config, action: int, draw: Streams) -> Tensor:
    """Draws xi ~ N(0, I) of one update (S, 2 B, A): at the next states, then at the states of the minibatch."""
    return draw.normal(2 * cfg.batch, action)


def update(cfg: Config, state: State, batch: Batch, noise: Tensor) -> Info:
    """Takes one gradient step of each network on one minibatch."""
    policy, q = state.nets
    alpha, entropy_target = state.log_alpha.theta.exp()[:, None], -batch.action.shape[-1]

    # Update Q function: descend E[(Q(s, a) - y)^2] / 2, y = r + discount (min Q_target(s', a') - alpha log pi(a' | s'))
    after = policy.draw(state.policy.theta, batch.next_obs, noise[:, : cfg.batch])
    next_value = q.least(state.q_target, batch.next_obs, after.action) - alpha * after.log_prob
    y = td_target(cfg.reward_scale * batch.reward, batch.discount, next_value)
    q_loss, q_values = descend_(state.q, lambda theta: squared_error(q(theta, batch.obs, batch.action), y))

    # Update policy: descend E[alpha log pi(a | s) - min Q(s, a)], a = tanh(mean + std xi)
    def policy_loss(theta: Tensor) -> tuple[Tensor, Tensor]:
        now = policy.draw(theta, batch.obs, noise[:, cfg.batch :])
        return (alpha * now.log_prob - q.least(state.q.theta, batch.obs, now.action)).mean(-1), now.log_prob

    loss, log_prob = descend_(state.policy, policy_loss)

    # Update temperature: descend -log alpha (E[log pi] + target entropy), the target -A
    entropy = -log_prob.mean(-1)
    descend_(state.log_alpha, lambda log_alpha: log_alpha * (entropy - entropy_target))

    # Update target
    state.q_target.lerp_(state.q.theta, cfg.tau)
    return lambda: {
        "losses/q": q_loss,
        "losses/q_values": q_values,
        "losses/policy": loss,
        "policy/entropy": entropy,
        "policy/alpha": alpha[:, 0],
    }
