"""Optimal transport between clouds of particles, c(x, y) = |x - y|^2: Sinkhorn, distances and the W2 velocities.

``eps`` and ``lam`` have the units of the cost, squared length; a number, or one a batch entry (...). Distances are
reported as W2 squared. A W2 velocity ``w2(x, x_prev)`` is a direction to ADD to x, (..., M, d). The transport maps
(``entropic``, ``debiased``, ``exact``, ``common_noise``) return a displacement T(x_i) - x_i, the descent direction of
M W2^2 / 2: weighted by 1/h they are the proximal term of a JKO step of size h. Eq. 9's forms carry their own scale.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.functional import pad

from wgf.door import door, traced, vouched
from wgf.kernels import SUBSAMPLE, block_of, distances_to, median, middle, own_rows, per_pair, thinned
from wgf.shards import own, unsharded
from wgf.sinkhorn import LOWEST, Plan, costs, log_weights, sinkhorn

__all__ = [
    "VELOCITIES", "Plan", "W2Name", "common_noise", "debiased", "entropic", "entropic_cost", "eq9_mean", "eq9_sum", "exact", "exact_cost",
    "median_lam", "sinkhorn", "sinkhorn_divergence", "unconverged",
]  # fmt: skip

# --- reported distances, each an estimate of W2 squared (...) ---------------------------------------------------------


@unsharded
@door(x="*b M d", y="*b N d", eps="scale", a="weights *b M", b="weights *b N")
def entropic_cost(x: Tensor, y: Tensor, eps: Tensor | float, *, a: Tensor | None = None, b: Tensor | None = None) -> Tensor:
    """OT_eps(x, y) = min_P <c, P> + eps KL(P | a b^T), (...). Not zero at x = y: see ``sinkhorn_divergence``.

    Weights default to uniform and are normalised. Differentiable once, in x, y, a and b, with the plan held fixed as the optimal plan
    allows (envelope theorem): d/dx_i = 2 a_i (x_i - T(x_i)), T the barycentre, and the potentials f, g in the normalised weights.
    **Limits** second derivatives are 0; the derivative in a weight of 0 is missing; eps has none.
    """
    plan = sinkhorn(x.detach(), y.detach(), eps, a=_detached(a), b=_detached(b))
    value = plan.value
    if not _differentiated(x, y, a, b):
        return value
    moved = _tangent(2.0 * plan.log_a.exp()[..., None] * (plan.x - plan.barycentre), x).sum(-1)
    moved = moved + _tangent(2.0 * plan.log_b.exp()[..., None] * (plan.y - plan.turned.barycentre), y).sum(-1)
    return value + moved + _in_weights(plan.f, a) + _in_weights(plan.g, b)


def _detached(weights: Tensor | None) -> Tensor | None:
    return None if weights is None else weights.detach()


def _differentiated(*tensors: Tensor | None) -> bool:
    """Whether somebody asks for a derivative: autograd, forward mode, or a transform of ``torch.func``."""
    tracked = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    return tracked or torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def _tangent(gradient: Tensor, x: Tensor) -> Tensor:
    """0, whose derivative in x is ``gradient``: summed over the last axis."""
    return (gradient.detach() * (x - x.detach())).sum(-1)


def _in_weights(potential: Tensor, weights: Tensor | None) -> Tensor | float:
    return 0.0 if weights is None else _tangent(potential, weights / weights.sum(-1, keepdim=True))


@door(x="*b M d", y="*b N d", eps="scale", a="weights *b M", b="weights *b N")
def sinkhorn_divergence(x: Tensor, y: Tensor, eps: Tensor | float, *, a: Tensor | None = None, b: Tensor | None = None) -> Tensor:
    """S_eps(x, y) = OT_eps(x, y) - OT_eps(x, x) / 2 - OT_eps(y, y) / 2, (...), each with the weights of its clouds.

    **Source** Feydy et al. 2019. **Limits** zero at x = y; W2^2 as eps -> 0; differentiable as ``entropic_cost`` is.
    """
    cross = entropic_cost(x, y, eps, a=a, b=b)
    return cross - 0.5 * entropic_cost(x, x, eps, a=a, b=a) - 0.5 * entropic_cost(y, y, eps, a=b, b=b)


@door(x="*b M d", y="*b N d", a="weights *b M", b="weights *b N")
def exact_cost(x: Tensor, y: Tensor, *, a: Tensor | None = None, b: Tensor | None = None) -> Tensor:
    """W2^2(x, y) by POT's network simplex, (...), one problem after another on the CPU. Cost O(M^3 log M): for reports.

    Differentiable once by autograd, in x, y, a and b, as ``entropic_cost`` is: d/dx_i = 2 sum_j P_ij (x_i - y_j), and the dual
    potentials in the normalised weights. **Limits** ``torch.func`` does not pass: the solver reads numbers.
    """
    import ot

    log_a, log_b = log_weights(_detached(a), x.detach()), log_weights(_detached(b), y.detach())
    batch = (-1, x.shape[-2], y.shape[-2])
    cost = costs(x.detach(), y.detach()).double().cpu().reshape(batch).numpy()
    rows = log_a.double().softmax(-1).cpu().reshape(batch[:2]).numpy()
    columns = log_b.double().softmax(-1).cpu().reshape(batch[::2]).numpy()
    found: list[list[np.ndarray]] = []
    for r, k, c in zip(rows, columns, cost, strict=True):
        if np.isfinite(c).all():
            plan, said = ot.emd(r, k, c, numItermax=10_000_000, log=True)
            found.append([np.asarray(said["cost"]), plan, said["u"], said["v"]])
        else:
            found.append([np.full(shape, math.nan) for shape in ((), c.shape, r.shape, k.shape)])
    stacks = [torch.from_numpy(np.stack(parts)).to(x.detach()) for parts in zip(*found, strict=True)]
    value, plan, u, v = (t.reshape(x.shape[:-2] + t.shape[1:]) for t in stacks)
    if not _differentiated(x, y, a, b):
        return value
    moved = _tangent(2.0 * (plan.sum(-1, keepdim=True) * x - plan @ y), x).sum(-1)
    moved = moved + _tangent(2.0 * (plan.sum(-2)[..., None] * y - plan.mT @ x), y).sum(-1)
    return value + moved + _in_weights(u, a) + _in_weights(v, b)


# --- W2 velocities: w2(x, x_prev) -> v, a direction to add ------------------------------------------------------------


@door(x="*b M d", x_prev="*b N d")
def median_lam(x: Tensor, x_prev: Tensor) -> Tensor:
    """lam = med^2 / log M, med the median distance between particles of consecutive iterates, (...), detached.

    **Source** Zhang et al. 2018, App. D. **Limits** log 2 stands in for log 1; a floor of 1e-10 for clouds that coincide.
    """
    return _lam(costs(thinned(x), thinned(x_prev)), x.shape[-2])


def _lam(cost: Tensor, m: int) -> Tensor:
    lower, upper = middle(cost.flatten(-2))
    return ((lower.sqrt() + upper.sqrt()) ** 2 / (4.0 * math.log(max(2, m)))).clamp_min(1e-10)


@door(x="*b M d", x_prev="*b N d", lam="scale")
def eq9_sum(x: Tensor, x_prev: Tensor, lam: Tensor | float | None = None) -> Tensor:
    """Eq. 9 as printed: v_i = sum_j 2 (1 - c_ij / lam) exp(-c_ij / lam) (x_i - x_prev_j). ``lam=None`` is ``median_lam``.

    **Source** Zhang et al. 2018, Eq. 9: d/dx_i of sum_j c_ij exp(-c_ij / lam).
    **Sign** add it, as the paper's text has it: nearer than lam repels, farther is pulled back. Departs: read literally as a gradient
    to descend on it would repel far particles, and it diverges.
    **Stationary** not zero at x = x_prev: it contracts the cloud, the more the larger M; it is not the gradient of W2^2.
    **Derivative** its own, in x and x_prev, with lam held fixed.
    """
    whole, cost = _costs(x, x_prev)
    if lam is None:
        lam = median_lam(x, x_prev) if whole is None else _lam(whole, x.shape[-2])
    centre = x_prev.mean(-2, keepdim=True)
    there = pad(x_prev - centre, (0, 1), value=1.0)

    def force(rows: slice) -> Tensor:
        exponent = cost(rows).div_(-per_pair(lam)).clamp_min_(LOWEST)  # in place: fresh memory costs more than the arithmetic
        kernel = exponent.exp()
        push = torch.addcmul(kernel, exponent, kernel) @ there  # (1 - c / lam) exp(-c / lam)
        return 2.0 * (push[..., -1:] * (x[..., rows, :] - centre) - push[..., :-1])

    return own_rows(x, x_prev, force)


def _costs(x: Tensor, x_prev: Tensor) -> tuple[Tensor | None, Callable[[slice], Tensor]]:
    """The cost matrix where it is small enough to keep, and its rows."""
    if max(x.shape[-2], x_prev.shape[-2]) <= SUBSAMPLE and x[..., 0].numel() * x_prev.shape[-2] <= block_of(x):
        whole = costs(x, x_prev)
        return whole, lambda rows: whole[..., rows, :]
    distances = distances_to(x_prev)
    return None, lambda rows: distances(x[..., rows, :])


@door(x="*b M d", x_prev="*b N d", lam="scale")
def eq9_mean(x: Tensor, x_prev: Tensor, lam: Tensor | float | None = None) -> Tensor:
    """Eq. 9 averaged, (1/N) sum_j: on SVGD's own scale, which is a mean too. Sign, source and bias as in ``eq9_sum``, N times weaker.

    **Stationary** SVGD's simplex in N(0, I) (its **Limits**) shrinks: SVGD plus s times this has the squared radius
    log M / (1 + 2 s (log M - 1) M / (M - 1)), at M = 20 a quarter of the deviation for s = 4, a seventh for s = 10.
    **Derivative** its own, in x and x_prev, with lam held fixed.
    """
    return eq9_sum(x, x_prev, lam) / x_prev.shape[-2]


@door(x="*b M d", x_prev="*b N d", eps="scale")
def entropic(x: Tensor, x_prev: Tensor, eps: Tensor | float | None = None) -> Tensor:
    """T_eps(x_i) - x_i = -(M/2) grad_{x_i} OT_eps(x, x_prev), by the envelope theorem. ``eps=None`` is 0.05 of the median cost.

    **Source** Zhang et al. 2018, Eq. 8, differentiated with its plan held fixed, as the optimal plan allows.
    **Sign** add it. **Stationary** not zero at x = x_prev: shrinks towards the plan's barycentres; a Gaussian flow to
    N(0, 1) with JKO steps of size h rests at a variance of about 1 - eps / (4 h), an SVGD flow below it.
    **Derivative** none, it is detached: with the plan held fixed one would leave out how the plan moves with x and x_prev.
    """
    x, x_prev = x.detach(), x_prev.detach()
    return _barycentre(x, x_prev, _default_eps(x, x_prev) if eps is None else eps) - own(x)


@door(x="*b M d", x_prev="*b N d", eps="scale")
def debiased(x: Tensor, x_prev: Tensor, eps: Tensor | float | None = None) -> Tensor:
    """T_eps(x_i; x -> x_prev) - T_eps(x_i; x -> x) = -(M/2) grad_{x_i} S_eps(x, x_prev). ``eps=None`` is 0.05 of the median cost.

    **Source** the gradient of the Sinkhorn divergence, Feydy et al. 2019.
    **Sign** add it. **Stationary** zero at x = x_prev: leaves the flow's stationary law alone. Tends to ``exact`` as eps -> 0.
    **Derivative** none, it is detached, as ``entropic`` is.
    """
    x, x_prev = x.detach(), x_prev.detach()
    eps = _default_eps(x, x_prev) if eps is None else eps
    return _barycentre(x, x_prev, eps) - _barycentre(x, x, eps)


_short: dict[torch.device, Tensor] = {}  # problems whose plan stopped short of its tolerance, counted without a wait
_warned: list[str] = []


def unconverged() -> int:
    """Plans of ``entropic`` and ``debiased`` that stopped short of their tolerance since the process began. Waits for the device.

    Outside ``trusted()`` the first of them is a RuntimeWarning, too; inside nothing waits, and who wants to know asks here.
    **Limits** what runs inside a transform of ``torch.func`` is not counted.
    """
    return sum(int(count) for count in _short.values())


def _barycentre(x: Tensor, y: Tensor, eps: Tensor | float) -> Tensor:
    plan = sinkhorn(x, y, eps)
    if torch._C._are_functorch_transforms_active():
        return plan.barycentre
    if traced():
        plan = plan._replace(g=_counted(plan.g, plan.converged, plan.eps))
    else:
        _count(plan.converged, plan.eps)
    return plan.barycentre


@torch.library.custom_op("wgf::counted", mutates_args=())
def _counted(g: Tensor, converged: Tensor, eps: Tensor) -> Tensor:
    """A copy of g, for whose plans ``_count`` is called: an operator, which a compiler leaves as it is, and in its place."""
    _count(converged, eps)
    return g.clone()


_counted.register_fake(lambda g, converged, eps: torch.empty_like(g))


def _count(converged: Tensor, eps: Tensor) -> None:
    short = (~converged).sum()
    _short[short.device] = _short.get(short.device, 0) + short
    if vouched() or _warned or not short:
        return
    _warned.append(
        f"entropic transport at eps = {eps.min().item():.3g} stopped short of its tolerance in {int(short)} of {converged.numel()} "
        "problems: pass a larger eps, or float64; this is said once, unconverged() counts"
    )
    warnings.warn(_warned[0], RuntimeWarning, stacklevel=5)


def _default_eps(x: Tensor, x_prev: Tensor) -> Tensor:
    return (0.05 * median(costs(thinned(x), thinned(x_prev)).flatten(-2))).clamp_min(1e-10)


@door(x="*b M d", x_prev="*b M d")
def exact(x: Tensor, x_prev: Tensor) -> Tensor:
    """x_prev_sigma(i) - x_i = -(M/2) grad_{x_i} W2^2(x, x_prev), sigma the optimal assignment of equally many particles.

    **Sign** add it. **Stationary** zero at x = x_prev: leaves the flow's stationary law alone.
    **Derivative** its own, in x and x_prev: sigma does not change by a small move.
    **Limits** on the CPU; where two particles have the same nearest one, one assignment after another, O(M^3): M up to a few hundred.
    """
    found = _Assignment.apply(costs(x.detach(), x_prev.detach()))  # type: ignore[no-untyped-call]
    return x_prev.gather(-2, found[..., None].expand_as(x_prev)) - x


class _Assignment(torch.autograd.Function):
    """sigma (..., M) of costs (..., M, M), on the CPU; ``torch.vmap`` finds another leading axis."""

    @staticmethod
    def forward(cost: Tensor) -> Tensor:
        """``_assigned``."""
        return (_opaque_assigned if traced() else _assigned)(cost)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        """No derivative passes."""
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], cost: Tensor) -> tuple[Tensor, int]:
        """The mapped axis in front of the others."""
        return _Assignment.apply(cost.movedim(in_dims[0], 0)), 0  # type: ignore[no-untyped-call]


def _assigned(cost: Tensor) -> Tensor:
    """The nearest ones, or where two have the same nearest one, the assignment."""
    m = cost.shape[-1]
    numbers = cost.nan_to_num().cpu().numpy().reshape(-1, m, m)
    sigma = numbers.argmin(-1)  # no assignment is cheaper, and where nobody is named twice it is one
    for i in np.flatnonzero((np.sort(sigma) != np.arange(m)).any(-1)):
        sigma[i] = linear_sum_assignment(numbers[i])[1]
    return torch.from_numpy(sigma).to(cost.device).reshape(cost.shape[:-1])


# the same as an operator, which a compiler leaves as it is
_opaque_assigned = torch.library.custom_op("wgf::assignment", _assigned, mutates_args=())
_opaque_assigned.register_fake(lambda cost: cost.new_empty(cost.shape[:-1], dtype=torch.int64))


@door(x="*b M d", x_prev="*b M d")
def common_noise(x: Tensor, x_prev: Tensor) -> Tensor:
    """x_prev_i - x_i for particles x_i = f(s, xi_i), x_prev_i = f_prev(s, xi_i) of one noise: the pairing is a coupling.

    **Source** (1/M) sum_i |x_i - x_prev_i|^2 is an upper bound of W2^2; this is -(M/2) times its gradient (derived).
    **Sign** add it. **Stationary** zero at x = x_prev. **Derivative** its own, in x and x_prev.
    **Limits** it costs next to nothing; it equals ``exact`` where the pairing is optimal.
    """
    return x_prev - x


# --- the W2 velocities by name, for those who choose one by an option: all names stand here, and nowhere else ----------

W2Name = Literal["common_noise", "eq9_sum", "eq9_mean", "entropic", "debiased", "exact"]
VELOCITIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    f.__name__: f for f in (common_noise, eq9_sum, eq9_mean, entropic, debiased, exact)
}
