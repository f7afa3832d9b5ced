"""The one multilayer perceptron: a stack of networks with leading axes, evaluated as one computation.

Its backward pass is written out, so that activations and their slopes are taken in place and only the gradients that are asked for
are computed: half the time of a recorded one where particles are many. Gradients of gradients are not available.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Activation(NamedTuple):
    """phi in place, and slope: (g, phi(x)) -> g phi'(x) in place."""

    phi: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]


ACTIVATIONS = {
    "tanh": Activation(torch.tanh_, lambda g, h: torch.ops.aten.tanh_backward.grad_input(g, h, grad_input=g)),
    "relu": Activation(torch.relu_, lambda g, h: torch.ops.aten.threshold_backward.grad_input(g, h, 0, grad_input=g)),
}


class StackedMLP(nn.Module):
    """Networks theta[s, e, ...], one a cell of ``stack``, whose first axis is the seeds.

    Maps inputs (*stack, *rest, d_k), which are concatenated in the mathematics and summed through the rows of the first weight in
    the computation, to (*stack, *rest, out). Axes of ``stack`` and ``rest`` broadcast: an observation (S, 1, B, 1, D) meets 32
    actions (S, E, B, 32, A) without being copied, and its product is taken once.

    Weights and biases start uniform on +-1/sqrt(fan in). Seed s draws its slice from ``generators[s]`` alone, so seed s of a
    stack starts as it does by itself. ``sizes``: (inputs together, hidden..., out).
    """

    def __init__(self, stack: Sequence[int], sizes: Sequence[int], activation: str, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.stack = tuple(stack)
        self.activation = ACTIVATIONS[activation]
        layers = [(_uniform(self.stack, (i, o), i, generators), _uniform(self.stack, (1, o), i, generators)) for i, o in pairwise(sizes)]
        self.weights = nn.ParameterList([nn.Parameter(w) for w, _ in layers])
        self.biases = nn.ParameterList([nn.Parameter(b) for _, b in layers])

    def forward(self, *inputs: Tensor, frozen: bool = False) -> Tensor:
        """(*stack, *rest, d_k) each -> (*stack, *rest, out). ``frozen``: gradients flow to the inputs alone."""
        parameters = [p.detach() if frozen else p for p in (*self.weights, *self.biases)]
        y: Tensor = _Layers.apply(self.activation, self.stack, len(inputs), *inputs, *parameters)  # type: ignore[no-untyped-call]
        return y


class _Layers(torch.autograd.Function):
    """y = phi(... phi(sum_k x_k W1[rows k] + b1) W2 + b2 ...) W_L + b_L for a stack of networks."""

    @staticmethod
    def forward(ctx: Any, activation: Activation, stack: tuple[int, ...], n: int, *tensors: Tensor) -> Tensor:
        inputs, weights, biases = _split(tensors, n)
        total: Any = biases[0].reshape(*stack, *[1] * (inputs[0].ndim - len(stack) - 1), -1)
        for x, w in zip(inputs, _rows(weights[0], inputs), strict=True):
            total = total + torch.unflatten(x.flatten(len(stack), -2) @ w, len(stack), x.shape[len(stack) : -1])
        rest, cells = total.shape[len(stack) : -1], math.prod(stack)
        x, hidden = total.reshape(cells, -1, total.shape[-1]), []
        for w, b in zip(weights[1:], biases[1:], strict=True):
            hidden.append(activation.phi(x))
            x = torch.baddbmm(b.reshape(cells, 1, -1), hidden[-1], w.reshape(cells, *w.shape[-2:]))
        ctx.activation, ctx.stack, ctx.n, ctx.rest = activation, stack, n, rest
        ctx.save_for_backward(*tensors, *hidden)
        return x.reshape(*stack, *rest, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        depth, n, needs = len(ctx.stack), ctx.n, ctx.needs_input_grad[3:]
        layers = (len(needs) - n) // 2
        inputs, weights, biases = _split(ctx.saved_tensors[: len(needs)], n)
        hidden = ctx.saved_tensors[len(needs) :]
        found: list[Tensor | None] = [None] * len(needs)
        g = gradient.reshape(math.prod(ctx.stack), -1, gradient.shape[-1])
        for i in range(layers - 1, 0, -1):
            w, h = weights[i].reshape(-1, *weights[i].shape[-2:]), hidden[i - 1]
            if needs[n + i]:
                found[n + i] = torch.bmm(h.mT, g).reshape(weights[i].shape)
                found[n + layers + i] = g.sum(1).reshape(biases[i].shape)
            g = ctx.activation.slope(torch.bmm(g, w.mT), h)
        if needs[n]:
            found[n + layers] = g.sum(1).reshape(biases[0].shape)
        g = g.reshape(*ctx.stack, *ctx.rest, -1)
        rows = []
        for k, (x, w) in enumerate(zip(inputs, _rows(weights[0], inputs), strict=True)):
            part = g.sum_to_size(*ctx.stack, *x.shape[depth:-1], g.shape[-1]).flatten(depth, -2)
            if needs[n]:
                rows.append(x.flatten(depth, -2).mT @ part)
            if needs[k]:
                found[k] = torch.unflatten(part @ w.mT, depth, x.shape[depth:-1]).sum_to_size(x.shape)
        if needs[n]:
            found[n] = torch.cat(rows, -2)
        return None, None, None, *found


def _split(tensors: Sequence[Tensor], n: int) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
    layers = (len(tensors) - n) // 2
    return tensors[:n], tensors[n : n + layers], tensors[n + layers :]


def _rows(weight: Tensor, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return torch.split(weight, [x.shape[-1] for x in inputs], dim=-2)


def _uniform(stack: tuple[int, ...], shape: tuple[int, int], fan_in: int, generators: Sequence[torch.Generator]) -> Tensor:
    draws = [torch.rand(*stack[1:], *shape, generator=g) for g in generators]
    return (2.0 * torch.stack(draws) - 1.0) / math.sqrt(fan_in)


@torch.no_grad()
def polyak_(target: nn.Module, source: nn.Module, rate: float) -> None:
    """target <- (1 - rate) target + rate source, in place; rate = 1 copies."""
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), rate)
