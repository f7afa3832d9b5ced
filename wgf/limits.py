"""What may be taken: memory that is free, and files that are files and no larger than they may be."""

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wgf.shown import shown

if TYPE_CHECKING:  # a command line reads files without torch
    import torch

__all__ = ["as_path", "contents", "free_memory", "resident", "size"]

PIECE = 2**16  # bytes


def free_memory(device: "torch.device | None" = None) -> int:
    """Returns the bytes that a device still has free: a GPU, or, by default, the machine and the container that this process runs in."""
    if device is not None and device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    bounds = []
    if found := re.search(r"MemAvailable:\s+(\d+) kB", _read("/proc/meminfo")):
        bounds.append(1024 * int(found[1]))
    if (limit := _read("/sys/fs/cgroup/memory.max").strip()).isdigit():
        bounds.append(int(limit) - int(_read("/sys/fs/cgroup/memory.current")))
    return min(bounds, default=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def resident() -> int:
    """Returns the bytes that this process holds now; 0 where the system does not say."""
    words = _read("/proc/self/statm").split()
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE") if words else 0


def size(count: float) -> str:
    """Writes a number of bytes for a person."""
    return f"{count / 2**20:,.1f} MiB" if count < 2**30 else f"{count / 2**30:,.1f} GiB"


def as_path(name: str, value: Any) -> Path:
    """Returns a path that a person gave. Raises ValueError, naming the argument, for anything that is none."""
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError(f"{name} is {shown(value)}; it must be a path")
    return Path(value)


def contents(path: str | Path, most: int | None = None) -> bytes:
    """Reads a regular file of at most ``most`` bytes, by default a third of the memory that is free: it is held, copied and looked at.

    A device, a pipe or a folder is not opened, or read, whatever links lead there. **Raises** OSError where it is not there, ValueError
    for anything else, both before memory is taken.
    """
    most = free_memory() // 3 if most is None else most
    _regular(path, os.stat(path), most)
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
        _regular(path, about := os.fstat(file.fileno()), most)  # it may have been exchanged since
        parts = [file.read(about.st_size)]  # asking for more would take memory for more
        left = most - len(parts[0])
        while left >= 0 and (more := file.read(PIECE)):  # it has grown, or is of /proc, whose files say that they are empty
            parts.append(more)
            left -= len(more)
    if left < 0:
        raise ValueError(f"{path} is larger than {size(most)}, the most that is read of it")
    return b"".join(parts)


def _regular(path: str | Path, about: os.stat_result, most: int) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise ValueError(f"{path} is no regular file; only such files are read")
    if about.st_size > most:
        raise ValueError(f"{path} has {size(about.st_size)}, and at most {size(most)} are read of it")


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
