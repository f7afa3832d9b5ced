"""The Wasserstein natural gradient from samples alone: a kernel estimate of the Wasserstein information matrix (KWNG).

A law p_theta of x, known by samples, has the Wasserstein metric G: u'Gu = min E|v(x)|^2 over the velocities v that move p_theta as u moves
theta. Among velocities v = grad f, f a sum of M functions h_m, the least is u'J'L^+Ju with

    h_m(x) = d k(y_m, x) / d y_m[i_m],   L_ml = E grad h_m(x) . grad h_l(x),   J_m = grad_theta E_theta h_m(x).

Source: Moskovitz, Arbel, Huszar, Gretton 2020, Sec. 4; Arbel, Gretton, Li, Montufar 2020 (KWNG). Departs: L is whitened by its own
eigenvalues, since the paper's Algorithm 3 is right for an invertible L alone, and its Eq. 12 for J whitened already.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.func import vjp, vmap

from wgf.door import door
from wgf.kernels import RBF, squared_distances

__all__ = ["RTOL", "Basis", "Metric", "adapted", "basis", "by_score", "reparameterised", "spanned", "whitened"]

RTOL = 1e-10  # eigenvalues of L below this share of the largest count as none
REDUCTION, SHARE, BOUNDS = (0.25, 0.75), 0.85, (1e-10, 1e5)  # of ``adapted``


class Basis(NamedTuple):
    """Points (*b, M, d), coordinates (*b, M) and the kernel's length (*b): k(y, x) = exp(-|x - y|^2 / (2 lengthscale^2))."""

    points: Tensor
    axes: Tensor
    lengthscale: Tensor

    def values(self, x: Tensor) -> Tensor:
        """h_m(x_n) = k(y_m, x_n) (x_n - y_m)[i_m] / lengthscale^2, (*b, M, N), of samples (*b, N, d)."""
        along = _take(x, self.axes) - self.points.gather(-1, self.axes[..., None])
        return self._gram(x) * along / self._square

    def slopes(self, x: Tensor) -> Tensor:
        """grad_x h_m(x_n) = k (e_i / lengthscale^2 - (x - y)[i_m] (x - y) / lengthscale^4), (*b, M, N, d)."""
        apart = (x[..., None, :, :] - self.points[..., None, :]) / self._square[..., None]
        unit = (self.axes[..., None, None] == torch.arange(x.shape[-1], device=x.device)).to(x.dtype) / self._square[..., None]
        along = apart.gather(-1, self.axes[..., None, None].expand(*apart.shape[:-1], 1))
        return self._gram(x)[..., None] * (unit - along * apart)

    @property
    def _square(self) -> Tensor:
        return self.lengthscale.square()[..., None, None]

    def _gram(self, x: Tensor) -> Tensor:
        return RBF(self.lengthscale)(self.points, x)[0]


class Metric(NamedTuple):
    """G = T'T of rank at most M by its rows T = L^(+1/2) J, (*b, M, P)."""

    rows: Tensor

    def product(self, v: Tensor) -> Tensor:
        """G v, (*b, P), as ``wgf.natural.step`` and conjugate gradients take it."""
        return _times(self.rows.mT, _times(self.rows, v))

    def solve(self, gradient: Tensor, eps: Tensor | float, damping: Literal["identity", "columns"] = "identity") -> Tensor:
        """(G + eps D^-1)^-1 g, (*b, P), by M equations: D (g - T'(T D T' + eps I)^-1 T D g) / eps. eps > 0: a number, or one each (*b).

        D is I, or of ``columns`` 1 / (|T e_j| + 1e-8), so that a parameter that moves the law less is damped less. Outside the span of
        the rows it is D g / eps. **Limits** eps -> infinity is the direction of D g; float32 resolves the part of g within the span of the
        rows to 1e-7 of T D T' only, so that for a smaller eps it takes float64. **Source** Moskovitz et al. 2020, Algorithm 3.
        """
        d = 1.0 / (self.rows.norm(dim=-2) + 1e-8) if damping == "columns" else torch.ones_like(gradient)
        return d * (gradient - self._within(d, d * gradient, eps)) / _each(eps, gradient)

    def project(self, gradient: Tensor, eps: Tensor | float) -> Tensor:
        """P g = T'(T T' + eps I)^-1 T g, (*b, P): the part of g that changes the law. **Source** Eq. 15, as its authors' code has it."""
        return self._within(torch.ones_like(gradient), gradient, eps)

    def _within(self, d: Tensor, g: Tensor, eps: Tensor | float) -> Tensor:
        """T'(T D T' + eps I)^-1 T g; the M equations in float64."""
        gram = ((self.rows * d[..., None, :]) @ self.rows.mT).double()
        identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        right = _times(self.rows, g).double()
        return _times(self.rows.mT, torch.linalg.solve_ex(gram + _each(eps, right)[..., None] * identity, right)[0].to(g))


