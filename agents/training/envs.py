"""Environments in tensors, n per seed: any Gymnasium id with Box actions, and the project's own tasks.

Actions are (-1, 1)^A to an agent; they are rescaled to the environment's bounds here. An episode that ends is reset in the same step:
``next_obs`` is then the episode's own last observation, ``obs`` the first of the next.
"""

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Protocol

import gymnasium as gym
import mujoco
import numpy as np
import torch
from torch import Tensor

from wgf.agents import tasks
from wgf.agents.tasks.fleet import Fleet, Outcome
from wgf.agents.training import spaces
from wgf.agents.training.pool import EnvPool
from wgf.agents.training.spaces import Array, Mask, Scale, Step, cast, near, quiet, stepped, vector

__all__ = [
    "Array", "BrokenEnvironment", "Envs", "Film", "Gathered", "Gymnasium", "Mask", "Simulators", "Step", "make", "reward_threshold",
    "simulators", "sizes",
]  # fmt: skip
CPU = torch.device("cpu")
Starts = Callable[[int], Sequence[int]]  # a seed -> the seeds of its environments


class Envs(Protocol):
    """n environments for each of S seeds, in tensors: ``wgf.agents.tasks.fleet.Fleet``, or ``Gathered``."""

    obs_size: int
    action_size: int

    def reset(self, seeds: Sequence[int]) -> Tensor:
        """Begins every episode anew and returns the first observations (S, n, D)."""

    def step(self, action: Tensor) -> Outcome:
        """Applies actions (S, n, A) in (-1, 1)."""

    def close(self) -> None:
        """Frees the simulators."""


class Simulators(Protocol):
    """N environments as rows of numpy arrays, which is what simulators speak."""

    obs_size: int
    action_size: int

    def reset(self, seeds: Sequence[int]) -> Array:
        """Returns the first observations (N, D); environment i is seeded with seeds[i]."""

    def step(self, action: Array) -> Step:
        """Applies actions (N, A) in (-1, 1)."""

    def close(self) -> None:
        """Frees the simulators."""


class BrokenEnvironment(Exception):
    """An environment raised an error while it ran; the text is one line, the error itself is the cause."""


def alone(seed: int) -> Sequence[int]:
    """The one environment of a seed is seeded with that seed."""
    return [seed]


def beside(seed: int, n: int) -> list[int]:
    """Seeds of n environments side by side: environment i of seed k has 10,000,000 + 1,000 k + i, far from those of evaluations."""
    return [10_000_000 + 1_000 * seed + i for i in range(n)]


def make(name: str, seeds: int, n: int = 1, *, backend: str = "gymnasium", device: torch.device = CPU, starts: Starts = alone) -> Envs:
    """``n`` environments for each of ``seeds`` seeds, by their Gymnasium id; the environments of seed k are seeded with starts(k).

    The project's own tasks run on the device, the n of a seed on one random generator seeded with k; others run on the CPU.

    **Raises** ValueError for an unknown id, a missing package or a space of no use.
    """
    if name in tasks.IDS:
        return Fleet(tasks.IDS[name], n, device)
    return Gathered(simulators(name, seeds * n, backend), n, device, starts)


def simulators(name: str, n: int, backend: str = "gymnasium") -> Simulators:
    """``n`` environments of a simulator side by side. Raises as ``make`` does."""
    return EnvPool(name, n) if backend == "envpool" else Gymnasium(name, n)


def sizes(name: str, backend: str = "gymnasium") -> tuple[int, int]:
    """Numbers in an observation and in an action of one environment. Raises as ``make`` does."""
    one = make(name, 1, backend=backend)
    one.close()
    return one.obs_size, one.action_size


class Gathered:
    """Simulators as n environments for each of S seeds, in tensors on a device."""

    def __init__(self, rows: Simulators, n: int, device: torch.device = CPU, starts: Starts = alone) -> None:
        self.rows, self.n, self.device, self.starts = rows, n, device, starts
        self.obs_size, self.action_size = rows.obs_size, rows.action_size

    def reset(self, seeds: Sequence[int]) -> Tensor:
        """Begins every episode anew and returns the first observations (S, n, D)."""
        return self._tensor(self.rows.reset([start for seed in seeds for start in self.starts(seed)]))

    def step(self, action: Tensor) -> Outcome:
        """Applies actions (S, n, A) in (-1, 1)."""
        return Outcome(*(self._tensor(part) for part in self.rows.step(action.flatten(0, 1).cpu().numpy())))

    def close(self) -> None:
        """Frees the simulators."""
        self.rows.close()

    def _tensor(self, rows: np.ndarray) -> Tensor:
        return torch.unflatten(torch.from_numpy(rows).to(self.device), 0, (-1, self.n))


