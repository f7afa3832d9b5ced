"""Networks as functions of one vector: ``y = net(theta, *inputs)``, a whole stack of networks as one computation.

theta is what an optimiser moves, a target averages, a checkpoint stores and a flow takes for a particle: one tensor (*stack, P).
Autograd differentiates, in theta and in the inputs.
"""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import elu_, layer_norm

from wgf.door import told, traced
from wgf.shown import shown

__all__ = ["ACTIVATIONS", "MLP", "ModuleNetwork", "Network", "elu", "first", "orthogonal", "side_by_side", "spread"]


class Network(Protocol):
    """A function of theta (*stack, P) and of inputs; ``init`` draws a theta, seed s of the stack from ``generators[s]`` alone."""

    def __call__(self, theta: Tensor, *inputs: Tensor) -> Tensor:
        """inputs (*stack, *rest, d_k) each -> (*stack, *rest, out)."""
        ...

    def init(self, stack: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
        """A fresh theta (*stack, P); the first axis of the stack is the seeds."""
        ...


def elu(x: Tensor) -> Tensor:
    """max(x, exp(min(x, 0)) - 1). A compiler gets it without expm1, which would be a pass of its own there."""
    return torch.maximum(x, x.clamp_max(0.0).exp() - 1.0) if traced() else elu_(x)


# Each may change its argument, which nobody else needs: the sum of a layer
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh_, "relu": torch.relu_, "elu": elu}


