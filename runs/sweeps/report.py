"""What a sweep ends with: a table of all its runs, and one of its settings over their seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from wgf.runs.sweeps.grid import Setting
from wgf.runs.trainer import tables
from wgf.runs.trainer.compare import Curves, read
from wgf.runs.trainer.reuse import finished
from wgf.runs.trainer.statistics import COVERAGE, interval

__all__ = ["write"]

UNKNOWN = "-"


def write(settings: Sequence[Setting], states: Mapping[Setting, str], folder: Path) -> str:
    """Writes sweep.md, .txt and .csv, a row for each run, and settings.md, .txt and .csv, one for each setting; returns both as text.

    ``states`` has a word for settings whose runs have not all finished.
    """
    found = {each: {seed: _curves(each, seed) for seed in each.job.seeds} for each in settings}
    runs = [_run(each, seed, c, states.get(each, "not finished")) for each, curves in found.items() for seed, c in curves.items()]
    rows = [_setting(each, [c for c in curves.values() if c]) for each, curves in found.items()]
    return tables.write(folder / "sweep", runs) + "\n" + tables.write(folder / "settings", rows, COVERAGE)


def _curves(each: Setting, seed: int) -> Curves | None:
    """Returns the evaluations of a run that has finished."""
    try:
        return read(each.job.label, [each.job.folder(seed)]) if finished(each.job, seed) else None
    except ValueError:  # metrics.csv is damaged
        return None


def _run(each: Setting, seed: int, c: Curves | None, state: str) -> dict[str, str]:
    row = {"environment": each.job.env, "agent": each.job.label, "seed": str(seed), "state": "finished" if c else state}
    if c is None:
        return row | dict.fromkeys(("steps", "final return", "mean return", "best return"), UNKNOWN)
    final, mean, best = c.evals[0, -1], c.evals.mean(), c.evals.max()
    return row | {"steps": f"{c.steps[-1]:,.0f}", "final return": _g(final), "mean return": _g(mean), "best return": _g(best)}


def _setting(each: Setting, curves: Sequence[Curves]) -> dict[str, str]:
    row = {"environment": each.job.env, "agent": each.job.label, "seeds": f"{len(curves)} of {len(each.job.seeds)}"}
    for name, values in (("final return", [c.evals[0, -1] for c in curves]), ("mean return", [c.evals.mean() for c in curves])):
        row[f"{name}, IQM [95 %]"] = str(interval(np.array(values))) if curves else UNKNOWN
    return row


def _g(value: float) -> str:
    return f"{value:,.4g}"
