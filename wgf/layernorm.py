"""The stacked perceptron with LayerNorm behind its first layer, as the networks of WPO and of MPO have it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wgf.mlp import ACTIVATIONS, Activation, StackedMLP


class LayerNormMLP(StackedMLP):
    """A stack whose first layer is followed by LayerNorm and tanh, the others by ELU; the sum that tanh sees has scale 1 at first.

    z = gain (y - mean y) / sqrt(var y + 1e-5) + offset of the first layer's sum y, mean and variance over its units; gain and offset
    are the last 2 x hidden[0] numbers of ``theta`` and start at 1 and 0. **Source** Ba et al. 2016.
    **Raises** ValueError where there is no hidden layer.
    """

    def __init__(self, stack: Sequence[int], sizes: Sequence[int], generators: Sequence[torch.Generator]) -> None:
        if len(sizes) < 3:
            raise ValueError("hidden is empty; LayerNorm follows the first hidden layer: give at least one")
        super().__init__(stack, sizes, "elu", generators)
        start = torch.ones(sizes[1]), torch.zeros(sizes[1])
        self.theta = nn.Parameter(torch.cat([self.theta, torch.cat(start).expand(*stack, -1)], -1), requires_grad=False)

    def layers(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """As above; ``affine`` has the rest."""
        return super().layers(theta[..., : -2 * self.shapes[0][1]])

    def affine(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Views of theta (..., P): gain and offset, (..., 1, hidden[0])."""
        gain, offset = theta[..., None, -2 * self.shapes[0][1] :].chunk(2, -1)
        return gain, offset

    def _activation(self, i: int) -> Activation:
        return self.activation if i else ACTIVATIONS["tanh"]

    def _normalised(self, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        gain, offset = self.affine(self.theta.flatten(0, -2))
        x, *moments = torch.native_layer_norm(y, y.shape[-1:], None, None, 1e-5)
        return torch.addcmul(offset, gain, x, out=x), [y, *moments]

    def _slots(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [*super()._slots(theta), self.affine(theta)]

    def _through_norm(self, norm: list[Tensor], g: Tensor, slots: Sequence[tuple[Tensor, Tensor]] = ()) -> Tensor:
        gain, _ = self.affine(self.theta.flatten(0, -2))
        for d_gain, d_offset in slots:
            torch.sum(_standard(norm).mul_(g), 1, keepdim=True, out=d_gain)
            torch.sum(g, 1, keepdim=True, out=d_offset)
        return _standardised_slope(norm, g.mul_(gain))

    def _norm_tangent(self, norm: list[Tensor], dy: Tensor, whole: Tensor) -> Tensor:
        (gain, _), (d_gain, d_offset) = self.affine(self.theta.flatten(0, -2)), self.affine(whole)
        return _standardised_slope(norm, dy).mul_(gain).addcmul_(_standard(norm), d_gain).add_(d_offset)


def _standard(norm: list[Tensor]) -> Tensor:
    """x = (y - mean) / deviation, (cells, rows, units)."""
    y, mean, inverse = norm
    return (y - mean).mul_(inverse)


def _standardised_slope(norm: list[Tensor], g: Tensor) -> Tensor:
    """J g = J'g of J = dx / dy, a symmetric matrix: (g - mean g - x mean(x g)) / deviation."""
    y, mean, inverse = (t.contiguous() for t in norm)  # the kernel reads its moments without strides
    back = torch.ops.aten.native_layer_norm_backward
    return back(g, y, y.shape[-1:], mean, inverse, None, None, [True, False, False])[0]  # type: ignore[no-any-return]


def network(stack: Sequence[int], sizes: Sequence[int], activation: str, generators: Sequence[torch.Generator]) -> StackedMLP:
    """The network of an activation's name: tanh, relu, elu, or layernorm for ``LayerNormMLP``."""
    return LayerNormMLP(stack, sizes, generators) if activation == "layernorm" else StackedMLP(stack, sizes, activation, generators)
