"""The one multilayer perceptron: a stack of networks with leading axes, evaluated as one computation.

A network is one vector theta: an optimiser, a target and a checkpoint handle one tensor, and a flow can take it for a particle. The
backward pass is written out and autograd records nothing: an update costs its matrix products and little else.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from wgf.door import traced

VJP = Callable[[Tensor], Tensor]  # g, shaped as an output -> grad_theta <g, output>, (*stack, P)


class Activation(NamedTuple):
    """phi in place, and slope: (g, phi(x)) -> g phi'(x) in place."""

    phi: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]


def _tanh_slope(g: Tensor, h: Tensor) -> Tensor:
    return torch.ops.aten.tanh_backward.grad_input(g, h, grad_input=g)  # type: ignore[no-any-return]


def _elu(x: Tensor) -> Tensor:
    """max(x, exp(min(x, 0)) - 1), in half the time of torch's, which takes expm1."""
    return torch.maximum(x, x.clamp_max(0.0).exp_().sub_(1.0), out=x)


def _elu_slope(g: Tensor, h: Tensor) -> Tensor:
    return torch.ops.aten.elu_backward.grad_input(g, 1.0, 1.0, 1.0, True, h, grad_input=g)  # type: ignore[no-any-return]


def _relu_slope(g: Tensor, h: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward.grad_input(g, h, 0, grad_input=g)  # type: ignore[no-any-return]


ACTIVATIONS = {
    "tanh": Activation(torch.tanh_, _tanh_slope),
    "relu": Activation(torch.relu_, _relu_slope),
    "elu": Activation(_elu, _elu_slope),
}


class StackedMLP(nn.Module):
    """Networks theta[s, e, ...], one a cell of ``stack``, whose first axis is the seeds.

    y = phi(... phi(sum_k x_k W1[rows k] + b1) W2 + b2 ...) W_L + b_L: inputs (*stack, *rest, d_k) are concatenated in the mathematics
    and summed through the rows of W1 in the computation, to (*stack, *rest, out). Axes of ``stack`` broadcast, and ``rest`` to that of
    the last input: an observation (S, 1, B, 1, D) meets 32 actions (S, E, B, 32, A) uncopied, and its product is taken once.

    ``theta`` (*stack, P) is W1, b1, W2, b2 and so on. Weights and biases start uniform on +-1/sqrt(fan in); with a ``gain`` the weights
    start orthogonal, sqrt(2) times in hidden layers and gain times in the last, and the biases at 0. Seed s draws its slice from
    ``generators[s]`` alone, so seed s of a stack starts as it does by itself. ``sizes``: (inputs together, hidden..., out).
    """

    def __init__(
        self, stack: Sequence[int], sizes: Sequence[int], activation: str, generators: Sequence[torch.Generator], gain: float | None = None
    ) -> None:
        super().__init__()
        self.stack, self.shapes = tuple(stack), tuple(pairwise(sizes))
        self.activation = ACTIVATIONS[activation]
        if gain is None:
            draws = [_uniform(self.stack, (rows, o), i, generators) for i, o in self.shapes for rows in (i, 1)]
        else:
            gains = [math.sqrt(2.0)] * (len(self.shapes) - 1) + [gain]
            draws = [part for shape, by in zip(self.shapes, gains, strict=True) for part in _orthogonal(self.stack, shape, by, generators)]
        self.theta = nn.Parameter(torch.cat([d.flatten(-2) for d in draws], -1), requires_grad=False)
        self._views: tuple[list[tuple[Tensor, Tensor]], Tensor] | None = None

    def forward(self, *inputs: Tensor) -> Tensor:
        """(*stack, *rest, d_k) each -> (*stack, *rest, out)."""
        return self.evaluate(*inputs)[0]

    def layers(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Views of theta (..., P), layer by layer: W (..., in, out) and b (..., 1, out)."""
        lead, parts = theta.shape[:-1], iter(torch.split(theta, [n for i, o in self.shapes for n in (i * o, o)], -1))
        return [(w.view(*lead, i, o), b.view(*lead, 1, o)) for (i, o), w, b in zip(self.shapes, parts, parts, strict=True)]

    def evaluate(self, *inputs: Tensor) -> tuple[Tensor, "Tape"]:
        """y, and what ``tangent``, ``gradient`` and ``input_gradient`` need until theta changes."""
        layers, joined = self._layers()
        first, *others = layers
        shared = len(inputs) == 1 and inputs[0].shape[: len(self.stack)] != self.stack
        # a last 1, appended once for many cells, takes the bias along in the product
        cells = [self._cells(pad(inputs[0], (0, 1), value=1.0))] if shared else [self._cells(x) for x in inputs]
        y, norm = self._normalised(self._first(inputs, cells, first, joined))
        hidden = []
        for i, (w, b) in enumerate(others):
            hidden.append(self._activation(i).phi(y))
            y = torch.bmm(y, w).add_(b)
        return y.view(*self.stack, *self._rest(inputs[-1]), -1), Tape(layers, inputs, cells, hidden, norm)

    def tangent(self, tape: "Tape", v: Tensor) -> Tensor:
        """d/dt y(theta + t v) at t = 0, (*stack, *rest, out), for v (*stack, P): J v, where ``gradient`` is J'g."""
        whole = v.detach().flatten(0, -2)
        first, *others = self.layers(whole)
        dy = self._norm_tangent(tape.norm, self._first(tape.inputs, tape.cells, first, _joined(whole, self.shapes[0])), whole)
        for i, (h, (w, _), (dw, db)) in enumerate(zip(tape.hidden, tape.layers[1:], others, strict=True)):
            dy = torch.bmm(self._activation(i).slope(dy, h), w).add_(db).baddbmm_(h, dw)
        return dy.view(*self.stack, *self._rest(tape.inputs[-1]), -1)

    def gradient(self, tape: "Tape", g: Tensor) -> Tensor:
        """grad_theta <g, y>, (*stack, P), for g (*stack, *rest, out)."""
        found = self.theta.new_empty(self.theta.shape)
        slots = self._slots(found.flatten(0, -2))
        if traced():  # apart: compiled code would ask of every number of one vector which of them it belongs to
            slots = [(w.new_empty(w.shape), b.new_empty(b.shape)) for w, b in slots]
        (dw1, db1), *above = slots
        g = self._through_norm(tape.norm, self._backward(tape, g, above), above[len(tape.hidden) :])
        if tape.cells[0].shape[-1] > tape.inputs[0].shape[-1]:
            joined = torch.bmm(tape.cells[0].mT, g)
            dw1.copy_(joined[:, :-1])
            db1.copy_(joined[:, -1:])
        else:
            torch.sum(g, 1, True, out=db1)
            for x, cells, dw in zip(tape.inputs, tape.cells, _rows(dw1, tape.inputs), strict=True):
                torch.bmm(cells.mT, self._summed(g, tape.inputs[-1], x), out=dw)
        return torch.cat([part.flatten(1) for pair in slots for part in pair], -1).view_as(found) if traced() else found

    def input_gradient(self, tape: "Tape", g: Tensor, size: int) -> Tensor:
        """grad_x <g, y> of x (..., size), the last numbers of the last input, which has every axis of rest."""
        x, (w, _) = tape.inputs[-1], tape.layers[0]
        gradient = torch.bmm(self._through_norm(tape.norm, self._backward(tape, g)), w[:, -size:].mT)
        return gradient.view(*self.stack, *self._rest(x), size).sum_to_size(*x.shape[:-1], size)

    def _first(self, inputs: Sequence[Tensor], cells: Sequence[Tensor], layer: tuple[Tensor, Tensor], joined: Tensor) -> Tensor:
        """sum_k x_k W1[rows k] + b1, (cells, rows, units), of a layer (W1, b1) that is also given as one matrix."""
        if cells[0].shape[-1] > inputs[0].shape[-1]:
            return torch.bmm(cells[0], joined)
        w1, b1 = layer
        y, *parts = (torch.bmm(x, w) for x, w in zip(cells, _rows(w1, cells), strict=True))
        y.add_(b1)
        for part, before, x in zip(parts, inputs, inputs[1:], strict=False):
            part.view(len(w1), *self._rest(x), -1).add_(y.view(len(w1), *self._rest(before), -1))
            y = part
        return y

    def _backward(self, tape: "Tape", g: Tensor, slots: Sequence[tuple[Tensor, Tensor]] = ()) -> Tensor:
        """d<g, y> / d(what the first activation saw), (cells, rows, units), filling the gradients of the layers above into ``slots``."""
        g = g.detach().reshape(len(tape.layers[0][0]), -1, g.shape[-1])
        for i in range(len(tape.hidden) - 1, -1, -1):
            h = tape.hidden[i]
            if slots and g.shape[-1] < h.shape[-1]:
                slots[i][0].copy_(torch.bmm(g.mT, h).mT)  # quicker for the few columns of a head
            elif slots:
                torch.bmm(h.mT, g, out=slots[i][0])
            if slots:
                torch.sum(g, 1, True, out=slots[i][1])
            w = tape.layers[i + 1][0].mT
            g = self._activation(i).slope(g * w if g.shape[-1] == 1 else torch.bmm(g, w), h)
        return g

    def _activation(self, i: int) -> Activation:
        """Of hidden layer i."""
        return self.activation

    def _normalised(self, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The first layer's sum as its activation sees it, and what ``_through_norm`` needs: here as it is, and nothing."""
        return y, []

    def _slots(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Views of theta (cells, P) in pairs that together are all of it: the layers, and what a norm has."""
        return self.layers(theta)

    def _through_norm(self, norm: list[Tensor], g: Tensor, slots: Sequence[tuple[Tensor, Tensor]] = ()) -> Tensor:
        """g carried back to the first layer's sum; gradients of a norm's parameters go into its ``slots``."""
        return g

    def _norm_tangent(self, norm: list[Tensor], dy: Tensor, whole: Tensor) -> Tensor:
        """dy, of the first layer's sum, carried on to its activation, where the parameters move along ``whole`` (cells, P)."""
        return dy

    def _layers(self) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """The layers of theta (cells, P), and W1 with b1 for a last row; made again where theta has moved to another place."""
        if traced() or self._views is None or self._views[1].data_ptr() != self.theta.data_ptr():
            whole = self.theta.flatten(0, -2)
            self._views = self.layers(whole), _joined(whole, self.shapes[0])
        return self._views

    def _summed(self, g: Tensor, whole: Tensor, x: Tensor) -> Tensor:
        """g (cells, rows of whole, units), summed over the axes of rest that x lacks."""
        lacks = [1 + i for i, (n, m) in enumerate(zip(self._rest(whole), self._rest(x), strict=True)) if n > m]
        return g.view(len(g), *self._rest(whole), -1).sum(lacks, keepdim=True).flatten(1, -2) if lacks else g

    def _rest(self, x: Tensor) -> torch.Size:
        return x.shape[len(self.stack) : -1]

    def _cells(self, x: Tensor) -> Tensor:
        """(*stack, *rest, d), broadcast over the stack -> (cells, rows, d)."""
        n, x = len(self.stack), x.detach()
        whole = x if x.shape[:n] == self.stack else x.expand(*self.stack, *x.shape[n:])
        return whole.reshape(math.prod(self.stack), -1, x.shape[-1])


class Tape(NamedTuple):
    """What an evaluation leaves for its derivatives: layers, the inputs of its products, as shaped and as cells, hidden activations,
    and what a norm keeps."""

    layers: list[tuple[Tensor, Tensor]]
    inputs: tuple[Tensor, ...]
    cells: list[Tensor]
    hidden: list[Tensor]
    norm: list[Tensor]

    def last(self, n: int) -> "Tape":
        """The last n rows alone, where stack and rest have one axis each."""
        inputs, cells, hidden, norm = ([t[:, -n:] for t in part] for part in self[1:])
        return Tape(self.layers, tuple(inputs), cells, hidden, norm)


class Network(nn.Module):
    """What every policy and critic is: a stacked network ``net`` and a reading of its output."""

    net: StackedMLP

    @property
    def theta(self) -> nn.Parameter:
        """The one parameter, (*stack, P)."""
        return self.net.theta


def _joined(theta: Tensor, shape: tuple[int, int]) -> Tensor:
    """W1 with b1 for a last row, (cells, in + 1, out), of theta (cells, P)."""
    i, o = shape
    return theta[:, : (i + 1) * o].view(len(theta), i + 1, o)


def _rows(weight: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return torch.split(weight, [x.shape[-1] for x in inputs], dim=-2) if len(inputs) > 1 else (weight,)


def _uniform(stack: tuple[int, ...], shape: tuple[int, int], fan_in: int, generators: Sequence[torch.Generator]) -> Tensor:
    draws = [torch.rand(*stack[1:], *shape, generator=g) for g in generators]
    return (2.0 * torch.stack(draws) - 1.0) / math.sqrt(fan_in)


def _orthogonal(
    stack: tuple[int, ...], shape: tuple[int, int], gain: float, generators: Sequence[torch.Generator]
) -> tuple[Tensor, Tensor]:
    """W, gain times orthonormal columns, or rows where these are fewer, and b = 0."""
    cells = math.prod(stack[1:])
    draws = [nn.init.orthogonal_(torch.empty(shape), gain, generator=g) for g in generators for _ in range(cells)]
    return torch.stack(draws).view(*stack, *shape), torch.zeros(*stack, 1, shape[1])


def polyak_(target: Network, source: Network, rate: float | Tensor) -> None:
    """target <- (1 - rate) target + rate source, in place; rate = 1 copies, rate = 0 leaves it, bit for bit."""
    target.theta.lerp_(source.theta, rate)