@dataclass(frozen=True)
class MLP:
    """y = phi(... phi(x W1 + b1) W2 + b2 ...) W_L + b_L, x the inputs side by side; one network for each cell of theta's stack.

    ``sizes``: (inputs together, hidden..., out). ``activation``: tanh, relu, elu, or layernorm, which follows the first layer by
    LayerNorm and tanh and the others by ELU: phi_1(y) = tanh(gain (y - mean y) / sqrt(var y + 1e-5) + offset), mean and variance over
    the layer's units, as in the networks of WPO and of MPO (**Source** Ba et al. 2016).

    theta is W1, b1, W2, b2 and so on, and behind them LayerNorm's gain and offset. Axes of the stack broadcast, and the axes between
    stack and numbers broadcast to those of the last input: an observation (S, 1, B, 1, D) meets 32 actions (S, E, B, 32, A) uncopied,
    and its product is taken once. **Limits** ``torch.vmap`` maps theta and the last input, not an earlier input alone. **Raises**
    ValueError for sizes that are none, for an unknown activation, and for layernorm without a hidden layer.
    """

    sizes: tuple[int, ...]
    activation: str = "tanh"
    gain: float | None = None

    def __post_init__(self) -> None:
        whole = isinstance(self.sizes, Sequence) and all(isinstance(n, int) and not isinstance(n, bool) for n in self.sizes)
        if not whole or len(self.sizes) < 2 or min(self.sizes) < 1:
            raise ValueError(f"sizes is {shown(self.sizes)}; it must be at least two whole numbers of at least 1")
        if not isinstance(self.activation, str) or self.activation not in (*ACTIVATIONS, "layernorm"):
            raise ValueError(f"activation is {shown(self.activation)}; choose from {', '.join([*ACTIVATIONS, 'layernorm'])}")
        if self.activation == "layernorm" and len(self.sizes) < 3:
            raise ValueError("hidden is empty; LayerNorm follows the first hidden layer: give at least one")
        if self.gain is not None and not (isinstance(self.gain, (int, float)) and abs(self.gain) <= 1e30):
            raise ValueError(f"gain is {shown(self.gain)}; allowed is a number from -1e30 to 1e30, or None")

    @told
    def __call__(self, theta: Tensor, *inputs: Tensor) -> Tensor:
        """inputs (*stack, *rest, d_k) each -> (*stack, *rest, out)."""
        stack = theta.shape[:-1]
        if side_by_side(theta) and len(inputs) == 1 and inputs[0].shape[len(stack) : -1].numel() == 1 and self.activation != "layernorm":
            return self._one_row(theta, inputs[0].expand(*stack, *inputs[0].shape[len(stack) :]))
        cells = theta.reshape(-1, theta.shape[-1])
        (w1, b1), *others = self.layers(cells)
        y = first([spread(x, stack) for x in inputs], w1, b1)
        for i, (w, b) in enumerate(others):
            y = torch.bmm(self._activate(y, cells, i), w).add_(b)
        return y.view(*stack, *inputs[-1].shape[len(stack) : -1], -1)

    @told
    def init(self, stack: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
        """A fresh theta (*stack, P).

        Weights and biases are uniform on +-1/sqrt(fan in); with a ``gain`` weights are orthogonal, sqrt(2) times in hidden layers and
        gain times in the last, and biases are 0. LayerNorm's gain is 1 and its offset 0.
        """
        shapes = list(pairwise(self.sizes))
        if self.gain is None:
            draws = [_uniform(stack, (rows, o), i, generators) for i, o in shapes for rows in (i, 1)]
        else:
            gains = [math.sqrt(2.0)] * (len(shapes) - 1) + [self.gain]
            draws = [part for shape, by in zip(shapes, gains, strict=True) for part in orthogonal(stack, shape, by, generators)]
        if self.activation == "layernorm":
            draws += [torch.full((*stack, 1, self.sizes[1]), start) for start in (1.0, 0.0)]
        return torch.cat([d.flatten(-2) for d in draws], -1)

    def layers(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Views of theta (..., P), layer by layer: W (..., in, out) and b (..., 1, out)."""
        lead, shapes = theta.shape[:-1], list(pairwise(self.sizes))
        numbers = [n for i, o in shapes for n in (i * o, o)]
        extra = theta.shape[-1] - sum(numbers)
        if extra != (2 * self.sizes[1] if self.activation == "layernorm" else 0):
            raise TypeError(f"theta has {theta.shape[-1]} numbers; {self} has another number")
        parts = iter(torch.split(theta, [*numbers, extra], -1))
        return [(w.view(*lead, i, o), b.view(*lead, 1, o)) for (i, o), w, b in zip(shapes, parts, parts, strict=False)]

    def affine(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Views of theta (..., P): LayerNorm's gain and offset, (..., 1, hidden[0])."""
        gain, offset = theta[..., None, -2 * self.sizes[1] :].chunk(2, -1)
        return gain, offset

    def _one_row(self, theta: Tensor, x: Tensor) -> Tensor:
        """The same for one row per network, theta (*stack, P) ``side_by_side``: every operation runs along the last axis of the stack."""
        y = x.reshape(*theta.shape[:-1], -1).mT
        for i, (w, b) in enumerate(self.layers(theta)):
            y = ACTIVATIONS[self.activation](y) if i else y
            y = (y[..., None, :] * w.movedim(-3, -1)).sum(-3) + b[..., 0, :].mT
        return y.mT.reshape(*x.shape[:-1], -1)

    def _activate(self, y: Tensor, cells: Tensor, i: int) -> Tensor:
        """What follows layer i, of its sum y (cells, rows, units)."""
        if self.activation != "layernorm":
            return ACTIVATIONS[self.activation](y)
        if i:
            return elu(y)
        gain, offset = self.affine(cells)
        return torch.addcmul(offset, gain, layer_norm(y, y.shape[-1:])).tanh_()


@dataclass(frozen=True)
class ModuleNetwork:
    """Any torch module as a function of one vector theta (*stack, P): its parameters in their order, flattened.

    The module gets its inputs (*rest, d_k) side by side in one tensor and answers (*rest, out). It must not draw random numbers or
    change buffers. A fresh theta is what the module's own ``reset_parameters`` draw.
    """

    module: nn.Module

    def __post_init__(self) -> None:
        if not isinstance(self.module, nn.Module):
            raise ValueError(f"module is {shown(self.module)}; it must be a torch module")

    @told
    def __call__(self, theta: Tensor, *inputs: Tensor) -> Tensor:
        """inputs (*stack, *rest, d_k) each -> (*stack, *rest, out)."""
        stack, rest = theta.shape[:-1], inputs[-1].shape[theta.ndim - 1 : -1]
        x = torch.cat([x.expand(*stack, *rest, x.shape[-1]) for x in inputs], -1)
        y: Tensor = torch.vmap(self._one)(theta.reshape(-1, theta.shape[-1]), x.flatten(0, len(stack) - 1))
        return torch.unflatten(y, 0, stack)

    @told
    def init(self, stack: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
        """A fresh theta (*stack, P)."""
        cells = math.prod(stack[1:])
        return torch.stack([_drawn(self.module, g) for g in generators for _ in range(cells)]).view(*stack, -1)

    def _one(self, theta: Tensor, x: Tensor) -> Tensor:
        named = dict(self.module.named_parameters())
        parts = torch.split(theta, [p.numel() for p in named.values()], -1)
        values = {name: part.view(p.shape) for (name, p), part in zip(named.items(), parts, strict=True)}
        return torch.func.functional_call(self.module, values, (x,))  # type: ignore[no-any-return]


def side_by_side(theta: Tensor) -> bool:
    """Whether of networks theta (*stack, P) the same weight of each lies side by side in memory, along the last axis of the stack."""
    return theta.ndim > 1 and theta.shape[-2] > 1 and theta.stride(-2) == 1 and theta.stride(-1) > 1


def first(parts: Sequence[Tensor], w1: Tensor, b1: Tensor) -> Tensor:
    """sum_k x_k W1[rows of k] + b1, (cells, rows, units), of inputs (cells, *rest, d_k)."""
    weights = torch.split(w1, [x.shape[-1] for x in parts], -2) if len(parts) > 1 else (w1,)
    y = torch.bmm(parts[0].flatten(1, -2), weights[0]).add_(b1)
    for before, x, w in zip(parts, parts[1:], weights[1:], strict=False):
        each = torch.bmm(x.flatten(1, -2), w).view(*x.shape[:-1], -1)
        y = each.add_(y.view(*before.shape[:-1], -1)).flatten(1, -2)
    return y


def spread(x: Tensor, stack: torch.Size) -> Tensor:
    """(*stack, *rest, d), broadcast over the stack -> (cells, *rest, d)."""
    n = len(stack)
    whole = x if x.shape[:n] == stack else x.expand(*stack, *x.shape[n:])
    return whole.reshape(-1, *x.shape[n:]) if x.ndim > n + 1 else whole.reshape(-1, 1, x.shape[-1])


def _uniform(stack: Sequence[int], shape: tuple[int, int], fan_in: int, generators: Sequence[torch.Generator]) -> Tensor:
    draws = [torch.rand(*stack[1:], *shape, generator=g) for g in generators]
    return (2.0 * torch.stack(draws) - 1.0) / math.sqrt(fan_in)


def orthogonal(stack: Sequence[int], shape: tuple[int, int], gain: float, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
    """W, gain times orthonormal columns, or rows where these are fewer, and b = 0."""
    cells = math.prod(stack[1:])
    draws = [nn.init.orthogonal_(torch.empty(shape), gain, generator=g) for g in generators for _ in range(cells)]
    return torch.stack(draws).view(*stack, *shape), torch.zeros(*stack, 1, shape[1])


def _drawn(module: nn.Module, generator: torch.Generator) -> Tensor:
    """The parameters of a fresh copy of a module, (P,), by numbers of this generator alone."""
    fresh = deepcopy(module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        for part in fresh.modules():
            if callable(reset := getattr(part, "reset_parameters", None)):
                reset()
    return torch.cat([p.detach().flatten() for p in fresh.parameters()])
