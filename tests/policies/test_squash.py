"""Scores are the gradients of the log-densities that their docstrings state."""

import pytest
import torch

from tests.policies.plain import draw, leaf
from wgf.policies.squash import SQUASH

NAMES = pytest.mark.parametrize("name", ["exact", "soft_q"])


def value(a):
    """A Q of the action with terms that couple its coordinates, (...)."""
    return torch.sin(2.0 * a[..., 0]) + a[..., 0] * a[..., 1] - 0.7 * a[..., 1].square()


def slope(f, x):
    x = leaf(x)
    return torch.autograd.grad(f(x).sum(), x)[0]


ALPHAS = pytest.mark.parametrize(
    "alpha", [pytest.param(0.3, id="number"), pytest.param(torch.tensor([0.3, 2.0])[:, None, None].double(), id="one of each seed")]
)


@ALPHAS
def test_exact_score_is_that_of_u_under_the_energy_based_law_of_tanh_u(alpha):
    u, squash = draw(2, 3, 5, 2), SQUASH["exact"]

    def log_p(u):
        return value(torch.tanh(u)) / alpha + torch.log(1.0 - torch.tanh(u).square()).sum(-1)

    q, score = squash.score(value, squash.coordinate(u), alpha)
    torch.testing.assert_close(score, slope(log_p, u), rtol=1e-11, atol=1e-12)
    assert torch.equal(q, value(torch.tanh(u)))
    assert torch.equal(squash.coordinate(u), u)


@ALPHAS
def test_soft_q_score_is_that_of_a_with_the_barrier_at_the_boundary(alpha):
    u, squash = 2.0 * draw(2, 3, 5, 2), SQUASH["soft_q"]

    def log_p(a):
        return value(a) / alpha + torch.log(1.0 - a.square() + 1e-6).sum(-1)

    a = torch.tanh(u)
    q, score = squash.score(value, squash.coordinate(u), alpha)
    torch.testing.assert_close(score, slope(log_p, a), rtol=1e-11, atol=1e-12)
    assert torch.equal(q, value(a))
    assert torch.equal(squash.coordinate(u), a)


@NAMES
def test_the_action_of_a_particle_is_tanh_u(name):
    u = draw(2, 3, 5, 2)
    assert torch.equal(SQUASH[name].action(SQUASH[name].coordinate(u)), torch.tanh(u))


@NAMES
def test_value_and_score_are_held_fixed_even_inside_no_grad(name):
    x = leaf(draw(2, 3, 5, 2))
    with torch.no_grad():
        found = SQUASH[name].score(value, 0.5 * x, 0.3)
    for held, other in zip(found, SQUASH[name].score(value, 0.5 * x, 0.3), strict=True):
        assert torch.equal(held, other)
        assert not held.requires_grad
        assert not other.requires_grad
    assert x.grad is None


def test_soft_q_barrier_at_the_boundary_has_the_softening_of_the_public_code():
    # a = 1 to the last digit: -2 a / (1 - a^2 + 1e-6) = -2e6
    a = torch.tanh(torch.tensor([[30.0], [-30.0]]))
    _, score = SQUASH["soft_q"].score(lambda a: 0.0 * a.sum(-1), a, 1.0)
    torch.testing.assert_close(score, torch.tensor([[-2e6], [2e6]]), rtol=1e-9, atol=0.0)


@NAMES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_push_inward_and_stay_finite_far_out(name, dtype):
    u = torch.tensor([[30.0, -30.0], [1e3, -1e3]], dtype=dtype)
    _, score = SQUASH[name].score(lambda a: a.sum(-1), SQUASH[name].coordinate(u), 0.2)
    assert score.isfinite().all()
    assert torch.equal(score.sign(), -u.sign())


def test_exact_law_of_actions_is_the_energy_based_law():
    """The density of u whose score this is, carried to a = tanh u by quadrature, is exp(Q / alpha) / Z."""
    u = torch.linspace(-4.0, 4.0, 8001)
    a = torch.tanh(u)
    score = SQUASH["exact"].score(lambda a: torch.sin(3.0 * a[..., 0]), u[:, None], 0.5)[1][:, 0]
    log_p = torch.cumulative_trapezoid(score, u)  # log p(u) up to a constant
    log_density = log_p - torch.log(1.0 - a[1:].square())
    difference = log_density - torch.sin(3.0 * a[1:]) / 0.5
    # trapezoid rule: step^2 / 12 times the second derivative of the score, of order 50, over a length 8: below 4e-5
    assert (difference - difference.mean()).abs().max() < 4e-5
