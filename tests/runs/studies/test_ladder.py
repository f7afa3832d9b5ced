"""The ladder's recipe: what each rung trains, what the table says of finished runs, and a short one from beginning to end."""

import csv
import re
from dataclasses import asdict

import numpy as np
import pytest
from scipy.stats import ttest_ind

from wgf.runs.studies.ladder import RUNGS, Options, rows
from wgf.runs.studies.main import run
from wgf.runs.trainer.compare import Curves


def curves(level, rate):
    """Five seeds that differ by 1, two looks."""
    return Curves("any", np.array([10.0, 20.0]), level + np.arange(5.0)[:, None] + np.array([0.0, 4.0]), [], rate)


def test_each_rung_changes_what_it_says_and_nothing_else():
    options = Options(seeds=3, first_seed=7, particles=4)
    jobs = {rung: options.plan(rung).job for rung in RUNGS}
    assert {job.seeds for job in jobs.values()} == {(7, 8, 9)}
    assert {(job.cfg.hidden, job.cfg.batch, job.cfg.members, job.cfg.lr) for job in jobs.values()} == {((128, 128), 64, 2, 3e-4)}
    cfgs = {rung: asdict(job.cfg) for rung, job in jobs.items() if rung != "sac"}
    changed = {
        rung: {name for name, value in cfg.items() if value != cfgs[RUNGS[rung].below][name]}
        for rung, cfg in cfgs.items()
        if rung != "draws"
    }
    assert changed == {"kernel": {"kl"}, "noise": {"w2_scale"}, "radius": {"w2_scale", "w2_radius"}, "eq9": {"w2", "w2_scale", "previous"}}
    assert (cfgs["draws"]["kl"], cfgs["draws"]["particles"], cfgs["draws"]["w2_scale"]) == ("density", 4, 0.0)


def test_the_table_compares_each_rung_with_the_one_below_it():
    first, draws, kernel, eq9 = rows(
        {"sac": curves(0.0, 40.0), "draws": curves(10.0, 20.0), "kernel": curves(7.0, 10.0), "eq9": curves(7.0, 5.0)}
    )
    assert [row["compared with"] for row in (first, draws, kernel, eq9)] == ["-", "sac", "draws", "kernel"]
    assert [row["return over training, mean"] for row in (first, draws, kernel, eq9)] == ["4", "14", "11", "11"]
    assert [row["return at the end, mean"] for row in (first, draws, kernel, eq9)] == ["6", "16", "13", "13"]
    assert [row["time / sac"] for row in (first, draws, kernel, eq9)] == ["1.00", "2.00", "4.00", "8.00"]
    half = ttest_ind(np.arange(5.0), np.arange(5.0), equal_var=False).confidence_interval(0.95).high
    assert draws["difference over training"].startswith(f"10 [{10 - half:.4g}, {10 + half:.4g}], p ")
    assert kernel["difference at the end"].startswith(f"-3 [{-3 - half:.4g}, {-3 + half:.4g}], p ")
    alone = rows({"sac": curves(0.0, 40.0), "eq9": curves(7.0, 5.0)})[1]
    assert (alone["compared with"], alone["difference over training"].split()[0]) == ("sac", "7")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--rungs", "top"], "rungs has 'top'; it may have sac, draws, kernel, noise, radius, eq9"),
        (["--rungs", "kernel"], "rungs is kernel; it needs sac, which the others are compared with"),
        (["--particles", "1"], "particles is 1; it must be at least 2"),
        (["--seeds", "1"], "seeds is 1; it must be at least 2"),
    ],
)
def test_mistakes_are_named(args, words, capsys):
    assert run("ladder", args, "ladder") == 2
    assert words in capsys.readouterr().err


def test_a_short_ladder_from_beginning_to_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = [
        "--env",
        "Pendulum-v1",
        "--rungs",
        "sac",
        "radius",
        "--size",
        "preset=modern:hidden=8,8:batch=8",
        "--particles",
        "2",
        "--steps",
        "40",
    ]
    args += ["--warmup", "20", "--seeds", "2", "--device", "cpu", "--compile", "False"]
    assert run("ladder", args, "ladder") == 0
    with (tmp_path / "runs" / "ladder" / "evaluations.csv").open(newline="") as f:
        looks = list(csv.DictReader(f))
    assert len(looks) == 2 * 2 * 20
    assert {(row["label"], row["seed"]) for row in looks} == {(rung, seed) for rung in ("sac", "radius") for seed in "01"}
    assert "| radius | sac |" in (table := (tmp_path / "runs" / "ladder" / "ladder.md").read_text())
    assert "| 1.00 |" in table
    assert (tmp_path / "runs" / "ladder" / "ladder.png").read_bytes().startswith(b"\x89PNG")
    again = ["--known", "runs/ladder/evaluations.csv", "--name", "again"]
    assert run("ladder", [*args, *again], "ladder") == 0
    assert sorted(path.name for path in (tmp_path / "runs" / "again").iterdir()) == sorted(
        path.name for path in (tmp_path / "runs" / "ladder").iterdir() if path.is_file()
    )
    assert (tmp_path / "runs" / "again" / "ladder.md").read_text() == re.sub(r"\| [\d.]+ \|$", "| - |", table, flags=re.M)
