"""Compares agents: trains what is missing, then writes a figure with bands, and a table as text, Markdown and CSV."""

import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isnan
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from wgf.agents.training.checkpoint import again, read_sealed, read_whole
from wgf.agents.training.envs import reward_threshold
from wgf.agents.training.schedule import Schedule
from wgf.runs.command.options import Contest, Place
from wgf.runs.trainer import board, tables, training
from wgf.runs.trainer.figures import caption, display, figure, returns
from wgf.runs.trainer.reuse import complete
from wgf.runs.trainer.statistics import COVERAGE, TESTS, Values, difference, episodes_to, holm, improvement, interval

__all__ = [
    "PARTS", "THRESHOLDS", "Curves", "compare", "compared", "draw", "minutes", "mixed", "over_training_and_at_the_end", "padded", "plan",
    "read", "table", "write",
]  # fmt: skip

RETURN, RATE = "eval/return", "charts/steps_per_second"
# Zhang et al. 2018, Table 2; elsewhere the return at which Gymnasium calls a task solved.
THRESHOLDS = {"Swimmer": 100.0, "Walker2d": 3000.0, "Hopper": 2000.0, "Humanoid": 2000.0}


def compare(what: Contest, schedule: Schedule, place: Place, say: Callable[[str], None]) -> int:
    """Trains what is missing, then writes and prints the comparison; returns an exit code."""
    jobs = [plan(token, what, schedule, place) for token in what.agents]
    if code := complete(jobs, say, diverged=True):
        return code
    threshold = what.threshold
    if threshold is None:
        threshold = THRESHOLDS.get(what.env.rpartition("-")[0], reward_threshold(what.env))
    folder = jobs[0].folder(0).parents[1]
    runs = [[job.folder(seed) for seed in job.seeds] for job in jobs]
    curves = [read(job.label, folders) for job, folders in zip(jobs, runs, strict=True)]
    for line in mixed([folder for folders in runs for folder in folders]):
        print(f"wgf: {line}", file=sys.stderr)
    shown = write(curves, what.env, threshold, folder)
    say(f"\n{shown}\nfigure: {folder / 'compare.png'} .pdf\ntable:  {folder / 'compare.md'} .csv .txt")
    say(f"curves: tensorboard --logdir {place.out}    (Custom Scalars: one curve with its band per agent)")
    return 0


def plan(token: str, what: Contest, schedule: Schedule, place: Place) -> training.Job:
    """Makes the job of "AGENT:field=value:..." in a comparison."""
    return training.job(token, what.preset, what.env, what.chosen(), schedule, place)


class Curves(NamedTuple):
    """The runs of one agent: evaluation steps (points,), evaluation returns (seeds, points), and each seed's training returns in order.

    ``diverged``: how many evaluations are its own of each row whose numbers turned non-finite; the last one stands in the others.
    """

    label: str
    steps: Values
    evals: Values
    episodes: list[Values]
    rate: float  # environment steps per second, evaluations included, all seeds of a stack together
    seconds: Values = np.array(np.nan)  # that the stack trained until each evaluation (points,), the mean over runs; nan: not known
    diverged: Mapping[int, int] = MappingProxyType({})


def read(label: str, folders: Sequence[Path]) -> Curves:
    """Reads metrics.csv and result.json of finished runs with equal schedules.

    **Raises** ValueError, in one line, for a folder without such a run, and where result.json is not as it was written, or metrics.csv
    not as result.json says.
    """
    points, episodes, rates, times = [], [], [], []
    diverged: dict[int, int] = {}
    for row, folder in enumerate(folders):
        result, data = again(partial(_written, folder))
        try:
            columns: dict[str, list[tuple[float, float]]] = {name: [] for name in (RETURN, "charts/episodic_return", RATE)}
            for line in csv.DictReader(data.decode().splitlines()):
                columns.setdefault(line["tag"], []).append((float(line["step"]), float(line["value"])))
            points.append(np.array(columns[RETURN]).reshape(-1, 2))
            episodes.append(np.array([value for _, value in columns["charts/episodic_return"]]))
            rates.append(_number(result, "step") * _number(result, "stack") / _number(result, "seconds"))
            times.append(np.array(columns[RATE]).reshape(-1, 2))
        except (KeyError, TypeError, ValueError, ArithmeticError, csv.Error):
            raise ValueError(f"{folder / 'metrics.csv'} cannot be read as a run's metrics; move the run away to train it again") from None
        if result.get("diverged") is True:
            diverged[row] = len(points[-1])
    steps = max((p[:, 0] for p in points), key=len)
    for row, (folder, p) in enumerate(zip(folders, points, strict=True)):
        if not len(p) or not np.array_equal(p[:, 0], steps[: diverged.get(row)]):
            raise ValueError(f"{folder / 'metrics.csv'} lacks evaluations; move the run away to train it again")
    evals = np.stack([padded(p[:, 1], len(steps)) for p in points])
    spent = [_seconds(t, steps) for row, t in enumerate(times) if row not in diverged or len(diverged) == len(times)]
    return Curves(label, steps, evals, episodes, float(np.mean(rates)), np.mean(spent, 0), diverged)


