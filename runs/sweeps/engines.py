"""What starts the trainings of a sweep. An engine starts a command and says how it ended, no more: so it cannot lose a result."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from wgf.runs.sweeps.process import started

__all__ = ["Command", "Engine", "Handle", "Local", "engine", "missing"]


class Command(NamedTuple):
    """``wgf ARGS``, its log, and what it takes: threads, and bytes of memory."""

    args: list[str]
    log: Path
    threads: int
    memory: float


class Handle(Protocol):
    """A command that was started."""

    def poll(self) -> int | None:
        """Returns its exit code, less than 0 where a signal or a lost machine ended it; None while it runs or waits.

        **Raises** ValueError, in one line, where the engine could not run it.
        """

    def terminate(self) -> None:
        """Asks it to save and stop."""

    def kill(self) -> None:
        """Ends it at once."""


class Engine(Protocol):
    """Starts commands."""

    def start(self, command: Command) -> Handle:
        """Starts one, now or when there is room."""


class Local:
    """Processes of this machine."""

    def start(self, command: Command) -> Handle:
        """Starts one now."""
        return started(command.args, command.log)


def engine(name: str, options: Mapping[str, Any], folder: Path) -> Engine:
    """Returns the engine of a name with its options; ``folder`` is for what it writes. Raises ValueError where its package is missing."""
    if name == "ray":
        from wgf.runs.sweeps.on_ray import Ray

        return Ray(options)
    if name == "slurm":
        from wgf.runs.sweeps.on_slurm import Slurm

        return Slurm(options, folder)
    return Local()


def missing(extra: str) -> ValueError:
    """Returns the error of a package that is not installed."""
    return ValueError(f"this needs a package that is not installed: pip install 'wgflow[{extra}]'")
