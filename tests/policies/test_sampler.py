"""The sampling network is a network of the state and the noise together."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch.distributions import MultivariateNormal

from tests.policies.plain import close, draw, evaluate, leaf, seeds
from wgf.mlp import MLP
from wgf.policies.sampler import SamplingNetwork

S, B, M, D, A, Z = 2, 4, 5, 3, 2, 6


def sampler():
    policy = SamplingNetwork(MLP((D + Z, 8, A)), Z)
    return policy, policy.init(seeds(*range(S)))


def test_particles_are_the_network_of_state_and_noise_one_at_a_time():
    (policy, theta), obs, xi = sampler(), draw(S, B, D), draw(S, B, M, Z, seed=1)
    u = policy.particles(theta, obs, xi)
    assert u.shape == (S, B, M, A)
    for b in range(B):
        for m in range(M):
            close(u[:, b, m], evaluate(policy.net, theta, torch.cat([obs[:, b], xi[:, b, m]], -1)))


def test_their_gradient_is_that_of_single_networks():
    (policy, theta), obs, xi, g = sampler(), draw(S, B, D), draw(S, B, M, Z, seed=1), draw(S, B, M, A, seed=2)
    theta = leaf(theta)
    found, expected = policy.particles(theta, obs, xi), evaluate(policy.net, theta, obs[:, :, None], xi)
    close(torch.autograd.grad((g * found).sum(), theta)[0], torch.autograd.grad((g * expected).sum(), theta)[0])


def test_seed_k_starts_as_seed_k_alone():
    policy, theta = sampler()
    assert torch.equal(theta[1:], policy.init(seeds(1)))


def test_evaluation_chooses_among_actions_of_the_same_normal_noise_at_every_call():
    """A network that passes the noise on shows it: standard normal, its own for every candidate, one for all states and seeds."""
    n, policy = 1000, SamplingNetwork(MLP((D + Z, Z)), Z)
    theta = torch.zeros(S, (D + Z) * Z + Z)
    policy.net.layers(theta)[0][0][:, D:] = torch.eye(Z)
    first = policy.mode(theta, draw(S, B, D), n)
    torch.manual_seed(1)
    assert torch.equal(policy.mode(theta, draw(S, B, D, seed=1), n), first)
    assert first.shape == (S, B, n, Z)
    assert torch.equal(first, first[:1, :1].expand_as(first))
    xi = torch.atanh(first[0, 0])
    assert torch.all(xi.mean(0).abs() < 4.0 / n**0.5)
    assert torch.all((xi.square().mean(0) - 1.0).abs() < 4.0 * (2.0 / n) ** 0.5)
    close(first, torch.tanh(policy.particles(theta, torch.zeros(S, B, D), xi.expand(S, B, -1, -1))))


def test_the_noise_has_the_type_of_the_observations():
    policy, theta = sampler()
    assert policy.mode(theta.float(), draw(S, B, D).float(), 3).dtype == torch.float32


# --- the density ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OfNoise:
    """u = function(xi), whatever the state."""

    function: object

    def __call__(self, theta, obs, xi):
        return self.function(xi)


def squash_volume(u):
    return -2.0 * torch.log(torch.cosh(u)).sum(-1)


def test_the_density_of_a_linear_network_is_its_gaussian():
    """u = W' xi + V' s + b ~ N(V' s + b, W' W), and log pi(a) is less by sum log(1 - tanh^2 u)."""
    policy = SamplingNetwork(MLP((D + 3, 3)), 3)
    theta, obs, xi = policy.init(seeds(*range(S))) + 0.3 * draw(S, 1), draw(S, B, D), draw(S, B, M, 3, seed=1)
    found, ((w, b),) = policy.draw(theta, obs, xi), policy.net.layers(theta)
    for s in range(S):
        mean, turned = obs[s] @ w[s, :D] + b[s], w[s, D:]
        law = MultivariateNormal(mean[:, None], turned.mT @ turned)
        u = mean[:, None] + xi[s] @ turned
        close(found.u[s], u)
        close(found.action[s], torch.tanh(u))
        close(found.log_prob[s], law.log_prob(u) - squash_volume(u))


def test_the_density_of_a_bent_map_is_that_of_the_change_of_variables():
    """u = (sinh xi_1, xi_2 + xi_1^2): its volume is cosh xi_1, and that of the second row alone would be 1."""
    xi = draw(S, B, M, 2)
    bent = OfNoise(lambda x: torch.stack([torch.sinh(x[..., 0]), x[..., 1] + x[..., 0] ** 2], -1))
    found = SamplingNetwork(bent, 2).draw(torch.zeros(S, 1), draw(S, B, D), xi)
    normal = -0.5 * xi.square().sum(-1) - math.log(2.0 * math.pi)
    close(found.log_prob, normal - torch.log(torch.cosh(xi[..., 0])) - squash_volume(found.u))


def test_where_the_network_folds_the_density_is_too_small():
    """u = |xi| meets each u twice, so that pi is twice what is said."""
    xi = draw(S, B, M, 1)
    found = SamplingNetwork(OfNoise(torch.abs), 1).draw(torch.zeros(S, 1), draw(S, B, D), xi)
    half = -0.5 * xi[..., 0].square() + 0.5 * math.log(2.0 / math.pi)
    close(found.log_prob, half - squash_volume(found.u) - math.log(2.0))


@pytest.mark.parametrize("scale", [0.0, 1e-12])
def test_a_network_that_leaves_the_noise_out_has_a_density_all_the_same(scale):
    """log |det du/dxi| is cut at -20 per dimension."""
    xi = draw(S, B, M, 2)
    found = SamplingNetwork(OfNoise(lambda x: scale * x), 2).draw(torch.zeros(S, 1), draw(S, B, D), xi)
    close(found.log_prob, -0.5 * xi.square().sum(-1) - math.log(2.0 * math.pi) + 40.0 - squash_volume(found.u))


def test_the_density_is_held_fixed():
    policy = SamplingNetwork(MLP((D + A, 8, A)), A)
    found = policy.draw(leaf(policy.init(seeds(*range(S)))), draw(S, B, D), draw(S, B, M, A, seed=1))
    assert not any(t.requires_grad for t in found)


def test_one_action_per_state_is_the_first_of_many():
    policy, obs, xi = SamplingNetwork(MLP((D + A, 8, A)), A), draw(S, B, D), draw(S, B, M, A, seed=1)
    theta = policy.init(seeds(*range(S)))
    one, many = policy.draw(theta, obs, xi[:, :, 0]), policy.draw(theta, obs, xi)
    for alone, among in zip(one, many, strict=True):
        close(alone, among[:, :, 0])
