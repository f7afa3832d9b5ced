"""The dual of entropic optimal transport over functions that are sums of random features, which can be evaluated anywhere.

    OT_eps(mu, nu) = max_{f, g} E_mu f + E_nu g - eps log E_{mu x nu} exp((f(x) + g(y) - |x - y|^2) / eps),

f(x) = <left, z(x)>, g(y) = <right, z(y)>, z(x) = sqrt(2 / F) cos(x W + b): a lower bound of ``transport.entropic_cost``, whatever the
coefficients. With W ~ N(0, 1 / l^2) and b ~ U(0, 2 pi), z(x).z(x') is about the Gaussian kernel of length l.

Source: Pacchiano et al. 2019 (arXiv 1906.04349), Moskovitz et al. 2020. Departs: they ascend the same dual with an exponential in the place
of its logarithm, by steps of a fixed size, which diverge where the exponential is large; the logarithm is its maximum over a constant.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from wgf.door import door
from wgf.kernels import squared_distances

__all__ = ["Dual", "Features", "maximised", "value"]


class Features(NamedTuple):
    """W, (*b, d, F), and b, (*b, F)."""

    frequencies: Tensor
    phases: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Returns z(x), (*b, N, d) -> (*b, N, F)."""
        return math.sqrt(2.0 / self.phases.shape[-1]) * torch.cos(x @ self.frequencies + self.phases[..., None, :])


class Dual(NamedTuple):
    """Two functions as coefficients of the same features, (*b, F) each."""

    features: Features
    left: Tensor
    right: Tensor

    def f(self, x: Tensor) -> Tensor:
        """Returns f(x), (*b, N, d) -> (*b, N)."""
        return (self.features(x) @ self.left[..., None]).squeeze(-1)

    def g(self, y: Tensor) -> Tensor:
        """Returns g(y), (*b, N, d) -> (*b, N)."""
        return (self.features(y) @ self.right[..., None]).squeeze(-1)


@door(x="*b M d", y="*b N d", eps=">0")
def value(x: Tensor, y: Tensor, eps: float, dual: Dual) -> Tensor:
    """Returns the dual's value, (*b): no more than OT_eps(x, y) of the uniform clouds, and equal to it where f and g are the potentials.

    Differentiable in x and y; at the maximum, with ``dual`` held fixed, this is the derivative of the cost (envelope theorem).
    **Raises** ValueError for clouds that do not fit together.
    """
    f, g = dual.f(x), dual.g(y)
    return f.mean(-1) + g.mean(-1) - eps * (_exponents(x, y, f, g, eps).logsumexp((-2, -1)) - math.log(f.shape[-1] * g.shape[-1]))


@door(x="*b M d", y="*b N d", eps=">0", steps=">=1")
def maximised(x: Tensor, y: Tensor, eps: float, features: Features, steps: int = 1000) -> Dual:
    """Returns the functions after so many steps up the value from f = g = 0, with Nesterov's momentum.

    The value is concave in the coefficients and its gradient has the Lipschitz constant 4 / eps, since |z|^2 <= 2: each step is eps / 4
    of the gradient, and its error falls as 1 / steps^2. **Raises** ValueError for clouds that do not fit together.
    """
    zx, zy = features(x.detach()), features(y.detach())
    last = now = torch.stack([torch.zeros_like(zx[..., 0, :]), torch.zeros_like(zy[..., 0, :])])
    for k in range(steps):
        at = now + k / (k + 3) * (now - last)
        f, g = ((z @ part[..., None]).squeeze(-1) for z, part in zip((zx, zy), at, strict=True))
        exponents = _exponents(x.detach(), y.detach(), f, g, eps)
        plan = exponents.flatten(-2).softmax(-1).view(exponents.shape)
        seen = (plan.sum(-1)[..., None, :] @ zx).squeeze(-2), (plan.sum(-2)[..., None, :] @ zy).squeeze(-2)
        gradient = torch.stack([zx.mean(-2) - seen[0], zy.mean(-2) - seen[1]])
        last, now = now, at + eps / 4.0 * gradient
    return Dual(features, *now)


def _exponents(x: Tensor, y: Tensor, f: Tensor, g: Tensor, eps: float) -> Tensor:
    """(f(x_i) + g(y_j) - |x_i - y_j|^2) / eps, (*b, M, N)."""
    return (f[..., :, None] + g[..., None, :] - squared_distances(x, y)) / eps
