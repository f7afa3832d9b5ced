"""Perturbations of low rank, each against the perturbed weights written out."""

import math
from itertools import pairwise

import pytest
import torch

from wgf.lowrank import LowRank
from wgf.mlp import MLP
from wgf.residual import ResidualNetwork

pytestmark = pytest.mark.usefixtures("double")
S, N, SIZES = 2, 5, (3, 4, 6, 2)


def written_out(factors, rank):
    """eps of one perturbation: A' B / sqrt(r) and e, layer by layer, each factor read number by number."""
    numbers, parts = iter(factors.tolist()), []
    for rows, columns in pairwise(SIZES):
        a = [[next(numbers) for _ in range(rows)] for _ in range(rank)]
        b = [[next(numbers) for _ in range(columns)] for _ in range(rank)]
        parts += [sum(a[k][i] * b[k][o] for k in range(rank)) / math.sqrt(rank) for i in range(rows) for o in range(columns)]
        parts += [next(numbers) for _ in range(columns)]
    assert next(numbers, None) is None
    return torch.tensor(parts)


@pytest.fixture(params=[1, 3])
def low(request):
    return LowRank(MLP(SIZES), request.param)


@pytest.fixture
def drawn(low):
    g = torch.Generator().manual_seed(0)
    theta, factors = low.net.init((S,), [g] * S), torch.randn(S, N, low.size, generator=g)
    return theta, factors, torch.stack([torch.stack([written_out(f, low.rank) for f in row]) for row in factors])


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_each_row_goes_through_its_own_network(low, drawn, activation):
    theta, factors, eps = drawn
    net, x = MLP(SIZES, activation), torch.randn(S, N, SIZES[0], generator=torch.Generator().manual_seed(1))
    plain = net(theta[:, None] + 0.3 * eps, x[:, :, None])[:, :, 0]
    torch.testing.assert_close(LowRank(net, low.rank)(theta, 0.3, factors, x), plain)


def test_the_negative_is_the_other_side(low, drawn):
    _, factors, eps = drawn
    for s in range(S):
        for i in range(N):
            torch.testing.assert_close(written_out(low.negative(factors)[s, i], low.rank), -eps[s, i])


def test_the_mean_is_that_of_the_written_out(low, drawn):
    _, factors, eps = drawn
    weight = torch.randn(S, N, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(low.mean(weight, factors), (weight[..., None] * eps).mean(1))


def test_standard_factors_have_the_covariance_of_full_noise(low):
    """Of n draws within six deviations of the mean of a product of two numbers of eps, whose variance is at most 9, that of a square."""
    n = 100_000
    factors = torch.randn(n, 1, low.size, generator=torch.Generator().manual_seed(3))
    eps = low.mean(torch.ones(n, 1), factors)
    assert (eps.T @ eps / n - torch.eye(eps.shape[1])).abs().max() < 6.0 * math.sqrt(9.0 / n)


def test_what_has_no_low_rank_is_refused():
    with pytest.raises(ValueError, match=r"^rank is 0; it must be a whole number of at least 1$"):
        LowRank(MLP(SIZES), 0)
    for net in (MLP(SIZES, "layernorm"), ResidualNetwork((3, 4, 2))):
        with pytest.raises(ValueError, match=r"^rank is 1; it is of the matrices of an MLP without LayerNorm: give rank 0"):
            LowRank(net, 1)
