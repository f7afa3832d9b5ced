"""Counts of what went wrong in a training and was survived: nothing of it is silent."""

from collections import Counter
from collections.abc import Callable, Mapping

from wgf.agents.training.making import unstable
from wgf.agents.training.workers import restarted
from wgf.compiler import uncompiled
from wgf.transport import unconverged

__all__ = ["METRICS", "Health"]

METRICS: dict[str, Callable[[], int]] = {"plans_stopped_short": unconverged, "unstable_simulations": unstable}
SOURCES = METRICS | {"updates_not_compiled": uncompiled, "restarted_environments": restarted}  # each counts since the process began


class Health:
    """What a training has survived so far, name -> how often; what never happened has no name.

    ``before``: the counts that it goes on from. What is not of ``METRICS`` follows from the machine, or from where a training was stopped,
    and is not logged: the log of one that goes on is that of one that never stopped.
    """

    def __init__(self, before: Mapping[str, int] | None = None) -> None:
        self._before, self._began = Counter(before), {name: source() for name, source in SOURCES.items()}

    def counts(self) -> dict[str, int]:
        """Returns the counts now. Waits for the device."""
        since = Counter({name: source() - self._began[name] for name, source in SOURCES.items()})
        return dict(sorted((self._before + since).items()))
