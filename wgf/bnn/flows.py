"""How particles of a posterior move, by name: the flow's velocity and the comparators that share its model, data, budget and optimiser."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from wgf import svgd
from wgf.transport import VELOCITIES


class RMSProp:
    """x <- x + lr v / (1e-6 + sqrt(h)), h <- .9 h + .1 v^2, h = v^2 at first: "AdaGrad with momentum" of Liu & Wang's public code."""

    def __init__(self) -> None:
        self.history: Tensor | None = None

    def scale(self, v: Tensor) -> Tensor:
        """1 / (1e-6 + sqrt(h)) after seeing v."""
        self.history = v.square() if self.history is None else self.history.mul_(0.9).addcmul_(v, v, value=0.1)
        return 1.0 / (1e-6 + self.history.sqrt())


class Moment(NamedTuple):
    """What a velocity may look at: particles and the last JKO iterate (S, M, P), and grad log p there."""

    x: Tensor
    x_prev: Tensor
    score: Tensor


Velocity = Callable[[Moment], Tensor]


def velocity(flow: str, w2: str, w2_scale: float) -> Velocity:
    """The direction to add, before the optimiser, by the flow's name.

    wgf: SVGD plus ``w2_scale`` times a W2 velocity to the last JKO iterate (Zhang et al. 2018, Eq. 6, 7 and 9); svgd; blob; langevin and
    ensemble: the score alone, with noise and without (posterior samples, and as many MAP fits).
    """
    w2_velocity = VELOCITIES[w2]
    flows: dict[str, Velocity] = {
        "wgf": lambda now: svgd.velocity(now.x, now.score).add_(w2_velocity(now.x, now.x_prev), alpha=w2_scale),
        "svgd": lambda now: svgd.velocity(now.x, now.score),
        "blob": lambda now: svgd.blob(now.x, now.score),
        "langevin": lambda now: now.score,
        "ensemble": lambda now: now.score,
    }
    return flows[flow]


FLOWS = ("wgf", "svgd", "blob", "langevin", "ensemble")


def minibatches(n: int, size: int) -> Iterator[slice | Tensor]:
    """Rows of one minibatch after another, cyclic, in the order of the data, which are shuffled once before."""
    size, start = min(size, n), 0
    while True:
        stop = start + size
        yield slice(start, stop) if stop <= n else torch.arange(start, stop) % n
        start = stop % n
