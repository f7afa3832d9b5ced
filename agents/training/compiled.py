"""The one switch of compiling: an agent's update as machine code."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from torch import Tensor

from wgf.agents.training.checkpoint import tensors
from wgf.agents.training.protocol import AnyAgent, Info
from wgf.compiler import machine_code

Update = Callable[[Any, Any], Info]  # what is learned from, and noise; changes the state


def update(agent: AnyAgent, cfg: Any, state: Any, *, compile: bool) -> Update:
    """``agent.update`` of one state; compiled at its first call, which takes up to a minute, or with a RuntimeWarning not at all."""
    held, tried, found = tuple(tensors(state).values()), not compile, None

    def change(batch: Any, noise: Any) -> Info:
        nonlocal tried, found
        if not tried:
            tried, found = True, _recorded(agent, cfg, deepcopy(state), batch, noise)
        if found is None:
            return agent.update(cfg, state, batch, noise)
        values = found(batch, noise, held)
        return lambda: values

    return change


def _recorded(agent: AnyAgent, cfg: Any, copy: Any, batch: Any, noise: Any) -> Callable[..., dict[str, Tensor]] | None:
    """The update and its Info, of a batch, noise and the tensors of a state; recording it changes ``copy``."""

    def function(batch: Any, noise: Any, held: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return agent.update(cfg, copy, batch, noise)()

    return machine_code(function, batch, noise, tuple(tensors(copy).values()))
