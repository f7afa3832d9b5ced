"""Perturbations of low rank of the weights of networks: many networks near one, at hardly more than the cost of that one."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from wgf.mlp import ACTIVATIONS, MLP

__all__ = ["LowRank"]


@dataclass(frozen=True)
class LowRank:
    """eps (P,) of an MLP's theta: A^T B / sqrt(r) of each weight matrix, A (r, in) and B (r, out), and e of each bias (out,).

    ``factors`` (..., F) are A, B and e, layer by layer. Where they are N(0, 1) each, eps has mean 0 and covariance I, as eps ~ N(0, I)
    has, so that E[(g . eps) eps] = g at any rank. **Source** Sarkar et al. 2025 (EGGROLL, arXiv 2511.16652), Sec. 4.

    **Raises** ValueError for another network than an MLP, for LayerNorm, and for a rank below 1.
    """

    net: MLP
    rank: int

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}; it must be a whole number of at least 1")
        if not isinstance(self.net, MLP) or self.net.activation == "layernorm":
            raise ValueError(f"rank is {self.rank}; it is of the matrices of an MLP without LayerNorm: give rank 0 for other networks")

    @property
    def size(self) -> int:
        """F, how many numbers the factors of one perturbation are."""
        return sum(self.rank * (i + o) + o for i, o in pairwise(self.net.sizes))

    def __call__(self, theta: Tensor, scale: float, factors: Tensor, x: Tensor) -> Tensor:
        """Returns y_i of the network theta + scale eps_i at its own x_i: theta (S, P), factors (S, n, F), x (S, n, in) -> (S, n, out)."""
        by, y = scale / math.sqrt(self.rank), x
        for k, ((w, bias), (a, b, e)) in enumerate(zip(self.net.layers(theta), self._layers(factors), strict=True)):
            y = ACTIVATIONS[self.net.activation](y) if k else y
            along = by * (y[..., None, :] * a).sum(-1, keepdim=True)  # (S, n, r, 1)
            y = torch.baddbmm(bias, y, w) + scale * e + (along * b).sum(-2)
        return y

    def negative(self, factors: Tensor) -> Tensor:
        """Returns the factors of -eps, (..., F)."""
        return torch.cat([t for a, b, e in self._layers(factors) for t in (-a.flatten(-2), b.flatten(-2), -e)], -1)

    def mean(self, weight: Tensor, factors: Tensor) -> Tensor:
        """Returns (1/N) sum_i weight_i eps_i, (S, P), of weights (S, N) and factors (S, N, F), without making an eps."""
        share, parts = weight[..., None] / weight.shape[-1], list[Tensor]()
        for a, b, e in self._layers(factors):
            left = (share[..., None] * a).flatten(1, 2) / math.sqrt(self.rank)  # (S, N r, in)
            parts += [(left.mT @ b.flatten(1, 2)).flatten(1), (share * e).sum(1)]
        return torch.cat(parts, -1)

    def _layers(self, factors: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Views, layer by layer: A (..., r, in), B (..., r, out), e (..., out)."""
        lead, shapes = factors.shape[:-1], list(pairwise(self.net.sizes))
        parts = iter(torch.split(factors, [n for i, o in shapes for n in (i * self.rank, o * self.rank, o)], -1))
        return [(a.view(*lead, -1, i), b.view(*lead, -1, o), e) for (i, o), a, b, e in zip(shapes, parts, parts, parts, strict=False)]
