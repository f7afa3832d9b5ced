"""What on-policy agents share: M policies a seed with a critic each, how they act, and the advantages of a segment."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from wgf.agents.targets import gae
from wgf.agents.training.descent import Adam, regress_
from wgf.agents.training.protocol import Streams
from wgf.agents.training.rollout import Segment
from wgf.policies.critics import VNetwork
from wgf.policies.diagonal import DiagonalPolicy

TIMES = 50  # of a segment at once: few enough that the hidden layers stay in the cache


@dataclass(frozen=True)
class Settings:
    """Policies that step once a segment; the defaults are those of Zhang et al. 2018, Table 4."""

    hidden: tuple[int, ...] = (25, 16)
    """Hidden units of policies and critics."""
    activation: str = "tanh"
    """Activation: tanh or relu."""
    batch: int = 5000
    """Environment steps an update and policy; a multiple of envs."""
    envs: int = 10
    """Environments side by side, a policy."""
    lr: float = 5e-3
    """Adam's step size for the policies."""
    critic_lr: float = 1e-2
    """Adam's step size for the critics."""
    critic_steps: int = 20
    """Steps of the critics an update, which share its samples out; at most batch / envs."""
    gamma: float = 0.99
    """Discount."""
    lam: float = 1.0
    """Lambda of the advantages: 1 is REINFORCE with a baseline, 0 advantage actor-critic."""
    reward_scale: float = 1.0
    """Factor of the reward."""
    weight_noise: float = 0.0
    """Deviation of the noise on a policy's weights while it collects a segment: exploration in parameter space."""

    def __post_init__(self) -> None:
        if self.batch % self.envs:
            raise ValueError(f"batch is {self.batch}; it must be a multiple of envs, {self.envs}")
        if self.critic_steps > self.batch // self.envs:
            raise ValueError(f"critic_steps is {self.critic_steps}; it must be at most batch / envs, {self.batch // self.envs}")


@dataclass
class Networks:
    """Policies and critics, every tensor with the seeds as its first axis and the policies as its second."""

    policy: DiagonalPolicy
    v: VNetwork

    @property
    def collector(self) -> DiagonalPolicy:
        """The policies that collect."""
        return self.policy


@dataclass
class State(Networks):
    """And their optimisers."""

    policy_adam: Adam
    v_adam: Adam
    noisy: DiagonalPolicy | None = None

    @property
    def collector(self) -> DiagonalPolicy:
        """The policies that collect: the noisy ones, where there is weight noise."""
        return self.noisy or self.policy


def explore(cfg: Settings, state: State, draw: Streams) -> None:
    """Before a segment: theta~ = theta + weight_noise xi, xi ~ N(0, I), collects it, and grad J is taken at theta~.

    So the update ascends E J(theta + weight_noise xi), the return of a Gaussian over weights. **Source** Plappert et al. 2018, Sec. 3;
    Zhang et al. 2018, Sec. 5, where one particle with it is noisy exploration.
    """
    if state.noisy is not None:
        state.noisy.theta.copy_(state.policy.theta).add_(draw.normal(*state.policy.theta.shape[1:]), alpha=cfg.weight_noise)


def act_noise(cfg: object, action: int, n: int, draw: Streams) -> Tensor:
    """(S, n, A)."""
    return draw.normal(n, action)


def act(cfg: object, state: Networks, obs: Tensor, noise: Tensor) -> Tensor:
    """Draws (S, n, A): of n states the first n / M are the first policy's, and so on."""
    each = (state.policy.theta.shape[1], -1)
    return state.collector.act(torch.unflatten(obs, 1, each), torch.unflatten(noise, 1, each)).flatten(1, 2)


def greedy(cfg: object, state: Networks, obs: Tensor) -> Tensor:
    """The means, (S, n, A), dealt as in ``act``."""
    return state.policy.mean(torch.unflatten(obs, 1, (state.policy.theta.shape[1], -1))).flatten(1, 2)


def noise(cfg: object, action: int, draw: Streams) -> None:
    """One step a segment needs none."""


def estimate(v: VNetwork, segment: Segment, reward_scale: float, decay: float) -> tuple[Tensor, Tensor]:
    """(advantages, targets of V = advantages + V), (S, M, T, E) each, by ``gae``; decay = gamma lambda."""
    value, next_value = (torch.cat([v(part) for part in torch.split(x, TIMES, 2)], 2) for x in (segment.obs, segment.next_obs))
    advantage = gae(reward_scale * segment.reward, segment.discount, value, next_value, segment.ended, decay)
    return advantage, advantage + value


def standardised(advantage: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over a policy's samples, (S, M, B): the unit in which temperatures are meant."""
    deviation, mean = torch.std_mean(advantage, -1, correction=0, keepdim=True)
    return (advantage - mean) / (deviation + 1e-8)


def policy_gradient(policy: DiagonalPolicy, segment: Segment, advantage: Tensor) -> Tensor:
    """grad J = E[A grad log pi(a | s)], (S, M, P), from standardised advantages (S, M, T, E).

    **Source** Zhang et al. 2018, Sec. 4.1: REINFORCE or advantage actor-critic, by how the advantages were made.
    """
    weight = standardised(advantage.flatten(2)).view_as(advantage) / (advantage.shape[2] * advantage.shape[3])
    found = torch.zeros_like(policy.theta)
    for obs, action, w in zip(*(torch.split(x, TIMES, 2) for x in (segment.obs, segment.action, weight)), strict=True):
        _, pull_back = policy.score(obs.flatten(2, 3), action.flatten(2, 3))
        found += pull_back(w.flatten(2))
    return found


def fit_(v: VNetwork, adam: Adam, segment: Segment, target: Tensor, steps: int) -> Tensor:
    """One pass down (1/2) (V - target)^2, the i-th of ``steps`` steps at times i, i + steps, ... -> (1/2) error^2 before it, mean, (S,)."""
    losses = []
    for i in range(steps):
        obs, y = segment.obs[:, :, i::steps], target[:, :, i::steps]
        error = regress_(adam, *v.vjp(obs.flatten(2, 3)), y.flatten(2))
        losses.append(0.5 * error.square().mean((1, 2)))
    return torch.stack(losses).mean(0)


def begin(settings: Settings, policies: int, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device) -> State:
    """Fresh networks: M policies of deviation 1 a seed, and their critics."""
    policy = DiagonalPolicy(obs, action, policies, settings.hidden, settings.activation, generators).to(device)
    v = VNetwork(obs, settings.hidden, settings.activation, generators, policies).to(device)
    noisy = deepcopy(policy) if settings.weight_noise else None
    return State(policy, v, Adam(policy.theta, settings.lr), Adam(v.theta, settings.critic_lr), noisy)
