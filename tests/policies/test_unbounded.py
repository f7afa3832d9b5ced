"""The unbounded policy against autograd and torch.distributions."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence
from torch.nn.functional import elu, layer_norm, softplus

from tests.policies.plain import close, leaf, seeds
from tests.policies.plain import draw as numbers
from wgf.policies.unbounded import (
    Law,
    Parts,
    UnboundedPolicy,
    decoupled_kl,
    decoupled_kl_gradient,
    draw,
    flat,
    log_prob,
    noise_size,
    unflat,
)

K = pytest.mark.parametrize("k", [1, 3])


def started(k):
    policy = UnboundedPolicy(3, 2, k, (6, 5), 0.7, seeds(0, 1))
    policy.net.theta += 0.5 * numbers(*policy.theta.shape, seed=3)
    return policy


def law_of(k, seed=0):
    return Law(numbers(5, k, seed=seed), numbers(5, k, 2, seed=seed + 1), numbers(5, k, 2, seed=seed + 2).exp())


def distribution(law):
    return MixtureSameFamily(Categorical(logits=law.logits), Independent(Normal(law.mean, law.std), 1))


def by_hand(policy, theta, s, obs):
    """Logits, means and stds of seed s at states (n, D), by torch's functions."""
    k = policy.shape[0]
    (w1, b1), (w2, b2), (w3, b3) = policy.net.layers(theta)
    gain, offset = theta[s, -12:].chunk(2)
    x = torch.tanh(layer_norm(obs @ w1[s] + b1[s], (6,), gain, offset))
    logits, mean, raw = (elu(x @ w2[s] + b2[s]) @ w3[s] + b3[s]).split([k, 2 * k, 2 * k], -1)
    return logits, mean.reshape(-1, k, 2), (softplus(raw) * 0.7 / math.log(2.0) + 1e-6).reshape(-1, k, 2)


@K
def test_the_laws_and_their_gradient_are_those_of_autograd(k):
    policy, obs = started(k), numbers(2, 5, 3)
    g = Law(numbers(2, 5, k, seed=1), numbers(2, 5, k, 2, seed=2), numbers(2, 5, k, 2, seed=4))
    law, pull_back = policy.vjp(obs)
    theta, total = leaf(policy.theta), torch.zeros(())
    for s in range(2):
        for got, weight, want in zip(law, g, by_hand(policy, theta, s, obs[s]), strict=True):
            close(got[s], want.detach())
            total = total + (weight[s] * want).sum()
    close(pull_back(g), torch.autograd.grad(total, theta)[0])
    for got, want in zip(policy(obs), law, strict=True):
        assert torch.equal(got, want)


def test_the_last_layer_starts_at_a_hundredth_so_that_the_first_policy_has_mean_0_and_the_given_std():
    policy = UnboundedPolicy(3, 2, 1, (64, 64), 0.4, seeds(0, 1))
    for part in policy.net.layers(policy.net.theta)[-1]:
        assert 0.009 / 8.0 < part.abs().max() <= 0.01 / 8.0  # usually 1 / sqrt(64)
    law = policy(10.0 * numbers(2, 50, 3))
    assert law.mean.abs().max() < 0.1
    assert ((law.std - 0.4).abs() < 0.4 * 0.1 / math.log(2.0)).all()  # softplus has slope at most 1
    assert law.mean.std() > 0.0


def test_components_start_apart_and_seed_by_seed():
    policy = UnboundedPolicy(3, 2, 4, (64, 64), 0.4, seeds(0, 1, 2))
    mean = policy(numbers(3, 1, 3)).mean
    alone = UnboundedPolicy(3, 2, 4, (64, 64), 0.4, seeds(1))
    assert torch.equal(alone.theta, policy.theta[1:2])
    assert mean.std().item() == pytest.approx(0.4, rel=4.0 / math.sqrt(2.0 * mean.numel()))


