"""How well particles stand for a law p: the kernel Stein discrepancy, which asks for grad log p alone, and effective sample sizes.

The distance to a sample of p itself is ``wgf.transport.exact_cost``. Everything here is detached and computed in float64.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from wgf.door import door
from wgf.kernels import by_rows, distances_to, per_pair
from wgf.shards import unsharded

__all__ = ["chain_ess", "importance_ess", "ksd", "squared_ksd"]


@unsharded
@door(x="*b M d", score="*b M d", c="length", weights="weights *b M")
def ksd(x: Tensor, score: Tensor, *, c: Tensor | float = 1.0, weights: Tensor | None = None) -> Tensor:
    """KSD = (sum_ij w_i w_j k_p(x_i, x_j))^(1/2), (...), of the weighted particles themselves and p: the V-statistic.

    k_p(x, y) = s(x).s(y) k + s(x).grad_y k + s(y).grad_x k + div_x grad_y k, with s = grad log p, which ``score`` holds at x, and the
    inverse multiquadric k(x, y) = (c^2 + |x - y|^2)^(-1/2): ``kernels.IMQ(c / sqrt(2))`` divided by c. For a law q with a density
    KSD(q, p)^2 is the mean of (s - grad log q)(x).(s - grad log q)(y) k(x, y) over independent x and y of q.

    Weights default to uniform and are normalised.

    **Source** Gorham & Mackey 2017, Sec. 2 and 3, beta = -1/2. **Units** of length^(-3/2): bring the axes to one scale, or choose c.
    **Limits** at least 0. Of N independent draws from p its square has the mean (E|s|^2 / c + d / c^3) / N, so that it falls as
    N^(-1/2). It hardly sees how mass is shared out among modes that are far apart, since scores do not tell. Cost O(M^2 d); memory grows
    as M: rows go in blocks. **Derivative** none, it is detached.
    """
    w = torch.ones_like(x[..., 0]) if weights is None else weights
    w = w.detach().double() / w.detach().double().sum(-1, keepdim=True)
    pairs = _stein(x, score, c)
    rows = by_rows(x, x, lambda rows: pairs(rows) @ w[..., None])[..., 0]
    return (w * rows).sum(-1).clamp_min(0.0).sqrt().to(x.dtype)


@unsharded
@door(x="*b M d", score="*b M d", c="length")
def squared_ksd(x: Tensor, score: Tensor, *, c: Tensor | float = 1.0) -> Tensor:
    """(1 / (M (M - 1))) sum_{i != j} k_p(x_i, x_j), (...): the U-statistic, whose mean over draws x_i of a law q is KSD(q, p)^2.

    k_p and c as ``ksd`` has them; below 0 by chance where q is near p, since no term is left that is positive by itself.

    **Source** Liu, Lee & Jordan 2016, Eq. 14. **Units** of length^(-3). **Limits** for independent draws: particles of a flow repel each
    other, and come out below 0; cost and memory as ``ksd``. **Derivative** none, it is detached.
    **Raises** ValueError for one particle.
    """
    m, d = x.shape[-2:]
    if m == 1:
        raise ValueError("x has 1 particle; pairs of different ones need at least 2")
    pairs, c = _stein(x, score, c), _double(c)
    whole = by_rows(x, x, lambda rows: pairs(rows).sum(-1, keepdim=True)).sum((-2, -1))
    own = score.detach().double().square().sum((-2, -1)) / c + m * d / c**3
    mean: Tensor = (whole - own) / (m * (m - 1))
    return mean.to(x.dtype)


def _stein(x: Tensor, score: Tensor, c: Tensor | float) -> Callable[[slice], Tensor]:
    """rows -> k_p(x_i, x_j), (..., rows, M). With u = c^2 + |x - y|^2 it is

    s(x).s(y) u^(-1/2) + [(s(x) - s(y)).(x - y) + d] u^(-3/2) - 3 |x - y|^2 u^(-5/2)."""
    x, s = x.detach().double(), score.detach().double()
    x = x - x.mean(-2, keepdim=True)  # only differences count, and small numbers keep their digits
    distances, along = distances_to(x), torch.linalg.vecdot(s, x)

    def pairs(rows: slice) -> Tensor:
        squared: Tensor = distances(x[..., rows, :])
        k: Tensor = (per_pair(_double(c)) ** 2 + squared).rsqrt()
        apart: Tensor = along[..., rows, None] + along[..., None, :] - s[..., rows, :] @ x.mT - x[..., rows, :] @ s.mT
        found: Tensor = (s[..., rows, :] @ s.mT) * k + (apart + x.shape[-1]) * k**3 - 3.0 * squared * k**5
        return found

    return pairs


def _double(c: Tensor | float) -> Tensor | float:
    return c.detach().double() if isinstance(c, Tensor) else c


@door(weights="weights *b M")
def importance_ess(weights: Tensor) -> Tensor:
    """(sum_i w_i)^2 / sum_i w_i^2, (...): how many draws of p the weighted draws of another law are worth, for the mean of a function
    that hardly depends on the weights. M of equal weights, 1 where one has all.

    Of log weights pass the softmax. **Source** Kish 1965; Kong 1992. **Limits** the weights alone are looked at: where all draws miss a
    mode, it says nothing.
    """
    w = weights.detach().double()
    return (w / w.sum(-1, keepdim=True)).square().sum(-1).reciprocal().to(weights.dtype)


@door(history="*b M d")
def chain_ess(history: Tensor) -> Tensor:
    """M T / tau, (..., d), for M independent chains of T steps, ``history`` (T, ..., M, d): how many independent draws are worth as much
    for the mean of each coordinate. tau = -1 + 2 sum_k P_k, P_k = rho_{2k} + rho_{2k+1}, rho_t the autocorrelation over t steps.

    rho_t = 1 - (W - C_t) / V: C_t the chains' mean autocovariance, W = C_0, and V their variance together, W (T - 1) / T plus the
    variance of the chains' means; chains that stay apart are so worth little. The sum ends before the first P_k that is not above 0, and
    each P_k is at most the one before (Geyer's initial monotone sequence).

    **Source** Geyer 1992, Sec. 3.3; Vehtari et al. 2021, Eq. 10 and 13; their bound, M T log10(M T), for chains that alternate.
    **Limits** of Langevin chains, ``svgd.langevin``; leave out the steps before they are stationary. Particles of SVGD are no independent
    chains: see ``ksd``. A coordinate that never moves counts M T. Memory of four histories in float64.
    **Raises** ValueError for fewer than 4 steps.
    """
    if history.ndim < 3 or len(history) < 4:
        raise ValueError(f"history has shape {tuple(history.shape)}; allowed is (T, ..., M, d) with T of at least 4 steps")
    x = history.detach().double().movedim(0, -1)  # (..., M, d, T)
    x = x - x[..., :1, :, :1]  # what never moves is 0
    m, steps = x.shape[-3], x.shape[-1]
    spectrum = torch.fft.rfft(x - x.mean(-1, keepdim=True), 2 * steps).abs().square()
    covariance = torch.fft.irfft(spectrum, 2 * steps)[..., :steps].mean(-3) / (steps - 1)
    within = covariance[..., :1]
    between = x.mean(-1).var(-2)[..., None] if m > 1 else torch.zeros_like(within)
    whole = within * (steps - 1) / steps + between
    rho = torch.where(whole > 0.0, 1.0 - (within - covariance) / whole, torch.arange(steps, device=x.device) == 0)
    pairs = rho[..., : steps // 2 * 2 : 2] + rho[..., 1::2]
    kept = pairs.cummin(-1).values.clamp_min(0.0)  # at 0 from the first that is not above 0 on
    tau = (2.0 * kept.sum(-1) - 1.0).clamp_min(1.0 / math.log10(m * steps))
    return (m * steps * tau.reciprocal()).to(history.dtype)
