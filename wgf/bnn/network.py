"""The networks of Bayesian regression: f(x; W) as a function of W, every particle of every data set in one computation."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["Net"]


@dataclass(frozen=True)
class Net:
    """f(x; W) = phi(... phi(x W1 + b1) W2 + b2 ...) W_L + b_L, for a vector W that holds W1, b1, W2, b2 and so on.

    ``sizes``: (features, hidden..., outputs). ``phi`` may change its argument, and is the ReLU unless told otherwise.
    """

    sizes: tuple[int, ...]
    phi: Callable[[Tensor], Tensor] = torch.relu_

    @property
    def weights(self) -> int:
        """How many numbers W has, biases too."""
        return sum((i + 1) * o for i, o in pairwise(self.sizes))

    def layers(self, w: Tensor) -> list[Tensor]:
        """Views of W (..., D), layer by layer: (..., in + 1, out), whose last row is the bias."""
        parts = torch.split(w, [(i + 1) * o for i, o in pairwise(self.sizes)], -1)
        return [part.view(*w.shape[:-1], i + 1, o) for part, (i, o) in zip(parts, pairwise(self.sizes), strict=True)]

    def __call__(self, w: Tensor, x: Tensor) -> Tensor:
        """f(x; W), (S, M, B, K), of networks W (S, M, D) at the rows of their data set, x (S, B, d)."""
        first, *others = self.layers(w.reshape(-1, w.shape[-1]))
        rows = pad(x, (0, 1), value=1.0)[:, None].expand(-1, w.shape[1], -1, -1)  # the last 1 takes the bias along in the product
        y = torch.bmm(rows.reshape(len(first), *rows.shape[-2:]), first)
        for layer in others:
            y = _affine(self.phi(y), *torch.split(layer, [layer.shape[-2] - 1, 1], -2))
        return y.view(*w.shape[:-1], *y.shape[-2:])


def _affine(h: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """h W + b, (cells, B, out). One output is a sum of products: its derivative costs less than that of a matrix product."""
    return (h * w.mT).sum(-1, keepdim=True) + b if w.shape[-1] == 1 else torch.baddbmm(b, h, w)
