import itertools
import math
import warnings
from typing import get_args

import ot
import pytest
import torch

from tests import oracles
from wgf import kernels, transport, trusted
from wgf.transport import entropic_cost, exact_cost, sinkhorn, sinkhorn_divergence

MAPS = {
    "entropic": transport.entropic,
    "debiased": transport.debiased,
    "exact": transport.exact,
    "common_noise": transport.common_noise,
}
W2 = MAPS | {"eq9_sum": transport.eq9_sum, "eq9_mean": transport.eq9_mean}
WITH_EPS = {"sinkhorn": lambda x, y, e: sinkhorn(x, y, e).barycentre, "cost": entropic_cost, "divergence": sinkhorn_divergence}


def close(a, b, tol=1e-12):
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


@pytest.fixture
def tight(monkeypatch):
    """Every solve inside a distance or a velocity down to rounding, so that finite differences see the formula alone."""

    def solve(x, y, eps, **weights):
        plan = sinkhorn(x, y, eps, tol=1e-10, max_iters=20_000, **weights)
        assert plan.converged.all()
        return plan

    monkeypatch.setattr(transport, "sinkhorn", solve)


def costs(x, y):
    return (x[..., :, None, :] - y[..., None, :, :]).square().sum(-1)


def numpy(*tensors):
    return [t.cpu().numpy() for t in tensors]


# --- plans -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [0.1, 1.0, 10.0])
def test_the_plan_is_pots(eps, draw):
    x, y = draw(6, 3), draw(8, 3, seed=1)
    a, b = draw(6, seed=2).exp(), draw(8, seed=3).exp()
    plan = sinkhorn(x, y, eps, a=a, b=b, tol=1e-12, max_iters=20_000)
    a, b = a / a.sum(), b / b.sum()
    pot = ot.sinkhorn(*numpy(a, b, costs(x, y)), eps, method="sinkhorn_log", stopThr=1e-13, numItermax=50_000)
    close(plan.log_plan.exp(), torch.as_tensor(pot).to(x), 1e-10)


def test_far_from_the_origin_a_barycentre_and_a_force_keep_the_digits_of_the_particles(draw):
    """Float32 resolves 3e-5 at 1000 half up; a sum of 200 such numbers would lose two digits more."""
    x, y = draw(200, 2).float() + 1000.0, draw(200, 2, seed=1).float() + 1000.0
    plan, wide = sinkhorn(x, y, 5.0), sinkhorn(x.double(), y.double(), 5.0)
    assert (plan.barycentre - wide.barycentre).abs().max() < 2e-4
    force = transport.eq9_mean(x.double(), y.double(), 2.0)
    assert (transport.eq9_mean(x, y, 2.0) - force).abs().max() < 1e-4  # half an ulp of the centre, and weights of 1 or so


def test_blocks_of_rows_change_no_velocity(monkeypatch, draw):
    x = draw(2, 9, 3)
    moves = {name: f(x, x.flip(0)) for name, f in W2.items()}
    monkeypatch.setattr(kernels, "BLOCK", 30)
    for name, f in W2.items():
        close(moves[name], f(x, x.flip(0)))


# --- distances --------------------------------------------------------------------------------------------------------


def gauss(draw, mean, std, n=60):
    """A normal law as a weighted grid: the trapezoidal rule is exact to exp(-2 pi^2 / step^2) here, far below 1e-12."""
    x = torch.linspace(-8.0, 8.0, n, dtype=torch.float64).to(draw(1))
    return (mean + std * x)[:, None], torch.exp(-0.5 * x**2)


@pytest.mark.parametrize("eps", [0.5, 2.0, 20.0])
def test_between_gaussians_the_cost_has_its_closed_form(eps, draw):
    (x, a), (y, b) = gauss(draw, 0.3, 0.7), gauss(draw, -1.0, 1.5)
    plan = sinkhorn(x, y, eps, a=a, b=b, tol=1e-12, max_iters=5000)
    assert math.isclose(float(plan.value), oracles.entropic_gaussian(0.3, 0.7, -1.0, 1.5, eps), abs_tol=1e-9)


