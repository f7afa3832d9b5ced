"""Where particles live when actions are a = tanh(u), and the score of pi*(a) = exp(Q(s, a) / alpha) / Z there.

The kernel and the W2 term see x = ``coordinate(u)``; ``score(a, slope, alpha)`` is grad log p in that coordinate, from
slope = grad_a Q(s, a), and ``pull_back(a, v)`` = v dx/du. Shapes (..., M, A); alpha broadcasts.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Squash(NamedTuple):
    """A coordinate for the particles, the score in it, and the way back to u."""

    coordinate: Callable[[Tensor], Tensor]
    score: Callable[[Tensor, Tensor, Tensor | float], Tensor]
    pull_back: Callable[[Tensor, Tensor], Tensor]


def identity(u: Tensor) -> Tensor:
    """x = u."""
    return u


def through_tanh(a: Tensor, v: Tensor) -> Tensor:
    """(1 - a^2) v, a gradient in a = tanh(u) carried to u."""
    return torch.ops.aten.tanh_backward(v, a)  # type: ignore[no-any-return]


def exact_score(a: Tensor, slope: Tensor, alpha: Tensor | float) -> Tensor:
    """x = u, log p(u) = Q(s, tanh u) / alpha + sum log(1 - tanh^2 u): (1 - a^2) slope / alpha - 2 a. The law of a is pi*."""
    return torch.sub(through_tanh(a, slope) / alpha, a, alpha=2.0)


def soft_q_score(a: Tensor, slope: Tensor, alpha: Tensor | float) -> Tensor:
    """x = a, log p(a) = Q / alpha + sum log(1 - a^2 + 1e-6): slope / alpha - 2 a / (1 - a^2 + 1e-6).

    **Source** the public soft Q-learning code. Departs from pi*: this barrier at the boundary tilts the law to exp(Q / alpha) (1 - a^2).
    """
    return slope / alpha - 2.0 * a / (1.0 - a.square() + 1e-6)


SQUASH = {
    "exact": Squash(identity, exact_score, lambda a, v: v),
    "soft_q": Squash(torch.tanh, soft_q_score, through_tanh),
}
