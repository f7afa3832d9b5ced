"""What a sweep trains: a grid, here, or a search (``search``), behind one protocol."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from wgf.runs.sweeps.grid import Setting
from wgf.runs.sweeps.pool import Ended

__all__ = ["Grid", "Source"]


class Source(Protocol):
    """What is to be trained: a grid, or a search that learns from what has ended."""

    total: int

    def known(self) -> Sequence[Setting]:
        """Returns the settings that are known by now."""

    def due(self) -> Sequence[Setting]:
        """Returns those of them whose seeds all have to finish."""

    def more(self) -> Setting | None:
        """Returns a further setting; None where there is none."""

    def tell(self, ended: Ended) -> None:
        """Hears of a setting that has ended."""

    def hopeless(self) -> Sequence[Setting]:
        """Returns the settings whose trainings are to stop early."""

    def states(self) -> Mapping[Setting, str]:
        """Returns a word for each setting that did not come to its end."""

    def about(self) -> str:
        """Returns in words what was found."""


class Grid:
    """All settings of a file, in its order."""

    def __init__(self, every: Sequence[Setting]) -> None:
        self.total, self._every = len(every), every
        self._failed: set[Setting] = set()

    def known(self) -> Sequence[Setting]:
        """Returns all."""
        return self._every

    due = known

    def more(self) -> None:
        """Returns none."""

    def tell(self, ended: Ended) -> None:
        """Notes a setting that failed."""
        if ended.reasons:
            self._failed.add(ended.setting)

    def hopeless(self) -> Sequence[Setting]:
        """Returns none."""
        return ()

    def states(self) -> Mapping[Setting, str]:
        """Returns which failed."""
        return dict.fromkeys(self._failed, "failed")

    def about(self) -> str:
        """Returns nothing."""
        return ""