def test_between_gaussians_in_the_plane_the_cost_has_its_closed_form(draw):
    def plane(mean, stds):
        (p, a), (q, b) = gauss(draw, mean, stds[0], 33), gauss(draw, 0.0, stds[1], 33)
        turn = p.new_tensor([[0.8, 0.6], [-0.6, 0.8]])
        return torch.cartesian_prod(p[:, 0], q[:, 0]) @ turn, (a[:, None] * b).flatten(), turn

    (x, a, turn), (y, b, _) = plane(1.0, (0.7, 1.2)), plane(-0.5, (1.5, 0.4))
    plan = sinkhorn(x, y.flip(-1), 2.0, a=a, b=b, tol=1e-9, max_iters=5000)
    cov_x = turn.mT @ turn.new_tensor([0.49, 1.44]).diag() @ turn
    cov_y = (turn.mT @ turn.new_tensor([2.25, 0.16]).diag() @ turn).flip(0, 1)
    mean_x, mean_y = turn.new_tensor([1.0, 0.0]) @ turn, (turn.new_tensor([-0.5, 0.0]) @ turn).flip(0)
    close(plan.value, oracles.entropic_gaussian_matrices(mean_x, cov_x, mean_y, cov_y, 2.0), 1e-6)


def test_the_entropic_map_of_a_gaussian_to_itself_has_the_slope_of_the_closed_form(draw):
    """Slope (sqrt(e^2 + 4 s^4) - e) / (2 s^2), e = eps / 2: what the entropic velocity shrinks by."""
    s, eps = 1.3, 0.8
    x, a = gauss(draw, 0.0, s)
    slope = (math.sqrt((eps / 2) ** 2 + 4 * s**4) - eps / 2) / (2 * s**2)
    barycentre = sinkhorn(x, x, eps, a=a, b=a, tol=1e-12, max_iters=5000).barycentre
    inner = x.abs() < 4.0  # where the grid's edge is not felt: 5 std of the plan's rows away
    close(barycentre[inner], slope * x[inner], 1e-6)


def test_of_gaussian_quantiles_the_exact_cost_nears_the_bures_distance(draw):
    """Quantile midpoints of two normals on a line: an affine pairing, (m - n)^2 + (s - t)^2 times their variance."""
    u = (torch.arange(500, dtype=torch.float64) + 0.5) / 500
    z = (math.sqrt(2.0) * torch.erfinv(2.0 * u - 1.0)).to(draw(1))
    one = z.new_ones(1)
    x, y = 0.3 + 0.7 * z, -1.0 + 1.5 * z
    truth = oracles.bures(0.3 * one, 0.49 * one[None], -one, 2.25 * one[None])
    assert abs(float(exact_cost(x[:, None], y[:, None]) - truth)) < 0.64 * (1.0 - float(z.square().mean())) + 1e-12


def test_the_exact_cost_is_the_best_permutation_and_the_sorted_pairing(draw):
    x, y = draw(5, 3), draw(5, 3, seed=1)
    assert math.isclose(float(exact_cost(x, y)), oracles.assignment_cost(x, y), rel_tol=1e-12)
    x, y = draw(3, 40, 1), draw(3, 40, 1, seed=1)
    close(exact_cost(x, y), torch.stack([oracles.sorted_cost(p[:, 0], q[:, 0]) for p, q in zip(x, y, strict=True)]))


def test_the_exact_cost_of_a_cloud_with_nan_is_nan_and_the_others_keep_theirs(draw):
    x, y = draw(3, 5, 2), draw(3, 5, 2, seed=1)
    spoiled = x.clone()
    spoiled[1, 0, 0] = torch.nan
    with trusted():
        found, clean = exact_cost(spoiled, y), exact_cost(x, y)
    assert found.isnan().tolist() == [False, True, False]
    assert torch.equal(found[[0, 2]], clean[[0, 2]])


def test_the_exact_cost_takes_weights(draw):
    x, y = draw(2, 4, 3), draw(2, 3, 3, seed=1)
    a, b = x.new_tensor([2.0, 1.0, 1.0, 2.0]).expand(2, 4), x.new_tensor([3.0, 1.0, 2.0]).expand(2, 3)
    i, j = torch.tensor([0, 0, 1, 2, 3, 3]), torch.tensor([0, 0, 0, 1, 2, 2])  # a point of weight 2 is two points
    close(exact_cost(x, y, a=a, b=b), exact_cost(x[:, i], y[:, j]))


