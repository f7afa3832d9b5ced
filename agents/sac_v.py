"""Soft actor-critic of 2017: V network, single Q, a mixture of Gaussians (Haarnoja et al. 2018a, arXiv 1801.01290v1).

The baseline of Zhang et al. 2018. The temperature is fixed at 1: the reward scale is its inverse.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from wgf.agents.targets import td_target
from wgf.agents.training.descent import Adam, regress_, regression_loss
from wgf.agents.training.memory import Replay
from wgf.agents.training.protocol import Batch, Info, Streams
from wgf.agents.training.schedule import Schedule
from wgf.mlp import polyak_
from wgf.policies.critics import QNetwork, VNetwork, best
from wgf.policies.gaussian import Mixture, MixturePolicy, draw, mixture_score, squashed


@dataclass(frozen=True)
class Config:
    """SAC as Zhang et al. 2018 ran it: their Tables 5 and 6, and the public code of December 2017 for the rest."""

    hidden: tuple[int, ...] = (128, 128)
    """Hidden units of every network (Table 5)."""
    activation: str = "tanh"
    """Activation: tanh (Sec. 6.3) or relu."""
    batch: int = 64
    """Transitions an update and seed (Table 5)."""
    lr: float = 3e-4
    """Adam's step size (Table 5)."""
    gamma: float = 0.99
    """Discount (Table 5)."""
    tau: float = 0.01
    """Target smoothing (Table 5)."""
    components: int = 4
    """Components of the mixture (App. E.3)."""
    regularization: float = 0.001
    """Weight of the penalty on means and log stds (code of 2017)."""
    reward_scale: float = 1.0
    """Factor of the reward, the inverse temperature (Table 6 for its environments)."""


PRESETS = {"paper": Config()}


@dataclass
class State:
    """Networks and optimisers, every tensor with the seeds as its first axis."""

    policy: MixturePolicy
    q: QNetwork
    v: VNetwork
    v_target: VNetwork
    policy_adam: Adam
    q_adam: Adam
    v_adam: Adam


class Noise(NamedTuple):
    """The component's choice pick ~ U(0, 1) (S, B) and xi ~ N(0, I) (S, B, A)."""

    pick: Tensor
    xi: Tensor


def memory(cfg: Config, schedule: Schedule) -> Replay:
    """Learns from a replay."""
    return Replay(schedule, cfg.batch, cfg.gamma)


def init(cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device) -> State:
    """Fresh networks of len(generators) seeds."""
    policy = MixturePolicy(obs, action, cfg.components, cfg.hidden, cfg.activation, generators).to(device)
    q = QNetwork(obs, action, 1, cfg.hidden, cfg.activation, generators).to(device)
    v = VNetwork(obs, cfg.hidden, cfg.activation, generators).to(device)
    adams = (Adam(network.theta, cfg.lr) for network in (policy, q, v))
    return State(policy, q, v, deepcopy(v), *adams)


def act_noise(cfg: Config, action: int, n: int, draw: Streams) -> Noise:
    """pick (S, n), xi (S, n, A)."""
    return Noise(draw.uniform(n), draw.normal(n, action))


def act(cfg: Config, state: State, obs: Tensor, noise: Noise) -> Tensor:
    """A draw from the mixture, (S, n, A)."""
    return state.policy.act(obs, *noise)


def greedy(cfg: Config, state: State, obs: Tensor) -> Tensor:
    """The component mean with the largest Q, (S, n, A)."""
    return best(state.q, obs, state.policy.modes(obs))


def noise(cfg: Config, action: int, draw: Streams) -> Noise:
    """The noise of one update."""
    return act_noise(cfg, action, cfg.batch, draw)


def size(mixture: Mixture) -> Tensor:
    """Mean square of the means plus that of the log stds, (S,): what the penalty holds small."""
    return (mixture.mean.square() + mixture.log_std.square()).mean((-3, -2, -1))


def update(cfg: Config, state: State, batch: Batch, noise: Noise) -> Info:
    """One gradient step of each network on one minibatch."""
    # Update Q function: y = r + discount V_target(s')
    y = td_target(cfg.reward_scale * batch.reward, batch.discount, state.v_target(batch.next_obs))
    mixture, policy_back = state.policy.vjp(batch.obs)
    u = draw(mixture, *noise)
    log_density, score = mixture_score(u, mixture)
    sample = squashed(u, log_density)
    q_sample = state.q.least(batch.obs, sample.action)
    q, pull_back = state.q.vjp(batch.obs, batch.action)
    q_error = regress_(state.q_adam, q, pull_back, y)

    # Update value function: V(s) towards Q(s, a) - log pi(a | s), a fresh
    v, pull_back = state.v.vjp(batch.obs)
    v_error = regress_(state.v_adam, v, pull_back, q_sample - sample.log_prob)

    # Update policy: likelihood ratio, E[grad log pi(a) (log pi(a) - Q(s, a) + V(s))], and a penalty on means and log stds
    bracket = sample.log_prob - q_sample + v
    weight = (bracket / cfg.batch)[..., None]
    penalty = cfg.regularization / mixture.mean[0].numel()
    g_mean, g_log_std = (weight[..., None] * s + penalty * x for s, x in zip(score[1:], mixture[1:], strict=True))
    state.policy_adam.step(policy_back(Mixture(weight * score.logits, g_mean, g_log_std)))

    # Update target
    polyak_(state.v_target, state.v, cfg.tau)
    return lambda: {
        "losses/q": regression_loss(q_error),
        "losses/q_values": q.mean((1, 2)),
        "losses/v": regression_loss(v_error),
        "losses/policy": (sample.log_prob * bracket).mean(-1) + cfg.regularization * 0.5 * size(mixture),
        "policy/entropy": -sample.log_prob.mean(-1),
    }
