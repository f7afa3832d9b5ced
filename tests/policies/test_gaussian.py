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
from tests.policies.plain import close, draw, evaluate, leaf, seeds
from wgf.mlp import MLP
from wgf.policies import gaussian
from wgf.policies.bayesian import BayesianPolicy
from wgf.policies.gaussian import GaussianMixture, GaussianPolicy, MixturePolicy, noise_size


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


# --- mixtures ---------------------------------------------------------------------------------------------------------


def mixture_of(*batch, k=3, action=2, seed=1):
    return GaussianMixture(
        draw(*batch, k, seed=seed), draw(*batch, k, action, seed=seed + 1), (0.5 * draw(*batch, k, action, seed=seed + 2)).exp()
    )


def torchs(law):
    return MixtureSameFamily(Categorical(logits=law.logits), Independent(Normal(law.mean, law.std), 1))


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("n", [(), (4,), (4, 6)])
@pytest.mark.parametrize("batch", [(), (7,), (2, 7)])
def test_mixture_density_is_that_of_torch_at_any_number_of_points(k, n, batch):
    law, u = mixture_of(*batch, k=k), 2.0 * draw(*batch, *n, 2)
    at = GaussianMixture(*(t.reshape(*batch, *[1] * len(n), *t.shape[len(batch) :]) for t in law))
    found = law.log_prob(u)
    assert found.shape == (*batch, *n)
    close(found, torchs(at).log_prob(u))
    close(law.squashed_log_prob(u), found + 2.0 * torch.log(torch.cosh(u)).sum(-1))  # 1 - tanh^2 = 1 / cosh^2


def test_mixture_of_equal_components_is_the_component():
    u, mean, log_std = draw(7, 2), draw(7, 1, 2, seed=1), draw(7, 1, 2, seed=2)
    law = GaussianMixture(draw(7, 3, seed=3), mean.expand(7, 3, 2), log_std.exp().expand(7, 3, 2))
    close(law.log_prob(u), gaussian.log_prob(u, mean[:, 0], log_std[:, 0]))


@pytest.mark.parametrize("far", [1.0, 300.0])  # far out every density underflows
def test_the_gradient_of_a_mixtures_density_is_that_of_its_responsibilities(far):
    """In logits r_k - w_k, in means r_k (u - m_k) / std_k^2, in stds r_k ((u - m_k)^2 / std_k^3 - 1 / std_k)."""
    u, law = leaf(far * draw(7, 2)), GaussianMixture(*map(leaf, mixture_of(7)))
    value = law.log_prob(u)
    assert torch.equal(value.exp() == 0.0, torch.full((7,), far > 1.0))
    found = torch.autograd.grad(value.sum(), (*law, u))
    logits, mean, std = law.detach()
    each = Normal(mean, std).log_prob(u.detach()[:, None]).sum(-1) + logits.log_softmax(-1)
    r, shift = (each - each.logsumexp(-1, keepdim=True)).exp(), u.detach()[:, None] - mean
    pull = r[..., None] * shift / std.square()
    expected = r - logits.softmax(-1), pull, r[..., None] * (shift.square() / std**3 - 1.0 / std), -pull.sum(-2)
    # a responsibility is the exponential of a difference of log-densities, which rounds by eps |log density|
    rtol = 1e-12 + 10.0 * torch.finfo(torch.float64).eps * value.detach().abs().max().item()
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=rtol, atol=rtol * want.abs().max().item())


def test_a_held_mixture_is_the_same_numbers():
    law = GaussianMixture(*map(leaf, mixture_of(7)))
    for held, t in zip(law.detach(), law, strict=True):
        assert torch.equal(held, t)
        assert not held.requires_grad


@pytest.mark.parametrize(("n", "batch"), [((), (7,)), ((4,), (7,)), ((4, 6), (2, 7)), ((), (2, 7))])
def test_a_draw_of_one_gaussian_is_mean_plus_std_times_noise(n, batch):
    law, xi = mixture_of(*batch, k=1), draw(*batch, *n, 2)
    assert (noise_size(1, 2), noise_size(3, 2)) == (2, 3)
    mean, std = (t.reshape(*batch, *[1] * len(n), 2) for t in law[1:])
    assert law.draw(xi).shape == (*batch, *n, 2)
    close(law.draw(xi), mean + std * xi)