def test_the_divergence_is_the_cost_less_half_of_each_own_cost(draw):
    x, y = draw(6, 2), draw(8, 2, seed=1)
    own = entropic_cost(x, x, 1.0) + entropic_cost(y, y, 1.0)
    close(sinkhorn_divergence(x, y, 1.0), entropic_cost(x, y, 1.0) - own / 2.0)
    assert float(entropic_cost(x, x, 1.0)) > 0.1
    assert float(sinkhorn_divergence(x, x, 1.0)) == 0.0


def test_the_divergence_of_a_shift_is_its_square_for_any_eps(draw):
    """c(x, y + t) = c(x, y) + affine terms whose means are fixed: the plan stays and the cost gains |t|^2 for y = x."""
    x = draw(8, 2)
    for eps in (0.1, 1.0, 30.0):
        shifted = sinkhorn_divergence(x, x + x.new_tensor([3.0, -4.0]), eps)
        assert abs(float(shifted) - 25.0) < 0.01 * eps + 1e-9  # eps times a squared gap of at most 1e-3, with room


COSTS = {
    "entropic": lambda x, y, a, b: entropic_cost(x, y, 1.5, a=a, b=b),
    "divergence": lambda x, y, a, b: sinkhorn_divergence(x, y, 1.5, a=a, b=b),
}


@pytest.mark.usefixtures("tight")
@pytest.mark.parametrize("cost", [*COSTS.values(), lambda x, y, a, b: exact_cost(x, y, a=a, b=b)], ids=[*COSTS, "exact"])
def test_a_cost_has_its_slope_in_clouds_and_weights(cost, draw):
    """Central differences: their error is step^2 times a third derivative of 1 / eps^2, and rounding over the step."""
    inputs = draw(2, 4, 2), draw(2, 5, 2, seed=1), draw(2, 4, seed=2).exp(), draw(2, 5, seed=3).exp()
    for k, moving in enumerate(inputs):
        leaf = moving.clone().requires_grad_()
        (found,) = torch.autograd.grad(cost(*inputs[:k], leaf, *inputs[k + 1 :]).sum(), leaf)
        differences = oracles.central_difference(lambda t, k=k: cost(*inputs[:k], t, *inputs[k + 1 :]).sum(), moving)
        close(found, differences, 1e-6)
        assert found.abs().max() > 1e-2


@pytest.mark.parametrize("cost", COSTS.values(), ids=COSTS)
def test_the_transforms_of_torch_pass_through_a_cost(cost, draw):
    x, y, a, b = draw(3, 4, 2), draw(5, 2, seed=1), draw(4, seed=2).exp(), draw(3, 5, seed=3).exp()
    with trusted():
        each = torch.stack([cost(x[i], y, a, b[i]) for i in range(3)])
        close(torch.vmap(lambda p, w: cost(p, y, a, w))(x, b), each)
        slopes = torch.vmap(torch.func.grad(lambda p, w: cost(p, y, a, w)))(x, b)
        leaf = x.clone().requires_grad_()
        (expected,) = torch.autograd.grad(sum(cost(leaf[i], y, a, b[i]) for i in range(3)), leaf)
        close(slopes, expected)
        v = draw(4, 2, seed=4)
        close(torch.func.jvp(lambda p: cost(p, y, a, b[0]), (x[0],), (v,))[1], (expected[0] * v).sum())


# --- velocities -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam", [0.7, 5.0])
def test_eq_9_is_the_derivative_of_the_sum_of_c_exp_minus_c_over_lam(lam, draw):
    x, x_prev = draw(5, 3).requires_grad_(), draw(4, 3, seed=1)
    c = costs(x, x_prev)
    (gradient,) = torch.autograd.grad((c * torch.exp(-c / lam)).sum(), x)
    close(transport.eq9_sum(x, x_prev, lam).detach(), gradient)
    close(transport.eq9_mean(x, x_prev, lam).detach(), gradient / 4.0)


@pytest.mark.parametrize("d", [3, 8])
def test_eq_9_has_a_derivative_itself(d, draw):
    x, x_prev = draw(2, 5, d).requires_grad_(), draw(2, 4, d, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda *clouds: transport.eq9_sum(*clouds, 2.0), (x, x_prev))


