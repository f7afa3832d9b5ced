"""What values a setting of an agent may take, by its name: agents that share a setting share its range."""

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from numbers import Integral
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from wgf.shown import shown as line

__all__ = ["LARGEST", "RANGES", "Range", "check", "choices", "chosen", "counted", "flag", "function", "placed", "shown", "whole"]


class Range(NamedTuple):
    """A test of a value, and the words for it."""

    holds: Callable[[Any], bool]
    words: str


POSITIVE = Range(lambda x: 0.0 < x < math.inf, "above 0")
COUNT = Range(lambda x: x >= 1, "at least 1")
UNITS = Range(
    lambda sizes: len(sizes) <= 100 and all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in sizes),
    "at most 100 layers of at least 1 unit",
)
AT_LEAST_ZERO = Range(lambda x: 0.0 <= x < math.inf, "at least 0")
LARGEST = 10**18  # of a whole number: tensors count no further
KINDS: dict[Any, Any] = {int: int, float: (int, float), str: str, bool: bool, NoneType: NoneType}
WORDS = {int: "a whole number", float: "a number", str: "a word", bool: "True or False", NoneType: "nothing"}
RANGES = {
    "hidden": UNITS,
    "critic_hidden": UNITS,
    "policy_hidden": UNITS,
    "expansion": COUNT,
    "atoms": COUNT,
    "bound": POSITIVE,
    "policy_delay": COUNT,
    "held": COUNT,
    "alpha0": POSITIVE,
    "entropy_std": AT_LEAST_ZERO,
    "activation": Range(lambda name: name in ("tanh", "relu"), "tanh or relu"),
    "batch": COUNT,
    "particles": COUNT,
    "value_particles": COUNT,
    "components": COUNT,
    "members": COUNT,
    "samples": COUNT,
    "fisher": COUNT,
    "basis": COUNT,
    "renew": COUNT,
    "draws": COUNT,
    "critic_weight": POSITIVE,
    "penalty": AT_LEAST_ZERO,
    "cg_steps": COUNT,
    "n_step": COUNT,
    "copy_every": COUNT,
    "pairs": COUNT,
    "rank": AT_LEAST_ZERO,
    "earlier": COUNT,
    "neighbours": COUNT,
    "centres": COUNT,
    "features": COUNT,
    "length": POSITIVE,
    "taught": COUNT,
    "noise_std": POSITIVE,
    "smoothing": POSITIVE,
    "clip_norm": AT_LEAST_ZERO,
    "guide_weight": Range(lambda x: 0.0 <= x <= 1.0, "from 0 to 1"),
    "delta": Range(lambda x: -math.inf < x <= 1.0, "at most 1"),
    "envs": COUNT,
    "horizon": COUNT,
    "epochs": COUNT,
    "critic_steps": COUNT,
    "inner_steps": COUNT,
    "lr": POSITIVE,
    "lr_fall": Range(lambda x: x >= 0, "at least 0"),
    "critic_lr": POSITIVE,
    "dual_lr": POSITIVE,
    "std0": POSITIVE,
    "start_std": Range(lambda x: x == 0.0 or 1e-4 <= x <= 7.0, "0, or from 1e-4 to 7"),
    "kl_mean": POSITIVE,
    "kl_std": POSITIVE,
    "bound_mean": POSITIVE,
    "bound_std": POSITIVE,
    "damping": POSITIVE,
    "clip": POSITIVE,
    "target_kl": POSITIVE,
    "tries": COUNT,
    "shrink": Range(lambda x: 0.0 < x < 1.0, "above 0, below 1"),
    "max_norm": POSITIVE,
    "alpha": POSITIVE,
    "reward_scale": POSITIVE,
    "gamma": Range(lambda x: 0.0 <= x <= 1.0, "from 0 to 1"),
    "lam": Range(lambda x: 0.0 <= x <= 1.0, "from 0 to 1"),
    "prior": AT_LEAST_ZERO,
    "weight_noise": AT_LEAST_ZERO,
    "exploration": AT_LEAST_ZERO,
    "anneal": Range(lambda x: x >= 0, "at least 0"),
    "tau": Range(lambda x: 0.0 < x <= 1.0, "above 0, at most 1"),
    "w2_scale": AT_LEAST_ZERO,
    "w2_radius": AT_LEAST_ZERO,
    "entropy": AT_LEAST_ZERO,
    "sharpness": AT_LEAST_ZERO,
    "regularization": AT_LEAST_ZERO,
}


