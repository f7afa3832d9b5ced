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

from policies import gaussian
from policies.gaussian import GaussianPolicy, MixturePolicy


def seeds(*numbers):
    return [torch.Generator().manual_seed(k) for k in numbers]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def diagonal(mean, log_std):
    return Independent(Normal(mean, log_std.exp()), 1)


def quadrature(n=1000):
    """Gauss-Legendre nodes u = atanh(a) and weights for integrals over a in (-1, 1)."""
    a, w = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(n))
    return torch.atanh(a), w


def test_log_prob_is_the_normal_density():
    u, mean, log_std = draw(3, 5, 2), draw(3, 5, 2, seed=1), draw(3, 5, 2, seed=2)
    torch.testing.assert_close(gaussian.log_prob(u, mean, log_std), diagonal(mean, log_std).log_prob(u), rtol=1e-12, atol=1e-12)


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


# --- the Gaussian policy ----------------------------------------------------------------------------------------------


def test_gaussian_policy_draws_mean_plus_std_times_noise_and_knows_its_density():
    policy = GaussianPolicy(3, 2, (8,), "tanh", seeds(0, 1))
    obs, xi = draw(2, 5, 3), draw(2, 5, 2, seed=1)
    mean, log_std = policy.net(obs)[..., :2], policy.net(obs)[..., 2:]
    sample = policy(obs, xi)
    torch.testing.assert_close(sample.u, mean + log_std.exp() * xi, rtol=1e-13, atol=1e-14)
    assert torch.equal(sample.action, torch.tanh(sample.u))
    law = Independent(TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform(cache_size=1)), 1)
    torch.testing.assert_close(sample.log_prob, law.log_prob(sample.action), rtol=1e-9, atol=1e-9)
    assert torch.equal(policy.mode(obs), torch.tanh(mean))


def test_gaussian_policy_is_finite_with_its_action_at_the_boundary():
    policy = GaussianPolicy(1, 1, (), "tanh", seeds(0))
    with torch.no_grad():
        policy.net.biases[0].copy_(torch.tensor([[[40.0, 0.0]]]))
        policy.net.weights[0].zero_()
    sample = policy(torch.zeros(1, 2, 1), torch.tensor([[[0.0], [-1.0]]]))
    assert sample.action[0, 0, 0] == 1.0
    # log N(mean) + 2 |u| - 2 log 2, less 2 log(1 + e^-80) = 0 in float64
    expected = -0.5 * math.log(2.0 * math.pi) + 2.0 * torch.tensor([40.0, 39.0]) - 2.0 * math.log(2.0) - torch.tensor([0.0, 0.5])
    torch.testing.assert_close(sample.log_prob[0], expected, rtol=1e-13, atol=0.0)


@pytest.mark.parametrize(("head", "bound"), [(-1e3, -20.0), (1e3, 2.0)])
@pytest.mark.parametrize("policy", [lambda g: GaussianPolicy(3, 2, (8,), "tanh", g), lambda g: MixturePolicy(3, 2, 4, (8,), "tanh", g)])
def test_log_std_stays_within_its_bounds(policy, head, bound):
    policy = policy(seeds(0))
    with torch.no_grad():
        policy.net.biases[-1].fill_(head)
    assert torch.equal(policy.parameters_of(draw(1, 5, 3))[-1].unique(), torch.tensor([bound]))


# --- the mixture policy -----------------------------------------------------------------------------------------------


def mixture(obs=3, action=2, components=4):
    policy = MixturePolicy(obs, action, components, (8,), "tanh", seeds(0, 1))
    with torch.no_grad():
        shift, n = draw(2, 1, components * (1 + 2 * action), seed=9), components * (1 + action)
        # components that differ, of standard deviations about 0.4
        policy.net.biases[-1].add_(torch.cat([shift[..., :n], 0.2 * shift[..., n:] - 0.9], -1))
    return policy


