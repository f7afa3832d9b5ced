"""Evaluations of finished runs as rows of a CSV file: a study writes one, and a later one takes for known what it finds there."""

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wgf.limits import contents
from wgf.runs.trainer import tables
from wgf.runs.trainer.compare import Curves, read
from wgf.runs.trainer.reuse import complete
from wgf.runs.trainer.training import Job, words

HEAD = ["environment", "label", "settings", "seed", "step", "return"]
LARGEST = 2**28  # bytes of such a file


class Plan(NamedTuple):
    """A training of a study, and what makes its runs the same experiment as those of another day, in words."""

    job: Job
    settings: str


def planned(job: Job, label: str) -> Plan:
    """The plan of a job of ``wgf compare``, whose label says its agent and settings, under the name that a study has for it."""
    schedule = job.schedule
    return Plan(replace(job, label=label), f"{job.label},steps={schedule.steps},warmup={schedule.warmup}")


def gather(plans: Sequence[Plan], known: Path | None, say: Callable[[str], None]) -> tuple[int, list[Curves]]:
    """Trains the seeds that neither a file of such rows nor the folders have; returns an exit code and, where it is 0, every curve.

    Curves with seeds of the file have no episodes, and nan for a rate. **Raises** ValueError, in one line, for a file that is none of
    these, or that has one of the plans with other settings.
    """
    stored, rest = (read_rows(known) if known else {}), []
    for job, settings in plans:
        mine = [seed for seed in job.seeds if (job.env, job.label, seed) in stored]
        for found, _ in (stored[job.env, job.label, seed] for seed in mine):
            if found != settings:
                raise ValueError(f"{known} has {job.label} with {found}, not {settings}; give the same settings, or leave --known out")
        if mine:
            say(f"{known}: {job.label}, {words(mine)} known")
        rest.append(replace(job, seeds=tuple(seed for seed in job.seeds if seed not in mine)))
    if code := complete([job for job in rest if job.seeds], say):
        return code, []
    return 0, [_together(plan.job, job, stored) for plan, job in zip(plans, rest, strict=True)]


Looks = dict[float, float]  # step -> return
Stored = dict[tuple[str, str, int], tuple[str, Looks]]  # environment, label, seed -> settings, looks


def _together(job: Job, rest: Job, stored: Stored) -> Curves:
    """The curves of a job's seeds, in order, of which those of ``rest`` were trained and the others are known."""
    trained = read(job.label, [rest.folder(seed) for seed in rest.seeds]) if rest.seeds else None
    if trained and rest.seeds == job.seeds:
        return trained
    looks = {seed: stored[job.env, job.label, seed][1] for seed in job.seeds if seed not in rest.seeds}
    if trained:
        steps = trained.steps.tolist()
        looks |= {seed: dict(zip(steps, evals, strict=True)) for seed, evals in zip(rest.seeds, trained.evals.tolist(), strict=True)}
    steps = list(looks[job.seeds[0]])
    if any(list(each) != steps for each in looks.values()):
        raise ValueError(f"the seeds of {job.label} were not looked at after the same steps; leave --known out")
    evals = np.array([list(looks[seed].values()) for seed in job.seeds])
    return Curves(job.label, np.array(steps), evals, [], float("nan"))


def read_rows(path: Path) -> Stored:
    """Reads a file of ``write_rows``. Raises ValueError, in one line, for anything else."""
    found: Stored = {}
    try:
        rows = csv.DictReader(contents(path, LARGEST).decode().splitlines(), strict=True)
        for row in rows:
            settings, looks = found.setdefault((row["environment"], row["label"], int(row["seed"])), (row["settings"], {}))
            step, value = float(row["step"]), float(row["return"])
            if settings != row["settings"] or step in looks or not np.isfinite((step, value)).all():
                raise ValueError
            looks[step] = value
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, csv.Error):
        raise ValueError(f"{path} is no file of evaluations, with the columns {', '.join(HEAD)}") from None
    return found


def write_rows(path: Path, plans: Sequence[Plan], curves: Sequence[Curves]) -> None:
    """Writes every evaluation of every seed."""
    tables.write_rows(path, HEAD, _rows(plans, curves))


def _rows(plans: Sequence[Plan], curves: Sequence[Curves]) -> Iterable[tuple[str, str, str, int, int, str]]:
    for (job, settings), c in zip(plans, curves, strict=True):
        for seed, evals in zip(job.seeds, c.evals.tolist(), strict=True):
            for step, value in zip(c.steps.tolist(), evals, strict=True):
                yield job.env, job.label, settings, seed, int(step), f"{value:.9g}"
