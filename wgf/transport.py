"""Optimal transport between clouds of particles, c(x, y) = |x - y|^2: Sinkhorn, distances and the W2 velocities.

``eps`` and ``lam`` have the units of the cost, squared length; a number, or one a batch entry (...). Distances are
reported as W2 squared. A W2 velocity ``w2(x, x_prev)`` is a direction to ADD to x, (..., M, d). The transport maps
(``entropic``, ``debiased``, ``exact``, ``common_noise``) return a displacement T(x_i) - x_i, the descent direction of
M W2^2 / 2: weighted by 1/h they are the proximal term of a JKO step of size h. Eq. 9's forms carry their own scale.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from wgf.door import door
from wgf.kernels import by_rows, distances_to, median, per_pair, squared_distances, thinned

CHECK_EVERY = 10  # Sinkhorn iterations between two looks at the marginal error, each a wait for the device
ANNEALING = 0.5  # factor of eps an iteration, from the largest cost down to the eps asked for
LOWEST = -60.0  # exponents below count as exp(-60) = 9e-27: far below any digit, far above float32's slow underflow
KEPT = 2**24  # entries of a cost matrix that is kept between iterations: 128 MiB in float64


class Plan(NamedTuple):
    """Entropic plan P_ij = a_i b_j exp((f_i + g_j - c_ij) / eps): potentials f (..., M), g (..., N) in units of the cost.

    Row sums equal ``a`` to rounding; ``gap`` (...) = sum_j |sum_i P_ij - b_j|; ``converged`` (...) = gap <= tol.
    """

    f: Tensor
    g: Tensor
    gap: Tensor
    converged: Tensor
    x: Tensor
    y: Tensor
    log_a: Tensor
    log_b: Tensor
    eps: Tensor

    @property
    def log_plan(self) -> Tensor:
        """log P, dense, (..., M, N)."""
        cost = squared_distances(self.x, self.y)
        exponent = (self.f[..., :, None] + self.g[..., None, :] - cost) / per_pair(self.eps)
        return exponent + self.log_a[..., :, None] + self.log_b[..., None, :]

    @property
    def barycentre(self) -> Tensor:
        """T(x_i) = sum_j P_ij y_j / sum_j P_ij, (..., M, d), in blocks of rows."""
        centre = self.y.mean(-2, keepdim=True)
        distances = distances_to(self.y)
        scaled = (self.log_b + self.g / self.eps[..., None])[..., None, :]

        def mean(rows: slice) -> Tensor:
            exponent = (distances(self.x[..., rows, :]) / -per_pair(self.eps)).add_(scaled)
            return exponent.softmax(-1) @ (self.y - centre)

        return by_rows(self.x, self.y, mean) + centre

    @property
    def value(self) -> Tensor:
        """Dual value <f, a> + <g, b> = <c, P> + eps KL(P | a b^T) at convergence, (...)."""
        return (self.f * self.log_a.exp()).sum(-1) + (self.g * self.log_b.exp()).sum(-1)


@door(x="*b M d", y="*b N d", eps="scale", a="weights *b M", b="weights *b N", tol=">0", max_iters=">=1")
@torch.no_grad()
def sinkhorn(
    x: Tensor,
    y: Tensor,
    eps: Tensor | float,
    *,
    a: Tensor | None = None,
    b: Tensor | None = None,
    tol: float = 1e-3,
    max_iters: int = 1000,
) -> Plan:
    """argmin_P <c, P> + eps KL(P | a b^T) over plans with marginals a and b, in the log domain; detached.

    f_i = -eps log sum_j b_j exp((g_j - c_ij) / eps), and g alike, with eps annealed from the largest cost and g carried on by
    momentum, which restarts where it leads down the dual. Weights default to uniform and are normalised. Stops when every problem's
    ``gap`` is at most ``tol``, looked at every few iterations, or after ``max_iters``: then ``converged`` says where it is not.
    Float32 resolves the cost to 1e-7 of its size: for eps below about 1e-5 of the cost use float64.

    **Source** Cuturi 2013; Zhang et al. 2018, Eq. 8, whose plan kernel exp(-c/lam) is eps = lam.
    **Limits** eps -> inf: P = a b^T; eps -> 0: the exact plan. An iteration is one pass over c, O(M N); a cost matrix of more than
    ``KEPT`` entries is made again in blocks of rows, so that memory grows as M + N.
    """
    log_a, log_b = _log_weights(a, x), _log_weights(b, y)
    target = torch.as_tensor(eps, dtype=x.dtype, device=x.device).expand(x.shape[:-2])
    level = 4.0 * _spread(x, y)
    if not (torch.compiler.is_compiling() or not (level / target).isinf().any()):
        raise ValueError(
            f"eps = {target.min().item():g} is too small: cost / eps overflows {x.dtype} for costs up to {level.max().item():g}"
        )
    sweep = _sweeps(x, y, log_a, log_b)
    b = log_b.exp()
    g = last = torch.zeros_like(b)
    age = torch.zeros_like(level)
    for i in range(max_iters + 1):
        level = torch.maximum(target, ANNEALING * level) if i < max_iters else target
        f, columns = sweep(g, level)
        gap = (b * (columns - 1.0).abs()).sum(-1)
        if i == max_iters or ((i + 1) % CHECK_EVERY == 0 and not bool(((level > target) | (gap > tol)).any())):
            break  # a problem that holds nan stays nan and keeps no other from stopping
        step = g - level[..., None] * columns.log()
        ascends = torch.linalg.vecdot(b * (1.0 - columns), step - last) > 0.0
        age = torch.where(ascends & (level <= target), age + 1.0, 0.0)
        g, last = step + (age / (age + 3.0))[..., None] * (step - last), step
    return Plan(f, g, gap, gap <= tol, x, y, log_a, log_b, target)


def _log_weights(weights: Tensor | None, x: Tensor) -> Tensor:
    if weights is None:
        return torch.full_like(x[..., 0], -math.log(x.shape[-2]))
    return (weights / weights.sum(-1, keepdim=True)).log()


def _spread(x: Tensor, y: Tensor) -> Tensor:
    """The largest squared distance from y's centre, (...): a quarter of an upper bound of every cost."""
    centre = y.mean(-2, keepdim=True)
    return torch.cat([x - centre, y - centre], -2).square().sum(-1).amax(-1)