@pytest.mark.parametrize(("n", "batch"), [((400,), (2,)), ((20, 20), (2,)), ((), (2, 400))])
def test_a_draw_of_a_mixture_is_that_of_the_component_that_the_last_number_picks(n, batch):
    law, noise = mixture_of(*batch), draw(*batch, *n, 3, seed=9)
    u = law.draw(noise)
    assert u.shape == (*batch, *n, 2)
    copies = math.prod(n)
    at = [t.flatten(0, len(batch) - 1).repeat_interleave(copies, 0) for t in law]
    chosen = []
    for got, z, logits, mean, std in zip(u.flatten(0, -2), noise.flatten(0, -2), *at, strict=True):
        chosen.append(int((Normal(0.0, 1.0).cdf(z[-1]) > logits.softmax(0).cumsum(0)[:-1]).sum()))
        close(got, mean[chosen[-1]] + std[chosen[-1]] * z[:-1])
    assert set(chosen) == {0, 1, 2}


@pytest.mark.parametrize("pick", [-9.0, 9.0])
def test_the_outermost_picks_choose_the_first_and_the_last_component(pick):
    law = mixture_of(50, k=4)
    noise = torch.cat([torch.zeros(50, 2), torch.full((50, 1), pick)], -1)
    assert torch.equal(law.draw(noise), law.mean[:, -1 if pick > 0.0 else 0])


def test_draws_have_the_law_that_is_stated():
    """Each component is chosen as often as its weight; mean and variance; and the mean over draws of r / p is 1 for a density r."""
    law, n = mixture_of(2), 100_000
    u = law.draw(draw(2, n, 3, seed=9))
    expected = torchs(law)
    assert torch.all((u.mean(1) - expected.mean).abs() < 4.0 * (expected.variance / n).sqrt())
    square = (u - expected.mean[:, None]).square()
    assert torch.all((square.mean(1) - expected.variance).abs() < 4.0 * square.std(1) / math.sqrt(n))
    other = Independent(Normal(law.mean[:, :1], 0.7 * law.std[:, :1]), 1)  # which the first component covers
    ratio = torch.exp(other.log_prob(u) - law.log_prob(u))
    assert torch.all((ratio.mean(1) - 1.0).abs() < 4.0 * ratio.std(1) / math.sqrt(n))


