"""The deterministic policy and its written-out gradient."""

import pytest
import torch

from tests.policies.plain import close, draw, evaluate, leaf, seeds
from wgf.policies.deterministic import DeterministicPolicy

pytestmark = pytest.mark.usefixtures("double")
S, B, D, A = 2, 5, 3, 2


def test_the_action_is_tanh_of_the_network():
    policy, obs = DeterministicPolicy(D, A, (6, 5), "tanh", seeds(0, 1)), draw(S, B, D)
    action = policy(obs)
    assert action.shape == (S, B, A)
    close(action, torch.tanh(evaluate(policy.net, policy.theta, obs)))


def test_vjp_is_the_gradient_in_theta():
    policy, obs, g = DeterministicPolicy(D, A, (6, 5), "tanh", seeds(0, 1)), 3.0 * draw(S, B, D), draw(S, B, A, seed=1)
    theta = leaf(policy.theta)
    (slope,) = torch.autograd.grad((g * torch.tanh(evaluate(policy.net, theta, obs))).sum(), theta)
    action, pull_back = policy.vjp(obs)
    assert torch.equal(action, policy(obs))
    close(pull_back(g), slope)
