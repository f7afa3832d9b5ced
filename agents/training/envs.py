"""Environments, one a seed: any Gymnasium id with Box actions, stepped together. The only file that imports gymnasium.

Actions are (-1, 1)^A to an agent and are rescaled to the environment's bounds here. An episode that ends is reset in the same step:
``next_obs`` is then the episode's own last observation, ``obs`` the first of the next.
"""

import difflib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import mujoco
import numpy as np
import torch
from numpy.typing import NDArray

from agents import tasks
from agents.tasks.fleet import Fleet

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


class Step(NamedTuple):
    """What one step of S environments gave: rows of seeds. ``finite`` is false where the simulator returned inf or nan."""

    obs: Array  # (S, D) to act on next
    next_obs: Array  # (S, D) that the action led to
    reward: Array  # (S,)
    terminated: Mask  # (S,) the task ended: no value beyond
    truncated: Mask  # (S,) a time limit: the value goes on
    finite: Mask  # (S,)


class Envs(Protocol):
    """S environments side by side."""

    obs_size: int
    action_size: int

    def reset(self, seeds: Sequence[int]) -> Array:
        """First observations (S, D), environment s seeded with seeds[s]."""

    def step(self, action: Array) -> Step:
        """Applies actions (S, A) in (-1, 1)."""

    def close(self) -> None:
        """Frees the simulators."""


class BrokenEnvironment(Exception):
    """An environment raised an error while it ran; the text is one line, the error itself is the cause."""


def make(name: str, n: int, backend: str = "gymnasium") -> Envs:
    """``n`` environments by their Gymnasium id. Raises ValueError for an unknown id, a missing package or a space that is not a Box."""
    if name in tasks.IDS:
        return Native(name)
    return EnvPool(name, n) if backend == "envpool" else Gymnasium(name, n)


def sizes(name: str, backend: str = "gymnasium") -> tuple[int, int]:
    """Numbers in an observation and in an action of one environment. Raises as ``make`` does."""
    one = make(name, 1, backend)
    one.close()
    return one.obs_size, one.action_size


class Gymnasium:
    """Gymnasium environments stepped one after another in this process."""

    def __init__(self, name: str, n: int) -> None:
        self.name = name
        self.envs = [_made(name, lambda: gym.make(name)) for _ in range(n)]
        spec, obs, action = self.envs[0].spec, self.envs[0].observation_space, self.envs[0].action_space
        if spec.id != name.rpartition(":")[2]:
            raise ValueError(f"environment {name!r} has no version; did you mean {spec.id!r}?")
        self.obs_size, self.action_size = _sizes(name, obs, action)
        self._scale = Scale(action)

    def reset(self, seeds: Sequence[int]) -> Array:
        """First observations (S, D); environment s is seeded with seeds[s] and keeps its own stream from then on."""
        with _named(self.name):
            return _cast(np.stack([env.reset(seed=int(s))[0] for env, s in zip(self.envs, seeds, strict=True)]))

    def step(self, action: Array) -> Step:
        """Applies actions (S, A) in (-1, 1)."""
        with _named(self.name):
            steps = [env.step(a) for env, a in zip(self.envs, self._scale(action), strict=True)]
            after, reward, terminated, truncated, _ = zip(*steps, strict=True)
            first = [env.reset()[0] if t or u else o for env, o, t, u in zip(self.envs, after, terminated, truncated, strict=True)]
            return _step(np.stack(first), np.stack(after), reward, terminated, truncated)

    def close(self) -> None:
        """Frees the simulators."""
        for env in self.envs:
            env.close()


class Native:
    """Tasks of the project's own, all in one tensor computation; their starts are drawn from torch's generators."""

    def __init__(self, name: str) -> None:
        self._fleet = Fleet(tasks.IDS[name], 1, torch.device("cpu"))
        self.obs_size, self.action_size = self._fleet.obs_size, self._fleet.action_size

    def reset(self, seeds: Sequence[int]) -> Array:
        """First observations (S, D); environment s is seeded with seeds[s] and keeps its own stream from then on."""
        return self._fleet.reset(seeds)[:, 0].numpy()

    def step(self, action: Array) -> Step:
        """Applies actions (S, A) in (-1, 1)."""
        outcome = self._fleet.step(torch.from_numpy(action)[:, None])
        return _step(*(part[:, 0].numpy() for part in outcome))

    def close(self) -> None:
        """Nothing to free."""


class EnvPool:
    """EnvPool's C++ environments (its own MuJoCo inside): faster steps, other random streams than Gymnasium's."""

    def __init__(self, name: str, n: int) -> None:
        self.name, self.n = name, n
        with _quiet():
            spec = self._spec(name)
            obs, action = spec.observation_space, spec.action_space
        self.obs_size, self.action_size = _sizes(name, obs, action)
        self._scale = Scale(action)
        self._envs: Any = None

    @staticmethod
    def _spec(name: str) -> Any:
        try:
            import envpool
        except ImportError:
            raise ValueError("backend 'envpool' needs the package envpool: pip install envpool, or use --backend gymnasium") from None
        known = envpool.list_all_envs()
        if name not in known:
            raise ValueError(f"environment {name!r} is not one of EnvPool's{_near(name, known)}; or use --backend gymnasium")
        return envpool.make_spec(name)

    def reset(self, seeds: Sequence[int]) -> Array:
        """First observations (S, D); environment s is seeded with seeds[s]. EnvPool seeds at birth only: the environments are new."""
        import envpool

        with _quiet():
            self._envs = envpool.make(self.name, env_type="gymnasium", num_envs=self.n, seed=[int(s) for s in seeds])
            return _cast(self._envs.reset()[0])

    def step(self, action: Array) -> Step:
        """Applies actions (S, A) in (-1, 1). EnvPool would reset one step late: ended environments are reset here at once."""
        next_obs, reward, terminated, truncated, _ = self._envs.step(self._scale(action))
        obs, ended = next_obs, np.flatnonzero(terminated | truncated).astype(np.int32)
        if len(ended):
            first, info = self._envs.reset(ended)
            obs = next_obs.copy()
            obs[info["env_id"]] = first
        return _step(obs, next_obs, reward, terminated, truncated)

    def close(self) -> None:
        """Frees the simulators."""
        self._envs = None


