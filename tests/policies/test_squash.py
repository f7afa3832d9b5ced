"""Scores are the gradients of the log-densities that their docstrings state."""

import pytest
import torch

from tests.policies.plain import draw, leaf
from wgf.policies.squash import SQUASH


def value(a):
    """A Q of the action with terms that couple its coordinates, (...)."""
    return torch.sin(2.0 * a[..., 0]) + a[..., 0] * a[..., 1] - 0.7 * a[..., 1].square()


def slope(f, x):
    x = leaf(x)
    return torch.autograd.grad(f(x).sum(), x)[0]


ALPHAS = [pytest.param(0.3, id="number"), pytest.param(torch.tensor([0.3, 2.0])[:, None, None, None].double(), id="one a seed")]


@pytest.mark.parametrize("alpha", ALPHAS)
def test_exact_score_is_that_of_u_under_the_energy_based_law_of_tanh_u(alpha):
    u, alpha_q = draw(2, 3, 5, 2), alpha if isinstance(alpha, float) else alpha[..., 0]

    def log_p(u):
        return value(torch.tanh(u)) / alpha_q + torch.log(1.0 - torch.tanh(u).square()).sum(-1)

    coordinate, score, _ = SQUASH["exact"]
    a = torch.tanh(u)
    torch.testing.assert_close(score(a, slope(value, a), alpha), slope(log_p, u), rtol=1e-11, atol=1e-12)
    assert torch.equal(coordinate(u), u)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_soft_q_score_is_that_of_a_with_the_barrier_at_the_boundary(alpha):
    u, alpha_q = 2.0 * draw(2, 3, 5, 2), alpha if isinstance(alpha, float) else alpha[..., 0]

    def log_p(a):
        return value(a) / alpha_q + torch.log(1.0 - a.square() + 1e-6).sum(-1)

    coordinate, score, _ = SQUASH["soft_q"]
    a = torch.tanh(u)
    torch.testing.assert_close(score(a, slope(value, a), alpha), slope(log_p, a), rtol=1e-11, atol=1e-12)
    assert torch.equal(coordinate(u), a)


def test_soft_q_barrier_at_the_boundary_has_the_softening_of_the_public_code():
    # a = 1 to the last digit: -2 a / (1 - a^2 + 1e-6) = -2e6
    a = torch.tanh(torch.tensor([[30.0], [-30.0]]))
    torch.testing.assert_close(SQUASH["soft_q"].score(a, torch.zeros(2, 1), 1.0), torch.tensor([[-2e6], [2e6]]), rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("name", ["exact", "soft_q"])
def test_pull_back_is_the_slope_of_the_coordinate(name):
    u, v = 2.0 * draw(2, 3, 5, 2), draw(2, 3, 5, 2, seed=1)
    squash = SQUASH[name]
    expected = slope(lambda u: squash.coordinate(u) * v, u)
    torch.testing.assert_close(squash.pull_back(torch.tanh(u), v), expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", ["exact", "soft_q"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_push_inward_and_stay_finite_far_out(name, dtype):
    u = torch.tensor([[30.0, -30.0], [1e3, -1e3]], dtype=dtype)
    score = SQUASH[name].score(torch.tanh(u), torch.ones_like(u), 0.2)
    assert score.isfinite().all()
    assert torch.equal(score.sign(), -u.sign())


def test_exact_law_of_actions_is_the_energy_based_law():
    """The density of u whose score this is, carried to a = tanh u by quadrature, is exp(Q / alpha) / Z."""
    u = torch.linspace(-4.0, 4.0, 8001)
    a = torch.tanh(u)
    q_slope = 3.0 * torch.cos(3.0 * a)  # Q = sin 3a
    score = SQUASH["exact"].score(a[:, None], q_slope[:, None], 0.5)[:, 0]
    log_p = torch.cumulative_trapezoid(score, u)  # log p(u) up to a constant
    log_density = log_p - torch.log(1.0 - a[1:].square())
    difference = log_density - torch.sin(3.0 * a[1:]) / 0.5
    # trapezoid rule: step^2 / 12 times the second derivative of the score, of order 50, over a length 8: below 4e-5
    assert (difference - difference.mean()).abs().max() < 4e-5
