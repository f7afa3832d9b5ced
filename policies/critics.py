"""Critics: Q and V networks, stacked over seeds S and ensemble members E."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wgf.layernorm import network
from wgf.mlp import VJP, Network, StackedMLP


class QNetwork(Network):
    """Q_e(s, a), an ensemble of E networks for each of S seeds."""

    def __init__(
        self, obs: int, action: int, members: int, hidden: Sequence[int], activation: str, generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        self.net = network([len(generators), members], [obs + action, *hidden, 1], activation, generators)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """obs (S, B, D) with action (S, B, A) -> (S, E, B), or with action particles (S, B, M, A) -> (S, E, B, M)."""
        return self.net(*_inputs(obs, action))[..., 0]  # type: ignore[no-any-return]

    def vjp(self, obs: Tensor, action: Tensor) -> tuple[Tensor, VJP]:
        """Q_e(s, a) (S, E, B), and g -> grad_theta <g, Q>."""
        q, tape = self.net.evaluate(*_inputs(obs, action))
        return q[..., 0], lambda g: self.net.gradient(tape, g[..., None])

    def least(self, obs: Tensor, action: Tensor) -> Tensor:
        """min_e Q_e(s, a), (S, B) or (S, B, M)."""
        q: Tensor = self(obs, action)
        return q.amin(1) if q.shape[1] > 1 else q[:, 0]

    def action_gradient(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """min_e Q_e and its gradient in the action, shaped as ``action`` less its last axis and as ``action``."""
        q, tape = self.net.evaluate(*_inputs(obs, action))
        if q.shape[1] == 1:
            least, chosen = q, torch.ones_like(q)
        else:
            least, e = q.min(1, keepdim=True)
            chosen = torch.zeros_like(q).scatter_(1, e, 1.0)
        return least[:, 0, ..., 0], self.net.input_gradient(tape, chosen, action.shape[-1])[:, 0]


def _inputs(obs: Tensor, action: Tensor) -> tuple[Tensor, ...]:
    """As the members see them: (S, 1, B, D + A), or apart where the actions are many, obs (S, 1, B, 1, D) and action (S, 1, B, M, A)."""
    if action.ndim > obs.ndim:
        obs = obs[:, :, None]
        if action.shape[2] > 1:
            return obs[:, None], action[:, None]
    return (torch.cat([obs, action], -1)[:, None],)


class VNetwork(Network):
    """V(s), one network a seed; with ``policies``, one for each of so many policies a seed, stack (S, M). ``gain``: of the last layer,
    where weights start orthogonal."""

    def __init__(
        self,
        obs: int,
        hidden: Sequence[int],
        activation: str,
        generators: Sequence[torch.Generator],
        policies: int | None = None,
        gain: float | None = None,
    ) -> None:
        super().__init__()
        stack = [len(generators)] + ([] if policies is None else [policies])
        self.net = StackedMLP(stack, [obs, *hidden, 1], activation, generators, gain)

    def forward(self, obs: Tensor) -> Tensor:
        """(S, [M,] *rest, D) -> (S, [M,] *rest)."""
        return self.net(obs)[..., 0]  # type: ignore[no-any-return]

    def vjp(self, obs: Tensor) -> tuple[Tensor, VJP]:
        """V(s) (S, [M,] B), and g -> grad_theta <g, V>."""
        v, tape = self.net.evaluate(obs)
        return v[..., 0], lambda g: self.net.gradient(tape, g[..., None])


def best(q: QNetwork, obs: Tensor, actions: Tensor) -> Tensor:
    """Of the candidate actions (S, B, K, A) the one with the largest min_e Q_e(s, a), (S, B, A)."""
    k = q.least(obs, actions).argmax(-1)[..., None, None]
    return actions.gather(-2, k.expand(*k.shape[:-1], actions.shape[-1]))[..., 0, :]