class Film:
    """One environment that renders, seeded; ``frame()`` is an RGB array, ``step`` takes an action in (-1, 1)^A."""

    def __init__(self, name: str, seed: int) -> None:
        self._env = _made(name, lambda: gym.make(name, render_mode="rgb_array"))
        self.fps = int(self._env.metadata.get("render_fps", 30))
        self._scale = Scale(self._env.action_space)
        self.obs = _cast(self._env.reset(seed=seed)[0])
        self.frame()  # fails here where nothing can be drawn

    def frame(self) -> Any:
        """The picture now, (height, width, 3)."""
        return np.asarray(self._env.render())

    def step(self, action: Array) -> tuple[Array, float, bool]:
        """The next observation, the reward, and whether the episode goes on."""
        obs, reward, terminated, truncated, _ = self._env.step(self._scale(action))
        return _cast(obs), float(reward), not (terminated or truncated)

    def close(self) -> None:
        """Frees the renderer."""
        self._env.close()


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
        with _quiet():
            return make()
    except (gym.error.Error, ImportError) as error:
        reason = " ".join(str(error).split("Did you mean")[0].split()).rstrip(".")
    except Exception as error:  # an environment's own code may raise anything
        reason = _described(error)
    raise ValueError(f"environment {name!r} cannot be made: {reason}{_near(rest, gym.registry)}")


def _mujoco_warning(text: str) -> None:
    """MuJoCo would print every remark and leave a MUJOCO_LOG.TXT in the person's folder; only a simulation that breaks is worth a word."""
    if "unstable" in text:
        warnings.warn(f"MuJoCo: {text.splitlines()[0]}", stacklevel=2)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise BrokenEnvironment(f"environment {name!r} raised {_described(error)}") from error


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _near(name: str, known: Sequence[str] | dict[str, Any]) -> str:
    """ "; did you mean ...?", where a name that is known differs by little: the same task's latest version before others."""
    task = name.rpartition("-v")[0] or name
    versions = sorted((k for k in known if k.rpartition("-v")[0].lower() == task.lower()), key=lambda k: (len(k), k))
    near = versions[-1:] or difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f"; did you mean {near[0]!r}?" if near and near[0] != name else ""


def _cast(obs: Any) -> Array:
    with np.errstate(over="ignore"):  # beyond float32 it is inf, and ``finite`` says so
        return np.asarray(obs).astype(np.float32)


class Scale:
    """Actions in (-1, 1) to the bounds of a Box, in its type."""

    def __init__(self, space: Any) -> None:
        self.middle, self.half = 0.5 * (space.high + space.low), 0.5 * (space.high - space.low)

    def __call__(self, action: Array) -> Any:
        """(..., A) -> (..., A); beyond (-1, 1) is cut."""
        return self.middle + self.half * np.clip(action, -1.0, 1.0, dtype=self.half.dtype)


def _step(obs: Any, next_obs: Any, reward: Any, terminated: Any, truncated: Any) -> Step:
    obs, next_obs, reward = _cast(obs), _cast(next_obs), _cast(reward)
    finite = np.isfinite(next_obs).all(-1) & np.isfinite(obs).all(-1) & np.isfinite(reward)
    return Step(obs, next_obs, reward, np.asarray(terminated, bool), np.asarray(truncated, bool), finite)


def _sizes(name: str, obs: Any, action: Any) -> tuple[int, int]:
    if not isinstance(action, gym.spaces.Box):
        raise ValueError(f"environment {name!r} has {_space(action)} actions; agents here need Box actions: choose a continuous task")
    if len(action.shape) != 1 or action.dtype.kind != "f":
        raise ValueError(f"environment {name!r} has {_space(action)} actions; agents here need a Box of one axis of real numbers")
    if not (np.isfinite(action.low).all() and np.isfinite(action.high).all()):
        raise ValueError(f"environment {name!r} has unbounded actions; wrap it in gymnasium.wrappers.RescaleAction, or give it bounds")
    if not (isinstance(obs, gym.spaces.Box) and len(obs.shape) == 1):
        raise ValueError(
            f"environment {name!r} has {_space(obs)} observations; agents here need a Box of one axis: "
            "wrap it in gymnasium.wrappers.FlattenObservation"
        )
    return obs.shape[0], action.shape[0]


def _space(space: Any) -> str:
    kind = type(space).__name__
    return f"{kind}({space.n})" if hasattr(space, "n") else f"{kind}{space.shape}" if space.shape else kind
