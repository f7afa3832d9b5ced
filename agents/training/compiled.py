"""The one switch of compiling: an agent's update as machine code."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from wgf.agents.training.checkpoint import tensors
from wgf.agents.training.protocol import AnyAgent, Info
from wgf.compiler import available, machine_code

COST = 40.0  # seconds of one core that compiling an update takes, 20 to 60
SAVED, SAVED_EACH = (
    6e-4,
    4e-11,
)  # seconds that an update takes less as machine code, and for each unit of its ``work``: tests/bench/updates.py
Update = Callable[[Any, Any], Info]  # what is learned from, and noise; changes the state


def saving(updates: int, work: int) -> float:
    """Seconds of one core that so many updates of such a size take less as machine code, before what compiling costs."""
    return max(0, updates) * (SAVED + SAVED_EACH * work)


def pays(updates: int, work: int, device: torch.device) -> bool:
    """Whether compiling is worth it: on a CPU with a C++ compiler, where it saves more than twice what it costs.

    By the numbers of a training alone, so that the same training is compiled or not, whenever it is run.
    """
    return device.type == "cpu" and saving(updates, work) > 2.0 * COST and available()


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