def _sweeps(x: Tensor, y: Tensor, log_a: Tensor, log_b: Tensor) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(g, eps) -> f, the softmin along the rows, and the sums of that plan's columns over b_j: one pass over the cost.

    The cost matrix is kept where it is small and made again, block by block, where it is not.
    """
    to_y = distances_to(y)

    def distances(rows: slice) -> Tensor:
        return to_y(x[..., rows, :])

    kept = by_rows(x, y, distances) if x[..., 0].numel() * y.shape[-2] <= KEPT else None
    a, b = log_a.exp()[..., None, :], log_b.exp()

    def sweep(g: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        scaled = (log_b + g / eps[..., None])[..., None, :]
        columns = torch.zeros_like(scaled)

        def log_sums(rows: slice) -> Tensor:
            cost = distances(rows) if kept is None else kept[..., rows, :]
            z = (cost / -per_pair(eps)).add_(scaled)
            top = z.amax(-1, keepdim=True)
            p = z.sub_(top).clamp_min_(LOWEST).exp_()
            total = p.sum(-1, keepdim=True)
            columns.add_((a[..., rows] / total.mT) @ p)
            return top + total.log()

        f = -eps[..., None] * by_rows(x, y, log_sums)[..., 0]
        return f, torch.where(b > 0.0, columns[..., 0, :] / b, 1.0)

    return sweep


# --- reported distances, each an estimate of W2 squared (...) ---------------------------------------------------------


@door(x="*b M d", y="*b N d", eps="scale")
def entropic_cost(x: Tensor, y: Tensor, eps: Tensor | float) -> Tensor:
    """OT_eps(x, y) = min_P <c, P> + eps KL(P | a b^T), uniform weights, (...). Not zero at x = y: see ``sinkhorn_divergence``."""
    return sinkhorn(x, y, eps).value


@door(x="*b M d", y="*b N d", eps="scale")
def sinkhorn_divergence(x: Tensor, y: Tensor, eps: Tensor | float) -> Tensor:
    """S_eps(x, y) = OT_eps(x, y) - OT_eps(x, x) / 2 - OT_eps(y, y) / 2, (...).

    **Source** Feydy et al. 2019. **Limits** zero at x = y; W2^2 as eps -> 0.
    """
    return entropic_cost(x, y, eps) - 0.5 * entropic_cost(x, x, eps) - 0.5 * entropic_cost(y, y, eps)


@door(x="*b M d", y="*b N d", a="weights *b M", b="weights *b N")
def exact_cost(x: Tensor, y: Tensor, *, a: Tensor | None = None, b: Tensor | None = None) -> Tensor:
    """W2^2(x, y) by POT's network simplex, (...), one problem after another on the CPU. Cost O(M^3 log M): for reports."""
    import ot

    log_a, log_b = _log_weights(a, x), _log_weights(b, y)
    batch = (-1, x.shape[-2], y.shape[-2])
    cost = squared_distances(x, y).detach().double().cpu().reshape(batch).numpy()
    rows = log_a.double().softmax(-1).cpu().reshape(batch[:2]).numpy()
    columns = log_b.double().softmax(-1).cpu().reshape(batch[::2]).numpy()
    values = [ot.emd2(r, k, c, numItermax=10_000_000) for r, k, c in zip(rows, columns, cost, strict=True)]
    return torch.tensor(values, dtype=x.dtype, device=x.device).reshape(x.shape[:-2])


