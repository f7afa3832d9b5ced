"""Shows how far a long computation is: by a bar in a terminal, by plain lines elsewhere."""

import math
import sys
import time
from types import TracebackType

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from wgf.agents.training.envs import Array
from wgf.agents.training.loop import Tick

__all__ = ["Progress", "numbers"]

PLAIN_EVERY = 10.0  # seconds between two plain lines
NARROW = 110  # columns of a terminal in which there is room for one number, not for each seed's


class Progress:
    """A context manager: ``show(step, note)`` shows a step, a note and the time left; ``tell(tick)`` does so for a training. ``muted``
    shows nothing."""

    def __init__(self, label: str, steps: int, seeds: int = 1, first: int = 0, *, muted: bool = False) -> None:
        self.label, self.steps, self.seeds, self.first = label, steps, seeds, first
        self.started, self.printed = time.monotonic(), -math.inf
        self.bar: Bar | None = None
        self.muted = muted
        if sys.stdout.isatty() and not muted:
            columns = [
                TextColumn("{task.description}"),
                BarColumn(12),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}", markup=False),
            ]
            self.bar = Bar(*columns, TimeRemainingColumn(), TextColumn("left"), console=Console())
            self.task = self.bar.add_task(label, total=steps, completed=first, note="")

    def __enter__(self) -> "Progress":
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()

    def tell(self, tick: Tick) -> None:
        """Shows a tick of a training: steps per second, and the last returns of each seed."""
        each = 0 if self.bar and self.bar.console.width < NARROW else 3
        rate, returns, evals = (tick.of(tag, self.seeds) for tag in ("charts/steps_per_second", "charts/episodic_return", "eval/return"))
        note = f"{np.nanmax(rate):.0f} steps/s  return {numbers(returns, each)}  eval {numbers(evals, each)}"
        self.show(tick.step, note)

    def show(self, step: int, note: str) -> None:
        """Shows a step. Plain lines come at most every ten seconds, and one at the end."""
        if self.bar:
            self.bar.update(self.task, completed=step, note=note)
            return
        now = time.monotonic()
        if not self.muted and (now - self.printed >= PLAIN_EVERY or step >= self.steps):
            self.printed = now
            left = (now - self.started) / max(1, step - self.first) * max(0, self.steps - step)
            print(f"{self.label}  {step:,}/{self.steps:,}  {note}  {left:.0f} s left", flush=True)


def numbers(values: Array, each: int = 3) -> str:
    """Writes up to ``each`` values one by one, "-" for one not there yet; more values as their mean, with their range if each > 0."""
    known = values[~np.isnan(values)]
    if len(values) <= each:
        return " ".join("-" if math.isnan(v) else f"{v:.0f}" for v in values)
    if not len(known):
        return "-"
    return f"{known.mean():.0f}" + (f" ({known.min():.0f} to {known.max():.0f})" if each else "")
