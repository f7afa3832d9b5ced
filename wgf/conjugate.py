"""Conjugate gradients for a symmetric matrix that is known by its products alone: stacked systems, and no wait for the device."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from wgf.door import door

__all__ = ["Product", "Solution", "conjugate_gradient"]

Product = Callable[[Tensor], Tensor]  # v (*b, P) -> A v (*b, P), every entry of the batch by its own symmetric matrix


class Solution(NamedTuple):
    """x (*b, P), the relative residual |b - A x| / |b| (*b), 0 for b = 0, and the product A x (*b, P)."""

    x: Tensor
    residual: Tensor
    product: Tensor


@door(product="function", b="*b P", steps=">=1", tol=">0")
def conjugate_gradient(product: Product, b: Tensor, *, steps: int, tol: float | None = None) -> Solution:
    """A x = b for symmetric A >= 0: x_k minimises x'Ax / 2 - b'x over the span of b, A b ... A^(k-1) b.

    Every system (P,) of the batch stops by itself: after ``steps`` products, or before, where |b - A x| <= tol |b|, or where its
    search direction p has no curvature, p'Ap <= 16 u max p'Ap of the steps before (per |p|^2; u the rounding unit), or less than the
    least normal number, whose inverse would be infinite. Then it keeps its last iterate, or b itself if there is none yet. So b'x > 0
    whatever A is: a gradient's solution always leads uphill.
    ``tol=None`` is 16 u, 3.6e-15 in float64 and 1.9e-6 in float32: a product leaves rounding of u |A| |x| >= u |b|, several times over,
    and what is left of b below that is noise.

    The steps go by the residual that they update, which in the end falls below the rounding of x. The residual that is returned is that
    of x itself, by one product more. b is scaled to norm 1 first, so that a small or a large b loses no digits to its square.

    **Source** Hestenes & Stiefel 1952; stopped at negative curvature as by Dembo & Steihaug 1983; for the two residuals Greenbaum 1997.
    **Limits** b = 0 gives 0; A = 0 or negative gives b; where A is singular and b in its range, the solution of least norm.
    Exact after as many steps as A has distinct eigenvalues, but for rounding.
    """
    unit, norm = _normalised(b)
    least = 16.0 * torch.finfo(b.dtype).eps
    tol = least if tol is None else tol
    x, r, p = torch.zeros_like(unit), unit, unit
    rr = _dot(unit, unit)
    active, steepest = torch.ones_like(rr, dtype=torch.bool), torch.full_like(rr, torch.finfo(b.dtype).tiny / least)
    for k in range(steps):
        ap = product(p)
        curvature, pp = _dot(p, ap), _dot(p, p)
        steepest = torch.maximum(steepest, curvature / pp)
        active = active & (rr > tol * tol) & (curvature > least * steepest * pp)
        step = torch.where(active, rr / curvature, 0.0)[..., None]
        x = torch.where(active[..., None], x + step * p, x if k else unit)
        r = r - step * ap
        before, rr = rr, _dot(r, r)
        p = torch.where(active[..., None], r + (rr / before)[..., None] * p, p)
    ax = product(x)
    return Solution(norm * x, (unit - ax).norm(dim=-1), norm * ax)


def _normalised(b: Tensor) -> tuple[Tensor, Tensor]:
    """b / |b| (*b, P) and |b| (*b, 1); 0 and 1 for b = 0. By the largest entry first, whose square could leave the range of numbers."""
    largest = b.abs().amax(-1, keepdim=True)
    largest = torch.where(largest == 0.0, 1.0, largest)
    norm = (b / largest).norm(dim=-1, keepdim=True)
    norm = torch.where(norm == 0.0, 1.0, norm)
    return b / largest / norm, largest * norm


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum(-1)
