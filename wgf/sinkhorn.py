"""Entropic optimal transport between clouds of particles, c(x, y) = |x - y|^2: Sinkhorn's iterations, in stacks, and their plans.

``eps`` has the units of the cost, squared length; a number, or one a batch entry (...).
"""

import math
import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wgf.door import door, traced, vouched
from wgf.kernels import by_rows, distances_to, own_rows, per_pair
from wgf.shards import every, own, total

__all__ = ["LOWEST", "Plan", "costs", "log_weights", "sinkhorn", "waits"]

CHECK_EVERY = 5  # Sinkhorn iterations between two looks at the marginal error on a CPU
SELDOM = 10  # and elsewhere, where each is a wait for the device
ANNEALING = 0.25  # factor of eps an iteration, from the spread of the clouds down to the eps asked for
LOWEST = -60.0  # exponents below count as exp(-60) = 9e-27: far below any digit, far above float32's slow underflow
REACH = 12.0  # of g, in units of eps, from the plan that is kept: exp(2 REACH + LOWEST) is below float64's digits
KEPT = 2**24  # entries up to which cost and plan are kept between iterations: 128 MiB each in float64
FUSED, FITTING = "WGF_FUSED_SINKHORN", 64  # at 1 problems on a GPU with at most so many rows and columns are one kernel, wgf.fused
SMALL = 2**18  # entries of a cost matrix that are made at a time on a CPU


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
        cost = costs(self.x, self.y)
        exponent = (self.f[..., :, None] + self.g[..., None, :] - cost) / per_pair(self.eps)
        return exponent + self.log_a[..., :, None] + self.log_b[..., None, :]

    @property
    def barycentre(self) -> Tensor:
        """T(x_i) = sum_j P_ij y_j / sum_j P_ij, (..., M, d), in blocks of rows."""
        centre = self.y.mean(-2, keepdim=True)
        distances = distances_to(self.y)
        scaled = (self.log_b + self.g / self.eps[..., None])[..., None, :]

        def mean(rows: slice) -> Tensor:
            exponent = torch.addcdiv(scaled, distances(self.x[..., rows, :]), -self.eps[..., None, None])
            return exponent.softmax(-1) @ (self.y - centre)

        return own_rows(self.x, self.y, mean) + centre

    @property
    def turned(self) -> "Plan":
        """The plan from y to x: the transpose of P; its ``barycentre`` is sum_i P_ij x_i / sum_i P_ij, (..., N, d)."""
        return self._replace(f=self.g, g=self.f, x=self.y, y=self.x, log_a=self.log_b, log_b=self.log_a)

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
    """argmin_P <c, P> + eps KL(P | a b^T) over plans with marginals a and b; detached.

    f_i = -eps log sum_j b_j exp((g_j - c_ij) / eps), and g alike, with eps annealed from the spread of the clouds and g carried on by
    momentum, which restarts where it leads down the dual. Weights default to uniform and are normalised. A problem stops when its
    ``gap``, looked at every few iterations, is at most ``tol``, and leaves the stack: stacked or alone, it differs by rounding only.
    After ``max_iters`` all stop; then ``converged`` says where it is not.
    Float32 resolves the cost to 1e-7 of its size: for eps below about 1e-5 of the cost use float64.

    **Source** Cuturi 2013; Schmitzer 2019 for plans kept between iterations; Zhang et al. 2018, Eq. 8, whose plan kernel
    exp(-c/lam) is eps = lam.
    **Limits** eps -> inf: P = a b^T; eps -> 0: the exact plan. An iteration is a pass over the cost or the plan, O(M N); of more
    than ``KEPT`` entries the cost is made again in blocks of rows, so that memory grows as M + N.
    """
    log_a, log_b = log_weights(a, x), log_weights(b, y)
    target = torch.as_tensor(eps, dtype=x.dtype, device=x.device).expand(x.shape[:-2])
    f, g, gap = _Solver.apply(x, y, log_a, log_b, target, tol, max_iters)  # type: ignore[no-untyped-call]
    return Plan(f, g, gap, gap <= tol, x, y, log_a, log_b, target)


