"""Stein mixture inference against loops over components, against variational inference in closed form, and in its limits."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from tests.policies.plain import draw
from wgf import svgd
from wgf.bnn import flows, mixture
from wgf.kernels import RBF, median_svgd

pytestmark = pytest.mark.usefixtures("double")
S, M, L, P = 2, 3, 4, 5
A = draw(P, P, seed=9).double()
PRECISION, MEAN = A @ A.mT + torch.eye(P).double(), draw(P, seed=8).double()
CORNERS = math.sqrt(P) * torch.cat([torch.eye(P), -torch.eye(P)]).double()[None, None]  # draws of mean 0 and covariance I, exactly


def gaussian(theta):
    """log N(theta; MEAN, PRECISION^-1) up to a constant."""
    gap = theta - MEAN
    return -0.5 * (gap @ PRECISION * gap).sum(-1)


def components(sets=S, m=M, std=1.0):
    """Components that overlap, unless std says otherwise: all count in the mixture's density."""
    return torch.cat([0.5 * draw(sets, m, P), math.log(std) + 0.3 * draw(sets, m, P, seed=1)], -1)


def law(mean, log_std):
    return Independent(Normal(mean, log_std.exp()), 1)


def test_the_densities_are_those_of_every_component():
    psi, xi = components(), draw(S, M, L, P, seed=2)
    theta = mixture.draw(psi, xi)
    found = mixture.log_densities(theta, psi)
    for s in range(S):
        for j in range(M):
            torch.testing.assert_close(theta[s, j], psi[s, j, :P] + psi[s, j, P:].exp() * xi[s, j])
            for m in range(M):
                torch.testing.assert_close(found[s, j, :, m], law(*psi[s, m].chunk(2)).log_prob(theta[s, j]), rtol=1e-12, atol=1e-12)


def test_the_slope_is_that_of_each_components_elbo_with_the_others_held():
    psi, xi = components(), draw(S, M, L, P, seed=2)
    found = mixture.slope(gaussian, psi, xi)
    assert not found.requires_grad
    for s in range(S):
        for j in range(M):
            leaf = psi[s, j].clone().requires_grad_()
            rows = torch.stack([leaf if m == j else psi[s, m] for m in range(M)])
            q = MixtureSameFamily(Categorical(torch.ones(M)), law(rows[:, :P], rows[:, P:]))
            elbo = 0.0
            for k in range(L):
                theta = leaf[:P] + leaf[P:].exp() * xi[s, j, k]
                elbo = elbo + (gaussian(theta) - q.log_prob(theta)) / L
            torch.testing.assert_close(found[s, j], torch.autograd.grad(elbo, leaf)[0], rtol=1e-10, atol=1e-10)


def test_one_component_has_the_gradient_of_mean_field_variational_inference():
    """Written out: the mean's is E[s(theta)], s the score; that of log std is E[s(theta) std xi] + 1."""
    psi, xi = components(m=1), draw(S, 1, L, P, seed=2)
    std = psi[..., None, P:].exp()
    score = -(psi[..., None, :P] + std * xi - MEAN) @ PRECISION
    expected = torch.cat([score.mean(-2), (score * std * xi).mean(-2) + 1.0], -1)
    torch.testing.assert_close(mixture.slope(gaussian, psi, xi), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(flows.KL["smi"](psi, expected), expected, rtol=1e-12, atol=0.0)


def test_one_component_comes_to_rest_at_the_closed_form_of_mean_field_variational_inference():
    """Of a Gaussian posterior: its mean, and std_i = 1 / sqrt(precision_ii), not the marginal deviation (Bishop 2006, Sec. 10.1.2)."""
    psi = mixture.init(torch.zeros(1, 1, P))
    for _ in range(3000):
        psi = psi + 0.02 * flows.KL["smi"](psi, mixture.slope(gaussian, psi, CORNERS))
    torch.testing.assert_close(psi[0, 0, :P], MEAN, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(psi[0, 0, P:].exp(), PRECISION.diagonal() ** -0.5, rtol=1e-6, atol=0.0)


def test_two_components_by_hand():
    """phi(psi_i) = sum_j k(psi_j, psi_i) g_j + (1/2) sum_j grad_{psi_j} k: for M = 2 the median bandwidth is d^2 / log 2, k = 1/2."""
    psi, g = components(1, 2), draw(1, 2, 2 * P, seed=3)
    a, b = psi[0]
    push = 0.5 * (2.0 * math.log(2.0) / (a - b).square().sum()) * 0.5 * (a - b)
    expected = torch.stack([g[0, 0] + 0.5 * g[0, 1] + push, g[0, 1] + 0.5 * g[0, 0] - push])
    torch.testing.assert_close(flows.KL["smi"](psi, g)[0], expected, rtol=1e-10, atol=1e-10)


def test_components_of_no_width_move_as_svgd_but_for_the_entropy():
    """Means follow M times SVGD's attraction and its repulsion, log stds the entropy's slope 1 of each component, smoothed."""
    means = draw(S, M, P)
    psi = torch.cat([means, torch.full_like(means, -14.0)], -1)
    phi = flows.KL["smi"](psi, mixture.slope(gaussian, psi, draw(S, M, L, P, seed=2)))
    score = -(means - MEAN) @ PRECISION
    torch.testing.assert_close(phi[..., :P], svgd.velocity(means, M * score), rtol=1e-4, atol=1e-4)  # std 8e-7 times the curvature
    smoothed = RBF(median_svgd(means))(means, means)[0].sum(-1, keepdim=True).expand(S, M, P)
    torch.testing.assert_close(phi[..., P:], smoothed, rtol=1e-4, atol=1e-4)
