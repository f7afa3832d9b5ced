"""The recipe that shows what a W2 velocity does to the spread of a posterior."""

import csv
import math

import numpy as np
import pytest
import torch

from tests.policies.plain import draw
from wgf.runs.studies import bnn_spread


def test_the_posterior_is_that_of_the_score():
    problem = bnn_spread.Problem()
    w = draw(2, 7, 3, seed=1).double()
    torch.testing.assert_close(problem.score(w), torch.linalg.solve(problem.covariance, (problem.mean - w).mT).mT)


def test_a_spread_is_one_where_the_covariance_is_the_posteriors():
    problem = bnn_spread.Problem()
    w = torch.linalg.qr(draw(9, 3, seed=2).double() - draw(9, 3, seed=2).double().mean(0)).Q * 3.0  # covariance I, mean 0
    w = problem.mean + w @ torch.linalg.cholesky(problem.covariance).mT
    torch.testing.assert_close(problem.spread(torch.stack([w, problem.mean + 2.0 * (w - problem.mean)])), torch.tensor([1.0, 2.0]).double())


def test_a_spread_counts_the_widths_within_particles():
    """Where the means are one: sqrt(tr(S^-1 diag(v)) / d), which is 1 at the widths 1 / (S^-1)_ii of mean-field inference."""
    problem = bnn_spread.Problem()
    w, precision = problem.mean.expand(1, 4, 3), torch.linalg.inv(problem.covariance).diagonal()
    torch.testing.assert_close(problem.spread(w, (4.0 / precision).expand(1, 4, 3)), torch.tensor([2.0]).double())
    wide, none = torch.tensor([[8.0], [0.0], [0.0], [0.0]]).double() / precision, torch.zeros(4, 3).double()
    torch.testing.assert_close(problem.spread(w, torch.stack([wide, none])[:1]), torch.tensor([2.0**0.5]).double())


def test_a_few_gaussians_keep_the_deviation_that_as_many_particles_lose():
    problem, options = bnn_spread.Problem(), bnn_spread.Options(steps=100, repeats=2)
    smi, none = (bnn_spread.rest(problem, name, 3, 0.4, options) for name in ("smi", "none"))
    torch.testing.assert_close(smi, torch.ones(2).double(), rtol=0.1, atol=0.0)  # ten draws a step: four of their deviations of 0.02
    simplex = torch.full((2,), math.sqrt(math.log(3.0) / 3.0)).double()  # of squared radius log M in N(0, I), which has d = 3
    torch.testing.assert_close(none, simplex, rtol=0.05, atol=0.0)  # the posterior is not quite round


def test_the_recipe_shows_that_eq_9_shrinks_and_unbiased_velocities_do_not(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bnn_spread, "PARTICLES", (8, 16))
    monkeypatch.setattr(bnn_spread, "SCALES", (0.4, 1.6))
    monkeypatch.setattr(bnn_spread, "M", 16)
    assert bnn_spread.main(bnn_spread.Options(tmp_path, steps=30, repeats=2), print) == 0
    assert "spread.csv" in capsys.readouterr().out
    assert (tmp_path / "spread.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "spread.pdf").read_bytes()[:4] == b"%PDF"
    with (tmp_path / "spread.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    def found(name, particles, scale):
        key = {"velocity": name, "particles": str(particles), "scale": str(scale)}
        values = [float(row["spread"]) for row in rows if key.items() <= row.items()]
        assert len(values) == 2
        return np.mean(values)

    none = found("none", 16, 0.4)
    assert found("smi", 16, 0.4) > 0.0  # on its way: its steps are shorter
    for name in ("exact", "debiased", "common_noise"):
        assert found(name, 16, 0.4) == pytest.approx(none, rel=0.02)
    assert found("eq9_sum", 16, 1.6) < 0.8 * found("eq9_sum", 16, 0.4) < 0.8 * 0.8 * none
    assert 0.9 * none < found("eq9_mean", 16, 0.4) < 0.995 * none
