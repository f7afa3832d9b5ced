"""How far a training is: a bar where a person watches, plain lines elsewhere."""

import math
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from agents.training.loop import Tick

PLAIN_EVERY = 10.0  # seconds between two plain lines


class Progress:
    """A context manager with ``tell(tick)``: steps, steps a second, time left, the last returns of each seed."""

    def __init__(self, label: str, steps: int) -> None:
        self.label, self.steps = label, steps
        self.started, self.printed = time.monotonic(), -math.inf
        self.bar: Bar | None = None
        if sys.stdout.isatty():
            columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}")]
            self.bar = Bar(*columns, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=Console())
            self.task = self.bar.add_task(label, total=steps, note="")

    def __enter__(self) -> "Progress":
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()

    def tell(self, tick: Tick) -> None:
        """Shows a tick; plain lines at most every few seconds, and the last."""
        note = f"{tick.steps_per_second:.0f} steps/s  return {_numbers(tick.returns)}  eval {_numbers(tick.evals)}"
        if self.bar:
            self.bar.update(self.task, completed=tick.step, note=note)
            return
        now = time.monotonic()
        if now - self.printed >= PLAIN_EVERY or tick.step == self.steps:
            self.printed = now
            left = (now - self.started) / tick.step * (self.steps - tick.step)
            print(f"{self.label}  {tick.step:,}/{self.steps:,}  {note}  {left:.0f} s left", flush=True)


def _numbers(values: object) -> str:
    return " ".join("-" if math.isnan(v) else f"{v:.0f}" for v in values)  # type: ignore[attr-defined]
