"""So many trainings at a time: starts what is missing, goes on with what was killed, and keeps the reasons of what failed."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from itertools import groupby
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

from wgf.agents.training import machine, needs
from wgf.agents.training.description import Description
from wgf.agents.training.log import being_written
from wgf.agents.training.ranges import shown as written
from wgf.runs.command.answers import STOPPED
from wgf.runs.sweeps.engines import Command, Engine, Handle
from wgf.runs.sweeps.grid import Setting
from wgf.runs.sweeps.process import LOOK, reason
from wgf.runs.trainer.reuse import missing, move_aside
from wgf.runs.trainer.training import Job, words

__all__ = ["Ended", "Pool", "Room", "Task", "arguments", "demand", "threads"]

TRIES = 3  # times that a training which was killed goes on within one call
PROCESS = 450 * 2**20  # bytes of a training beside what it holds: Python, torch, simulators
PATIENCE = 5.0  # seconds that a training has to end after a second signal
BUSY = "being written by another process"


class Task(NamedTuple):
    """Seeds of a setting that train in one process, with the threads that they began with if they did; how often it was killed."""

    setting: Setting
    job: Job
    threads: int | None
    tries: int = 0

    @property
    def name(self) -> str:
        """The task in words."""
        return f"{self.job.label} on {self.job.env}, {words(self.job.seeds)}"

    @property
    def demand(self) -> tuple[float, float]:
        """The part of what all seeds of the setting take that is theirs."""
        share = len(self.job.seeds) / len(self.setting.job.seeds)
        host, device = demand(self.setting.job)
        return PROCESS + share * host, share * device

    @property
    def log(self) -> Path:
        """The file of its output, beside the folder of its first seed."""
        folder = self.job.folder(self.job.seeds[0])
        return folder.with_name(f"{folder.name}.log")


class Room(NamedTuple):
    """What there is for all trainings together: their number, threads, and bytes of the machine's memory and of a GPU's."""

    trainings: float = inf
    threads: float = inf
    host: float = inf
    device: float = inf

    def for_one_more(self, running: Sequence[Task], task: Task) -> bool:
        """Says whether a training may begin beside others; the first one always may."""
        takes = [(1, threads(each), *each.demand) for each in (*running, task)]
        return not running or all(sum(part) <= most for part, most in zip(zip(*takes, strict=True), self, strict=True))


class Ended(NamedTuple):
    """A setting of which nothing runs any more, and the reasons of what failed."""

    setting: Setting
    reasons: list[str]


class Pool:
    """Trains settings by an engine in the room that there is, in processes of at most ``stack`` fresh seeds each; 0 means all."""

    def __init__(
        self, engine: Engine, room: Room, stack: int, say: Callable[[str], None], aside: Callable[[Path], None] = move_aside
    ) -> None:
        self.engine, self.room, self.stack, self.say, self.aside = engine, room, stack, say, aside
        self.waiting: deque[Task] = deque()
        self.running: dict[Task, tuple[Handle, int]] = {}
        self.busy: list[Task] = []
        self._reasons: dict[Setting, list[str]] = {}
        self._dropped: set[Setting] = set()
        self.ended: list[Ended] = []

    def add(self, setting: Setting) -> None:
        """Takes a setting, which has ended at once where all its seeds have finished before."""
        self._reasons[setting] = []
        self._plan(Task(setting, setting.job, None))

    def idle(self) -> bool:
        """Says whether nothing runs and nothing waits."""
        return not (self.waiting or self.running or self.busy or self.ended)

    def turn(self) -> list[Ended]:
        """Looks once at all that runs, and starts what may; returns what has ended since the turn before."""
        for task, (handle, offset) in list(self.running.items()):
            self._look(task, handle, offset)
        for task in [task for task in self.busy if not _written(task.job)]:
            self.busy.remove(task)
            self._plan(task)
        while self.waiting and self.room.for_one_more(list(self.running), self.waiting[0]):
            self._start(self.waiting.popleft())
        ended, self.ended = self.ended, []
        return ended

    def drop(self, setting: Setting) -> None:
        """Stops a setting, which saves what it has; it counts as ended then."""
        self._dropped.add(setting)
        self.waiting = deque(task for task in self.waiting if task.setting != setting)
        for task, (handle, _) in self.running.items():
            if task.setting == setting:
                handle.terminate()

    def close(self) -> None:
        """Stops all that runs and waits until it has saved; a KeyboardInterrupt meanwhile stops it at once."""
        self.waiting.clear()
        handles = [handle for handle, _ in self.running.values()]
        try:
            _stop(handles)
        except KeyboardInterrupt:
            _stop(handles, PATIENCE)
            raise

    def _plan(self, task: Task) -> None:
        """Divides seeds into processes; what somebody else trains waits until it is free."""
        if _written(task.job):
            self.say(f"{task.name}: {BUSY}; waits for it")
            self.busy.append(task)
            return
        try:
            parts = missing(task.job, self.aside)
        except ValueError as error:
            self._fail(task, str(error))
            return
        for part in parts:
            stacks = list(_stacks(part.job.seeds, 0 if part.threads else self.stack))
            if part.threads and len(stacks) > 1:
                folder = part.job.folder(part.job.seeds[0])
                self._fail(task, f"{words(part.job.seeds)} are one stack, which wgf sweep cannot name; wgf resume {folder} goes on with it")
                continue
            for seeds in stacks:
                self.waiting.append(task._replace(job=replace(task.job, seeds=seeds), threads=part.threads))
        self._check(task.setting)

    def _start(self, task: Task) -> None:
        command = Command(arguments(task), task.log, threads(task), task.demand[0])
        offset = task.log.stat().st_size if task.log.exists() else 0
        try:
            self.running[task] = self.engine.start(command), offset
        except OSError as error:
            self._fail(task, f"{error.filename}: {error.strerror}")

    def _look(self, task: Task, handle: Handle, offset: int) -> None:
        """Takes a task out that has ended: well, to go on since it was killed, or with a reason."""
        try:
            code = handle.poll()
            why = reason(task.log, offset, code) if code else ""
        except ValueError as error:
            code, why = 1, str(error)
        if code is None:
            return
        del self.running[task]
        killed = code < 0 or code == STOPPED or BUSY in why
        if code == 0 or task.setting in self._dropped:
            self._check(task.setting)
        elif killed and task.tries < TRIES:
            self.say(f"{task.name}: {why}; goes on")
            self._plan(task._replace(tries=task.tries + 1))
        else:
            self._fail(task, why)

    def _fail(self, task: Task, why: str) -> None:
        self._reasons[task.setting].append(f"{task.name}: {why}")
        self._check(task.setting)

    def _check(self, setting: Setting) -> None:
        if setting in self._reasons and not any(task.setting == setting for task in (*self.waiting, *self.running, *self.busy)):
            self.ended.append(Ended(setting, self._reasons.pop(setting)))


def _stop(handles: Sequence[Handle], patience: float | None = None) -> None:
    for handle in handles:
        handle.terminate()
    began = time.monotonic()
    while any(_runs(handle) for handle in handles):
        if patience is not None and time.monotonic() - began > patience:
            for handle in handles:
                handle.kill()
        time.sleep(LOOK)


def _runs(handle: Handle) -> bool:
    try:
        return handle.poll() is None
    except ValueError:
        return False


def _written(job: Job) -> bool:
    return any(being_written(job.folder(seed)) for seed in job.seeds)


def _stacks(seeds: tuple[int, ...], most: int) -> Iterator[tuple[int, ...]]:
    """Divides seeds into runs of numbers that follow one another, as a command line names them, of at most so many."""
    for _, group in groupby(enumerate(seeds), key=lambda pair: pair[1] - pair[0]):
        whole = [seed for _, seed in group]
        size = most or len(whole)
        yield from (tuple(whole[i : i + size]) for i in range(0, len(whole), size))


def arguments(task: Task) -> list[str]:
    """Returns the arguments of ``wgf`` that train the seeds of a task, in full: nothing depends on the machine that runs them."""
    job = task.job
    first = ["train", task.setting.token, "--env", job.env, "--seeds", str(len(job.seeds)), "--first-seed", str(job.seeds[0])]
    options: dict[str, Any] = {}
    for group in (job.schedule, replace(job.place, threads=threads(task))):
        options |= {field.name: getattr(group, field.name) for field in fields(group)}
    rest = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", written(value))]
    return [*first, "--preset", job.preset, *rest]


def threads(task: Task) -> int:
    """Returns the number of threads of a training: those that it began with, or as ``wgf train`` would choose on this machine."""
    return task.threads or machine.find_threads(task.job.place.threads, len(task.job.seeds), task.job.cfg)


@lru_cache(maxsize=2**12)
def demand(job: Job) -> tuple[float, float]:
    """Returns the bytes that a training takes beside its process, about: of the machine's memory, and of a GPU's. Raises as it would."""
    agent = Description(job.agent, job.env, job.seeds, job.preset, job.place.device, job.place.backend, job.settings(), {})
    held = needs.memory(agent, job.schedule)
    return (held, 0.0) if agent.device.type == "cpu" else (0.0, held)
