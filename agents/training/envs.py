"""Environments in tensors, n per seed: any Gymnasium id with Box actions, and the project's own tasks.

Actions are (-1, 1)^A to an agent; they are rescaled to the environment's bounds here. An episode that ends is reset in the same step:
``next_obs`` is then the episode's own last observation, ``obs`` the first of the next.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from wgf.agents import tasks
from wgf.agents.tasks.fleet import Fleet, Outcome, Within, drawn
from wgf.agents.training.gym import Gymnasium
from wgf.agents.training.making import CPU, LEAST, Film, closed, fitting, made, reward_threshold
from wgf.agents.training.pool import EnvPool
from wgf.agents.training.spaces import Array, BrokenEnvironment, Mask, Step, raised
from wgf.agents.training.warp import WarpFleet, check
from wgf.agents.training.workers import Workers
from wgf.limits import free_memory
from wgf.shown import shown
from wgf.snapshot import Snapshot

__all__ = [
    "Array", "BrokenEnvironment", "Envs", "Film", "Gathered", "Gymnasium", "Mask", "Simulators", "Source", "Step", "beside", "one_line",
    "returned", "reward_threshold",
]  # fmt: skip
POOLED = 2**17  # bytes that one of EnvPool's takes at least
ROBOT = 2**13  # and a robot of Warp's
Starts = Callable[[int], Sequence[int | None]]  # a seed -> the seeds of its environments; None for one that is left alone


class Envs(Protocol):
    """n environments for each of S seeds, in tensors: ``wgf.agents.tasks.fleet.Fleet``, ``WarpFleet``, or ``Gathered``."""

    obs_size: int
    action_size: int
    horizon: int | None  # steps after which a time limit ends an episode, where there is one
    continues: bool  # whether they come back to where a snapshot was taken

    @property
    def faults(self) -> Mapping[int, BrokenEnvironment]:
        """Returns what an environment did that went wrong, by its seed's place: all its numbers are nan from then on."""

    def reset(self, seeds: Sequence[int | None], common: int | None = None) -> Tensor:
        """Begins every episode anew and returns the first observations (S, n, D). What a seed of None gives is of no use.

        With ``common`` the n of a seed begin alike, in start number ``common`` of that seed.
        """

    def step(self, action: Tensor) -> Outcome:
        """Applies actions (S, n, A) in (-1, 1)."""

    def snapshot(self) -> Snapshot:
        """Returns what brings them back to where they are."""

    def restore(self, snapshot: Snapshot) -> Tensor:
        """Comes back to where a snapshot was taken, after ``reset``, and returns the observations there, (S, n, D)."""

    def close(self) -> None:
        """Frees the simulators."""


class Simulators(Protocol):
    """N environments as rows of numpy arrays, which is what simulators speak."""

    obs_size: int
    action_size: int
    horizon: int | None
    continues: bool
    faults: dict[int, BrokenEnvironment]

    def reset(self, seeds: Sequence[int | None]) -> Array:
        """Returns the first observations (N, D); environment i is seeded with seeds[i]."""

    def step(self, action: Array) -> Step:
        """Applies actions (N, A) in (-1, 1)."""

    def snapshot(self) -> Snapshot:
        """Returns what brings them back to where they are."""

    def restore(self, snapshot: Snapshot) -> Array:
        """Comes back to where a snapshot was taken, and returns the observations there, (N, D)."""

    def close(self) -> None:
        """Frees the simulators."""


@contextmanager
def one_line() -> Iterator[None]:
    """Makes a ValueError of what an environment did, with that as its cause."""
    try:
        yield
    except BrokenEnvironment as error:
        raise ValueError(str(error)) from error


def alone(seed: int) -> Sequence[int]:
    """The one environment of a seed is seeded with that seed."""
    return [seed]


def beside(seed: int, n: int) -> list[int]:
    """Seeds of n environments side by side: environment i of seed k has 10,000,000 + 1,000 k + i, far from those of evaluations."""
    return [10_000_000 + 1_000 * seed + i for i in range(n)]


