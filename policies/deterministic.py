"""Deterministic policies mu(s) on (-1, 1)^A (Silver et al. 2014): one action a state."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wgf.mlp import VJP, Network, StackedMLP
from wgf.policies.squash import through_tanh


class DeterministicPolicy(Network):
    """mu(s) = tanh of a network; S seeds."""

    def __init__(self, obs: int, action: int, hidden: Sequence[int], activation: str, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.net = StackedMLP([len(generators)], [obs, *hidden, action], activation, generators)

    def forward(self, obs: Tensor) -> Tensor:
        """(S, B, D) -> (S, B, A)."""
        return torch.tanh(self.net(obs))

    def vjp(self, obs: Tensor) -> tuple[Tensor, VJP]:
        """mu(s) (S, B, A), and g -> grad_theta <g, mu>."""
        u, tape = self.net.evaluate(obs)
        action = torch.tanh(u)
        return action, lambda g: self.net.gradient(tape, through_tanh(action, g))
