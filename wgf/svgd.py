"""KL velocities on particles: SVGD and its relatives.

Every function returns a direction to ADD to the particles; it decreases KL(mu || p). The caller evaluates
``score`` = grad log p at the particles. Shapes: x, score, velocity (..., M, d). Memory grows as M: rows go in blocks.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from wgf.door import door
from wgf.kernels import RBF, Kernel, median_rbf, median_svgd, own_rows
from wgf.shards import every

__all__ = ["blob", "gfsd", "langevin", "unbiased", "velocity"]


@door(x="*b M d", score="*b M d", kernel="function")
def velocity(x: Tensor, score: Tensor, kernel: Kernel | None = None) -> Tensor:
    """SVGD: phi(x_i) = (1/M) sum_j [ k(x_j, x_i) score_j + grad_{x_j} k(x_j, x_i) ].

    ``kernel=None`` is an RBF with the SVGD paper's median bandwidth.

    **Source** Zhang et al. 2018, Eq. 7; Liu & Wang 2016, Eq. 8.
    **Sign** the ascent side: x += step * phi. Departs: Eq. 7 prints phi as the gradient of KL; the gradient is -phi.
    **Limits** one particle follows its score; averaging over M makes the fixed point under-dispersed when d is not small against M: of
    N(0, I), M in 3 ... d + 1 particles with the median bandwidth rest on a simplex of squared radius log M, where the law has d.
    **Derivative** its own, in x and score, with the median bandwidth held fixed.
    """
    if kernel is None:
        return _weighted(x, score, lambda rows: 1.0 / x.shape[-2])
    ones = torch.ones_like(x[..., 0])

    def phi(rows: slice) -> Tensor:
        gram, repulsion = kernel(x[..., rows, :], x)
        return (gram @ score + repulsion(ones)) / x.shape[-2]

    return own_rows(x, x, phi)


def _weighted(x: Tensor, score: Tensor, weights: Callable[[slice], Tensor | float]) -> Tensor:
    """sum_j w_ij [ k(x_j, x_i) score_j + grad_{x_j} k(x_j, x_i) ], k the RBF exp(-|x - y|^2 / h) with the median bandwidth.

    ``weights(rows)``: w_ij of these rows, (rows, M). The second term is (2/h) sum_j a_ij (x_i - x_j), a_ij = w_ij k(x_i, x_j).
    """
    gram, move = median_rbf(x, score)
    return own_rows(x, x, lambda rows: move(rows, gram(rows) * weights(rows)))


@door(x="*b M d", score="*b M d", kernel="function", groups=">=1")
def unbiased(x: Tensor, score: Tensor, kernel: Kernel | None = None, *, groups: int = 1) -> Tensor:
    """SVGD for fresh draws x_i ~ q: (1/(M-1)) sum_{j != i} [ k(x_j, x_i) score_j + grad_{x_j} k(x_j, x_i) ].

    Draws of a mixture come in ``groups`` of m = M / groups, one a component: then a draw of another group has the weight 1/M, one of
    the own group 1/(groups (m - 1)), so that every component counts as it does in q. ``kernel=None`` is an RBF with the SVGD paper's
    median bandwidth; a kernel's slope is taken to be 0 at x_j = x_i, as that of every function of |x_i - x_j| is.

    **Source** Zhang et al. 2018, Eq. 7. Departs: j = i is left out. It adds score_i / M and no repulsion; where the particles are draws
    of a network nothing balances it, and q ends more than a tenth too narrow at M = 32 (tests/agents/test_bandit.py). Left out, the
    mean over draws is that of M -> inf: zero at q = p.
    **Sign** add it. **Limits** ``velocity`` where a group has one draw; so one particle follows its score.
    **Derivative** its own, in x and score, with the median bandwidth held fixed.
    """
    if x.shape[-2] % groups:
        raise ValueError(f"groups is {groups}; allowed is a divisor of the {x.shape[-2]} particles")
    m, i = x.shape[-2] // groups, torch.arange(x.shape[-2], device=x.device)
    if m == 1:
        return velocity(x, score, kernel)

    def by_group(rows: slice) -> Tensor:
        own = i[rows, None] // m == i // m
        return x.new_full(own.shape, 1.0 / x.shape[-2]).masked_fill_(own, 1.0 / (groups * (m - 1)))

    def weights(rows: slice) -> Tensor:
        return by_group(rows).masked_fill_(i[rows, None] == i, 0.0)

    if kernel is None:
        return _weighted(x, score, weights)
    members = [(i // m == g).to(x.dtype).expand(x.shape[:-1]) for g in range(groups)]

    def phi(rows: slice) -> Tensor:
        gram, repulsion = kernel(x[..., rows, :], x)
        pushes = [w[:, None] * repulsion(member) for w, member in zip(by_group(rows)[:, ::m].unbind(1), members, strict=True)]
        return sum(pushes, start=(gram * weights(rows)) @ score)

    return own_rows(x, x, phi)


@door(x="*b M d", score="*b M d", kernel="function")
def blob(x: Tensor, score: Tensor, kernel: Kernel | None = None) -> Tensor:
    """w-SGLD-B: v_i = score_i + sum_j grad_{x_j} k(x_j, x_i) (1/k_i + 1/k_j), k_i = sum_j k(x_i, x_j).

    **Source** Chen et al. 2018 ("blob"), Liu et al. 2019; for the RBF it is score_i + (2/h) sum_j K_ij (x_i - x_j)(1/k_i + 1/k_j).
    **Sign** add it. **Limits** own score, so steps are about M times stiffer than SVGD's; one particle follows its score.
    **Derivative** its own, in x and score, with the median bandwidth held fixed.
    """
    kernel = kernel or RBF(median_svgd(x))
    mass = every(own_rows(x, x, lambda rows: kernel(x[..., rows, :], x)[0].sum(-1, keepdim=True)))[..., 0]
    ones = torch.ones_like(mass)

    def push(rows: slice) -> Tensor:
        _, repulsion = kernel(x[..., rows, :], x)
        return score[..., rows, :] + (repulsion(ones) / mass[..., rows, None] + repulsion(1.0 / mass))

    return own_rows(x, x, push)


@door(x="*b M d", score="*b M d", kernel="function")
def gfsd(x: Tensor, score: Tensor, kernel: Kernel | None = None) -> Tensor:
    """Smoothed density: v_i = score_i - grad log mu_k(x_i) = score_i + sum_j grad_{x_j} k(x_j, x_i) / k_i.

    **Source** Liu et al. 2019 (GFSD): Blob without its 1/k_j. **Sign** add it. **Limits** one particle follows its score.
    **Derivative** its own, in x and score, with the median bandwidth held fixed.
    """
    kernel = kernel or RBF(median_svgd(x))
    ones = torch.ones_like(x[..., 0])

    def push(rows: slice) -> Tensor:
        gram, repulsion = kernel(x[..., rows, :], x)
        return score[..., rows, :] + repulsion(ones) / gram.sum(-1, keepdim=True)

    return own_rows(x, x, push)


@door(score="*b M d", noise="*b M d", lr=">0")
def langevin(score: Tensor, noise: Tensor, *, lr: float) -> Tensor:
    """v = score + sqrt(2 / lr) noise, so that x + lr v = x + lr score + sqrt(2 lr) noise, noise ~ N(0, I).

    **Source** Zhang et al. 2018, Eq. 2 to 4. Departs: Eq. 3 prints U = log p / 2 with a diffusion that lacks its factor 1/2;
    this is the consistent pair U = log p, sigma = sqrt(2) I, whose law tends to p. **Sign** add ``lr`` times it.
    **Derivative** its own, in score and noise.
    """
    return score + math.sqrt(2.0 / lr) * noise
