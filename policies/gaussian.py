"""Gaussian laws and the policies on (-1, 1)^A that tanh makes of them. Noise is an argument: u = mean + std xi, a = tanh(u).

Densities keep the sample u before tanh, so nothing is inverted near the boundary:
log pi(a) = log N(u; mean, std) - sum log(1 - tanh^2 u), with log(1 - tanh^2 u) = 2 (log 2 - u - softplus(-2 u)).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from wgf.door import told
from wgf.mlp import Network

__all__ = [
    "Draw", "GaussianMixture", "GaussianPolicy", "MixturePolicy", "entropy", "kl", "log_prob", "log_stds", "noise_size", "squashed",
    "standard_log_prob", "tanh_log_det",
]  # fmt: skip

LOG_STD = (-20.0, 2.0)  # bounds of log std, as in Haarnoja et al. 2018 and in today's SACs
SMOOTH = (-10.0, 2.0)  # those of ``smooth``
HALF = 0.5 * (SMOOTH[1] - SMOOTH[0])


class Draw(NamedTuple):
    """Actions (..., A), their log pi(a | s) (...), and what they were made of: u (..., A) before tanh."""

    action: Tensor
    log_prob: Tensor
    u: Tensor


# --- laws -------------------------------------------------------------------------------------------------------------


@told
def log_prob(u: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Returns log N(u; mean, diag std^2) = -sum [ (u - mean)^2 / (2 std^2) + log std + log(2 pi) / 2 ], (...)."""
    return standard_log_prob((u - mean) * torch.exp(-log_std), log_std)


@told
def standard_log_prob(xi: Tensor, log_std: Tensor) -> Tensor:
    """Returns log N(mean + std xi; mean, diag std^2) = -sum [ xi^2 / 2 + log std + log(2 pi) / 2 ], (...)."""
    return -(0.5 * xi.square() + log_std).sum(-1) - 0.5 * xi.shape[-1] * math.log(2.0 * math.pi)


@told
def entropy(log_std: Tensor) -> Tensor:
    """Returns the entropy of N(mean, diag std^2) in nats: sum [ log std + (1 + log(2 pi)) / 2 ], (...)."""
    return (log_std + 0.5 * (1.0 + math.log(2.0 * math.pi))).sum(-1)


@told
def kl(mean: Tensor, log_std: Tensor, mean2: Tensor, log_std2: Tensor) -> Tensor:
    """Returns KL(N(mean, std^2) || N(mean2, std2^2)) = sum [ log(std2/std) + (std^2 + (mean - mean2)^2) / (2 std2^2) - 1/2 ], (...)."""
    ratio = torch.exp(2.0 * (log_std - log_std2))
    shift = (mean - mean2).square() * torch.exp(-2.0 * log_std2)
    return (log_std2 - log_std + 0.5 * (ratio + shift - 1.0)).sum(-1)


@told
def tanh_log_det(u: Tensor) -> Tensor:
    """Returns sum log(1 - tanh^2 u), (...): log |da/du| of a = tanh(u); to subtract from a log-density of u."""
    return (2.0 * (math.log(2.0) - u - softplus(-2.0 * u))).sum(-1)


@told
def squashed(u: Tensor, log_density: Tensor) -> Draw:
    """Returns a = tanh(u) with log pi(a) = log density of u - sum log(1 - tanh^2 u)."""
    return Draw(torch.tanh(u), log_density - tanh_log_det(u), u)


class GaussianMixture(NamedTuple):
    """sum_k w_k N(mean_k, diag std_k^2), w = softmax(logits): logits (*b, K), mean and std (*b, K, A), one law for each entry of b.

    Draws and densities are of points (*b, *n, A): any number of them for each law.
    """

    logits: Tensor
    mean: Tensor
    std: Tensor

    def detach(self) -> "GaussianMixture":
        """Returns the same numbers, held fixed."""
        return GaussianMixture(*(t.detach() for t in self))

    @told
    def draw(self, noise: Tensor) -> Tensor:
        """Returns mean_k + std_k xi, (*b, *n, A), for noise ~ N(0, I) (*b, *n, ``noise_size``): xi and, of several, what picks k."""
        points = noise.flatten(self.logits.ndim - 1, -2) if noise.ndim > self.logits.ndim else noise[..., None, :]
        if self.mean.shape[-2] == 1:
            return torch.addcmul(self.mean, self.std, points).reshape(noise.shape)
        xi, pick = points[..., :-1], torch.special.ndtr(points[..., -1:])  # pick ~ U(0, 1)
        edges = self.logits.softmax(-1).cumsum(-1)[..., None, :-1]
        k = (pick > edges).sum(-1, keepdim=True).expand(xi.shape)
        return (self.mean.gather(-2, k) + self.std.gather(-2, k) * xi).reshape(*noise.shape[:-1], -1)

    @told
    def stratified(self, xi: Tensor) -> Tensor:
        """Returns mean_k + std_k xi, (*b, M, A), M / K draws of each component in their order, for xi ~ N(0, I) (*b, M, A)."""
        deviation = self.std[..., None, :] * torch.unflatten(xi, -2, (self.mean.shape[-2], -1))
        return (self.mean[..., None, :] + deviation).flatten(-3, -2)

    @told
    def log_prob(self, u: Tensor) -> Tensor:
        """Returns log density at points u (*b, *n, A), (*b, *n)."""
        n = u.ndim - self.logits.ndim
        law = GaussianMixture(*(t.view(*self.logits.shape[:-1], *[1] * n, *t.shape[self.logits.ndim - 1 :]) for t in self))
        z = (u[..., None, :] - law.mean) * law.std.reciprocal()
        return torch.logsumexp(law.logits.log_softmax(-1) + standard_log_prob(z, law.std.log()), -1)

    @told
    def squashed_log_prob(self, u: Tensor) -> Tensor:
        """Returns log density of a = tanh(u), (*b, *n)."""
        return self.log_prob(u) - tanh_log_det(u)


