"""RKHS kernels on particles and their median bandwidths.

One convention: a kernel is a function of r = |x - y|^2 / (2 lengthscale^2), and ``lengthscale`` is a length. The papers write
exp(-|x - y|^2 / h): their bandwidth is h = 2 lengthscale^2, so lengthscale = sqrt(h / 2).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from wgf.door import door, traced
from wgf.shards import own_span

__all__ = [
    "BLOCK", "FEW", "FEWER", "IMQ", "KERNELS", "MANY", "RBF", "SUBSAMPLE", "WORTH", "Kernel", "KernelName", "Repulsion", "block_of",
    "by_rows", "distances_to", "median", "median_cross", "median_full", "median_rbf", "median_svgd", "median_svpg", "middle", "own_rows",
    "per_pair", "pull_between", "row_blocks", "squared_distances", "thinned",
]  # fmt: skip

Repulsion = Callable[[Tensor], Tensor]
BLOCK = 2**19  # entries of one block of rows of an M x N matrix on a CPU: 4 MiB in float64, which stay in a cache
LARGE = 2**25  # and elsewhere, where every block costs a launch: 128 MiB in float32, of which three or four live at a time
FEW = 6  # axes up to which squared differences are summed axis by axis on a CPU
FEWER = 3  # and pulls, of which every axis is a sum of its own: here products in float64 are as quick
MANY = 32  # axes up to which both go axis by axis elsewhere, where float64 may cost 32 to 64 times float32
SUBSAMPLE = 1024  # particles a median looks at: of 4,096 normal ones it is 2.0 % off in 1 axis, .7 in 10 (2,048: 1.6, .5)
WORTH = 4096  # numbers from which on compiled code had better leave its own to call numpy


class Kernel(Protocol):
    """``kernel(x, y) -> (gram, repulsion)`` with gram_ij = k(x_i, y_j), (..., M, N), and, for weights w (..., N),
    ``repulsion(w)_i = sum_j w_j grad_{y_j} k(x_i, y_j)``, (..., M, d)."""

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Repulsion]:
        """The gram matrix and the repulsion."""
        ...


@dataclass(frozen=True)
class RBF:
    """Gaussian kernel k = exp(-r), r = |x - y|^2 / (2 lengthscale^2). ``lengthscale``: a number or one a batch entry (...)."""

    lengthscale: Tensor | float

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Repulsion]:
        """The gram matrix and the repulsion."""
        gram = _gaussian(_radius(x, y, self.lengthscale))
        return gram, _radial(x, y, gram, self.lengthscale)


@dataclass(frozen=True)
class IMQ:
    """Inverse multiquadric k = (1 + r)^(-1/2), r = |x - y|^2 / (2 lengthscale^2): tails that still feel far particles."""

    lengthscale: Tensor | float

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Repulsion]:
        """The gram matrix and the repulsion."""
        gram = torch.rsqrt(1.0 + _radius(x, y, self.lengthscale)).clamp_min(torch.finfo(x.dtype).tiny)  # 1 / inf, else; sums divide
        return gram, _radial(x, y, 0.5 * gram**3, self.lengthscale)


@door(x="*b M d", y="*b N d")
def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2, (..., M, N).

    Neither a common offset nor near-duplicates far from the centre lose their digits: few axes are summed axis by axis, in the dtype
    of x; many are taken by one product (M, d) x (d, N) of centred clouds, in float64. No (M, N, d) tensor is made.
    """
    return distances_to(y)(x)


def distances_to(y: Tensor) -> Callable[[Tensor], Tensor]:
    """x -> |x_i - y_j|^2, (..., M, N): what depends on y alone is prepared once, for use with many blocks of rows of x."""
    return _by_axes(y) if _few(y, FEW) else _by_product(y)


def _few(x: Tensor, on_cpu: int) -> bool:
    return x.shape[-1] <= (on_cpu if x.is_cpu else MANY)


def _by_axes(y: Tensor) -> Callable[[Tensor], Tensor]:
    first, *others = y.mT.contiguous()[..., None, :].unbind(-3)

    def distances(x: Tensor) -> Tensor:
        start, *rest = x[..., None].unbind(-2)
        cost = (start - first).square_()
        for p, q in zip(rest, others, strict=True):
            difference = p - q
            cost.addcmul_(difference, difference)
        return cost

    return distances


