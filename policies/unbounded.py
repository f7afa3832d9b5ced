"""Gaussian policies on all of R^A, as WPO and MPO have them: mean and std of one network, no squashing."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from wgf.layernorm import LayerNormMLP
from wgf.mlp import Network

LEAST = 1e-6  # std


class MeanStd(NamedTuple):
    """N(mean, diag std^2) of each state, or a gradient in it: (..., A) each."""

    mean: Tensor
    std: Tensor


class UnboundedGaussian(Network):
    """mean(s) linear and std(s) = softplus(.) std0 / softplus(0) + 1e-6 in the last layer, LayerNorm-tanh-ELU before it; S seeds.

    The last layer starts at a hundredth of its usual size: the first policy is about N(0, std0^2) everywhere.
    """

    def __init__(self, obs: int, action: int, hidden: Sequence[int], std0: float, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.net = LayerNormMLP([len(generators)], [obs, *hidden, 2 * action], generators)
        self.scale = std0 / math.log(2.0)
        for part in self.net.layers(self.net.theta)[-1]:
            part.mul_(0.01)

    def forward(self, obs: Tensor) -> MeanStd:
        """(S, B, D) -> (S, B, A) each."""
        return self._read(self.net(obs))[0]

    def vjp(self, obs: Tensor) -> tuple[MeanStd, Callable[[MeanStd], Tensor]]:
        """The Gaussians, and g -> grad_theta [<g.mean, mean> + <g.std, std>]."""
        out, tape = self.net.evaluate(obs)
        law, raw = self._read(out)

        def pull_back(g: MeanStd) -> Tensor:
            return self.net.gradient(tape, torch.cat([g.mean, g.std * torch.sigmoid(raw) * self.scale], -1))

        return law, pull_back

    def _read(self, out: Tensor) -> tuple[MeanStd, Tensor]:
        mean, raw = out.chunk(2, -1)
        return MeanStd(mean, softplus(raw) * self.scale + LEAST), raw


def decoupled_kl(target: MeanStd, law: MeanStd) -> MeanStd:
    """KL(target || law) with only the mean moved, and with only the std moved; per dimension, (..., A) each.

    (mean' - mean)^2 / (2 std'^2) and log(std / std') + std'^2 / (2 std^2) - 1/2, primes the target's. **Source** Abdolmaleki et al.
    2018 (MPO), Eq. 5; their sum is KL(target || law) up to third order in the difference.
    """
    shift = (law.mean - target.mean) / target.std
    ratio = target.std / law.std
    return MeanStd(0.5 * shift.square(), 0.5 * (ratio.square() - 1.0) - torch.log(ratio))


def decoupled_kl_gradient(target: MeanStd, law: MeanStd) -> MeanStd:
    """Of the first in law.mean, (mean - mean') / std'^2; of the second in law.std, (1 - std'^2 / std^2) / std."""
    return MeanStd((law.mean - target.mean) / target.std.square(), (1.0 - (target.std / law.std).square()) / law.std)
