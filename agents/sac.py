"""Soft actor-critic with twin Q and automatic temperature (Haarnoja et al. 2018b, arXiv 1812.05905)."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from wgf.agents.targets import td_target, temperature_gradient
from wgf.agents.training.descent import Adam, regress_, regression_loss
from wgf.agents.training.memory import Replay
from wgf.agents.training.protocol import Batch, Info, Streams
from wgf.agents.training.schedule import Schedule
from wgf.agents.training.settings import SmoothedSettings
from wgf.mlp import polyak_
from wgf.policies.critics import QNetwork
from wgf.policies.gaussian import GaussianPolicy
from wgf.policies.squash import exact_score


@dataclass(frozen=True)
class Config(SmoothedSettings):
    """Today's SAC. The defaults are those of Stable-Baselines3."""

    members: int = 2
    """Q networks; targets and the policy use the least of them."""


PRESETS = {"modern": Config()}


@dataclass
class State:
    """Networks and optimisers, every tensor with the seeds as its first axis."""

    policy: GaussianPolicy
    q: QNetwork
    q_target: QNetwork
    log_alpha: Tensor
    policy_adam: Adam
    q_adam: Adam
    alpha_adam: Adam


def memory(cfg: Config, schedule: Schedule) -> Replay:
    """Learns from a replay."""
    return Replay(schedule, cfg.batch, cfg.gamma, cfg.n_step, cfg.envs)


def init(cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device) -> State:
    """Fresh networks of len(generators) seeds; alpha = 1."""
    policy = GaussianPolicy(obs, action, cfg.hidden, cfg.activation, generators).to(device)
    q = QNetwork(obs, action, cfg.members, cfg.hidden, cfg.activation, generators).to(device)
    log_alpha = torch.zeros(len(generators), device=device)
    adams = Adam(policy.theta, cfg.lr), Adam(q.theta, cfg.lr), Adam(log_alpha, cfg.lr)
    return State(policy, q, deepcopy(q), log_alpha, *adams)


def act_noise(cfg: Config, action: int, n: int, draw: Streams) -> Tensor:
    """(S, n, A)."""
    return draw.normal(n, action)


def act(cfg: Config, state: State, obs: Tensor, noise: Tensor) -> Tensor:
    """A draw from the policy, (S, n, A)."""
    return state.policy.act(obs, noise)


def greedy(cfg: Config, state: State, obs: Tensor) -> Tensor:
    """tanh(mean), (S, n, A)."""
    return state.policy.mode(obs)


def noise(cfg: Config, action: int, draw: Streams) -> Tensor:
    """xi ~ N(0, I) of one update (S, 2 B, A): at the next states, then at the states of the minibatch."""
    return draw.normal(2 * cfg.batch, action)


def update(cfg: Config, state: State, batch: Batch, noise: Tensor) -> Info:
    """One gradient step of each network on one minibatch."""
    alpha = state.log_alpha.exp()[:, None]

    # Draw from the policy, at the next states and at the states
    sample, policy_back = state.policy.sample(torch.cat([batch.next_obs, batch.obs], 1), noise)
    after, now = sample.parts(cfg.batch)

    # Update Q function: y = r + discount (min Q_target(s', a') - alpha log pi(a' | s'))
    next_value = state.q_target.least(batch.next_obs, after.action) - alpha * after.log_prob
    y = td_target(cfg.reward_scale * batch.reward, batch.discount, next_value)
    q, pull_back = state.q.vjp(batch.obs, batch.action)
    q_error = regress_(state.q_adam, q, pull_back, y)

    # Update policy: descend alpha KL(pi || exp(Q / alpha)) through u = mean + std xi, a = tanh(u), min Q the value of an action
    value, slope = state.q.action_gradient(batch.obs, now.action)
    weight = alpha[..., None] / -cfg.batch
    score = exact_score(now.action, slope, alpha[..., None])  # of log(exp(Q / alpha) (1 - a^2)); the entropy's own slope in log std is 1
    state.policy_adam.step(policy_back(weight * score, weight))

    # Update temperature: towards an entropy of -A
    state.alpha_adam.step(temperature_gradient(now.log_prob, -batch.action.shape[-1]))

    # Update target
    polyak_(state.q_target, state.q, cfg.tau)
    return lambda: {
        "losses/q": regression_loss(q_error),
        "losses/q_values": q.mean((1, 2)),
        "losses/policy": (alpha * now.log_prob - value).mean(-1),
        "policy/entropy": -now.log_prob.mean(-1),
        "policy/alpha": alpha[:, 0],
    }
