"""``wgf sweep FILE.yaml``: says the plan, trains what is missing side by side, and ends with a table of all runs."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

import torch

from wgf.agents.training import machine
from wgf.agents.training.schedule import Schedule
from wgf.limits import free_memory, size
from wgf.runs.command.answers import FAILED, STOPPED
from wgf.runs.command.configuration import of
from wgf.runs.command.options import Ordered, Place, Sweep
from wgf.runs.command.progress import Progress
from wgf.runs.command.signals import stop_signals
from wgf.runs.sweeps import report
from wgf.runs.sweeps.engines import Local, engine
from wgf.runs.sweeps.grid import entries, settings
from wgf.runs.sweeps.pool import Ended, Pool, Room, Task, demand, threads
from wgf.runs.sweeps.process import LOOK
from wgf.runs.sweeps.source import Grid, Source
from wgf.runs.trainer.reuse import locked
from wgf.runs.trainer.training import words
from wgf.shown import shown

__all__ = ["room", "sweep"]

PROMISE = "every training saves, then the sweep stops"


def sweep(path: Path, order: Ordered, what: Sweep, schedule: Schedule, place: Place, say: Callable[[str], None]) -> int:
    """Says the plan of a file, trains what is missing and writes the table of all runs; returns an exit code.

    **Raises** ValueError, in one line, for what the file may not say, where a package is missing, and where another process has the sweep.
    """
    folder = Path(place.out) / place.name
    with of(path):
        source = _source(order, what, schedule, place)
        for each in source.due():
            demand(each.job)  # it looks at names, spaces and values
        options, space = _options(what), room(what, place)
    if order.dry_run:
        pool = Pool(Local(), space, what.stack, say, lambda folder: None)
        say(_plan(path, pool, source, what, folder))
        return FAILED if _failed(pool.ended) else 0
    with of(path):
        starts = engine(what.engine, options, folder)
    with locked(folder):
        pool = Pool(starts, space, what.stack, say)
        say(_plan(path, pool, source, what, folder))
        return _trained(pool, source, folder, say)


def _source(order: Ordered, what: Sweep, schedule: Schedule, place: Place) -> Source:
    found = entries(what, order.modules)
    if not what.search:
        return Grid(settings(what, found, schedule, place))
    from wgf.runs.sweeps.search import Search

    return Search(found, what, schedule, place)


def _options(what: Sweep) -> Mapping[str, Any]:
    """Returns the options of the engine."""
    given = {"ray": what.ray, "slurm": what.slurm}
    for name, value in given.items():
        if not isinstance(value, Mapping | None):
            raise ValueError(f"{name} is {shown(value)}; it must name options with their values")
    return given.get(what.engine) or {}


def room(what: Sweep, place: Place) -> Room:
    """Returns the room of an engine: as asked, or this machine's processors and free memory, or what a scheduler makes of it."""
    if what.slots:
        return Room(what.slots)
    if what.engine != "local":
        if what.search:
            raise ValueError(f"slots is 0; a search by {what.engine} needs the number of trainings that run at a time, as in slots: 8")
        return Room()
    device = machine.find_device(place.device)
    gpu = free_memory(device) if device.type == "cuda" else inf
    return Room(threads=machine.cores(), host=free_memory(torch.device("cpu")), device=gpu)


def _plan(path: Path, pool: Pool, source: Source, what: Sweep, folder: Path) -> str:
    """Gives the pool all that is known, and returns in words what is to be done."""
    for each in source.due():
        pool.add(each)
    seeds, total = len(what.chosen()), source.total * len(what.chosen())
    counts = {
        "go on": _seeds(task for task in pool.waiting if task.threads),
        "begin": total - len(source.known()) * seeds + _seeds(task for task in pool.waiting if not task.threads),
        "were pruned": (len(source.known()) - len(source.due())) * seeds,
        "are trained by another process": _seeds(pool.busy),
        "cannot be trained": sum(len(each.setting.job.seeds) for each in pool.ended if each.reasons),
    }
    counts = {"have finished": total - sum(counts.values()), **counts}
    said = ", ".join(f"{count:,} {words}" for words, count in counts.items() if count)
    plan = f"{path}: {source.total:,} settings, {words(what.chosen())} each: {total:,} runs in {folder}; {said}"
    return "\n".join([plan, *_takes(pool, what)])


def _seeds(tasks: Iterable[Task]) -> int:
    return sum(len(task.job.seeds) for task in tasks)


def _takes(pool: Pool, what: Sweep) -> Iterator[str]:
    """Says what the first training takes, and how many run at a time."""
    for task in list(pool.waiting)[:1]:
        count = threads(task)
        takes = f"{what.engine}: {task.name} take {count} thread{'s' * (count > 1)} and about {size(task.demand[0])}"
        most = f"at most {what.slots} run at a time" if what.slots else "the scheduler says how many run at a time"
        if not what.slots and what.engine == "local":
            most = f"as many run at a time as {machine.cores()} processors and {size(pool.room.host)} of memory allow"
        yield f"{takes}; {most}"


def _trained(pool: Pool, source: Source, folder: Path, say: Callable[[str], None]) -> int:
    """Trains until nothing is left or a signal comes; writes the tables, and returns an exit code."""
    failed = closed = 0
    with stop_signals(PROMISE) as stopping, Progress("sweep", source.total) as progress:
        try:
            while not stopping() and not (pool.idle() and not _next(pool, source)):
                ended = pool.turn()
                for one in ended:
                    source.tell(one)
                failed, closed = failed + _failed(ended), closed + len(ended)
                for each in source.hopeless():
                    pool.drop(each)
                _next(pool, source)
                if ended:
                    progress.show(closed, f"settings  {len(pool.running)} trainings run  {failed} failed")
                time.sleep(LOOK)
            stopped = stopping()
        finally:
            pool.close()
    say(_told(source, folder))
    if stopped:
        print(f"wgf: {folder}: stopped; the same command goes on from here", file=sys.stderr)
    return STOPPED if stopped else FAILED if failed else 0


def _failed(ended: Sequence[Ended]) -> int:
    """Says on stderr why settings failed; returns how many did."""
    for one in ended:
        for why in one.reasons:
            print(f"wgf: {why}", file=sys.stderr)
    return sum(bool(one.reasons) for one in ended)


def _next(pool: Pool, source: Source) -> bool:
    """Takes further settings until one waits; says whether something is to be done."""
    while not pool.waiting and (each := source.more()):
        pool.add(each)
    return not pool.idle()


def _told(source: Source, folder: Path) -> str:
    """Writes the tables; returns them in words."""
    known, found = source.known(), source.about()
    table = report.write(known, source.states(), folder) if known else ""
    files = f"\ntables: {folder / 'sweep'}.md .csv .txt, {folder / 'settings'}.md .csv .txt\ncurves: tensorboard --logdir {folder}"
    return f"\n{table}{found}{files}"
