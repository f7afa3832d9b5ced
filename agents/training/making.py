"""Makes environments by their names or by a program's function, n at once, or one that renders; and counts what MuJoCo complains about."""

import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from wgf.agents import tasks
from wgf.agents.training.spaces import near, quiet, raised
from wgf.limits import free_memory, resident, size
from wgf.shown import shown

try:
    import mujoco
except RuntimeError as error:  # it takes no other word in MUJOCO_GL
    raise ValueError(f"mujoco cannot be imported: {error}; unset MUJOCO_GL") from None

__all__ = ["CPU", "LEAST", "Film", "closed", "fitting", "made", "refuse_statistics", "reward_threshold", "several", "unstable"]
CPU = torch.device("cpu")
SAMPLE, LEAST = 32, 2**10  # environments that show what one takes; bytes that it takes at least
_unstable = [0]  # simulations that MuJoCo said had broken


def made(name: str, factory: Callable[[], Any] | None, **options: Any) -> Any:
    """Makes an environment by its id or a factory, without Gymnasium's and MuJoCo's remarks. Raises ValueError where it cannot."""
    module, _, rest = name.rpartition(":")
    if module and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # "my_tasks:Maze-v0" may lie where the person is
    mujoco.set_mju_user_warning(_mujoco_warning)
    try:
        with quiet():
            if owner := tasks.OWNERS.get(rest.partition("/")[0]):
                import_module(owner)  # registers them
            found = factory() if factory else gym.make(name, **options)
        if hasattr(found, "observation_space") and hasattr(found, "action_space"):
            return found
        reason = f"{shown(found)} has no spaces, as environments of Gymnasium have"
    except ModuleNotFoundError as error:
        if error.name in tasks.EXTRAS:
            extra = tasks.EXTRAS[error.name]
            raise ValueError(f"environment {name!r} needs the extra {extra}: pip install 'wgflow[{extra}]'") from None
        reason = str(error)
    except (gym.error.Error, ImportError) as error:
        reason = " ".join(str(error).split("Did you mean")[0].split()).rstrip(".")
    except (Exception, SystemExit) as error:  # an environment's own code may raise anything, and may call sys.exit
        reason = raised(error)
    raise ValueError(f"environment {name!r} cannot be made: {reason}{'' if factory else near(rest, gym.registry)}")


def several(name: str, n: int, factory: Callable[[], Any] | None) -> list[Any]:
    """Makes n environments. Raises ValueError where what the first 32, 64, 128 and so on take shows that all do not fit."""
    found, before, free, look = list[Any](), resident(), free_memory(CPU), SAMPLE
    for i in range(n):
        if i == look:
            try:
                fitting(name, n, max(LEAST, (resident() - before) // i), free)
            except ValueError:
                for env in found:
                    closed(name, env)
                raise
            look *= 2  # the first may have found room in memory that was freed before
        found.append(made(name, factory))
    return found


def closed(name: str, env: Any) -> None:
    """Closes an environment; what it raises then is a RuntimeWarning."""
    try:
        env.close()
    except (Exception, SystemExit) as error:
        warnings.warn(f"environment {name!r} raised {raised(error)} as it was closed", RuntimeWarning, stacklevel=3)


def fitting(name: str, n: int, each: int, free: int) -> None:
    """Raises ValueError where n environments of so many bytes do not fit into what is free."""
    if n * each > free:
        raise ValueError(
            f"{n:,} environments {name!r} side by side take about {size(n * each)}, but {size(free)} are free; "
            "give fewer --episodes, --eval-episodes, --envs or --seeds"
        )


def refuse_statistics(name: str, env: Any) -> None:
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
        _unstable[0] += 1
        warnings.warn(f"MuJoCo: {text.splitlines()[0]}", stacklevel=2)


def unstable(more: int = 0) -> int:
    """Returns how often MuJoCo said that a simulation had broken, since the process began; it begins such an episode anew by itself.

    ``more`` are counted with it, which were in other processes.
    """
    _unstable[0] += more
    return _unstable[0]


class Film:
    """One environment that renders, seeded; ``frame()`` is an RGB array, observations and actions are the environment's own.

    ``size``: width and height of the pictures, where the environment draws in any; others draw in their own.
    """

    def __init__(self, name: str, seed: int, size: tuple[int, int] | None = None) -> None:
        self._env = _drawing(name, size)
        self.horizon: int | None = self._env.spec.max_episode_steps if self._env.spec else None
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


def _drawing(name: str, size: tuple[int, int] | None) -> Any:
    if size:
        with suppress(ValueError):  # it knows neither
            return made(name, None, render_mode="rgb_array", width=size[0], height=size[1])
    return made(name, None, render_mode="rgb_array")


def reward_threshold(name: str) -> float | None:
    """Returns the return at which Gymnasium calls the task solved; None where it does not say, or does not know the task."""
    try:
        threshold: float | None = gym.spec(name).reward_threshold
    except (gym.error.Error, ImportError):
        return None
    return threshold
