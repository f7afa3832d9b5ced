"""Finds the runs of a job that are still to be trained: finished runs are reused, unfinished ones are moved aside and never deleted."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wgf.agents.training.checkpoint import read_sealed
from wgf.agents.training.log import being_written
from wgf.agents.training.record import FINISHED
from wgf.runs.trainer.training import Job, report, run


def complete(jobs: Sequence[Job], say: Callable[[str], None]) -> int:
    """Trains the seeds that are missing, job by job; returns the first exit code that is not 0. Raises as ``missing`` before it trains."""
    for todo in [missing(job) for job in jobs]:
        if todo.seeds and (code := report(todo, run(todo, say))):
            return code
    return 0


def missing(job: Job) -> Job:
    """Returns the job without the seeds whose finished runs can be reused.

    Raises ValueError where a folder holds a run of other settings, or one that is still being written.
    """
    return replace(job, seeds=tuple(seed for seed in job.seeds if not _reusable(job, seed)))


def _reusable(job: Job, seed: int) -> bool:
    folder = job.folder(seed)
    if not folder.is_dir() or not any(folder.iterdir()):
        return False
    if being_written(folder):
        raise ValueError(f"{folder} is being written by another process; wait for it, or give another --name")
    if (folder / "config.json").exists():
        if different := difference({**job.identity(), "seed": seed}, read_sealed(folder / "config.json")):
            raise ValueError(f"{folder} holds a run with {different}; give another --name or --out")
        if (folder / "result.json").exists() and read_sealed(folder / "result.json").get("status") == FINISHED:
            return True
    move_aside(folder)
    return False


def move_aside(folder: Path) -> None:
    """Renames the folder of an unfinished run: nothing is lost, and the name is free."""
    aside = next(p for i in range(1, 10_000) if not (p := folder.with_name(f"{folder.name}.unfinished-{i}")).exists())
    folder.rename(aside)
    print(f"wgf: {folder} was not finished: moved to {aside.name}, trained again", file=sys.stderr)


def difference(want: dict[str, Any], have: dict[str, Any], path: str = "") -> str | None:
    """Names the first setting in which ``have`` is not as wanted, for example "schedule.steps = 100, not 200"; None where there is none."""
    for key, value in want.items():
        other = have.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            if inner := difference(value, other, f"{path}{key}."):
                return inner
        elif value != other:
            return f"{path}{key} = {other!r}, not {value!r}"
    return None
