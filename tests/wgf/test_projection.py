"""WPO's direction on laws whose flow is known: the identities of Pfau et al. 2025, Sec. 4.1."""

import math

import pytest
import torch
from torch.distributions import Normal

from wgf import projection

pytestmark = pytest.mark.usefixtures("double")
N = 400_000


def draws(n, size=1, seed=0):
    return torch.randn(n, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_on_a_parabola_mean_and_std_move_by_minus_or_plus_themselves(sign):
    """Q = sign a^2 / 2: d mean = sign mean and d std = sign std a draw; exact over the draws xi and -xi of variance 1."""
    mean, std, xi = torch.tensor([0.7, -1.2]), torch.tensor([0.5, 2.0]), torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    d_mean, d_std = projection.gaussian(xi, sign * (mean + std * xi))
    torch.testing.assert_close(d_mean, 2.0 * sign * mean, rtol=1e-15, atol=0.0)
    torch.testing.assert_close(d_std, 2.0 * sign * std, rtol=1e-15, atol=0.0)


def quartic(a):
    return (-0.3 * a**4 + a**3 - 0.5 * a).sum(-1)


def test_it_is_the_reparameterised_gradient_draw_by_draw():
    mean, std = torch.tensor([0.7, -1.2]).requires_grad_(), torch.tensor([0.5, 2.0]).requires_grad_()
    for xi in draws(20, 2):
        expected = torch.autograd.grad(quartic(mean + std * xi), (mean, std))
        a = (mean + std * xi).detach().requires_grad_()
        (slope,) = torch.autograd.grad(quartic(a), a)
        for found, want in zip(projection.gaussian(xi[None], slope[None]), expected, strict=True):
            torch.testing.assert_close(found, want, rtol=1e-13, atol=1e-13)


def test_it_is_the_flow_of_the_log_density_under_the_inverse_fisher_matrix():
    """By autograd of torch's log-density, and with F = diag(1 / std^2, 2 / std^2)."""
    mean, std = torch.tensor([0.7, -1.2]).requires_grad_(), torch.tensor([0.5, 2.0]).requires_grad_()
    xi, slope = draws(7, 2), draws(7, 2, seed=1)
    a = (mean + std * xi).detach().requires_grad_()
    (inner,) = torch.autograd.grad(Normal(mean, std).log_prob(a).sum(), a, create_graph=True)
    in_mean, in_std = torch.autograd.grad((inner * slope).sum(), (mean, std))
    d_mean, d_std = projection.gaussian(xi, slope)
    torch.testing.assert_close(d_mean, (std.square() * in_mean).detach(), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(d_std, (std.square() / 2.0 * in_std).detach(), rtol=1e-13, atol=1e-13)


def test_it_is_the_score_function_gradient_in_the_mean():
    """Stein: E[grad Q] = E[Q grad_mean log pi], E[xi grad Q] = E[Q grad_std log pi]; Q = -.3 a^4 + a^3 - .5 a."""
    mean, std, xi = 0.7, 0.5, draws(N)
    a = mean + std * xi
    ours = projection.gaussian(xi[:, None], -1.2 * a[:, None] ** 3 + 3.0 * a[:, None] ** 2 - 0.5)
    q = quartic(a)[:, None]
    theirs = (q * xi / std, q * (xi.square() - 1.0) / std)
    for flow, score in zip(ours, theirs, strict=True):
        difference = flow - score
        assert abs(difference.mean()) < 4.0 * difference.std() / math.sqrt(N)
        assert difference.std() > 0.1  # draw by draw they are not the same


def test_on_a_linear_q_the_step_of_the_mean_has_no_variance_and_the_score_functions_has():
    """Q = 2 a + 1 at N(.3, .25): d mean = 2 at every draw; the other has variance E[Q^2 xi^2] / std^2 - 4.

    Q = m + s xi with m = 1.6, s = 1: E[Q^2 xi^2] = m^2 + 3 s^2 = 5.56, so 18.24.
    """
    xi = draws(N)
    d_mean, _ = projection.gaussian(xi[:, None], torch.full((N, 1, 1), 2.0))
    assert torch.equal(d_mean, torch.full((N, 1), 2.0))
    score = (2.0 * (0.3 + 0.5 * xi) + 1.0) * xi / 0.5
    assert score.var().item() == pytest.approx(18.24, rel=0.05)  # the variance of a product of two normals: 4 sigma are 0.4


def test_directions_are_sums_over_the_draws_of_each_state_alone():
    xi, slope = draws(3 * 5 * 4, 2).reshape(3, 5, 4, 2), draws(3 * 5 * 4, 2, seed=1).reshape(3, 5, 4, 2)
    d_mean, d_std = projection.gaussian(xi, slope)
    for s in range(3):
        for b in range(5):
            torch.testing.assert_close(d_mean[s, b], sum(slope[s, b]), rtol=1e-14, atol=1e-14)
            torch.testing.assert_close(d_std[s, b], sum(xi[s, b] * slope[s, b]), rtol=1e-14, atol=1e-14)
