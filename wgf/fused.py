"""Small transport problems on a GPU: all Sinkhorn iterations of a problem in one Triton kernel, its plan in registers.

``wgf.sinkhorn`` takes it where ``WGF_FUSED_SINKHORN=1`` stands in the environment. It needs triton, which torch for CUDA brings.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["Problems", "solve"]


@triton.jit  # type: ignore[untyped-decorator]
def iterations(cost, log_a, log_b, target, level, f_out, g_out, gap_out, tol, cooling, max_iters, m, n, M: tl.constexpr, N: tl.constexpr):  # type: ignore[no-untyped-def]
    """One problem per program, of ``m`` rows and ``n`` columns in blocks of M and N, which are powers of two. f and g in units of eps."""
    k = tl.program_id(0).to(tl.int64)  # of costs there may be more than 32 bits count
    i, j = tl.arange(0, M), tl.arange(0, N)
    a = tl.exp(tl.load(log_a + k * m + i, mask=i < m, other=-float("inf")))
    log_mass = tl.load(log_b + k * n + j, mask=j < n, other=-float("inf"))
    b = tl.exp(log_mass)
    c = tl.load(cost + (k * m + i[:, None]) * n + j[None, :], mask=(i[:, None] < m) & (j[None, :] < n), other=0.0)
    end, eps = tl.load(target + k), tl.load(level + k)
    f, g, last = a * 0.0, b * 0.0, b * 0.0
    gap, age, count, left = end * 0.0, end * 0.0, 0, True
    while left:
        cooler = tl.maximum(end, cooling * eps)
        g, last, eps = g * (eps / cooler), last * (eps / cooler), cooler
        # f_i = -log sum_j b_j exp(g_j - c_ij / eps), and the columns of that plan over b_j; a column of no mass counts as right
        z = (log_mass + g)[None, :] - c / eps
        top = tl.max(z, 1)
        q = tl.exp(z - top[:, None])
        rows = tl.sum(q, 1)
        f = -(top + tl.log(rows))
        columns = tl.sum(q * (a / rows)[:, None], 0)
        columns = tl.where(b > 0.0, columns / b, 1.0)
        excess = b * (columns - 1.0)
        gap = tl.sum(tl.abs(excess), 0)
        count += 1
        left = ((eps > end) | (gap > tol)) & (count <= max_iters)
        if left:
            # Nesterov's step, which begins anew where it leads down the dual
            step = g - tl.log(columns)
            move = step - last
            ascends = (tl.sum(excess * move, 0) < 0.0) & (eps <= end)
            age = tl.where(ascends, age + 1.0, 0.0)
            g, last = step + age / (age + 3.0) * move, step
    tl.store(f_out + k * m + i, f * eps, mask=i < m)
    tl.store(g_out + k * n + j, g * eps, mask=j < n)
    tl.store(gap_out + k, gap)


class Problems(NamedTuple):
    """B problems: costs (B, M, N), logarithms of the masses (B, M) and (B, N), eps (B,) at the end and at the start."""

    cost: Tensor
    log_a: Tensor
    log_b: Tensor
    target: Tensor
    level: Tensor


def solve(given: Problems, cooling: float, tol: float, max_iters: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns f (B, M), g (B, N) and gap (B,), as ``wgf.sinkhorn.sinkhorn`` defines them.

    eps falls by the factor ``cooling`` at each iteration from ``level`` to ``target``. Each problem looks at its gap after every
    iteration, and stops by itself. **Limits** A whole plan is in registers: 64 x 64 fits, on a GPU of compute capability 9.0.
    """
    f, g, gap = torch.empty_like(given.log_a), torch.empty_like(given.log_b), torch.empty_like(given.target)
    (problems, m, n), blocks = given.cost.shape, [triton.next_power_of_2(k) for k in given.cost.shape[1:]]
    parts = (t.contiguous() for t in given)
    with torch.cuda.device_of(given.cost):  # type: ignore[no-untyped-call]  # Triton would take the present device
        iterations[(problems,)](*parts, f, g, gap, tol, cooling, max_iters, m, n, *blocks)
    return f, g, gap
