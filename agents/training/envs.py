"""Environments in tensors, n per seed: any Gymnasium id with Box actions, and the project's own tasks.

Actions are (-1, 1)^A to an agent; they are rescaled to the environment's bounds here. An episode that ends is reset in the same step:
``next_obs`` is then the episode's own last observation, ``obs`` the first of the next.
"""

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
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
from wgf.agents.training.snapshot import Snapshot
from wgf.agents.training.spaces import Array, Mask, Scale, Step, cast, near, quiet, stepped, vector
from wgf.limits import free_memory, resident, size

__all__ = [
    "Array", "BrokenEnvironment", "Envs", "Film", "Gathered", "Gymnasium", "Mask", "Simulators", "Source", "Step", "one_line", "returned",
    "reward_threshold",
]  # fmt: skip
CPU = torch.device("cpu")
SAMPLE, LEAST, POOLED = 32, 2**10, 2**17  # environments that show what one takes; bytes that it takes at least, and one of EnvPool's
Starts = Callable[[int], Sequence[int]]  # a seed -> the seeds of its environments


class Envs(Protocol):
    """n environments for each of S seeds, in tensors: ``wgf.agents.tasks.fleet.Fleet``, or ``Gathered``."""

    obs_size: int
    action_size: int
    continues: bool  # whether they come back to where a snapshot was taken

    def reset(self, seeds: Sequence[int]) -> Tensor:
        """Begins every episode anew and returns the first observations (S, n, D)."""

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
    continues: bool

    def reset(self, seeds: Sequence[int]) -> Array:
        """Returns the first observations (N, D); environment i is seeded with seeds[i]."""

    def step(self, action: Array) -> Step:
        """Applies actions (N, A) in (-1, 1)."""

    def snapshot(self) -> Snapshot:
        """Returns what brings them back to where they are."""

    def restore(self, snapshot: Snapshot) -> Array:
        """Comes back to where a snapshot was taken, and returns the observations there, (N, D)."""

    def close(self) -> None:
        """Frees the simulators."""


class BrokenEnvironment(Exception):
    """An environment raised an error while it ran; the text is one line, the error itself is the cause."""


@contextmanager
def one_line() -> Iterator[None]:
    """Makes a ValueError of what an environment raised."""
    try:
        yield
    except BrokenEnvironment as error:
        raise ValueError(str(error)) from None


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
            one = env if isinstance(env, gym.Env) else _made("given", self._factory)
            spec = getattr(one, "spec", None)
            self.name = spec.id if spec else getattr(env, "__name__", type(env).__name__)
            if one is not env and isinstance(one, gym.Env):
                one.close()

    def simulators(self, n: int) -> "Gymnasium | EnvPool":
        """Makes ``n`` environments side by side. Raises as ``make`` does."""
        if self.backend == "envpool":
            _fitting(self.name, n, POOLED, free_memory(CPU))
        return EnvPool(self.name, n) if self.backend == "envpool" and not self.own else Gymnasium(self.name, n, self._factory)

    def make(self, seeds: int, n: int = 1, *, device: torch.device = CPU, starts: Starts = alone) -> Envs:
        """Makes ``n`` environments for each of ``seeds`` seeds; the environments of seed k are seeded with starts(k).

        The project's own tasks by their ids run on the device, the n of a seed on one random generator seeded with k; others run on the
        CPU.

        **Raises** ValueError for an unknown id, a missing package or a space of no use.
        """
        if self.name in tasks.IDS and not self.own:
            _fitting(self.name, seeds * n, LEAST, free_memory(device))
            return Fleet(tasks.IDS[self.name], n, device)
        return Gathered(self.simulators(seeds * n), n, device, starts)


def _factory(env: Any) -> Callable[[], Any]:
    if isinstance(env, gym.Env):

        def copied() -> Any:
            try:
                return deepcopy(env)
            except Exception as error:
                raise TypeError(f"it cannot be copied ({_described(error)}); give a function that makes it") from None

        return copied
    if not callable(env):
        raise ValueError(f"env is {env!r}; it must be a Gymnasium id, an environment of Gymnasium, or a function that makes one")
    return env  # type: ignore[no-any-return]


class Gathered:
    """Simulators as n environments for each of S seeds, in tensors on a device."""

    def __init__(self, rows: Simulators, n: int, device: torch.device = CPU, starts: Starts = alone) -> None:
        self.rows, self.n, self.device, self.starts = rows, n, device, starts
        self.obs_size, self.action_size, self.continues = rows.obs_size, rows.action_size, rows.continues

    def reset(self, seeds: Sequence[int]) -> Tensor:
        """Begins every episode anew and returns the first observations (S, n, D)."""
        return self._tensor(self.rows.reset([start for seed in seeds for start in self.starts(seed)]))

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


