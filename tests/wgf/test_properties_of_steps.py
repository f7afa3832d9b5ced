"""What holds for every metric, system, projection, network and size of a file."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Independent, Normal

from tests.answers import answered
from wgf import limits, projection
from wgf.conjugate import conjugate_gradient
from wgf.mlp import MLP, ModuleNetwork
from wgf.natural import backtrack, damped, empirical, gaussian_fisher, gaussian_wasserstein, hessian, pullback, step

SIZES = [0.0, 1e-38, 1e-30, 1e-20, 1e-19, 1.0, 1e8, 1e15]
SEED = st.integers(0, 10**6)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a, b, tol=1e-9):
    torch.testing.assert_close(a, b, rtol=tol, atol=tol * max(1e-300, float(b.abs().amax())))


def divergence(theta):
    return torch.logsumexp(torch.sin(theta) * torch.arange(1.0, theta.shape[-1] + 1.0, dtype=theta.dtype), -1)


def metrics(seed, p):
    """Metrics of stacks (2, 3, p)."""
    theta, scores, weight = normal(seed, 2, 3, p), normal(seed + 1, 2, 3, 4, p), normal(seed + 2, 2, 3, p).square()
    return {
        "empirical": empirical(scores),
        "pullback": pullback(lambda t: torch.sin(t * 2.0 + t.roll(1, -1)), theta, lambda v: weight * v),
        "damped": damped(empirical(scores), 0.3),
        "hessian": hessian(divergence, theta),
    }


@given(seed=SEED, p=st.integers(1, 6), name=st.sampled_from(["empirical", "pullback", "damped", "hessian"]), factor=st.floats(-9.0, 9.0))
def test_a_metric_is_linear_symmetric_and_each_entry_its_own_and_all_but_a_hessian_measure_lengths(seed, p, name, factor):
    metric, v, w = metrics(seed, p)[name], normal(seed + 3, 2, 3, p), normal(seed + 4, 2, 3, p)
    close(metric(v + factor * w), metric(v) + factor * metric(w))
    assert ((v * metric(w)).sum(-1) - (w * metric(v)).sum(-1)).abs().max() < 1e-9 * (1.0 + metric(v).abs().max())
    one = torch.zeros(2, 3, 1, dtype=v.dtype)
    one[1, 2] = 1.0
    close(metric(v * one)[1, 2], metric(v)[1, 2])
    assert (metric(v * one) * (1.0 - one)).abs().max() == 0.0
    assert name == "hessian" or ((v * metric(v)).sum(-1) >= -1e-12).all()


@given(seed=SEED, p=st.integers(1, 6), unit=st.sampled_from([1e-30, 1e-8, 1.0, 1e8, 1e30]), other=st.sampled_from([1e-30, 1.0, 1e30]))
def test_a_system_in_other_units_has_the_solution_in_other_units(seed, p, unit, other):
    metric, b = metrics(seed, p)["damped"], normal(seed + 3, 2, 3, p)
    found, scaled = conjugate_gradient(metric, b, steps=2 * p), conjugate_gradient(lambda v: unit * metric(v), other * b, steps=2 * p)
    close(scaled.x * (unit / other), found.x, 1e-6)
    close(found.product, metric(found.x))
    close(found.product, b, 1e-6)


@given(seed=SEED, p=st.integers(2, 6))
def test_every_step_of_a_solve_comes_nearer_in_the_norm_of_its_matrix_and_stays_uphill(seed, p):
    metric, b = metrics(seed, p)["damped"], normal(seed + 3, 2, 3, p)
    truth, before = conjugate_gradient(metric, b, steps=4 * p).x, None
    for steps in range(1, p):
        x = conjugate_gradient(metric, b, steps=steps).x
        error = ((x - truth) * metric(x - truth)).sum(-1)
        assert before is None or (error <= before + 1e-9 * before.max()).all()
        assert ((b * x).sum(-1) > 0.0).all()
        before = error


@settings(max_examples=30)
@given(
    dtype=st.sampled_from([torch.float32, torch.float64]),
    sizes=st.tuples(*[st.sampled_from([0.0, 1e-38, 1e-30, 1e-20, 1e-19, 1.0, 1e8, 1e15])] * 2),
    seed=SEED,
)
def test_a_metric_and_a_gradient_of_any_size_leave_no_nan(dtype, sizes, seed):
    """A curvature below the least number counts as none: its inverse would be infinite, and 0 times that is nan."""
    scores, b = (size * t for size, t in zip(sizes, (normal(seed, 3, 4, 5), normal(seed + 1, 3, 5)), strict=True))
    found = conjugate_gradient(empirical(scores.to(dtype)), b.to(dtype), steps=6)
    assert not any(t.isnan().any() for t in found)
    taken = step(empirical(scores.to(dtype)), b.to(dtype), eps=1e-2, steps=6)
    assert not any(t.isnan().any() for t in taken)


@given(seed=SEED, p=st.integers(1, 6), eps=st.floats(1e-6, 10.0), factor=st.floats(0.01, 100.0))
def test_a_natural_step_has_the_length_of_its_region_in_every_unit(seed, p, eps, factor):
    metric, g = metrics(seed, p)["damped"], normal(seed + 3, 2, 3, p)
    taken = step(metric, g, eps=eps, steps=3 * p)
    close(0.5 * (taken.move * metric(taken.move)).sum(-1), torch.full((2, 3), eps).double(), 1e-6)
    close(step(lambda v: factor * metric(v), g, eps=factor * eps, steps=3 * p).move, taken.move, 1e-6)
    close(step(metric, factor * g, eps=eps, steps=3 * p).move, taken.move, 1e-6)


@given(seed=SEED, p=st.integers(1, 4), shrink=st.floats(0.05, 0.95), tries=st.integers(1, 6), least=st.floats(-3.0, 3.0))
def test_a_search_ends_at_the_first_acceptable_point_or_where_it_began(seed, p, shrink, tries, least):
    theta, move = normal(seed, 2, 3, p), normal(seed + 1, 2, 3, p)
    found, factor = backtrack(lambda t: t.sum(-1) > least, theta, move, shrink=shrink, tries=tries)
    fractions = [shrink**k for k in range(tries)]
    for i in range(2):
        for j in range(3):
            good = [f for f in fractions if (theta[i, j] + f * move[i, j]).sum() > least]
            assert factor[i, j].item() == (good[0] if good else 0.0)
            close(found[i, j], theta[i, j] + factor[i, j] * move[i, j])


@given(seed=SEED, f=st.sampled_from([gaussian_fisher, gaussian_wasserstein]), phi=st.sampled_from(["log_std", "variance"]))
def test_a_gaussians_metric_changes_with_its_coordinate_as_a_square_of_the_slope(seed, f, phi):
    """d std / d log std = std and d std / d variance = 1 / (2 std); the mean's entry has no part in it."""
    std = normal(seed, 3, 4).exp()
    own, other = f(std), f(std, phi)
    close(other.mean, own.mean)
    close(other.phi, own.phi * (std if phi == "log_std" else 0.5 / std).square())


