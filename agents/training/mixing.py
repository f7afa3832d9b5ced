"""What SAC of 2017 and DP-WGF-V share: a policy that is a mixture with a density, critics Q and V, and how it acts."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from wgf.agents.training.descent import Adam
from wgf.agents.training.protocol import Streams
from wgf.agents.training.settings import PaperSettings
from wgf.policies.critics import QNetwork, VNetwork
from wgf.policies.gaussian import MixturePolicy, noise_size

__all__ = ["MixtureSettings", "Nets", "State", "act", "act_noise", "greedy"]


@dataclass(frozen=True)
class MixtureSettings(PaperSettings):
    """Settings of agents whose policy is a mixture."""

    components: int = 4
    """Components of the mixture (App. E.3); of DP-WGF-V each is a weight particle theta_k, and their number divides particles."""


class Nets(NamedTuple):
    """The functions of theta."""

    policy: MixturePolicy
    q: QNetwork
    v: VNetwork


@dataclass
class State:
    """What an update changes, every tensor with the seeds as its first axis; and the functions of theta, which it does not change."""

    nets: Nets
    policy: Adam
    q: Adam
    v: Adam
    v_target: Tensor


def act_noise(cfg: MixtureSettings, action: int, n: int, draw: Streams) -> Tensor:
    """Draws xi ~ N(0, I) and, of several components, a number that picks one: (S, n, A) or (S, n, A + 1)."""
    return draw.normal(n, noise_size(cfg.components, action))


def act(cfg: object, state: State, obs: Tensor, noise: Tensor) -> Tensor:
    """Returns a draw from the mixture, (S, n, A): one of its components, then its Gaussian."""
    return torch.tanh(state.nets.policy.law(state.policy.theta, obs).draw(noise))


def greedy(cfg: object, state: State, obs: Tensor) -> Tensor:
    """Returns the component mean with the largest Q, (S, n, A)."""
    policy, q, _ = state.nets
    return q.best(state.q.theta, obs, policy.mode(state.policy.theta, obs))
