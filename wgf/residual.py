"""A residual network with batch norm as a function of one vector: the body of today's strongest critics.

What batch norm remembers is part of theta, so that an average of thetas averages it, and a file of theta holds it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from wgf.compiler import settled
from wgf.door import traced
from wgf.mlp import first, orthogonal, spread

__all__ = ["Learning", "Norm", "ResidualNetwork", "learner", "learning"]

F = TypeVar("F", bound=Any)
EPS, MOMENTUM = 1e-5, 0.01  # of batch norm: added to the variance; the share by which what it remembers moves per step


class Norm(NamedTuple):
    """Gain, offset, and of batch norm the mean and variance that it remembers, (cells, 1, units) each."""

    gain: Tensor
    offset: Tensor
    mean: Tensor | None = None
    var: Tensor | None = None


@dataclass(frozen=True)
class ResidualNetwork:
    """y = W_out gain x_L / rms(x_L) + b,  x_{l+1} = x_l + relu(N(W2 relu(N(W1 x_l)))),  x_0 = W_in N(input).

    ``sizes``: (inputs together, width, out); W1 widens by ``expansion`` and W2 goes back. N(y) = gain (y - mean) / sqrt(var + 1e-5) +
    offset: with ``norm`` batch by unit, with layer by row, and then the input is not normalised. Called, batch norm takes the mean and
    variance that it remembers, so that no row depends on another; ``learning`` takes those of its rows. rms(x) = sqrt(mean x^2 + 1e-5).

    ``unit``: ``settle_`` scales each unit's weights to length 1, gain and offset of a norm together to sqrt(units), and the last gain
    too, so that a step of the optimiser turns the weights and never grows them.

    **Source** Kim et al. 2026 (FlashSAC, arXiv 2604.04539); batch norm in critics: Bhatt et al. 2024 (CrossQ). **Raises** ValueError
    for sizes and counts that are none, and for an unknown norm.
    """

    sizes: tuple[int, int, int]
    blocks: int = 2
    expansion: int = 4
    norm: Literal["batch", "layer"] = "batch"
    unit: bool = True

    def __post_init__(self) -> None:
        for name, value in (
            ("blocks", self.blocks),
            ("expansion", self.expansion),
            *((f"sizes[{i}]", n) for i, n in enumerate(self.sizes)),
        ):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")
        if len(self.sizes) != 3:
            raise ValueError(f"sizes is {self.sizes!r}; it must be three numbers: inputs, width, out")
        if self.norm not in ("batch", "layer"):
            raise ValueError(f"norm is {self.norm!r}; choose from 'batch', 'layer'")

    @property
    def coupled(self) -> bool:
        """Says whether ``learning`` mixes rows."""
        return self.norm == "batch"

    def __call__(self, theta: Tensor, *inputs: Tensor) -> Tensor:
        """inputs (*stack, *rest, d_k) each -> (*stack, *rest, out), every row by itself."""
        stack = theta.shape[:-1]
        views, parts = self._views(theta), [spread(x, stack) for x in inputs]
        w, b = views["in"], torch.zeros_like(views["gain"])
        if self.coupled:
            scale, shift = _folded(self._norm(views, 0))
            w, b = scale.mT * w, shift @ w
        x = first(parts, w, b)
        for k in self._heads():
            x = x + self._remembered(views, k + 1, self._remembered(views, k, x))
        return _last(views, x).view(*stack, *inputs[-1].shape[len(stack) : -1], -1)

    def learning(self, theta: Tensor, *inputs: Tensor, rows: slice | None = None) -> tuple[Tensor, Tensor]:
        """The same with the mean and variance of its own rows in every batch norm, and these, (*stack, R): what ``settle_`` remembers.

        ``rows``: of inputs (*stack, n, d_k) those to give, where the others are for the mean and variance alone.
        """
        stack, rest = theta.shape[:-1], inputs[-1].shape[theta.ndim - 1 : -1]
        x = torch.cat([x.expand(*stack, *rest, x.shape[-1]) for x in inputs], -1).reshape(stack.numel(), -1, self.sizes[0])
        views, seen = self._views(theta), list[Tensor]()
        x = (self._seen(views, 0, x, seen) if self.coupled else x) @ views["in"]
        for k in self._heads():
            h = self._seen(views, k, x @ views[f"w{k}"], seen).relu()
            x = x + self._seen(views, k + 1, h @ views[f"w{k + 1}"], seen).relu()
        statistics = torch.cat([t.detach() for t in seen], -1) if seen else x.new_zeros(len(x), 1, 0)
        if rows is not None:
            x = x[:, rows]
            rest = x.shape[1:2]
        return _last(views, x).view(*stack, *rest, -1), statistics.view(*stack, -1)

    def settle_(self, theta: Tensor, statistics: Tensor) -> None:
        """What follows a step of the optimiser, in place: scales weights back, and moves what is remembered by 1 % to the statistics."""
        if self.unit:
            views = self._views(settled(theta) if traced() else theta)
            for name, view in views.items():
                if name in ("in", "out") or name[0] == "w":
                    views[name] = view * view.square().sum(-2, keepdim=True).rsqrt()
                elif name.startswith("gain"):
                    pair = [part for part in (name, f"offset{name[4:]}") if part in views]
                    length = sum(views[part].square() for part in pair).sum(-1, keepdim=True)  # type: ignore[union-attr]
                    for part in pair:
                        views[part] = views[part] * (math.sqrt(view.shape[-1]) * length.rsqrt())
            # theta is written once: of parts that are changed in place in turn the compiler makes loops of thousands of lines
            theta.copy_(torch.cat([view.flatten(1) for view in views.values()], -1).view(theta.shape))
        if statistics.shape[-1]:
            theta[..., -statistics.shape[-1] :].lerp_(statistics, MOMENTUM)

    def init(self, stack: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
        """A fresh theta (*stack, P): orthogonal matrices, scaled as ``settle_`` does; gains and variances 1, offsets and means 0."""
        parts = []
        for name, (rows, units) in self._layout().items():
            if name in ("in", "out") or name[0] == "w":
                parts.append(orthogonal(stack, (rows, units), 1.0, generators)[0].flatten(-2))
            else:
                parts.append(torch.full((*stack, units), float(name.startswith(("gain", "var")))))
        theta = torch.cat(parts, -1)
        self.settle_(theta, theta[..., :0])
        return theta

    def _heads(self) -> range:
        """The first matrix of every block: 1, 3, ..."""
        return range(1, 2 * self.blocks, 2)

    def _layout(self) -> dict[str, tuple[int, int]]:
        """Names and shapes in theta's order: norm k follows matrix k, norm 0 the input; at the end what batch norm remembers."""
        d, w, out = self.sizes
        units = dict(enumerate([d, *[self.expansion * w, w] * self.blocks]))
        into = {**units, 0: w}
        norms = units if self.coupled else {k: n for k, n in units.items() if k}
        layout = {"in": (d, w)} | {f"w{k}": (into[k - 1], units[k]) for k in list(units)[1:]}
        layout |= {f"{what}{k}": (1, n) for k, n in norms.items() for what in ("gain", "offset")}
        layout |= {"gain": (1, w), "out": (w, out), "bias": (1, out)}
        return layout | {f"{what}{k}": (1, n) for k, n in norms.items() if self.coupled for what in ("mean", "var")}

    def _views(self, theta: Tensor) -> dict[str, Tensor]:
        """Views of theta (*stack, P) by name: matrices (cells, in, out), vectors (cells, 1, units)."""
        layout, cells = self._layout(), theta.reshape(-1, theta.shape[-1])
        parts = torch.split(cells, [rows * units for rows, units in layout.values()], -1)
        return {name: part.view(-1, *shape) for (name, shape), part in zip(layout.items(), parts, strict=True)}

    @staticmethod
    def _norm(views: dict[str, Tensor], k: int) -> "Norm":
        return Norm(*(views[f"{what}{k}"] for what in Norm._fields if f"{what}{k}" in views))

    def _remembered(self, views: dict[str, Tensor], k: int, x: Tensor) -> Tensor:
        """relu(N(x W)) by what batch norm remembers: the norm is part of the matrix then."""
        w, norm = views[f"w{k}"], self._norm(views, k)
        if not self.coupled:
            return _by_row(norm, x @ w).relu()
        scale, shift = _folded(norm)
        return torch.baddbmm(shift, x, scale * w).relu()

    def _seen(self, views: dict[str, Tensor], k: int, y: Tensor, seen: list[Tensor]) -> Tensor:
        """N(y) by the mean and variance of the rows, which are added to ``seen``, the variance unbiased; by row there are none."""
        norm = self._norm(views, k)
        if not self.coupled:
            return _by_row(norm, y)
        mean = y.mean(1, keepdim=True)
        centred = y - mean
        var = centred.square().mean(1, keepdim=True)
        seen += [mean, var * (y.shape[1] / max(1, y.shape[1] - 1))]
        return torch.addcmul(norm.offset, centred, norm.gain * (var + EPS).rsqrt())


