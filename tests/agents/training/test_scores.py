"""Functions of behaviour that pairs teach: each step by hand, and what the published sign makes of them."""

import math

import numpy as np
import pytest
import torch

from wgf.agents.training import scores

pytestmark = pytest.mark.usefixtures("double")
S, D, F = 2, 3, 40


def begun(length=1.0, features=F, seeds=(3, 4)):
    return scores.begun([torch.Generator().manual_seed(k) for k in seeds], D, features, length, torch.device("cpu"))


def pairs(k, apart=1.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    return apart * torch.randn(S, k, D, generator=g), apart * torch.randn(S, k, D, generator=g)


def z(made, s, x):
    """sqrt(2 / F) cos(x W + b), number by number."""
    w, b = made.frequencies[s].numpy(), made.phases[s].numpy()
    return np.array([math.sqrt(2.0 / F) * math.cos(sum(x[i] * w[i, j] for i in range(D)) + b[j]) for j in range(F)])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_pair_raises_both_functions_by_one_minus_the_exponential(sign):
    made, (x, y) = begun(), pairs(5, 0.7)
    scores.teach_(made, x, y, sign, torch.tensor(1.0))
    for s in range(S):
        left, right = np.zeros(F), np.zeros(F)
        for k in range(5):
            zx, zy = z(made, s, x[s, k].tolist()), z(made, s, y[s, k].tolist())
            w = 1.0 - math.exp(left @ zx + sign * (right @ zy) - (x[s, k] - y[s, k]).square().sum().item())
            left, right = left + 0.05 * w * zx, right + 0.05 * w * zy
        np.testing.assert_allclose(made.left[s].numpy(), left, rtol=1e-9)
        np.testing.assert_allclose(made.right[s].numpy(), right, rtol=1e-9)
        at = torch.randn(S, 4, D, generator=torch.Generator().manual_seed(1))
        expected = [z(made, s, point.tolist()) @ right for point in at[s]]
        np.testing.assert_allclose(made.g(at)[s].numpy(), expected, rtol=1e-9, atol=1e-12)


def test_the_signs_differ_and_nothing_is_taught_where_nothing_is_remembered():
    x, y = pairs(5, 0.7)
    right = []
    for sign, there in ((1.0, 1.0), (-1.0, 1.0), (1.0, 0.0)):
        made = begun()
        scores.teach_(made, x, y, sign, torch.tensor(there))
        right.append(made.right)
    assert (right[0] - right[1]).norm() > 1e-3 * right[0].norm()
    assert not right[2].any()


def test_of_far_pairs_g_is_the_density_of_all_that_was_done():
    """exp(-|x - y|^2) is below 1e-40 there, so that each w is 1: g = 0.05 sum_k k(., y_k), within four deviations of the features."""
    count = 100_000
    made, (x, y) = begun(length=2.0, features=count), pairs(6)
    scores.teach_(made, x + 20.0, y, -1.0, torch.tensor(1.0))
    at = torch.randn(S, 5, D, generator=torch.Generator().manual_seed(1))
    kernel = torch.exp(-torch.cdist(at, y).square() / 8.0)
    # a feature's product 2 cos cos has a variance of at most 3/2 beside its mean; six kernels add up
    torch.testing.assert_close(made.g(at), 0.05 * kernel.sum(-1), rtol=0.0, atol=4.0 * 0.05 * 6.0 * math.sqrt(1.5 / count))


def test_steps_of_the_dual_ascend_it_in_the_mean():
    """The gradient of E f + E g - E exp(f + g - c) in the coefficients, by autograd, is the mean step of single pairs from one start."""
    made, (x, y) = begun(), pairs(4, 0.7)
    start = 0.3 * torch.randn(2, S, F, generator=torch.Generator().manual_seed(2))
    steps = torch.zeros(2, S, F)
    for i in range(4):
        for j in range(4):
            made.left, made.right = start.clone().unbind(0)
            scores.teach_(made, x[:, i : i + 1], y[:, j : j + 1], 1.0, torch.tensor(1.0))
            steps += (torch.stack([made.left, made.right]) - start) / 16.0
    at = start.clone().requires_grad_()
    f, g = ((made.features(cloud) @ part[..., None])[..., 0] for cloud, part in zip((x, y), at, strict=True))
    inside = (f[:, :, None] + g[:, None, :] - torch.cdist(x, y).square()).exp()
    (slope,) = torch.autograd.grad((f.mean(-1) + g.mean(-1) - inside.mean((-2, -1))).sum(), at)
    torch.testing.assert_close(steps, 0.05 * slope)


def test_an_exponent_is_cut_so_that_functions_stay_finite():
    made, (x, _) = begun(), pairs(1)
    made.left += 1e3 * made.features(x)[:, 0]
    before = made.right.clone()
    scores.teach_(made, x, x, 1.0, torch.tensor(1.0))
    expected = before + 0.05 * (1.0 - math.exp(20.0)) * made.features(x)[:, 0]
    torch.testing.assert_close(made.right, expected)


def test_features_are_those_of_the_kernel_and_functions_begin_at_0():
    made = begun(length=1.5, features=200_000)
    x, y = pairs(4)
    kernel = torch.exp(-torch.cdist(x, y).square() / (2.0 * 1.5**2))
    torch.testing.assert_close(made.features(x) @ made.features(y).mT, kernel, rtol=0.0, atol=4.0 * math.sqrt(1.5 / 200_000))
    assert 2.0 * math.pi * 0.99 < made.phases.max() < 2.0 * math.pi
    assert not made.left.any()
    assert not made.right.any()
    alone = begun(length=1.5, features=200_000, seeds=(4,))
    assert torch.equal(alone.frequencies[0], made.frequencies[1])
