"""Deep deterministic policy gradient (Lillicrap et al. 2016, arXiv 1509.02971)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from wgf.agents.training.descent import Adam, train_
from wgf.agents.training.memory import memory
from wgf.agents.training.networks import body, critic
from wgf.agents.training.protocol import Batch, Info, Streams
from wgf.agents.training.settings import SMALL, STRONG, PaperSettings, PolicySettings
from wgf.policies.critics import Pairs, QNetwork
from wgf.policies.deterministic import DeterministicPolicy

__all__ = ["PRESETS", "Config", "State", "act", "act_noise", "greedy", "init", "memory", "networks", "noise", "update"]


@dataclass(frozen=True)
class Config(PaperSettings, PolicySettings):
    """The networks of Zhang et al. 2018, Sec. 6.3; what that paper leaves open is from Lillicrap et al. 2016, Sec. 7.

    Departs: no weight decay of Q, and normal noise in place of an Ornstein-Uhlenbeck process, both as today's implementations have it.
    """

    lr: float = 1e-4
    """Adam's step size, the policy."""
    critic_lr: float = 1e-3
    """Adam's step size, Q."""
    tau: float = 0.001
    """Target smoothing, both networks."""
    members: int = 1
    """Q networks; targets and the policy use the least of them."""
    exploration: float = 0.1
    """Standard deviation of the normal noise on actions that explore; the actions are in (-1, 1)."""


# modern: the defaults of Stable-Baselines3, with the noise of its documentation's example. strong: FlashSAC's critic, and its step size
RATES = {"lr": 3e-4, "critic_lr": 3e-4, "members": 2}
PRESETS = {
    "paper": Config(),
    "modern": Config(hidden=(400, 300), activation="relu", batch=256, lr=1e-3, tau=0.005),
    "strong": Config(**STRONG | RATES),
    "strong-small": Config(**SMALL | RATES),
}


class Nets(NamedTuple):
    """The functions of theta."""

    policy: DeterministicPolicy
    q: QNetwork


@dataclass
class State:
    """What an update changes, every tensor with the seeds as its first axis; and the functions of theta, which it does not change."""

    nets: Nets
    policy: Adam
    policy_target: Tensor
    q: Adam
    q_target: Tensor


def networks(cfg: Config, obs: int, action: int) -> Nets:
    """Makes the networks of a configuration, for so many numbers of an observation and of an action."""
    policy = DeterministicPolicy(body(cfg, obs, cfg.policy_hidden or cfg.hidden, action, cfg.activation))
    return Nets(policy, critic(cfg, obs + action, cfg.hidden, cfg.activation))


def init(
    cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device, nets: Nets | None = None
) -> State:
    """Makes a fresh state of len(generators) seeds."""
    nets = nets or networks(cfg, obs, action)
    policy, q = nets.policy.init(generators).to(device), nets.q.init(cfg.members, generators).to(device)
    fall = cfg.lr_fall // cfg.policy_delay
    return State(nets, Adam(policy, cfg.lr, fall), policy.clone(), Adam(q, cfg.critic_lr, cfg.lr_fall), q.clone())


def act_noise(cfg: Config, action: int, n: int, draw: Streams) -> Tensor:
    """Draws xi ~ N(0, I), (S, n, A), held for up to ``held`` steps."""
    return draw.held(n, action, cfg.held)


def act(cfg: Config, state: State, obs: Tensor, noise: Tensor) -> Tensor:
    """Returns mu(s) + exploration xi, cut to [-1, 1], (S, n, A)."""
    return torch.add(greedy(cfg, state, obs), noise, alpha=cfg.exploration).clamp(-1.0, 1.0)


def greedy(cfg: Config, state: State, obs: Tensor) -> Tensor:
    """Returns mu(s), (S, n, A)."""
    return state.nets.policy.mode(state.policy.theta, obs)


def noise(cfg: Config, action: int, draw: Streams) -> None:
    """An update draws nothing."""


def update(cfg: Config, state: State, batch: Batch, noise: None) -> Info:
    """Takes one gradient step of Q on each of ``policy_delay`` minibatches, then one of the policy on the last."""
    policy, q = state.nets

    # Update Q function: y = r + discount Q_target(s', mu_target(s')); update target
    for last in batch.parts(cfg.batch):
        pairs = Pairs(last.obs, last.action, last.next_obs, policy.mode(state.policy_target, last.next_obs))
        y = q.backup(state.q_target, pairs, cfg.reward_scale * last.reward, last.discount, torch.zeros_like(last.reward))
        q_loss, q_values = train_(state.q, q, partial(QNetwork.error, pairs=pairs, y=y))
        state.q_target.lerp_(state.q.theta, cfg.tau)

    # Update policy: ascend the mean of Q(s, mu(s)); update target
    loss = train_(state.policy, policy, lambda policy, theta: -q.least(state.q.theta, last.obs, policy.mode(theta, last.obs)).mean(-1))
    state.policy_target.lerp_(state.policy.theta, cfg.tau)
    return lambda: {"losses/q": q_loss, "losses/q_values": q_values, "losses/policy": loss}