def test_mixture_policy_splits_its_network_into_logits_means_and_log_stds():
    policy, obs = mixture(), draw(2, 5, 3)
    logits, mean, log_std = policy.parameters_of(obs)
    out = policy.net(obs)
    assert out.shape[-1] == 4 + 8 + 8
    assert torch.equal(logits, out[..., :4])
    assert torch.equal(mean, out[..., 4:12].reshape(2, 5, 4, 2))
    assert torch.equal(log_std, out[..., 12:].reshape(2, 5, 4, 2).clamp(-20.0, 2.0))
    assert torch.equal(policy.modes(obs), torch.tanh(mean))


def test_pick_chooses_each_component_as_often_as_its_weight():
    policy, n = mixture(), 1000
    obs = draw(2, 1, 3).expand(2, n, 3)
    pick = ((torch.arange(n) + 0.5) / n).expand(2, n)
    logits, mean, log_std = policy.parameters_of(obs[:, :1])
    u, moved = policy(obs, pick, torch.zeros(2, n, 2)).u, policy(obs, pick, torch.ones(2, n, 2)).u
    nearest = (u[..., None, :] - mean).square().sum(-1).argmin(-1)
    for s in range(2):
        for k in range(4):
            chosen = nearest[s] == k
            # an interval of length w holds w n of n equally spaced points, give or take one
            assert abs(chosen.sum() - n * logits[s, 0].softmax(-1)[k]) <= 1.0
            torch.testing.assert_close(u[s, chosen], mean[s, 0, k].expand(int(chosen.sum()), 2), rtol=1e-12, atol=1e-12)
            torch.testing.assert_close((moved - u)[s, chosen], log_std[s, 0, k].exp().expand(int(chosen.sum()), 2), rtol=1e-9, atol=1e-11)


def test_draws_of_the_mixture_policy_have_the_moments_of_the_mixture():
    policy, n = mixture(), 40_000
    obs, g = draw(2, 1, 3).expand(2, n, 3), torch.Generator().manual_seed(3)
    u = policy(obs, torch.rand(2, n, generator=g), torch.randn(2, n, 2, generator=g)).u
    logits, mean, log_std = policy.parameters_of(obs[:, :1])
    law = MixtureSameFamily(Categorical(logits=logits[:, 0]), diagonal(mean[:, 0], log_std[:, 0]))
    assert torch.all((u.mean(1) - law.mean).abs() < 4.0 * (law.variance / n).sqrt())
    square = (u - law.mean[:, None]).square()
    assert torch.all((square.mean(1) - law.variance).abs() < 4.0 * square.std(1) / math.sqrt(n))


def test_mixture_policy_knows_the_density_of_its_draws():
    policy, obs = mixture(), draw(2, 5, 3)
    pick = torch.rand(2, 5, generator=torch.Generator().manual_seed(1))
    sample = policy(obs, pick, 0.3 * draw(2, 5, 2, seed=2))
    logits, mean, log_std = policy.parameters_of(obs)
    law = MixtureSameFamily(Categorical(logits=logits), diagonal(mean, log_std))
    expected = law.log_prob(sample.u) - torch.log(1.0 - torch.tanh(sample.u).square()).sum(-1)
    loss = torch.finfo(torch.float64).eps / (1.0 - sample.action.square()).amin() * 100.0  # of the reference, where 1 - a^2 cancels
    torch.testing.assert_close(sample.log_prob, expected, rtol=1e-11, atol=loss.item())
    assert torch.equal(policy.log_prob(obs, sample.u), sample.log_prob)


def test_squashed_mixture_integrates_to_one():
    policy = mixture(action=1)
    u, w = quadrature()
    obs = draw(2, 1, 3).expand(2, 1000, 3)
    with torch.no_grad():
        total = (w * policy.log_prob(obs, u[:, None].expand(2, 1000, 1)).exp()).sum(-1)
    torch.testing.assert_close(total, torch.ones(2), rtol=0.0, atol=1e-8)


def test_the_choice_of_a_component_carries_no_gradient():
    policy, obs = mixture(), draw(2, 5, 3)
    policy(obs, torch.full((2, 5), 0.4), draw(2, 5, 2, seed=1)).u.sum().backward()
    slope = policy.net.biases[-1].grad[:, 0]
    assert torch.equal(slope[:, :4], torch.zeros(2, 4))
    assert slope[:, 4:12].abs().sum() > 0.0