# --- W2 velocities: w2(x, x_prev) -> v, a direction to add ------------------------------------------------------------


@door(x="*b M d", x_prev="*b N d")
def median_lam(x: Tensor, x_prev: Tensor) -> Tensor:
    """lam = med^2 / log M, med the median distance between particles of consecutive iterates, (...), detached.

    **Source** Zhang et al. 2018, App. D. **Limits** log 2 stands in for log 1; a floor of 1e-10 for clouds that coincide.
    """
    distances = squared_distances(thinned(x), thinned(x_prev)).flatten(-2).sqrt()
    return (median(distances) ** 2 / math.log(max(2, x.shape[-2]))).clamp_min(1e-10)


@door(x="*b M d", x_prev="*b N d", lam="scale")
def eq9_sum(x: Tensor, x_prev: Tensor, lam: Tensor | float | None = None) -> Tensor:
    """Eq. 9 as printed: v_i = sum_j 2 (1 - c_ij / lam) exp(-c_ij / lam) (x_i - x_prev_j). ``lam=None`` is ``median_lam``.

    **Source** Zhang et al. 2018, Eq. 9: d/dx_i of sum_j c_ij exp(-c_ij / lam).
    **Sign** add it, as the paper's text has it: nearer than lam repels, farther is pulled back. Departs: read literally as a gradient
    to descend on it would repel far particles, and it diverges.
    **Stationary** not zero at x = x_prev: it contracts the cloud, the more the larger M; it is not the gradient of W2^2.
    """
    lam = median_lam(x, x_prev) if lam is None else lam
    centre = x_prev.mean(-2, keepdim=True)
    distances = distances_to(x_prev)

    def force(rows: slice) -> Tensor:
        here = x[..., rows, :]
        ratio = distances(here) / per_pair(lam)
        weight = 2.0 * (1.0 - ratio) * torch.exp(-ratio.clamp_max(-LOWEST))
        return (here - centre) * weight.sum(-1, keepdim=True) - weight @ (x_prev - centre)

    return by_rows(x, x_prev, force)