@pytest.mark.parametrize(("block", "times"), [(2 * 9 * 7, 1), (2 * 9 * 7 - 1, 0)])
def test_eq_9_makes_its_costs_whole_up_to_a_block(block, times, monkeypatch, draw):
    made, costs_of = [], transport.costs
    monkeypatch.setattr(kernels, "BLOCK", block)
    monkeypatch.setattr(transport, "costs", lambda x, y: made.append(1) or costs_of(x, y))
    transport.eq9_sum(draw(2, 9, 3), draw(2, 7, 3, seed=1), 2.0)
    assert len(made) == times


def test_eq_9_repels_what_is_nearer_than_lam_and_pulls_back_what_is_farther(draw):
    origin = draw(1, 2) * 0.0
    near, far = origin + origin.new_tensor([0.9, 0.0]), origin + origin.new_tensor([1.1, 0.0])
    assert transport.eq9_sum(near, origin, 1.0)[0, 0] > 0.0 > transport.eq9_sum(far, origin, 1.0)[0, 0]


def test_lam_is_the_squared_median_cross_distance_over_log_m(draw):
    x, x_prev = draw(2, 5, 3), draw(2, 4, 3, seed=1)
    lam = transport.median_lam(x, x_prev)
    distances = costs(x, x_prev).sqrt().flatten(-2).sort().values  # 20 of them
    close(lam, (0.5 * (distances[:, 9] + distances[:, 10])) ** 2 / math.log(5))
    close(transport.eq9_sum(x, x_prev), transport.eq9_sum(x, x_prev, lam))
    close(transport.eq9_mean(x, x_prev), transport.eq9_mean(x, x_prev, lam))
    close(transport.median_lam(x[:, :1], x_prev[:, :1]), costs(x, x_prev)[:, 0, 0] / math.log(2.0))
    close(transport.median_lam(x[:, :1], x[:, :1]), x.new_full((2,), 1e-10))
    assert not transport.median_lam(x.requires_grad_(), x_prev).requires_grad


@pytest.mark.parametrize("most", [3, 4])
def test_eq_9_takes_the_median_of_the_thinned_clouds(most, monkeypatch, draw):
    x, x_prev = draw(2, 3, 3), draw(2, 4, 3, seed=1)
    whole = transport.median_lam(x, x_prev)
    monkeypatch.setattr(kernels, "SUBSAMPLE", most)
    monkeypatch.setattr(transport, "SUBSAMPLE", most)
    lam = transport.median_lam(x, x_prev)
    close(transport.eq9_sum(x, x_prev), transport.eq9_sum(x, x_prev, lam))
    assert bool((lam == whole).all()) == (most == 4)


@pytest.mark.parametrize("eps", [1.0, 4.0])
def test_the_entropic_velocity_is_minus_half_m_times_the_gradient_of_its_cost(eps, draw, tight):
    x, x_prev = draw(4, 2), draw(5, 2, seed=1)
    gradient = oracles.central_difference(lambda z: entropic_cost(z, x_prev, eps), x)
    close(transport.entropic(x, x_prev, eps), -(4.0 / 2.0) * gradient, 1e-7)  # step^2 f''' / 6 with f''' of 1 / eps^2, rounding 1e-11


@pytest.mark.parametrize("eps", [1.0, 4.0])
def test_the_debiased_velocity_is_minus_half_m_times_the_gradient_of_the_divergence(eps, draw, tight):
    x, x_prev = draw(4, 2), draw(5, 2, seed=1)
    gradient = oracles.central_difference(lambda z: sinkhorn_divergence(z, x_prev, eps), x)
    close(transport.debiased(x, x_prev, eps), -(4.0 / 2.0) * gradient, 1e-7)


def test_the_exact_velocity_is_minus_half_m_times_the_gradient_of_the_exact_cost(draw):
    x, x_prev = draw(2, 6, 2), draw(2, 6, 2, seed=1)
    gradient = oracles.central_difference(lambda z: exact_cost(z, x_prev).sum(), x)
    close(transport.exact(x, x_prev), -(6.0 / 2.0) * gradient, 1e-8)


def test_the_common_noise_velocity_is_minus_half_m_times_the_gradient_of_the_paired_cost(draw):
    x, x_prev = draw(4, 2), draw(4, 2, seed=1)
    gradient = oracles.central_difference(lambda z: (z - x_prev).square().sum(-1).mean(), x)
    close(transport.common_noise(x, x_prev), -(4.0 / 2.0) * gradient, 1e-8)


