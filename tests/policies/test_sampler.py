"""The sampling network is a network of the state and the noise together."""

import torch

from tests.policies import plain
from tests.policies.plain import close, draw, leaf, seeds
from wgf.policies.sampler import SamplingNetwork, fixed_noise

S, B, M, D, A, Z = 2, 4, 5, 3, 2, 6


def sampler():
    return SamplingNetwork(D, A, Z, (8,), "tanh", seeds(*range(S)))


def test_particles_are_the_network_of_state_and_noise_one_at_a_time():
    policy, obs, xi = sampler(), draw(S, B, D), draw(S, B, M, Z, seed=1)
    u = policy(obs, xi)
    assert u.shape == (S, B, M, A)
    assert policy.noise_size == Z
    (w0, b0), (w1, b1) = policy.net.layers(policy.theta.detach())
    for s in range(S):
        for b in range(B):
            for m in range(M):
                x = torch.cat([obs[s, b], xi[s, b, m]])
                expected = torch.tanh(x @ w0[s] + b0[s, 0]) @ w1[s] + b1[s, 0]
                torch.testing.assert_close(u[s, b, m], expected, rtol=1e-12, atol=1e-13)


def test_vjp_is_the_gradient_in_theta():
    policy, obs, xi, g = sampler(), draw(S, B, D), draw(S, B, M, Z, seed=1), draw(S, B, M, A, seed=2)
    theta = leaf(policy.theta)
    (slope,) = torch.autograd.grad((g * plain.evaluate(policy.net, theta, obs[:, :, None], xi)).sum(), theta)
    u, pull_back = policy.vjp(obs, xi)
    assert torch.equal(u, policy(obs, xi))
    close(pull_back(g), slope)


def test_actions_are_tanh_of_the_particles():
    policy, obs, xi = sampler(), draw(S, B, D), draw(S, B, M, Z, seed=1)
    assert torch.equal(policy.act(obs, xi), torch.tanh(policy(obs, xi)))


def test_fixed_noise_is_standard_normal_and_the_same_at_every_call():
    n = 1000
    first = fixed_noise(n, Z, torch.zeros(1))
    torch.manual_seed(1)
    assert torch.equal(fixed_noise(n, Z, torch.zeros(1)), first)
    assert first.shape == (n, Z)
    assert torch.all(first.mean(0).abs() < 4.0 / n**0.5)
    assert torch.all((first.square().mean(0) - 1.0).abs() < 4.0 * (2.0 / n) ** 0.5)


def test_fixed_noise_has_the_type_of_its_example():
    assert fixed_noise(2, 3, torch.zeros(1, dtype=torch.float32)).dtype == torch.float32
    assert fixed_noise(2, 3, torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
