"""Wasserstein policy optimisation's direction: the flow that carries actions along grad_a Q, projected onto a law's parameters.

The law pi(a | phi) of one state follows d pi / dt = -div(pi g), g = grad_a Q at fixed actions. Of the laws within reach the nearest in
KL moves by d phi / dt = F^-1 E[grad_phi (grad_a log pi(a | phi) . g(a))], F = E[grad_phi log pi grad_phi log pi^T] the Fisher matrix.
Directions are to *add* to phi. They are sums over the draws, as in the published code: N times an estimate of the mean.

**Source** Pfau et al. 2025, Eqs. 1 to 6. **Limits** one integration by parts drops the flux pi grad_phi log pi g through the boundary
of the support: 0 on all of R^A and for a squashed Gaussian, but not for a law whose density stays above 0 at an edge, such as an
exponential's at 0, a truncated Gaussian's or a uniform's. There the direction is neither the flow's nor that of E[Q].
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.func import grad

from wgf.conjugate import Product, conjugate_gradient
from wgf.door import door
from wgf.natural import damped, empirical

__all__ = ["ascent", "density", "direction", "gaussian", "shrunk"]

Density = Callable[[Tensor, Tensor], Tensor]  # (phi (..., n, P), a (..., n, A)) -> log pi(a | phi) (..., n), a row of phi for each a


@door(xi="*b N A", slope="*b N A")
def gaussian(xi: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """N(mean, diag std^2) in its mean and std: d mean = sum_n g_n, d std = sum_n xi_n g_n, with xi = (a - mean) / std.

    xi, slope (..., N, A) -> (..., A) each. **Source** Pfau et al. 2025, Sec. 4.1: F = diag(1 / std^2, 2 / std^2) cancels the
    1 / std^2 and 2 xi / std^2 of grad_phi grad_a log pi. Draw by draw this is the gradient of Q(mean + std xi) in (mean, std).
    In log std instead of std the Fisher matrix is another, and so is the update of a network behind it.
    """
    return slope.sum(-2), (xi * slope).sum(-2)


@door(log_prob="function", phi="*b P", a="*b N A", slope="*b N A", draws="*b F A", damping=">0", steps=">=1", likely="function")
def direction(
    log_prob: Density,
    phi: Tensor,
    a: Tensor,
    slope: Tensor,
    draws: Tensor,
    *,
    damping: float,
    steps: int,
    likely: Product | None = None,
) -> Tensor:
    """Any law in its parameters phi: (F + damping I)^-1 sum_n grad_phi (grad_a log pi(a_n | phi) . g_n), (..., P), by conjugate gradients.

    ``a`` and ``slope`` (..., N, A) are draws of the law and their g; F is the mean of s s' over the scores s = grad_phi log pi of other
    ``draws`` (..., F, A) of it, and at most of that rank. Where P is not small against the number of draws that estimate is poor:
    ``likely``, the products of a matrix near F, then takes the share rho = P / (P + draws), F <- (1 - rho) F + rho likely.
    **Source** Pfau et al. 2025, Eq. 6. **Limits** ``gaussian`` for a Gaussian, as its draws become many and the damping goes to 0. A
    product costs 2 F P multiplications. Of ``log_prob`` alone nobody can tell an edge of the support: ``density`` can.
    """
    scores = grad(lambda each: log_prob(each, draws).sum())(_each(phi, draws))
    metric = empirical(scores) if likely is None else shrunk(empirical(scores), likely, phi.shape[-1] / (phi.shape[-1] + draws.shape[-2]))
    found: Tensor = conjugate_gradient(damped(metric, damping), ascent(log_prob, phi, a, slope), steps=steps).x
    return found


def shrunk(metric: Product, towards: Product, share: float) -> Product:
    """(1 - share) G + share H, of metrics G and H."""
    return lambda v: torch.lerp(metric(v), towards(v), share)


def ascent(log_prob: Density, phi: Tensor, a: Tensor, slope: Tensor) -> Tensor:
    """sum_n grad_phi (grad_a log pi(a_n | phi) . g_n), (..., P): what the Fisher matrix preconditions; shapes as in ``direction``."""

    def carried(phi: Tensor) -> Tensor:
        each = _each(phi, a)
        carrier: Tensor = grad(lambda at: log_prob(each, at).sum())(a)
        return (carrier * slope).sum()

    found: Tensor = grad(carried)(phi)
    return found


def density(law: Callable[[Tensor], Distribution]) -> Density:
    """log pi(a | phi) for ``direction``, of phi (..., P) -> a torch distribution with batch and event together (..., A).

    **Raises** ValueError for a support that is not all of R^A: the flux through its edge would be lost. A law whose density vanishes at
    the edge, as a squashed Gaussian's does, is fine nevertheless: give its log-density itself.
    """

    def log_prob(phi: Tensor, a: Tensor) -> Tensor:
        distribution = law(phi)
        support: Any = distribution.support
        while hasattr(support, "base_constraint"):
            support = support.base_constraint
        if support is not constraints.real:
            name = type(distribution).__name__
            raise ValueError(f"law {name} has the support {support}; it must be all of R^A, or the flux through its edge is lost")
        found: Tensor = distribution.log_prob(a)
        return found.sum(-1) if found.ndim == a.ndim else found

    return log_prob


def _each(phi: Tensor, a: Tensor) -> Tensor:
    return phi[..., None, :].expand(*a.shape[:-1], -1)
