"""The ranks that share a training out: which policies are whose, and what each tells the others."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as parse
from torch import Tensor

from wgf import ranks
from wgf.agents.tasks.fleet import Within
from wgf.agents.training.checkpoint import serialized
from wgf.agents.training.protocol import Streams
from wgf.agents.training.spaces import Array, BrokenEnvironment
from wgf.ranks import Group
from wgf.shards import ALONE, Shards
from wgf.snapshot import Snapshot, joined, parted

__all__ = ["Rows", "Team", "enlisted", "facts"]

ELSEWHERE = ("host", "process", "device_name")  # of what is said of a run: ranks may differ in it


class Team:
    """``shards``: which of a seed's policies each rank plays, in ``each`` environments.

    ``apart``: a rank has the state of its own policies alone, (S, n, k) in every tensor but step counts. Else all ranks have all of it,
    and do the same with it.

    With what they played the ranks tell each other their wishes, to stop and to take a checkpoint: ``stop`` and ``late`` say since then
    whether any of them has the wish, and are the same on all.
    """

    def __init__(self, shards: Shards = ALONE, each: int = 1, apart: bool = False) -> None:
        self.shards, self.each, self.apart = shards, each, apart
        self.stop, self.late = False, False
        self._wishes: Callable[[], tuple[bool, bool]] = lambda: (False, False)

    @property
    def policies(self) -> int:
        """How many policies of a seed this rank has."""
        return self.shards.counts[self.shards.group.rank]

    @property
    def within(self) -> Within:
        """Where the environments of a seed that this rank plays stand among those of all ranks."""
        return Within(self.each * self.shards.rows.start, self.each * self.shards.particles)

    def hears(self, wishes: Callable[[], tuple[bool, bool]]) -> Callable[[], bool]:
        """Takes what asks for this rank's wishes, and returns what says whether to stop."""
        self._wishes, self.stop = wishes, False
        return lambda: self.stop

    def draw(self, streams: Streams) -> Streams:
        """Random numbers of this rank's policies, from streams that stand alike on all ranks."""
        return Rows(streams, self.shards) if self.apart else streams

    def gather(self, *parts: Tensor) -> tuple[Tensor, ...]:
        """(S, N, k) each of this rank's rows (S, n, k), by one all-gather, in which the wishes go too. **Raises** Lost."""
        if self.shards.group.size == 1:
            return parts
        wishes = parts[0].new_tensor(self._wishes()).expand(*parts[0].shape[:-1], -1)
        found = self.shards.gather(torch.cat([*parts, wishes], -1))
        *whole, wishes = torch.split(found, [part.shape[-1] for part in (*parts, wishes)], -1)
        self.stop, self.late = (wishes > 0.0).flatten(0, -2).any(0).tolist()
        return tuple(part.contiguous() for part in whole)

    def arrays(self, *parts: Array) -> tuple[Array, ...]:
        """``gather`` for arrays of numpy."""
        device = self.shards.group.device
        return tuple(whole.cpu().numpy() for whole in self.gather(*(torch.from_numpy(part).to(device) for part in parts)))

    def faults(self, mine: Mapping[int, BrokenEnvironment]) -> dict[int, BrokenEnvironment]:
        """What environments did that went wrong, on any rank, by their seeds' places; two collectives."""
        said = self.shards.group.told({str(s): str(fault) for s, fault in mine.items()})
        return {int(s): BrokenEnvironment(text) for of_one in said[::-1] for s, text in of_one.items()} | dict(mine)

    def whole(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of all policies' state, of this rank's: one all-gather. **Raises** Lost."""
        if not self.apart:
            return dict(state)
        rows = {name: t for name, t in state.items() if t.ndim}
        found = torch.split(self.shards.gather(torch.cat([*rows.values()], -1)), [t.shape[-1] for t in rows.values()], -1)
        return {**state, **{name: t.contiguous() for name, t in zip(rows, found, strict=True)}}

    def mine(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This rank's part of the tensors that ``whole`` returned. **Raises** ValueError for other numbers of policies."""
        return {name: self.shards.mine(t) if self.apart and t.ndim else t for name, t in state.items()}

    def parts(self, snapshot: Snapshot) -> Snapshot:
        """The snapshots of all ranks, by the ranks' numbers, where each has its own; two collectives."""
        if not self.apart:
            return snapshot
        held, facts = parted(snapshot)
        note = torch.from_numpy(np.frombuffer(json.dumps(facts).encode(), np.uint8).copy())
        sent = self.shards.group.sent(serialized({**{f"held:{name}": t for name, t in held.items()}, "facts": note})[0])
        return {str(rank): _joined(parse(data)) for rank, data in enumerate(sent)}

    def part(self, snapshot: Snapshot) -> Snapshot:
        """This rank's of what ``parts`` returned."""
        found: Snapshot = snapshot[str(self.shards.group.rank)] if self.apart else snapshot
        return found


def _joined(found: dict[str, Tensor]) -> Snapshot:
    facts = json.loads(found.pop("facts").numpy().tobytes())
    return joined({name.removeprefix("held:"): t for name, t in found.items()}, facts)


class Rows(Streams):
    """Streams that draw for all policies and give what is this rank's: the numbers that one process would draw for them."""

    def __init__(self, streams: Streams, shards: Shards) -> None:
        super().__init__(streams.generators)
        self._shards = shards

    def normal(self, *shape: int) -> Tensor:
        """Draws N(0, 1), (S, n, ...), for n = k m, k numbers or environments of each of this rank's m policies."""
        shards, (n, *rest) = self._shards, shape
        each = n // shards.counts[shards.group.rank]
        return super().normal(each * shards.particles, *rest)[:, each * shards.rows.start : each * shards.rows.stop]


def facts(about: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is said of a training by short names, as ``Group.agree`` compares it: settings by their own."""
    flat: dict[str, Any] = {}
    for name, value in about.items():
        if isinstance(value, Mapping):
            flat |= {key if name in ("config", "schedule") else f"{name}.{key}": part for key, part in value.items()}
        elif name not in ELSEWHERE:
            flat[name] = value
    return flat


def enlisted(agent: str, module: Any, normalize: str, device: torch.device) -> Group:
    """The ranks that share an agent's training out. **Raises** ValueError for one that they cannot share, and as ``ranks.joined`` does."""
    if normalize != "none":
        raise ValueError(f"normalize is {normalize!r}, but the ranks of shards do not count together what they see; give none")
    if not hasattr(module, "share"):
        raise ValueError(f"shards is True, but agent {agent!r} has no policies that ranks could share; es and ip-wgf have")
    return ranks.joined(device)