def chosen(owners: Mapping[str, Any], name: str, value: Any) -> Any:
    """Returns the value of a setting by the type of its field: a list as a tuple, a number of numpy or torch as Python's.

    ``owners`` are the dataclass objects by their fields.

    **Raises** ValueError for a field that is not there, with the nearest one, and for a value of another type.
    """
    if name not in owners:
        near = difflib.get_close_matches(name, owners, n=1)
        raise ValueError(
            f"setting {line(name)} is unknown" + (f"; did you mean {near[0]!r}?" if near else f"; choose from {', '.join(owners)}")
        )
    value, kind = tuple(map(_plain, value)) if type(value) in (list, tuple) else _plain(value), get_type_hints(type(owners[name]))[name]
    if not _fits(value, kind):
        said = "choose from" if get_origin(kind) is Literal else "it must be"
        raise ValueError(f"{name} is {line(value)}; {said} {_words(kind)}")
    if any(isinstance(n, int) and abs(n) >= LARGEST for n in (value if isinstance(value, tuple) else (value,))):
        raise ValueError(f"{name} is {line(value)}; it must be {_words(kind)} of at most 18 digits")
    return value


def _plain(value: Any) -> Any:
    return value.item() if getattr(value, "shape", None) == () else value


def _fits(value: Any, kind: Any) -> bool:
    """Says whether a value is of a field's type; of a type that no setting of wgf has, any is."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return any(type(value) is type(part) and value == part for part in parts)
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(part, parts[0]) for part in value)
    if parts:
        return any(_fits(value, part) for part in parts)
    return isinstance(value, KINDS.get(kind, object)) and (kind is bool or kind not in KINDS or not isinstance(value, bool))


def _words(kind: Any) -> str:
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return ", ".join(map(repr, parts))
    if get_origin(kind) is tuple:
        return f"a list, each {_words(parts[0])}"
    return " or ".join(map(_words, parts)) if parts else WORDS[kind]


def choices(*kinds: Any) -> dict[str, list[Any]]:
    """Returns the values that a field may take, of every field of some dataclasses that says so: a Literal's, or False and True.

    Where several have a field of one name, the values of all.
    """
    found: dict[str, list[Any]] = {}
    for kind in kinds:
        hints = get_type_hints(kind)
        for name in (field.name for field in fields(kind)):
            values = (False, True) if hints[name] is bool else get_args(hints[name]) if get_origin(hints[name]) is Literal else ()
            if values:
                found[name] = list(dict.fromkeys([*found.get(name, []), *values]))
    return found


def whole(value: Any) -> bool:
    """Says whether a value is a whole number, of Python or of numpy."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def counted(name: str, value: Any) -> None:
    """Raises ValueError, naming the argument, for what is no whole number, or one beyond what tensors count."""
    if not whole(value) or abs(value) >= LARGEST:
        raise ValueError(f"{name} is {line(value)}; it must be a whole number of at most 18 digits")


def placed(**places: tuple[Any, int]) -> None:
    """Raises ValueError, naming the argument, for a place in a stack that is not from 0 to its length - 1."""
    for name, (value, length) in places.items():
        if not whole(value) or not 0 <= value < length:
            raise ValueError(f"{name} is {line(value)}; it must be from 0 to {length - 1}, a place in the stack")


def flag(name: str, value: Any) -> None:
    """Raises ValueError, naming the argument, for what is neither True nor False."""
    if not isinstance(_plain(value), bool):
        raise ValueError(f"{name} is {line(value)}; choose from True, False")


def function(name: str, value: Any) -> None:
    """Raises ValueError, naming the argument, for what cannot be called."""
    if not callable(value):
        raise ValueError(f"{name} is {line(value)}; it must be a function")


def shown(value: Any) -> str:
    """Writes a setting for a person, as a command line takes it; of many numbers, how many there are."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) if len(value) <= 10 else f"{','.join(map(str, value[:3]))},... ({len(value):,} numbers)"
    return str(value)


def check(cfg: Any) -> None:
    """Raises ValueError, naming the setting and its range, where one is outside."""
    for field in fields(cfg):
        value = getattr(cfg, field.name)
        allowed = RANGES.get(field.name)
        if allowed and not allowed.holds(value):
            raise ValueError(f"{field.name} is {shown(value)}; it must be {allowed.words}")
