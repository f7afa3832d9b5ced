"""The oracles themselves, each by a second road."""

import math

import torch

from tests import oracles


def covariance(seed):
    root = torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.T + 0.1 * torch.eye(3, dtype=torch.float64)


def root(matrix):
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ values.sqrt().diag() @ vectors.T


def test_bures_is_the_distance_along_the_linear_transport_map():
    p, q = covariance(0), covariance(1)
    inner = root(root(p) @ q @ root(p))
    inverse = torch.linalg.inv(root(p))
    move = inverse @ inner @ inverse - torch.eye(3, dtype=torch.float64)  # T - I, T_# N(0, p) = N(0, q)
    mean_p, mean_q = torch.zeros(3, dtype=torch.float64), torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    torch.testing.assert_close(oracles.bures(mean_p, p, mean_q, q), (move @ p @ move).trace() + 6.0)


def test_the_two_entropic_closed_forms_agree():
    one = torch.ones(1, dtype=torch.float64)
    for eps in (0.01, 1.0, 50.0):
        matrices = oracles.entropic_gaussian_matrices(0.3 * one, 0.49 * one[None], -one, 2.25 * one[None], eps)
        assert math.isclose(float(matrices), oracles.entropic_gaussian(0.3, 0.7, -1.0, 1.5, eps), rel_tol=1e-9)


def test_the_entropic_closed_form_is_the_least_over_correlations():
    s, t, eps = 0.7, 1.5, 0.8
    grid = torch.linspace(-0.999, 0.999, 100_001, dtype=torch.float64)
    least = (s * s + t * t - 2.0 * grid * s * t - 0.5 * eps * torch.log(1.0 - grid**2)).min()
    assert 0.0 <= float(least) - oracles.entropic_gaussian(0.0, s, 0.0, t, eps) < 1e-8  # curvature < 20, grid step 2e-5: 20 step^2 / 8


def test_the_jko_closed_form_minimises_its_objective():
    mean, std = oracles.jko_gaussian(3.0, 0.3, 0.5)
    best = oracles.jko_objective(mean, std, 3.0, 0.3, 0.5)
    for dm, ds in ((1e-3, 0.0), (-1e-3, 0.0), (0.0, 1e-3), (0.0, -1e-3)):
        assert oracles.jko_objective(mean + dm, std + ds, 3.0, 0.3, 0.5) > best


def test_the_law_of_ornstein_and_uhlenbeck_solves_the_fokker_planck_equation():
    """Central differences in time: step^2 / 6 of a third derivative below 100, and rounding 1e-16 / step; those in x by autograd."""
    x, step = torch.linspace(-3.0, 4.0, 15, dtype=torch.float64, requires_grad=True), 1e-5

    def density(time):
        mean, std = oracles.ornstein_uhlenbeck(2.0, 0.5, time)
        return torch.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2.0 * math.pi))

    def slope(values):
        return torch.autograd.grad(values.sum(), x, create_graph=True)[0]

    assert oracles.ornstein_uhlenbeck(2.0, 0.5, 0.0) == (2.0, 0.5)
    for time in (0.1, 0.7):
        mu = density(time)
        change = (density(time + step) - density(time - step)) / (2.0 * step)
        torch.testing.assert_close(change, slope(mu * x) + slope(slope(mu)), rtol=0.0, atol=1e-8)
        assert change.abs().max() > 0.1


def test_on_a_line_the_sorted_pairing_is_the_best_of_all():
    x, y = torch.randn(2, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert math.isclose(oracles.assignment_cost(x[:, None], y[:, None]), float(oracles.sorted_cost(x, y)), rel_tol=1e-12)
