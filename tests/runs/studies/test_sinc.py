"""The sinc study: its integral, slopes, penalties and natural gradients, the rates that follow from them, and a short run."""

import csv
import math

import pytest
import torch
from scipy.integrate import quad
from torch.distributions import Normal, kl_divergence

from tests.policies.plain import close, draw, leaf
from wgf.runs.studies.main import run
from wgf.runs.studies.sinc import Law, Options, descend, loss, losses, moved, pull, slope

pytestmark = pytest.mark.usefixtures("double")


def law(k=0):
    return Law(2.0 * draw(3, 4, seed=k), draw(3, 4, seed=k + 1).exp())


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (2.5, 0.4), (-1.0, 3.0), (0.3, 0.05)])
def test_the_loss_is_the_expectation_of_one_less_sinc(mean, std):
    def integrand(x):
        return (1.0 - (math.sin(x) / x if x else 1.0)) * math.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2.0 * math.pi))

    expected, _ = quad(integrand, mean - 12.0 * std, mean + 12.0 * std, limit=200, epsabs=1e-12)
    assert loss(Law(torch.tensor(mean), torch.tensor(std))).item() == pytest.approx(expected, abs=1e-10)


def test_near_its_optimum_the_loss_keeps_its_digits():
    """1 - E sinc = (mean^2 + std^2) / 6 to second order."""
    assert loss(Law(torch.tensor(3e-12), torch.tensor(4e-12))).item() == pytest.approx(25e-24 / 6.0, rel=1e-9)


def test_slopes_are_derivatives():
    at = Law(*map(leaf, law()))
    for found, expected in zip(slope(at), torch.autograd.grad(loss(at).sum(), at), strict=True):
        close(found.detach(), expected)
    centre = law(5)
    half_w2 = 0.5 * ((at.mean - centre.mean).square() + (at.std - centre.std).square())
    kl = kl_divergence(Normal(*centre), Normal(*at, validate_args=False))
    for penalty, value in (("W2", half_w2), ("KL", kl)):
        for found, expected in zip(pull(penalty, at, centre), torch.autograd.grad(value.sum(), at), strict=True):
            close(found.detach(), expected)


@pytest.mark.parametrize("metric", ["", "Fisher", "Wasserstein"])
def test_steps_are_equations_21_to_24(metric):
    at, down = law(), Law(draw(3, 4, seed=7), draw(3, 4, seed=8))
    var = at.std.square()
    in_variance, in_log = down.std / (2.0 * at.std), down.std * at.std
    factors = {"": (1.0, 1.0, 1.0), "Wasserstein": (1.0, 4.0 * var, 1.0 / var), "Fisher": (var, 2.0 * var.square(), 0.5)}
    mean, variance, log = factors[metric]
    found = moved(at, down, 0.01, "variance", metric)
    close(found.mean, at.mean - 0.01 * mean * down.mean)
    close(found.std.square(), (var - 0.01 * variance * in_variance).clamp_min(0.0))
    close(moved(at, down, 0.01, "log_std", metric).std.log(), at.std.log() - 0.01 * log * in_log)


def test_a_variance_stays_above_zero():
    assert (moved(law(), Law(*(torch.full((3, 4), 1e3),) * 2), 1.0, "variance").std > 0.0).all()


def test_fishers_loss_falls_as_one_over_2_lambda_t_and_wassersteins_like_a_power():
    """Where KL blows up, its metric slows the descent: d var / dt = -var^2 / 3, and loss = var / 6."""
    options = Options(iterations=1500)
    fisher = losses(descend(options, "log_std", "Fisher")[-1:])[0].item()
    assert fisher == pytest.approx(1.0 / (2.0 * 0.9 * 1500), rel=0.01)
    assert losses(descend(Options(iterations=100), "log_std", "Wasserstein")[-1:])[0].item() < 1e-16


def test_a_penalty_of_one_step_is_the_gradient_and_of_more_is_measured_from_where_they_began():
    one, plain = (descend(Options(iterations=4, inner=n), "log_std", m, weights=2.0) for n, m in ((1, "W2"), (4, "gradient")))
    close(one[-1].mean, plain[-1].mean)
    held, at = descend(Options(iterations=3, inner=2), "log_std", "W2", weights=2.0), []
    for t in range(3):
        centre = held[0] if t < 2 else held[2]
        down = Law(*(g + 2.0 * p for g, p in zip(slope(held[t]), pull("W2", held[t], centre), strict=True)))
        at.append(moved(held[t], down, 0.9, "log_std"))
    for found, expected in zip(held[1:], at, strict=True):
        close(found.mean, expected.mean)
        close(found.std, expected.std)
    weights = torch.tensor([[0.5], [2.0]])
    both = descend(Options(iterations=3, inner=2), "log_std", "W2", weights=weights)
    close(both[-1].std[1], held[-1].std)


def test_a_short_study(tmp_path, capsys):
    out = tmp_path / "sinc"
    assert run("sinc", ["--out", str(out), "--iterations", "3"], "sinc") == 0
    with (out / "sinc.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    assert [(row["coordinates"], row["method"]) for row in rows[:2]] == [("mean, log std", "gradient"), ("mean, log std", "Fisher")]
    assert len(rows) == 10
    assert (out / "sinc.png").read_bytes().startswith(b"\x89PNG")
    assert run("sinc", ["--inner", "0"], "sinc") == 2
    assert "inner is 0; it must be at least 1" in capsys.readouterr().err
