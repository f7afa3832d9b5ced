"""Many copies of a task as one tensor computation, on a CPU or a GPU."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wgf.agents.tasks import TASKS
from wgf.agents.tasks.task import Task
from wgf.compiler import machine_code
from wgf.snapshot import Snapshot, put_, set_states, states

__all__ = ["Fleet", "Outcome", "Within", "drawn", "stepped"]


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


class Within(NamedTuple):
    """The n environments of a seed are those from ``first`` on of ``all`` that it has on all ranks, and begin as these do."""

    first: int
    all: int


def drawn(seed: int, number: int) -> int:
    """A seed of 31 bits from a seed and the number of what begins by it: another for each pair."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0] >> 1)


class Fleet:
    """S x n copies of a task, float32, the n of seed s drawing their starts from one generator.

    At each step fresh starts are drawn for all, so nothing waits for a device to say who ended; after a ``common`` start that one is taken
    again. ``compile``: a step as machine code, which is made at the first one, in some ten seconds; several times as fast, and the same
    but for rounding.
    """

    continues = True  # comes back to where a snapshot was taken
    faults: Mapping[int, Any] = MappingProxyType({})  # none: they are the project's own

    def __init__(self, name: str, n: int, device: torch.device, compile: bool = False, within: Within | None = None) -> None:
        self.task, self.n, self.device = TASKS[name], n, device
        self._first, self._all = within or (0, n)
        self._step: Callable[..., tuple[Tensor, ...]] = partial(stepped, self.task)
        self.compile, self._recorded = compile, not compile
        self.obs_size, self.action_size = self.task.obs_size, self.task.action_size
        self.horizon: int | None = self.task.horizon

    def reset(self, seeds: Sequence[int | None], common: int | None = None) -> Tensor:
        """First observations (S, n, D); with ``common`` those of start number ``common``, one for the n of a seed.

        All go together: those whose seed is None are played in vain.
        """
        own = [seed or 0 if common is None else drawn(seed or 0, common) for seed in seeds]
        self._generators = [torch.Generator(self.device).manual_seed(seed) for seed in own]
        self._common: Tensor | None = None
        self.state = self.starts()[0] if common is None else self._drawn(1)[0, :, :1].repeat(1, self.n, 1)
        if common is not None:
            self._common = self.state
        self.age = torch.zeros(len(seeds), self.n, dtype=torch.int64, device=self.device)
        return self.task.observe(self.state)

    def step(self, action: Tensor) -> Outcome:
        """Applies actions (S, n, A) in (-1, 1)."""
        now = self.state, self.age, action.contiguous(), self.starts()[0]
        if not self._recorded:
            self._step, self._recorded = machine_code(self._step, *now) or self._step, True
        self.state, self.age, *outcome = self._step(*now)
        return Outcome(*outcome)

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

    def starts(self, steps: int = 1) -> Tensor:
        """Returns the fresh starts of so many steps, (steps, S, n, K)."""
        if self._common is not None:
            return self._common.expand(steps, *self._common.shape)
        return self._drawn(steps)[:, :, self._first : self._first + self.n]

    def _drawn(self, steps: int) -> Tensor:
        shape = steps, self._all, self.task.start_size
        return self.task.start(torch.stack([torch.rand(shape, generator=g, device=self.device) for g in self._generators], 1))


def stepped(task: Task, state: Tensor, age: Tensor, action: Tensor, fresh: Tensor) -> tuple[Tensor, ...]:
    """Returns the state (S, n, K) and age (S, n) after a step, those of an episode that ended begun anew from ``fresh``, and an
    ``Outcome``'s tensors."""
    led, reward, terminated = task.advance(state, action)
    age = age + 1
    truncated = (age >= task.horizon) & ~terminated
    ended = terminated | truncated
    state = torch.where(ended[..., None], fresh, led)
    return state, age.masked_fill(ended, 0), task.observe(state), task.observe(led), reward, terminated, truncated
