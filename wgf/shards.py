"""Particles in shards: each rank owns some rows, and computes their scores and their velocities.

    group = ranks.joined(torch.device("cpu"))     # in each process that torchrun started
    shards = Shards.even(group, particles=4096)
    x = shards.mine(x)                            # this rank's rows
    v = shards.velocity(svgd.velocity, x, score(x))

A velocity needs all particles and all scores: ``Shards.velocity`` gathers both, in one collective, and calls the function of whole
clouds that one process would call. Inside it the functions of ``wgf.svgd`` and ``wgf.transport`` compute this rank's rows alone.

``own``, ``every`` and ``total`` are for formulas that do so. Outside ``Shards.velocity`` they return what they are given.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from wgf.ranks import Group
from wgf.shown import shown

__all__ = ["ALONE", "Shards", "every", "own", "own_span", "total", "unsharded"]

LARGEST = 2**63  # what a tensor of whole numbers holds
_F = TypeVar("_F", bound=Callable[..., Any])


class Shards:
    """Which rows of M particles (..., M, d) each rank owns: rank r the next ``counts[r]`` of them. ``ALONE`` is one process with all rows.

    **Raises** ValueError where a rank would own nothing, or where there is not one count for each rank.
    """

    def __init__(self, group: Group, counts: Sequence[int]) -> None:
        size = _grouped(group).size
        if not isinstance(counts, Sequence) or len(counts) != size or not all(_whole(n) and n >= 1 for n in counts):
            raise ValueError(f"counts is {shown(counts)}; allowed are {size} numbers of at least 1, one for each rank")
        self.group, self.counts = group, tuple(map(int, counts))
        start = sum(self.counts[: group.rank])
        self.rows = slice(start, start + self.counts[group.rank])

    @classmethod
    def even(cls, group: Group, particles: int) -> "Shards":
        """Shards that differ by one row at most, the longer ones first. **Raises** ValueError where there are more ranks than particles."""
        if not _whole(particles):
            raise ValueError(f"particles is {shown(particles)}; give a whole number")
        if particles < _grouped(group).size:
            raise ValueError(f"{group.size} ranks are too many for {particles} particles; start at most {particles}, one for each particle")
        each, more = divmod(int(particles), group.size)
        return cls(group, [each + (rank < more) for rank in range(group.size)])

    @classmethod
    def owning(cls, group: Group, rows: int) -> "Shards":
        """Shards of which this rank owns so many rows; one collective tells the others. **Raises** ValueError as the class does."""
        if not _whole(rows) or not 1 <= rows < LARGEST:
            raise ValueError(f"rows is {shown(rows)}; give a whole number of at least 1, below 2^63")
        _grouped(group)
        return cls(group, group.gather(torch.tensor(rows, device=group.device)).tolist())

    @property
    def particles(self) -> int:
        """M, how many particles all ranks own together."""
        return sum(self.counts)

    def mine(self, x: Tensor) -> Tensor:
        """This rank's rows of the whole (..., M, k): a view, (..., m, k). **Raises** ValueError for another number of particles."""
        if self.group.size == 1:
            return x
        if not isinstance(x, Tensor) or x.layout != torch.strided or x.ndim < 2 or x.shape[-2] != self.particles:
            raise ValueError(
                f"x is {shown(x)}; the ranks own {self.particles} particles together: give a tensor (..., {self.particles}, k)"
            )
        return x[..., self.rows, :]

    def gather(self, x: Tensor) -> Tensor:
        """The whole (..., M, k) of the rows (..., m, k) that each rank has, by one all-gather; shards of unequal size are padded for it."""
        if self.group.size == 1:
            return x
        if x.shape[-2] != self.counts[self.group.rank]:
            raise ValueError(f"this rank owns {self.counts[self.group.rank]} particles, but the tensor has shape {tuple(x.shape)}")
        most = max(self.counts)
        found = self.group.gather(x if x.shape[-2] == most else pad(x, (0, 0, 0, most - x.shape[-2]))).movedim(0, -3)
        if min(self.counts) == most:
            return found.flatten(-3, -2)
        return torch.cat([part[..., :count, :] for part, count in zip(found.unbind(-3), self.counts, strict=True)], -2)

    def velocity(self, function: Callable[..., Tensor], *parts: Tensor) -> Tensor:
        """``function(*whole)``, (..., m, k): this rank's rows of a function of whole clouds, given its rows of them, (..., m, k) each.

        One all-gather for all parts together. The KL velocities need no other, but for ``svgd.blob``, whose formula has the mass of
        every particle: one more, of M numbers. Entropic transport needs one for each iteration of Sinkhorn, of as many numbers as x_prev
        has particles. A function that knows nothing of shards is computed whole, on every rank, and this rank's rows are taken.

        **Limits** equal to one process but for rounding: a matrix product of some rows need not round as that of all rows does. The same
        ranks give the same bits. On one process it calls the function, and nothing else. **Raises** Lost, what the function does, and
        ValueError for what is no function.
        """
        if not callable(function):
            raise ValueError(f"function is {shown(function)}; give a function of whole clouds")
        if self.group.size == 1:
            return function(*parts)
        whole = torch.split(self.gather(torch.cat(parts, -1)), [part.shape[-1] for part in parts], -1)
        token = _present.set(self)
        try:
            return own(function(*whole))
        finally:
            _present.reset(token)


def _whole(n: Any) -> bool:
    return isinstance(n, (int, np.integer)) and not isinstance(n, bool)


def _grouped(group: Any) -> Group:
    if not isinstance(group, Group):
        raise ValueError(f"group is {shown(group)}; give a wgf.ranks.Group, as ranks.joined returns it")
    return group


ALONE = Shards(Group(), (1,))
_present: ContextVar[Shards | None] = ContextVar("shards", default=None)


def own_span(m: int) -> slice:
    """Which of m rows are computed here: all, or inside ``Shards.velocity`` this rank's. Raises ValueError there for another m."""
    shards = _present.get()
    if shards is None:
        return slice(0, m)
    if m != shards.particles:
        raise ValueError(f"the ranks own {shards.particles} particles together, but a velocity of {m} is asked for")
    return shards.rows


def own(v: Tensor) -> Tensor:
    """This rank's rows of v, which has them, or all rows."""
    shards = _present.get()
    if shards is None or v.shape[-2] == shards.counts[shards.group.rank]:
        return v
    return v[..., own_span(v.shape[-2]), :]


def every(rows: Tensor) -> Tensor:
    """The rows of all ranks (..., M, k) from this rank's (..., m, k): one collective."""
    shards = _present.get()
    return rows if shards is None else shards.gather(rows)


def total(part: Tensor) -> Tensor:
    """The sum of the ranks' parts, in the order of the ranks: one collective."""
    shards = _present.get()
    return part if shards is None else shards.group.total(part)


def unsharded(function: _F) -> _F:
    """A function that inside ``Shards.velocity``, too, computes all rows."""

    @wraps(function)
    def apart(*args: Any, **kwargs: Any) -> Any:
        token = _present.set(None)
        try:
            return function(*args, **kwargs)
        finally:
            _present.reset(token)

    return cast(_F, apart)
