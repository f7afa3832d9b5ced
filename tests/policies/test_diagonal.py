"""Policies whose deviation is free of the state, against torch.distributions and autograd."""

from copy import deepcopy

import pytest
import torch
from torch.distributions import Normal
from torch.func import jvp

from tests.policies.plain import close, draw, evaluate, leaf, seeds
from wgf.natural import hessian
from wgf.policies.diagonal import DiagonalPolicy
from wgf.policies.gaussian import kl

pytestmark = pytest.mark.usefixtures("double")
S, M, B, D, A = 2, 3, 7, 4, 2


def policy():
    found = DiagonalPolicy(D, A, M, (6, 5), "tanh", seeds(0, 1))
    found.log_std.copy_(0.3 * draw(S, M, A, seed=9))
    return found


def test_a_fresh_policy_has_deviation_one_and_its_means_are_as_large_as_its_gain():
    plain, small = (DiagonalPolicy(D, A, M, (6, 5), "tanh", seeds(0, 1), gain) for gain in (1.0, 0.01))
    assert torch.equal(plain.log_std, torch.zeros(S, M, A))
    obs = draw(S, M, B, D)
    close(small.mean(obs), 0.01 * plain.mean(obs))
    assert list(plain.state_dict()) == ["theta"]


def test_the_mean_is_the_networks_and_an_action_adds_noise():
    p, obs, xi = policy(), draw(S, M, B, D), draw(S, M, B, A, seed=1)
    expected = evaluate(p._nets[0], p.theta[..., :-A], obs)
    close(p.mean(obs), expected)
    close(p.act(obs, xi), expected + p.theta[..., -A:].exp()[:, :, None] * xi)


def test_densities_are_torchs_and_the_weighted_score_is_autograds():
    p, obs, action, w = policy(), draw(S, M, B, D), draw(S, M, B, A, seed=1), draw(S, M, B, seed=2)
    log_prob, pull_back = p.score(obs, action)
    theta = leaf(p.theta)
    expected = Normal(evaluate(p._nets[0], theta[..., :-A], obs), theta[..., -A:].exp()[:, :, None]).log_prob(action).sum(-1)
    close(log_prob, expected.detach())
    close(pull_back(w), torch.autograd.grad((w * expected).sum(), theta)[0])


def test_fisher_products_are_the_second_derivative_of_the_kl_and_the_square_of_scores():
    p, obs = policy(), draw(S, M, B, D)
    theta, v = p.theta.detach(), draw(*p.theta.shape, seed=3)
    mean, log_std = p.mean(obs), p.log_std[:, :, None]

    def kl_to(other):
        return kl(mean, log_std, evaluate(p._nets[0], other[..., :-A], obs), other[..., -A:][:, :, None]).mean(-1)

    found = p.fisher(obs)(v)
    close(found, hessian(kl_to, theta)(v))
    n, squares = 20_000, []
    for b in range(B):  # v'Fv = E (score'v)^2, by the derivative of log pi along v
        states = obs[:, :, b : b + 1].expand(-1, -1, n, -1)
        actions = p.act(states, draw(S, M, n, A, seed=4 + b))

        def log_density(other, s=states, a=actions):
            return Normal(evaluate(p._nets[0], other[..., :-A], s), other[..., -A:].exp()[:, :, None]).log_prob(a).sum(-1)

        squares.append(jvp(log_density, (theta,), (v,))[1].square())
    each = torch.stack(squares, -1)  # (S, M, n, B)
    error = 4.0 * each.var(2).mean(-1).sqrt() / (B * n) ** 0.5
    assert (each.mean((2, 3)) - (v * found).sum(-1)).abs().le(error).all()
    assert (error < 0.05 * (v * found).sum(-1)).all()


def test_a_copy_has_parameters_of_its_own():
    p, obs = policy(), draw(S, M, B, D)
    copy, before = deepcopy(p), p.mean(obs)
    copy.theta.add_(1.0)
    close(p.mean(obs), before)
    assert not torch.equal(copy.mean(obs), before)
