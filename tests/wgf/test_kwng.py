"""The kernel estimate of the Wasserstein metric against dense matrices, loops and the closed forms of Gaussians."""

import math

import pytest
import torch
from torch.func import jacrev

from tests.policies.plain import close, draw, leaf
from wgf import kwng
from wgf.natural import gaussian_wasserstein

pytestmark = pytest.mark.usefixtures("double")
S, N, D, M, P = 2, 7, 3, 4, 6


def seeded(k=0):
    return torch.Generator().manual_seed(k)


def kernel(x, y, length):
    return torch.exp(-(x - y).square().sum() / (2.0 * length**2))


def samples(theta):
    """A nonlinear map of theta (S, P) to samples (S, N, D)."""
    xi = draw(S, N, D, seed=1)
    return torch.tanh(theta[:, None, :D] + xi * theta[:, None, D:].exp()) + 0.3 * xi


def example():
    theta = 0.3 * draw(S, P, seed=2)
    x = samples(theta)
    return theta, x, kwng.basis(x, M, seeded(3))


def by_loops(over, x):
    """h (S, M, N) and its slopes (S, M, N, D) by autograd of the kernel."""
    h, slopes = torch.zeros(S, M, N), torch.zeros(S, M, N, D)
    for s, m, n in torch.cartesian_prod(torch.arange(S), torch.arange(M), torch.arange(N)).tolist():
        at, y = leaf(x[s, n]), leaf(over.points[s, m])
        (in_y,) = torch.autograd.grad(kernel(at, y, over.lengthscale[s]), y, create_graph=True)
        value = in_y[over.axes[s, m]]
        h[s, m, n] = value.detach()
        slopes[s, m, n] = torch.autograd.grad(value, at)[0]
    return h, slopes


def dense(jacobian, slopes):
    """J'L^+J, (S, P, P)."""
    flat = slopes.flatten(2)
    return jacobian.mT @ torch.linalg.pinv(flat @ flat.mT / N, rtol=1e-9, hermitian=True) @ jacobian


def own(jacobian):
    """(S, n, S, P) -> (S, n, P): every entry by its own theta."""
    return torch.stack([jacobian[s, :, s] for s in range(S)])


def jacobian_of(theta, over):
    """grad_theta mean_n h_m(x_n(theta)), (S, M, P)."""
    return own(jacrev(lambda t: over.values(samples(t)).mean(-1))(theta))


def test_functions_and_slopes_are_derivatives_of_the_kernel():
    _, x, over = example()
    h, slopes = by_loops(over, x)
    close(over.values(x), h)
    close(over.slopes(x), slopes)


def test_a_basis_is_of_samples_and_of_the_mean_distance():
    _, x, over = example()
    for s in range(S):
        assert all((x[s] == y).all(-1).any() for y in over.points[s])
        close(over.lengthscale[s] ** 2, torch.cdist(over.points[s], x[s]).square().mean())
        close(kwng.basis(x, M, seeded(3), scale=0.25).lengthscale, 0.5 * over.lengthscale)
    many = kwng.basis(x, 200, seeded(0))
    assert set(many.axes.unique().tolist()) == set(range(D))
    assert not torch.equal(many.axes[0], many.axes[1])
    assert kwng.basis(torch.ones(1, 4, 2), 2, seeded(0)).lengthscale.tolist() == [1.0]


