"""How particles of a posterior move, by name: the flow's velocity and the comparators that share its model, data, budget and optimiser."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from wgf import svgd
from wgf.bnn import mixture
from wgf.bnn.model import Model
from wgf.bnn.network import Net
from wgf.shards import ALONE, Shards, own
from wgf.transport import VELOCITIES

__all__ = ["FLOWS", "KL", "Drive", "RMSProp", "drive", "minibatches", "normal", "thinned", "thinning", "with_w2"]


class RMSProp:
    """x <- x + lr v / (1e-6 + sqrt(h)), h <- .9 h + .1 v^2, h = v^2 at first: "AdaGrad with momentum" of Liu & Wang's public code."""

    def __init__(self) -> None:
        self.history: Tensor | None = None

    def root(self, v: Tensor) -> Tensor:
        """1e-6 + sqrt(h) after seeing v."""
        self.history = v.square() if self.history is None else self.history.mul_(0.9).addcmul_(v, v, value=0.1)
        return self.history.sqrt().add_(1e-6)


def _score(x: Tensor, score: Tensor) -> Tensor:
    return score


def _mixture(components: Tensor, slope: Tensor) -> Tensor:
    """Attraction summed over j and repulsion averaged, as arXiv 2410.22948, Eq. 9 has them: SVGD averages both."""
    return svgd.velocity(components, components.shape[-2] * slope)


KL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "wgf": svgd.velocity, "svgd": svgd.velocity, "smi": _mixture, "blob": svgd.blob,
    "langevin": _score, "ensemble": _score, "dropout": _score,
}  # fmt: skip
FLOWS = tuple(KL)
Drive = Callable[..., Tensor]
"""Particles, those of the JKO iterate before, both (S, M, P), a minibatch x (S, B, d), y (S, B, K), its rows' weights (S, B), and for smi
normal numbers (S, M, L, P) -> the direction to add. The particles of smi are components, (S, M, 2P)."""


def drive(flow: str, model: Model, n: int, w2: str | None = None, scale: float = 0.0, shards: Shards = ALONE) -> Drive:
    """The flow's direction by its name, of minibatches of n rows, before the optimiser; with ``scale`` times a W2 velocity by its name.

    wgf, svgd: SVGD's velocity (Zhang et al. 2018, Eq. 7); smi: Stein mixture inference (arXiv 2410.22948, Eq. 9); blob: its own; langevin,
    ensemble, dropout: the score alone, with noise, without it (as many MAP fits), and with units left out. With ``shards`` the particles
    and the direction are this rank's rows, and the particles of the iterate before are whole.
    """
    velocity = KL[flow]

    def direction(particles: Tensor, before: Tensor, x: Tensor, y: Tensor, weights: Tensor, *xi: Tensor) -> Tensor:
        def move(particles: Tensor, score: Tensor) -> Tensor:
            v = own(velocity(particles, score))
            return v if w2 is None else _add_w2(v, w2, scale, particles, before)

        if xi:
            return move(particles, mixture.slope(lambda theta: model.log_joint(theta, x, y, weights, n), particles, *xi))
        score = model.score(particles, x, y, weights, n)
        return score if velocity is _score else shards.velocity(move, particles, score)

    return direction


def with_w2(direction: Drive, name: str, scale: float) -> Drive:
    """WGF's direction: another one, and the W2 velocity times its scale."""
    return lambda particles, before, *batch: _add_w2(direction(particles, before, *batch), name, scale, particles, before)


def _add_w2(v: Tensor, name: str, scale: float, particles: Tensor, before: Tensor) -> Tensor:
    return v.add_(own(VELOCITIES[name](particles, before)), alpha=scale)


def normal(shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
    """Normal numbers (S, *shape), each data set's from its own generator."""
    return torch.stack([torch.randn(shape, generator=g, device=g.device) for g in generators])


def thinning(rate: float, generators: Sequence[torch.Generator]) -> Callable[[Tensor], Tensor]:
    """ReLU with dropout: a unit of a row is left out with probability ``rate``, the others count 1 / (1 - rate) times. One network a
    data set, whose masks its own generator draws."""

    def phi(h: Tensor) -> Tensor:
        kept = torch.stack([torch.rand(h.shape[1:], generator=g, device=h.device) >= rate for g in generators])
        return torch.relu(h) * kept / (1.0 - rate)

    return phi


def thinned(particle: Tensor, net: Net, draws: int, rate: float, generators: Sequence[torch.Generator]) -> Tensor:
    """So many draws of the network that dropout trained, particle (S, 1, P) -> (S, draws, P): whole units left out.

    **Source** Gal & Ghahramani 2016, MC dropout. Departs: a draw leaves out the same units for every input.
    """
    found = particle.repeat(1, draws, 1)
    for layer in net.layers(found[..., : net.weights])[1:]:
        shape = draws, layer.shape[-2] - 1, 1
        kept = torch.stack([torch.rand(shape, generator=g, device=layer.device) >= rate for g in generators])
        layer[..., :-1, :].mul_(kept).div_(1.0 - rate)
    return found


def minibatches(n: int, size: int) -> Iterator[slice | Tensor]:
    """Rows of one minibatch after another, cyclic, in the order of the data, which are shuffled once before."""
    size, start = min(size, n), 0
    while True:
        stop = start + size
        yield slice(start, stop) if stop <= n else torch.arange(start, stop) % n
        start = stop % n
