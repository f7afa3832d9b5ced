"""Timing of alternatives in one run: in turns, so that a drift of the machine's speed meets them all; the median is what counts."""

import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from wgf.agents.training.machine import cores, processor

Times = dict[str, list[float]]  # seconds a call, one a round


def alternate(
    cases: Mapping[str, Callable[[], object]], rounds: int = 15, least: float = 0.05, clock: Callable[[], float] = time.perf_counter
) -> Times:
    """Calls each case in turn, ``rounds`` times; a round repeats a case until it has taken ``least`` seconds, after one call to warm up.

    ``clock``: what measures, ``time.process_time`` where other work shares the cores.
    """
    repeats = {}
    for name, call in cases.items():
        call()
        start = clock()
        call()
        repeats[name] = max(1, round(least / (clock() - start)))
    times: Times = {name: [] for name in cases}
    for _ in range(rounds):
        for name, call in cases.items():
            start = clock()
            for _ in range(repeats[name]):
                call()
            times[name].append((clock() - start) / repeats[name])
    return times


def median(times: Sequence[float]) -> float:
    """The middle one, in seconds."""
    return statistics.median(times)


def ratio(times: Times, slow: str, fast: str) -> str:
    """How many times longer ``slow`` takes: the median over rounds of the two times of one round, and the range of its middle half."""
    each = [a / b for a, b in zip(times[slow], times[fast], strict=True)]
    low, _, high = statistics.quantiles(each, n=4)
    return f"{statistics.median(each):.2f} [{low:.2f}, {high:.2f}]"


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Markdown, columns from the first row."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([row[name] for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def report(out: Path | None, title: str, text: str, packages: Sequence[str]) -> None:
    """Prints the text with the command, the machine and the versions, and writes it to ``out`` where that is given."""
    command = shlex.join(["python", *(os.path.relpath(a) if os.path.isabs(a) else a for a in sys.argv)])
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    page = f"# {title}\n\n    {command}\n\n{machine()}; Python {platform.python_version()}, {versions}.\n\n{text}\n"
    print(page)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page)


def machine() -> str:
    """Processor and the cores that this process may use."""
    return f"{processor()}, {cores()} core(s), {platform.system()}"
