"""What every simulator shares: spaces as plain vectors, a step as rows of environments, silence, and the nearest name."""

import difflib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
UNBOUNDED = 1e9  # a bound beyond this says that there is none


class Step(NamedTuple):
    """What one step of N environments gave, one row per environment."""

    obs: Array  # (N, D) to act on next
    next_obs: Array  # (N, D) that the action led to
    reward: Array  # (N,)
    terminated: Mask  # (N,) the task ended: no value beyond
    truncated: Mask  # (N,) a time limit: the value goes on


def stepped(obs: Any, next_obs: Any, reward: Any, terminated: Any, truncated: Any) -> Step:
    """Returns a ``Step`` of what a simulator returned, in any type."""
    return Step(cast(obs), cast(next_obs), cast(reward), np.asarray(terminated, bool), np.asarray(truncated, bool))


def cast(obs: Any) -> Array:
    """Converts to float32; a number beyond its range becomes inf."""
    with np.errstate(over="ignore"):
        return np.asarray(obs).astype(np.float32)


class Scale:
    """Actions in (-1, 1) to the bounds of a Box, in its type."""

    def __init__(self, space: Any) -> None:
        self.middle, self.half = 0.5 * (space.high + space.low), 0.5 * (space.high - space.low)

    def __call__(self, action: Array) -> Any:
        """Rescales (..., A) -> (..., A); what is beyond (-1, 1) is cut."""
        return self.middle + self.half * np.clip(action, -1.0, 1.0, dtype=self.half.dtype)


def vector(space: Any, obs: Any) -> Any:
    """Returns an observation, or a batch of them, with one axis of numbers: the parts of a Dict one after another, in the space's order."""
    if not isinstance(space, gym.spaces.Dict):
        return obs
    parts = [(np.asarray(obs[name]), part.shape) for name, part in space.items()]
    return np.concatenate([np.reshape(x, (*x.shape[: x.ndim - len(shape)], -1)) for x, shape in parts], -1)


def rows(space: Any, obs: Any, size: int) -> Array:
    """Returns an observation (size,), or n of them (n, size), as numbers. Raises ValueError, in one line, for anything else."""
    try:
        found = np.asarray(vector(space, obs), np.float32)
    except (KeyError, IndexError):
        raise ValueError(f"obs must be a dict of {', '.join(space)}, as the environment gives it") from None
    except TypeError:
        raise ValueError(f"obs is a {type(obs).__name__}; it must be numbers, as the environment gives them") from None
    if found.ndim not in (1, 2) or found.shape[-1] != size:
        raise ValueError(f"obs has shape {found.shape}; it must be ({size},) or (n, {size})")
    return found


def sizes(name: str, obs: Any, action: Any) -> tuple[int, int]:
    """Returns how many numbers an observation and an action have. Raises ValueError for spaces that agents here cannot use."""
    if not isinstance(action, gym.spaces.Box):
        raise ValueError(f"environment {name!r} has {_kind(action)} actions; agents here need Box actions: choose a continuous task")
    if len(action.shape) != 1 or action.dtype.kind != "f":
        raise ValueError(f"environment {name!r} has {_kind(action)} actions; agents here need a Box of one axis of real numbers")
    if not (np.abs([action.low, action.high]) < UNBOUNDED).all():
        raise ValueError(f"environment {name!r} has unbounded actions; wrap it in gymnasium.wrappers.RescaleAction, or give it bounds")
    parts = obs.values() if isinstance(obs, gym.spaces.Dict) else [obs]
    for part in parts:
        if not isinstance(part, gym.spaces.Box) or len(part.shape) > 1 or (part is obs and not part.shape):
            raise ValueError(
                f"environment {name!r} has {_kind(part)} observations; agents here need a Box of one axis, or a Dict of them: "
                "wrap it in gymnasium.wrappers.FlattenObservation"
            )
    return sum(int(np.prod(part.shape)) for part in parts), action.shape[0]


def _kind(space: Any) -> str:
    kind = type(space).__name__
    return f"{kind}({space.n})" if hasattr(space, "n") else f"{kind}{space.shape}" if space.shape else kind


@contextmanager
def quiet() -> Iterator[None]:
    """Within, no remark of a simulator reaches the person."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def near(name: str, known: Sequence[str] | dict[str, Any]) -> str:
    """Returns "; did you mean ...?", where a name that is known differs by little: the same task's latest version before others."""
    task = name.rpartition("-v")[0] or name
    versions = sorted((k for k in known if k.rpartition("-v")[0].lower() == task.lower()), key=lambda k: (len(k), k))
    found = versions[-1:] or difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f"; did you mean {found[0]!r}?" if found and found[0] != name else ""