def _last(views: dict[str, Tensor], x: Tensor) -> Tensor:
    """gain x / rms(x), and the last layer."""
    scale = (x.square().mean(-1, keepdim=True) + EPS).rsqrt()
    return torch.baddbmm(views["bias"], x * scale * views["gain"], views["out"])


def _folded(norm: Norm) -> tuple[Tensor, Tensor]:
    """N(y) = scale y + shift, by the mean and variance that are remembered."""
    assert norm.mean is not None
    assert norm.var is not None
    scale = norm.gain * (norm.var + EPS).rsqrt()
    return scale, norm.offset - norm.mean * scale


def _by_row(norm: Norm, y: Tensor) -> Tensor:
    return torch.addcmul(norm.offset, norm.gain, layer_norm(y, y.shape[-1:], eps=EPS))


@dataclass(frozen=True)
class Learning:
    """A residual network in the place of one that is called: in its learning mode; ``seen`` gets the statistics of each call."""

    net: ResidualNetwork
    seen: list[Tensor] = field(default_factory=list)

    @property
    def coupled(self) -> bool:
        """Says whether it mixes rows."""
        return self.net.coupled

    def __call__(self, theta: Tensor, *inputs: Tensor, rows: slice | None = None) -> Tensor:
        """inputs (*stack, *rest, d_k) each -> (*stack, *rest, out); ``rows`` as in ``ResidualNetwork.learning``."""
        y, statistics = self.net.learning(theta, *inputs, rows=rows)
        self.seen.append(statistics)
        return y

    def init(self, stack: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
        """A fresh theta of the network."""
        return self.net.init(stack, generators)

    def settle_(self, theta: Tensor) -> None:
        """What follows a step, by the statistics of the calls since it was made."""
        self.net.settle_(theta, torch.stack(self.seen).mean(0))


def learning(function: F) -> F:
    """Returns a policy or a critic whose network, its field ``net``, is in its learning mode."""
    net = learner(function.net)
    return function if net is function.net else replace(function, net=net)


def learner(net: Any) -> Any:
    """Returns a network in its learning mode, in which batch norm takes the rows' own statistics; any other network itself."""
    return Learning(net) if isinstance(net, ResidualNetwork) else net
