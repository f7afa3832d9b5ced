"""The tables that a sweep ends with, of runs whose evaluations are known."""

import csv

import numpy as np

from wgf.agents.training.schedule import Schedule
from wgf.runs.command.options import Place, Sweep
from wgf.runs.sweeps import report
from wgf.runs.sweeps.grid import entries, settings
from wgf.runs.trainer.compare import Curves


def rows(path):
    with path.open(newline="") as f:
        return list(csv.DictReader(f))


def test_the_tables_have_final_mean_and_best_returns_of_the_seeds_that_finished(tmp_path, monkeypatch):
    """Of two seeds the interquartile mean is the mean, and of four resamples one has the first twice and one the second."""
    what = Sweep(environments=("a/B-v0",), agents=["sac"], seeds=3)
    (setting,) = settings(what, entries(what, ()), Schedule(), Place())
    evals = {0: [[8.0, 5.0]], 2: [[3.0, 9.0]]}
    found = {seed: Curves("sac", np.array([10.0, 2000.0]), np.array(each), [], 1.0) for seed, each in evals.items()}
    monkeypatch.setattr(report, "_curves", lambda each, seed: found.get(seed))
    text = report.write([setting], {setting: "failed"}, tmp_path)
    columns = ("seed", "state", "steps", "final return", "mean return", "best return")
    assert [tuple(row[name] for name in columns) for row in rows(tmp_path / "sweep.csv")] == [
        ("0", "finished", "2,000", "5", "6.5", "8"),
        ("1", "failed", "-", "-", "-", "-"),
        ("2", "finished", "2,000", "9", "6", "9"),
    ]
    assert rows(tmp_path / "settings.csv") == [
        {
            "environment": "a/B-v0", "agent": "sac", "seeds": "2 of 3",
            "final return, IQM [95 %]": "7 [5, 9]", "mean return, IQM [95 %]": "6.25 [6, 6.5]",
        }
    ]  # fmt: skip
    assert text == "\n".join((tmp_path / f"{name}.txt").read_text() for name in ("sweep", "settings"))
