"""Functions of behaviour that single pairs teach: how the published code of BGES scores what a policy did.

Two functions of an embedding, f(x) = <left, z(x)> and g(y) = <right, z(y)>, z(x) the random features of a Gaussian kernel
(``wgf.dual.Features``). They go on from iteration to iteration.

Source: Pacchiano et al. 2020 (BGES), Algorithm 1, Sec. 5.2, and the code beside it, which Moskovitz et al. 2020 have too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wgf.dual import Features

__all__ = ["Scores", "begun", "teach_"]

STEP, LARGEST = 0.05, 20.0  # of a pair, in their code; of the exponent, beyond which float32 would overflow before long


@dataclass
class Scores:
    """W (S, d, F) and b (S, F) of z(x) = sqrt(2 / F) cos(x W + b), and the coefficients of f and of g, (S, F) each."""

    frequencies: Tensor
    phases: Tensor
    left: Tensor
    right: Tensor

    @property
    def features(self) -> Features:
        """Returns z."""
        return Features(self.frequencies, self.phases)

    def g(self, y: Tensor) -> Tensor:
        """Returns g(y), (S, n, d) -> (S, n)."""
        return (self.features(y) @ self.right[..., None])[..., 0]


def begun(generators: Sequence[torch.Generator], size: int, features: int, length: float, device: torch.device) -> Scores:
    """Draws W ~ N(0, 1 / length^2) and b ~ U(0, 2 pi), of which z(x).z(x') is about exp(-|x - x'|^2 / (2 length^2)); f = g = 0.

    Departs: there f and g begin at z of the first pair, which is twenty steps. Pinned by
    tests/agents/training/test_scores.py::test_features_are_those_of_the_kernel_and_functions_begin_at_0.
    """
    frequencies = torch.stack([torch.randn(size, features, generator=g) for g in generators]) / length
    phases = 2.0 * math.pi * torch.stack([torch.rand(features, generator=g) for g in generators])
    left, right = (torch.zeros_like(phases) for _ in range(2))
    return Scores(*(t.to(device) for t in (frequencies, phases, left, right)))


def teach_(scores: Scores, x: Tensor, y: Tensor, sign: float, there: Tensor) -> None:
    """Takes one step per pair (x_k, y_k), k = 1 to K, (S, K, d) each; ``there``, 1 or 0, multiplies them all.

        w = 1 - exp(f(x_k) + sign g(y_k) - |x_k - y_k|^2),   left += 0.05 w z(x_k),   right += 0.05 w z(y_k)

    ``sign`` 1: a stochastic ascent of the dual of entropic transport at eps 1, E f + E g - E exp(f + g - c). ``sign`` -1: as published.
    There g is subtracted within the exponential and raised all the same, so that nothing is ascended: w is 1 for pairs that are far
    apart, and g grows as the density of all y. The exponent is cut at 20, in their code nowhere.
    """
    zx, zy = scores.features(x), scores.features(y)
    apart = (x - y).square().sum(-1)
    for k in range(x.shape[1]):
        f, g = (scores.left * zx[:, k]).sum(-1), (scores.right * zy[:, k]).sum(-1)
        w = STEP * there * (1.0 - (f + sign * g - apart[:, k]).clamp_max(LARGEST).exp())[:, None]
        scores.left.add_(w * zx[:, k])
        scores.right.add_(w * zy[:, k])
