"""The deterministic policy and its gradient."""

import torch

from tests.policies.plain import close, draw, evaluate, leaf, seeds
from wgf.mlp import MLP
from wgf.policies.deterministic import DeterministicPolicy

S, B, D, A = 2, 5, 3, 2


def test_the_action_is_tanh_of_the_network_and_so_is_its_gradient():
    policy, obs, g = DeterministicPolicy(MLP((D, 6, 5, A))), 3.0 * draw(S, B, D), draw(S, B, A, seed=1)
    theta = policy.init(seeds(0, 1)).requires_grad_()
    action, expected = policy.mode(theta, obs), torch.tanh(evaluate(policy.net, theta, obs))
    assert action.shape == (S, B, A)
    close(action, expected)
    close(torch.autograd.grad((g * action).sum(), theta)[0], torch.autograd.grad((g * expected).sum(), theta)[0])


def test_a_fresh_theta_has_the_seeds_as_its_first_axis():
    policy = DeterministicPolicy(MLP((D, 6, A)))
    assert torch.equal(policy.init(seeds(0, 1))[1:], policy.init(seeds(1)))


def test_the_deterministic_policy_gradient_climbs_the_slope_of_q():
    """grad_theta Q(s, mu(s)) = grad_theta mu(s) grad_a Q(s, a): with Q = -|a - c|^2 / 2 the gradient in the last bias by hand."""
    policy, obs, c = DeterministicPolicy(MLP((D, 6, A))), draw(1, 1, D), torch.tensor([0.3, -0.8])
    theta = leaf(policy.init(seeds(0)))
    a = policy.mode(theta, obs)
    (slope,) = torch.autograd.grad(-0.5 * (a - c).square().sum(), theta)
    close(slope[0, -A:], ((c - a) * (1.0 - a.square())).detach()[0, 0])
