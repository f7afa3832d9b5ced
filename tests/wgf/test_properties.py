"""What holds for every cloud of particles: symmetries, scaling laws, stacks, mass, and numbers of any size."""

import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.answers import answered
from wgf import flow, kernels, svgd, transport
from wgf.transport import sinkhorn


class Law(NamedTuple):
    """A function of a cloud and of another cloud (or of scores at the first), and how what it returns changes with its units.

    ``returns``: a number, a matrix or a vector for each particle of the first cloud. ``power``: of the unit of length.
    """

    of: object
    returns: str
    power: float
    scores: bool = False
    close: float = 1e-9


def drifting(x, score):
    return flow.velocity(x, score, x[..., :1, :], scale=0.7, kl=svgd.gfsd, w2=transport.eq9_mean)


def stepped(x, y):
    return flow.jko(lambda z: -z, h=0.5, lr=0.1, inner_steps=2).step(flow.State(x, y)).x


SOLVED = 2e-2  # of a cost whose plan stops at a gap of 1e-3: rounding may stop it an iteration earlier or later
LAWS = {
    "squared_distances": Law(kernels.squared_distances, "matrix", 2.0),
    "rbf": Law(lambda x, y: kernels.RBF(kernels.median_cross(x, y))(x, y)[0], "matrix", 0.0),
    "imq": Law(lambda x, y: kernels.IMQ(kernels.median_cross(x, y))(x, y)[0], "matrix", 0.0),
    "repulsion": Law(lambda x, y: kernels.RBF(kernels.median_svgd(x))(x, y)[1](torch.ones_like(y[..., 0])), "vectors", -1.0),
    "median_svgd": Law(lambda x, y: kernels.median_svgd(x), "number", 1.0),
    "median_full": Law(lambda x, y: kernels.median_full(x), "number", 1.0),
    "median_svpg": Law(lambda x, y: kernels.median_svpg(x), "number", 1.0),
    "median_cross": Law(kernels.median_cross, "number", 1.0),
    "median_lam": Law(transport.median_lam, "number", 2.0),
    "svgd": Law(svgd.velocity, "vectors", -1.0, scores=True),
    "unbiased": Law(svgd.unbiased, "vectors", -1.0, scores=True),
    "blob": Law(svgd.blob, "vectors", -1.0, scores=True),
    "gfsd": Law(svgd.gfsd, "vectors", -1.0, scores=True),
    "langevin": Law(lambda x, score: svgd.langevin(score, 2.0 * score, lr=0.1), "vectors", -1.0, scores=True),
    "entropic_cost": Law(lambda x, y: transport.entropic_cost(x, y, transport.median_lam(x, y)), "number", 2.0, close=SOLVED),
    "sinkhorn_divergence": Law(lambda x, y: transport.sinkhorn_divergence(x, y, transport.median_lam(x, y)), "number", 2.0, close=SOLVED),
    "exact_cost": Law(transport.exact_cost, "number", 2.0),
    "eq9_sum": Law(transport.eq9_sum, "vectors", 1.0),
    "eq9_mean": Law(transport.eq9_mean, "vectors", 1.0),
    "entropic": Law(transport.entropic, "vectors", 1.0, close=SOLVED),
    "debiased": Law(transport.debiased, "vectors", 1.0, close=SOLVED),
    "exact": Law(transport.exact, "vectors", 1.0),
    "common_noise": Law(transport.common_noise, "vectors", 1.0),
}
FUNCTIONS = {**{name: law.of for name, law in LAWS.items()}, "flow": drifting, "jko": stepped}


@st.composite
def clouds(draw, lead=(), least=2):
    """Two clouds of equally many particles, (*lead, M, d) in float64, in few or in many axes."""
    m, d, seed = draw(st.integers(least, 6)), draw(st.sampled_from([1, 2, 3, 4, 7, 8])), draw(st.integers(0, 10**6))
    return torch.randn(2, *lead, m, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).unbind(0)


def agree(a, b, close):
    size = float(torch.maximum(a.abs().amax(), b.abs().amax()))
    torch.testing.assert_close(a, b, rtol=0.0, atol=close * max(size, 1e-12))


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@given(given_clouds=clouds(), seed=st.integers(0, 10**6), scale=st.floats(0.2, 5.0))
def test_the_order_of_particles_the_origin_the_axes_and_the_unit_mean_nothing(law, given_clouds, seed, scale):
    """Both clouds reordered, turned, moved and measured in another unit; scores, which are slopes, by the inverse unit and not moved."""
    x, y = given_clouds
    random = torch.Generator().manual_seed(seed)
    order, turn = torch.randperm(len(x), generator=random), torch.linalg.qr(torch.randn(2 * [x.shape[1]], generator=random).double())[0]
    shift = 3.0 * torch.randn(x.shape[1], generator=random).double()
    there = scale * x[order] @ turn + shift, (y[order] @ turn / scale if law.scores else scale * y[order] @ turn + shift)
    expected = law.of(x, y) * scale**law.power
    expected = {"number": lambda t: t, "matrix": lambda t: t[order][:, order], "vectors": lambda t: t[order] @ turn}[law.returns](expected)
    agree(law.of(*there), expected, law.close)


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=5)
@given(given_clouds=clouds(lead=(2, 3), least=1))
def test_leading_axes_are_a_loop(name, given_clouds):
    x, y = given_clouds
    whole = FUNCTIONS[name](x, y)
    for i in range(2):
        for j in range(3):
            agree(whole[i, j], FUNCTIONS[name](x[i, j], y[i, j]), 1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=5)
