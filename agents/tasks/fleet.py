"""Many copies of a task as one tensor computation, on a CPU or a GPU."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wgf.agents.tasks import TASKS
from wgf.snapshot import Snapshot, put_, set_states, states


class Outcome(NamedTuple):
    """What one step of S x n environments gave; one that ended has begun anew: ``next_obs`` is its last, ``obs`` its next first."""

    obs: Tensor  # (S, n, D) to act on next
    next_obs: Tensor  # (S, n, D) that the action led to
    reward: Tensor  # (S, n)
    terminated: Tensor  # (S, n) the task ended: no value beyond
    truncated: Tensor  # (S, n) the time limit: the value goes on

    def finite(self) -> Tensor:
        """Whether every number is finite, (S, n): where it is not, the simulator went wrong."""
        return self.next_obs.isfinite().all(-1) & self.obs.isfinite().all(-1) & self.reward.isfinite()


def drawn(seed: int, number: int) -> int:
    """A seed of 31 bits from a seed and the number of what begins by it: another for each pair."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0] >> 1)


class Fleet:
    """S x n copies of a task, float32, the n of seed s drawing their starts from one generator.

    At each step fresh starts are drawn for all, so nothing waits for a device to say who ended.
    """

    continues = True  # comes back to where a snapshot was taken
    faults: Mapping[int, Any] = MappingProxyType({})  # none: they are the project's own

    def __init__(self, name: str, n: int, device: torch.device) -> None:
        self.task, self.n, self.device = TASKS[name], n, device
        self.obs_size, self.action_size = self.task.obs_size, self.task.action_size
        self.horizon: int | None = self.task.horizon

    def reset(self, seeds: Sequence[int | None], common: int | None = None) -> Tensor:
        """First observations (S, n, D); with ``common`` those of start number ``common``, one for the n of a seed.

        All go together: those whose seed is None are played in vain.
        """
        own = [seed or 0 if common is None else drawn(seed or 0, common) for seed in seeds]
        self._generators = [torch.Generator(self.device).manual_seed(seed) for seed in own]
        self.state = self._starts()
        if common is not None:
            self.state = self.state[:, :1].repeat(1, self.n, 1)
        self.age = torch.zeros(len(seeds), self.n, dtype=torch.int64, device=self.device)
        return self.task.observe(self.state)

    def step(self, action: Tensor) -> Outcome:
        """Applies actions (S, n, A) in (-1, 1)."""
        state, reward, terminated = self.task.advance(self.state, action)
        self.age += 1
        truncated = (self.age >= self.task.horizon) & ~terminated
        ended = terminated | truncated
        self.state = torch.where(ended[..., None], self._starts(), state)
        self.age.masked_fill_(ended, 0)
        return Outcome(self.task.observe(self.state), self.task.observe(state), reward, terminated, truncated)

    def snapshot(self) -> Snapshot:
        """Returns states, ages and the generators of the starts."""
        return {"state": self.state.clone(), "age": self.age.clone(), "generators": states(self._generators)}

    def restore(self, snapshot: Snapshot) -> Tensor:
        """Comes back to where a snapshot was taken, and returns the observations there, (S, n, D)."""
        put_(self.state, snapshot["state"], "the tasks' state")
        put_(self.age, snapshot["age"], "the tasks' age")
        set_states(self._generators, snapshot["generators"])
        return self.task.observe(self.state)

    def close(self) -> None:
        """Nothing to free."""

    def _starts(self) -> Tensor:
        size = self.task.start_size
        return self.task.start(torch.stack([torch.rand(self.n, size, generator=g, device=self.device) for g in self._generators]))