class _Solver(torch.autograd.Function):
    """f, g and gap, without derivatives; ``torch.vmap`` finds another leading axis."""

    @staticmethod
    def forward(
        x: Tensor, y: Tensor, log_a: Tensor, log_b: Tensor, target: Tensor, tol: float, max_iters: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``_annealed``."""
        return (_opaque if traced() else _annealed)(x, y, log_a, log_b, target, tol, max_iters)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: tuple[Tensor, ...]) -> None:
        """No derivative passes."""
        ctx.mark_non_differentiable(*output)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
        """The mapped axis in front of the others."""

        def led(value: Any, axis: int | None) -> Any:
            if not isinstance(value, Tensor):
                return value
            return value.expand(info.batch_size, *value.shape) if axis is None else value.movedim(axis, 0)

        return _Solver.apply(*map(led, args, in_dims)), (0, 0, 0)  # type: ignore[no-untyped-call]


def _annealed(
    x: Tensor, y: Tensor, log_a: Tensor, log_b: Tensor, target: Tensor, tol: float, max_iters: int
) -> tuple[Tensor, Tensor, Tensor]:
    """f, g and gap, annealed from the spread of the clouds, on one axis of problems."""
    spread = _spread(x, y)
    each = 4.0 * spread / target
    ratio = float(each.nan_to_num(nan=0.0, posinf=math.inf).amax())  # one wait, for the check and the annealing
    if ratio == math.inf:
        if not vouched():
            raise ValueError(
                f"eps = {target.min().item():g} is too small: cost / eps overflows {x.dtype} for costs up to {4.0 * spread.max().item():g}"
            )
        over = each.isinf()  # the problem of a seed that went wrong, which ends alone
        target, spread = (t.masked_fill(over, math.nan) for t in (target, spread))
        ratio = float((4.0 * spread / target).nan_to_num(nan=0.0).amax())
    cooling = math.ceil(math.log(max(ratio / 4.0, 1.0)) / -math.log(ANNEALING))  # iterations until every eps is the target
    if _fused(x, y):
        from wgf import fused

        problem = tuple(t.reshape(-1, *t.shape[target.ndim :]) for t in (costs(x, y), log_a, log_b, target, spread))
        found = fused.solve(fused.Problems(*problem), ANNEALING, tol, max_iters)
        f, g, gap = (t.view(like.shape) for t, like in zip(found, (log_a, log_b, target), strict=True))
        return f, g, gap
    clouds, rows = (own(x), y), own(log_a[..., None])[..., 0]
    sweep = _Sweep(*(t.reshape(-1, *t.shape[-2:]) for t in clouds), *(t.reshape(-1, t.shape[-1]) for t in (rows, log_b)))
    cooling = min(max(1, cooling), max_iters + 1)
    f, g, gap = _solve(sweep, target.reshape(-1), spread.reshape(-1), cooling, tol, max_iters)
    return every(f.view(*rows.shape, 1))[..., 0], g.view(log_b.shape), gap.view(target.shape)


# the same as an operator, which a compiler leaves as it is
_opaque = torch.library.custom_op("wgf::sinkhorn", _annealed, mutates_args=())
_opaque.register_fake(lambda x, y, log_a, log_b, target, *how: tuple(t.new_empty(t.shape) for t in (log_a, log_b, target)))


class _Iterate(NamedTuple):
    """g and the step before momentum (B, N), in units of the present eps ``level`` (B); ``age`` (B) of the momentum."""

    g: Tensor
    last: Tensor
    level: Tensor
    age: Tensor

    def cooled(self, level: Tensor) -> "_Iterate":
        scale = (self.level / level)[:, None]
        return _Iterate(self.g * scale, self.last * scale, level, self.age)

    def advanced(self, columns: Tensor, excess: Tensor, target: Tensor) -> "_Iterate":
        """Nesterov's step, from the columns' sums over b and their excess b (columns - 1)."""
        step = self.g - columns.log()
        move = step - self.last
        ascends = torch.linalg.vecdot(excess, move) < 0.0
        age = torch.where(ascends & (self.level <= target), self.age + 1.0, 0.0)
        return _Iterate(step + (age / (age + 3.0))[:, None] * move, step, self.level, age)


def _solve(sweep: "_Sweep", target: Tensor, level: Tensor, cooling: int, tol: float, max_iters: int) -> tuple[Tensor, Tensor, Tensor]:
    """f, g and gap of a stack of problems on one axis (B, ...), annealed from eps = ``level`` to ``target`` in ``cooling`` iterations.

    Where a look at a number is a wait, there is one every few iterations: how many problems are left, and whether g left the reach of the
    plan that is kept. If it did, these iterations are done again in the log domain, and the next ones too until g moves less. On a CPU
    every iteration looks at that reach, and makes the plan again at once.
    """
    b = sweep.log_b.exp()
    solved = torch.empty_like(sweep.x[..., 0]), torch.empty_like(b), torch.empty_like(target)
    problem = torch.arange(len(target), device=b.device)
    now, i, far = _Iterate(torch.zeros_like(b), torch.zeros_like(b), level, torch.zeros_like(target)), 0, False
    patient = waits(b)
    every = SELDOM if patient else CHECK_EVERY
    while True:
        begin, stop = now, min(i + every, max_iters + 1)
        reach = torch.zeros_like(target[0])
        for k in range(i + 1, stop + 1):
            if k <= cooling:
                now = now.cooled(torch.maximum(target, ANNEALING * now.level) if k < cooling else target)
            f, columns, away = sweep.plan(now.g, now.level, anew=far or k <= cooling, look=not patient)
            reach = torch.maximum(reach, away)
            excess = b * (columns - 1.0)
            if k < stop:
                now = now.advanced(columns, excess, target)
        if far:
            reach = (now.g - begin.g).abs().amax()
        gap = excess.abs().sum(-1)
        left = ((now.level > target) | (gap > tol)) & (stop <= max_iters)  # a problem that holds nan is not left, and stays nan
        count = int(left.sum() + (len(left) + 1) * ~(reach <= REACH))  # the wait
        was_far, far, count = far, count > len(left), count % (len(left) + 1)
        if far and not was_far:
            now = begin
            continue
        if count < len(left):
            for whole, part in zip(solved, (f * now.level[:, None], now.g * now.level[:, None], gap), strict=True):
                whole[problem] = part
            if not count:
                return solved
            kept = left.to(torch.int8).argsort(descending=True, stable=True)[:count]
            problem, target, b, columns, excess = (t[kept] for t in (problem, target, b, columns, excess))
            now = _Iterate(*(t[kept] for t in now))
            sweep.keep(kept)
        now, i = now.advanced(columns, excess, target), stop


def _fused(x: Tensor, y: Tensor) -> bool:
    """Whether one kernel solves these problems. Raises ValueError where it is asked for and triton is missing."""
    if os.environ.get(FUSED) != "1" or max(x.shape[-2], y.shape[-2]) > FITTING:
        return False
    if x.is_cpu and os.environ.get("TRITON_INTERPRET") != "1":
        return False
    if find_spec("triton") is None:
        raise ValueError(f"{FUSED} is 1, which needs the package triton: pip install triton, or unset it")
    return True


def waits(x: Tensor) -> bool:
    """Whether to look at a number of x is to wait for a device."""
    return not x.is_cpu


def log_weights(weights: Tensor | None, x: Tensor) -> Tensor:
    """log of the weights over their sum, (..., M); uniform where there are none."""
    if weights is None:
        return torch.full_like(x[..., 0], -math.log(x.shape[-2]))
    return (weights / weights.sum(-1, keepdim=True)).log()


def _spread(x: Tensor, y: Tensor) -> Tensor:
    """The largest squared distance from y's centre, (...): a quarter of an upper bound of every cost."""
    centre = y.mean(-2, keepdim=True)
    return torch.cat([x - centre, y - centre], -2).square().sum(-1).amax(-1)


class _Sweep:
    """(g, eps) -> f, the softmin along the rows, and the sums of that plan's columns over b_j; f and g in units of eps.

    Where the cost is small it is kept, and so is the plan Q of one g, its rows divided by a_i: the plan of g + h is then
    Q_ij exp(h_j) / r_i, r = Q exp(h), and its f is f - log r, without the exponential of a matrix. ``softmin`` makes Q again.
    """

    def __init__(self, x: Tensor, y: Tensor, log_a: Tensor, log_b: Tensor) -> None:
        self.x, self.y, self.a, self.log_b = x, y, log_a.exp()[:, None, :], log_b
        self.over_b = torch.where(log_b.isneginf(), 0.0, (-log_b).exp())
        self.absent = log_b.isneginf().to(x.dtype)  # a point of no weight counts as one whose column is right
        self.cost = costs(x, y) if x[..., 0].numel() * y.shape[1] <= KEPT else None
        self.q = None if self.cost is None else torch.empty_like(self.cost)

    def keep(self, kept: Tensor) -> None:
        """Drops all problems but those whose places are ``kept``."""
        vars(self).update({name: t[kept] for name, t in vars(self).items() if t is not None})

    def plan(self, g: Tensor, eps: Tensor, *, anew: bool, look: bool) -> tuple[Tensor, Tensor, Tensor]:
        """f and columns, ``anew`` or by the plan that is kept; and how far g is from its g. With ``look`` it is kept within ``REACH``."""
        if anew or self.q is None:
            return *self.softmin(g, eps), torch.zeros_like(eps[0])
        away = (g - self.g).abs().amax()
        if look and not away <= REACH:
            return *self.softmin(g, eps), torch.zeros_like(away)
        return *self(g), away

    def __call__(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """By the plan that is kept, of a g within ``REACH`` of its own."""
        assert self.q is not None
        v = (g - self.g).exp()
        r = v[:, None, :] @ self.q.mT
        columns = total((self.a / r) @ self.q)
        return self.f - r[:, 0, :].log(), torch.addcmul(self.absent, columns[:, 0, :], v * self.over_b)

    def softmin(self, g: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """In the log domain: f_i = -log sum_j b_j exp(g_j - c_ij / eps)."""
        scaled = (self.log_b + g)[:, None, :]
        columns = torch.zeros_like(scaled)
        cost = self._cost_rows()

        def log_sums(rows: slice) -> Tensor:
            z = torch.div(cost(rows), -eps[:, None, None], out=None if self.q is None else self.q[:, rows]).add_(scaled)
            top = z.amax(-1, keepdim=True)
            q = z.sub_(top).clamp_min_(LOWEST).exp_()
            total = q.sum(-1, keepdim=True)
            columns.add_(self.a[..., rows] @ q.div_(total))
            return top + total.log()

        self.g, self.f = g, -by_rows(self.x, self.y, log_sums)[..., 0]
        return self.f, torch.addcmul(self.absent, total(columns)[:, 0, :], self.over_b)

    def _cost_rows(self) -> Callable[[slice], Tensor]:
        kept = self.cost
        if kept is not None:
            return lambda rows: kept[:, rows]
        distances = distances_to(self.y)
        return lambda rows: distances(self.x[:, rows])


def costs(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2, (..., M, N); on a CPU in small blocks of rows: large temporaries cost more there than the arithmetic."""
    distances = distances_to(y)
    size = max(1, SMALL // (x[..., 0, 0].numel() * y.shape[-2])) if x.is_cpu else x.shape[-2]
    if size >= x.shape[-2]:
        return distances(x)
    cost = x.new_empty((*x.shape[:-1], y.shape[-2]))
    for rows in (slice(start, start + size) for start in range(0, x.shape[-2], size)):
        cost[..., rows, :] = distances(x[..., rows, :])
    return cost