@given(given_clouds=clouds(least=1))
def test_float32_keeps_its_dtype_and_is_float64_but_for_rounding(name, given_clouds):
    """Inputs that float32 holds. Differences, divided by their median, lose some of 6e-8; a plan that stops later moves by its gap."""
    x, y = (t.float() for t in given_clouds)
    found, truth = FUNCTIONS[name](x, y), FUNCTIONS[name](x.double(), y.double())
    assert found.dtype == torch.float32
    agree(found.double(), truth, SOLVED if name in ("jko", "entropic_cost", "sinkhorn_divergence", "entropic", "debiased") else 1e-5)


def planned(x, y, eps):
    plan = sinkhorn(x, y, eps)
    return torch.cat([t.flatten() for t in (plan.f, plan.g, plan.gap, plan.barycentre, plan.value)])


SIZES = [0.0, 1e-40, 1e-30, 1e-19, 1e-8, 1.0, 1e8, 1e15, 1e18]
SHAPES = {
    "spread": lambda x: x,
    "one point": lambda x: x[:1].expand_as(x),
    "pairs": lambda x: x[torch.arange(len(x)) // 2],
    "one far": lambda x: torch.cat([x[:1], 1e-15 * x[1:]]),
    "far away": lambda x: x * 1e-6 + 1.0,
}
SCALED = {
    "rbf": lambda x, y, s: kernels.RBF(s)(x, y)[0],
    "imq": lambda x, y, s: kernels.IMQ(s)(x, y)[0],
    "rbf's repulsion": lambda x, y, s: kernels.RBF(s)(x, y)[1](torch.ones_like(y[..., 0])),
    "imq's repulsion": lambda x, y, s: kernels.IMQ(s)(x, y)[1](torch.ones_like(y[..., 0])),
    "blob": lambda x, y, s: svgd.blob(x, y, kernels.RBF(s)),
    "gfsd": lambda x, y, s: svgd.gfsd(x, y, kernels.IMQ(s)),
    "sinkhorn": planned,
    "entropic_cost": transport.entropic_cost,
    "sinkhorn_divergence": transport.sinkhorn_divergence,
    "eq9_sum": transport.eq9_sum,
    "eq9_mean": transport.eq9_mean,
    "entropic": transport.entropic,
    "debiased": transport.debiased,
}
SIZED = {"dtype": st.sampled_from([torch.float32, torch.float64]), "sizes": st.tuples(*[st.sampled_from(SIZES)] * 2)}
SHAPED = {"shapes": st.tuples(*[st.sampled_from(sorted(SHAPES))] * 2)}


def finite(function, *args):
    """The function answers in finite numbers, or by a ValueError of one line that names an argument."""
    found, said = answered(function, *args)
    if said is None:
        assert found.isfinite().all()
    else:
        assert "\n" not in said
        assert said.split()[0] in ("x", "y", "x_prev", "score", "noise", "eps", "lam", "lengthscale")


@pytest.mark.filterwarnings("ignore:entropic transport")
@pytest.mark.parametrize("name", FUNCTIONS)
@given(given_clouds=clouds(least=1), **SIZED, **SHAPED)
def test_clouds_of_any_size_give_finite_numbers_or_a_word(name, given_clouds, dtype, sizes, shapes):
    x, y = (SHAPES[shape](size * t).to(dtype) for t, size, shape in zip(given_clouds, sizes, shapes, strict=True))
    finite(FUNCTIONS[name], x, y)


@pytest.mark.filterwarnings("ignore:entropic transport")
@pytest.mark.parametrize("name", SCALED)
@settings(max_examples=20)
@given(
    given_clouds=clouds(least=1), **SIZED, **SHAPED, scale=st.sampled_from([1e-300, 1e-60, 1e-38, 1e-18, 1e-8, 1.0, 1e8, 1e18, 1e38, 1e60])
)
def test_scales_of_any_size_give_finite_numbers_or_a_word(name, given_clouds, dtype, sizes, shapes, scale):
    x, y = (SHAPES[shape](size * t).to(dtype) for t, size, shape in zip(given_clouds, sizes, shapes, strict=True))
    finite(SCALED[name], x, y, scale)


# --- transport --------------------------------------------------------------------------------------------------------


def weights(seed, *shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.05


@given(given_clouds=clouds(), n=st.integers(1, 6), seed=st.integers(0, 10**6), eps=st.floats(0.5, 20.0))
def test_a_plan_carries_all_mass_from_the_rows_to_the_columns(given_clouds, n, seed, eps):
    x, y = given_clouds[0], given_clouds[1][:n]
    a, b = weights(seed, len(x)), weights(seed + 1, len(y))
    plan = sinkhorn(x, y, eps, a=a, b=b, tol=1e-8, max_iters=3_000)
    assume(bool(plan.converged))
    mass = plan.log_plan.exp()
    agree(mass.sum(1), a / a.sum(), 1e-12)
    assert (mass.sum(0) - b / b.sum()).abs().sum().item() <= 1e-8 + 1e-12
    agree(mass.mT @ torch.ones_like(a), plan.turned.log_plan.exp() @ torch.ones_like(a), 1e-12)


@given(given_clouds=clouds(), eps=st.floats(0.5, 5.0), seed=st.integers(0, 10**6))
def test_a_particle_may_be_two_of_half_the_weight(given_clouds, eps, seed):
    x, y = given_clouds
    a, twice = weights(seed, len(x)), torch.arange(2 * len(x)) // 2
    one = sinkhorn(x, y, eps, a=a, tol=1e-10, max_iters=3_000)
    two = sinkhorn(x[twice], y[twice], eps, a=0.5 * a[twice], tol=1e-10, max_iters=3_000)
    assume(bool(one.converged & two.converged))
    agree(two.value, one.value, 1e-7)
    agree(two.barycentre, one.barycentre[twice], 1e-7)
    agree(transport.exact_cost(x[twice], y[twice], a=0.5 * a[twice]), transport.exact_cost(x, y, a=a), 1e-9)


@given(given_clouds=clouds(), third=clouds(), seed=st.integers(0, 10**6))
def test_the_root_of_the_exact_cost_is_a_metric(given_clouds, third, seed):
    (x, y), z = given_clouds, third[0]
    assume(x.shape[1] == z.shape[1])
    a, b, c = weights(seed, len(x)), weights(seed + 1, len(y)), weights(seed + 2, len(z))
    there, back = transport.exact_cost(x, y, a=a, b=b), transport.exact_cost(y, x, a=b, b=a)
    agree(there, back, 1e-9)
    around = transport.exact_cost(x, z, a=a, b=c).sqrt() + transport.exact_cost(z, y, a=c, b=b).sqrt()
    assert 0.0 < there.sqrt() <= around + 1e-9
    assert transport.exact_cost(x, x.flip(0), a=a, b=a.flip(0)).abs() < 1e-9


@given(given_clouds=clouds(), eps=st.floats(0.5, 5.0), more=st.floats(1.1, 10.0))
def test_the_entropic_cost_is_symmetric_grows_with_eps_and_its_divergence_is_not_negative(given_clouds, eps, more):
    """<c, P> + eps KL grows with eps for every P, and so does its least; the tolerance is a gap of 1e-9 times the potentials."""
    x, y = given_clouds

    def cost(x, y, eps):
        plan = sinkhorn(x, y, eps, tol=1e-9, max_iters=3_000)
        assume(bool(plan.converged))
        return plan.value

    there = cost(x, y, eps)
    agree(there, cost(y, x, eps), 1e-6)
    assert there <= cost(x, y, more * eps) + 1e-6
    assert transport.exact_cost(x, y) <= there + 1e-6
    assert there - 0.5 * cost(x, x, eps) - 0.5 * cost(y, y, eps) > -1e-6


@given(given_clouds=clouds(), name=st.sampled_from(["common_noise", "exact"]))
def test_a_whole_displacement_arrives_and_costs_what_it_says(given_clouds, name):
    x, y = given_clouds
    v = transport.VELOCITIES[name](x, y)
    arrived = x + v
    assert sorted(map(tuple, arrived.round(decimals=9).tolist())) == sorted(map(tuple, y.round(decimals=9).tolist()))
    cost = v.square().sum(-1).mean()
    assert cost >= transport.exact_cost(x, y) - 1e-9
    assert name != "exact" or math.isclose(cost, transport.exact_cost(x, y), rel_tol=1e-9)


@given(given_clouds=clouds(), far=st.floats(1e2, 1e12))
def test_from_far_away_eq_9_feels_nothing(given_clouds, far):
    """(1 - c / lam) exp(-c / lam) |x - y| at c of 1e4 lam and more is below any number; exponents are held at -60."""
    x, y = given_clouds
    assert transport.eq9_sum(far * (2.0 + x.abs()), -far * y.abs(), 1.0).abs().max() < 60.0 * math.exp(-60.0) * 100.0 * far * len(x)
