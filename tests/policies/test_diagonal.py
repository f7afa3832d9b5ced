"""Policies whose deviation is free of the state, against torch.distributions and autograd."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.func import jvp

from tests.policies.plain import close, draw, evaluate, leaf, seeds
from wgf.mlp import MLP
from wgf.natural import hessian
from wgf.policies.diagonal import DiagonalPolicy

S, M, B, D, A = 2, 3, 7, 4, 2


def started(gain=None):
    policy = DiagonalPolicy(MLP((D, 6, 5, A), gain=gain), A)
    theta = policy.init(M, seeds(0, 1))
    theta[..., -A:] = 0.3 * draw(S, M, A, seed=9)
    return policy, theta


def law(policy, theta, obs):
    """By single networks and torch's Normal, entry by entry."""
    return Normal(evaluate(policy.net, theta[..., :-A], obs), theta[..., -A:].exp()[:, :, None])


def test_a_fresh_policy_has_deviation_one_and_its_means_are_as_large_as_its_gain():
    plain, small = (DiagonalPolicy(MLP((D, 6, 5, A), gain=gain), A) for gain in (1.0, 0.01))
    thetas = [policy.init(M, seeds(0, 1)) for policy in (plain, small)]
    assert torch.equal(plain.log_std(thetas[0]), torch.zeros(S, M, A))
    assert torch.equal(thetas[0][1:], plain.init(M, seeds(1)))
    obs = draw(S, M, B, D)
    close(small.mode(thetas[1], obs), 0.01 * plain.mode(thetas[0], obs))


def test_the_mean_is_the_networks_and_an_action_adds_noise():
    (p, theta), obs, xi = started(), draw(S, M, B, D), draw(S, M, B, A, seed=1)
    expected, found = law(p, theta, obs), p.draw(theta, obs, xi)
    close(p.mode(theta, obs), expected.mean)
    close(p.log_std(theta)[:, :, None].exp().expand(-1, -1, B, -1), expected.stddev)
    close(found.action, expected.mean + expected.stddev * xi)
    assert torch.equal(found.u, found.action)
    close(found.log_prob, expected.log_prob(found.action).sum(-1))


def test_densities_entropy_and_kl_are_torchs_and_so_are_their_gradients():
    (p, theta), obs, action, w = started(), draw(S, M, B, D), draw(S, M, B, A, seed=1), draw(S, M, B, seed=2)
    theta, other = leaf(theta), theta + 0.2 * draw(*theta.shape, seed=3)
    expected = law(p, theta, obs)
    pairs = [
        (p.log_prob(theta, obs, action), expected.log_prob(action).sum(-1)),
        (p.entropy(theta)[..., None].expand(S, M, B), expected.entropy().sum(-1)),
        (p.kl(theta, other, obs), kl_divergence(expected, law(p, other, obs)).sum(-1)),
        (p.kl(other, theta, obs), kl_divergence(law(p, other, obs), expected).sum(-1)),
    ]
    for found, want in pairs:
        assert found.shape == (S, M, B)
        close(found, want)
        slopes = (torch.autograd.grad((w * value).sum(), theta, retain_graph=True, materialize_grads=True)[0] for value in (found, want))
        close(*slopes)


@pytest.mark.parametrize("gain", [None, 0.5])
def test_wasserstein_products_are_the_second_derivative_of_half_w2_squared(gain):
    (p, theta), obs = started(gain), draw(S, M, B, D)
    v, here = draw(*theta.shape, seed=3), law(p, theta, obs)

    def half_w2_squared(other):
        mean, std = p.net(other[..., :-A], obs), other[..., -A:].exp()[:, :, None]
        return 0.5 * ((mean - here.mean).square() + (std - here.stddev).square()).sum(-1).mean(-1)

    close(p.wasserstein(theta, obs)(v), hessian(half_w2_squared, theta)(v))


@pytest.mark.parametrize("gain", [None, 0.5])
def test_fisher_products_are_the_second_derivative_of_the_kl_and_the_square_of_scores(gain):
    (p, theta), obs = started(gain), draw(S, M, B, D)
    v = draw(*theta.shape, seed=3)
    here = law(p, theta, obs)

    def kl_to(other):
        there = Normal(p.net(other[..., :-A], obs), other[..., -A:].exp()[:, :, None], validate_args=False)
        return kl_divergence(here, there).sum(-1).mean(-1)

    found = p.fisher(theta, obs)(v)
    close(found, hessian(kl_to, theta)(v))
    n, squares = 20_000, []
    for b in range(B):  # v'Fv = E (score'v)^2, by the derivative of log pi along v
        states = obs[:, :, b : b + 1].expand(-1, -1, n, -1)
        actions = p.draw(theta, states, draw(S, M, n, A, seed=4 + b)).action
        squares.append(jvp(lambda other, s=states, a=actions: p.log_prob(other, s, a), (theta,), (v,))[1].square())
    each = torch.stack(squares, -1)  # (S, M, n, B)
    error = 4.0 * each.var(2).mean(-1).sqrt() / (B * n) ** 0.5
    assert (each.mean((2, 3)) - (v * found).sum(-1)).abs().le(error).all()
    assert (error < 0.05 * (v * found).sum(-1)).all()
