"""Deterministic policies mu(s) on (-1, 1)^A (Silver et al. 2014): one action per state."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wgf.door import told
from wgf.mlp import Network

__all__ = ["DeterministicPolicy"]


@dataclass(frozen=True)
class DeterministicPolicy:
    """mu(s) = tanh of a network of A numbers: theta (S, P), or any stack (*stack, P)."""

    net: Network

    @told
    def init(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Makes a fresh theta (S, P)."""
        return self.net.init((len(generators),), generators)

    @told
    def mode(self, theta: Tensor, obs: Tensor) -> Tensor:
        """Returns mu(s), (*stack, B, D) -> (*stack, B, A)."""
        return torch.tanh(self.net(theta, obs))