def test_draws_have_the_density_that_is_stated():
    """The mean over draws of r / p is 1 for any other density r, here a Gaussian that the mixture covers."""
    law = Law(torch.tensor([0.5, -1.0]), torch.tensor([[1.0], [-1.5]]), torch.tensor([[0.7], [0.4]]))
    n = 200_000
    u = draw(law, numbers(n, noise_size(2, 1)))
    other = Normal(torch.tensor([-1.0]), torch.tensor([0.5]))
    ratio = torch.exp(other.log_prob(u).sum(-1) - log_prob(law, u))
    assert abs(ratio.mean() - 1.0) < 4.0 * ratio.std() / math.sqrt(n)
    weight = law.logits.softmax(0)
    assert abs(u.mean() - (weight * law.mean[:, 0]).sum()) < 4.0 * u.std() / math.sqrt(n)


def test_a_draw_of_one_gaussian_is_mean_plus_std_times_noise():
    law, xi = law_of(1), numbers(5, 4, 2, seed=9)
    assert noise_size(1, 2) == 2
    assert noise_size(3, 2) == 3
    close(draw(law, xi), law.mean + law.std * xi)


def test_a_draw_of_a_mixture_is_that_of_the_component_that_the_last_number_picks():
    law, noise = Law(torch.tensor([[0.2, -0.3, 0.7]]), *(t[:1] for t in law_of(3)[1:])), numbers(1, 400, 3, seed=9)
    edges, u = law.logits[0].softmax(0).cumsum(0), draw(law, noise)
    chosen = [int((Normal(0.0, 1.0).cdf(z[-1]) > edges[:-1]).sum()) for z in noise[0]]
    assert set(chosen) == {0, 1, 2}
    for b, k in enumerate(chosen):
        close(u[0, b], law.mean[0, k] + law.std[0, k] * noise[0, b, :-1])


@K
def test_log_densities_are_those_of_torch(k):
    law, u = law_of(k), numbers(5, 4, 2, seed=9)
    close(log_prob(law, u), torch.stack([distribution(Law(*(t[b] for t in law))).log_prob(u[b]) for b in range(5)]))


@K
def test_a_flat_law_is_its_numbers(k):
    law = law_of(k)
    assert flat(law).shape == (5, 5 * k)
    for got, want in zip(unflat(flat(law), law), law, strict=True):
        assert torch.equal(got, want)


def test_the_parts_of_the_kl_are_those_of_gaussians_that_differ_in_mean_or_in_std_alone():
    target, law = law_of(1), law_of(1, 10)
    found = decoupled_kl(target, law)
    close(found.mean, kl_divergence(Normal(*target[1:]), Normal(law.mean, target.std))[:, 0])
    close(found.std, kl_divergence(Normal(*target[1:]), Normal(target.mean, law.std))[:, 0])


def test_the_parts_of_a_mixture_are_means_over_components_and_the_kl_of_the_weights():
    target, law = law_of(3), law_of(3, 10)
    found, w = decoupled_kl(target, law), target.logits.softmax(-1)[..., None]
    moved = kl_divergence(Categorical(logits=target.logits), Categorical(logits=law.logits))
    close(found.mean, (w * kl_divergence(Normal(*target[1:]), Normal(law.mean, target.std))).sum(1) + moved[:, None] / 2.0)
    close(found.std, (w * kl_divergence(Normal(*target[1:]), Normal(target.mean, law.std))).sum(1))


def test_together_they_bound_the_kl_of_two_mixtures_near_each_other():
    target, step = law_of(3), law_of(3, 10)
    law = Law(*(t + 0.01 * s for t, s in zip(target, step, strict=True)))
    n = 20_000
    u = torch.stack([draw(Law(*(t[b] for t in target)), numbers(n, 3, seed=b)) for b in range(5)])
    ratio = log_prob(target, u) - log_prob(law, u)
    slack = sum(part.sum(-1) for part in decoupled_kl(target, law)) - ratio.mean(-1)
    assert (slack > -4.0 * ratio.std(-1) / math.sqrt(n)).all()


@K
def test_their_gradients_are_those_of_autograd(k):
    target, law, weight = law_of(k), law_of(k, 10), Parts(numbers(5, 2, seed=20).exp(), numbers(5, 2, seed=21).exp())
    at = Law(*(leaf(t) for t in law))
    total = sum((w * part).sum() for w, part in zip(weight, decoupled_kl(target, at), strict=True))
    for got, want in zip(decoupled_kl_gradient(target, law, weight), torch.autograd.grad(total, at), strict=True):
        close(got, want)
