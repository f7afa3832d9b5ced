"""The dual on random features against its formula by hand, and against Sinkhorn, which it never exceeds."""

import math

import pytest
import torch

from wgf import dual, transport

pytestmark = pytest.mark.usefixtures("double")


def clouds(*stack, m=9, n=7, d=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*stack, m, d, generator=g), torch.randn(*stack, n, d, generator=g) + 1.0


def features(*stack, d=2, count=50, seed=1):
    g = torch.Generator().manual_seed(seed)
    return dual.Features(torch.randn(*stack, d, count, generator=g), 2.0 * math.pi * torch.rand(*stack, count, generator=g))


def by_hand(x, y, eps, made):
    z = [[math.sqrt(2.0 / 50) * torch.cos(point @ made.features.frequencies + made.features.phases) for point in cloud] for cloud in (x, y)]
    f, g = ([p @ part for p in points] for points, part in zip(z, (made.left, made.right), strict=True))
    inside = sum(torch.exp((a + b - (p - q).square().sum()) / eps) for a, p in zip(f, x, strict=True) for b, q in zip(g, y, strict=True))
    return sum(f) / len(x) + sum(g) / len(y) - eps * torch.log(inside / (len(x) * len(y)))


@pytest.mark.parametrize("eps", [0.5, 2.0])
def test_the_value_by_hand(eps):
    x, y = clouds(3)
    made = dual.Dual(features(3), *(0.7 * torch.randn(2, 3, 50)))
    found = dual.value(x, y, eps, made)
    for k in range(3):
        one = dual.Dual(dual.Features(*(t[k] for t in made.features)), made.left[k], made.right[k])
        torch.testing.assert_close(found[k], by_hand(x[k], y[k], eps, one))


def test_no_functions_exceed_the_cost_and_the_best_of_them_reach_it():
    x, y = clouds(m=40, n=40)
    for eps in (0.3, 1.0):
        cost, made = transport.entropic_cost(x, y, eps), features(count=300)
        for seed in range(20):
            g = torch.Generator().manual_seed(seed)
            parts = 3.0 * torch.randn(2, 300, generator=g)
            assert dual.value(x, y, eps, dual.Dual(made, *parts)) < cost
        gaps = [(cost - dual.value(x, y, eps, dual.maximised(x, y, eps, made, steps=steps))).item() for steps in (25, 3000)]
        assert gaps[0] > 0.1
        assert 0.0 <= gaps[1] < 1e-3


def test_steps_follow_the_gradient_of_the_value_with_momentum():
    """The first from 0, the second from a quarter of the first step further, the third two fifths: k / (k + 3)."""
    (x, y), eps, made = clouds(), 0.8, features()
    now = last = torch.zeros(2, 50)
    for k in range(3):
        at = (now + k / (k + 3.0) * (now - last)).requires_grad_()
        (slope,) = torch.autograd.grad(dual.value(x, y, eps, dual.Dual(made, *at)), at)
        last, now = now, at.detach() + eps / 4.0 * slope
        found = dual.maximised(x, y, eps, made, steps=k + 1)
        torch.testing.assert_close(torch.stack([found.left, found.right]), now)


def test_at_the_maximum_its_derivative_is_that_of_the_cost():
    x, y = (t.requires_grad_() for t in clouds(m=12, n=12))
    best = dual.maximised(x, y, 1.0, features(count=400), steps=4000)
    got, want = (torch.autograd.grad(value, (x, y)) for value in (dual.value(x, y, 1.0, best), transport.entropic_cost(x, y, 1.0)))
    for a, b in zip(got, want, strict=True):
        assert (a - b).norm() < 0.03 * b.norm()


def test_features_are_those_of_the_gaussian_kernel():
    (x, y), length = clouds(), 1.5
    made = features(count=200_000)
    made = made._replace(frequencies=made.frequencies / length)
    kernel = torch.exp(-torch.cdist(x, y).square() / (2.0 * length**2))
    torch.testing.assert_close(made(x) @ made(y).mT, kernel, rtol=0.0, atol=0.015)  # four deviations of a mean of 200,000


def test_functions_can_be_evaluated_anywhere():
    made = dual.Dual(features(3), *torch.randn(2, 3, 50))
    at = torch.randn(3, 4, 2)
    for function, part in ((made.f, made.left), (made.g, made.right)):
        torch.testing.assert_close(function(at), torch.einsum("bnf,bf->bn", made.features(at), part))
        assert function(at).shape == (3, 4)


def test_far_clouds_and_small_eps_stay_finite_in_single_precision():
    x, y = (t.float() for t in clouds())
    made = dual.Features(*(t.float() for t in features()))
    best = dual.maximised(x, y + 1e3, 1e-3, made, steps=50)
    assert dual.value(x, y + 1e3, 1e-3, best).isfinite()


def test_clouds_that_do_not_fit_are_named():
    x, y = clouds()
    with pytest.raises(ValueError, match="eps is 0"):
        dual.maximised(x, y, 0.0, features())
    with pytest.raises(ValueError, match="y"):
        dual.maximised(x, y[..., :1], 1.0, features())
    with pytest.raises(ValueError, match="steps is 0"):
        dual.maximised(x, y, 1.0, features(), steps=0)
