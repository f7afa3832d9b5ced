"""The ranks that share a training out: which policies are whose, and what each tells the others when all have played."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from wgf import ranks
from wgf.ranks import Group
from wgf.shards import ALONE, Shards

__all__ = ["Team", "facts", "joined"]

ELSEWHERE = ("host", "process", "device_name")  # of what is said of a run: ranks may differ in it


class Team:
    """``shards``: which of a seed's policies each rank plays.

    With what they played the ranks tell each other their wishes, to stop and to take a checkpoint: ``stop`` and ``late`` say since then
    whether any of them has the wish, and are the same on all.
    """

    def __init__(self, shards: Shards = ALONE) -> None:
        self.shards = shards
        self.stop, self.late = False, False
        self._wishes: Callable[[], tuple[bool, bool]] = lambda: (False, False)

    def hears(self, wishes: Callable[[], tuple[bool, bool]]) -> Callable[[], bool]:
        """Takes what asks for this rank's wishes, and returns what says whether to stop."""
        self._wishes, self.stop = wishes, False
        return lambda: self.stop

    def gather(self, *parts: Tensor) -> tuple[Tensor, ...]:
        """(S, N, k) each of this rank's rows (S, n, k), by one all-gather, in which the wishes go too. **Raises** Lost."""
        if self.shards.group.size == 1:
            return parts
        wishes = parts[0].new_tensor(self._wishes()).expand(*parts[0].shape[:-1], -1)
        found = self.shards.gather(torch.cat([*parts, wishes], -1))
        *whole, wishes = torch.split(found, [part.shape[-1] for part in (*parts, wishes)], -1)
        self.stop, self.late = (wishes > 0.0).flatten(0, -2).any(0).tolist()
        return tuple(part.contiguous() for part in whole)


def facts(about: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is said of a training by short names, as ``Group.agree`` compares it: settings by their own."""
    flat: dict[str, Any] = {}
    for name, value in about.items():
        if isinstance(value, Mapping):
            flat |= {key if name in ("config", "schedule") else f"{name}.{key}": part for key, part in value.items()}
        elif name not in ELSEWHERE:
            flat[name] = value
    return flat


def joined(agent: str, module: Any, normalize: str, device: torch.device) -> Group:
    """The ranks that share an agent's training out. **Raises** ValueError for one that they cannot share, and as ``ranks.joined`` does."""
    if normalize != "none":
        raise ValueError(f"normalize is {normalize!r}, but the ranks of shards do not count together what they see; give none")
    if not hasattr(module, "share"):
        raise ValueError(f"shards is True, but agent {agent!r} has no policies that ranks could share; es and ip-wgf have")
    return ranks.joined(device)
