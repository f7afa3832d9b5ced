"""The Bayesian policy is K Gaussian policies with equal weights."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

from tests.policies import plain
from tests.policies.plain import close, draw, evaluate, leaf, seeds
from wgf.mlp import MLP
from wgf.policies.bayesian import BayesianPolicy

S, K, B, D, A = 2, 3, 4, 3, 2


def bayesian(action=A, components=K):
    policy = BayesianPolicy(MLP((D, 8, 2 * action)), components, action)
    theta = policy.init(seeds(*range(S)))
    shift = draw(S, components, 1, 2 * action, seed=9)  # components that differ, of standard deviations about 0.4
    plain.add_to_heads(policy.net, theta, torch.cat([shift[..., :action], 0.2 * shift[..., action:] - 0.9], -1))
    return policy, theta


def heads(policy, theta, obs):
    """Mean and log std of every component, network by network: (S, B, K, A)."""
    return evaluate(policy.net, theta, obs[:, None]).transpose(1, 2).chunk(2, -1)


def test_each_component_is_a_network_of_its_own_and_weighs_as_much_as_another():
    (policy, theta), obs = bayesian(), draw(S, B, D)
    law, (mean, log_std) = policy.law(theta, obs), heads(policy, theta, obs)
    assert theta.shape[:2] == (S, K)
    close(law.mean, mean)
    close(law.std, log_std.exp())
    close(law.logits.softmax(-1), torch.full((S, B, K), 1.0 / K))
    close(policy.mode(theta, obs), torch.tanh(mean))


def test_components_start_apart_and_seed_k_as_seed_k_alone():
    policy = BayesianPolicy(MLP((D, 8, 2 * A)), K, A)
    theta = policy.init(seeds(0, 1))
    assert torch.equal(theta[1:], policy.init(seeds(1)))
    assert len(theta[..., 0].unique()) == S * K


@pytest.mark.parametrize(("head", "bound"), [(-1e3, -20.0), (1e3, 2.0)])
def test_log_std_stays_within_its_bounds(head, bound):
    policy, theta = bayesian()
    theta.zero_()
    theta[..., -A:] = head
    torch.testing.assert_close(policy.law(theta, draw(S, B, D)).std, torch.full((S, B, K, A), math.exp(bound)), rtol=1e-14, atol=0.0)


@pytest.mark.parametrize("m", [1, 2])
def test_gradients_in_stratified_particles_reach_the_theta_of_their_component(m):
    (policy, theta), obs, xi, g = bayesian(action=3), draw(S, B, D), draw(S, B, m * K, 3, seed=1), draw(S, B, m * K, 3, seed=2)
    plain.add_to_heads(policy.net, theta, torch.tensor([0.0, 0.0, 0.0, -19.1, 0.0, 2.9]))
    theta = leaf(theta)
    mean, raw = heads(policy, theta, obs)
    log_std = raw.clamp(-20.0, 2.0)
    plain.assert_some_are_clamped(log_std)
    each = [mean[..., i // m, :] + log_std[..., i // m, :].exp() * xi[..., i, :] for i in range(m * K)]
    found, expected = policy.law(theta, obs).stratified(xi), torch.stack(each, -2)
    close(found, expected)
    close(torch.autograd.grad((g * found).sum(), theta)[0], torch.autograd.grad((g * expected).sum(), theta)[0])


def test_log_prob_is_the_logarithm_of_the_mean_density_of_the_components():
    (policy, theta), obs, noise = bayesian(), draw(S, B, D), draw(S, B, 5, A + 1, seed=1)
    found, (mean, log_std) = policy.draw(theta, obs, noise), heads(policy, theta, obs)
    assert found.log_prob.shape == (S, B, 5)
    for m in range(5):
        u = found.u[..., m, :]
        density = sum(Independent(Normal(mean[..., k, :], log_std[..., k, :].exp()), 1).log_prob(u).exp() for k in range(K)) / K
        expected = density.log() - torch.log(1.0 - torch.tanh(u).square()).sum(-1)
        torch.testing.assert_close(found.log_prob[..., m], expected, rtol=1e-10, atol=1e-10)


def test_density_of_actions_integrates_to_one():
    policy, theta = bayesian(action=1)
    a, w = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(1000))
    u = torch.atanh(a)[:, None].expand(S, B, 1000, 1)
    total = (w * policy.law(theta, draw(S, B, D)).squashed_log_prob(u).exp()).sum(-1)
    torch.testing.assert_close(total, torch.ones(S, B), rtol=0.0, atol=1e-8)


def test_every_component_is_chosen_equally_often_and_drawn_from():
    (policy, theta), n = bayesian(), 30 * K
    pick = torch.special.ndtri((torch.arange(n) + 0.5) / n)  # equally spaced on (0, 1)
    obs, xi = draw(S, 1, D), draw(S, 1, n, A, seed=1)
    found = policy.draw(theta, obs, torch.cat([xi, pick[:, None].expand(S, 1, n, 1)], -1))
    mean, log_std = heads(policy, theta, obs)
    for i in range(n):
        k = i // 30
        close(found.action[:, 0, i], torch.tanh(mean[:, 0, k] + log_std[:, 0, k].exp() * xi[:, 0, i]))


def test_one_component_is_a_gaussian():
    (policy, theta), obs, xi = bayesian(components=1), draw(S, B, D), draw(S, B, 5, A, seed=1)
    mean, log_std = heads(policy, theta, obs)
    found = policy.draw(theta, obs, xi)
    close(found.u, mean + log_std.exp() * xi)
    expected = -0.5 * xi.square() - log_std - 0.5 * math.log(2.0 * math.pi) - torch.log(1.0 - torch.tanh(found.u).square())
    torch.testing.assert_close(found.log_prob, expected.sum(-1), rtol=1e-10, atol=1e-10)