@door(x="*b N d", count=">=1", scale=">0")
def basis(x: Tensor, count: int, generator: torch.Generator, *, scale: float = 1.0) -> Basis:
    """M = ``count`` functions: points drawn from the samples, coordinates drawn at random, lengthscale^2 = scale mean |y_m - x_n|^2.

    Another entry of the batch has another draw. **Limits** few functions see few directions: the direction of a full solve needs some
    ten times as many as there are parameters of the law; with fewer, what they do not see is damped alone.
    """
    shape = (*x.shape[:-2], count)
    which = torch.randint(x.shape[-2], shape, generator=generator, device=generator.device).to(x.device)
    axes = torch.randint(x.shape[-1], shape, generator=generator, device=generator.device).to(x.device)
    return spanned(x, x.gather(-2, which[..., None].expand(*shape, x.shape[-1])), axes, scale=scale)


@door(x="*b N d", points="*b M d", scale=">0")
def spanned(x: Tensor, points: Tensor, axes: Tensor, *, scale: float = 1.0) -> Basis:
    """The functions of these points and coordinates (*b, M), with ``basis``'s lengthscale; 1 where all points and samples are one."""
    square = scale * squared_distances(points.detach(), x.detach()).mean((-2, -1))
    return Basis(points.detach(), axes, torch.where(square > 0.0, square, 1.0).sqrt())


@door(eps="positive *b")
def adapted(eps: Tensor, best: Tensor) -> Tensor:
    """eps of ``Metric.solve`` for the next steps, (*b), by the best reduction ratio of the last ones: Levenberg and Marquardt's rule.

    A step's ratio is 2 (loss before - loss after) / <gradient, what was subtracted from theta>: 1 where the loss falls as the metric
    predicts. Below .25 eps is divided by .85, above .75 multiplied by it, between 1e-10 and 1e5; else, and of nan, it stays.
    **Source** Moskovitz et al. 2020, App. D.1, and their code, after Martens & Grosse 2015; every five steps. Departs: both losses are of
    one minibatch; of two, as in the published code, a ratio is mostly noise.
    """
    factor = torch.where(best < REDUCTION[0], 1.0 / SHARE, torch.where(best > REDUCTION[1], SHARE, 1.0))
    return (eps * factor).clamp(*BOUNDS)


@door(samples="function", theta="*b P")
def reparameterised(samples: Callable[[Tensor], Tensor], theta: Tensor, over: Basis) -> Metric:
    """The metric of x_n = samples(theta), (*b, N, d), differentiable in theta: J_m = (1/N) sum_n (dx_n / dtheta)' grad h_m(x_n).

    Costs M backward passes. **Source** Moskovitz et al. 2020, Eq. 10 and 11, reparameterised.
    """
    x, back = vjp(samples, theta)[:2]
    slopes = over.slopes(x.detach())
    return whitened(slopes, _jacobian(back, slopes, slopes.ndim - 3))


@door(log_prob="function", theta="*b P", x="*b N d")
def by_score(log_prob: Callable[[Tensor], Tensor], theta: Tensor, x: Tensor, over: Basis) -> Metric:
    """The metric of samples x with the density of ``log_prob``: theta -> log p_theta(x_n), (*b, N): J_m = (1/N) sum_n h_m(x_n) grad log p.

    For laws that cannot be reparameterised; noisier than ``reparameterised``. **Source** Moskovitz et al. 2020, Eq. 10 and 11.
    """
    values = over.values(x)
    return whitened(over.slopes(x), _jacobian(vjp(log_prob, theta)[1], values, values.ndim - 2))


@door(slopes="*b M N d", jacobian="*b M P")
def whitened(slopes: Tensor, jacobian: Tensor) -> Metric:
    """The metric of functions by their gradients at the samples, grad h_m(x_n), and by J: T = S^(-1/2) V'J of L = V S V'.

    The decomposition is of float64, its product with J of J's own type. For whoever has J, as from a backward pass with other rows.
    """
    flat = slopes.double().flatten(-2)
    gram = flat @ flat.mT / slopes.shape[-2]
    sound = gram.isfinite().all(-1).all(-1)[..., None]  # a decomposition of what is not finite would end every entry of the batch
    values, vectors = torch.linalg.eigh(
        torch.where(sound[..., None], gram, torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device))
    )
    kept = values > RTOL * values[..., -1:].clamp_min(torch.finfo(values.dtype).tiny)
    scale = torch.where(kept, values, 1.0).rsqrt() * kept.to(values).masked_fill(~sound, torch.nan)
    return Metric((scale[..., None] * vectors.mT).to(jacobian) @ jacobian)


def _jacobian(back: Callable[[Tensor], tuple[Tensor, ...]], cotangents: Tensor, axis: int) -> Tensor:
    """J (*b, M, P): the mean over samples of cotangents (*b, M, N, ...), whose functions lie along an axis, by M backward passes."""
    each = cotangents.movedim(axis, 0) / cotangents.shape[axis + 1]
    return vmap(lambda c: back(c)[0])(each).movedim(0, -2)


def _take(x: Tensor, axes: Tensor) -> Tensor:
    """x_n[i_m], (*b, M, N)."""
    return x.mT.gather(-2, axes[..., None].expand(*axes.shape, x.shape[-2]))


def _times(matrix: Tensor, v: Tensor) -> Tensor:
    return (matrix @ v[..., None])[..., 0]


def _each(eps: Tensor | float, like: Tensor) -> Tensor:
    return torch.as_tensor(eps, dtype=like.dtype, device=like.device)[..., None]
