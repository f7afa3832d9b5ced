"""Discrepancies against autograd, integrals and what their means must be; effective sample sizes against loops and closed forms."""

import math
from functools import partial

import pytest
import torch
from scipy.integrate import quad
from torch.func import grad, jacrev, vmap

from wgf import flow, kernels, svgd
from wgf.diagnostics import chain_ess, importance_ess, ksd, squared_ksd


def close(a, b, tol=1e-12):
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


def stein(x, y, s, t, c):
    """k_p(x, y), each derivative by autograd; s and t are the scores at x and y."""

    def k(x, y):
        return (c**2 + (x - y).square().sum()) ** -0.5

    mixed = jacrev(lambda x: grad(k, 1)(x, y))(x).trace()
    return s @ t * k(x, y) + s @ grad(k, 1)(x, y) + t @ grad(k)(x, y) + mixed


def by_hand(x, score, c):
    each = vmap(vmap(partial(stein, c=c), (None, 0, None, 0)), (0, None, 0, None))
    return each(x, x, score, score)


@pytest.mark.parametrize("d", [1, 3, 8])
def test_discrepancies_are_the_sums_of_the_stein_kernel_by_autograd(d, draw):
    x, score, w, c = draw(2, 5, d) + 3.0, draw(2, 5, d, seed=1), draw(2, 5, seed=2).exp(), draw(2, seed=3).exp()
    each = torch.stack([by_hand(x[b], score[b], c[b]) for b in range(2)])
    p = w / w.sum(-1, keepdim=True)
    close(ksd(x, score, c=c, weights=w), torch.einsum("bi,bij,bj->b", p, each, p).sqrt())
    close(ksd(x, score, c=c), each.mean((-2, -1)).sqrt())
    close(squared_ksd(x, score, c=c), (each.sum((-2, -1)) - each.diagonal(0, -2, -1).sum(-1)) / 20.0)
    close(ksd(x[0], score[0]), by_hand(x[0], score[0], 1.0).mean().sqrt())


def test_the_discrepancy_of_a_gaussian_is_the_integral_over_the_difference_of_the_scores(double):
    """Points 0.1 apart with the density for weights, which is an integral to exp(-2 pi c / 0.1), since k is analytic up to |Im x| = c."""
    mean, std, c = 0.7, 0.6, 0.8
    x = torch.arange(-60.0, 61.0)[:, None] / 10.0
    w = (-0.5 * ((x[:, 0] - mean) / std) ** 2).exp()
    p, g = w / w.sum(), -x[:, 0] + (x[:, 0] - mean) / std**2  # the score of N(0, 1) less that of N(mean, std^2)
    squared = torch.einsum("i,j,i,j,ij->", p, p, g, g, (c**2 + (x - x.T) ** 2) ** -0.5)
    assert squared > 0.1
    close(ksd(x, -x, c=c, weights=w), squared.sqrt(), 1e-10)


def test_the_discrepancy_of_a_shifted_gaussian_in_the_plane_is_an_integral_over_one_number(double):
    """|m|^2 E (c^2 + 2 t)^(-1/2), t of chi^2 with two degrees of freedom. Points h = 1/4 apart err by (2 pi / h)^2 exp(-2 pi / h) = 8e-9,
    since k is differentiated twice, and their end at 6 deviations by less."""
    axis = torch.arange(-24.0, 25.0) / 4.0
    z = torch.cartesian_prod(axis, axis)
    x = z + torch.tensor([0.5, -1.0])
    expected = 1.25 * quad(lambda t: 0.5 * math.exp(-0.5 * t) / math.sqrt(1.0 + 2.0 * t), 0.0, math.inf)[0]
    found = ksd(x, -x, weights=(-0.5 * z.square().sum(-1)).exp())
    close(found**2, torch.tensor(expected), 1e-6)


def mean_and_error(values):
    return values.mean(), values.std() / math.sqrt(len(values))


@pytest.mark.parametrize("n", [10, 100])
def test_of_draws_of_the_law_itself_the_discrepancy_falls_as_one_over_the_root_of_their_number(n, draw):
    """N times the mean of its square is E|s|^2 / c + d / c^3; and the mean of the unbiased square is 0."""
    x, c = draw(800, n, 2), 0.7
    mean, error = mean_and_error(n * ksd(x, -x, c=c) ** 2)
    assert abs(mean - (2.0 / c + 2.0 / c**3)) < 4.0 * error
    mean, error = mean_and_error(squared_ksd(x, -x, c=c))
    assert abs(mean) < 4.0 * error
    assert error < 0.2 / n  # so that the own terms, 8.7 / n, would show


def test_of_draws_of_another_law_the_unbiased_square_has_the_laws_own_for_its_mean(draw):
    x = draw(400, 20, 2) + 0.5
    expected = 0.5 * quad(lambda t: 0.5 * math.exp(-0.5 * t) / math.sqrt(1.0 + 2.0 * t), 0.0, math.inf)[0]
    mean, error = mean_and_error(squared_ksd(x, -x))
    assert abs(mean - expected) < 4.0 * error < expected


def test_blocks_of_rows_change_nothing(draw, monkeypatch):
    x, score, w = draw(2, 50, 8), draw(2, 50, 8, seed=1), draw(2, 50, seed=2).exp()
    whole = ksd(x, score, weights=w), squared_ksd(x, score)
    monkeypatch.setattr(kernels, "BLOCK", 700)  # seven rows of both clouds
    monkeypatch.setattr(kernels, "LARGE", 700)
    close((ksd(x, score, weights=w), squared_ksd(x, score)), whole)


