"""The one switch of compiling: an agent's update as machine code, whole, or piece by piece where it has many equal steps."""

from collections.abc import Callable
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import is_dataclass
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from wgf.agents.training.checkpoint import tensors
from wgf.agents.training.descent import Adam
from wgf.agents.training.protocol import AnyAgent, Info
from wgf.compiler import available, machine_code

__all__ = ["COST", "Recorder", "Update", "held", "pays", "piece", "saving", "update"]

COST = 40.0  # seconds of one core that compiling an update takes, 20 to 60
# Seconds that an update takes less as machine code, and for each unit of its ``work``: tests/bench/updates.py
SAVED, SAVED_EACH = 1.2e-3, 8e-11
SAVED_TICK = 2e-4  # and a step of one of the project's own tasks: tests/bench/tasks.py
Update = Callable[[Any, Any], Info]  # minibatch or segment, and noise; changes the state
_F = TypeVar("_F", bound=Callable[..., Any])


def saving(updates: int, work: int) -> float:
    """Seconds of one core that so many updates of such a size take less as machine code, before what compiling costs."""
    return max(0, updates) * (SAVED + SAVED_EACH * work)


def pays(updates: int, work: int, device: torch.device, ticks: int = 0) -> bool:
    """Says whether compiling is worth it: on a CPU with a C++ compiler, where it saves more than twice what it costs.

    ``ticks``: steps of one of the project's own tasks, many copies at once. By the numbers of a training alone, so that the same training
    is compiled or not, whenever it is run.
    """
    return device.type == "cpu" and saving(updates, work) + SAVED_TICK * ticks > 2.0 * COST and available()


class Recorder:
    """Runs functions of tensors, optimisers and states as machine code: one recording for each function and shapes, made at its first call.

    What else a function takes must be the same at every call.
    """

    def __init__(self) -> None:
        self._found: dict[Any, Callable[..., Any] | None] = {}

    def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        """Runs ``function(*args)``, the same but for rounding; plainly where it cannot be compiled, after a RuntimeWarning."""
        code = self.code(function, *args)
        return function(*args) if code is None else code(*held(args))

    def code(self, function: Callable[..., Any], *args: Any) -> Callable[..., Any] | None:
        """Returns ``function`` as machine code, which takes the tensors that ``held(args)`` returns; None where it cannot be compiled."""
        key = function, *((t.shape, t.stride(), t.dtype) for t in held(args))
        if key not in self._found:
            copy = deepcopy(args)  # the function runs once while it is recorded, and must not change the state
            self._found[key] = machine_code(lambda *_: function(*copy), *held(copy))
        return self._found[key]


_recorder: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


def piece(function: _F) -> _F:
    """Marks a step that an update takes many times; it is run as machine code where the update is to be compiled in pieces.

    The step changes nothing but the tensors among its arguments, and returns tensors.
    """

    @wraps(function)
    def run(*args: Any) -> Any:
        recorder = _recorder.get()
        return function(*args) if recorder is None else recorder(function, *args)

    return cast(_F, run)


def update(agent: AnyAgent, cfg: Any, state: Any, *, compile: bool, whole: bool = True) -> Update:
    """Returns ``agent.update`` of one state; compiled at its first call, which takes a minute or two where nothing is kept
    from before, or with a RuntimeWarning not at all.

    ``whole``: as one piece of machine code, else its ``piece``s alone.
    """
    recorder = Recorder()

    def plain(batch: Any, noise: Any) -> Info:
        return agent.update(cfg, state, batch, noise)

    def numbers(state: Any, batch: Any, noise: Any) -> dict[str, Tensor]:
        return agent.update(cfg, state, batch, noise)()

    def at_once(batch: Any, noise: Any) -> Info:
        values = recorder(numbers, state, batch, noise)
        return lambda: cast(dict[str, Tensor], values)

    def in_pieces(batch: Any, noise: Any) -> Info:
        token = _recorder.set(recorder)
        try:
            return agent.update(cfg, state, batch, noise)
        finally:
            _recorder.reset(token)

    return plain if not compile else at_once if whole else in_pieces


def held(arg: Any) -> tuple[Tensor, ...]:
    """Returns the tensors of an argument, in order: its own, those of a tuple's parts, of an optimiser, of a state."""
    if isinstance(arg, Tensor):
        return (arg,)
    if isinstance(arg, Adam):
        return arg.theta, arg.m, arg.v, arg.steps
    if isinstance(arg, tuple):
        return tuple(t for part in arg for t in held(part))
    has_state = is_dataclass(arg) and not isinstance(arg, type) and any(isinstance(v, (Adam, Tensor)) for v in vars(arg).values())
    return tuple(tensors(arg).values()) if has_state else ()
