"""The sampling network is a network of the state and the noise together."""

import torch

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
