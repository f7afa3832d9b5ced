"""A training or a fit between two steps as tensors and plain values, by name: what is written to a disk and read back.

A snapshot is a dict whose leaves are tensors or values of JSON. ``parted`` splits it in two files' worth; ``joined`` puts it together.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from wgf.shown import shown

__all__ = ["Snapshot", "joined", "parted", "put_", "set_states", "states"]

Snapshot = dict[str, Any]


def parted(snapshot: Snapshot, path: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns the tensors of a snapshot by their paths, "memory:obs", and what is left: the same dicts without them."""
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {}
    for name, value in snapshot.items():
        if isinstance(value, Tensor):
            tensors[path + name] = value.detach().cpu().contiguous()
        elif isinstance(value, dict):
            inner, rest[name] = parted(value, f"{path}{name}:")
            tensors |= inner
        else:
            rest[name] = value
    return tensors, rest


def joined(tensors: dict[str, Tensor], rest: dict[str, Any]) -> Snapshot:
    """Returns the snapshot that ``parted`` took apart."""
    whole = {name: joined({}, value) if isinstance(value, dict) else value for name, value in rest.items()}
    for path, tensor in tensors.items():
        *folders, name = path.split(":")
        place = whole
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = tensor
    return whole


def put_(own: Tensor, found: Any, name: str) -> None:
    """Copies a tensor of a snapshot into one of the same shape and type. Raises ValueError, naming it, for any other."""
    if not isinstance(found, Tensor) or found.shape != own.shape or found.dtype != own.dtype:
        kind = f"{found.dtype} of shape {tuple(found.shape)}" if isinstance(found, Tensor) else shown(found)
        raise ValueError(f"{name} is {kind} in the checkpoint; it must be {own.dtype} of shape {tuple(own.shape)}")
    own.copy_(found)


def states(generators: Sequence[torch.Generator]) -> Tensor:
    """Returns the states of torch's random generators, one row each."""
    return torch.stack([g.get_state() for g in generators])


def set_states(generators: Sequence[torch.Generator], found: Any) -> None:
    """Sets torch's random generators to the states that ``states`` returned. Raises ValueError for anything else."""
    put_(own := states(generators), found, "a generator's state")
    for generator, row in zip(generators, own, strict=True):
        try:
            generator.set_state(row.clone())  # it reads from the beginning of the storage
        except RuntimeError as error:
            raise ValueError(f"a generator's state in the checkpoint is none: {' '.join(str(error).split())}") from None
