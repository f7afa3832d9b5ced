"""Gaussian policies on (-1, 1)^A: diagonal and mixture, squashed by tanh. Noise is an argument: u = mean + std xi, a = tanh(u).

Densities keep the pre-tanh sample u, so nothing is inverted near the boundary:
log pi(a) = log N(u; mean, std) - sum log(1 - tanh^2 u), with log(1 - tanh^2 u) = 2 (log 2 - u - softplus(-2 u)).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from wgf.mlp import Network, StackedMLP

LOG_STD = (-20.0, 2.0)  # bounds of log std, as in Haarnoja et al. 2018 and in today's SACs


class Sample(NamedTuple):
    """Actions (..., A) in (-1, 1), the pre-tanh u they come from, and log pi(a | s) (...)."""

    action: Tensor
    u: Tensor
    log_prob: Tensor

    def parts(self, n: int) -> tuple["Sample", "Sample"]:
        """The first n states (S, n, A) and the others."""
        return Sample(*(t[:, :n] for t in self)), Sample(*(t[:, n:] for t in self))


def log_prob(u: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """log N(u; mean, diag std^2) = -sum [ (u - mean)^2 / (2 std^2) + log std + log(2 pi) / 2 ], (...)."""
    return standard_log_prob((u - mean) * torch.exp(-log_std), log_std)


def standard_log_prob(xi: Tensor, log_std: Tensor) -> Tensor:
    """log N(mean + std xi; mean, diag std^2) = -sum [ xi^2 / 2 + log std + log(2 pi) / 2 ], (...)."""
    return -(0.5 * xi.square() + log_std).sum(-1) - 0.5 * xi.shape[-1] * math.log(2.0 * math.pi)


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


def squashed_log_prob(xi: Tensor, log_std: Tensor, u: Tensor) -> Tensor:
    """log pi(a | s) of a = tanh u, u = mean + std xi: -sum [ xi^2 / 2 + log std + log(2 pi) / 2 + log(1 - tanh^2 u) ], (...).

    The two functions above in few calls; softplus(u, beta=-2) = -softplus(-2 u) / 2.
    """
    terms = torch.addcmul(log_std, xi, xi, value=0.5).sub_(u, alpha=2.0).add_(softplus(u, beta=-2.0), alpha=4.0)
    return -xi.shape[-1] * (0.5 * math.log(2.0 * math.pi) + 2.0 * math.log(2.0)) - terms.sum(-1)


def mixture_log_prob(u: Tensor, logits: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """log sum_k w_k N(u; mean_k, std_k), w = softmax(logits): u (..., A), logits (..., K), mean and log_std (..., K, A) -> (...)."""
    return torch.logsumexp(logits.log_softmax(-1) + log_prob(u[..., None, :], mean, log_std), -1)


class Mixture(NamedTuple):
    """A mixture of Gaussians, or a gradient in it: logits (..., K), means and log stds (..., K, A)."""

    logits: Tensor
    mean: Tensor
    log_std: Tensor


def mixture_score(u: Tensor, mixture: Mixture) -> tuple[Tensor, Mixture]:
    """log sum_k w_k N_k(u), (...), and its gradient: r_k - w_k in the logits, r_k z_k / std_k in the means, r_k (z_k^2 - 1) in the
    log stds, where z_k = (u - mean_k) / std_k and r_k = w_k N_k / sum_l w_l N_l, the responsibilities; u (..., A)."""
    inverse = torch.exp(-mixture.log_std)
    z = (u[..., None, :] - mixture.mean) * inverse
    weights = mixture.logits.log_softmax(-1)
    joint = weights + standard_log_prob(z, mixture.log_std)
    log_density = torch.logsumexp(joint, -1)
    r = torch.exp(joint - log_density[..., None])
    return log_density, Mixture(r - weights.exp(), r[..., None] * z * inverse, r[..., None] * (z.square() - 1.0))


def clamped(g: Tensor, raw: Tensor) -> Tensor:
    """g through log std = clamp(raw): zero where the bound holds."""
    return torch.ops.aten.hardtanh_backward(g, raw, *LOG_STD)  # type: ignore[no-any-return]


def squashed(u: Tensor, log_density: Tensor) -> Sample:
    """a = tanh(u) with log pi(a) = log density of u - sum log(1 - tanh^2 u)."""
    return Sample(torch.tanh(u), u, log_density - tanh_log_det(u))


class GaussianPolicy(Network):
    """Tanh-squashed diagonal Gaussian whose mean and log std are two halves of one network's output; S seeds."""

    def __init__(self, obs: int, action: int, hidden: Sequence[int], activation: str, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.net = StackedMLP([len(generators)], [obs, *hidden, 2 * action], activation, generators)

    def sample(self, obs: Tensor, xi: Tensor) -> tuple[Sample, Callable[[Tensor, Tensor], Tensor]]:
        """obs (S, B, D), xi ~ N(0, I) (S, B, A) -> the draw, and (g, h) -> grad_theta [<g, u> + <h, log std>].

        g (S, n, A) and h, which broadcasts, may be of the last n states alone.
        """
        out, tape = self.net.evaluate(obs)
        mean, raw = out.chunk(2, -1)
        log_std = raw.clamp(*LOG_STD)
        deviation = log_std.exp().mul_(xi)
        u = mean + deviation

        def pull_back(g: Tensor, h: Tensor) -> Tensor:
            n = g.shape[1]
            return self.net.gradient(tape.last(n), torch.cat([g, clamped(torch.addcmul(h, g, deviation[:, -n:]), raw[:, -n:])], -1))

        return Sample(torch.tanh(u), u, squashed_log_prob(xi, log_std, u)), pull_back

    def act(self, obs: Tensor, xi: Tensor) -> Tensor:
        """The draw's action alone, (S, B, A)."""
        mean, log_std = self.net(obs).chunk(2, -1)
        return torch.tanh(mean + log_std.clamp(*LOG_STD).exp() * xi)

    def mode(self, obs: Tensor) -> Tensor:
        """tanh(mean), (S, B, A): the deterministic action of evaluation."""
        return torch.tanh(self.net(obs).chunk(2, -1)[0])


class MixturePolicy(Network):
    """Tanh-squashed mixture of K Gaussians, all from one network: logits (K), means and log stds (K, A). Source: SAC of 2017."""

    def __init__(
        self, obs: int, action: int, components: int, hidden: Sequence[int], activation: str, generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        self.shape = (components, action)
        self.net = StackedMLP([len(generators)], [obs, *hidden, components * (1 + 2 * action)], activation, generators)

    def vjp(self, obs: Tensor) -> tuple[Mixture, Callable[[Mixture], Tensor]]:
        """(S, B, D) -> the mixtures, and g -> grad_theta <g, mixtures>."""
        k, a = self.shape
        out, tape = self.net.evaluate(obs)
        logits, mean, raw = torch.split(out, [k, k * a, k * a], -1)

        def pull_back(g: Mixture) -> Tensor:
            return self.net.gradient(tape, torch.cat([g.logits, g.mean.flatten(-2), clamped(g.log_std.flatten(-2), raw)], -1))

        mean, log_std = (torch.unflatten(t, -1, (k, a)) for t in (mean, raw.clamp(*LOG_STD)))
        return Mixture(logits, mean, log_std), pull_back

    def act(self, obs: Tensor, pick: Tensor, xi: Tensor) -> Tensor:
        """One action a state (S, B, A); noise as in ``draw``."""
        return torch.tanh(draw(self.vjp(obs)[0], pick, xi))

    def modes(self, obs: Tensor) -> Tensor:
        """tanh(mean_k), (S, B, K, A)."""
        return torch.tanh(self.vjp(obs)[0].mean)


def draw(mixture: Mixture, pick: Tensor, xi: Tensor) -> Tensor:
    """u of a mixture, (..., A): pick ~ U(0, 1) (...) chooses the component, xi ~ N(0, I) (..., A) draws from its Gaussian."""
    edges = mixture.logits.softmax(-1).cumsum(-1)[..., :-1]
    k = (pick[..., None] > edges).sum(-1)[..., None, None].expand(*pick.shape, 1, xi.shape[-1])
    return (mixture.mean.gather(-2, k) + mixture.log_std.gather(-2, k).exp() * xi[..., None, :])[..., 0, :]