def test_the_metric_is_j_transposed_l_pseudo_inverse_j():
    theta, x, over = example()
    metric, (_, slopes) = kwng.reparameterised(samples, theta, over), by_loops(over, x)
    jacobian = jacobian_of(theta, over)
    expected, v = dense(jacobian, slopes), draw(S, P, seed=5)
    assert metric.rows.shape == (S, M, P)
    torch.testing.assert_close(metric.product(v), (expected @ v[..., None])[..., 0], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("unit", [1e-4, 1e4])
def test_another_unit_of_the_samples_is_that_unit_squared_of_the_metric(unit):
    """L is then larger by unit^-4: which of its eigenvalues count is a matter of their share alone."""
    theta, x, over = example()
    there = kwng.reparameterised(lambda t: unit * samples(t), theta, kwng.basis(unit * x, M, seeded(3)))
    here, v = kwng.reparameterised(samples, theta, over), draw(S, P, seed=5)
    torch.testing.assert_close(there.product(v) / unit**2, here.product(v), rtol=1e-6, atol=1e-12)


def test_a_function_that_is_another_but_for_a_millionth_does_not_count():
    """Their difference has a 1e-12th of the largest eigenvalue, and a direction of its own that would count as much as any."""
    theta, _, over = example()
    near = over._replace(points=torch.cat([over.points[:, :3], over.points[:, :1] + 1e-6], 1), axes=over.axes[:, [0, 1, 2, 0]])
    few, v = kwng.Basis(over.points[:, :3], over.axes[:, :3], over.lengthscale), draw(S, P, seed=5)
    found, expected = (kwng.reparameterised(samples, theta, b).product(v) for b in (near, few))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_the_score_form_is_the_mean_of_functions_times_scores():
    theta, x, over = example()

    def log_prob(theta):
        return -0.5 * ((x - theta[:, None, :D]) / theta[:, None, D:].exp()).square().sum(-1) - theta[:, None, D:].sum(-1)

    metric, (h, slopes) = kwng.by_score(log_prob, theta, x, over), by_loops(over, x)
    expected = dense(h @ own(jacrev(log_prob)(theta)) / N, slopes)
    torch.testing.assert_close(metric.rows.mT @ metric.rows, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("singular", [False, True])
@pytest.mark.parametrize("damping", ["identity", "columns"])
@pytest.mark.parametrize("eps", [1e-4, 0.3, torch.tensor([0.01, 2.0])])
def test_a_solution_is_that_of_the_dense_damped_metric(singular, damping, eps):
    """Singular: two functions are one; Algorithm 3 as printed takes what L does not see for free motion then."""
    theta, x, over = example()
    if singular:
        over = over._replace(points=over.points[:, [0, 1, 2, 0]], axes=over.axes[:, [0, 1, 2, 0]])
    metric, g = kwng.reparameterised(samples, theta, over), draw(S, P, seed=5)
    dense_metric = dense(jacobian_of(theta, over), over.slopes(x))
    found = metric.solve(g, eps, damping)
    for s in range(S):
        inverse = metric.rows[s].norm(dim=0) + 1e-8 if damping == "columns" else torch.ones(P)
        size = eps if isinstance(eps, float) else eps[s]
        expected = torch.linalg.solve(dense_metric[s] + size * torch.diag(inverse), g[s])
        torch.testing.assert_close(found[s], expected, rtol=1e-6, atol=0.0)
        inner = metric.rows[s] @ metric.rows[s].T + size * torch.eye(M)
        torch.testing.assert_close(
            metric.project(g, eps)[s], metric.rows[s].T @ torch.linalg.solve(inner, metric.rows[s] @ g[s]), rtol=1e-8, atol=1e-12
        )


def test_without_damping_the_projection_is_on_the_span_of_the_rows():
    theta, _, over = example()
    metric, g = kwng.reparameterised(samples, theta, over), draw(S, P, seed=5)
    once = metric.project(g, 1e-12)
    torch.testing.assert_close(metric.project(once, 1e-12), once, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(metric.product(g - once), torch.zeros(S, P), rtol=0.0, atol=1e-6)


def test_large_damping_leaves_the_gradient_and_with_columns_what_the_columns_weigh():
    theta, _, over = example()
    metric, g = kwng.reparameterised(samples, theta, over), draw(S, P, seed=5)
    torch.testing.assert_close(1e9 * metric.solve(g, 1e9), g, rtol=1e-6, atol=1e-7)
    weighed = g / (metric.rows.norm(dim=-2) + 1e-8)
    torch.testing.assert_close(1e9 * metric.solve(g, 1e9, "columns"), weighed, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("phi", ["log_std", "variance"])
@pytest.mark.parametrize(("form", "n", "least"), [("reparameterised", 4_000, 0.99), ("score", 20_000, 0.97)])
def test_the_direction_is_that_of_the_closed_form_of_a_gaussian(phi, form, n, least):
    """Five dimensions, ten parameters, ten times as many functions: cosine of the directions of three gradients."""
    d, xi = 5, draw(n, 5, seed=1)
    std = torch.linspace(0.5, 1.5, d)
    value = std.log() if phi == "log_std" else std.square()
    theta = torch.cat([0.5 * draw(d, seed=2), value])

    def deviation(part):
        return part.exp() if phi == "log_std" else part.sqrt()

    def cloud(theta):
        return theta[:d] + deviation(theta[d:]) * xi

    x = cloud(theta)

    def log_prob(theta):
        scale = deviation(theta[d:])
        return -(0.5 * ((x - theta[:d]) / scale).square() + scale.log()).sum(-1)

    over = kwng.basis(x, 100, seeded(3))
    metric = kwng.reparameterised(cloud, theta, over) if form == "reparameterised" else kwng.by_score(log_prob, theta, x, over)
    exact = torch.cat([*gaussian_wasserstein(std, phi)])
    for k in range(3):
        g = draw(2 * d, seed=10 + k)
        found, expected = metric.solve(g, 1e-5), g / exact
        assert torch.cosine_similarity(found, expected, dim=0).item() > least


def test_the_estimate_of_a_gaussians_metric_has_its_length_too():
    """G of the mean is I: a unit step of the mean moves every sample by one."""
    xi = draw(3_000, 2, seed=1)
    metric = kwng.reparameterised(lambda mean: mean + xi, torch.zeros(2), kwng.basis(xi, 60, seeded(0)))
    torch.testing.assert_close(metric.rows.T @ metric.rows, torch.eye(2), rtol=0.0, atol=0.05)


def test_float32_and_leading_axes_keep_the_result():
    theta, _, over = example()
    wide = kwng.reparameterised(samples, theta, over).solve(draw(S, P, seed=5), 0.1)
    low = kwng.Basis(over.points.float(), over.axes, over.lengthscale.float())
    single = kwng.reparameterised(lambda t: samples(t.double()).float(), theta.float(), low).solve(draw(S, P, seed=5).float(), 0.1)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), wide, rtol=2e-3, atol=2e-4)
    alone = kwng.Basis(*(t[1:] for t in over))
    xi = draw(S, N, D, seed=1)[1:]
    one = kwng.reparameterised(lambda t: torch.tanh(t[:, None, :D] + xi * t[:, None, D:].exp()) + 0.3 * xi, theta[1:], alone)
    close(one.solve(draw(S, P, seed=5)[1:], 0.1), wide[1:])


def test_damping_follows_the_best_ratio_within_bounds():
    """.2 asks for more damping, .5 for the same, .8 for less; bounds hold; nan, as of no motion, says nothing."""
    eps = torch.tensor([1.0, 1.0, 1.0, 1e5, 1e-10, 1.0, 1.0])
    found = kwng.adapted(eps, torch.tensor([0.2, 0.5, 0.8, 0.1, 0.9, math.nan, -math.inf]))
    close(found, torch.tensor([1.0 / 0.85, 1.0, 0.85, 1e5, 1e-10, 1.0, 1.0 / 0.85]))
    assert kwng.adapted(torch.ones(2), torch.tensor([0.24, 0.26])).tolist() == [1.0 / 0.85, 1.0]
    assert kwng.adapted(torch.ones(2), torch.tensor([0.74, 0.76])).tolist() == [1.0, 0.85]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: kwng.basis(x, 0, seeded()), "count is 0"),
        (lambda x: kwng.basis(x, 3, seeded(), scale=-1.0), "scale is -1.0"),
        (lambda x: kwng.basis(x[0, 0], 3, seeded()), "x has shape"),
        (lambda x: kwng.reparameterised(None, x[:, 0], kwng.basis(x, 3, seeded())), "samples is None; pass a function"),
    ],
)
def test_refuses(call, words):
    with pytest.raises(ValueError, match=words):
        call(draw(S, N, D))
