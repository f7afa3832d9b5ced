"""Environments, one a seed: any Gymnasium id with Box actions, stepped together. The only file that imports gymnasium.

Actions are (-1, 1)^A to an agent and are rescaled to the environment's bounds here. An episode that ends is reset in the same step
(SAME_STEP, asked for explicitly); ``next_obs`` is then the episode's own last observation, ``obs`` the first of the next.
"""

import difflib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

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

    def reset(self, seeds: Sequence[int]) -> Array: ...
    def step(self, action: Array) -> Step: ...
    def close(self) -> None: ...


def make(name: str, n: int, backend: str = "gymnasium") -> Envs:
    """``n`` environments by their Gymnasium id. Raises ValueError for an unknown id, a missing package or a space that is not a Box."""
    return EnvPool(name, n) if backend == "envpool" else Gymnasium(name, n)


class Gymnasium:
    """Gymnasium's vector environment in this process."""

    def __init__(self, name: str, n: int) -> None:
        try:
            self.envs = gym.make_vec(name, n, vectorization_mode="sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP})
        except gym.error.Error as error:
            raise ValueError(_unknown(name, error)) from None
        if self.envs.metadata.get("autoreset_mode") != AutoresetMode.SAME_STEP:
            raise ValueError(f"environment {name!r} does not offer autoreset in the same step; use one made by gymnasium.make")
        self.obs_size, self.action_size = _sizes(name, self.envs.single_observation_space, self.envs.single_action_space)
        self._low, self._high = self.envs.single_action_space.low, self.envs.single_action_space.high

    def reset(self, seeds: Sequence[int]) -> Array:
        """First observations (S, D); environment s is seeded with seeds[s] and keeps its own stream from then on."""
        return _cast(self.envs.reset(seed=[int(s) for s in seeds])[0])

    def step(self, action: Array) -> Step:
        """Applies actions (S, A) in (-1, 1)."""
        obs, reward, terminated, truncated, info = self.envs.step(_rescaled(action, self._low, self._high))
        next_obs = obs
        if "final_obs" in info:
            next_obs = obs.copy()
            ended = info["_final_obs"]
            next_obs[ended] = np.stack(info["final_obs"][ended])
        return _step(obs, next_obs, reward, terminated, truncated)

    def close(self) -> None:
        """Frees the simulators."""
        self.envs.close()


class EnvPool:
    """EnvPool's C++ environments (its own MuJoCo inside): faster steps, other random streams than Gymnasium's."""

    def __init__(self, name: str, n: int) -> None:
        self.name, self.n = name, n
        self.obs_size, self.action_size = _sizes(name, *self._spaces(name))
        self._envs: Any = None

    def _spaces(self, name: str) -> tuple[Any, Any]:
        try:
            import envpool
        except ImportError:
            raise ValueError("backend 'envpool' needs the package envpool: pip install 'wgf[envpool]'") from None
        if name not in envpool.list_all_envs():
            raise ValueError(f"environment {name!r} is not one of EnvPool's; use --backend gymnasium")
        spec = envpool.make_spec(name)
        self._low, self._high = spec.action_space.low, spec.action_space.high
        return spec.observation_space, spec.action_space

    def reset(self, seeds: Sequence[int]) -> Array:
        """First observations (S, D); environment s is seeded with seeds[s]."""
        import envpool

        self._envs = envpool.make(self.name, env_type="gymnasium", num_envs=self.n, seed=[int(s) for s in seeds])
        return _cast(self._envs.reset()[0])

    def step(self, action: Array) -> Step:
        """Applies actions (S, A) in (-1, 1). EnvPool would reset one step late: ended environments are reset here at once."""
        next_obs, reward, terminated, truncated, _ = self._envs.step(_rescaled(action, self._low, self._high).astype(np.float64))
        obs, ended = next_obs, np.flatnonzero(terminated | truncated).astype(np.int32)
        if len(ended):
            obs = next_obs.copy()
            obs[ended] = self._envs.reset(ended)[0]
        return _step(obs, next_obs, reward, terminated, truncated)

    def close(self) -> None:
        """Frees the simulators."""
        self._envs = None


class Film:
    """One environment that renders, seeded; ``frame()`` is an RGB array, ``step`` takes an action in (-1, 1)^A."""

    def __init__(self, name: str, seed: int) -> None:
        self._env = gym.make(name, render_mode="rgb_array")
        self.fps = int(self._env.metadata.get("render_fps", 30))
        self.obs = _cast(self._env.reset(seed=seed)[0])
        self._env.render()  # fails here where nothing can be drawn

    def frame(self) -> Any:
        """The picture now, (height, width, 3)."""
        return self._env.render()

    def step(self, action: Array) -> tuple[Array, bool]:
        """The next observation, and whether the episode goes on."""
        space: Any = self._env.action_space
        obs, _, terminated, truncated, _ = self._env.step(_rescaled(action, space.low, space.high))
        return _cast(obs), not (terminated or truncated)

    def close(self) -> None:
        """Frees the renderer."""
        self._env.close()


def reward_threshold(name: str) -> float | None:
    """The return at which Gymnasium calls the task solved, where it says so."""
    return gym.spec(name).reward_threshold


def _cast(obs: Any) -> Array:
    return np.asarray(obs, dtype=np.float32)


def _rescaled(action: Array, low: Any, high: Any) -> Any:
    return low + 0.5 * (np.clip(action, -1.0, 1.0) + 1.0) * (high - low)


def _step(obs: Any, next_obs: Any, reward: Any, terminated: Any, truncated: Any) -> Step:
    obs, next_obs, reward = _cast(obs), _cast(next_obs), _cast(reward)
    finite = np.isfinite(next_obs).all(-1) & np.isfinite(obs).all(-1) & np.isfinite(reward)
    return Step(obs, next_obs, reward, np.asarray(terminated, bool), np.asarray(truncated, bool), finite)


def _sizes(name: str, obs: Any, action: Any) -> tuple[int, int]:
    if not (
        isinstance(action, gym.spaces.Box) and len(action.shape) == 1 and np.isfinite(action.low).all() and np.isfinite(action.high).all()
    ):
        raise ValueError(
            f"environment {name!r} has action space {action}; agents here need a bounded one-dimensional Box: use a continuous task"
        )
    if not (isinstance(obs, gym.spaces.Box) and len(obs.shape) == 1):
        raise ValueError(f"environment {name!r} has observation space {obs}; agents here need a one-dimensional Box")
    return obs.shape[0], action.shape[0]


def _unknown(name: str, error: Exception) -> str:
    near = difflib.get_close_matches(name, gym.registry, n=1)
    hint = f"; did you mean {near[0]!r}?" if near and near[0] != name else ""
    return f"environment {name!r} cannot be made: {str(error).splitlines()[0]}{hint}"
