"""Soft actor-critic with twin Q and automatic temperature (Haarnoja et al. 2018b, arXiv 1812.05905).

Its strong presets have the networks, the law of Q and the settings of FlashSAC (Kim et al. 2026, arXiv 2604.04539).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from wgf.agents.training import memory as replay
from wgf.agents.training.descent import Adam, descend_, train_
from wgf.agents.training.networks import body, critic
from wgf.agents.training.protocol import Batch, Info, Streams
from wgf.agents.training.schedule import Schedule
from wgf.agents.training.settings import SMALL, STRONG, ActorSettings, SmoothedSettings
from wgf.agents.training.targets import entropy_target
from wgf.policies.critics import Pairs, QNetwork
from wgf.policies.gaussian import GaussianPolicy

__all__ = ["PRESETS", "Config", "State", "act", "act_noise", "greedy", "init", "memory", "networks", "noise", "update"]


@dataclass(frozen=True)
class Config(ActorSettings, SmoothedSettings):
    """Today's SAC. The defaults are those of Stable-Baselines3."""

    members: int = 2
    """Q networks; targets and the policy use the least of them."""


PRESETS = {"modern": Config(), "strong": Config(**STRONG), "strong-small": Config(**SMALL)}


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
    policy = GaussianPolicy(body(cfg, obs, cfg.policy_hidden or cfg.hidden, 2 * action, cfg.activation), cfg.smooth)
    return Nets(policy, critic(cfg, obs + action, cfg.hidden, cfg.activation))


def memory(cfg: Config, schedule: Schedule) -> replay.Replay:
    """Learns from a replay, ``policy_delay`` minibatches at a time."""
    return replay.memory(cfg, schedule, cfg.policy_delay)


def init(
    cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device, nets: Nets | None = None
) -> State:
    """Makes a fresh state of len(generators) seeds."""
    nets = nets or networks(cfg, obs, action)
    policy, q = nets.policy.init(generators).to(device), nets.q.init(cfg.members, generators).to(device)
    log_alpha = torch.full((len(generators),), math.log(cfg.alpha0), device=device)
    return State(nets, Adam(policy, cfg.lr), Adam(q, cfg.lr), q.clone(), Adam(log_alpha, cfg.lr))


def act_noise(cfg: Config, action: int, n: int, draw: Streams) -> Tensor:
    """Draws xi ~ N(0, I), (S, n, A), held for up to ``held`` steps."""
    return draw.held(n, action, cfg.held) if cfg.held > 1 else draw.normal(n, action)


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

    # Update Q function: descend E[(Q(s, a) - y)^2] / 2, y = r + discount (min Q_target(s', a') - alpha log pi(a' | s'))
    for part, xi in zip(batch.parts(cfg.batch), xis, strict=True):
        after = policy.draw(state.policy.theta, part.next_obs, xi)
        pairs = Pairs(part.obs, part.action, part.next_obs, after.action)
        y = q.backup(state.q_target, pairs, cfg.reward_scale * part.reward, part.discount, -alpha * after.log_prob)
        q_loss, q_values = train_(state.q, q, partial(QNetwork.error, pairs=pairs, y=y))

        # Update target
        state.q_target.lerp_(state.q.theta, cfg.tau)

    # Update policy: descend E[alpha log pi(a | s) - min Q(s, a)], a = tanh(mean + std xi)
    def policy_loss(policy: GaussianPolicy, theta: Tensor) -> tuple[Tensor, Tensor]:
        now = policy.draw(theta, part.obs, xi_policy)
        return (alpha * now.log_prob - q.least(state.q.theta, part.obs, now.action)).mean(-1), now.log_prob

    loss, log_prob = train_(state.policy, policy, policy_loss)

    # Update temperature: descend -log alpha (E[log pi] + target entropy)
    entropy, target = -log_prob.mean(-1), entropy_target(batch.action.shape[-1], cfg.entropy_std)
    descend_(state.log_alpha, lambda log_alpha: log_alpha * (entropy - target))
    return lambda: {
        "losses/q": q_loss,
        "losses/q_values": q_values,
        "losses/policy": loss,
        "policy/entropy": entropy,
        "policy/alpha": alpha[:, 0],
    }
