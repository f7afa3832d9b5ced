import math
import statistics
from functools import partial
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import oracles
from wgf import kernels
from wgf.kernels import IMQ, RBF, squared_distances

CONVENTIONS = {"svgd": kernels.median_svgd, "full": kernels.median_full, "svpg": kernels.median_svpg}


def close(a, b, tol=1e-12):
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


# --- distances --------------------------------------------------------------------------------------------------------

AXES = [kernels.FEW, kernels.FEW + 1]  # axis by axis, and by one product


@pytest.mark.parametrize("d", AXES)
def test_distances_are_those_of_the_differences(d, draw):
    x, y = draw(3, 7, d), draw(3, 5, d, seed=1) + 2.0
    close(squared_distances(x, y), (x[:, :, None] - y[:, None]).square().sum(-1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", AXES)
def test_neither_an_offset_nor_near_duplicates_lose_digits(d, draw, dtype):
    """Products go in float64: centred values of size 1 leave an error of a few 1e-16, where float32 products would leave 1e-7.

    Axis by axis a difference, its square and d - 1 sums round by half an eps each, together less than d eps of the result.
    """
    x, eps = draw(6, d, dtype=dtype) * 1e-4, d * torch.finfo(dtype).eps
    x = torch.cat([x - 1.0, x + 1.0])  # near-duplicates far from the centre
    truth = (x.double()[:, None] - x.double()[None]).square().sum(-1)
    assert (squared_distances(x, x).double() - truth).abs().max() <= eps * truth.max() + 1e-14
    near = squared_distances(x, x)[:6, :6].double()
    assert (near - truth[:6, :6]).abs().max() < 1e-14 + eps * truth[:6, :6].max()
    far = x + 1024.0  # where float64 resolves 1e-13, and differences are 2
    truth = (far.double()[:, None] - far.double()[None]).square().sum(-1)
    assert (squared_distances(far, far).double() - truth).abs().max() < eps * truth.max() + 1e-11


def test_distances_of_a_point_to_itself_are_never_negative(draw):
    x = draw(50, 20) * 1e3
    assert (squared_distances(x, x) >= 0.0).all()
    assert squared_distances(x, x).diagonal().max() < 1e-7  # 1e-16 of |x|^2 = 2e7, twenty terms


@pytest.mark.parametrize("d", AXES)
def test_distances_pass_gradients(d, draw):
    x, y = draw(4, d).requires_grad_(), draw(5, d, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(squared_distances, (x, y))


# --- kernels ----------------------------------------------------------------------------------------------------------

KERNELS = {"rbf": (RBF, lambda r: math.exp(-r)), "imq": (IMQ, lambda r: 1.0 / math.sqrt(1.0 + r))}


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_is_its_function_of_half_the_squared_distance_in_lengthscales(kernel, draw):
    make, kappa = KERNELS[kernel]
    x, y = draw(4, 3), draw(5, 3, seed=1)
    gram, _ = make(0.7)(x, y)
    expected = [[kappa(oracles.squared(p, q) / (2.0 * 0.7**2)) for q in y] for p in x]
    close(gram, x.new_tensor(expected))


@pytest.mark.parametrize("make", [RBF, IMQ])
def test_a_kernel_is_one_on_the_diagonal_and_symmetric(make, draw):
    x = draw(9, 3)
    gram, _ = make(0.7)(x, x)
    close(gram.diagonal(), torch.ones_like(gram[0]), 1e-13)
    close(gram, gram.mT)


def test_far_pairs_stay_above_the_slow_subnormal_numbers_of_float32(draw):
    x = draw(5, 3, dtype=torch.float32)
    gram, repulsion = RBF(1e-3)(x, x)
    assert gram.min() >= torch.finfo(torch.float32).tiny
    assert repulsion(torch.ones_like(x[:, 0])).abs().max() < 1e-24  # exp(-80) / 1e-6, and four such pushes


@pytest.mark.parametrize("make", [RBF, IMQ])
def test_far_away_a_kernel_falls_to_a_number_that_divides(make, draw):
    """Blob and GFSD divide by sums of a gram matrix; r of 1e66 is inf in float32, and 1 / inf would be 0."""
    x, y = draw(3, 8, dtype=torch.float32), draw(4, 8, dtype=torch.float32) + 1e15
    gram, repulsion = make(1e-18)(x, y)
    assert (gram.reciprocal().isfinite() & (gram < 1e-30)).all()
    assert repulsion(torch.ones_like(y[:, 0])).isfinite().all()


@pytest.mark.parametrize("make", [RBF, IMQ])
def test_repulsion_is_the_weighted_sum_of_gradients_in_the_second_argument(make, draw):
    x, y, w = draw(4, 3), draw(5, 3, seed=1), draw(5, seed=2)
    _, repulsion = make(0.7)(x, y)
    for i in range(4):
        total = oracles.central_difference(lambda z, i=i: w @ make(0.7)(x[i : i + 1], z)[0][0], y)
        close(repulsion(w)[i], total.sum(0), 1e-8)  # step^2 f''' = 1e-10 * 60, rounding 1e-11


@pytest.mark.parametrize("make", [RBF, IMQ])
def test_a_lengthscale_a_problem_is_each_problem_by_itself(make, draw):
    x, y, w = draw(3, 4, 2), draw(3, 5, 2, seed=1), draw(3, 5, seed=2)
    scale = x.new_tensor([0.3, 1.0, 2.5])
    gram, repulsion = make(scale)(x, y)
    for k in range(3):
        alone, push = make(float(scale[k]))(x[k], y[k])
        close(gram[k], alone)
        close(repulsion(w)[k], push(w[k]))


@settings(deadline=None, max_examples=40)
@given(m=st.integers(1, 12), d=st.integers(1, 5), scale=st.floats(0.05, 20.0), seed=st.integers(0, 10**6), make=st.sampled_from([RBF, IMQ]))
def test_a_gram_matrix_is_positive_semidefinite(draw, m, d, scale, seed, make):
    x = draw(m, d, seed=seed)
    x = torch.cat([x, x[:1]])  # a duplicate, too
    gram, _ = make(scale)(x, x)
    assert torch.linalg.eigvalsh(gram).min() > -1e-13 * (m + 1)  # entries of size 1 in float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_repulsion_between_duplicates_is_nothing_however_short_the_lengthscale(draw, dtype):
    """Two far clusters of equal particles: the median is 0, the floor rules, and x_i - x_j = 0 wherever the kernel is not."""
    x = (draw(2, 3, dtype=dtype) * 10.0).repeat_interleave(6, 0)
    x[:5] = x[6]
    scale = kernels.median_svgd(x)
    close(scale, torch.full_like(scale, math.sqrt(0.5e-10)), 1e-6)
    _, repulsion = RBF(scale)(x, x)
    assert repulsion(torch.ones_like(x[:, 0])).abs().max() < 12 * 10 * 1e-15 / 0.5e-10  # float64 rounding over lengthscale^2


# --- medians ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["numpy", "torch"])
def selection(request, monkeypatch):
    """Medians by numpy, as on a CPU, and by torch, as on a GPU and in compiled code."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: request.param == "torch")


@pytest.mark.usefixtures("selection")
@pytest.mark.parametrize(
    "values", [[3.0], [4.0, 1.0], [5.0, 1.0, 2.0], [4.0, 1.0, 3.0, 2.0], [1.0, 1.0, 1.0, 7.0], [2.0, 2.0, 1.0, 7.0, 7.0, 9.0]]
)
def test_a_median_is_pythons(values, draw):
    assert kernels.median(draw(1).new_tensor(values)).item() == statistics.median(values)


@pytest.mark.usefixtures("selection")
@pytest.mark.parametrize("name", CONVENTIONS)
@pytest.mark.parametrize("m", [2, 3, 4, 5, 8])  # even and odd numbers of pairs and of entries
def test_each_convention_is_that_of_the_table(name, m, draw):
    x = draw(2, m, 3)
    scale = CONVENTIONS[name](x)
    for k in range(2):
        assert math.isclose(2.0 * float(scale[k]) ** 2, oracles.bandwidth(name, x[k]), rel_tol=1e-9)


@pytest.mark.parametrize(("m", "n"), [(2, 3), (3, 5), (4, 2), (5, 1)])
def test_the_cross_convention_is_that_of_the_table(m, n, draw):
    x, y = draw(2, m, 3), draw(2, n, 3, seed=1)
    scale = kernels.median_cross(x, y)
    for k in range(2):
        assert math.isclose(2.0 * float(scale[k]) ** 2, oracles.bandwidth("cross", x[k], y[k]), rel_tol=1e-9)


def test_every_kernel_has_a_name_and_is_the_rbf_of_the_median_of_that_name(draw):
    x = draw(2, 5, 3)
    assert tuple(kernels.KERNELS) == get_args(kernels.KernelName)
    assert set(kernels.KERNELS) == set(CONVENTIONS)
    for name, make in kernels.KERNELS.items():
        close(make(x)(x, x)[0], RBF(CONVENTIONS[name](x))(x, x)[0])


def test_one_particle_has_the_bandwidths_that_stand_in(draw):
    x, y = draw(1, 3), draw(1, 3, seed=1)
    cross = oracles.squared(x[0], y[0]) / math.log(2.0)
    for scale, h in (
        (kernels.median_svgd(x), 1.0),
        (kernels.median_full(x), 1e-10),
        (kernels.median_svpg(x), 1e-10),
        (kernels.median_cross(x, y), cross),
    ):
        assert math.isclose(2.0 * float(scale) ** 2, h, rel_tol=1e-9)


@pytest.mark.parametrize(
    ("f", "floor"),
    [
        (kernels.median_svgd, 1e-10),
        (kernels.median_full, 1e-10),
        (kernels.median_svpg, 1e-10),
        (lambda x, **k: kernels.median_cross(x, x, **k), 1e-3),
    ],
)
def test_identical_particles_have_the_floor_as_bandwidth(f, floor, draw):
    x = draw(1, 3).expand(6, 3)
    assert math.isclose(2.0 * float(f(x)) ** 2, floor, rel_tol=1e-9)
    assert math.isclose(2.0 * float(f(x, floor=0.02)) ** 2, 0.02, rel_tol=1e-9)
    assert math.isclose(2.0 * float(f(x[:1], floor=3.0)) ** 2, 3.0, rel_tol=1e-9)


def test_no_gradient_passes_through_a_bandwidth(draw):
    x = draw(5, 3).requires_grad_()
    for f in (*CONVENTIONS.values(), partial(kernels.median_cross, draw(4, 3))):
        assert not f(x).requires_grad
    assert not kernels.median_cross(x, x).requires_grad


def test_a_median_of_many_particles_looks_at_every_kth(monkeypatch, draw):
    x, y = draw(11, 2), draw(7, 2, seed=1)
    monkeypatch.setattr(kernels, "SUBSAMPLE", 4)  # 11 particles: every 3rd; 7: every 2nd
    for name, f in CONVENTIONS.items():
        ratio = {"svgd": math.log(4), "full": math.log(5), "svpg": math.log(5)}[name]
        h = oracles.bandwidth(name, x[::3]) * ratio / {"svgd": math.log(11), "full": math.log(12), "svpg": math.log(12)}[name]
        assert math.isclose(2.0 * float(f(x)) ** 2, h, rel_tol=1e-9)
    h = oracles.bandwidth("cross", x[::3], y[::2]) * math.log(4) / math.log(11)
    assert math.isclose(2.0 * float(kernels.median_cross(x, y)) ** 2, h, rel_tol=1e-9)


@pytest.mark.parametrize(("subsample", "block"), [(2048, 2**19), (2048, 7 * 2 * 3), (4, 2**19), (4, 7 * 2 * 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [1, kernels.FEWER, kernels.FEWER + 1])
def test_the_median_rbf_is_an_rbf_of_the_median_and_moves_by_it(subsample, block, dtype, d, monkeypatch, draw):
    """Whether the median looks at every particle or at some, and whether rows go in one block or in three, by axes or by products."""
    monkeypatch.setattr(kernels, "SUBSAMPLE", subsample)
    monkeypatch.setattr(kernels, "BLOCK", block)
    x, w, a = draw(2, 7, d, dtype=dtype) + 10.0, draw(2, 7, d, seed=1, dtype=dtype), draw(2, 3, 7, seed=2, dtype=dtype)
    before = x.clone(), w.clone()
    gram, move = kernels.median_rbf(x, w)
    lengthscale = kernels.median_svgd(x)
    tol = 4 * torch.finfo(dtype).eps * 20  # of r, which is below 20, and a few roundings
    for rows in (slice(0, 7), slice(2, 5)):
        close(gram(rows), RBF(lengthscale)(x[:, rows], x)[0], tol)
    difference = x.double()[:, 2:5, None] - x.double()[:, None]
    expected = (a.double()[..., None] * (w.double()[:, None] + difference / lengthscale.double()[:, None, None, None] ** 2)).sum(-2)
    torch.testing.assert_close(move(slice(2, 5), a).double(), expected, rtol=0.0, atol=tol * float(expected.abs().max()))
    assert torch.equal(x, before[0])
    assert torch.equal(w, before[1])


@pytest.mark.parametrize("d", [kernels.FEWER, kernels.FEWER + 1])
def test_a_pull_is_the_weighted_sum_of_differences(d, draw):
    """Around 1e6, too: centred before anything is summed, points keep all digits that they have there."""
    a = draw(2, 4, 5, seed=2)
    for offset in (0.0, 1e6):
        x, y = draw(2, 4, d) + offset, draw(2, 5, d, seed=1) + offset
        close(kernels.pull_between(x, y)(a), (a[..., None] * (x[:, :, None] - y[:, None])).sum(-2))


# --- blocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("block", "sizes"), [(1, [1] * 7), (5 * 2, [1] * 7), (5 * 2 * 3, [3, 3, 1]), (5 * 2 * 7, [7])])
def test_blocks_of_rows_cover_all_and_stay_below_the_limit(block, sizes, monkeypatch, draw):
    monkeypatch.setattr(kernels, "BLOCK", block)
    x, y = draw(2, 7, 3), draw(2, 5, 3)
    parts = [x[:, rows] for rows in kernels.row_blocks(x, y, slice(0, 7))]
    assert [p.shape[1] for p in parts] == sizes
    assert torch.equal(torch.cat(parts, 1), x)


def test_a_scale_of_no_axes_acts_as_a_number(draw):
    x = draw(2, 4, 3, dtype=torch.float32)
    gram, repulsion = RBF(torch.tensor(0.7, dtype=torch.float64))(x, x)  # on the CPU, in float64: neither is passed on
    assert torch.equal(gram, RBF(0.7)(x, x)[0])
    assert repulsion(x[..., 0]).dtype == gram.dtype == torch.float32
    assert gram.device == x.device


@pytest.mark.parametrize("m", [750, 752])  # an odd and an even number of pairs, in two blocks of rows
def test_the_median_of_many_particles_in_many_axes_is_that_of_all_pairs(draw, m):
    x = draw(m, 40)
    distances = torch.pdist(x)
    middle = distances.quantile(0.5)
    assert kernels.median_svgd(x).item() == pytest.approx((middle.square() / (2.0 * math.log(m))).sqrt().item(), rel=1e-9)