class Source:
    """Where environments come from: a Gymnasium id, an environment, which is copied, or a function that makes one.

    ``own`` says that a program gave it, so that its name alone does not bring it back.
    """

    def __init__(self, env: Any, backend: str = "gymnasium") -> None:
        self.own, self.backend = not isinstance(env, str), backend
        self._factory = _factory(env) if self.own else None
        self.name: str = env
        if self._factory:
            one = env if isinstance(env, gym.Env) else made("given", self._factory)
            spec = getattr(one, "spec", None)
            self.name = spec.id if spec else getattr(env, "__name__", type(env).__name__)
            if one is not env and isinstance(one, gym.Env):
                closed(self.name, one)

    def simulators(self, n: int, limit: float = 0.0) -> "Gymnasium | Workers | EnvPool":
        """Makes ``n`` environments side by side, Gymnasium's own too where the backend is warp. Raises as ``make`` does."""
        if self.backend == "async":
            return Workers(self.name, n, self._factory, limit)
        if self.backend == "gymnasium" or self.own:
            return Gymnasium(self.name, n, self._factory, limit)
        self._unlimited(limit)
        if self.backend == "warp":
            check(self.name)
            return Gymnasium(self.name, n)
        fitting(self.name, n, POOLED, free_memory(CPU))
        return EnvPool(self.name, n)

    def _unlimited(self, limit: float) -> None:
        if limit:
            raise ValueError(f"step_limit is {limit:g}; environments of backend {self.backend} have none: give 0, or use backend async")

    @property
    def together(self) -> bool:
        """Whether they are one of the project's own tasks, which steps as one tensor computation."""
        return self.name in tasks.IDS and not self.own

    def make(
        self, seeds: int, n: int = 1, *, device: torch.device = CPU, starts: Starts = alone, limit: float = 0.0, compile: bool = False,
        home: torch.device | None = None, within: Within | None = None,
    ) -> Envs:  # fmt: skip
        """Makes ``n`` environments for each of ``seeds`` seeds; the environments of seed k are seeded with starts(k).

        The project's own tasks by their ids run on the device, the n of a seed on one random generator seeded with k, with ``compile`` as
        machine code; others run on the CPU, each with ``limit`` seconds for a step, 0 for no limit. Those of backend warp run on
        ``home``, the n of a seed on one generator likewise; without a home they are Gymnasium's own, by which policies are judged.
        ``within``: where the n of a seed stand among those of all ranks.

        **Raises** ValueError for an unknown id, a missing package, a space of no use, or a limit where there can be none.
        """
        if self.together:
            fitting(self.name, seeds * n, LEAST, free_memory(device))
            return Fleet(tasks.IDS[self.name], n, device, compile, within)
        if self.backend == "warp" and home is not None and not self.own:
            self._unlimited(limit)
            fitting(self.name, seeds * n, ROBOT, free_memory(home))
            return WarpFleet(self.name, n, device, home, within)
        return Gathered(self.simulators(seeds * n, limit), n, device, starts)


def _factory(env: Any) -> Callable[[], Any]:
    if isinstance(env, gym.Env):

        def copied() -> Any:
            try:
                return deepcopy(env)
            except Exception as error:
                raise TypeError(f"it cannot be copied ({raised(error)}); give a function that makes it") from None

        return copied
    if not callable(env):
        raise ValueError(f"env is {shown(env)}; it must be a Gymnasium id, an environment of Gymnasium, or a function that makes one")
    return env  # type: ignore[no-any-return]


class Gathered:
    """Simulators as n environments for each of S seeds, in tensors on a device."""

    def __init__(self, rows: Simulators, n: int, device: torch.device = CPU, starts: Starts = alone) -> None:
        self.rows, self.n, self.device, self.starts = rows, n, device, starts
        self.obs_size, self.action_size = rows.obs_size, rows.action_size
        self.horizon, self.continues = rows.horizon, rows.continues

    @property
    def faults(self) -> Mapping[int, BrokenEnvironment]:
        """Returns what went wrong, by the place of its seed."""
        return {row // self.n: fault for row, fault in self.rows.faults.items()}

    def reset(self, seeds: Sequence[int | None], common: int | None = None) -> Tensor:
        """Begins every episode anew and returns the first observations (S, n, D), with ``common`` n times the same of a seed."""
        starts = [[None] * self.n if seed is None else self.starts(seed) for seed in seeds]
        if common is not None:
            one = [None if seed is None else drawn(seed, common) for seed in seeds]
            starts = [[None if start is None else k for start in own] for k, own in zip(one, starts, strict=True)]
        return self._tensor(self.rows.reset([start for own in starts for start in own]))

    def step(self, action: Tensor) -> Outcome:
        """Applies actions (S, n, A) in (-1, 1)."""
        return Outcome(*(self._tensor(part) for part in self.rows.step(action.flatten(0, 1).cpu().numpy())))

    def snapshot(self) -> Snapshot:
        """Returns what brings the simulators back to where they are."""
        return self.rows.snapshot()

    def restore(self, snapshot: Snapshot) -> Tensor:
        """Comes back to where a snapshot was taken, after ``reset``, and returns the observations there, (S, n, D)."""
        return self._tensor(self.rows.restore(snapshot))

    def close(self) -> None:
        """Frees the simulators."""
        self.rows.close()

    def _tensor(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(rows).to(self.device).view(-1, self.n, *rows.shape[1:])


def returned(envs: Envs, snapshot: Snapshot) -> Tensor:
    """Brings environments back to a memory's snapshot and returns their observations.

    **Raises** ValueError unless these are what was acted on there, bit by bit, and BrokenEnvironment where one goes wrong now.
    """
    obs, before = envs.restore(snapshot["envs"]), snapshot["obs"]
    if before.shape != obs.shape or not torch.equal(before.view(torch.int32), obs.cpu().view(torch.int32)):
        raise ValueError(
            "the environment does not come back to where it was: its episodes follow from more than its np_random and the actions, "
            "or another version is installed"
        )
    return obs