@pytest.mark.parametrize(("dtype", "far"), [(torch.float32, 2.0**12), (torch.float64, 2.0**27)])
def test_far_from_the_origin_no_digit_is_lost_and_the_dtype_is_kept(dtype, far, draw):
    x, score = (draw(6, 3, dtype=dtype) * 1024.0).round() / 1024.0, draw(6, 3, seed=1, dtype=dtype)  # x + far is not rounded
    found = ksd(x + far, score), squared_ksd(x + far, score)
    assert found[0].dtype == found[1].dtype == dtype
    close(found, (ksd(x, score), squared_ksd(x, score)), 4.0 * torch.finfo(dtype).eps if dtype == torch.float32 else 1e-12)


def test_a_single_particle_has_no_pair(draw):
    with pytest.raises(ValueError, match="x has 1 particle; pairs of different ones need at least 2"):
        squared_ksd(draw(3, 1, 2), draw(3, 1, 2))
    one = ksd(torch.zeros(1, 2).double(), torch.tensor([[3.0, 4.0]]).double(), c=2.0)
    close(one.item(), math.sqrt(25.0 / 2.0 + 2.0 / 8.0))


def test_weights_are_worth_as_many_draws_as_kish_says(double):
    found = importance_ess(torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 5.0, 0.0, 0.0], [3.0, 1.0, 0.0, 0.0]]))
    close(found, torch.tensor([4.0, 1.0, 1.6]))
    close(importance_ess(torch.tensor([1e-200, 1e-200])), torch.tensor(2.0))  # whose squares float64 does not have
    assert importance_ess(torch.ones(3, dtype=torch.float32)).dtype == torch.float32


def by_loops(chains):
    """(T, M) -> M T / tau in plain sums."""
    steps, m = chains.shape
    means = chains.mean(0)
    lags = [((chains[: steps - t] - means) * (chains[t:] - means)).sum(0).mean() / (steps - 1) for t in range(steps)]
    between = sum((mean - means.mean()) ** 2 for mean in means) / (m - 1) if m > 1 else 0.0
    whole = lags[0] * (steps - 1) / steps + between
    rho = [1.0 - (lags[0] - lag) / whole for lag in lags]
    tau, least = -1.0, math.inf
    for k in range(steps // 2):
        pair = rho[2 * k] + rho[2 * k + 1]
        if pair <= 0.0:
            break
        least = min(least, pair)
        tau += 2.0 * least
    return m * steps / max(tau, 1.0 / math.log10(m * steps))


@pytest.mark.parametrize(("steps", "m"), [(9, 1), (30, 3), (31, 2)])
def test_the_size_of_chains_is_geyers_sum(steps, m, draw):
    history = draw(steps, 2, m, 3).cumsum(0) * 0.3 + draw(steps, 2, m, 3, seed=1) + draw(2, m, 3, seed=2)
    found = chain_ess(history)
    assert found.shape == (2, 3)
    for b in range(2):
        for k in range(3):
            close(found[b, k].item(), float(by_loops(history[:, b, :, k])), 1e-9)


def test_langevin_chains_are_worth_what_their_autocorrelation_leaves(draw):
    """x' = x + lr score + sqrt(2 lr) xi in N(0, 1) has rho_t = (1 - lr)^t: T draws are worth T lr / (2 - lr) of them, a third at 1/2.

    The sum ends within two pairs of lags of noise, of a deviation of some sqrt(2 tau / (M T)) each."""
    lr, steps = 0.5, 2000
    noise = iter(draw(steps, 50, 4, 1))
    chain = flow.Flow(lambda x: flow.State(x, x), lambda s: flow.State(s.x + lr * svgd.langevin(-s.x, next(noise), lr=lr), s.x))
    start = draw(50, 4, 1, seed=1) / math.sqrt(1.0 - lr / 2.0)  # its stationary law has the variance 1 / (1 - lr / 2)
    share = chain_ess(flow.run(chain, start, steps).history[1:])[:, 0] / (4 * steps)
    mean, error = mean_and_error(1.0 / share)
    assert abs(mean - 3.0) < 4.0 * error + 4.0 * math.sqrt(2.0 * 3.0 / (4 * steps))


def test_chains_that_alternate_are_worth_more_but_not_without_bound_and_what_never_moves_counts_whole(double):
    sign = torch.tensor([1.0, -1.0]).repeat(10)
    close(chain_ess(sign[:, None, None]), torch.tensor([20.0 * math.log10(20.0)]))
    close(chain_ess(torch.full((20, 3, 1), 0.1)), torch.tensor([60.0]))
    apart = torch.tensor([0.0, 1.0, 5.0]).expand(20, 3)[..., None] + 0.001 * sign[:, None, None]
    assert chain_ess(apart) < 4.0  # three chains, each of which has seen one place


def test_a_history_without_steps_is_refused(draw):
    with pytest.raises(ValueError, match=r"history has shape \(3, 4, 2\); allowed is \(T, \.\.\., M, d\) with T of at least 4"):
        chain_ess(draw(3, 4, 2))
    with pytest.raises(ValueError, match="history has shape"):
        chain_ess(draw(9, 2))


def test_every_function_is_without_a_derivative(draw):
    x = draw(6, 2).requires_grad_()
    assert not ksd(x, -x).requires_grad
    assert not squared_ksd(x, -x).requires_grad
    assert not importance_ess(x.exp()[:, 0]).requires_grad
    assert not chain_ess(x[..., None]).requires_grad
