"""Adam and the regression step against their formulas, one number after another."""

import math

import pytest
import torch

from tests.policies.plain import draw
from wgf.agents.training.descent import Adam, regress_, regression_loss

S, E, B, P = 2, 3, 4, 5


pytestmark = pytest.mark.usefixtures("double")


def test_adam_is_algorithm_1_of_its_paper(device):
    theta, gradients = draw(3).to(device), draw(4, 3, seed=1).to(device)
    expected, m, v = theta.tolist(), [0.0] * 3, [0.0] * 3
    adam = Adam(theta, 0.01)
    for t, gradient in enumerate(gradients, start=1):
        adam.step(gradient)
        for i, g in enumerate(gradient.tolist()):
            m[i], v[i] = 0.9 * m[i] + 0.1 * g, 0.999 * v[i] + 0.001 * g * g
            expected[i] -= 0.01 * (m[i] / (1.0 - 0.9**t)) / (math.sqrt(v[i] / (1.0 - 0.999**t)) + 1e-8)
    torch.testing.assert_close(theta.cpu(), torch.tensor(expected), rtol=1e-12, atol=1e-14)
    assert adam.steps.item() == 4


@pytest.mark.parametrize("members", [(), (E,)])
def test_regression_descends_half_the_squared_error_of_every_member(members):
    weight, target, x = draw(S, *members, P).requires_grad_(), draw(S, B, seed=1), draw(B, P, seed=2)
    whole = target if not members else target[:, None]
    loss = 0.5 * (weight @ x.T - whole).square().sum(-1) / B
    (gradient,) = torch.autograd.grad(loss.sum(), weight)
    by_hand, adam = Adam(weight.detach().clone(), 0.1), Adam(weight.detach().clone(), 0.1)
    by_hand.step(gradient)
    error = regress_(adam, adam.theta @ x.T, lambda g: g @ x, target)
    torch.testing.assert_close(adam.m, by_hand.m, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(adam.theta, by_hand.theta, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(error, (weight @ x.T - whole).detach(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(regression_loss(error), loss.detach().reshape(S, -1).sum(-1), rtol=1e-12, atol=1e-14)
