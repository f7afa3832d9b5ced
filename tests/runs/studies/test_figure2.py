"""The recipe of Figure 2 and Table 1: what each method is, what the table says of finished runs, and a tiny one from beginning to end."""

import csv
from contextlib import contextmanager
from dataclasses import asdict

import numpy as np
import pytest
from matplotlib import image

from wgf.agents import ppo, wnpg
from wgf.runs.studies import figure2
from wgf.runs.studies.figure2 import METHODS, TASKS, Options, rows
from wgf.runs.studies.main import run
from wgf.runs.trainer.compare import Curves
from wgf.runs.trainer.figures import figure


def test_each_method_is_what_its_name_says():
    options = Options(seeds=3, choosing=2, first_seed=7)
    plans = {method: options.plan(("Hopper", method), 1e-4) for method in METHODS}
    plain = asdict(wnpg.Config(lr=1e-4))
    changed = {
        method: {name: value for name, value in asdict(plan.job.cfg).items() if value != plain[name]}
        for method, plan in plans.items()
        if method != "ppo"
    }
    assert changed == {"none": {"metric": "none"}, "bgpg": {"metric": "none", "penalty": 0.1}, "wnpg": {}, "bg-wnpg": {"penalty": 0.1}}
    assert plans["ppo"].job.cfg == ppo.Config(lr=1e-4)
    for plan in plans.values():
        job = plan.job
        assert (job.env, job.seeds, job.schedule.steps, job.schedule.normalize) == ("Hopper-v5", (7, 8, 9), 1_000_000, "both")
    early = options.plan(("Hopper", "wnpg"), 1e-4, choosing=True)
    assert (early.job.seeds, early.settings) == ((10, 11), plans["wnpg"].settings)


def test_the_table_has_the_papers_returns_beside_ours():
    def curves(level):
        evals = level + np.arange(3.0)[:, None] + np.array([0.0, 10.0])
        return Curves("any", np.array([1.0, 2.0]), evals, [], 1.0, np.array([60.0, 180.0]))

    first, second = rows({"Hopper": {"ppo": curves(10.0), "wnpg": curves(50.0)}}, {("Hopper", "ppo"): 3e-4, ("Hopper", "wnpg"): 1e-5})
    assert (first["method"], first["lr"], first["published"]) == ("PPO (Clip)", "0.0003", "1,890.12")
    assert (second["method"], second["lr"], second["published"]) == ("WNPG", "1e-05", "2,235.23")
    assert [row["return over training, IQM [95 %]"].split()[0] for row in (first, second)] == ["16", "56"]
    assert [row["mean - that of PPO (Clip) at the end"].split()[0] for row in (first, second)] == ["-", "40"]
    assert (first["minutes"], second["minutes"]) == ("3", "3")
    order = list(METHODS)
    for returns in TASKS.values():  # the paper's claim: BG-WNPG leads everywhere, and WNPG but on HalfCheetah
        assert max(returns) == returns[order.index("bg-wnpg")]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--tasks", "Swimmer"], "tasks has 'Swimmer'; it may have Walker2d, HalfCheetah, Ant, Reacher, InvertedDoublePendulum, Hopper"),
        (["--methods", "sac"], "methods has 'sac'; it may have ppo, none, bgpg, wnpg, bg-wnpg"),
        (["--lrs", "0"], "lr is 0.0; it must be above 0"),
        (["--choosing", "0"], "choosing is 0; it must be at least 1"),
        (["--steps", "10"], "steps is 10; it must be at least 20"),
        (["--first-seed", "999994"], "first-seed is 999994; seeds must lie from 0 to 999,999"),  # five that are reported, two that choose
    ],
)
def test_mistakes_are_named(args, words, capsys, tmp_path):
    assert run("figure2", [*args, "--out", str(tmp_path)], "figure2") == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("tasks", "panels"), [(2, (1, 2)), (4, (2, 3))])
def test_a_figure_has_three_panels_in_a_row_and_none_without_a_task(tmp_path, monkeypatch, tasks, panels):
    seen = []

    @contextmanager
    def looked_at(*args):
        with figure(*args) as axes:
            yield axes
            shown = [a for a in axes.flat if a.axison]
            seen.extend([axes.shape, [a.get_title() for a in shown], [len(a.get_lines()) > 0 for a in shown]])

    monkeypatch.setattr(figure2, "figure", looked_at)
    curves = {"ppo": Curves("any", np.array([1.0, 2.0]), np.ones((2, 2)), [], 1.0)}
    figure2.draw(dict.fromkeys(list(TASKS)[:tasks], curves), 2, tmp_path / "figure2.png")
    assert seen == [panels, [f"{task}-v5" for task in list(TASKS)[:tasks]], [True] * tasks]


def test_a_tiny_one_writes_table_choices_rows_and_figure(tmp_path, monkeypatch):
    small = "horizon=20:batch=10:epochs=1:hidden=8"
    monkeypatch.setattr(figure2, "METHODS", {k: m._replace(settings=f"{m.settings}:{small}") for k, m in METHODS.items()})
    args = ["--tasks", "Reacher", "--methods", "ppo", "bg-wnpg", "--lrs", "0.001,0.0001", "--choosing", "1", "--seeds", "2"]
    args += ["--steps", "40", "--device", "cpu", "--compile", "False", "--out", str(tmp_path)]
    assert run("figure2", args, "figure2") == 0
    folder = tmp_path / "figure2"
    with (folder / "choices.csv").open(newline="") as file:
        tried = list(csv.DictReader(file))
    assert [(row["method"], row["lr"]) for row in tried] == [(m, lr) for m in ("ppo", "bg-wnpg") for lr in ("0.001", "0.0001")]
    with (folder / "figure2.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["lr"] for row in table] == [row["lr"] for row in tried if row["chosen"]]
    assert image.imread(folder / "figure2.png").shape[0] > 100
    again = [*args, "--known", str(folder / "evaluations.csv"), "--name", "again"]
    assert run("figure2", again, "figure2") == 0
    with (tmp_path / "again" / "figure2.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [row | {"minutes": "-"} for row in table]  # rows of a file have no times
    assert all(float(row["minutes"]) for row in table)
    assert not list((tmp_path / "again").glob("Reacher*"))