def noise_size(components: int, action: int) -> int:
    """Returns how many normal numbers are behind one draw of a mixture: A, and one that picks among several components."""
    return action + (components > 1)


def log_stds(raw: Tensor, smooth: bool, start_std: float) -> Tensor:
    """Returns log std of what a network gives, which of 0 is log start_std.

    raw + log start_std cut to -20 ... 2; smooth: -10 + 6 (1 + tanh(raw + c)), c = artanh((log start_std + 4) / 6), whose gradient never
    ends. A ``start_std`` of 0 stands for 1, and with ``smooth`` for e^-4.
    """
    if not start_std:
        shift = 0.0
    elif smooth:
        shift = math.atanh((math.log(start_std) - sum(SMOOTH) / 2.0) / HALF)
    else:
        shift = math.log(start_std)
    raw = raw + shift if shift else raw
    return SMOOTH[0] + HALF * (1.0 + raw.tanh()) if smooth else raw.clamp(*LOG_STD)


# --- policies: functions of theta -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GaussianPolicy:
    """Tanh-squashed diagonal Gaussian: mean and log std are two halves of one network's output, 2 A numbers. theta (S, P).

    ``smooth``: how log std keeps within bounds; ``start_std``: the std of a network that gives 0; see ``log_stds``.
    """

    net: Network
    smooth: bool = False
    start_std: float = 0.0

    @told
    def init(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Makes a fresh theta (S, P)."""
        return self.net.init((len(generators),), generators)

    @told
    def draw(self, theta: Tensor, obs: Tensor, xi: Tensor) -> Draw:
        """Returns one action per state, obs (S, B, D), for xi ~ N(0, I) (S, B, A): u = mean + std xi, a = tanh(u).

        log pi = -sum [ xi^2 / 2 + log std + log(2 pi) / 2 + log(1 - tanh^2 u) ], in few calls: softplus(u, beta=-2) is
        -softplus(-2 u) / 2.
        """
        mean, raw = self.net(theta, obs).chunk(2, -1)
        log_std = log_stds(raw, self.smooth, self.start_std)
        u = torch.addcmul(mean, log_std.exp(), xi)
        terms = torch.addcmul(log_std, xi, xi, value=0.5).sub(u, alpha=2.0).add(softplus(u, beta=-2.0), alpha=4.0)
        constant = xi.shape[-1] * (0.5 * math.log(2.0 * math.pi) + 2.0 * math.log(2.0))
        return Draw(torch.tanh(u), -constant - terms.sum(-1), u)

    @told
    def mode(self, theta: Tensor, obs: Tensor) -> Tensor:
        """Returns tanh(mean), (S, B, A): the deterministic action of evaluation."""
        return torch.tanh(self.net(theta, obs).chunk(2, -1)[0])


@dataclass(frozen=True)
class MixturePolicy:
    """Tanh-squashed mixture of K Gaussians, all from one network: K logits, K A means and K A log stds. theta (S, P).

    ``smooth``: how log std keeps within bounds; ``start_std``: the std of a network that gives 0; see ``log_stds``. **Source** SAC of 2017,
    Haarnoja et al. 2018a.
    """

    net: Network
    components: int
    action: int
    smooth: bool = False
    start_std: float = 0.0

    @told
    def init(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Makes a fresh theta (S, P)."""
        return self.net.init((len(generators),), generators)

    @told
    def law(self, theta: Tensor, obs: Tensor) -> GaussianMixture:
        """Returns the law of u at states (S, B, D)."""
        k, a = self.components, self.action
        logits, mean, raw = torch.split(self.net(theta, obs), [k, k * a, k * a], -1)
        mean, std = (torch.unflatten(t, -1, (k, a)) for t in (mean, log_stds(raw, self.smooth, self.start_std).exp()))
        return GaussianMixture(logits, mean, std)

    @told
    def draw(self, theta: Tensor, obs: Tensor, noise: Tensor) -> Draw:
        """Returns actions (S, B, *n, A) at states (S, B, D), for noise ~ N(0, I) (S, B, *n, ``noise_size``)."""
        law = self.law(theta, obs)
        u = law.draw(noise)
        return Draw(torch.tanh(u), law.squashed_log_prob(u), u)

    @told
    def mode(self, theta: Tensor, obs: Tensor) -> Tensor:
        """Returns tanh(mean_k), (S, B, K, A): the actions among which evaluation chooses."""
        return torch.tanh(self.law(theta, obs).mean)
