"""Figure 1's recipe: what it trains, what it says of finished runs, and a short one from beginning to end."""

import csv

import numpy as np
import pytest
from matplotlib import image

from wgf.runs.studies import figure1
from wgf.runs.studies.figure1 import Options, chosen, rows
from wgf.runs.studies.main import run
from wgf.runs.trainer.compare import Curves, plan


def curves(level, slope=0.0):
    """Five seeds that differ by 1, three looks that rise by ``slope``."""
    evals = level + np.arange(5.0)[:, None] + slope * np.arange(3.0)
    return Curves("any", 80_000.0 * np.arange(1, 4), evals, [], 1.0)


def test_it_trains_the_papers_settings():
    options = Options(alphas=(6.0, 11.0))
    for task, iterations in (("CartPole", 100), ("CartPoleSwingUp", 1000), ("DoublePendulum", 1000)):
        contest, schedule = options.contest(task)
        assert schedule.steps == iterations * 16 * 5000
        assert schedule.steps == 20 * schedule.eval_every
        jobs = [plan(token, contest, schedule, options.place) for token in contest.agents]
        assert {(job.agent, job.cfg.lam, job.cfg.alpha) for job in jobs} == {
            (agent, lam, alpha) for agent in ("svpg", "ip-wgf") for lam in (1.0, 0.0) for alpha in (6.0, 11.0)
        }
        for job in jobs:
            assert (job.env, job.seeds) == (f"wgf/{task}-v0", (0, 1, 2, 3, 4))
            assert (job.cfg.particles, job.cfg.batch, job.cfg.hidden, job.cfg.activation, job.cfg.lr) == (16, 5000, (25, 16), "tanh", 5e-3)


def test_fewer_iterations_are_no_more_than_the_papers():
    assert Options(iterations=200).contest("CartPoleSwingUp")[1].steps == 200 * 80_000
    assert Options(iterations=200).contest("CartPole")[1].steps == 100 * 80_000
    assert Options(seeds=2, first_seed=3).contest("CartPole")[0].chosen() == (3, 4)


def test_the_table_has_the_means_over_training_and_at_the_end_and_marks_what_is_drawn():
    panel = {"svpg": {6.0: curves(10.0), 7.0: curves(30.0)}, "ip-wgf": {6.0: curves(100.0, slope=50.0), 7.0: curves(20.0)}}
    assert (chosen(panel["svpg"]), chosen(panel["ip-wgf"])) == (7.0, 6.0)
    first, second = rows({("CartPole", "A2C"): panel})
    assert first[:3] == ["CartPole", "A2C", "6"]
    means = [float(cell.split()[0]) for cell in first[3:9]]
    assert means == [12.0, 152.0, 1.0, 12.0, 202.0, 1.0]  # middle seeds 1 to 3 of level 10; 100 + 50 and 100 + 2 * 50
    assert [float(cell.split()[0]) for cell in second[3:9]] == [32.0, 22.0, 0.0, 32.0, 22.0, 0.0]
    assert (first[9], second[9]) == ("ip-wgf", "svpg")
    assert len(first) == 3 + len(figure1.MEASURES) + 1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--tasks", "Acrobot"], "tasks has 'Acrobot'; it may have CartPole, CartPoleSwingUp, DoublePendulum"),
        (["--iterations", "0"], "iterations is 0; it must be at least 1"),
        (["--seeds", "0"], "seeds is 0; it must be at least 1"),
        (["--alphas", "8 9"], "--alphas: '8 9' in '8 9' is not a number; put commas between numbers"),
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
    assert run("figure1", ["--tasks", "CartPole", "--alphas", "8", "--seeds", "2", "--out", str(tmp_path)], "figure1") == 0
    folder = tmp_path / "figure1"
    with open(folder / "figure1.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["task"], line["learning"], line["alpha"], line["drawn"]) for line in lines] == [
        ("CartPole", "REINFORCE", "8", "svpg ip-wgf"),
        ("CartPole", "A2C", "8", "svpg ip-wgf"),
    ]
    assert image.imread(folder / "figure1.png").shape[0] > 100
    assert (folder / "figure1.pdf").read_bytes().startswith(b"%PDF")
    assert "covers about 84 % (mean) to 89 %" in capsys.readouterr().out
    assert len(sorted(folder.glob("wgf_CartPole-v0/*/seed-?/result.json"))) == 8
