"""Figure 1's recipe: what it trains, what it says of finished runs, and a short one from beginning to end."""

import csv

import numpy as np
import pytest
from matplotlib import image

from wgf.runs.studies import figure1
from wgf.runs.studies.figure1 import ALONE, FLOWS, LEARNING, Options, grouped, rows
from wgf.runs.studies.main import run
from wgf.runs.trainer.compare import Curves


def curves(level, slope=0.0):
    """Five seeds that differ by 1, three looks that rise by ``slope``."""
    evals = level + np.arange(5.0)[:, None] + slope * np.arange(3.0)
    return Curves("any", 80_000.0 * np.arange(1, 4), evals, [], 1.0)


def test_it_trains_the_papers_settings():
    options = Options(seeds=5, first_seed=20)
    for task, iterations in (("CartPole", 100), ("CartPoleSwingUp", 1000), ("DoublePendulum", 1000)):
        for way, lam in (("REINFORCE", 1.0), ("A2C", 0.0)):
            for agent in (*FLOWS, ALONE):
                job = options.plan(task, way, agent, 11.0).job
                each = 5000 if agent == ALONE else 16 * 5000
                assert job.schedule.steps == iterations * each == 20 * job.schedule.eval_every
                assert (job.env, job.agent, job.cfg.lam) == (f"wgf/{task}-v0", agent, lam)
                assert job.seeds == tuple(range(20, 20 + (16 * 5 if agent == ALONE else 5)))
                assert (job.cfg.batch, job.cfg.hidden, job.cfg.activation, job.cfg.lr) == (5000, (25, 16), "tanh", 5e-3)
                if agent != ALONE:
                    assert (job.cfg.particles, job.cfg.alpha) == (16, 11.0)


def test_temperatures_are_chosen_on_seeds_that_are_not_reported():
    options = Options(seeds=4, choosing=2)
    early, late = (options.plan("CartPole", "A2C", "svpg", 6.0, choosing=early) for early in (True, False))
    assert (early.job.seeds, late.job.seeds) == ((4, 5), (0, 1, 2, 3))
    assert early.settings == late.settings


def test_fewer_iterations_are_no_more_than_the_papers():
    assert Options(iterations=200).plan("CartPoleSwingUp", "A2C", "svpg", 1.0).job.schedule.steps == 200 * 80_000
    assert Options(iterations=200).plan("CartPole", "A2C", "svpg", 1.0).job.schedule.steps == 100 * 80_000


def test_sixteen_policies_alone_are_a_seed():
    alone = Curves("pg", np.array([5000.0, 10_000.0]), np.arange(64.0).reshape(32, 2), [], 1.0)
    both = grouped(alone)
    assert both.steps.tolist() == [80_000.0, 160_000.0]
    assert both.evals.tolist() == [[15.0, 16.0], [47.0, 48.0]]


def test_the_table_has_the_means_over_training_and_at_the_end_beside_those_of_svpg():
    panel = ("CartPole", "A2C")
    found = {panel: {"svpg": curves(10.0), "ip-wgf": curves(100.0, slope=50.0), "pg": curves(5.0)}}
    first, second, third = rows(found, {(*panel, "svpg"): 6.0, (*panel, "ip-wgf"): 0.1})
    assert [(row["agent"], row["alpha"]) for row in (first, second, third)] == [("svpg", "6"), ("ip-wgf", "0.1"), ("pg", "-")]
    means = [float(row["return over training, IQM [95 %]"].split()[0]) for row in (first, second, third)]
    assert means == [12.0, 152.0, 7.0]  # middle seeds 1 to 3 of level 10; 100 + 50
    assert [row["mean - that of svpg at the end"].split()[0] for row in (first, second, third)] == ["-", "190", "-5"]
    assert [row["P(better than svpg) over training"] for row in (first, second, third)] == ["-", "1", "0"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--tasks", "Acrobot"], "tasks has 'Acrobot'; it may have CartPole, CartPoleSwingUp, DoublePendulum"),
        (["--iterations", "0"], "iterations is 0; it must be at least 1"),
        (["--seeds", "0"], "seeds is 0; it must be at least 2"),
        (["--choosing", "0"], "choosing is 0; it must be at least 1"),
        (["--first-seed", "999990"], "seeds must lie from 0 to 999,999"),
        (["--alphas", "8 9"], "--alphas: '8 9' in '8 9' is not a number; put commas between numbers"),
        (["--alphas", "1", "3e-4"], "argument '3e-4' is not understood; put commas between numbers"),
        (["--alphas", "-1"], "alphas has -1.0; it must be above 0"),
    ],
)
def test_options_that_cannot_be_are_one_line(args, words, capsys, tmp_path):
    assert run("figure1", [*args, "--out", str(tmp_path)], "figure1") == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_short_one_from_beginning_to_end(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(figure1, "LOOKS", 1)
    monkeypatch.setattr(figure1, "ITERATIONS", {"CartPole": 1})
    monkeypatch.setattr(figure1, "LEARNING", {"A2C": LEARNING["A2C"]})
    args = ["--tasks", "CartPole", "--alphas", "8,9", "--seeds", "2", "--choosing", "1", "--out", str(tmp_path)]
    assert run("figure1", args, "figure1") == 0
    folder = tmp_path / "figure1"
    with open(folder / "choices.csv", newline="") as file:
        tried = list(csv.DictReader(file))
    assert [(line["agent"], line["alpha"]) for line in tried] == [(agent, alpha) for agent in FLOWS for alpha in "89"]
    best = {line["agent"]: line["alpha"] for line in tried if line["chosen"]}
    with open(folder / "figure1.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["agent"], line["alpha"]) for line in lines] == [*best.items(), ("pg", "-")]
    with open(folder / "evaluations.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 4 * 1 + 2 * 2 + 2 * 16
    assert image.imread(folder / "figure1.png").shape[0] > 100
    assert (folder / "figure1.pdf").read_bytes().startswith(b"%PDF")
    assert "covers about 84 % (mean) to 89 %" in capsys.readouterr().out
    assert run("figure1", [*args, "--known", str(folder / "evaluations.csv"), "--name", "again"], "figure1") == 0
    assert (tmp_path / "again" / "figure1.md").read_bytes() == (folder / "figure1.md").read_bytes()
    assert not list((tmp_path / "again").glob("wgf_*"))
