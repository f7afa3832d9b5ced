"""How much memory an agent takes, found without taking it: networks and one update run on tensors that have shapes and no numbers."""

import math
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from wgf.agents.training.checkpoint import tensors
from wgf.agents.training.memory import Replay
from wgf.agents.training.population import Iteration, Population, embedding_size
from wgf.agents.training.protocol import AnyAgent, Batch, Streams
from wgf.agents.training.ranges import shown
from wgf.agents.training.rollout import Rollout, Segment
from wgf.agents.training.schedule import Schedule
from wgf.door import trusted
from wgf.limits import free_memory, size

__all__ = ["PRESET", "Enough", "Scale", "check", "modest", "shapes", "weight"]

META, CALLS = torch.device("meta"), 4_000  # so many calls of torch are followed: an update that is longer repeats itself
PRESET, OBSERVATION = 2**29, 400  # bytes that a seed of any preset takes at most, with so many numbers of an observation


class Enough(Exception):
    """Nothing more need be known."""


class Scale(TorchFunctionMode):
    """Counts the bytes of tensors that live at once, of what torch's functions return: no fewer than these are taken.

    ``peak`` is the most of them; the count ends with ``Enough`` where it passes ``most``, or after ``CALLS`` calls.
    """

    def __init__(self, most: float) -> None:
        super().__init__()
        self.most, self.live, self.peak, self.calls = most, 0, 0, 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        self.calls += 1
        for tensor in found if isinstance(found, (tuple, list)) else [found]:
            if isinstance(tensor, Tensor):
                self._add(tensor)
        if self.peak > self.most or self.calls > CALLS:
            raise Enough
        return found

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage not in self._known:
            self._known.add(storage)
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._drop, storage.nbytes())

    def _drop(self, count: int) -> None:
        self.live -= count


@contextmanager
def _weightless(most: float = math.inf) -> Iterator[Scale]:
    with trusted(), META, Scale(most) as scale:
        yield scale


def shapes(agent: AnyAgent, cfg: Any, obs: int, action: int) -> dict[str, Tensor]:
    """Returns the tensors of one seed's state as ``checkpoint.tensors`` names them, without numbers."""
    with _weightless():
        return tensors(agent.init(cfg, obs, action, [torch.Generator()], META))


def weight(agent: AnyAgent, cfg: Any, obs: int, action: int, most: float = math.inf) -> float:
    """Returns the bytes that one seed's networks and one of its updates take at least; counting ends above ``most``.

    **Limits** An agent of somebody's own that cannot run without numbers is counted up to where it cannot.
    """
    with _weightless(most) as scale:
        try:
            state = agent.init(cfg, obs, action, [torch.Generator()], META)
            draw = Streams([torch.Generator()])
            draw.device = META
            if batch := _experience(agent.memory(cfg, Schedule()), obs, action):
                agent.update(cfg, state, batch, agent.noise(cfg, action, draw))
        except Exception as error:
            return math.inf if "overflow" in str(error).lower() else scale.peak  # of a size that is no number of bytes
    return scale.peak


def modest(cfg: Any, usual: Any, obs: int, seeds: int, device: torch.device) -> bool:
    """Says whether an agent fits for certain, which costs nothing to know: beside its preset no number of it is large.

    A preset takes at most ``PRESET`` bytes per seed, and what is taken grows at most as the square of each number.
    """
    grown = math.prod(max(1.0, ratio) for ratio in (*_ratios(cfg, usual).values(), obs / OBSERVATION))
    return seeds * PRESET * grown**2 <= free_memory(device)


def check(agent: AnyAgent, cfg: Any, usual: Any, obs: int, action: int, seeds: int, device: torch.device) -> None:
    """Raises ValueError, naming the setting that is largest beside the preset's, ``usual``, where an agent does not fit the memory."""
    if modest(cfg, usual, obs, seeds, device):
        return
    free = free_memory(device)
    if (needed := seeds * weight(agent, cfg, obs, action, free / seeds)) > free:
        ratios = _ratios(cfg, usual) | {"seeds": float(seeds)}
        name = max(ratios, key=lambda field: ratios[field])
        value = seeds if name == "seeds" else getattr(cfg, name)
        least = f"at least {size(needed)}" if needed < math.inf else "more than can be counted"
        raise ValueError(
            f"{name} is {shown(value)}: networks and one update take {least} on {device}, but {size(free)} are free; make it smaller"
        )


def _ratios(cfg: Any, usual: Any) -> dict[str, float]:
    return {field.name: _ratio(getattr(cfg, field.name), getattr(usual, field.name)) for field in fields(cfg)}


def _ratio(value: Any, usual: Any) -> float:
    """How much larger whole numbers are than usual ones; 0 for anything else."""
    if isinstance(value, tuple):
        return math.prod(value) / max(1, math.prod(usual)) if all(isinstance(n, int) for n in (*value, *usual)) else 0.0
    return value / max(1, usual) if isinstance(value, int) and not isinstance(value, bool) else 0.0


def _experience(memory: Any, obs: int, action: int) -> Batch | Segment | Iteration | None:
    """Returns what one update of one seed learns from, without numbers; None for a memory of somebody's own."""
    memory, shapes = getattr(memory, "inner", memory), ((obs,), (action,), (), (), (obs,))
    if isinstance(memory, Replay):
        return Batch(*(torch.empty(1, memory.batch, *shape) for shape in shapes))
    if isinstance(memory, Population):
        return Iteration(
            torch.empty(1, memory.envs), torch.empty(1, memory.envs, embedding_size(memory.embedding, obs, action, memory.horizon))
        )
    if isinstance(memory, Rollout):
        before, actions, reward, discount, after = (torch.empty(1, memory.policies, memory.steps, memory.each, *shape) for shape in shapes)
        return Segment(before, actions, reward, discount, torch.empty(reward.shape, dtype=torch.bool), after)
    return None
