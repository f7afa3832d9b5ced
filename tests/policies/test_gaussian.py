"""Densities against torch.distributions and quadrature; draws against the law that they claim."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    Normal,
    TanhTransform,
    TransformedDistribution,
    kl_divergence,
)

from tests.policies import plain
from tests.policies.plain import close, draw, leaf, seeds
from wgf.policies import gaussian
from wgf.policies.gaussian import GaussianPolicy, Mixture, MixturePolicy


def diagonal(mean, log_std):
    return Independent(Normal(mean, log_std.exp()), 1)


def quadrature(n=1000):
    """Gauss-Legendre nodes u = atanh(a) and weights for integrals over a in (-1, 1)."""
    a, w = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(n))
    return torch.atanh(a), w


def test_log_prob_is_the_normal_density():
    u, mean, log_std = draw(3, 5, 2), draw(3, 5, 2, seed=1), draw(3, 5, 2, seed=2)
    torch.testing.assert_close(gaussian.log_prob(u, mean, log_std), diagonal(mean, log_std).log_prob(u), rtol=1e-12, atol=1e-12)


def test_standard_log_prob_is_the_density_of_mean_plus_std_times_noise():
    xi, mean, log_std = draw(3, 5, 2), draw(3, 5, 2, seed=1), draw(3, 5, 2, seed=2)
    expected = diagonal(mean, log_std).log_prob(mean + log_std.exp() * xi)
    torch.testing.assert_close(gaussian.standard_log_prob(xi, log_std), expected, rtol=1e-12, atol=1e-12)


def test_entropy_is_the_normal_entropy():
    log_std = draw(3, 5, 2)
    torch.testing.assert_close(gaussian.entropy(log_std), diagonal(torch.zeros_like(log_std), log_std).entropy(), rtol=1e-12, atol=1e-12)


def test_kl_is_the_divergence_of_normals():
    p, q = (draw(3, 5, 2, seed=1), draw(3, 5, 2, seed=2)), (draw(3, 5, 2, seed=3), draw(3, 5, 2, seed=4))
    torch.testing.assert_close(gaussian.kl(*p, *q), kl_divergence(diagonal(*p), diagonal(*q)), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gaussian.kl(*p, *p), torch.zeros(3, 5), rtol=0.0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_det_of_tanh_is_accurate_and_finite_where_tanh_is_one(dtype):
    u = torch.tensor([0.0, 1e-4, 0.5, 3.0, 9.0, 20.0, 30.0, 100.0, 1e4], dtype=dtype)
    u = torch.cat([-u, u])[:, None].requires_grad_()
    x = u.detach().double().abs()
    expected = (2.0 * math.log(2.0) - 2.0 * x - 2.0 * torch.log1p(torch.exp(-2.0 * x)))[:, 0]  # log(4 e^-2|u| / (1 + e^-2|u|)^2)
    value = gaussian.tanh_log_det(u)
    eps = torch.finfo(dtype).eps  # softplus, two differences and a product round at most 8 times, relative to 2 |u| + 2 log 2
    assert torch.all((value.double() - expected).abs() <= 8.0 * eps * (2.0 * x[:, 0] + 2.0 * math.log(2.0)))
    (slope,) = torch.autograd.grad(value.sum(), u)
    assert torch.all((slope + 2.0 * torch.tanh(u)).abs() <= 8.0 * eps)


def test_squashed_density_is_that_of_the_transformed_distribution():
    u, mean, log_std = 1.5 * draw(50, 2), draw(50, 2, seed=1), 0.3 * draw(50, 2, seed=2)
    sample = gaussian.squashed(u, gaussian.log_prob(u, mean, log_std))
    law = Independent(TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform(cache_size=1)), 1)
    a = torch.tanh(u)
    assert torch.equal(sample.action, a)
    assert torch.equal(sample.u, u)
    # the reference inverts tanh: an error of eps in a moves atanh(a), and with it the density, by eps / (1 - a^2)
    loss = torch.finfo(torch.float64).eps / (1.0 - a.square()).amin() * 100.0
    torch.testing.assert_close(sample.log_prob, law.log_prob(a), rtol=1e-11, atol=loss.item())


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.3), (0.4, 0.8), (-1.2, 0.5), (1.5, 0.6)])
def test_squashed_density_integrates_to_one(mean, std):
    u, w = quadrature()
    density = gaussian.log_prob(u[:, None], torch.tensor([mean]), torch.tensor([math.log(std)]))
    assert (w * gaussian.squashed(u[:, None], density).log_prob.exp()).sum().item() == pytest.approx(1.0, abs=1e-8)


def test_squashed_density_of_two_dimensions_integrates_to_one():
    u, w = quadrature(200)
    grid = torch.stack(torch.meshgrid(u, u, indexing="ij"), -1)
    density = gaussian.log_prob(grid, torch.tensor([0.3, -0.5]), torch.tensor([-0.7, -0.4]))
    total = (w[:, None] * w * gaussian.squashed(grid, density).log_prob.exp()).sum()
    assert total.item() == pytest.approx(1.0, abs=1e-8)


def test_mixture_density_is_that_of_torch():
    u, logits, mean, log_std = 2.0 * draw(7, 2), draw(7, 3, seed=1), draw(7, 3, 2, seed=2), draw(7, 3, 2, seed=3)
    law = MixtureSameFamily(Categorical(logits=logits), diagonal(mean, log_std))
    torch.testing.assert_close(gaussian.mixture_log_prob(u, logits, mean, log_std), law.log_prob(u), rtol=1e-12, atol=1e-12)


def test_mixture_of_equal_components_is_the_component():
    u, mean, log_std = draw(7, 2), draw(7, 1, 2, seed=1), draw(7, 1, 2, seed=2)
    value = gaussian.mixture_log_prob(u, draw(7, 3, seed=3), mean.expand(7, 3, 2), log_std.expand(7, 3, 2))
    torch.testing.assert_close(value, gaussian.log_prob(u, mean[:, 0], log_std[:, 0]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("far", [1.0, 30.0])  # far out every density underflows
def test_mixture_score_is_the_gradient_of_the_log_density(far):
    u = far * draw(7, 2)
    mixture = Mixture(draw(7, 3, seed=1), draw(7, 3, 2, seed=2), 0.5 * draw(7, 3, 2, seed=3) - 1.0)
    leaves = [leaf(x) for x in mixture]
    expected = gaussian.mixture_log_prob(u, *leaves)
    value, score = gaussian.mixture_score(u, mixture)
    assert torch.equal(expected.exp() == 0.0, torch.full((7,), far > 1.0))
    # a responsibility is the exponential of a difference of log-densities, which rounds by eps |log density|
    rtol = 1e-12 + 10.0 * torch.finfo(torch.float64).eps * expected.detach().abs().max().item()
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=1e-12)
    for got, want in zip(score, torch.autograd.grad(expected.sum(), leaves), strict=True):
        torch.testing.assert_close(got, want, rtol=rtol, atol=rtol)


def test_clamped_is_the_identity_within_the_bounds_and_zero_outside():
    g, raw = draw(6), torch.tensor([-1e3, -20.1, -19.9, 1.9, 2.1, 1e3])
    assert torch.equal(gaussian.clamped(g, raw), torch.cat([torch.zeros(2), g[2:4], torch.zeros(2)]))


# --- the Gaussian policy ----------------------------------------------------------------------------------------------


def test_gaussian_policy_draws_mean_plus_std_times_noise_and_knows_its_density():
    policy = GaussianPolicy(3, 2, (8,), "tanh", seeds(0, 1))
    obs, xi = draw(2, 5, 3), draw(2, 5, 2, seed=1)
    mean, log_std = policy.net(obs)[..., :2], policy.net(obs)[..., 2:]
    sample, _ = policy.sample(obs, xi)
    torch.testing.assert_close(sample.u, mean + log_std.exp() * xi, rtol=1e-13, atol=1e-14)
    assert torch.equal(sample.action, torch.tanh(sample.u))
    assert torch.equal(policy.act(obs, xi), sample.action)
    law = Independent(TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform(cache_size=1)), 1)
    torch.testing.assert_close(sample.log_prob, law.log_prob(sample.action), rtol=1e-9, atol=1e-9)
    assert torch.equal(policy.mode(obs), torch.tanh(mean))


def test_gaussian_policy_is_finite_with_its_action_at_the_boundary():
    policy = GaussianPolicy(1, 1, (), "tanh", seeds(0))
    with torch.no_grad():
        policy.theta.copy_(torch.tensor([[0.0, 0.0, 40.0, 0.0]]))
    sample, _ = policy.sample(torch.zeros(1, 2, 1), torch.tensor([[[0.0], [-1.0]]]))
    assert sample.action[0, 0, 0] == 1.0
    # log N(mean) + 2 |u| - 2 log 2, less 2 log(1 + e^-80) = 0 in float64
    expected = -0.5 * math.log(2.0 * math.pi) + 2.0 * torch.tensor([40.0, 39.0]) - 2.0 * math.log(2.0) - torch.tensor([0.0, 0.5])
    torch.testing.assert_close(sample.log_prob[0], expected, rtol=1e-13, atol=0.0)


@pytest.mark.parametrize(("head", "bound"), [(-1e3, -20.0), (1e3, 2.0)])
def test_log_std_of_the_gaussian_policy_stays_within_its_bounds(head, bound):
    policy, obs, xi = GaussianPolicy(3, 2, (8,), "tanh", seeds(0)), draw(1, 5, 3), draw(1, 5, 2, seed=1)
    with torch.no_grad():
        policy.theta.zero_()
        policy.theta[..., -2:] = head
    sample, _ = policy.sample(obs, xi)
    torch.testing.assert_close(sample.u, math.exp(bound) * xi, rtol=1e-14, atol=0.0)
    torch.testing.assert_close(policy.act(obs, xi), torch.tanh(math.exp(bound) * xi), rtol=1e-14, atol=0.0)
    log_density = gaussian.standard_log_prob(xi, torch.full_like(xi, bound))
    torch.testing.assert_close(sample.log_prob, log_density - gaussian.tanh_log_det(sample.u), rtol=1e-14, atol=1e-14)


def test_gaussian_policy_pulls_gradients_in_u_and_log_std_back_to_theta():
    policy, obs, xi = GaussianPolicy(3, 3, (8,), "tanh", seeds(0, 1)), draw(2, 5, 3), draw(2, 5, 3, seed=1)
    g, h = draw(2, 5, 3, seed=2), draw(2, 5, 3, seed=3)
    plain.add_to_heads(policy, torch.tensor([0.0, 0.0, 0.0, -20.0, -0.9, 2.0]))
    theta = leaf(policy.theta)
    mean, raw = plain.evaluate(policy.net, theta, obs).chunk(2, -1)
    log_std = raw.clamp(-20.0, 2.0)
    plain.assert_some_are_clamped(log_std)
    (slope,) = torch.autograd.grad((g * (mean + log_std.exp() * xi)).sum() + (h * log_std).sum(), theta)
    sample, pull_back = policy.sample(obs, xi)
    close(pull_back(g, h), slope)
    assert not any(x.requires_grad for x in (*sample, pull_back(g, h)))


# --- the mixture policy -----------------------------------------------------------------------------------------------


def mixture_policy(action=2, components=4):
    policy = MixturePolicy(3, action, components, (8,), "tanh", seeds(0, 1))
    shift, n = draw(2, 1, components * (1 + 2 * action), seed=9), components * (1 + action)
    # components that differ, of standard deviations about 0.4
    plain.add_to_heads(policy, torch.cat([shift[..., :n], 0.2 * shift[..., n:] - 0.9], -1))
    return policy


def test_mixture_policy_splits_its_network_into_logits_means_and_log_stds():
    policy, obs = mixture_policy(), draw(2, 5, 3)
    mixture, _ = policy.vjp(obs)
    out = policy.net(obs)
    assert out.shape[-1] == 4 + 8 + 8
    assert torch.equal(mixture.logits, out[..., :4])
    assert torch.equal(mixture.mean, out[..., 4:12].reshape(2, 5, 4, 2))
    assert torch.equal(mixture.log_std, out[..., 12:].reshape(2, 5, 4, 2))
    assert torch.equal(policy.modes(obs), torch.tanh(mixture.mean))


@pytest.mark.parametrize(("head", "bound"), [(-1e3, -20.0), (1e3, 2.0)])
def test_log_std_of_the_mixture_policy_stays_within_its_bounds(head, bound):
    policy = mixture_policy()
    plain.add_to_heads(policy, torch.full((20,), head))
    assert torch.equal(policy.vjp(draw(2, 5, 3))[0].log_std, torch.full((2, 5, 4, 2), bound))


def test_mixture_policy_pulls_gradients_in_its_mixtures_back_to_theta():
    policy, obs = mixture_policy(action=3), draw(2, 5, 3)
    g = Mixture(draw(2, 5, 4, seed=1), draw(2, 5, 4, 3, seed=2), draw(2, 5, 4, 3, seed=3))
    plain.add_to_heads(policy, torch.cat([torch.zeros(16), torch.tensor([-19.1, 0.0, 2.9]).repeat(4)]))
    theta = leaf(policy.theta)
    out = plain.evaluate(policy.net, theta, obs)
    log_std = out[..., 16:].unflatten(-1, (4, 3)).clamp(-20.0, 2.0)
    plain.assert_some_are_clamped(log_std)
    pairs = (g.logits * out[..., :4]).sum() + (g.mean * out[..., 4:16].unflatten(-1, (4, 3))).sum() + (g.log_std * log_std).sum()
    (slope,) = torch.autograd.grad(pairs, theta)
    mixture, pull_back = policy.vjp(obs)
    close(pull_back(g), slope)
    assert not any(x.requires_grad for x in (*mixture, pull_back(g)))


def test_pick_chooses_each_component_as_often_as_its_weight():
    policy, n = mixture_policy(), 1000
    pick = ((torch.arange(n) + 0.5) / n).expand(2, n)
    mixture, _ = policy.vjp(draw(2, 1, 3).expand(2, n, 3))
    logits, mean, log_std = (x[:, 0] for x in mixture)
    u, moved = gaussian.draw(mixture, pick, torch.zeros(2, n, 2)), gaussian.draw(mixture, pick, torch.ones(2, n, 2))
    nearest = (u[..., None, :] - mean[:, None]).square().sum(-1).argmin(-1)
    for s in range(2):
        for k in range(4):
            chosen = nearest[s] == k
            # an interval of length w holds w n of n equally spaced points, give or take one
            assert abs(chosen.sum() - n * logits[s].softmax(-1)[k]) <= 1.0
            torch.testing.assert_close(u[s, chosen], mean[s, k].expand(int(chosen.sum()), 2), rtol=1e-12, atol=1e-12)
            torch.testing.assert_close((moved - u)[s, chosen], log_std[s, k].exp().expand(int(chosen.sum()), 2), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("pick", [0.0, 1.0 - 2.0**-24, 1.0])
def test_the_outermost_picks_choose_the_first_and_the_last_component(pick):
    mixture = Mixture(draw(50, 4), draw(50, 4, 2, seed=1), draw(50, 4, 2, seed=2))
    u = gaussian.draw(mixture, torch.full((50,), pick), torch.zeros(50, 2))
    assert torch.equal(u, mixture.mean[:, -1 if pick else 0])


def test_draws_of_the_mixture_have_its_moments():
    policy, n = mixture_policy(), 40_000
    g = torch.Generator().manual_seed(3)
    mixture, _ = policy.vjp(draw(2, 1, 3).expand(2, n, 3))
    u = gaussian.draw(mixture, torch.rand(2, n, generator=g), torch.randn(2, n, 2, generator=g))
    logits, mean, log_std = (x[:, 0] for x in mixture)
    law = MixtureSameFamily(Categorical(logits=logits), diagonal(mean, log_std))
    assert torch.all((u.mean(1) - law.mean).abs() < 4.0 * (law.variance / n).sqrt())
    square = (u - law.mean[:, None]).square()
    assert torch.all((square.mean(1) - law.variance).abs() < 4.0 * square.std(1) / math.sqrt(n))


def test_mixture_policy_acts_by_the_draws_of_its_mixtures():
    policy, obs, xi = mixture_policy(), draw(2, 5, 3), draw(2, 5, 2, seed=2)
    pick = torch.rand(2, 5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(policy.act(obs, pick, xi), torch.tanh(gaussian.draw(policy.vjp(obs)[0], pick, xi)))


def test_squashed_mixture_integrates_to_one():
    u, w = quadrature()
    mixture, _ = mixture_policy(action=1).vjp(draw(2, 1, 3).expand(2, 1000, 3))
    u = u[:, None].expand(2, 1000, 1)
    density = gaussian.squashed(u, gaussian.mixture_log_prob(u, *mixture)).log_prob.exp()
    torch.testing.assert_close((w * density).sum(-1), torch.ones(2), rtol=0.0, atol=1e-8)
