"""Asks the machine: which device, how many threads, how much free memory, and which versions a run's results depend on."""

import ctypes
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from wgf.limits import free_memory as free_memory
from wgf.shown import shown

__all__ = ["about", "commit", "cores", "find_device", "find_threads", "processor", "tuned", "versions", "work"]

LARGE = 60e6
PACKAGES = ("wgflow", "torch", "gymnasium", "mujoco", "numpy", "envpool", "mujoco-warp", "warp-lang", "dm-control", "gymtorax")


def find_device(name: str) -> torch.device:
    """Returns the device that auto, cpu, cuda or cuda:N names. Raises ValueError for one that is not there."""
    if isinstance(name, str) and name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not isinstance(name, str) or not re.fullmatch(r"cpu|cuda(:\d{1,3})?", name):
        raise ValueError(f"device {shown(name)} is unknown; use auto, cpu, cuda or cuda:N")
    device, gpus = torch.device(name), torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise ValueError(f"device {name!r} is not available: torch {torch.__version__} sees {gpus} CUDA GPUs; use --device cpu")
    return device


def find_threads(asked: int, seeds: int, cfg: Any) -> int:
    """Returns the number of threads: as asked; for 0, one for small updates, which more threads slow down, and up to four for large.

    The size is that of a hidden layer's product over the stack: seeds x batch x particles or samples x width^2. The choice depends on
    nothing that changes from run to run, since the number of threads moves the last digits of a sum.
    """
    return asked or (min(4, cores()) if work(seeds, cfg) >= LARGE else 1)


def cores() -> int:
    """Returns how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def work(seeds: int, cfg: Any) -> int:
    """Returns the size of an update: seeds x batch x particles or samples x width^2 of the widest layer, a width of 1 without layers."""
    widths, each = (*getattr(cfg, "hidden", ()), *getattr(cfg, "critic_hidden", ())), getattr(cfg, "particles", getattr(cfg, "samples", 1))
    return int(seeds * getattr(cfg, "batch", 1) * each * max(widths, default=1) ** 2)


@contextmanager
def tuned(*, keeps: bool = True) -> Iterator[None]:
    """Makes updates on a CPU faster, by settings of the process; results change by about 1e-38 at most.

    Numbers below the normal range count as zero: the moments of units that have died fall there, and make Adam five times slower. And
    glibc ``keeps`` what is freed: else each large temporary is fetched from the system anew.
    """
    torch.set_flush_denormal(True)
    with suppress(OSError, AttributeError):
        if keeps:
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(-1, 2**30)  # M_TRIM_THRESHOLD
            mallopt(-3, 2**26)  # M_MMAP_THRESHOLD
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def versions() -> dict[str, str]:
    """Returns the installed versions of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """Returns the name of the processor, where the system tells it."""
    with suppress(OSError):
        if found := re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text()):
            return found[1]
    return platform.processor() or platform.machine()


def about(device: torch.device, threads: int) -> dict[str, Any]:
    """Returns what a run's config.json says about where it ran."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {
        "device": str(device),
        "device_name": name,
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "host": platform.node(),
        "process": os.getpid(),
        "commit": commit(Path(__file__).resolve().parents[2]),
    }


def commit(root: Path) -> str | None:
    """Returns the git commit of a checkout, with "-dirty" where files differ from it; None where ``root`` is not the top of a checkout."""

    def git(*args: str) -> str:
        return subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return None
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None
