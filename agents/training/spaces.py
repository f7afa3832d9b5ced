"""What every simulator shares: spaces as plain vectors, what an environment may answer, a step as rows, silence, and the nearest name."""

import difflib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Array", "BrokenEnvironment", "Mask", "Misfit", "Scale", "Step", "answered", "cast", "flag", "near", "number", "numbers", "quiet",
    "raised", "rows", "sizes", "stepped", "vector",
]  # fmt: skip

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
NUMBERS = "fiub"  # kinds of types of numpy that are real numbers
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


class BrokenEnvironment(Exception):
    """An environment raised an error, or answered what it may not; the text is one line, the error itself is the cause."""


class Misfit(Exception):
    """What an environment returned, and what it must be."""


def answered(answer: Any, call: str, *parts: str) -> Any:
    """Returns what a call gave. Raises Misfit unless it has so many parts."""
    if not isinstance(answer, (tuple, list)) or len(answer) != len(parts):
        raise Misfit(f"{_told(answer)} from {call}(); it must be ({', '.join(parts)})")
    return answer


def numbers(space: Any, size: int, obs: Any) -> NDArray[Any]:
    """Returns an observation as a vector of ``size`` numbers. Raises Misfit for one of another shape, or of no numbers."""
    try:
        found = np.asarray(vector(space, obs))
    except (IndexError, KeyError, TypeError, ValueError):
        found = np.asarray(None)
    if found.shape != (size,) or found.dtype.kind not in NUMBERS:
        parts = f"a dict of {', '.join(space)} with {size} numbers" if isinstance(space, gym.spaces.Dict) else f"numbers of shape ({size},)"
        raise Misfit(f"{_told(obs)} as an observation; it must be {parts}, as its observation_space says")
    return found


def number(reward: Any) -> Any:
    """Returns a reward. Raises Misfit unless it is one number."""
    if not isinstance(reward, (float, int, np.number)) and (np.shape(reward) or np.asarray(reward).dtype.kind not in NUMBERS):
        raise Misfit(f"{_told(reward)} as a reward; it must be a number")
    return reward


def flag(value: Any, name: str) -> bool:
    """Returns whether an episode ended. Raises Misfit unless it is True or False."""
    if not isinstance(value, (bool, np.bool_)) and (np.shape(value) or np.asarray(value).dtype.kind != "b"):
        raise Misfit(f"{_told(value)} as {name}; it must be True or False")
    return bool(value)


def _told(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    if isinstance(value, (tuple, list, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value) if value is None or np.isscalar(value) else f"a {type(value).__name__}"


def raised(error: BaseException) -> str:
    """Returns an error's kind and text in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


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
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last from torch, for a tensor that asks for its gradient
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
