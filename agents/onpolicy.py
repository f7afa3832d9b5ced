"""What on-policy agents share: M policies a seed with a critic each, how they act, and the advantages of a segment."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.targets import gae
from agents.training.descent import Adam, regress_
from agents.training.protocol import Streams
from agents.training.rollout import Segment
from policies.critics import VNetwork
from policies.diagonal import DiagonalPolicy


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
    """Steps of the critics an update, each on all samples."""
    gamma: float = 0.99
    """Discount."""
    lam: float = 1.0
    """Lambda of the advantages: 1 is REINFORCE with a baseline, 0 advantage actor-critic."""
    reward_scale: float = 1.0
    """Factor of the reward."""

    def __post_init__(self) -> None:
        if self.batch % self.envs:
            raise ValueError(f"batch is {self.batch}; it must be a multiple of envs, {self.envs}")


@dataclass
class State:
    """Networks and optimisers, every tensor with the seeds as its first axis and the policies as its second."""

    policy: DiagonalPolicy
    v: VNetwork
    policy_adam: Adam
    v_adam: Adam


def act_noise(cfg: object, action: int, n: int, draw: Streams) -> Tensor:
    """(S, n, A)."""
    return draw.normal(n, action)


def act(cfg: object, state: State, obs: Tensor, noise: Tensor) -> Tensor:
    """Draws (S, n, A): of n states the first n / M are the first policy's, and so on."""
    each = (state.policy.theta.shape[1], -1)
    return state.policy.act(torch.unflatten(obs, 1, each), torch.unflatten(noise, 1, each)).flatten(1, 2)


def greedy(cfg: object, state: State, obs: Tensor) -> Tensor:
    """The means, (S, n, A), dealt as in ``act``."""
    return state.policy.mean(torch.unflatten(obs, 1, (state.policy.theta.shape[1], -1))).flatten(1, 2)


def noise(cfg: object, action: int, draw: Streams) -> None:
    """One step a segment needs none."""


def estimate(v: VNetwork, segment: Segment, reward_scale: float, decay: float) -> tuple[Tensor, Tensor]:
    """(advantages, targets of V = advantages + V), (S, M, T, E) each, by ``gae``; decay = gamma lambda."""
    value, next_value = v(segment.obs), v(segment.next_obs)
    advantage = gae(reward_scale * segment.reward, segment.discount, value, next_value, segment.ended, decay)
    return advantage, advantage + value


def standardised(advantage: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over a policy's samples, (S, M, B): the unit in which temperatures are meant."""
    deviation, mean = torch.std_mean(advantage, -1, correction=0, keepdim=True)
    return (advantage - mean) / (deviation + 1e-8)


def taken(values: Tensor, rows: Tensor) -> Tensor:
    """Rows (S, k) of values (S, 1, B, ...), (S, 1, k, ...): a minibatch of a seed's one policy."""
    return torch.stack([v[:, r] for v, r in zip(values, rows, strict=True)])


def policy_gradient(policy: DiagonalPolicy, segment: Segment, advantage: Tensor) -> Tensor:
    """grad J = E[A grad log pi(a | s)], (S, M, P), from standardised advantages (S, M, T, E).

    **Source** Zhang et al. 2018, Sec. 4.1: REINFORCE or advantage actor-critic, by how the advantages were made.
    """
    _, pull_back = policy.score(segment.obs.flatten(2, 3), segment.action.flatten(2, 3))
    weight = standardised(advantage.flatten(2))
    return pull_back(weight / weight.shape[-1])


def fit_(v: VNetwork, adam: Adam, segment: Segment, target: Tensor, steps: int) -> Tensor:
    """``steps`` whole-segment steps down (1/2) (V - target)^2, mean over samples -> (1/2) error^2 at first, mean, (S,)."""
    obs, target = segment.obs.flatten(2, 3), target.flatten(2)
    first = torch.zeros_like(target)
    for i in range(steps):
        error = regress_(adam, *v.vjp(obs), target)
        first = error if i == 0 else first
    return 0.5 * first.square().mean((1, 2))


def begin(settings: Settings, policies: int, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device) -> State:
    """Fresh networks: M policies of deviation 1 a seed, and their critics."""
    policy = DiagonalPolicy(obs, action, policies, settings.hidden, settings.activation, generators).to(device)
    v = VNetwork(obs, settings.hidden, settings.activation, generators, policies).to(device)
    return State(policy, v, Adam(policy.theta, settings.lr), Adam(v.theta, settings.critic_lr))
