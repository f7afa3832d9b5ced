"""The one multilayer perceptron: a stack of networks with leading axes, evaluated as one computation."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu}


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

    def forward(self, *inputs: Tensor) -> Tensor:
        """(*stack, *rest, d_k) each -> (*stack, *rest, out)."""
        x = self._first(inputs)
        rest, n = x.shape[len(self.stack) : -1], math.prod(self.stack)
        x = x.reshape(n, -1, x.shape[-1])
        for w, b in zip(self.weights[1:], self.biases[1:], strict=True):
            x = torch.baddbmm(b.reshape(n, 1, -1), self.activation(x), w.reshape(n, *w.shape[-2:]))
        return x.reshape(*self.stack, *rest, x.shape[-1])

    def _first(self, inputs: Sequence[Tensor]) -> Tensor:
        depth = len(self.stack)
        rows = torch.split(self.weights[0], [x.shape[-1] for x in inputs], dim=-2)
        total: Tensor = self.biases[0].reshape(*self.stack, *[1] * (inputs[0].ndim - depth - 1), -1)
        for x, w in zip(inputs, rows, strict=True):
            total = total + torch.unflatten(x.flatten(depth, -2) @ w, depth, x.shape[depth:-1])
        return total


def _uniform(stack: tuple[int, ...], shape: tuple[int, int], fan_in: int, generators: Sequence[torch.Generator]) -> Tensor:
    draws = [torch.rand(*stack[1:], *shape, generator=g) for g in generators]
    return (2.0 * torch.stack(draws) - 1.0) / math.sqrt(fan_in)


@torch.no_grad()
def polyak_(target: nn.Module, source: nn.Module, rate: float) -> None:
    """target <- (1 - rate) target + rate source, in place; rate = 1 copies."""
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), rate)
