"""Critics: Q and V networks, stacked over seeds S and ensemble members E."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from policies.mlp import StackedMLP


class QNetwork(nn.Module):
    """Q_e(s, a), an ensemble of E networks for each of S seeds."""

    def __init__(
        self, obs: int, action: int, members: int, hidden: Sequence[int], activation: str, generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        self.net = StackedMLP([len(generators), members], [obs + action, *hidden, 1], activation, generators)

    def forward(self, obs: Tensor, action: Tensor, *, frozen: bool = False) -> Tensor:
        """obs (S, B, D) with action (S, B, A) -> (S, E, B), or with action particles (S, B, M, A) -> (S, E, B, M)."""
        obs = obs[:, None, :, None] if action.ndim == 4 else obs[:, None]
        q: Tensor = self.net(obs, action[:, None], frozen=frozen)
        return q[..., 0]

    def least(self, obs: Tensor, action: Tensor, *, frozen: bool = False) -> Tensor:
        """min_e Q_e(s, a), (S, B) or (S, B, M)."""
        q: Tensor = self(obs, action, frozen=frozen)
        return q.amin(1)

    def action_gradient(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """min_e Q_e and its gradient in the action, detached, shaped as ``action`` less its last axis and as ``action``."""
        with torch.enable_grad():
            a = action.detach().requires_grad_()
            q = self.least(obs, a, frozen=True)
            (slope,) = torch.autograd.grad(q.sum(), a)
        return q.detach(), slope


class VNetwork(nn.Module):
    """V(s), one network a seed."""

    def __init__(self, obs: int, hidden: Sequence[int], activation: str, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.net = StackedMLP([len(generators)], [obs, *hidden, 1], activation, generators)

    def forward(self, obs: Tensor) -> Tensor:
        """(S, B, D) -> (S, B)."""
        v: Tensor = self.net(obs)
        return v[..., 0]


def best(q: QNetwork, obs: Tensor, actions: Tensor) -> Tensor:
    """Of the candidate actions (S, B, K, A) the one with the largest min_e Q_e(s, a), (S, B, A)."""
    k = q.least(obs, actions).argmax(-1)[..., None, None]
    return actions.gather(-2, k.expand(*k.shape[:-1], actions.shape[-1]))[..., 0, :]
