"""Natural gradients: metrics as products v -> G v, the step whose length G measures, and the line search along it.

Parameters are theta (*b, P), any leading axes: each entry of the batch has its own metric and its own step. A metric is never built; the
direction G^-1 g is ``conjugate_gradient(damped(metric, damping), g, steps=...)``. Three ways to a metric, by what is known:

- ``hessian`` of a divergence: that of KL(p_theta || p) is the Fisher metric, that of W2^2 / 2 the Wasserstein metric;
- ``pullback`` J'MJ of a metric M between distributions' own parameters, such as means and deviations, to which a network with the
  Jacobian J maps theta, as a ``wgf.mlp.MLP`` does;
- ``empirical``, the mean of outer products of scores.

Source: Hoagland, "Natural Gradient Methods for Optimization and Applications to Reinforcement Learning"; Amari 1998.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad, jvp, vjp

from wgf.conjugate import Product, conjugate_gradient
from wgf.door import door, traced, vouched
from wgf.shown import shown

__all__ = [
    "SLOPES", "Diagonal", "Step", "backtrack", "damped", "empirical", "gaussian_fisher", "gaussian_wasserstein", "hessian", "pullback",
    "step",
]  # fmt: skip


@door(divergence="function", theta="*b P")
def hessian(divergence: Callable[[Tensor], Tensor], theta: Tensor) -> Product:
    """G = d^2/dphi^2 D(phi) at phi = theta, by differentiating twice; D: (*b, P) -> (*b), an entry a function of its own theta.

    KL(p_theta || p_phi), and with x ~ p_theta the sample mean of -log p_phi(x), have the Fisher metric; W2^2(p_theta, p_phi) / 2 has the
    Wasserstein metric. **Source** Hoagland: KL = (phi - theta)'F(phi - theta) / 2 + O(|phi - theta|^3).
    **Limits** a product costs about two gradients; indefinite where theta is no minimum of D (samples).
    """
    slope = grad(lambda phi: divergence(phi).sum())
    return lambda v: jvp(slope, (theta,), (v,))[1]


@door(function="function", theta="*b P", metric="function")
def pullback(function: Callable[[Tensor], Tensor], theta: Tensor, metric: Product) -> Product:
    """G = J'MJ, J the Jacobian of ``function`` at theta: forward through it, the metric M of its values, and back.

    ``metric`` (shaped as the values) holds the weights of a mean over states, such as 1/B. With M d = u (u'd) / N for scores u in the
    values it is the empirical Fisher metric, and no score in theta is formed. **Source** Schulman et al. 2015, App. C.1.
    **Limits** G = G' >= 0 where M is; singular where P exceeds the values.
    """
    back = vjp(function, theta)[1]
    return lambda v: back(metric(jvp(function, (theta,), (v,))[1]))[0]


@door(scores="*b N P")
def empirical(scores: Tensor) -> Product:
    """G = (1/N) sum_n s_n s_n', s_n = grad_theta log p(x_n): the Fisher metric for x_n ~ p_theta, as N grows; rank at most N.

    **Source** Hoagland, Algorithm 2. With data for x_n it is the empirical Fisher, another matrix where the model does not fit.
    """
    return lambda v: (scores.mT @ (scores @ v[..., None]))[..., 0] / scores.shape[-2]


@door(metric="function", damping=">=0")
def damped(metric: Product, damping: float) -> Product:
    """G + damping I."""
    return lambda v: torch.add(metric(v), v, alpha=damping)


# --- closed forms of N(mean, diag std^2) ------------------------------------------------------------------------------

# d std / d phi of the coordinate phi that stands for the deviation
SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "std": torch.ones_like,
    "log_std": lambda std: std,
    "variance": lambda std: 0.5 / std,
}


class Diagonal(NamedTuple):
    """A metric of N(mean, diag std^2), which is diagonal in (mean, phi): its entries, shaped as std each."""

    mean: Tensor
    phi: Tensor


@door(std="positive *b")
def gaussian_fisher(std: Tensor, phi: str = "std") -> Diagonal:
    """1 / std^2 in the mean; 2 / std^2 in std, 2 in log std, 1 / (2 variance^2) in the variance.

    **Source** Moskovitz et al. 2020, Eq. 22 and 24. **Limits** the natural gradient in (mean, std) is the gradient times
    (std^2, std^2 / 2).
    """
    inverse = std.square().reciprocal()
    return _held(Diagonal(inverse, 2.0 * inverse * _slope(phi)(std).square()), std)


@door(std="positive *b")
def gaussian_wasserstein(std: Tensor, phi: str = "std") -> Diagonal:
    """1 in the mean; 1 in std, std^2 in log std, 1 / (4 variance) in the variance: W2^2 = |d mean|^2 + |d std|^2.

    **Source** Moskovitz et al. 2020, Eq. 21 and 23. **Limits** in (mean, std) the natural gradient is the gradient.
    """
    return _held(Diagonal(torch.ones_like(std), _slope(phi)(std).square()), std)


def _held(entries: Diagonal, std: Tensor) -> Diagonal:
    """The entries. Raises ValueError where one is beyond the numbers of std's dtype, as 1 / std^2 may be."""
    if not (vouched() or traced() or all(entry.isfinite().all() for entry in entries)):
        raise ValueError(f"std has an entry of {std.min().item():g}; the inverse of its square or fourth power overflows {std.dtype}")
    return entries


def _slope(phi: str) -> Callable[[Tensor], Tensor]:
    if not isinstance(phi, str) or phi not in SLOPES:
        raise ValueError(f"phi is {shown(phi)}; choose from {', '.join(SLOPES)}")
    return SLOPES[phi]


# --- steps ------------------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """direction G^-1 g (*b, P), size beta (*b), and the relative residual of the solution (*b)."""

    direction: Tensor
    size: Tensor
    residual: Tensor

    @property
    def move(self) -> Tensor:
        """beta G^-1 g, (*b, P)."""
        return self.size[..., None] * self.direction


@door(metric="function", gradient="*b P", eps=">0", steps=">=1", tol=">0")
def step(metric: Product, gradient: Tensor, *, eps: float, steps: int, tol: float | None = None) -> Step:
    """The natural step: direction d = G^-1 g by conjugate gradients, size beta = sqrt(2 eps / d'Gd), so that beta^2 d'Gd / 2 = eps.

    **Source** Hoagland, Algorithms 1 and 2. **Sign** that of the gradient: add the move to ascend, subtract it to descend.
    **Units** eps is the divergence that G is the Hessian of: nats of KL for the Fisher metric, W2^2 / 2 for the Wasserstein metric.
    ``steps`` and ``tol`` are those of ``conjugate_gradient``, and so is the residual |g - G d| / |g|.
    **Limits** g = 0 stays; so does d'Gd <= 0, where G sets no length; G = I is the gradient cut to the length sqrt(2 eps).
    """
    direction, residual, product = conjugate_gradient(metric, gradient, steps=steps, tol=tol)
    length = (direction * product).sum(-1)
    return Step(direction, torch.where(length > 0.0, (2.0 * eps / length).sqrt(), 0.0), residual)


@door(acceptable="function", theta="*b P", move="*b P", shrink="share", tries=">=1")
def backtrack(acceptable: Callable[[Tensor], Tensor], theta: Tensor, move: Tensor, *, shrink: float, tries: int) -> tuple[Tensor, Tensor]:
    """(theta + shrink^k move, shrink^k) for the first k < ``tries`` whose theta is acceptable; (theta, 0) where none is. (*b, P), (*b).

    ``acceptable``: theta (*b, P) -> booleans (*b). Every entry of the batch has its own k, and nothing waits for the device: all
    ``tries`` candidates are evaluated. **Source** Schulman et al. 2015, App. C.
    """
    found, factor = theta, torch.zeros_like(theta[..., 0])
    for k in range(tries):
        candidate = theta + shrink**k * move
        taken = acceptable(candidate) & (factor == 0.0)
        found = torch.where(taken[..., None], candidate, found)
        factor = torch.where(taken, shrink**k, factor)
    return found, factor
