"""Soft actor-critic with twin Q and automatic temperature (Haarnoja et al. 2018b, arXiv 1812.05905).

Its strong presets have the networks, the law of Q and the settings of FlashSAC (Kim et al. 2026, arXiv 2604.04539).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from wgf.agents.training import soft
from wgf.agents.training.descent import train_
from wgf.agents.training.memory import memory
from wgf.agents.training.networks import body, critic
from wgf.agents.training.protocol import Batch, Info, Streams
from wgf.agents.training.settings import ACTOR, SMALL, STRONG
from wgf.agents.training.soft import SoftSettings, evaluate_, temper_
from wgf.policies.critics import QNetwork
from wgf.policies.gaussian import GaussianPolicy

__all__ = ["PRESETS", "Config", "State", "act", "act_noise", "greedy", "init", "memory", "networks", "noise", "update"]


@dataclass(frozen=True)
class Config(SoftSettings):
    """Today's SAC. The defaults are those of Stable-Baselines3."""


PRESETS = {"modern": Config(), "strong": Config(**STRONG | ACTOR), "strong-small": Config(**SMALL | ACTOR)}


class Nets(NamedTuple):
    """The functions of theta."""

    policy: GaussianPolicy
    q: QNetwork


@dataclass
class State(soft.State):
    """SAC's, with its networks."""

    nets: Nets


def networks(cfg: Config, obs: int, action: int) -> Nets:
    """Makes the networks of a configuration, for so many numbers of an observation and of an action."""
    policy = GaussianPolicy(body(cfg, obs, cfg.policy_hidden or cfg.hidden, 2 * action, cfg.activation), cfg.smooth, cfg.start_std)
    return Nets(policy, critic(cfg, obs + action, cfg.hidden, cfg.activation))


def init(
    cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device, nets: Nets | None = None
) -> State:
    """Makes a fresh state of len(generators) seeds."""
    return State(**vars(soft.begin(cfg, nets or networks(cfg, obs, action), generators, device)))


def act_noise(cfg: Config, action: int, n: int, draw: Streams) -> Tensor:
    """Draws xi ~ N(0, I), (S, n, A), held for up to ``held`` steps."""
    return draw.held(n, action, cfg.held)


def act(cfg: Config, state: State, obs: Tensor, noise: Tensor) -> Tensor:
    """Returns a draw from the policy, (S, n, A)."""
    return state.nets.policy.draw(state.policy.theta, obs, noise).action


def greedy(cfg: Config, state: State, obs: Tensor) -> Tensor:
    """Returns tanh(mean), (S, n, A)."""
    return state.nets.policy.mode(state.policy.theta, obs)


def noise(cfg: Config, action: int, draw: Streams) -> Tensor:
    """Draws xi ~ N(0, I) of one update (S, (d + 1) B, A): at the next states of d minibatches, then at the states of the last."""
    return draw.normal((cfg.policy_delay + 1) * cfg.batch, action)


def update(cfg: Config, state: State, batch: Batch, noise: Tensor) -> Info:
    """Takes one gradient step of Q on each of ``policy_delay`` minibatches, then one of the policy and the temperature on the last."""
    policy, q = state.nets
    alpha = state.log_alpha.theta.exp()[:, None]
    *xis, xi_policy = torch.split(noise, cfg.batch, 1)

    # Update Q function: y = r + discount (min Q_target(s', a') - alpha log pi(a' | s')); update target
    for last, xi in zip(batch.parts(cfg.batch), xis, strict=True):
        q_loss, q_values = evaluate_(cfg, state, last, xi)

    # Update policy: descend E[alpha log pi(a | s) - min Q(s, a)], a = tanh(mean + std xi)
    def policy_loss(policy: GaussianPolicy, theta: Tensor) -> tuple[Tensor, Tensor]:
        now = policy.draw(theta, last.obs, xi_policy)
        return (alpha * now.log_prob - q.least(state.q.theta, last.obs, now.action)).mean(-1), now.log_prob

    loss, log_prob = train_(state.policy, policy, policy_loss)

    # Update temperature: descend -log alpha (E[log pi] + target entropy)
    entropy = temper_(state, log_prob, batch.action.shape[-1], cfg.entropy_std)
    return lambda: {
        "losses/q": q_loss,
        "losses/q_values": q_values,
        "losses/policy": loss,
        "policy/entropy": entropy,
        "policy/alpha": alpha[:, 0],
    }
