"""The mixture of Sec. 4.2, in small."""

import math

import pytest
import torch

from wgf.runs.studies import wpo_mixture
from wgf.runs.studies.wpo_mixture import OPTIMUM, Options, arrival, climb, main, slope


def test_the_slope_is_that_of_q():
    a = torch.tensor([-3.0, 0.5, OPTIMUM], dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad((-a.pow(4) / 100.0 + a.square()).sum(), a)
    torch.testing.assert_close(slope(a.detach()), expected, rtol=1e-14, atol=1e-13)


def test_conjugate_gradients_find_both_maxima():
    path = climb("fisher", [math.sqrt(10.0)], Options(iterations=250, batch=256, lr=0.01, seeds=2))
    assert arrival(path).isfinite().all()
    assert (path[-1, ..., 4:] < 0.3).all()


def test_std_squared_for_the_inverse_lets_a_variance_of_ten_grow_first():
    """d std is near std E[Q''] = std (2 - 12 std^2 / 100) > 0 for one Gaussian at 0 as long as std^2 < 16.7, times the logits' 1/2."""
    path = climb("std^2", [math.sqrt(10.0)], Options(iterations=40, batch=1024, seeds=2))
    assert (path[-1, ..., 4:] > math.sqrt(10.0)).all()


def test_arrival_is_the_first_step_of_the_last_stay():
    at = torch.tensor([0.0, 0.0, OPTIMUM, -OPTIMUM, 0.1, 0.1], dtype=torch.float64)
    away, faint = at.clone(), at.clone()
    away[3], faint[0] = 0.0, -4.0
    for path, step in (([away, at, away, at, at], 3.0), ([at, at], 0.0), ([at, faint], math.inf), ([at, away], math.inf)):
        assert arrival(torch.stack(path)[:, None, None]).item() == step


def test_the_recipe_writes_a_figure_and_a_table(tmp_path, capsys):
    assert main(Options(out=tmp_path / "wpo", iterations=3, batch=8, seeds=2), print) == 0
    assert (tmp_path / "wpo" / "mixture.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "wpo" / "mixture.md").read_text()
    assert text in capsys.readouterr().out
    assert text.count("| 0 of 2 | -, - |") == len(wpo_mixture.FORMS) * len(wpo_mixture.STARTS)
    assert text.splitlines()[2].startswith("| conjugate gradients | std 10 |")
    assert pytest.approx(10.0, abs=0.5) == float(text.splitlines()[2].split("|")[5])
