"""Adam, one step down a loss and the regression's loss against their formulas."""

import math
from typing import NamedTuple

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from tests.policies.plain import close, draw, leaf
from wgf.agents.training.descent import Adam, descend_, gradients
from wgf.policies.critics import squared_error

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


def test_a_gradient_may_be_a_part_of_a_larger_tensor(device):
    theta, whole = draw(S, P).to(device), draw(S, 2 * P, seed=1).to(device)
    part, alone = Adam(theta.clone(), 0.01), Adam(theta.clone(), 0.01)
    part.step(whole[:, P:])
    alone.step(whole[:, P:].clone())
    assert torch.equal(part.theta, alone.theta)


def test_a_step_size_falls_by_half_a_cosine_to_a_half_and_stays(device):
    """A gradient that is always 1 has m^ = v^ = 1: then a step is the step size."""
    theta = torch.zeros((), device=device)
    adam, went = Adam(theta, 0.01, fall=4), []
    for _ in range(6):
        before = theta.clone()
        adam.step(torch.ones_like(theta))
        went.append((before - theta).item())
    cosines = [math.cos(math.pi * min(t, 4) / 4) for t in range(1, 7)]
    assert went == pytest.approx([0.01 * (1.0 + 1.0 + 1.0 + c) / 4.0 for c in cosines], rel=1e-7)


@pytest.mark.parametrize("fall", [0, 3])
def test_the_plain_steps_that_a_compiler_sees_are_the_fused_ones(fall, device):
    theta, slopes = draw(3).to(device), draw(4, 3, seed=1).to(device)
    fused, plain = Adam(theta.clone(), 0.01, fall), Adam(theta.clone(), 0.01, fall)
    recorded = make_fx(lambda g, *held: _step(plain, g, held))(slopes[0], *(t.clone() for t in _held(plain)))
    for slope in slopes:
        fused.step(slope)
        recorded(slope, *_held(plain))
        for one, other in zip(_held(fused), _held(plain), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("fall", [0, 3])
def test_a_vector_that_goes_alone_counts_its_steps_by_itself_and_the_others_stay(fall, device):
    theta, slopes = draw(2, 3, P).to(device), draw(6, 2, 1, P, seed=1).to(device)
    every = Adam(theta.clone(), 0.01, fall, each=True)
    alone = [[Adam(t.clone(), 0.01, fall) for t in row] for row in theta]
    for k, slope in enumerate(slopes):
        goes = k % 3, (k + 1) % 2
        every.step(slope, (torch.arange(3, device=device) == torch.tensor(goes, device=device)[:, None])[..., None])
        for s, i in enumerate(goes):
            alone[s][i].step(slope[s, 0])
        for found, expected in zip(_held(every), zip(*(_held(adam) for row in alone for adam in row), strict=True), strict=True):
            torch.testing.assert_close(found, torch.stack(expected).view(found.shape), rtol=1e-12, atol=1e-14)


def _held(adam):
    return adam.theta, adam.m, adam.v, adam.steps


def _step(adam, slope, held):
    copy = Adam(held[0], adam.lr, adam.fall)
    copy.m, copy.v, copy.steps = held[1:]
    copy.step(slope)
    return held


class Seen(NamedTuple):
    """What a loss shows besides."""

    error: torch.Tensor
    pair: tuple


def loss(theta):
    """The mean over four rows of (theta . x - 1)^2 / 2, within each seed (S,); and what it saw."""
    error = theta @ draw(P, B, seed=3) - 1.0
    return 0.5 * error.square().mean(-1), Seen(error, (2.0 * error, 3.0 * theta))


def test_descend_takes_adams_step_down_the_gradient_and_returns_what_the_loss_returned_detached():
    theta = draw(S, P)
    x, error = draw(P, B, seed=3), theta @ draw(P, B, seed=3) - 1.0
    by_hand, adam = Adam(theta.clone(), 0.1), Adam(theta.clone(), 0.1)
    by_hand.step(error @ x.mT / B)
    with torch.no_grad():  # differentiation is switched on inside
        value, seen = descend_(adam, loss)
    close(adam.theta, by_hand.theta)
    close(adam.m, by_hand.m)
    assert type(seen) is Seen
    assert type(seen.pair) is tuple
    for found, expected in zip(
        (value, seen.error, *seen.pair), (0.5 * error.square().mean(-1), error, 2.0 * error, 3.0 * theta), strict=True
    ):
        close(found, expected)
        assert not found.requires_grad
    alone = descend_(adam, lambda theta: loss(theta)[0])
    assert isinstance(alone, torch.Tensor)
    assert not alone.requires_grad
    assert not adam.theta.requires_grad
    assert adam.theta.grad is None


@pytest.mark.parametrize("s", range(S))
def test_seed_s_of_a_stack_descends_as_seed_s_alone(s):
    stack, one = Adam(draw(S, P), 0.1), Adam(draw(S, P)[s : s + 1].clone(), 0.1)
    for _ in range(3):
        descend_(stack, lambda theta: loss(theta)[0])
        descend_(one, lambda theta: loss(theta)[0])
    for name in ("theta", "m", "v"):
        close(getattr(stack, name)[s : s + 1], getattr(one, name))


def test_gradients_are_those_of_the_sum_over_seeds_in_every_vector():
    thetas = draw(S, P), draw(S, P, seed=1)

    def product(one, other):
        return (one.square() * other).sum(-1), one

    (first, second), (value, seen) = gradients(product, *thetas)
    close(first, 2.0 * thetas[0] * thetas[1])
    close(second, thetas[0].square())
    close(value, (thetas[0].square() * thetas[1]).sum(-1))
    assert torch.equal(seen, thetas[0])
    assert not any(x.requires_grad for x in (first, second, value, seen, *thetas))


@pytest.mark.parametrize("members", [(), (E,)])
def test_squared_error_is_half_its_mean_over_the_minibatch_summed_over_members(members):
    prediction, target = leaf(draw(S, *members, B)), leaf(draw(S, B, seed=1))
    value, mean = squared_error(prediction, target)
    rows = prediction.detach().reshape(S, -1, B)
    for s in range(S):
        expected = sum(0.5 * (rows[s, e, b] - target[s, b]) ** 2 / B for e in range(rows.shape[1]) for b in range(B))
        close(value[s], expected)
        close(mean[s], rows[s].mean())
    slopes = torch.autograd.grad(value.sum(), (prediction, target), materialize_grads=True, allow_unused=True)
    close(slopes[0], ((rows - target[:, None]) / B).reshape(prediction.shape).detach())
    assert not slopes[1].any()


def test_a_target_of_each_member_is_its_own():
    prediction, target = draw(S, E, B), draw(S, E, B, seed=1)
    close(squared_error(prediction, target)[0], 0.5 * (prediction - target).square().mean(-1).sum(1))