@given(seed=SEED, n=st.integers(1, 5), a=st.integers(1, 3), factor=st.floats(-5.0, 5.0))
def test_a_projection_is_linear_in_the_slope_and_a_sum_over_draws(seed, n, a, factor):
    xi, slope, other = normal(seed, 2, 3, n, a), normal(seed + 1, 2, 3, n, a), normal(seed + 2, 2, 3, n, a)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    found = [
        projection.gaussian(*args)
        for args in (
            (xi[..., order, :], slope[..., order, :]),
            (xi, slope),
            (xi, other),
            (xi, slope + factor * other),
            (torch.cat([xi, xi], -2), torch.cat([slope, other], -2)),
        )
    ]
    for part, of_slope, of_other, mixed, twice in zip(*found, strict=True):
        close(part, of_slope)
        close(mixed, of_slope + factor * of_other)
        close(twice, of_slope + of_other)


@settings(max_examples=6)
@given(seed=SEED, n=st.integers(1, 4), factor=st.floats(0.1, 5.0))
def test_a_direction_of_any_law_is_linear_in_the_slope_and_knows_no_order_of_draws(seed, n, factor):
    log_prob = projection.density(lambda phi: Independent(Normal(phi[..., :2], phi[..., 2:].exp()), 1))
    phi, a, slope, draws = normal(seed, 2, 4), normal(seed + 1, 2, n, 2), normal(seed + 2, 2, n, 2), normal(seed + 3, 2, 9, 2)

    def direction(a, slope, draws):
        return projection.direction(log_prob, phi, a, slope, draws, damping=0.5, steps=12)

    order = torch.randperm(9, generator=torch.Generator().manual_seed(seed))
    close(direction(a.flip(1), slope.flip(1), draws[:, order]), direction(a, slope, draws), 1e-7)
    close(direction(a, factor * slope, draws), factor * direction(a, slope, draws), 1e-7)