class Gymnasium:
    """Gymnasium environments stepped one after another in this process."""

    def __init__(self, name: str, n: int) -> None:
        self.name = name
        self.envs = [_made(name, lambda: gym.make(name)) for _ in range(n)]
        spec, obs, action = self.envs[0].spec, self.envs[0].observation_space, self.envs[0].action_space
        if spec.id != name.rpartition(":")[2]:
            raise ValueError(f"environment {name!r} has no version; did you mean {spec.id!r}?")
        self.obs_size, self.action_size = spaces.sizes(name, obs, action)
        self._space, self._scale = obs, Scale(action)

    def reset(self, seeds: Sequence[int]) -> Array:
        """Returns the first observations (N, D); environment i is seeded with seeds[i] and keeps its own stream from then on."""
        with _named(self.name):
            return cast(self._stacked([env.reset(seed=int(s))[0] for env, s in zip(self.envs, seeds, strict=True)]))

    def step(self, action: Array) -> Step:
        """Applies actions (N, A) in (-1, 1)."""
        with _named(self.name):
            steps = [env.step(a) for env, a in zip(self.envs, self._scale(action), strict=True)]
            after, reward, terminated, truncated, _ = zip(*steps, strict=True)
            first = [env.reset()[0] if t or u else o for env, o, t, u in zip(self.envs, after, terminated, truncated, strict=True)]
            return stepped(self._stacked(first), self._stacked(after), reward, terminated, truncated)

    def close(self) -> None:
        """Frees the simulators."""
        for env in self.envs:
            env.close()

    def _stacked(self, obs: Sequence[Any]) -> Any:
        return np.stack([vector(self._space, one) for one in obs])


class Film:
    """One environment that renders, seeded; ``frame()`` is an RGB array, ``step`` takes an action in (-1, 1)^A."""

    def __init__(self, name: str, seed: int) -> None:
        self._env = _made(name, lambda: gym.make(name, render_mode="rgb_array"))
        self.fps = int(self._env.metadata.get("render_fps", 30))
        self._scale = Scale(self._env.action_space)
        self.obs = self._vector(self._env.reset(seed=seed)[0])
        self.frame()  # fails here where nothing can be drawn

    def frame(self) -> Any:
        """The picture now, (height, width, 3)."""
        return np.asarray(self._env.render())

    def step(self, action: Array) -> tuple[Array, float, bool]:
        """The next observation, the reward, and whether the episode goes on."""
        obs, reward, terminated, truncated, _ = self._env.step(self._scale(action))
        return self._vector(obs), float(reward), not (terminated or truncated)

    def close(self) -> None:
        """Frees the renderer."""
        self._env.close()

    def _vector(self, obs: Any) -> Array:
        return cast(vector(self._env.observation_space, obs))


def reward_threshold(name: str) -> float | None:
    """The return at which Gymnasium calls the task solved; None where it does not say, or does not know the task."""
    try:
        threshold: float | None = gym.spec(name).reward_threshold
    except (gym.error.Error, ImportError):
        return None
    return threshold


def _made(name: str, make: Callable[[], Any]) -> Any:
    """What ``make`` makes, without Gymnasium's and MuJoCo's remarks; ValueError, in one line, where it cannot."""
    module, _, rest = name.rpartition(":")
    if module and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # "my_tasks:Maze-v0" may lie where the person is
    mujoco.set_mju_user_warning(_mujoco_warning)
    try:
        with quiet():
            if owner := tasks.OWNERS.get(rest.partition("/")[0]):
                import_module(owner)  # registers them
            return make()
    except ModuleNotFoundError as error:
        if error.name in tasks.EXTRAS:
            extra = tasks.EXTRAS[error.name]
            raise ValueError(f"environment {name!r} needs the extra {extra}: pip install 'wgflow[{extra}]'") from None
        reason = str(error)
    except (gym.error.Error, ImportError) as error:
        reason = " ".join(str(error).split("Did you mean")[0].split()).rstrip(".")
    except Exception as error:  # an environment's own code may raise anything
        reason = _described(error)
    raise ValueError(f"environment {name!r} cannot be made: {reason}{near(rest, gym.registry)}")


def _mujoco_warning(text: str) -> None:
    """MuJoCo would print every remark and leave a MUJOCO_LOG.TXT in the person's folder; only a simulation that breaks is worth a word."""
    if "unstable" in text:
        warnings.warn(f"MuJoCo: {text.splitlines()[0]}", stacklevel=2)


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise BrokenEnvironment(f"environment {name!r} raised {_described(error)}") from error


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
