"""Bayesian neural regression: the joint density of weights and precisions, its score, and what particles predict.

    y_k ~ N(f_k(x; W), 1 / gamma_k),   W ~ N(0, I / lambda), biases too,   gamma_k, lambda ~ Gamma(shape a, rate b)

One network has K outputs, each with a noise precision of its own. A particle is a vector (W, log gamma_1 ... log gamma_K, log lambda)
of P = D + K + 1 numbers, D weights and biases; particles are (S, M, P): S data sets (splits) of M particles each, in one computation.
**Source** Liu & Wang 2016, Sec. 5; Zhang et al. 2018, Sec. 6.2, whose "Inv-Gamma(1, 0.1) on the covariances" is this prior on the
precisions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from wgf.bnn.network import Net

__all__ = ["LEAST_RESIDUAL", "Model", "Parts", "Prior", "deviation", "log_density"]

LEAST_RESIDUAL = 1e-4  # of the targets' variance: where networks fit all rows at the start, they do so by chance


class Prior(NamedTuple):
    """Gamma(shape, rate) on all precisions: mean shape / rate."""

    shape: float = 1.0
    rate: float = 0.1


class Parts(NamedTuple):
    """A particle's parts: weights (S, M, D), log gamma (S, M, K) and log lambda (S, M)."""

    weights: Tensor
    log_gamma: Tensor
    log_lam: Tensor


@dataclass(frozen=True)
class Model:
    """The posterior of M networks on each data set.

    ``centred``: the particle holds the weights W themselves. Otherwise it holds z ~ N(0, I) and W = z / sqrt(lambda): the same
    posterior in other coordinates, in which the density is bounded. Where W is held, the density of the joint grows without bound as
    W -> 0 and lambda -> inf (lambda^(D / 2), unpaid by a volume that few particles cannot feel), and a flow left alone slides there.
    """

    net: Net
    particles: int
    centred: bool
    prior: Prior

    @property
    def numbers(self) -> int:
        """P, how many numbers a particle has."""
        return self.net.weights + self.net.sizes[-1] + 1

    def parts(self, particles: Tensor) -> Parts:
        """What particles (S, M, P) stand for."""
        held, log_gamma, log_lam = self._split(particles)
        return Parts(self._weights(held, log_lam), log_gamma, log_lam)

    def init(self, x: Tensor, y: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Particles (S, M, P) to begin with: W_l ~ N(0, 1 / (fan in + 1)), biases 0, log lambda the log of a Gamma(shape, 1) draw,
        log gamma_k = -log mean squared residual on at most 1,000 of the rows x (S, n, d), y (S, n, K).

        **Source** the public code of Liu & Wang 2016. Seed s draws from ``generators[s]`` alone.
        """
        weights = torch.zeros(len(generators), self.particles, self.net.weights)
        log_lam = torch.empty(len(generators), self.particles)
        for s, g in enumerate(generators):
            for layer in self.net.layers(weights[s]):
                inputs, outputs = layer.shape[-2] - 1, layer.shape[-1]
                layer[:, :-1] = torch.randn(self.particles, inputs, outputs, generator=g) / math.sqrt(inputs + 1)
            law = torch.full((self.particles,), float(self.prior.shape))
            log_lam[s] = torch._standard_gamma(law, generator=g).log()
        weights, log_lam = weights.to(x), log_lam.to(x)
        residual = self.net(weights, x[:, :1000]) - y[:, None, :1000]
        log_gamma = -residual.square().mean(-2).clamp_min(LEAST_RESIDUAL).log()
        held = weights if self.centred else weights * torch.exp(0.5 * log_lam)[..., None]
        return torch.cat([held, log_gamma, log_lam[..., None]], -1)

    def predict(self, particles: Tensor, x: Tensor) -> Tensor:
        """f(x; W), (S, M, B, K) for x (S, B, d)."""
        return self.net(self.parts(particles).weights, x)

    def log_joint(self, particles: Tensor, x: Tensor, y: Tensor, weights: Tensor, n: int) -> Tensor:
        """log p(particle, data) up to a constant, (S, M), from a minibatch x (S, B, d), y (S, B, K) of n rows.

        The log-likelihood of row b counts ``weights[s, b]`` times, and that of the minibatch n / B times. With r = f - y, D weights:
        likelihood  sum_k (n / B) sum_b w_b (log gamma_k - gamma_k r_bk^2) / 2
        precisions  sum_k (a log gamma_k - b gamma_k) + a log lambda - b lambda, the a's with the log-Jacobians of the logarithms
        weights     D log lambda / 2 - lambda |W|^2 / 2 where W is held (centred); -|z|^2 / 2 where z is.
        """
        held, log_gamma, log_lam = self._split(particles)
        w, gamma, lam = self._weights(held, log_lam), log_gamma.exp(), log_lam.exp()
        a, b = self.prior
        squares = (self.net(w, x) - y[:, None]).square() * weights[:, None, :, None]
        rows = weights.sum(-1)[:, None, None]
        likelihood = 0.5 * n / y.shape[1] * (rows * log_gamma - gamma * squares.sum(-2)).sum(-1)
        precisions = (a * log_gamma - b * gamma).sum(-1) + a * log_lam - b * lam
        square = held.square().sum(-1)
        law = 0.5 * (self.net.weights * log_lam - lam * square) if self.centred else -0.5 * square
        return likelihood + precisions + law

    def score(self, particles: Tensor, x: Tensor, y: Tensor, weights: Tensor, n: int) -> Tensor:
        """grad log p(particle | data), (S, M, P): the gradient of ``log_joint``, a particle's in its own numbers."""
        with torch.enable_grad():
            leaf = particles.detach().requires_grad_()
            return torch.autograd.grad(self.log_joint(leaf, x, y, weights, n).sum(), leaf)[0]

    def _split(self, particles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """W or z (S, M, D), log gamma (S, M, K) and log lambda (S, M)."""
        held, log_gamma, log_lam = torch.split(particles, [self.net.weights, self.net.sizes[-1], 1], -1)
        return held, log_gamma, log_lam[..., 0]

    def _weights(self, held: Tensor, log_lam: Tensor) -> Tensor:
        return held if self.centred else held * torch.exp(-0.5 * log_lam)[..., None]


def log_density(prediction: Tensor, log_gamma: Tensor, y: Tensor) -> Tensor:
    """log (1/M) sum_m prod_k N(y_bk; f_mk(x_b), 1 / gamma_mk), (S, B), of predictions (S, M, B, K), log gamma (S, M, K) and y
    (S, B, K), in one unit."""
    square = log_gamma.exp()[..., None, :] * (prediction - y[:, None]).square()
    each = 0.5 * (log_gamma[..., None, :] - math.log(2.0 * math.pi) - square).sum(-1)
    return torch.logsumexp(each, 1) - math.log(prediction.shape[1])


def deviation(prediction: Tensor, log_gamma: Tensor) -> Tensor:
    """Standard deviation of each output of the same mixture, (S, B, K): the variance of f_m over particles plus the mean of
    1 / gamma_m."""
    return (prediction.var(1, correction=0) + torch.exp(-log_gamma).mean(1)[:, None]).sqrt()