@given(
    seed=SEED, sizes=st.lists(st.integers(1, 4), min_size=2, max_size=4), activation=st.sampled_from(["tanh", "relu", "elu", "layernorm"])
)
def test_a_network_takes_its_inputs_apart_or_together_and_its_units_in_any_order(seed, sizes, activation):
    sizes = tuple(sizes) if activation != "layernorm" or len(sizes) > 2 else (*sizes[:1], 3, *sizes[1:])
    net = MLP((sizes[0] + 2, *sizes[1:]), activation)
    theta = net.init((2, 3), [torch.Generator().manual_seed(k) for k in (seed, seed + 1)]).double()
    x, y = normal(seed, 2, 3, 5, sizes[0]), normal(seed + 1, 2, 3, 5, 2)
    close(net(theta, x, y), net(theta, torch.cat([x, y], -1)), 1e-12)
    if len(sizes) < 3:
        return
    order, other = torch.randperm(sizes[1], generator=torch.Generator().manual_seed(seed)), theta.clone()
    (w1, b1), (w2, _) = net.layers(other)[:2]
    w1.copy_(w1[..., order].clone()), b1.copy_(b1[..., order].clone()), w2.copy_(w2[..., order, :].clone())
    if activation == "layernorm":
        for part in net.affine(other):
            part.copy_(part[..., order].clone())
    close(net(other, x, y), net(theta, x, y), 1e-12)


@settings(max_examples=5)
@given(seed=SEED, hidden=st.integers(1, 4))
def test_a_module_is_as_its_inputs_together_and_each_cell_its_own(seed, hidden):
    net = ModuleNetwork(nn.Sequential(nn.Linear(3, hidden), nn.Tanh(), nn.Linear(hidden, 2)).double())
    theta = normal(seed, 2, 3, hidden * 3 + hidden + hidden * 2 + 2)
    x = normal(seed + 1, 2, 3, 4, 3)
    close(net(theta, x[..., :1], x[..., 1:]), net(theta, x), 1e-12)
    close(net(theta[1:, 2:], x[1:, 2:])[0, 0], net(theta, x)[1, 2], 1e-12)


@given(data=st.binary(max_size=200), most=st.integers(0, 200))
def test_a_file_is_read_whole_or_not_at_all(tmp_path_factory, data, most):
    path = tmp_path_factory.mktemp("limits") / "file"
    path.write_bytes(data)
    found, said = answered(limits.contents, path, most)
    if said is None:
        assert found == data
        assert len(data) <= most
    else:
        assert len(data) > most
        assert str(path) in said


@given(count=st.integers(0, 2**50))
def test_sizes_are_within_a_twentieth_of_a_mebibyte_or_of_a_gibibyte(count):
    number, unit = limits.size(count).split()
    written = float(number.replace(",", "")) * {"MiB": 2**20, "GiB": 2**30}[unit]
    assert abs(written - count) <= 0.051 * {"MiB": 2**20, "GiB": 2**30}[unit]
