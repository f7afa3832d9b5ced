"""Deep deterministic policy gradient (Lillicrap et al. 2016, arXiv 1509.02971)."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from wgf.agents.targets import td_target
from wgf.agents.training.descent import Adam, regress_, regression_loss
from wgf.agents.training.memory import Replay
from wgf.agents.training.protocol import Batch, Info, Streams
from wgf.agents.training.schedule import Schedule
from wgf.mlp import polyak_
from wgf.policies.critics import QNetwork
from wgf.policies.deterministic import DeterministicPolicy


@dataclass(frozen=True)
class Config:
    """The networks of Zhang et al. 2018, Sec. 6.3; what that paper leaves open is from Lillicrap et al. 2016, Sec. 7.

    Departs: no weight decay of Q, and normal noise in place of an Ornstein-Uhlenbeck process, both as today's implementations have it.
    """

    hidden: tuple[int, ...] = (128, 128)
    """Hidden units of both networks."""
    activation: str = "tanh"
    """Activation: tanh or relu."""
    batch: int = 64
    """Transitions an update and seed."""
    lr: float = 1e-4
    """Adam's step size, the policy."""
    critic_lr: float = 1e-3
    """Adam's step size, Q."""
    gamma: float = 0.99
    """Discount."""
    tau: float = 0.001
    """Target smoothing, both networks."""
    exploration: float = 0.1
    """Standard deviation of the normal noise on actions that explore; the actions are in (-1, 1)."""
    reward_scale: float = 1.0
    """Factor of the reward."""


# modern: the defaults of Stable-Baselines3, with the noise of its documentation's example
PRESETS = {"paper": Config(), "modern": Config(hidden=(400, 300), activation="relu", batch=256, lr=1e-3, tau=0.005)}


@dataclass
class State:
    """Networks and optimisers, every tensor with the seeds as its first axis."""

    policy: DeterministicPolicy
    policy_target: DeterministicPolicy
    q: QNetwork
    q_target: QNetwork
    policy_adam: Adam
    q_adam: Adam


def memory(cfg: Config, schedule: Schedule) -> Replay:
    """Learns from a replay."""
    return Replay(schedule, cfg.batch, cfg.gamma)


def init(cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device) -> State:
    """Fresh networks of len(generators) seeds."""
    policy = DeterministicPolicy(obs, action, cfg.hidden, cfg.activation, generators).to(device)
    q = QNetwork(obs, action, 1, cfg.hidden, cfg.activation, generators).to(device)
    return State(policy, deepcopy(policy), q, deepcopy(q), Adam(policy.theta, cfg.lr), Adam(q.theta, cfg.critic_lr))


def act_noise(cfg: Config, action: int, n: int, draw: Streams) -> Tensor:
    """xi ~ N(0, I), (S, n, A)."""
    return draw.normal(n, action)


def act(cfg: Config, state: State, obs: Tensor, noise: Tensor) -> Tensor:
    """mu(s) + exploration xi, cut to [-1, 1], (S, n, A)."""
    return torch.add(state.policy(obs), noise, alpha=cfg.exploration).clamp(-1.0, 1.0)


def greedy(cfg: Config, state: State, obs: Tensor) -> Tensor:
    """mu(s), (S, n, A)."""
    return state.policy(obs)  # type: ignore[no-any-return]


def noise(cfg: Config, action: int, draw: Streams) -> None:
    """An update draws nothing."""


def update(cfg: Config, state: State, batch: Batch, noise: None) -> Info:
    """One gradient step of each network on one minibatch."""
    # Update Q function: y = r + discount Q_target(s', mu_target(s'))
    next_value = state.q_target.least(batch.next_obs, state.policy_target(batch.next_obs))
    y = td_target(cfg.reward_scale * batch.reward, batch.discount, next_value)
    q, pull_back = state.q.vjp(batch.obs, batch.action)
    q_error = regress_(state.q_adam, q, pull_back, y)

    # Update policy: ascend the mean of Q(s, mu(s)), grad_theta J = mean grad_a Q grad_theta mu
    action, policy_back = state.policy.vjp(batch.obs)
    value, slope = state.q.action_gradient(batch.obs, action)
    state.policy_adam.step(policy_back(slope / -cfg.batch))

    # Update targets
    polyak_(state.q_target, state.q, cfg.tau)
    polyak_(state.policy_target, state.policy, cfg.tau)
    return lambda: {
        "losses/q": regression_loss(q_error),
        "losses/q_values": q.mean((1, 2)),
        "losses/policy": -value.mean(-1),
    }
