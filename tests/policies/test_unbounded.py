"""The unbounded Gaussian against autograd and torch.distributions."""

import math

import torch
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import elu, layer_norm, softplus

from policies.unbounded import MeanStd, UnboundedGaussian, decoupled_kl, decoupled_kl_gradient
from tests.policies.plain import close, draw, leaf, seeds


def started(std0=0.7):
    policy = UnboundedGaussian(3, 2, (6, 5), std0, seeds(0, 1))
    policy.net.theta += 0.5 * draw(*policy.theta.shape, seed=3)
    return policy


def by_hand(policy, theta, s, obs):
    """Mean and std of seed s at states (n, D), by torch's functions."""
    (w1, b1), (w2, b2), (w3, b3) = policy.net.layers(theta)
    gain, offset = theta[s, -12:].chunk(2)
    x = torch.tanh(layer_norm(obs @ w1[s] + b1[s], (6,), gain, offset))
    mean, raw = (elu(x @ w2[s] + b2[s]) @ w3[s] + b3[s]).chunk(2, -1)
    return mean, softplus(raw) * 0.7 / math.log(2.0) + 1e-6


def test_the_gaussians_and_their_gradient_are_those_of_autograd():
    policy, obs, g = started(), draw(2, 5, 3), MeanStd(draw(2, 5, 2, seed=1), draw(2, 5, 2, seed=2))
    law, pull_back = policy.vjp(obs)
    theta, total = leaf(policy.theta), torch.zeros(())
    for s in range(2):
        mean, std = by_hand(policy, theta, s, obs[s])
        close(law.mean[s], mean.detach())
        close(law.std[s], std.detach())
        total = total + (g.mean[s] * mean).sum() + (g.std[s] * std).sum()
    close(pull_back(g), torch.autograd.grad(total, theta)[0])
    for got, want in zip(policy(obs), law, strict=True):
        assert torch.equal(got, want)


def test_it_starts_near_mean_0_and_the_given_std_everywhere():
    law = UnboundedGaussian(3, 2, (64, 64), 0.4, seeds(0, 1))(10.0 * draw(2, 50, 3))
    # sums of 64 units within (-1, 1) times weights of at most 0.01 / 8, and a bias of that size: at most 0.081
    assert law.mean.abs().max() < 0.081
    assert ((law.std - 0.4).abs() < 0.4 * 0.081 / math.log(2.0)).all()  # softplus has slope at most 1
    assert law.mean.std() > 0.0


def test_the_parts_of_the_kl_are_those_of_gaussians_that_differ_in_mean_or_in_std_alone():
    target, law = (MeanStd(draw(5, 3, seed=k), draw(5, 3, seed=k + 9).exp()) for k in (0, 1))
    found = decoupled_kl(target, law)
    close(found.mean, kl_divergence(Normal(*target), Normal(law.mean, target.std)))
    close(found.std, kl_divergence(Normal(*target), Normal(target.mean, law.std)))


def test_their_gradients_are_those_of_autograd():
    target, law = (MeanStd(draw(5, 3, seed=k), draw(5, 3, seed=k + 9).exp()) for k in (0, 1))
    at = MeanStd(*(leaf(t) for t in law))
    slopes = torch.autograd.grad(sum(part.sum() for part in decoupled_kl(target, at)), at)
    for got, want in zip(decoupled_kl_gradient(target, law), slopes, strict=True):
        close(got, want)