def padded(looks: Values, n: int) -> Values:
    """Returns n looks of a seed: its own, and the last of them in the place of those that it has not."""
    return np.pad(looks, (0, n - len(looks)), mode="edge")


def _seconds(rates: Values, steps: Values) -> Values:
    """Returns the seconds of training until each of ``steps``, of rows (step, steps per second since the row before); nan without rows."""
    if not len(rates):
        return np.full(len(steps), np.nan)
    return np.interp(steps, rates[:, 0], np.cumsum(np.diff(rates[:, 0], prepend=0.0) / rates[:, 1]))


def minutes(c: Curves) -> str:
    """Returns how many minutes the training took until the last evaluation, all seeds of a stack together; "-" where it is not known."""
    spent = np.ravel(c.seconds)[-1] / 60.0
    return f"{spent:.3g}" if np.isfinite(spent) else "-"


def _written(folder: Path) -> tuple[dict[str, Any], bytes]:
    result = read_sealed(folder / "result.json")
    return result, read_whole(folder / "metrics.csv", result.get("metrics"), "result.json")


def _number(result: Mapping[str, Any], name: str) -> float:
    value = result[name]
    if type(value) not in (int, float):
        raise TypeError(name)
    return float(value)


def mixed(folders: Sequence[Path]) -> list[str]:
    """Returns a line for each package whose version differs among runs, and one if the kind of device does: returns may differ for that."""
    rows = []
    for path in [folder / "config.json" for folder in folders]:
        config = read_sealed(path)
        if not isinstance(versions := config.get("versions") or {}, dict):
            raise ValueError(f"{path} does not say which versions: it was not written by wgf")
        rows.append({**versions, "device": str(config.get("device")).partition(":")[0]})
    lines = []
    for name in ("torch", "mujoco", "gymnasium", "envpool", "wgflow", "device"):
        found = sorted({str(row.get(name)) for row in rows})
        if len(found) > 1:
            lines.append(f"these runs mix {name} {' and '.join(found)}: their returns may differ for that alone")
    return lines


def table(runs: Sequence[Curves], threshold: float | None) -> list[dict[str, str]]:
    """Returns one row per agent. Each but the first is compared with the first, by final returns."""
    rows, against = [], compared([c.evals[:, -1] for c in runs])
    for c, comparison in zip(runs, against, strict=True):
        final = c.evals[:, -1]
        row = {
            "agent": c.label,
            "seeds": str(len(final)),
            "steps": f"{c.steps[-1]:,.0f}",
            "final return, IQM [95 %]": _cell(c, final),
            "best average return": f"{c.evals.mean(0).max():,.4g}",
        }
        if threshold is not None:
            row[f"episodes to {threshold:g}"] = _reached(c, threshold)
        row |= {name.format(runs[0].label): words for name, words in comparison.items()}
        row["steps/s, all seeds"] = "-" if isnan(c.rate) else f"{c.rate:,.0f}"
        rows.append(row)
    return rows