def test_the_exact_velocity_leads_back_to_particles_that_moved_a_little_and_were_shuffled(draw):
    x_prev, order, moved = draw(3, 8, 4), torch.randperm(8), 1e-3 * draw(3, 8, 4, seed=1)
    close(transport.exact(x_prev[:, order] + moved, x_prev), -moved)


@pytest.mark.parametrize("name", ["debiased", "exact", "common_noise"])
def test_a_velocity_without_bias_vanishes_at_the_previous_particles(name, draw):
    x = draw(3, 20, 2)
    assert (MAPS[name](x, x) == 0.0).all()


def test_the_biased_velocities_do_not_vanish_there(draw):
    x = draw(3, 20, 2)
    for f in (transport.entropic, transport.eq9_sum, transport.eq9_mean):
        assert (f(x, x).norm(dim=-1).mean() > 0.01).all()


def test_as_eps_falls_the_debiased_velocity_becomes_the_exact_one(draw, tight):
    x, x_prev = draw(6, 2), draw(6, 2, seed=1)
    gaps = [float((costs(x, x) + 1e9 * torch.eye(6).to(x)).min())]  # what the best and the second best plan of each cost differ by
    best, second = sorted(float(costs(x, x_prev)[range(6), p].sum()) for p in itertools.permutations(range(6)))[:2]
    eps = min(*gaps, second - best) / 30.0
    close(transport.debiased(x, x_prev, eps), transport.exact(x, x_prev), 1e-6)


def test_without_an_eps_it_is_a_twentieth_of_the_median_cost(draw):
    x, x_prev = draw(2, 5, 2), draw(2, 3, 2, seed=1)
    eps = 0.05 * costs(x, x_prev).flatten(-2).median(-1).values  # of 15
    close(transport.entropic(x, x_prev), transport.entropic(x, x_prev, eps))
    close(transport.debiased(x, x_prev), transport.debiased(x, x_prev, eps))


def test_the_eps_of_clouds_that_coincide_has_a_floor(monkeypatch, draw):
    x, seen = draw(1, 2).expand(5, 2), []
    monkeypatch.setattr(transport, "sinkhorn", lambda x, y, eps: seen.append(float(eps)) or sinkhorn(x, y, eps))
    assert (transport.debiased(x, x) == 0.0).all()
    assert (transport.entropic(x, x).abs() < 1e-15).all()
    assert seen == [1e-10] * 3


def test_every_velocity_has_its_functions_name_in_the_table_and_in_the_type():
    assert tuple(transport.VELOCITIES) == get_args(transport.W2Name)
    assert {name: getattr(transport, name) for name in transport.VELOCITIES} == transport.VELOCITIES == W2


@pytest.mark.parametrize("w2", [transport.entropic, transport.debiased])
def test_a_plan_that_stops_short_is_said_once_and_counted(w2, monkeypatch, draw):
    """1,000 iterations are too few for an eps of 1e-6; where values are trusted it is counted alone."""
    monkeypatch.setattr(transport, "_short", {})
    monkeypatch.setattr(transport, "_warned", [])
    x, y = draw(3, 40, 2), draw(3, 40, 2, seed=1)
    plan = sinkhorn(x, y, 1e-6)
    short = int((~plan.converged).sum())
    short_own = int((~sinkhorn(x, x, 1e-6).converged).sum()) if w2 is transport.debiased else 0
    assert short > 0
    with trusted(), warnings.catch_warnings():
        warnings.simplefilter("error")
        w2(x, y, 1e-6)
    assert transport.unconverged() == short + short_own
    with pytest.warns(RuntimeWarning, match=f"eps = 1e-06 stopped short of its tolerance in {short} of 3 problems: pass") as said:
        w2(x, y, 1e-6)
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        w2(x, y, 1e-6)
        w2(x, y, 1.0)
    assert transport.unconverged() == 3 * (short + short_own)


