"""Bayesian neural regression: the joint density of weights and precisions, its score, and what particles predict.

    y ~ N(f(x; W), 1 / gamma),   W ~ N(0, I / lambda), biases too,   gamma, lambda ~ Gamma(shape a, rate b)

A particle is a vector (W, log gamma, log lambda) of P = D + 2 numbers, D weights and biases; particles are (S, M, P): S data sets (splits)
of M particles each, in one computation. **Source** Liu & Wang 2016, Sec. 5; Zhang et al. 2018, Sec. 6.2, whose "Inv-Gamma(1, 0.1) on the
covariances" is this prior on the precisions.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wgf.bnn.stacked import StackedMLP


class Prior(NamedTuple):
    """Gamma(shape, rate) on both precisions: mean shape / rate."""

    shape: float = 1.0
    rate: float = 0.1


class Parts(NamedTuple):
    """A particle's parts: weights (S, M, D), log gamma and log lambda (S, M)."""

    weights: Tensor
    log_gamma: Tensor
    log_lam: Tensor


class Model:
    """The posterior of (S, M) networks with ``hidden`` ReLU layers on data sets of n rows.

    ``centred``: the particle holds the weights W themselves. Otherwise it holds z ~ N(0, I) and W = z / sqrt(lambda): the same
    posterior in other coordinates, in which the density is bounded. Where W is held, the density of the joint grows without bound as
    W -> 0 and lambda -> inf (lambda^(D / 2), unpaid by a volume that few particles cannot feel), and a flow left alone slides there.
    """

    def __init__(self, features: int, hidden: Sequence[int], splits: int, particles: int, *, centred: bool, prior: Prior) -> None:
        self.centred, self.prior = centred, prior
        nothing = [torch.Generator().manual_seed(s) for s in range(splits)]  # the start comes from ``init``
        self.net = StackedMLP([splits, particles], [features, *hidden, 1], "relu", nothing)
        self.weights = self.net.theta.shape[-1]
        del self.net.theta  # no parameter: what the particles stand for

    def parts(self, particles: Tensor) -> Parts:
        """What particles (S, M, P) stand for."""
        w, log_gamma, log_lam = particles[..., :-2], particles[..., -2], particles[..., -1]
        return Parts(w if self.centred else w * torch.exp(-0.5 * log_lam)[..., None], log_gamma, log_lam)

    def init(self, x: Tensor, y: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Particles (S, M, P) to begin with: W_l ~ N(0, 1 / (fan in + 1)), biases 0, log lambda the log of a Gamma(shape, 1) draw,
        log gamma = -log mean squared residual on at most 1,000 of the rows x (S, n, d), y (S, n).

        **Source** the public code of Liu & Wang 2016. Seed s draws from ``generators[s]`` alone.
        """
        m = self.net.stack[1]
        weights = torch.zeros(len(generators), m, self.weights)
        log_lam = torch.empty(len(generators), m)
        for s, g in enumerate(generators):
            for (w, _), (i, o) in zip(self.net.layers(weights[s]), self.net.shapes, strict=True):
                w.copy_(torch.randn(m, i, o, generator=g) / math.sqrt(i + 1))
            law = torch.full((m,), float(self.prior.shape))
            log_lam[s] = torch._standard_gamma(law, generator=g).log()
        weights, log_lam = weights.to(x), log_lam.to(x)
        residual = self._at(weights).evaluate(x[:, None, :1000])[0][..., 0] - y[:, None, :1000]
        log_gamma = -residual.square().mean(-1).log()
        held = weights if self.centred else weights * torch.exp(0.5 * log_lam)[..., None]
        return torch.cat([held, log_gamma[..., None], log_lam[..., None]], -1)

    def predict(self, particles: Tensor, x: Tensor) -> Tensor:
        """f(x; W), (S, M, B) for x (S, B, d)."""
        return self._at(self.parts(particles).weights).evaluate(x[:, None])[0][..., 0]

    def score(self, particles: Tensor, x: Tensor, y: Tensor, n: int) -> Tensor:
        """grad log p(particle | data), (S, M, P), from a minibatch x (S, B, d), y (S, B) of n rows: its likelihood counts n / B times.

        With r = f - y, weights held (centred):
        W: -(n / B) gamma sum_b r_b grad f_b - lambda W;   log lambda: D / 2 + a - lambda (|W|^2 / 2 + b);
        log gamma: n / 2 + a - gamma ((n / B) sum_b r_b^2 / 2 + b), the a's with the log-Jacobians of the logarithms.
        Not centred, with g = the likelihood's gradient in W: z: g / sqrt(lambda) - z;   log lambda: a - b lambda - <W, g> / 2.
        """
        weights, _, log_lam = self.parts(particles)
        (gamma, lam), (a, b) = particles[..., -2:].exp().unbind(-1), self.prior
        f, tape = self._at(weights).evaluate(x[:, None])
        residual, scale = f[..., 0] - y[:, None], n / y.shape[-1]
        grad = self.net.gradient(tape, (residual * (-scale * gamma)[..., None])[..., None])
        score = torch.empty_like(particles)
        score[..., -2] = 0.5 * n + a - gamma * (0.5 * scale * residual.square().sum(-1) + b)
        if self.centred:
            score[..., :-2] = grad.addcmul_(lam[..., None], weights, value=-1.0)
            score[..., -1] = 0.5 * self.weights + a - lam * (0.5 * weights.square().sum(-1) + b)
        else:
            score[..., :-2] = grad * torch.exp(-0.5 * log_lam)[..., None] - particles[..., :-2]
            score[..., -1] = a - b * lam - 0.5 * (weights * grad).sum(-1)
        return score

    def _at(self, weights: Tensor) -> StackedMLP:
        self.net.theta = weights  # type: ignore[assignment]
        return self.net


def log_density(prediction: Tensor, log_gamma: Tensor, y: Tensor) -> Tensor:
    """log (1/M) sum_m N(y_b; f_m(x_b), 1 / gamma_m), (S, B), of predictions (S, M, B), log gamma (S, M) and y (S, B), in one unit."""
    each = 0.5 * (log_gamma[..., None] - math.log(2.0 * math.pi) - log_gamma.exp()[..., None] * (prediction - y[:, None]).square())
    return torch.logsumexp(each, 1) - math.log(prediction.shape[1])


def deviation(prediction: Tensor, log_gamma: Tensor) -> Tensor:
    """Standard deviation of the same mixture, (S, B): the variance of f_m over particles plus the mean of 1 / gamma_m."""
    return (prediction.var(1, correction=0) + torch.exp(-log_gamma).mean(1, keepdim=True)).sqrt()
