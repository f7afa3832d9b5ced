"""Finds what of a job is still to be trained: finished runs stay, unfinished ones go on, and nothing is ever deleted."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from wgf.agents.training.checkpoint import read_json, read_sealed
from wgf.agents.training.folder import checkpoints, difference, free
from wgf.agents.training.log import LOCK, being_written
from wgf.agents.training.record import FINISHED
from wgf.ranks import Group
from wgf.runs.command.answers import STOPPED
from wgf.runs.trainer.tables import filled, writable
from wgf.runs.trainer.training import MANY_THREADS, Job, report, run, words
from wgf.shards import ALONE
from wgf.shown import shown

__all__ = ["Part", "complete", "finished", "locked", "missing", "move_aside"]

OURS = re.compile(r"metrics\.csv|curves\.csv|events\..*|training|\..*\.tmp|\.lock")  # what a run has that died at once


class Part(NamedTuple):
    """Seeds that train as one stack: fresh, or from their last checkpoint on, with the threads of before."""

    job: Job
    threads: int | None = None


def complete(jobs: Sequence[Job], say: Callable[[str], None], group: Group = ALONE.group, *, diverged: bool = False) -> int:
    """Trains what is missing, job by job; returns an exit code: 75 as soon as one was interrupted, 70 at the end where one failed.

    ``diverged``: a seed whose numbers turned non-finite after its first evaluation has ended, too: it would do so again. Raises as
    ``missing`` before it trains. Of several ranks the first alone looks, and speaks.
    """
    first, worst = group.rank == 0, 0
    say = say if first else lambda line: None
    parts = [_told(job, group, diverged=diverged) for job in jobs]
    for job in [job for job, mine in zip(jobs, parts, strict=True) if not mine]:
        say(f"{job.folder(0).parent}: {words(job.seeds)} finished before; with more --steps they would go on")
    for part in [part for mine in parts for part in mine]:
        code = report(part.job.folder(0).parent, part.job.seeds, run(part.job, say, part.threads), muted=not first)
        if code == STOPPED:
            return code
        if code and not (diverged and all(finished(part.job, seed, diverged=True) for seed in part.job.seeds)):
            worst = code
    return worst


def _told(job: Job, group: Group, *, diverged: bool) -> list[Part]:
    """What is missing of a job, which the first rank has looked for."""
    found = group.first(lambda: [(list(part.job.seeds), part.threads) for part in missing(job, diverged=diverged)])
    return [Part(replace(job, seeds=tuple(seeds)), threads) for seeds, threads in found]


def missing(job: Job, aside: Callable[[Path], None] | None = None, *, diverged: bool = False) -> list[Part]:
    """Returns the stacks of a job that have not finished, nor, if that counts, ``diverged``. A run that has no checkpoint is moved
    ``aside``, and trained again.

    Raises ValueError where a folder holds a run of other settings, one that is still being written, or a part of another stack.
    """
    fresh: list[int] = []
    stacks: dict[tuple[int, ...], int] = {}  # and their threads
    for seed in job.seeds:
        if free(job.folder(seed)):
            fresh.append(seed)
        elif config := _unfinished(job, seed, diverged=diverged):
            stack = _stack(job, seed, config)
            if not checkpoints(job.folder(seed).parent, stack).steps():
                if _ended(job.folder(seed)):
                    raise ValueError(f"{job.folder(seed)} has finished and left no checkpoint to go on from; give another --name or --out")
                (aside or move_aside)(job.folder(seed))
                fresh.append(seed)
            else:
                stacks[stack] = _threads(job, seed, config)
    for stack in stacks:
        if not set(stack) <= set(job.seeds):
            raise ValueError(f"{job.folder(stack[0]).parent} holds {words(stack)} as one stack, which goes on as a whole: give these seeds")
    parts = [Part(replace(job, seeds=stack), threads) for stack, threads in stacks.items()]
    return [*parts, *([Part(replace(job, seeds=tuple(fresh)))] if fresh else [])]


def _stack(job: Job, seed: int, config: Mapping[str, Any]) -> tuple[int, ...]:
    """Returns the seeds that train with one."""
    stack = config.get("stack", [seed])
    if not isinstance(stack, list) or not all(type(k) is int for k in stack) or seed not in stack:
        raise ValueError(f"{job.folder(seed) / 'config.json'} says that seeds {shown(stack)} are a stack: it was not written by wgf train")
    return tuple(stack)


def _threads(job: Job, seed: int, config: Mapping[str, Any]) -> int:
    """Returns the number of threads of a run that goes on: they are part of what it is, since they move the last digits of a sum."""
    threads, asked = config.get("threads"), job.place.threads
    if type(threads) is not int or not 1 <= threads <= MANY_THREADS:
        raise ValueError(f"{job.folder(seed) / 'config.json'} does not say how many threads: it was not written by wgf train")
    if asked not in (0, threads):
        raise ValueError(f"{job.folder(seed)} holds a run with threads = {threads}, not {asked}; give the same, or another --name or --out")
    return threads


def _unfinished(job: Job, seed: int, *, diverged: bool) -> dict[str, Any] | None:
    """Returns the config.json of a run that is to be trained, {} where there is none; None where it has finished."""
    folder = job.folder(seed)
    if being_written(folder):
        raise ValueError(f"{folder} is being written by another process; wait for it, or give another --name")
    if not (folder / "config.json").exists():
        return {"stack": [seed]}
    config, want = read_sealed(folder / "config.json"), {**job.identity(), "seed": seed}
    schedule = config.get("schedule")
    done = schedule.get("steps") if isinstance(schedule, dict) else None
    if isinstance(done, int) and done > job.schedule.steps:
        want["schedule"]["steps"] = job.schedule.steps  # it has gone further
    if different := difference(want, config):
        raise ValueError(f"{folder} holds a run with {different}; give another --name or --out")
    return None if done == job.schedule.steps and _ended(folder, diverged=diverged) else config


def finished(job: Job, seed: int, *, diverged: bool = False) -> bool:
    """Says whether the run of a seed has finished, or if that counts ``diverged``, with the settings and the steps of its job."""
    try:
        return not free(job.folder(seed)) and _unfinished(job, seed, diverged=diverged) is None
    except ValueError:
        return False


def _ended(folder: Path, *, diverged: bool = False) -> bool:
    if not (folder / "result.json").exists():
        return False
    result = read_sealed(folder / "result.json")
    looked = result.get("eval_return") is not None
    return result.get("status") == FINISHED or (diverged and result.get("diverged") is True and looked)


def move_aside(folder: Path) -> None:
    """Renames the folder of an unfinished run: nothing is lost, and the name is free.

    Raises ValueError for a folder that wgf did not write: one that has neither a config.json of it nor only files of its names.
    """
    names = sorted(path.name for path in folder.iterdir())
    if "config.json" in names:
        foreign = None if "versions" in read_json(folder / "config.json") else "config.json"
    else:
        foreign = next((name for name in names if not OURS.fullmatch(name)), None)
    if foreign:
        raise ValueError(f"{folder} holds {foreign!r}, which wgf did not write; give another --name or --out")
    aside = next(p for i in count(1) if not (p := folder.with_name(f"{folder.name}.unfinished-{i}")).exists())
    folder.rename(aside)
    print(f"wgf: {folder} was not finished: moved to {aside.name}, trained again", file=sys.stderr)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes the folder of a study and holds its lock: no other process writes there meanwhile. What stays empty is removed at the end.

    Raises ValueError where another process has the lock.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    with filled(folder):
        try:
            writable(folder)
            lock.acquire()
            yield
        except Timeout:
            raise ValueError(f"{folder} is being written by another process; wait for it, or give another --name") from None
        finally:
            if lock.is_locked:
                (folder / LOCK).unlink(missing_ok=True)
            lock.release()
