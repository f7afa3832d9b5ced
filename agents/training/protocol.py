"""What an agent module offers, and what it is given: the names that the loop, the evaluation and the contract test rely on."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

Info = Callable[[], dict[str, Tensor]]  # tag -> (S,), on the device; computed when it is looked at


class Batch(NamedTuple):
    """Transitions of S seeds: obs and next_obs (S, B, D), action (S, B, A) in (-1, 1), reward and discount (S, B).

    discount = gamma (1 - terminated): a time limit bootstraps, an end of the task does not. Where the configuration has ``n_step``,
    reward is the discounted sum of up to so many steps, next_obs the state behind the last and discount the product of theirs.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_obs: Tensor


class Streams:
    """One random generator a seed. Draws are stacked: seed s of a stack sees the numbers that it sees by itself."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self.generators = list(generators)
        self.device = generators[0].device

    def normal(self, *shape: int) -> Tensor:
        """N(0, 1), (S, *shape)."""
        return torch.stack([torch.randn(shape, generator=g, device=self.device) for g in self.generators])

    def uniform(self, *shape: int) -> Tensor:
        """U(0, 1), (S, *shape)."""
        return torch.stack([torch.rand(shape, generator=g, device=self.device) for g in self.generators])

    def permutations(self, k: int, n: int) -> Tensor:
        """k orders of n things, (S, k, n)."""
        return torch.stack([torch.rand(k, n, generator=g, device=self.device).argsort(-1) for g in self.generators])


class Agent(Protocol):
    """An agent is a module with these names. ``Config`` is a frozen dataclass with at least ``gamma`` and ``batch``.

    An agent that learns from rollouts also has ``segment``: (cfg) -> ``rollout.Shape``; its updates take a ``rollout.Segment``. It may
    have ``explore``: (cfg, state, streams), called before a segment.
    """

    Config: type
    PRESETS: dict[str, Any]
    init: Callable[..., Any]  # (cfg, obs_size, action_size, generators, device) -> state, a dataclass of modules, optimisers, tensors
    act_noise: Callable[..., Any]  # (cfg, action_size, n, streams) -> noise of one action in each of n environments a seed
    act: Callable[..., Tensor]  # (cfg, state, obs (S, n, D), noise) -> actions (S, n, A) that explore
    greedy: Callable[..., Tensor]  # (cfg, state, obs (S, n, D)) -> deterministic actions (S, n, A)
    noise: Callable[..., Any]  # (cfg, action_size, streams) -> noise of one update
    update: Callable[..., Info]  # (cfg, state, batch, noise) -> Info; changes state in place
