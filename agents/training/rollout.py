"""Rollouts: segments of experience that the present policies collect, and that an update uses up."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from wgf.agents import tasks
from wgf.agents.tasks.fleet import Fleet, Outcome
from wgf.agents.training import envs as environments
from wgf.agents.training.envs import Array, Envs


class Segment(NamedTuple):
    """T steps of E environments for each of M policies of S seeds.

    obs and next_obs (S, M, T, E, D), action (S, M, T, E, A) as drawn, reward, discount = gamma (1 - terminated) and ended
    (S, M, T, E). Where an episode ended, next_obs is its last observation and the next obs the first of another.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    ended: Tensor
    next_obs: Tensor


class Shape(NamedTuple):
    """How an agent collects: M policies a seed, E environments a policy, T steps a segment."""

    policies: int
    envs: int
    steps: int

    @property
    def side(self) -> int:
        """Environments a seed."""
        return self.policies * self.envs

    @property
    def size(self) -> int:
        """Environment steps of a segment, a seed."""
        return self.side * self.steps


class Side(Protocol):
    """S x n environments side by side, in tensors: ``wgf.agents.tasks.fleet.Fleet``, or ``Gathered``."""

    obs_size: int
    action_size: int

    def reset(self, seeds: Sequence[int]) -> Tensor:
        """First observations (S, n, D)."""

    def step(self, action: Tensor) -> Outcome:
        """Applies actions (S, n, A)."""

    def close(self) -> None:
        """Frees the simulators."""


def side(name: str, shape: Shape, seeds: int, backend: str, device: torch.device) -> Side:
    """The environments of a rollout: the project's own on the device, others on the CPU. Raises as ``envs.make`` does."""
    if name in tasks.IDS:
        return Fleet(tasks.IDS[name], shape.side, device)
    return Gathered(environments.make(name, seeds * shape.side, backend), shape.side, device)


class Gathered:
    """Any environments as S x n of them; environment i of seed k is seeded with 1,000 k + i, from ten million on."""

    def __init__(self, envs: Envs, n: int, device: torch.device) -> None:
        self.envs, self.n, self.device = envs, n, device
        self.obs_size, self.action_size = envs.obs_size, envs.action_size

    def reset(self, seeds: Sequence[int]) -> Tensor:
        """First observations (S, n, D)."""
        return self._tensor(self.envs.reset([10_000_000 + 1_000 * k + i for k in seeds for i in range(self.n)]))

    def step(self, action: Tensor) -> Outcome:
        """Applies actions (S, n, A)."""
        outcome = self.envs.step(action.flatten(0, 1).cpu().numpy())
        return Outcome(*(self._tensor(part) for part in outcome[:5]))

    def close(self) -> None:
        """Frees the simulators."""
        self.envs.close()

    def _tensor(self, rows: np.ndarray) -> Tensor:
        return torch.unflatten(torch.from_numpy(rows).to(self.device), 0, (-1, self.n))


class Rollout:
    """Collects segments, and counts the episodes that end on the way."""

    def __init__(self, side: Side, shape: Shape, seeds: Sequence[int], gamma: float) -> None:
        self.side, self.shape, self.gamma = side, shape, gamma
        self.obs = side.reset(seeds)  # (S, n, D)
        self._return, self._length = torch.zeros_like(self.obs[..., 0]), torch.zeros_like(self.obs[..., 0])

    @staticmethod
    def bytes(seeds: int, shape: Shape, obs: int, action: int) -> int:
        """Memory of a segment and of what an update keeps of it beside: about as much again."""
        return 2 * seeds * shape.size * 4 * (2 * obs + action + 3)

    def collect(self, act: Callable[[Tensor], Tensor]) -> tuple[Segment, "Finished"]:
        """A segment of ``act``: observations (S, n, D) -> actions (S, n, A), n = M E, policy by policy."""
        columns: list[tuple[Tensor, ...]] = []
        totals, lengths, counts = (torch.zeros_like(self._return) for _ in range(3))
        for _ in range(self.shape.steps):
            action = act(self.obs)
            outcome = self.side.step(action)
            ended = outcome.terminated | outcome.truncated
            discount = self.gamma * (~outcome.terminated).to(outcome.reward)
            columns.append((self.obs, action, outcome.reward, discount, ended, outcome.next_obs))
            self.obs = outcome.obs
            self._return, self._length = self._return + outcome.reward, self._length + 1.0
            totals, lengths, counts = totals + self._return * ended, lengths + self._length * ended, counts + ended
            self._return, self._length = self._return.masked_fill(ended, 0.0), self._length.masked_fill(ended, 0.0)
        m, e = self.shape.policies, self.shape.envs
        segment = Segment(*(torch.unflatten(torch.stack(c, 1), 2, (m, e)).transpose(1, 2) for c in zip(*columns, strict=True)))
        return segment, Finished(*(torch.unflatten(t, 1, (m, e)).sum(-1).cpu().numpy() for t in (totals, lengths, counts)))


class Finished(NamedTuple):
    """Of the episodes that ended: sums of returns and of lengths, and their number, (S, M)."""

    returns: Array
    lengths: Array
    counts: Array

    def mean(self) -> tuple[Array, Array]:
        """Mean return and length of a seed's episodes, (S,); nan where none ended."""
        with np.errstate(invalid="ignore"):
            return self.returns.sum(1) / self.counts.sum(1), self.lengths.sum(1) / self.counts.sum(1)

    def best(self) -> Array:
        """Mean return of the best policy, (S,); nan where none ended."""
        each = np.divide(self.returns, self.counts, out=np.full_like(self.returns, -np.inf), where=self.counts > 0)
        return np.where(self.counts.any(1), each.max(1), np.nan)