@dataclass
class Episode:
    """How an episode began, by the seed of its reset or by its generator's state before, and its actions (A,) since, in (-1, 1).

    A simulator's own state is not saved: the episode is played again.
    """

    seed: int | None
    generator: Any = None
    actions: list[Array] = field(default_factory=list)


class Gymnasium:
    """Gymnasium environments stepped one after another in this process, made by their id, or each by a call of ``factory``.

    They come back to where a snapshot was taken if an episode follows from the environment's ``np_random`` at its reset and the actions.
    """

    continues = True

    def __init__(self, name: str, n: int, factory: Callable[[], Any] | None = None) -> None:
        self.name = name
        self.envs = _several(name, n, factory)
        spec, self.space, action = self.envs[0].spec, self.envs[0].observation_space, self.envs[0].action_space
        if factory is None and spec.id != name.rpartition(":")[2]:
            raise ValueError(f"environment {name!r} has no version; did you mean {spec.id!r}?")
        _refuse_statistics(name, self.envs[0])
        self.obs_size, self.action_size = spaces.sizes(name, self.space, action)
        self.scale = Scale(action)

    def reset(self, seeds: Sequence[int]) -> Array:
        """Returns the first observations (N, D); environment i is seeded with seeds[i] and keeps its own stream from then on."""
        self._episodes = [Episode(int(seed)) for seed in seeds]
        with _named(self.name):
            return cast(self._stacked([env.reset(seed=e.seed)[0] for env, e in zip(self.envs, self._episodes, strict=True)]))

    def step(self, action: Array) -> Step:
        """Applies actions (N, A) in (-1, 1)."""
        with _named(self.name):
            steps = [env.step(a) for env, a in zip(self.envs, self.scale(action), strict=True)]
            after, reward, terminated, truncated, _ = zip(*steps, strict=True)
            for episode, row in zip(self._episodes, action.copy(), strict=True):
                episode.actions.append(row)
            ended = np.logical_or(terminated, truncated)
            first = [self._anew(i) if over else o for i, (o, over) in enumerate(zip(after, ended, strict=True))]
            return stepped(self._stacked(first), self._stacked(after), reward, terminated, truncated)

    def snapshot(self) -> Snapshot:
        """Returns of each environment its ``Episode``."""
        played = [np.asarray(e.actions, np.float32).reshape(-1, self.action_size) for e in self._episodes]
        return {
            str(i): {"seed": e.seed, "generator": e.generator, "actions": torch.from_numpy(actions)}
            for i, (e, actions) in enumerate(zip(self._episodes, played, strict=True))
        }

    def restore(self, snapshot: Snapshot) -> Array:
        """Plays every episode again up to where a snapshot was taken, and returns the observations there, (N, D)."""
        with _named(self.name):
            return cast(self._stacked([self._again(i, snapshot[str(i)]) for i in range(len(self.envs))]))

    def close(self) -> None:
        """Frees the simulators."""
        for env in self.envs:
            env.close()

    def _anew(self, i: int) -> Any:
        """Begins an episode of one environment and returns its first observation."""
        self._episodes[i] = Episode(None, self.envs[i].unwrapped.np_random.bit_generator.state)
        return self.envs[i].reset()[0]

    def _again(self, i: int, saved: Snapshot) -> Any:
        """Plays one environment's episode again and returns the observation at its end."""
        env, actions = self.envs[i], saved["actions"].numpy()
        self._episodes[i] = Episode(saved["seed"], saved["generator"], list(actions))
        if saved["seed"] is None:
            env.unwrapped.np_random.bit_generator.state = saved["generator"]
        obs = env.reset(seed=saved["seed"])[0]
        for action in actions:
            obs = env.step(self.scale(action))[0]
        return obs

    def _stacked(self, obs: Sequence[Any]) -> Any:
        return np.stack([vector(self.space, one) for one in obs])


