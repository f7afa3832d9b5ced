"""Conjugate gradients for a symmetric matrix that is known by its products alone: stacked systems, and no wait for the device."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from wgf.door import door

Product = Callable[[Tensor], Tensor]  # v (*b, P) -> A v (*b, P), every entry of the batch by its own symmetric matrix


class Solution(NamedTuple):
    """x (*b, P), and |b - A x| / |b| (*b) as the recursion has it, 0 for b = 0."""

    x: Tensor
    residual: Tensor


@door(b="*b P", steps=">=1", tol=">0")
def conjugate_gradient(product: Product, b: Tensor, *, steps: int, tol: float = 1e-10) -> Solution:
    """A x = b for symmetric A >= 0: x_k minimises x'Ax / 2 - b'x over the span of b, A b ... A^(k-1) b.

    Every system (P,) of the batch stops by itself: after ``steps`` products, or before, where |b - A x| <= tol |b|, or where its
    search direction p has no curvature, p'Ap <= 16 u max p'Ap of the steps before (per |p|^2; u the rounding unit). Then it keeps its
    last iterate, or b itself if there is none yet. So b'x > 0 whatever A is: a gradient's solution always leads uphill.

    **Source** Hestenes & Stiefel 1952; stopped at negative curvature as by Dembo & Steihaug 1983.
    **Limits** b = 0 gives 0; A = 0 or negative gives b; where A is singular and b in its range, the solution of least norm.
    Exact after as many steps as A has distinct eigenvalues, but for rounding.
    """
    x, r, p = torch.zeros_like(b), b, b
    rr = bb = _dot(b, b)
    active, steepest = torch.ones_like(bb, dtype=torch.bool), torch.zeros_like(bb)
    for k in range(steps):
        ap = product(p)
        curvature, pp = _dot(p, ap), _dot(p, p)
        steepest = torch.maximum(steepest, curvature / pp)
        active = active & (rr > tol**2 * bb) & (curvature > 16.0 * torch.finfo(b.dtype).eps * steepest * pp)
        step = torch.where(active, rr / curvature, 0.0)[..., None]
        x = torch.where(active[..., None], x + step * p, x if k else b)
        r = r - step * ap
        before, rr = rr, _dot(r, r)
        p = torch.where(active[..., None], r + (rr / before)[..., None] * p, p)
    return Solution(x, torch.where(bb > 0.0, rr / bb, 0.0).sqrt())


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum(-1)