def compared(finals: Sequence[Values]) -> list[dict[str, str]]:
    """Returns how the final returns of each agent stand to the first one's, in words; {} is the name of the first."""
    names = ("mean - that of {}", "P(better than {})", "p (Welch, ranks)")
    first, *others = finals
    found = [difference(x, first) if min(len(x), len(first)) > 1 else None for x in others]
    tested = [f for f in found if f]
    corrected = iter(zip(holm([f.welch for f in tested]), holm([f.ranks for f in tested]), strict=True))
    rows = [dict.fromkeys(names, "-")]
    for x, f in zip(others, found, strict=True):
        interval, p = (str(f.interval), ", ".join(f"{p:.2g}" for p in next(corrected))) if f else ("-", "-")
        rows.append(dict(zip(names, (interval, f"{improvement(x, first):.2g}", p), strict=True)))
    return rows


# of an agent's evaluations: a number per seed
PARTS: dict[str, Callable[[Curves], Values]] = {"over training": lambda c: c.evals.mean(1), "at the end": lambda c: c.evals[:, -1]}


def over_training_and_at_the_end(runs: Sequence[Curves], first: str) -> list[dict[str, str]]:
    """Returns, for each of several agents, its returns over the whole training and at the end, and how both stand to the first one's."""
    rows = [dict[str, str]() for _ in runs]
    for part, of in PARTS.items():
        values = [of(c) for c in runs]
        for c, row, value, against in zip(runs, rows, values, compared(values), strict=True):
            row[f"return {part}, IQM [95 %]"] = _cell(c, value)
            row |= {f"{name.format(first)} {part}": words for name, words in against.items()}
    return rows


def _cell(c: Curves, values: Values) -> str:
    """Returns the interval of a number per seed, and how many seeds diverged."""
    return f"{interval(values)}" + (f", {len(c.diverged)} diverged" if c.diverged else "")


def _reached(c: Curves, threshold: float) -> str:
    """Tells after how many episodes seeds reach the threshold: the median over those that do, and how many do; - without episodes."""
    if not c.episodes:
        return "-"
    needed = np.array([episodes_to(r, threshold) for r in c.episodes])
    reached = np.isfinite(needed)
    return f"{np.median(needed[reached]):.0f} ({reached.sum()}/{len(needed)} seeds)" if reached.any() else "not reached"


def above(values: Values, lowest: float) -> tuple[Values, Values]:
    """Returns points (x, y) of the steps y = share of the values that are at least x, y holding on the left of its x, from ``lowest``."""
    x = np.sort(values)
    share = np.arange(len(x), -1.0, -1.0) / len(x)
    return np.array([lowest, *x, x[-1]]), np.array([1.0, *share])


def draw(runs: Sequence[Curves], title: str, path: Path) -> None:
    """Draws evaluation returns against steps, and against minutes where these are known, and the share of seeds above each final return.

    Returns: the IQM, its 95 % bootstrap band, and each seed as a thin line. **Source** of the last panel, the performance profile:
    Agarwal et al. 2021, Sec. 4.2.
    """
    timed = all(np.isfinite(c.seconds).all() for c in runs)
    with figure(path, columns=2 + timed, note=caption(*(len(c.evals) for c in runs)), panel=(4.6, 4.0)) as axes:
        by_steps, *by_minutes, profile = axes[0]
        lowest = min(c.evals[:, -1].min() for c in runs)
        for c in runs:
            returns(by_steps, c.steps, c.evals, display(c.label))
            for axis in by_minutes:
                returns(axis, c.seconds / 60.0, c.evals, display(c.label))
            profile.step(*above(c.evals[:, -1], lowest), label=display(c.label), linewidth=2)
        by_steps.set(title=title, xlabel="environment steps per seed", ylabel="evaluation return")
        for axis in by_minutes:
            axis.set(xlabel="minutes of training, all seeds of a stack together", ylabel="evaluation return")
        profile.set(xlabel="return at the end", ylabel="share of seeds with at least that", ylim=(0.0, 1.05))


def write(runs: Sequence[Curves], title: str, threshold: float | None, folder: Path) -> str:
    """Writes compare.png, .pdf, .txt, .md and .csv in a folder, and TensorBoard's events; returns the text table with its note."""
    draw(runs, title, folder / "compare.png")
    board.write(runs, title, folder / "compare.png")
    return tables.write(folder / "compare", table(runs, threshold), f"{COVERAGE} {TESTS}")