class Film:
    """One environment that renders, seeded; ``frame()`` is an RGB array, observations and actions are the environment's own."""

    def __init__(self, name: str, seed: int) -> None:
        self._env = _made(name, None, render_mode="rgb_array")
        self.fps = int(self._env.metadata.get("render_fps", 30))
        self.obs = self._env.reset(seed=seed)[0]
        self.frame()  # fails here where nothing can be drawn

    def frame(self) -> Any:
        """Returns the picture now, (height, width, 3)."""
        return np.asarray(self._env.render())

    def step(self, action: Any) -> tuple[Any, float, bool]:
        """Returns the next observation, the reward, and whether the episode goes on."""
        obs, reward, terminated, truncated, _ = self._env.step(action)
        return obs, float(reward), not (terminated or truncated)

    def close(self) -> None:
        """Frees the renderer."""
        self._env.close()


def returned(envs: Envs, snapshot: Snapshot) -> Tensor:
    """Brings environments back to a memory's snapshot and returns their observations.

    **Raises** ValueError unless these are what was acted on there, bit by bit.
    """
    obs, before = envs.restore(snapshot["envs"]), snapshot["obs"]
    if before.shape != obs.shape or not torch.equal(before.view(torch.int32), obs.cpu().view(torch.int32)):
        raise ValueError(
            "the environment does not come back to where it was: its episodes follow from more than its np_random and the actions, "
            "or another version is installed"
        )
    return obs


def reward_threshold(name: str) -> float | None:
    """Returns the return at which Gymnasium calls the task solved; None where it does not say, or does not know the task."""
    try:
        threshold: float | None = gym.spec(name).reward_threshold
    except (gym.error.Error, ImportError):
        return None
    return threshold


def _made(name: str, factory: Callable[[], Any] | None, **options: Any) -> Any:
    """Makes an environment by its id or a factory, without Gymnasium's and MuJoCo's remarks. Raises ValueError where it cannot."""
    module, _, rest = name.rpartition(":")
    if module and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # "my_tasks:Maze-v0" may lie where the person is
    mujoco.set_mju_user_warning(_mujoco_warning)
    try:
        with quiet():
            if owner := tasks.OWNERS.get(rest.partition("/")[0]):
                import_module(owner)  # registers them
            return factory() if factory else gym.make(name, **options)
    except ModuleNotFoundError as error:
        if error.name in tasks.EXTRAS:
            extra = tasks.EXTRAS[error.name]
            raise ValueError(f"environment {name!r} needs the extra {extra}: pip install 'wgflow[{extra}]'") from None
        reason = str(error)
    except (gym.error.Error, ImportError) as error:
        reason = " ".join(str(error).split("Did you mean")[0].split()).rstrip(".")
    except (Exception, SystemExit) as error:  # an environment's own code may raise anything, and may call sys.exit
        reason = _described(error)
    raise ValueError(f"environment {name!r} cannot be made: {reason}{'' if factory else near(rest, gym.registry)}")


def _several(name: str, n: int, factory: Callable[[], Any] | None) -> list[Any]:
    """Makes n environments. Raises ValueError where what the first 32, 64, 128 and so on take shows that all do not fit."""
    found, before, free, look = list[Any](), resident(), free_memory(CPU), SAMPLE
    for i in range(n):
        if i == look:
            try:
                _fitting(name, n, max(LEAST, (resident() - before) // i), free)
            except ValueError:
                for env in found:
                    env.close()
                raise
            look *= 2  # the first may have found room in memory that was freed before
        found.append(_made(name, factory))
    return found


def _fitting(name: str, n: int, each: int, free: int) -> None:
    if n * each > free:
        raise ValueError(
            f"{n:,} environments {name!r} side by side take about {size(n * each)}, but {size(free)} are free; "
            "give fewer --episodes, --eval-episodes, --envs or --seeds"
        )


def _refuse_statistics(name: str, env: Any) -> None:
    """Raises ValueError for a wrapper whose running statistics would be another's in every environment and lost with it."""
    while isinstance(env, gym.Wrapper):
        if isinstance(env, (gym.wrappers.NormalizeObservation, gym.wrappers.NormalizeReward)):
            raise ValueError(
                f"environment {name!r} wraps itself in {type(env).__name__}, whose running statistics are not saved with the policy: "
                "leave the wrapper out and use normalize (--normalize)"
            )
        env = env.env


def _mujoco_warning(text: str) -> None:
    """MuJoCo would print every remark and leave a MUJOCO_LOG.TXT in the person's folder; only a simulation that breaks is worth a word."""
    if "unstable" in text:
        warnings.warn(f"MuJoCo: {text.splitlines()[0]}", stacklevel=2)


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except (Exception, SystemExit) as error:
        raise BrokenEnvironment(f"environment {name!r} raised {_described(error)}") from error


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
