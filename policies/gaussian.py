"""Gaussian policies on (-1, 1)^A: diagonal and mixture, squashed by tanh. Noise is an argument: u = mean + std xi, a = tanh(u).

Densities keep the pre-tanh sample u, so nothing is inverted near the boundary:
log pi(a) = log N(u; mean, std) - sum log(1 - tanh^2 u), with log(1 - tanh^2 u) = 2 (log 2 - u - softplus(-2 u)).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from policies.mlp import StackedMLP

LOG_STD = (-20.0, 2.0)  # bounds of log std, as in Haarnoja et al. 2018 and in today's SACs


class Sample(NamedTuple):
    """Actions (..., A) in (-1, 1), the pre-tanh u they come from, and log pi(a | s) (...)."""

    action: Tensor
    u: Tensor
    log_prob: Tensor


def log_prob(u: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """log N(u; mean, diag std^2) = -sum [ (u - mean)^2 / (2 std^2) + log std + log(2 pi) / 2 ], (...)."""
    z = (u - mean) * torch.exp(-log_std)
    return (-0.5 * z.square() - log_std - 0.5 * math.log(2.0 * math.pi)).sum(-1)


def entropy(log_std: Tensor) -> Tensor:
    """Entropy of N(mean, diag std^2) in nats: sum [ log std + (1 + log(2 pi)) / 2 ], (...)."""
    return (log_std + 0.5 * (1.0 + math.log(2.0 * math.pi))).sum(-1)


def kl(mean: Tensor, log_std: Tensor, mean2: Tensor, log_std2: Tensor) -> Tensor:
    """KL(N(mean, std^2) || N(mean2, std2^2)) = sum [ log(std2/std) + (std^2 + (mean - mean2)^2) / (2 std2^2) - 1/2 ], (...)."""
    ratio = torch.exp(2.0 * (log_std - log_std2))
    shift = (mean - mean2).square() * torch.exp(-2.0 * log_std2)
    return (log_std2 - log_std + 0.5 * (ratio + shift - 1.0)).sum(-1)


def tanh_log_det(u: Tensor) -> Tensor:
    """sum log(1 - tanh^2 u), (...): log |da/du| of a = tanh(u); to subtract from a log-density of u."""
    return (2.0 * (math.log(2.0) - u - softplus(-2.0 * u))).sum(-1)


def mixture_log_prob(u: Tensor, logits: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """log sum_k w_k N(u; mean_k, std_k), w = softmax(logits): u (..., A), logits (..., K), mean and log_std (..., K, A) -> (...)."""
    return torch.logsumexp(logits.log_softmax(-1) + log_prob(u[..., None, :], mean, log_std), -1)


def squashed(u: Tensor, log_density: Tensor) -> Sample:
    """a = tanh(u) with log pi(a) = log density of u - sum log(1 - tanh^2 u)."""
    return Sample(torch.tanh(u), u, log_density - tanh_log_det(u))


class GaussianPolicy(nn.Module):
    """Tanh-squashed diagonal Gaussian whose mean and log std are two halves of one network's output; S seeds."""

    def __init__(self, obs: int, action: int, hidden: Sequence[int], activation: str, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.net = StackedMLP([len(generators)], [obs, *hidden, 2 * action], activation, generators)

    def parameters_of(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """(S, B, D) -> mean, log std (S, B, A)."""
        mean, log_std = self.net(obs).chunk(2, -1)
        return mean, log_std.clamp(*LOG_STD)

    def forward(self, obs: Tensor, xi: Tensor) -> Sample:
        """obs (S, B, D), xi ~ N(0, I) (S, B, A)."""
        mean, log_std = self.parameters_of(obs)
        u = mean + log_std.exp() * xi
        return squashed(u, log_prob(u, mean, log_std))

    def mode(self, obs: Tensor) -> Tensor:
        """tanh(mean), (S, B, A): the deterministic action of evaluation."""
        return torch.tanh(self.parameters_of(obs)[0])


class MixturePolicy(nn.Module):
    """Tanh-squashed mixture of K Gaussians, all from one network: logits (K), means and log stds (K, A). Source: SAC of 2017."""

    def __init__(
        self, obs: int, action: int, components: int, hidden: Sequence[int], activation: str, generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        self.shape = (components, action)
        self.net = StackedMLP([len(generators)], [obs, *hidden, components * (1 + 2 * action)], activation, generators)

    def parameters_of(self, obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(S, B, D) -> logits (S, B, K), means and log stds (S, B, K, A)."""
        k, a = self.shape
        logits, mean, log_std = self.net(obs).split([k, k * a, k * a], -1)
        return logits, torch.unflatten(mean, -1, (k, a)), torch.unflatten(log_std, -1, (k, a)).clamp(*LOG_STD)

    def forward(self, obs: Tensor, pick: Tensor, xi: Tensor) -> Sample:
        """obs (S, B, D), pick ~ U(0, 1) (S, B) chooses the component, xi ~ N(0, I) (S, B, A). The choice carries no gradient."""
        logits, mean, log_std = self.parameters_of(obs)
        edges = logits.detach().softmax(-1).cumsum(-1)[..., :-1]
        k = (pick[..., None] > edges).sum(-1)[..., None, None].expand(*pick.shape, 1, xi.shape[-1])
        u = (mean.gather(-2, k) + log_std.gather(-2, k).exp() * xi[..., None, :])[..., 0, :]
        return squashed(u, mixture_log_prob(u, logits, mean, log_std))

    def log_prob(self, obs: Tensor, u: Tensor) -> Tensor:
        """log pi(tanh u | s) (S, B), with its gradient in the parameters."""
        return mixture_log_prob(u, *self.parameters_of(obs)) - tanh_log_det(u)

    def modes(self, obs: Tensor) -> Tensor:
        """tanh(mean_k), (S, B, K, A)."""
        return torch.tanh(self.parameters_of(obs)[1])
