"""The processes that ``torchrun`` started together: who they are, whether they agree, and what each of them tells all.

Gloo joins processes on CPUs, NCCL processes with a GPU each. What passes between them is numbers and JSON: nothing that they send is run.
"""

import atexit
import ctypes
import json
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

import wgf
from wgf.shown import shown

__all__ = ["BACKENDS", "Group", "Lost", "is_first", "joined"]

START = "torchrun --standalone --nproc-per-node=2"
BACKENDS: dict[str, tuple[str, Callable[[], bool]]] = {
    "cpu": ("gloo", lambda: dist.is_gloo_available()),
    "cuda": ("nccl", lambda: dist.is_nccl_available()),
}
_T = TypeVar("_T")
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # its name from torch 2.13 on


class Lost(RuntimeError):
    """Another rank is gone, or was silent for longer than the group waits (torch: 30 minutes with gloo, 10 with NCCL)."""


class Group(NamedTuple):
    """This process is number ``rank`` of ``size``, and computes on ``device``. ``Group()`` is one process alone, which sends nothing."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")

    def gather(self, part: Tensor) -> Tensor:
        """The parts of all ranks, of one shape: (...) -> (size, ...), by one all-gather. **Raises** Lost."""
        if self.size == 1:
            return part[None]
        whole = part.new_empty(self.size, *part.shape)
        try:
            _all_gather(whole.view(-1), part.reshape(-1))
        except RuntimeError as error:
            raise Lost(f"rank {self.rank} of {self.size} lost another rank: {' '.join(str(error).split())[:200]}") from None
        return whole

    def total(self, part: Tensor) -> Tensor:
        """The sum over ranks, (...), in the order of the ranks: the same numbers on all of them, and the same in every run."""
        first, *others = self.gather(part).unbind()
        for other in others:
            first = first + other
        return first

    def told(self, words: Any) -> list[Any]:
        """What each rank says, a value of JSON, in the order of the ranks; two collectives."""
        return [json.loads(data) for data in self.sent(json.dumps(words).encode())]

    def sent(self, data: bytes) -> list[bytes]:
        """The bytes of each rank, at least one of each, in the order of the ranks; two collectives."""
        mine = torch.from_numpy(np.frombuffer(data, np.uint8).copy()).to(self.device)
        lengths = self.gather(torch.tensor(len(mine), device=self.device)).tolist()
        padded = torch.nn.functional.pad(mine, (0, max(lengths) - len(mine)))
        rows = self.gather(padded).cpu().numpy()
        return [row[:n].tobytes() for row, n in zip(rows, lengths, strict=True)]

    def either(self, *flags: bool) -> list[bool]:
        """Which of the flags are up on any rank; one collective."""
        if self.size == 1:
            return list(flags)
        up: list[bool] = self.gather(torch.tensor(flags, dtype=torch.uint8, device=self.device)).amax(0).bool().tolist()
        return up

    def agree(self, about: Mapping[str, Any]) -> None:
        """Looks whether all ranks say the same. **Raises** ValueError, on all of them, naming the first difference from rank 0."""
        first, *others = self.told(dict(about))
        for rank, other in enumerate(others, 1):
            for name in sorted({*first, *other}):
                if first.get(name) != other.get(name):
                    mine, its = shown(first.get(name)), shown(other.get(name))
                    raise ValueError(f"the ranks disagree: {name} is {mine} on rank 0 and {its} on rank {rank}; give all the same")

    def first(self, local: Callable[[], _T]) -> _T:
        """What rank 0 finds, a value of JSON, on every rank. **Raises** as ``together`` does."""
        found = self.together(lambda: local() if self.rank == 0 else None)
        return found if self.size == 1 else self.told(found)[0]  # type: ignore[return-value]

    def in_turn(self, local: Callable[[], _T]) -> _T:
        """``local()`` on every rank, on one after another. **Raises** as ``together`` does."""
        if self.size == 1:
            return local()
        found = [self.together(lambda rank=rank: local() if rank == self.rank else None) for rank in range(self.size)]  # type: ignore[misc]
        return found[self.rank]  # type: ignore[return-value]

    def together(self, local: Callable[[], _T]) -> _T:
        """``local()`` on every rank. **Raises** ValueError, on all of them, where it raises ValueError or OSError on one: in its words."""
        if self.size == 1:
            return local()
        try:
            found, why = local(), ""
        except (ValueError, OSError) as error:
            why = " ".join(str(error).split())
        for rank, said in enumerate(self.told(why)):
            if said:
                raise ValueError(said if rank == 0 else f"rank {rank}: {said}")
        return found


def is_first() -> bool:
    """Whether this is the rank that speaks for all, by what torchrun says."""
    return os.environ.get("RANK", "0") == "0"


def joined(device: torch.device) -> Group:
    """The group of this process, which ``torchrun`` started; it is made at the first call, and ends with the process.

    On a GPU a rank takes the one of its number on its machine, LOCAL_RANK. A group that the program has made itself is taken as it is.
    From then on glibc gives blocks of 4 MiB and more back to the system as they are freed: gathered particles would stay beside the next.
    **Raises** ValueError where ``torchrun`` did not start it, for a back end or a GPU that is not there, and where the ranks have other
    versions, processors or numbers of threads: then sums differ in their last digits, and ranks could part ways. Lost where they do not
    meet.
    """
    if not dist.is_available():
        raise ValueError("this torch has no torch.distributed; install another build of torch")
    if not dist.is_initialized():
        _join(device)
    group = Group(dist.get_rank(), dist.get_world_size(), device)
    group.agree(
        {
            "wgf": wgf.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "device": device.type,
            "processor": torch.cuda.get_device_name() if device.type == "cuda" else torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
        }
    )
    return group


def _join(device: torch.device) -> None:
    if missing := [name for name in ("RANK", "WORLD_SIZE") if name not in os.environ]:
        raise ValueError(f"shards is True, but the environment has no {' and no '.join(missing)}; start the command by: {START} ...")
    backend, available = BACKENDS[device.type]
    if not available():
        raise ValueError(f"shards on {device.type} need the back end {backend}, which this torch lacks; install one that has it")
    if device.type == "cuda":
        local, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local >= gpus:
            raise ValueError(f"rank {local} of this machine has no GPU: there are {gpus}; start as many ranks, or use the device cpu")
        torch.cuda.set_device(local)
    try:
        store, rank, size = next(dist.rendezvous("env://"))  # type: ignore[attr-defined]
        # torchrun keeps its store when it starts the ranks again: without a name of its own a rank would find the addresses of dead ones
        attempt = dist.PrefixStore(f"wgf {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=attempt, rank=rank, world_size=size)
    except (ValueError, RuntimeError) as error:
        raise Lost(f"rank {os.environ['RANK']} did not meet the others: {' '.join(str(error).split())[:200]}") from None
    atexit.register(lambda: dist.is_initialized() and dist.destroy_process_group())
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(-3, 2**22)  # M_MMAP_THRESHOLD, which else rises to 32 MiB
