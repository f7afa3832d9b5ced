"""The public door: shapes, dtypes, devices and values are checked once, where a user calls in.

A function of this package declares its tensors in one line, ``@door(x="*b M d", score="*b M d", eps=">0")``. The letters are
axes: equal letters must have equal sizes, ``*b`` stands for the same leading axes everywhere. A bad argument is a ``ValueError``
that names it, its value and what is allowed. Reading values makes a GPU wait, so a caller that vouches for them (the
training loop) works inside ``with trusted():`` where only shapes, dtypes and devices are looked at.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from wgf.shown import shown

__all__ = ["Misfit", "door", "told", "traced", "trusted", "vouched"]

_trusted: ContextVar[bool] = ContextVar("trusted", default=False)
NUMBERS = {
    ">0": "a positive, finite number",
    ">=0": "a finite number of at least 0",
    ">=1": "a whole number of at least 1",
    "share": "a number above 0 and below 1",
    "real": "a finite number",
    "scale": "a positive, finite number, or a tensor of one a batch entry",
    "length": "a positive, finite number, or a tensor of one a batch entry",
}
RANGES: dict[str, Callable[[float], bool]] = {
    ">0": lambda x: x > 0,
    ">=0": lambda x: x >= 0,
    ">=1": lambda x: x > 0,
    "real": lambda x: True,
    "scale": lambda x: x > 0,
    "length": lambda x: x > 0,
    "share": lambda x: 0 < x < 1,
}
POWERS = {"scale": 1.0, "length": 2.0}  # of a scale, which the tensors' dtype has to hold
MOST = 200  # characters of another's error that is passed on
_F = TypeVar("_F", bound=Callable[..., Any])


@contextmanager
def trusted() -> Iterator[None]:
    """Inside this block the values of tensors are not read, so nothing waits for a device; shapes are still checked."""
    token = _trusted.set(True)
    try:
        yield
    finally:
        _trusted.reset(token)


def vouched() -> bool:
    """Whether this runs inside ``trusted()``."""
    return _trusted.get()


def traced() -> bool:
    """Whether a compiler records what runs: numbers cannot be read then, only computed with."""
    return torch.compiler.is_compiling() or get_proxy_mode() is not None


def door(**rules: str) -> Callable[[_F], _F]:
    """Checks named arguments: a shape such as ``"*b M d"`` (a float tensor), ``"weights *b M"``, or a key of ``NUMBERS``.

    ``"positive *b"`` is a tensor whose entries are above 0, and ``"function"`` what can be called. ``None`` passes where it is the
    argument's default, which the function fills in. A number of numpy becomes one of Python.
    """

    def decorate(function: _F) -> _F:
        signature = inspect.signature(function)
        filled = {name for name, parameter in signature.parameters.items() if parameter.default is None}

        @wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            if traced():
                return function(*args, **kwargs)
            given = signature.bind(*args, **kwargs)
            if plain := {name: value.item() for name, value in given.arguments.items() if isinstance(value, np.generic)}:
                given.arguments.update(plain)
                args, kwargs = given.args, given.kwargs
            _check(rules, {name: value for name, value in given.arguments.items() if value is not None or name not in filled})
            return function(*args, **kwargs)

        return cast(_F, checked)

    return decorate


class Misfit(ValueError):
    """Arguments with which a function of ``told`` could not be computed."""


def told(function: _F) -> _F:
    """A function that looks at nothing before it computes, for use in every step of a training: where it fails, a ValueError of one line
    says what it was given. What a compiler or a transform of ``torch.func`` raises is left as it is, and so is a lack of memory."""
    signature = inspect.signature(function)

    @wraps(function)
    def tried(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (AttributeError, IndexError, OverflowError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, torch.OutOfMemoryError) or traced() or torch._C._are_functorch_transforms_active():
                raise
            given = ", ".join(f"{k} = {shown(v)}" for k, v in signature.bind(*args, **kwargs).arguments.items() if k != "self")
            why = error.__cause__ if isinstance(error, Misfit) else error
            raise Misfit(f"{function.__name__} cannot be computed with {given}: {' '.join(str(why).split())[:MOST]}") from why

    return cast(_F, tried)


def _check(rules: dict[str, str], arguments: dict[str, Any]) -> None:
    axes: dict[str, Any] = {}
    seen: list[str] = []
    like: tuple[str, torch.Tensor] | None = None
    for name, rule in rules.items():
        if name not in arguments:
            continue
        value = arguments[name]
        if rule == "function":
            if not callable(value):
                raise ValueError(f"{name} is {shown(value)}; pass a function")
            continue
        if rule in NUMBERS:
            if rule not in POWERS or not isinstance(value, torch.Tensor):
                _number(name, value, rule)
            if rule in POWERS:
                _scale(name, value, rule, like, axes)
            continue
        like = _tensor(name, value, like)
        _shape(name, value, rule.removeprefix("weights ").removeprefix("positive "), axes, seen)
        seen.append(name)
        if not _trusted.get():
            _values(name, value, rule)


def _tensor(name: str, value: Any, like: tuple[str, torch.Tensor] | None) -> tuple[str, torch.Tensor]:
    if not isinstance(value, torch.Tensor):
        raise ValueError(f"{name} is a {type(value).__name__}; pass a torch tensor")
    if value.layout != torch.strided:
        raise ValueError(f"{name} is a sparse tensor; pass a dense one, {name}.to_dense()")
    if value.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name} has dtype {value.dtype}; float32 and float64 are allowed")
    if like is not None and value.dtype != like[1].dtype:
        raise ValueError(f"{name} has dtype {value.dtype} but {like[0]} has {like[1].dtype}; they must agree")
    if like is not None and value.device != like[1].device:
        raise ValueError(f"{name} is on {value.device} but {like[0]} is on {like[1].device}; they must agree")
    return like or (name, value)


def _shape(name: str, value: torch.Tensor, rule: str, axes: dict[str, Any], seen: list[str]) -> None:
    letters = rule.split()[1:]
    batch = value.shape[: value.ndim - len(letters)]
    sizes = dict(zip(letters, value.shape[value.ndim - len(letters) :], strict=False))
    if value.ndim < len(letters) or any(axes.setdefault(k, n) != n for k, n in {"*b": batch, **sizes}.items()):
        known = ", ".join(f"{k} = {tuple(n) if k == '*b' else n}" for k, n in axes.items()) or "any sizes"
        others = f", as {', '.join(seen)} {'has' if len(seen) == 1 else 'have'} it" if seen else ""
        raise ValueError(f"{name} has shape {tuple(value.shape)}; allowed is ({', '.join(rule.split())}) with {known}{others}")
    if any(n == 0 for n in value.shape):
        raise ValueError(f"{name} has shape {tuple(value.shape)}; every axis needs at least one entry")


def _values(name: str, value: torch.Tensor, rule: str) -> None:
    if value.is_meta:
        raise ValueError(f"{name} is on the device meta, which holds no values; pass a tensor on a CPU or a GPU")
    largest = (
        torch.finfo(value.dtype).max / (16 * (value.shape[-1] if value.ndim else 1))
    ) ** 0.5  # 16 d largest^2, which bounds four costs, is finite
    if not (value.amax() <= largest and value.amin() >= -largest):  # true of nan, too
        bad = int((~value.isfinite()).sum())
        if bad:
            raise ValueError(f"{name} holds {bad} non-finite values of {value.numel()}; all must be finite")
        top = max(value.amax().item(), -value.amin().item())
        raise ValueError(f"{name} holds a value of size {top:g}; squared distances overflow {value.dtype} beyond {largest:g}")
    if rule.startswith("positive") and not (value > 0).all():
        raise ValueError(f"{name} must be above 0 everywhere; its least entry is {value.min().item():g}")
    if rule.startswith("weights") and not ((value >= 0).all() and (value > 0).any(-1).all()):
        raise ValueError(f"{name} must be non-negative weights with a positive sum; its least entry is {value.min().item():g}")


def _number(name: str, value: Any, rule: str) -> None:
    kind = int if rule == ">=1" else (int, float)
    if isinstance(value, bool) or not (isinstance(value, kind) and RANGES[rule](value) and _finite(value)):
        raise ValueError(f"{name} is {shown(value)}; allowed is {NUMBERS[rule]}")


def _finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _scale(name: str, value: Any, rule: str, like: tuple[str, torch.Tensor] | None, axes: dict[str, Any]) -> None:
    assert like is not None  # a scale is declared behind the tensors that it belongs to
    dtype = like[1].dtype
    least, most = (bound ** (1.0 / POWERS[rule]) for bound in (torch.finfo(dtype).tiny, torch.finfo(dtype).max / 2.0))
    if not isinstance(value, torch.Tensor):
        if not least <= value <= most:
            raise ValueError(f"{name} is {value!r}; allowed in {dtype} is a number from {least:.2g} to {most:.2g}")
        return
    if value.ndim or value.is_meta:
        _tensor(name, value, like)
    batch = axes["*b"]
    if value.ndim > len(batch) or any(n not in (1, m) for n, m in zip(value.shape[::-1], batch[::-1], strict=False)):
        raise ValueError(f"{name} has shape {tuple(value.shape)}; allowed is {NUMBERS[rule]}, {tuple(batch)}")
    if not _trusted.get() and not ((value >= least) & (value <= most)).all():
        held = f"{name} holds values from {value.min().item():g} to {value.max().item():g}"
        raise ValueError(f"{held}; allowed is {NUMBERS[rule]}, from {least:.2g} to {most:.2g} in {dtype}")
