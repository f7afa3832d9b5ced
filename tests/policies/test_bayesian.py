"""The Bayesian policy is K Gaussian policies with equal weights."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

from tests.policies import plain
from tests.policies.plain import close, draw, leaf, seeds
from wgf.policies.bayesian import BayesianPolicy
from wgf.policies.gaussian import tanh_log_det

S, K, B, D, A = 2, 3, 4, 3, 2


def bayesian(action=A, components=K):
    policy = BayesianPolicy(D, action, components, (8,), "tanh", seeds(*range(S)))
    shift = draw(S, components, 1, 2 * action, seed=9)  # components that differ, of standard deviations about 0.4
    plain.add_to_heads(policy, torch.cat([shift[..., :action], 0.2 * shift[..., action:] - 0.9], -1))
    return policy


def heads(policy, obs, action=A):
    """Mean and std of every component, network by network: (S, B, K, A)."""
    (w0, b0), (w1, b1) = policy.net.layers(policy.theta.detach())
    out = torch.stack(
        [torch.stack([torch.tanh(obs[s] @ w0[s, k] + b0[s, k]) @ w1[s, k] + b1[s, k] for k in range(policy.components)]) for s in range(S)]
    ).transpose(1, 2)
    return out[..., :action], out[..., action:].exp()


def test_each_component_is_a_network_of_its_own():
    policy, obs = bayesian(), draw(S, B, D)
    torch.testing.assert_close(policy.modes(obs), torch.tanh(heads(policy, obs)[0]), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("head", "bound"), [(-1e3, -20.0), (1e3, 2.0)])
def test_log_std_stays_within_its_bounds(head, bound):
    policy, obs, xi = bayesian(components=1), draw(S, B, D), draw(S, B, 1, A, seed=1)
    with torch.no_grad():
        policy.theta.zero_()
        policy.theta[..., -A:] = head
    expected = math.exp(bound) * xi
    log_density = Independent(Normal(0.0, torch.full((A,), bound).exp()), 1).log_prob(expected) - tanh_log_det(expected)
    u, log_prob, _ = policy.sample(obs, xi)
    for particles in (u, policy.particles(obs, xi)):
        torch.testing.assert_close(particles, expected, rtol=1e-14, atol=0.0)
    action = policy.act(obs, torch.zeros(S, B), xi[..., 0, :])
    torch.testing.assert_close(action, torch.tanh(expected[..., 0, :]), rtol=1e-14, atol=0.0)
    for value in (log_prob, policy.log_prob(obs, u)):
        torch.testing.assert_close(value, log_density, rtol=1e-13, atol=1e-13)


def test_particles_are_draws_of_the_first_component_then_of_the_second():
    policy, obs, xi = bayesian(), draw(S, B, D), draw(S, B, 2 * K, A, seed=1)
    u, (mean, std) = policy.particles(obs, xi), heads(policy, obs)
    assert u.shape == (S, B, 2 * K, A)
    for m in range(2 * K):
        torch.testing.assert_close(u[..., m, :], mean[..., m // 2, :] + std[..., m // 2, :] * xi[..., m, :], rtol=1e-12, atol=1e-13)


def test_a_sample_is_the_particles_and_their_log_prob():
    policy, obs, xi = bayesian(), draw(S, B, D), draw(S, B, 2 * K, A, seed=1)
    u, log_prob, _ = policy.sample(obs, xi)
    assert torch.equal(u, policy.particles(obs, xi))
    assert torch.equal(log_prob, policy.log_prob(obs, u))


@pytest.mark.parametrize("m", [1, 2])
def test_a_sample_pulls_gradients_in_the_particles_back_to_theta(m):
    policy, obs, xi, g = bayesian(action=3), draw(S, B, D), draw(S, B, m * K, 3, seed=1), draw(S, B, m * K, 3, seed=2)
    plain.add_to_heads(policy, torch.tensor([0.0, 0.0, 0.0, -19.1, 0.0, 2.9]))
    theta = leaf(policy.theta)
    mean, raw = plain.evaluate(policy.net, theta, obs[:, None]).transpose(1, 2).chunk(2, -1)
    log_std = raw.clamp(-20.0, 2.0)
    plain.assert_some_are_clamped(log_std)
    each = [mean[..., i // m, :] + log_std[..., i // m, :].exp() * xi[..., i, :] for i in range(m * K)]
    (slope,) = torch.autograd.grad((g * torch.stack(each, -2)).sum(), theta)
    u, log_prob, pull_back = policy.sample(obs, xi)
    close(pull_back(g), slope)
    assert not any(x.requires_grad for x in (u, log_prob, pull_back(g)))


def test_log_prob_is_the_logarithm_of_the_mean_density_of_the_components():
    policy, obs, u = bayesian(), draw(S, B, D), draw(S, B, 5, A, seed=1)
    value, (mean, std) = policy.log_prob(obs, u), heads(policy, obs)
    assert value.shape == (S, B, 5)
    for m in range(5):
        density = sum(Independent(Normal(mean[..., k, :], std[..., k, :]), 1).log_prob(u[..., m, :]).exp() for k in range(K)) / K
        expected = density.log() - torch.log(1.0 - torch.tanh(u[..., m, :]).square()).sum(-1)
        torch.testing.assert_close(value[..., m], expected, rtol=1e-11, atol=1e-11)


def test_density_of_actions_integrates_to_one():
    policy = bayesian(action=1)
    a, w = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(1000))
    u = torch.atanh(a)[:, None].expand(S, B, 1000, 1)
    total = (w * policy.log_prob(draw(S, B, D), u).exp()).sum(-1)
    torch.testing.assert_close(total, torch.ones(S, B), rtol=0.0, atol=1e-8)


def test_act_chooses_every_component_equally_often_and_draws_from_it():
    policy, n = bayesian(), 30 * K
    obs, xi = draw(S, 1, D).expand(S, n, D), draw(S, n, A, seed=1)
    pick = ((torch.arange(n) + 0.5) / n).expand(S, n)
    action, (mean, std) = policy.act(obs, pick, xi), heads(policy, obs)
    assert action.shape == (S, n, A)
    for i in range(n):
        torch.testing.assert_close(action[:, i], torch.tanh(mean[:, i, i // 30] + std[:, i, i // 30] * xi[:, i]), rtol=1e-12, atol=1e-13)


def test_the_largest_pick_chooses_the_last_component():
    policy, below_one = bayesian(), torch.tensor(1.0 - 2.0**-24)
    obs = draw(S, 1, D)
    action = policy.act(obs, below_one.expand(S, 1), torch.zeros(S, 1, A))
    torch.testing.assert_close(action, policy.modes(obs)[..., -1, :], rtol=1e-12, atol=1e-13)


def test_actions_have_the_mean_of_the_mixture():
    policy, n, g = bayesian(), 20_000, torch.Generator().manual_seed(3)
    obs = draw(S, 1, D).expand(S, n, D)
    u = torch.atanh(policy.act(obs, torch.rand(S, n, generator=g), torch.randn(S, n, A, generator=g)))
    mean, std = heads(policy, obs[:, :1])
    expected = mean.mean(-2)[:, 0]
    variance = (std.square() + mean.square()).mean(-2)[:, 0] - expected.square()
    assert torch.all((u.mean(1) - expected).abs() < 4.0 * (variance / n).sqrt())


def test_one_component_is_a_gaussian():
    policy, obs, u = bayesian(components=1), draw(S, B, D), draw(S, B, 5, A, seed=1)
    mean, std = heads(policy, obs)
    expected = -0.5 * ((u - mean) / std).square() - std.log() - 0.5 * math.log(2.0 * math.pi) - torch.log(1.0 - torch.tanh(u).square())
    torch.testing.assert_close(policy.log_prob(obs, u), expected.sum(-1), rtol=1e-11, atol=1e-11)
