"""A logistic posterior by SVGD with a kernel of one's own: k(x, y) = exp(-sqrt(1 + |x - y|^2 / s^2) + 1).

python examples/own_kernel.py
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from wgf import svgd
from wgf.kernels import Repulsion


@dataclass(frozen=True)
class SmoothLaplace:
    """k = exp(1 - u), u = sqrt(1 + |x - y|^2 / s^2): a Gaussian when points are near, exponential tails when they are far."""

    s: float

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Repulsion]:
        """The gram matrix (..., M, N), and w -> sum_j w_j grad_{y_j} k(x_i, y_j), where grad_y k = k (x - y) / (s^2 u)."""
        difference = x[..., :, None, :] - y[..., None, :, :]
        u = (1.0 + difference.square().sum(-1) / self.s**2).sqrt()
        gram = (1.0 - u).exp()
        return gram, lambda w: (w[..., None, :, None] * (gram / (self.s**2 * u))[..., None] * difference).sum(-2)


def data(n: int = 200) -> tuple[Tensor, Tensor]:
    """Inputs (n, 3), the last a column of ones, and labels (n,) of 0 and 1 from known weights."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.cat([torch.randn(n, 2, generator=generator, dtype=torch.float64), torch.ones(n, 1, dtype=torch.float64)], -1)
    chance = torch.sigmoid(inputs @ torch.tensor([1.5, -1.0, 0.5], dtype=torch.float64))
    return inputs, (torch.rand(n, generator=generator, dtype=torch.float64) < chance).double()


def score(w: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
    """grad log p(w | data) at weights (M, 3), for a prior N(0, I): sum_n (y_n - sigmoid(w . x_n)) x_n - w."""
    return (labels - torch.sigmoid(w @ inputs.mT)) @ inputs - w


def fit(particles: int = 50, steps: int = 1500, lr: float = 0.02) -> Tensor:
    """Particles (M, 3) of the posterior."""
    inputs, labels = data()
    w = torch.randn(particles, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    kernel = SmoothLaplace(0.3)
    for _ in range(steps):
        w = w + lr * svgd.velocity(w, score(w, inputs, labels), kernel)
    return w


if __name__ == "__main__":
    posterior = fit()
    print("mean", posterior.mean(0).tolist(), "standard deviation", posterior.std(0).tolist())