def _by_product(y: Tensor) -> Callable[[Tensor], Tensor]:
    # Float64: |p|^2 + |q|^2 - 2 p.q leaves nothing of 1e-4 between points of size 1 in float32 (a test of near-duplicates holds it)
    centre = y.detach().double().mean(-2, keepdim=True)
    q = y.double() - centre
    right = torch.cat([-2.0 * q, torch.ones_like(q[..., :1]), q.square().sum(-1, keepdim=True)], -1).mT

    def distances(x: Tensor) -> Tensor:
        p = x.double() - centre
        left = torch.cat([p, p.square().sum(-1, keepdim=True), torch.ones_like(p[..., :1])], -1)
        return (left @ right).to(x.dtype).clamp_min_(0.0)

    return distances


def pull_between(x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
    """weights a (..., M, N) -> sum_j a_ij (x_i - y_j), (..., M, d), where the difference of near points keeps its digits."""
    if _few(y, FEWER):
        pairs = list(zip(x[..., None].unbind(-2), y.mT[..., None, :].unbind(-3), strict=True))
        return lambda a: torch.stack([torch.linalg.vecdot(a, p - q) for p, q in pairs], -1)
    # Float64: the difference of two sums of size |x| is divided by the square of a short lengthscale (tests of duplicates hold it)
    centre = y.double().mean(-2, keepdim=True)
    p, q = x.double() - centre, y.double() - centre

    def pull(a: Tensor) -> Tensor:
        wide = a.double()
        return torch.addcmul(-(wide @ q), p, wide.sum(-1, keepdim=True)).to(x.dtype)

    return pull


def block_of(x: Tensor) -> int:
    """Entries of a block of an M x N matrix of the particles x: small ones for a CPU's cache, else as many as memory should hold."""
    return BLOCK if x.is_cpu else LARGE


def row_blocks(x: Tensor, y: Tensor, span: slice) -> Iterator[slice]:
    """Slices of a span of the M rows of x for which a block of the (..., M, N) matrix stays within ``block_of(x)`` entries."""
    rows = max(1, block_of(x) // (x[..., 0, 0].numel() * y.shape[-2]))
    for start in range(span.start, span.stop, rows):
        yield slice(start, min(start + rows, span.stop))


def by_rows(x: Tensor, y: Tensor, function: Callable[[slice], Tensor]) -> Tensor:
    """``function(rows)``, (..., rows, k), of every block of rows, put together: (..., M, k)."""
    return _put_together(slice(0, x.shape[-2]), x, y, function)


def own_rows(x: Tensor, y: Tensor, function: Callable[[slice], Tensor]) -> Tensor:
    """``by_rows``; where several ranks own the particles (``wgf.shards``) this rank's rows alone: (..., m, k)."""
    return _put_together(own_span(x.shape[-2]), x, y, function)


def _put_together(span: slice, x: Tensor, y: Tensor, function: Callable[[slice], Tensor]) -> Tensor:
    """Into one tensor, not a list: small results that live between large temporaries scatter the heap, up to M^2 of it."""
    first, *others = row_blocks(x, y, span)
    part = function(first)
    if not others:
        return part
    whole = part.new_empty((*part.shape[:-2], span.stop - span.start, part.shape[-1]))
    whole[..., : first.stop - span.start, :] = part
    for rows in others:
        whole[..., rows.start - span.start : rows.stop - span.start, :] = function(rows)
    return whole


def per_pair(scale: Tensor | float) -> Tensor | float:
    """A scale a batch entry (...), shaped to meet a matrix (..., M, N)."""
    return scale[..., None, None] if isinstance(scale, Tensor) and scale.ndim else scale


@door(x="*b M d", y="*b N d", lengthscale="length")
def _radius(x: Tensor, y: Tensor, lengthscale: Tensor | float) -> Tensor:
    return distances_to(y)(x) / (2.0 * per_pair(lengthscale) ** 2)


def _gaussian(radius: Tensor) -> Tensor:
    """exp(-r), in place, held above the subnormal numbers of float32, which are slow."""
    return radius.neg_().clamp_min_(-80.0).exp_()


def _radial(x: Tensor, y: Tensor, slope: Tensor, lengthscale: Tensor | float) -> Repulsion:
    """k = kappa(r), slope = -kappa'(r): grad_{y_j} k(x_i, y_j) = slope_ij (x_i - y_j) / lengthscale^2."""
    pull = pull_between(x, y)
    return lambda w: pull(slope * w[..., None, :]) / per_pair(lengthscale) ** 2


# --- median bandwidths: a length each, detached, one function a convention -------------------------------------------


def median(values: Tensor) -> Tensor:
    """The median over the last axis, (...), detached: the mean of the two middle values where their number is even."""
    lower, upper = middle(values)
    return (lower + upper) / 2.0


def middle(values: Tensor) -> tuple[Tensor, Tensor]:
    """The two middle values of the last axis, (...), detached; where their number is odd both are the one in the middle."""
    n = values.shape[-1]
    if n == 1:
        return values[..., 0].detach(), values[..., 0].detach()
    lower, upper = _middle(values.detach(), n // 2)
    return (upper if n % 2 else lower), upper


def _middle(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k-th and the (k + 1)-th smallest of the last axis, (...), k >= 1. On a CPU by numpy, several times faster than torch."""
    plain = values.is_cpu and not torch._C._are_functorch_transforms_active()  # numpy reads no tensor inside a transform
    if plain and not (traced() and values.numel() < WORTH):
        ordered = (_opaque_partition if traced() else _partition)(values, k)
        return ordered[..., :k].amax(-1), ordered[..., k]
    upper, lower = values.topk(k + 1, largest=False, sorted=False).values.topk(2).values.unbind(-1)
    return lower, upper


def _partition(values: Tensor, k: int) -> Tensor:
    """The last axis with its k smallest first, in any order, and the next of them behind."""
    return torch.from_numpy(np.partition(values.numpy(), k, -1))


# the same as an operator, which a compiler leaves as it is
_opaque_partition = torch.library.custom_op("wgf::partition", _partition, mutates_args=())
_opaque_partition.register_fake(lambda values, k: torch.empty_like(values, memory_format=torch.contiguous_format))


def thinned(x: Tensor) -> Tensor:
    """Every k-th particle, detached, so that a median looks at no more than ``SUBSAMPLE`` of them."""
    return x.detach()[..., :: -(-x.shape[-2] // SUBSAMPLE), :]


def _length(h: Tensor, floor: float) -> Tensor:
    return (h.clamp_min(floor) / 2.0).sqrt()


@door(x="*b M d", floor=">0")
def median_svgd(x: Tensor, floor: float = 1e-10) -> Tensor:
    """h = med^2 / log M, med the median distance between different particles; (...).

    Source: Liu & Wang 2016, Sec. 5; Zhang et al. 2018, App. D.2. Limits: h = 1 for one particle; h >= ``floor``.
    """
    thin = thinned(x)
    if x.is_cpu and thin[..., 0].numel() * thin.shape[-2] > BLOCK and not _few(x, FEW):
        return _root_length(*middle(_pairs(thin)), x.shape[-2], floor)
    return _svgd_length(squared_distances(thin, thin), x.shape[-2], floor)


def _svgd_length(cost: Tensor, m: int, floor: float = 1e-10) -> Tensor:
    """``median_svgd`` of m particles from the full matrix |x_i - x_j|^2: its zero diagonal comes first, then every pair twice."""
    n = cost.shape[-1]
    if n == 1:
        return _length(torch.ones_like(cost[..., 0, 0]), floor)
    return _root_length(*_middle(cost.detach().flatten(-2), n * (n + 1) // 2), m, floor)


def _root_length(lower: Tensor, upper: Tensor, m: int, floor: float) -> Tensor:
    """``median_svgd`` of m particles from the two middle ones of their squared distances."""
    return _length((lower.sqrt() + upper.sqrt()) ** 2 / (4.0 * math.log(m)), floor)


def _pairs(x: Tensor) -> Tensor:
    """|x_i - x_j|^2 of the pairs i < j, (..., n (n - 1) / 2): half the products of the matrix, in blocks of rows."""
    n = x.shape[-2]
    _, distances = _centred(x)
    found, at = x.new_empty(*x.shape[:-2], n * (n - 1) // 2), 0
    for rows in row_blocks(x, x, slice(0, n)):
        b, part = rows.stop - rows.start, distances(rows, slice(rows.start, n))
        i, j = torch.triu_indices(b, b, 1)
        for piece in (part[..., i, j], part[..., b:].flatten(-2)):
            found[..., at : at + piece.shape[-1]] = piece
            at += piece.shape[-1]
    return found


@door(x="*b M d", floor=">0")
def median_full(x: Tensor, floor: float = 1e-10) -> Tensor:
    """h = median of the full matrix |x_i - x_j|^2, its zero diagonal included, over log(M + 1); (...).

    Source: the public SVGD code of Liu & Wang 2016, whose kernel is exp(-|x - y|^2 / (2 s^2)) with s^2 = h / 2.
    """
    thin = thinned(x)
    return _length(median(squared_distances(thin, thin).flatten(-2)) / math.log(x.shape[-2] + 1), floor)


@door(x="*b M d", floor=">0")
def median_svpg(x: Tensor, floor: float = 1e-10) -> Tensor:
    """h = median of the full matrix of |x_i - x_j|^2 over 2 log(M + 1): half of ``median_full``'s; (...).

    Source: the public SVPG code of Liu et al. 2017.
    """
    thin = thinned(x)
    return _length(median(squared_distances(thin, thin).flatten(-2)) / (2.0 * math.log(x.shape[-2] + 1)), floor)


@door(x="*b M d", y="*b N d", floor=">0")
def median_cross(x: Tensor, y: Tensor, floor: float = 1e-3) -> Tensor:
    """h = median of |x_i - y_j|^2 over all cross pairs, over log M; (...).

    Source: the public soft Q-learning code of Haarnoja et al. 2017, whose floor is 1e-3. Limits: log 2 stands in for log 1.
    """
    cost = squared_distances(thinned(x), thinned(y))
    return _length(median(cost.flatten(-2)) / math.log(max(2, x.shape[-2])), floor)


# --- kernels by name, for those who choose one by an option: the RBF with each median of the particles as lengthscale ---

KernelName = Literal["svpg", "svgd", "full"]
KERNELS: dict[str, Callable[[Tensor], Kernel]] = {
    "svpg": lambda x: RBF(median_svpg(x)),
    "svgd": lambda x: RBF(median_svgd(x)),
    "full": lambda x: RBF(median_full(x)),
}


# --- the default kernel of SVGD ---------------------------------------------------------------------------------------


def median_rbf(x: Tensor, w: Tensor) -> tuple[Callable[[slice], Tensor], Callable[[slice, Tensor], Tensor]]:
    """rows -> RBF(l)'s gram of them, (..., rows, M), l = ``median_svgd(x)``; and, for weights a of these rows,
    (rows, a) -> sum_j a_ij (w_j + (x_i - x_j) / l^2), (..., rows, d), for vectors w (..., M, d).

    Where the median looks at every particle, the distances serve it and the gram.
    """
    subsampled = median_svgd(x) if x.shape[-2] > SUBSAMPLE else None  # before what the rows need takes its memory
    distances, move_by = _few_axes(x, w) if _few(x, FEWER) else _many_axes(x, w)
    whole = by_rows(x, x, distances) if subsampled is None else None
    lengthscale = subsampled if whole is None else _svgd_length(whole, x.shape[-2])
    assert lengthscale is not None
    lengthscale = lengthscale[..., None, None]

    def gram(rows: slice) -> Tensor:
        return _gaussian((distances(rows) if whole is None else whole[..., rows, :]) / (2.0 * lengthscale**2))

    return gram, move_by(lengthscale)


_Rows = Callable[[slice], Tensor]
_Move = Callable[[slice, Tensor], Tensor]


def _few_axes(x: Tensor, w: Tensor) -> tuple[_Rows, Callable[[Tensor], _Move]]:
    to_x = distances_to(x)

    def move_by(lengthscale: Tensor) -> _Move:
        return lambda rows, a: torch.addcdiv(a @ w, pull_between(x[..., rows, :], x)(a), lengthscale**2)

    return lambda rows: to_x(x[..., rows, :]), move_by


def _many_axes(x: Tensor, w: Tensor) -> tuple[_Rows, Callable[[Tensor], _Move]]:
    """By products in float64, as in ``squared_distances`` and ``pull_between``, and one product for both terms:
    sum_j a_ij (w_j - x_j / l^2) + x_i sum_j a_ij / l^2."""
    p, distances = _centred(x)

    def move_by(lengthscale: Tensor) -> _Move:
        slope = lengthscale.double() ** -2
        wide = w.to(torch.float64, copy=True)  # the one copy; inside a transform p may have axes that w has not
        mapped = torch._C._are_functorch_transforms_active()
        drive = torch.addcmul(wide, p, -slope) if mapped else wide.addcmul_(p, -slope)

        def move(rows: slice, a: Tensor) -> Tensor:
            wide = a.double()
            return (wide @ drive).addcmul_(p[..., rows, :], slope * wide.sum(-1, keepdim=True)).to(x.dtype)

        return move

    return lambda rows: distances(rows, slice(None)), move_by


def _centred(x: Tensor) -> tuple[Tensor, Callable[[slice, slice], Tensor]]:
    """x less its mean, in float64, and (rows, columns) -> |x_i - x_j|^2 of them, in the dtype of x."""
    p = x.to(torch.float64, copy=True).sub_(x.mean(-2, keepdim=True).double())
    norms = by_rows(x, x, lambda rows: torch.linalg.vecdot(p[..., rows, :], p[..., rows, :])[..., None])[..., 0]

    def distances(rows: slice, columns: slice) -> Tensor:
        product = (p[..., rows, :] @ p[..., columns, :].mT).mul_(-2.0)
        return product.add_(norms[..., rows, None]).add_(norms[..., None, columns]).to(x.dtype).clamp_min_(0.0)

    return p, distances
