"""Conjugate gradients against dense solves, and what they do where no solution is."""

import pytest
import torch

from wgf import trusted
from wgf.conjugate import conjugate_gradient

S, P = 4, 6
ROUNDING = 1e-15  # of a number that is divided by |b| and multiplied again


def product(a):
    return lambda v: (a @ v[..., None])[..., 0]


def positive(draw, rank=P, batch=S):
    """Symmetric matrices of that rank, eigenvalues of order 1."""
    factor = draw(batch, P, rank)
    return factor @ factor.mT


def test_it_is_the_dense_solution_after_as_many_steps_as_eigenvalues(draw):
    a, b = positive(draw) + 0.5 * torch.eye(P).to(draw(1)), draw(S, P, seed=1)
    x, residual, _ = conjugate_gradient(product(a), b, steps=2 * P)
    expected = torch.linalg.solve(a, b)
    torch.testing.assert_close(x, expected, rtol=1e-9, atol=1e-9)
    assert (residual <= 1e-10).all()
    three = torch.diag(torch.tensor([1.0, 1.0, 2.0, 2.0, 2.0, 5.0]).to(b))
    assert (conjugate_gradient(product(three), b, steps=2).residual > 1e-3).all()
    torch.testing.assert_close(conjugate_gradient(product(three), b, steps=3).x, b / three.diagonal(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_k_steps_minimise_the_quadratic_over_the_krylov_space(draw, steps):
    a, b = positive(draw), draw(S, P, seed=1)
    x, residual, _ = conjugate_gradient(product(a), b, steps=steps)
    columns = [b]
    for _ in range(steps - 1):
        columns.append(product(a)(columns[-1]))
    k = torch.stack(columns, -1)
    best = (k @ torch.linalg.solve(k.mT @ a @ k, k.mT @ b[..., None]))[..., 0]
    torch.testing.assert_close(x, best, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(residual, (b - product(a)(x)).norm(dim=-1) / b.norm(dim=-1))


def test_each_system_stops_where_its_residual_is_small_and_as_it_does_alone(draw):
    a, b = positive(draw), draw(S, P, seed=1)
    a[0], a[2] = torch.eye(P).to(b), 3.0 * torch.eye(P).to(b)  # one step each
    x, *_ = conjugate_gradient(product(a), b, steps=20, tol=1e-3)
    taken = []
    for s in range(S):
        residuals = [conjugate_gradient(product(a[s]), b[s], steps=k).residual for k in range(1, 20)]
        taken.append(1 + next(k for k, r in enumerate(residuals) if r <= 1e-3))
        torch.testing.assert_close(x[s], conjugate_gradient(product(a[s]), b[s], steps=taken[-1]).x, rtol=1e-12, atol=1e-14)
    assert taken[0] == taken[2] == 1
    assert taken[1] > 2


def test_a_zero_right_side_gives_zero_and_leaves_the_others_alone(draw):
    a, b = positive(draw), draw(S, P, seed=1)
    full = conjugate_gradient(product(a), b, steps=3).x
    b[1] = 0.0
    x, residual, _ = conjugate_gradient(product(a), b, steps=3)
    assert not x[1].any()
    assert residual[1] == 0.0
    assert torch.equal(x[[0, 2, 3]], full[[0, 2, 3]])


@pytest.mark.parametrize("rank", [3, P])
@pytest.mark.parametrize(("of_a", "of_b"), [(2.0**60, 1.0), (2.0**-60, 1.0), (1.0, 2.0**60), (1.0, 2.0**-60)])
def test_where_it_stops_does_not_depend_on_units(draw, rank, of_a, of_b):
    a, b = positive(draw, rank), draw(S, P, seed=1)
    x, residual, _ = conjugate_gradient(product(a), b, steps=8)
    scaled = conjugate_gradient(product(of_a * a), of_b * b, steps=8)  # powers of two round nothing
    assert torch.equal(scaled.x, x * of_b / of_a)
    assert torch.equal(scaled.residual, residual)


def test_a_singular_matrix_gives_the_solution_of_least_norm(draw):
    a = positive(draw, rank=3)
    b = product(a)(draw(S, P, seed=1))
    x, residual, _ = conjugate_gradient(product(a), b, steps=10)
    torch.testing.assert_close(x, (torch.linalg.pinv(a, hermitian=True) @ b[..., None])[..., 0], rtol=1e-8, atol=1e-8)
    assert (residual <= 1e-10).all()


def test_outside_the_range_it_stops_at_its_last_iterate():
    """diag(2, 1, 0), b = (1, 1, 1): steps 1 and 3 along p = (1, 1, 1) and (-1, 2, 5) / 3 by hand; then p = (0, 0, 6) has no curvature."""
    a, b = torch.diag(torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64)), torch.ones(3, dtype=torch.float64)
    for steps in (2, 3, 30):
        x, residual, _ = conjugate_gradient(product(a), b, steps=steps)
        torch.testing.assert_close(x, torch.tensor([0.0, 3.0, 6.0], dtype=torch.float64))
        torch.testing.assert_close(residual, torch.tensor(2.0**0.5, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_is_not_taken_for_curvature(draw, dtype):
    a, b = positive(draw, rank=3).to(dtype), draw(S, P, seed=1, dtype=dtype)
    x, *_ = conjugate_gradient(product(a), b, steps=40)  # a step along the null space would be of size 1 / u
    assert (x.norm(dim=-1) < 1e3 * b.norm(dim=-1) / torch.linalg.eigvalsh(a.double())[:, 3].to(dtype)).all()


@pytest.mark.parametrize("factor", [0.0, -2.0])
def test_without_curvature_it_is_the_right_side_itself(draw, factor):
    b = draw(S, P)
    torch.testing.assert_close(conjugate_gradient(lambda v: factor * v, b, steps=5).x, b, rtol=ROUNDING, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_curvature_without_an_inverse_is_none(draw, dtype):
    """The solution would be beyond every number, and nan where b is 0."""
    least, b = torch.finfo(dtype).tiny, draw(S, P, dtype=dtype).index_fill(-1, torch.tensor(2), 0.0)
    found = conjugate_gradient(lambda v: 0.1 * least * v, b, steps=5)
    torch.testing.assert_close(found.x, b, rtol=4 * torch.finfo(dtype).eps, atol=0.0)
    assert found.residual.isfinite().all()
    small = conjugate_gradient(lambda v: 4.0 * least * v, least * b, steps=5).x
    torch.testing.assert_close(small, 0.25 * b, rtol=1e-5, atol=0.0)


def test_an_indefinite_matrix_gives_a_direction_uphill(draw):
    a, b = positive(draw), draw(S, P, seed=1)
    vectors = torch.linalg.eigh(a)[1]
    a = vectors @ torch.diag_embed(torch.tensor([-3.0, -0.1, 0.2, 1.0, 2.0, 4.0]).to(b).expand(S, P)) @ vectors.mT
    for steps in range(1, 10):
        x, *_ = conjugate_gradient(product(a), b, steps=steps)
        assert ((x * b).sum(-1) > 0.0).all()


def test_nan_of_one_system_does_not_reach_the_others(draw):
    a, b = positive(draw), draw(S, P, seed=1)
    clean = conjugate_gradient(product(a), b, steps=4)
    a[1, 0, 0] = torch.nan
    found = conjugate_gradient(product(a), b, steps=4)
    assert torch.equal(found.x[[0, 2, 3]], clean.x[[0, 2, 3]])
    assert found.residual[1].isnan()
    b[1, 0] = torch.nan
    with trusted():
        found = conjugate_gradient(lambda v: v, b, steps=4)
    assert found.residual[1].isnan()
    assert not found.residual[[0, 2, 3]].any()


def test_the_residual_is_that_of_the_solution_and_not_of_the_recursion(draw):
    """Float32 and a condition of 1e6: the recursion's falls below 1e-6; x is known to u cond and its residual to u |A| |x| / |b|, 1e-3."""
    vectors = torch.linalg.qr(draw(S, 40, 40))[0]
    a = (vectors @ torch.logspace(-6.0, 0.0, 40).to(vectors).diag() @ vectors.mT).float()
    b = draw(S, 40, seed=1).float()
    x, residual, ax = conjugate_gradient(product(a), b, steps=400)
    wide, length = product(a.double())(x.double()), b.double().norm(dim=-1)
    true = (b.double() - wide).norm(dim=-1) / length
    rounding = 40 * 6e-8 * x.double().norm(dim=-1) / length  # of a product of 40 terms
    assert ((residual.double() - true).abs() <= rounding).all()
    assert (true > 1e-5).all()
    torch.testing.assert_close(ax.double(), wide, rtol=0.0, atol=float((rounding * length).max()))


def test_a_residual_that_grows_on_the_way_is_no_loss_of_curvature():
    """diag(1, 1e-12), b = (1e-6, 1): the first step takes |r| from 1 to 5e5, |p| to 2.5e11, and the second solves."""
    a, b = torch.tensor([1.0, 1e-12], dtype=torch.float64), torch.tensor([1e-6, 1.0], dtype=torch.float64)
    x = conjugate_gradient(lambda v: a * v, b, steps=2).x
    torch.testing.assert_close(x[1], b[1] / a[1], rtol=1e-3, atol=0.0)


def test_a_right_side_of_entries_far_apart_is_scaled_by_its_largest():
    b = torch.tensor([1e-37, 100.0])
    torch.testing.assert_close(conjugate_gradient(lambda v: 2.0 * v, b, steps=3).x, b / 2.0, rtol=1e-6, atol=1e-38)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_a_right_side_whose_square_is_no_number_is_solved_like_another(draw, size):
    """The square of 1e-30 is 0 in float32, that of 1e30 infinite."""
    a, b = positive(draw).float(), draw(S, P, seed=1).float()
    with trusted():  # of 1e30 a distance would be no number, which is refused elsewhere
        found, x = conjugate_gradient(product(a), size * b, steps=3), conjugate_gradient(product(a), b, steps=3)
    torch.testing.assert_close(found.x / size, x.x, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.residual, x.residual, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found.product / size, product(a)(x.x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_goes_on_to_the_rounding_of_its_dtype_where_no_tolerance_is_given(draw, dtype):
    """A condition of 10: 90 steps leave at most 2 cond^(1/2) ((cond^(1/2) - 1) / (cond^(1/2) + 1))^90 < 1e-24."""
    a, b = torch.diag(torch.linspace(1.0, 10.0, 200)).to(draw(1)).to(dtype), draw(S, 200, seed=1, dtype=dtype)
    unit, calls = 16.0 * torch.finfo(dtype).eps, []
    found = conjugate_gradient(lambda v: calls.append(1) or product(a)(v), b, steps=90)
    assert (found.residual <= 2.0 * unit).all()
    assert len(calls) == 91  # all the same: what has stopped stays
    assert torch.equal(found.x, conjugate_gradient(product(a), b, steps=90, tol=unit).x)
    assert (conjugate_gradient(product(a), b, steps=90, tol=1e3 * unit).residual > 2.0 * unit).all()


def test_a_bad_right_side_is_refused():
    with pytest.raises(ValueError, match="b holds 1 non-finite values of 2; all must be finite"):
        conjugate_gradient(lambda v: v, torch.tensor([1.0, torch.inf]), steps=1)
    with pytest.raises(ValueError, match="steps is 0; allowed is a whole number of at least 1"):
        conjugate_gradient(lambda v: v, torch.ones(2), steps=0)
