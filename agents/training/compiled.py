"""The one switch of compiling: an agent's update as machine code."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from torch import Tensor

from agents.training.checkpoint import tensors
from agents.training.protocol import Agent, Batch, Info
from wgf.compiler import machine_code

Update = Callable[[Batch, Any], Info]  # minibatch and noise; changes the state


def update(agent: Agent, cfg: Any, state: Any, *, compile: bool) -> Update:
    """``agent.update`` of one state; compiled at its first call, which takes up to a minute and is seen to on a copy of the state."""

    def plain(batch: Batch, noise: Any) -> Info:
        return agent.update(cfg, state, batch, noise)

    held, found = tuple(tensors(state).values()), None

    def quick(batch: Batch, noise: Any) -> Info:
        nonlocal found
        if found is None:
            copy = deepcopy(state)

            def recorded(batch: Batch, noise: Any, held: tuple[Tensor, ...]) -> dict[str, Tensor]:
                return agent.update(cfg, copy, batch, noise)()

            found = machine_code(recorded, batch, noise, tuple(tensors(copy).values())) or (lambda batch, noise, _: plain(batch, noise)())
        values = found(batch, noise, held)
        return lambda: values

    return quick if compile else plain