@door(x="*b M d", x_prev="*b N d", lam="scale")
def eq9_mean(x: Tensor, x_prev: Tensor, lam: Tensor | float | None = None) -> Tensor:
    """Eq. 9 averaged, (1/N) sum_j: on SVGD's own scale, which is a mean too. Sign, source and bias as in ``eq9_sum``, N times weaker."""
    return eq9_sum(x, x_prev, lam) / x_prev.shape[-2]


@door(x="*b M d", x_prev="*b N d", eps="scale")
def entropic(x: Tensor, x_prev: Tensor, eps: Tensor | float | None = None) -> Tensor:
    """T_eps(x_i) - x_i = -(M/2) grad_{x_i} OT_eps(x, x_prev), by the envelope theorem. ``eps=None`` is 0.05 of the median cost.

    **Source** Zhang et al. 2018, Eq. 8, differentiated with its plan held fixed, as the optimal plan allows.
    **Sign** add it. **Stationary** not zero at x = x_prev: shrinks towards the plan's barycentres; a Gaussian flow to
    N(0, 1) with JKO steps of size h rests at a variance of about 1 - eps / (4 h), an SVGD flow below it.
    """
    return sinkhorn(x, x_prev, _default_eps(x, x_prev) if eps is None else eps).barycentre - x


@door(x="*b M d", x_prev="*b N d", eps="scale")
def debiased(x: Tensor, x_prev: Tensor, eps: Tensor | float | None = None) -> Tensor:
    """T_eps(x_i; x -> x_prev) - T_eps(x_i; x -> x) = -(M/2) grad_{x_i} S_eps(x, x_prev). ``eps=None`` is 0.05 of the median cost.

    **Source** the gradient of the Sinkhorn divergence, Feydy et al. 2019.
    **Sign** add it. **Stationary** zero at x = x_prev: leaves the flow's stationary law alone. Tends to ``exact`` as eps -> 0.
    """
    eps = _default_eps(x, x_prev) if eps is None else eps
    return sinkhorn(x, x_prev, eps).barycentre - sinkhorn(x, x, eps).barycentre


def _default_eps(x: Tensor, x_prev: Tensor) -> Tensor:
    return (0.05 * median(squared_distances(thinned(x), thinned(x_prev)).flatten(-2))).clamp_min(1e-10)


@door(x="*b M d", x_prev="*b M d")
def exact(x: Tensor, x_prev: Tensor) -> Tensor:
    """x_prev_sigma(i) - x_i = -(M/2) grad_{x_i} W2^2(x, x_prev), sigma the optimal assignment of equally many particles.

    **Sign** add it. **Stationary** zero at x = x_prev: leaves the flow's stationary law alone.
    **Limits** one assignment after another on the CPU, O(M^3): M up to a few hundred.
    """
    cost = squared_distances(x, x_prev).detach().nan_to_num().cpu().numpy().reshape(-1, x.shape[-2], x.shape[-2])
    sigma = torch.from_numpy(np.stack([linear_sum_assignment(c)[1] for c in cost])).to(x.device).reshape(x.shape[:-1])
    return x_prev.gather(-2, sigma[..., None].expand_as(x_prev)) - x


@door(x="*b M d", x_prev="*b M d")
def common_noise(x: Tensor, x_prev: Tensor) -> Tensor:
    """x_prev_i - x_i for particles x_i = f(s, xi_i), x_prev_i = f_prev(s, xi_i) of one noise: the pairing is a coupling.

    **Source** (1/M) sum_i |x_i - x_prev_i|^2 is an upper bound of W2^2; this is -(M/2) times its gradient (derived).
    **Sign** add it. **Stationary** zero at x = x_prev. **Limits** free; equals ``exact`` where the pairing is optimal.
    """
    return x_prev - x
