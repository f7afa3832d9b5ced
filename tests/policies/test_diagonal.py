"""Policies whose deviation is free of the state, against torch.distributions and autograd."""

from copy import deepcopy

import pytest
import torch
from torch.distributions import Normal

from policies.diagonal import DiagonalPolicy
from tests.policies.plain import close, draw, evaluate, leaf, seeds

pytestmark = pytest.mark.usefixtures("double")
S, M, B, D, A = 2, 3, 7, 4, 2


def policy(head=1.0):
    found = DiagonalPolicy(D, A, M, (6, 5), "tanh", seeds(0, 1), head)
    found.log_std.copy_(0.3 * draw(S, M, A, seed=9))
    return found


def test_a_fresh_policy_has_deviation_one_and_its_head_is_scaled():
    plain, small = (DiagonalPolicy(D, A, M, (6, 5), "tanh", seeds(0, 1), head) for head in (1.0, 0.01))
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


def test_a_copy_has_parameters_of_its_own():
    p, obs = policy(), draw(S, M, B, D)
    copy, before = deepcopy(p), p.mean(obs)
    copy.theta.add_(1.0)
    close(p.mean(obs), before)
    assert not torch.equal(copy.mean(obs), before)
