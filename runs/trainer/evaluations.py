"""Evaluations of finished runs as rows of a CSV file: a study writes one, and a later one takes for known what it finds there."""

import csv
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from wgf.limits import contents
from wgf.runs.trainer import tables
from wgf.runs.trainer.compare import Curves, padded, read
from wgf.runs.trainer.reuse import complete
from wgf.runs.trainer.training import Job, words

__all__ = ["HEAD", "Plan", "best", "choices", "gather", "planned", "read_rows", "sweep", "write_rows"]

HEAD = ["environment", "label", "settings", "seed", "step", "return"]
LARGEST = 2**28  # bytes of such a file
K = TypeVar("K", bound=Hashable)  # what a study calls a plan
V = TypeVar("V", bound=Hashable)  # a setting that it tries


class Plan(NamedTuple):
    """A training of a study, and what makes its runs the same experiment as those of another day, in words."""

    job: Job
    settings: str


def planned(job: Job, label: str) -> Plan:
    """The plan of a job of ``wgf compare``, whose label says its agent and settings, under the name that a study has for it."""
    schedule = job.schedule
    return Plan(replace(job, label=label), f"{job.label},steps={schedule.steps},warmup={schedule.warmup}")


def gather(plans: Mapping[K, Plan], known: Path | None, say: Callable[[str], None]) -> tuple[int, dict[K, Curves]]:
    """Trains the seeds that neither a file of such rows nor the folders have; returns an exit code and, where it is 0, each plan's curves.

    Curves with seeds of the file have no episodes, and nan for a rate. **Raises** ValueError, in one line, for a file that is none of
    these, or that has one of the plans with other settings.
    """
    stored, rest = (read_rows(known) if known else {}), []
    for job, settings in plans.values():
        mine = [seed for seed in job.seeds if (job.env, job.label, seed) in stored]
        for found, _ in (stored[job.env, job.label, seed] for seed in mine):
            if found != settings:
                raise ValueError(f"{known} has {job.label} with {found}, not {settings}; give the same settings, or leave --known out")
        if mine:
            say(f"{known}: {job.label}, {words(mine)} known")
        rest.append(replace(job, seeds=tuple(seed for seed in job.seeds if seed not in mine)))
    if known and [job for job, _ in plans.values()] == rest:
        say(f"{known} has none of these trainings")
    if code := complete([job for job in rest if job.seeds], say, diverged=True):
        return code, {}
    return 0, {key: _together(plan.job, job, stored) for (key, plan), job in zip(plans.items(), rest, strict=True)}


def sweep(plans: Mapping[K, Mapping[V, Plan]], known: Path | None, say: Callable[[str], None]) -> tuple[int, dict[K, dict[V, Curves]]]:
    """``gather`` for several settings of each."""
    code, found = gather({(key, setting): plan for key, mine in plans.items() for setting, plan in mine.items()}, known, say)
    return code, {key: {setting: found[key, setting] for setting in mine} for key, mine in plans.items()} if found else {}


def best(runs: Mapping[V, Curves]) -> V:
    """Returns the setting with the best mean return over training and seeds: the rule of every study that chooses one."""
    return max(runs, key=lambda setting: float(runs[setting].evals.mean()))


def choices(tried: Mapping[Any, Mapping[float, Curves]]) -> list[Sequence[str]]:
    """Returns a line per key, a tuple of names, and setting: the mean return over training of each seed, and an x where it is the best."""
    return [
        (*names, f"{setting:g}", " ".join(f"{value:.1f}" for value in c.evals.mean(1)), "x" if setting == best(runs) else "")
        for names, runs in tried.items()
        for setting, c in runs.items()
    ]


Looks = dict[float, float]  # step -> return; nan, and no more steps, where the seed diverged
Stored = dict[tuple[str, str, int], tuple[str, Looks]]  # environment, label, seed -> settings, looks


def _together(job: Job, rest: Job, stored: Stored) -> Curves:
    """The curves of a job's seeds, in order, of which those of ``rest`` were trained and the others are known."""
    trained = read(job.label, [rest.folder(seed) for seed in rest.seeds]) if rest.seeds else None
    if trained and rest.seeds == job.seeds:
        return trained
    looks = {seed: stored[job.env, job.label, seed][1] for seed in job.seeds if seed not in rest.seeds}
    if trained:
        looks |= _looks(rest.seeds, trained)
    own = [{step: value for step, value in looks[seed].items() if not math.isnan(value)} for seed in job.seeds]
    longest = max((list(mine) for mine in own), key=len)
    diverged = {row: len(mine) for row, mine in enumerate(own) if len(mine) < len(looks[job.seeds[row]])}
    if any(not mine or list(mine) != longest[: diverged.get(row)] for row, mine in enumerate(own)):
        raise ValueError(f"the seeds of {job.label} were not looked at after the same steps; leave --known out")
    evals = np.stack([padded(np.array(list(mine.values())), len(longest)) for mine in own])
    return Curves(job.label, np.array(longest), evals, [], float("nan"), diverged=diverged)


def _looks(seeds: Sequence[int], c: Curves) -> dict[int, Looks]:
    """Returns each seed's own evaluations, by step; of one that diverged nan at the next, or a step after the last of all."""
    found: dict[int, Looks] = {}
    steps = [*c.steps.tolist(), float(c.steps[-1]) + 1.0]
    for row, (seed, evals) in enumerate(zip(seeds, c.evals.tolist(), strict=True)):
        n = c.diverged.get(row, len(evals))
        found[seed] = dict(zip(steps[:n], evals[:n], strict=True))
        if row in c.diverged:
            found[seed][steps[n]] = math.nan
    return found


def read_rows(path: Path) -> Stored:
    """Reads a file of ``write_rows``. Raises ValueError, in one line, for anything else."""
    found: Stored = {}
    try:
        rows = csv.DictReader(contents(path, LARGEST).decode().splitlines(), strict=True)
        for row in rows:
            settings, looks = found.setdefault((row["environment"], row["label"], int(row["seed"])), (row["settings"], {}))
            step, value = float(row["step"]), float(row["return"])
            ended = any(map(math.isnan, looks.values()))
            if settings != row["settings"] or step in looks or ended or not math.isfinite(step) or math.isinf(value):
                raise ValueError
            looks[step] = value
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except KeyError as column:
        raise ValueError(f"{path} is no file of evaluations: it has no column {column}; give one with {', '.join(HEAD)}") from None
    except (ValueError, TypeError, csv.Error):
        raise ValueError(f"{path} is no file of evaluations, with the columns {', '.join(HEAD)}") from None
    return found


def write_rows(path: Path, found: Iterable[tuple[Plan, Curves]], known: Path | None = None) -> None:
    """Writes every evaluation of every seed, those of a file that were not asked for as well: it may be the same file."""
    rows = read_rows(known) if known else {}
    for (job, settings), c in found:
        for seed, looks in _looks(job.seeds, c).items():
            rows[job.env, job.label, seed] = settings, looks
    lines = (
        (env, label, settings, seed, int(step), f"{value:.9g}")
        for (env, label, seed), (settings, looks) in rows.items()
        for step, value in looks.items()
    )
    tables.write_rows(path, HEAD, lines)