# --- extremes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [1, 100, 10_000])
def test_extreme_clouds_give_finite_velocities_and_distances_of_their_dtype(dtype, d, draw):
    x, y = draw(6, d, dtype=dtype), draw(6, d, seed=1, dtype=dtype)
    for p, q in ((x, y), (x[:1], y[:1]), (x[:1].expand(6, d), y), (x, x), (1e4 * x, 1e4 * y), (1e-4 * x, 1e-4 * y), (x + 1e3, y - 1e3)):
        for f in W2.values():
            v = f(p, q)
            assert v.isfinite().all()
            assert (v.dtype, v.device, v.shape) == (dtype, x.device, p.shape)
        for value in (exact_cost(p, q), transport.median_lam(p, q), entropic_cost(p, q, 1.0), sinkhorn_divergence(p, q, 1.0)):
            assert value.isfinite().all()
            assert (value.dtype, value.device, value.shape) == (dtype, x.device, ())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1e4])  # the latter for costs of 1e8
@pytest.mark.parametrize("ratio", [1e-6, 1e-3, 1.0, 1e2])
def test_any_eps_gives_finite_plans_between_the_exact_and_the_mean_cost(dtype, scale, ratio, draw):
    x, y = (scale * draw(12, 3, seed=k).to(dtype) for k in (0, 1))
    eps = ratio * float(costs(x, y).median())
    plan = sinkhorn(x, y, eps, max_iters=200)
    assert all(t.isfinite().all() for t in (plan.f, plan.g, plan.gap, plan.barycentre, plan.log_plan))
    room = 1e-6 * float(costs(x, y).max())
    assert plan.value <= costs(x, y).mean() + room
    if plan.converged:  # short of its maximum by gap times the range of g, itself below the largest cost
        assert plan.value >= exact_cost(x, y) - 1e-3 * float(costs(x, y).max()) - room
    for f in WITH_EPS.values():
        assert f(x, y, eps).isfinite().all()


def test_float32_agrees_with_float64(draw):
    x, y = draw(30, 5) + 100.0, draw(30, 5, seed=1) + 100.0
    x, y = x.float(), y.float()
    for ratio in (1e-2, 1.0):
        eps = ratio * float(costs(x, y).median())
        narrow, wide = sinkhorn(x, y, eps, tol=1e-4, max_iters=5000), sinkhorn(x.double(), y.double(), eps, tol=1e-4, max_iters=5000)
        assert narrow.converged
        assert abs(float(narrow.value.double() - wide.value)) < 1e-4 * eps + 1e-5 * float(wide.value)


def test_an_eps_whose_exponents_overflow_is_refused(draw):
    x, y = draw(1).new_tensor([[0.0, 0.0], [2.0, -1.0]]), draw(1).new_tensor([[0.0, 0.0], [0.0, 4.0]])
    with pytest.raises(ValueError, match=r"for costs up to 52$"):  # 4 (2^2 + 3^2), from y's centre (0, 2)
        sinkhorn(x, y, 1e-307)
    assert sinkhorn(x, y, 52.0 / 1.5e308, max_iters=1).eps < 1e-300  # the largest number is 1.8e308
    x = draw(4, 2).float()
    with pytest.raises(ValueError, match=r"eps = 2e-38 is too small: cost / eps overflows torch.float32 for costs up to"):
        sinkhorn(x, x + 100.0, 2e-38)


def test_an_outlier_and_a_crowd_of_duplicates_are_solved(draw):
    x = torch.cat([draw(1, 2).expand(20, 2), draw(1, 2) + 1e4])
    y = torch.cat([draw(20, 2, seed=1), draw(1, 2, seed=2) + 2e4])
    plan = sinkhorn(x, y, 0.1)
    assert plan.converged
    p = plan.log_plan.exp()
    close(p[-1, -1], torch.full_like(p[-1, -1], 1 / 21), 1e-3)
    close(p.sum(0), torch.full_like(p[0], 1 / 21), 1e-3)


@pytest.mark.parametrize("w2", [transport.eq9_sum, transport.entropic, transport.debiased, transport.exact, transport.common_noise])
def test_where_values_are_trusted_a_problem_with_nan_stays_alone(w2, draw):
    x, y = draw(3, 8, 2), draw(3, 8, 2, seed=1)
    good = w2(x, y)
    x[1, 0, 0] = math.nan
    with trusted():
        v = w2(x, y)
    assert not v[1].isfinite().all()
    close(v[[0, 2]], good[[0, 2]], 1e-9)