def test_stratified_draws_are_those_of_the_first_component_then_of_the_second():
    law, xi = mixture_of(2, 5), draw(2, 5, 6, 2, seed=9)
    u = law.stratified(xi)
    assert u.shape == xi.shape
    for m in range(6):
        close(u[..., m, :], law.mean[..., m // 2, :] + law.std[..., m // 2, :] * xi[..., m, :])


# --- the Gaussian policy ----------------------------------------------------------------------------------------------


def gaussian_policy():
    policy = GaussianPolicy(MLP((3, 8, 4)))
    return policy, policy.init(seeds(0, 1))


def test_gaussian_policy_draws_mean_plus_std_times_noise_and_knows_its_density():
    (policy, theta), obs, xi = gaussian_policy(), draw(2, 5, 3), draw(2, 5, 2, seed=1)
    mean, log_std = evaluate(policy.net, theta, obs).split(2, -1)
    found = policy.draw(theta, obs, xi)
    close(found.u, mean + log_std.exp() * xi)
    assert torch.equal(found.action, torch.tanh(found.u))
    law = Independent(TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform(cache_size=1)), 1)
    torch.testing.assert_close(found.log_prob, law.log_prob(found.action), rtol=1e-9, atol=1e-9)
    close(policy.mode(theta, obs), torch.tanh(mean))
    assert torch.equal(theta[1:], policy.init(seeds(1)))


def test_gaussian_policy_is_finite_with_its_action_at_the_boundary():
    policy, theta = GaussianPolicy(MLP((1, 2))), leaf(torch.tensor([[0.0, 0.0, 40.0, 0.0]]))
    found = policy.draw(theta, torch.zeros(1, 2, 1), torch.tensor([[[0.0], [-1.0]]]))
    assert found.action[0, 0, 0] == 1.0
    # log N(mean) + 2 |u| - 2 log 2, less 2 log(1 + e^-80) = 0 in float64
    expected = -0.5 * math.log(2.0 * math.pi) + 2.0 * torch.tensor([40.0, 39.0]) - 2.0 * math.log(2.0) - torch.tensor([0.0, 0.5])
    torch.testing.assert_close(found.log_prob.detach()[0], expected, rtol=1e-13, atol=0.0)
    (slope,) = torch.autograd.grad(found.log_prob.sum(), theta)
    # d log pi / d mean = 2 tanh(u) of both draws, d / d log std = 2 tanh(u) std xi - 1
    torch.testing.assert_close(slope[0, 2:], torch.tensor([4.0, -2.0 - 2.0]), rtol=1e-13, atol=0.0)


@pytest.mark.parametrize(("head", "bound"), [(-1e3, -20.0), (1e3, 2.0)])
def test_log_std_of_the_gaussian_policy_stays_within_its_bounds(head, bound):
    (policy, theta), obs, xi = gaussian_policy(), draw(2, 5, 3), draw(2, 5, 2, seed=1)
    theta.zero_()
    theta[..., -2:] = head
    found = policy.draw(theta, obs, xi)
    torch.testing.assert_close(found.u, math.exp(bound) * xi, rtol=1e-14, atol=0.0)
    log_density = gaussian.standard_log_prob(xi, torch.full_like(xi, bound))
    torch.testing.assert_close(found.log_prob, log_density - gaussian.tanh_log_det(found.u), rtol=1e-13, atol=1e-13)


def test_gradients_in_action_and_density_reach_theta_and_stop_at_the_bounds_of_log_std():
    policy, obs, xi = GaussianPolicy(MLP((3, 8, 6))), draw(2, 5, 3), draw(2, 5, 3, seed=1)
    g, h, theta = draw(2, 5, 3, seed=2), draw(2, 5, seed=3), policy.init(seeds(0, 1))
    plain.add_to_heads(policy.net, theta, torch.tensor([0.0, 0.0, 0.0, -20.0, -0.9, 2.0]))
    theta = leaf(theta)
    mean, raw = evaluate(policy.net, theta, obs).chunk(2, -1)
    log_std = raw.clamp(-20.0, 2.0)
    plain.assert_some_are_clamped(log_std)
    u = mean + log_std.exp() * xi
    # the reparameterised density: u is u(theta) everywhere
    log_pi = diagonal(torch.zeros(3), torch.zeros(3)).log_prob(xi) - log_std.sum(-1) - torch.log(1.0 - torch.tanh(u).square()).sum(-1)
    found = policy.draw(theta, obs, xi)
    got, want = ((g * a).sum() + (h * p).sum() for a, p in ((found.action, found.log_prob), (torch.tanh(u), log_pi)))
    # the reference loses eps / (1 - a^2) in log(1 - a^2); |u| < 8 here with std e^2
    loss = torch.finfo(torch.float64).eps / (1.0 - found.action.detach().square()).amin().item() * 100.0
    torch.testing.assert_close(torch.autograd.grad(got, theta)[0], torch.autograd.grad(want, theta)[0], rtol=1e-9, atol=1e-10 + loss)


def test_a_squashed_gaussians_fisher_matrix_is_the_gaussians():
    """E[s s'] over a = tanh(u) by quadrature, s the score in (mean, std) of its own density, is diag(1 / std^2, 2 / std^2)."""
    u, w = quadrature(2000)
    a, phi = torch.tanh(u)[:, None], torch.tensor([0.3, 0.6])

    def log_prob(phi, a):
        inner = torch.atanh(a)
        return (Normal(phi[..., :1], phi[..., 1:]).log_prob(inner) - torch.log(1.0 - a.square())).sum(-1)

    each = leaf(phi.expand(2000, 2))
    density = log_prob(each, a)
    (score,) = torch.autograd.grad(density.sum(), each)
    fisher = (w * density.detach().exp() * score.mT) @ score
    torch.testing.assert_close(fisher, torch.diag(torch.tensor([1.0, 2.0]) / 0.36), rtol=1e-8, atol=1e-8)


# --- the mixture policy -----------------------------------------------------------------------------------------------


def mixture_policy(action=2, components=4):
    policy = MixturePolicy(MLP((3, 8, components * (1 + 2 * action))), components, action)
    theta = policy.init(seeds(0, 1))
    shift, n = draw(2, 1, components * (1 + 2 * action), seed=9), components * (1 + action)
    # components that differ, of standard deviations about 0.4
    plain.add_to_heads(policy.net, theta, torch.cat([shift[..., :n], 0.2 * shift[..., n:] - 0.9], -1))
    return policy, theta


def test_mixture_policy_splits_its_network_into_logits_means_and_log_stds():
    (policy, theta), obs = mixture_policy(), draw(2, 5, 3)
    law, out = policy.law(theta, obs), evaluate(policy.net, theta, obs)
    close(law.logits, out[..., :4])
    close(law.mean, out[..., 4:12].reshape(2, 5, 4, 2))
    close(law.std, out[..., 12:].reshape(2, 5, 4, 2).exp())
    assert torch.equal(policy.mode(theta, obs), torch.tanh(law.mean))


@pytest.mark.parametrize(("head", "bound"), [(-1e3, -20.0), (1e3, 2.0)])
def test_log_std_of_the_mixture_policy_stays_within_its_bounds(head, bound):
    policy, theta = mixture_policy()
    plain.add_to_heads(policy.net, theta, torch.full((20,), head))
    torch.testing.assert_close(policy.law(theta, draw(2, 5, 3)).std, torch.full((2, 5, 4, 2), bound).exp(), rtol=1e-14, atol=0.0)


def test_gradients_of_the_mixtures_reach_theta_and_stop_at_the_bounds_of_log_std():
    (policy, theta), obs = mixture_policy(action=3), draw(2, 5, 3)
    plain.add_to_heads(policy.net, theta, torch.cat([torch.zeros(16), torch.tensor([-19.1, 0.0, 2.9]).repeat(4)]))
    theta = leaf(theta)
    out = evaluate(policy.net, theta, obs)
    log_std = out[..., 16:].unflatten(-1, (4, 3)).clamp(-20.0, 2.0)
    plain.assert_some_are_clamped(log_std)
    expected = GaussianMixture(out[..., :4], out[..., 4:16].unflatten(-1, (4, 3)), log_std.exp())
    weights = [draw(*t.shape, seed=20 + i) for i, t in enumerate(expected)]
    slopes = [
        torch.autograd.grad(sum((w * t).sum() for w, t in zip(weights, law, strict=True)), theta)[0]
        for law in (policy.law(theta, obs), expected)
    ]
    close(*slopes)


@pytest.mark.parametrize("n", [(), (6,)])
def test_mixture_policy_acts_by_the_draws_of_its_mixtures(n):
    (policy, theta), obs, noise = mixture_policy(), draw(2, 5, 3), draw(2, 5, *n, 3, seed=2)
    found, law = policy.draw(theta, obs, noise), policy.law(theta, obs)
    assert torch.equal(found.u, law.draw(noise))
    assert torch.equal(found.action, torch.tanh(found.u))
    assert torch.equal(found.log_prob, law.squashed_log_prob(found.u))
    assert torch.equal(policy.init(seeds(0, 1))[1:], policy.init(seeds(1)))


def test_squashed_mixture_integrates_to_one():
    u, w = quadrature()
    policy, theta = mixture_policy(action=1)
    density = policy.law(theta, draw(2, 1, 3)).squashed_log_prob(u[:, None].expand(2, 1, 1000, 1)).exp()
    torch.testing.assert_close((w * density).sum(-1), torch.ones(2, 1), rtol=0.0, atol=1e-8)


@pytest.mark.parametrize("start", [0.0, 0.02, 0.15, 3.0])
@pytest.mark.parametrize("smooth", [False, True])
def test_a_network_that_gives_0_has_the_deviation_that_was_asked_for_and_others_lie_about_it_within_bounds(smooth, start):
    raw = torch.tensor([0.0, 0.3, -0.3, 40.0, -40.0], dtype=torch.float64)
    found = gaussian.log_stds(raw, smooth, start)
    first = math.log(start or (math.exp(-4.0) if smooth else 1.0))
    if smooth:
        expected = [-4.0 + 6.0 * math.tanh(r + math.atanh((first + 4.0) / 6.0)) for r in raw.tolist()]
    else:
        expected = [first, first + 0.3, first - 0.3, 2.0, -20.0]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "made", [lambda s: MixturePolicy(MLP((1, 10)), 2, 2, True, s), lambda s: BayesianPolicy(MLP((1, 4)), 2, 2, True, s)]
)
def test_mixtures_begin_with_the_deviation_that_was_asked_for(made):
    policy = made(0.15)
    std = policy.law(torch.zeros(1, *policy.init(seeds(1)).shape[1:], dtype=torch.float64), torch.zeros(1, 3, 1, dtype=torch.float64)).std
    torch.testing.assert_close(std, torch.full_like(std, 0.15), rtol=1e-12, atol=0.0)


def test_a_gaussian_begins_with_the_deviation_that_was_asked_for():
    policy = GaussianPolicy(MLP((1, 4)), start_std=0.15)
    xi = draw(1, 3, 2)
    u = policy.draw(torch.zeros(1, 8, dtype=torch.float64), torch.zeros(1, 3, 1, dtype=torch.float64), xi).u
    torch.testing.assert_close(u, 0.15 * xi, rtol=1e-12, atol=0.0)
