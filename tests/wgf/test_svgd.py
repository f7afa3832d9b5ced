import math

import pytest
import torch

from tests import oracles
from tests.oracles import linear
from wgf import kernels, svgd, transport
from wgf.kernels import IMQ, RBF

VELOCITIES = {"svgd": svgd.velocity, "blob": svgd.blob, "gfsd": svgd.gfsd}
DRAWS = {
    "unbiased": svgd.unbiased,
    "given": lambda x, s: svgd.unbiased(x, s, RBF(kernels.median_svgd(x))),
    "grouped": lambda x, s: svgd.unbiased(x, s, groups=math.gcd(x.shape[-2], 3)),
}
each = pytest.mark.parametrize("velocity", VELOCITIES.values(), ids=VELOCITIES)


def close(a, b, tol=1e-12):
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


def rbf(h):
    """exp(-|x - y|^2 / h)."""
    return RBF(math.sqrt(h / 2.0))


@each
def test_one_particle_follows_the_score(velocity, draw):
    x, score = draw(3, 1, 4), draw(3, 1, 4, seed=1)
    for kernel in (None, RBF(0.3), IMQ(0.3)):
        close(velocity(x, score, kernel), score)


@pytest.mark.parametrize("m", [3, 4, 20])
@pytest.mark.parametrize("scale", [0.0, 0.4, 10.0])
def test_a_simplex_of_squared_radius_log_m_rests_in_a_gaussian_and_eq_9_shrinks_it(m, scale, draw):
    corners = torch.eye(m, dtype=draw(1).dtype) - 1.0 / m  # in m - 1 dimensions of m + 2
    corners = torch.cat([corners, corners.new_zeros(m, 2)], -1)
    square = math.log(m) / (1.0 + 2.0 * scale * (math.log(m) - 1.0) * m / (m - 1))
    x = corners * math.sqrt(square / (1.0 - 1.0 / m))

    def rest(x):
        return svgd.velocity(x, -x) + scale * transport.eq9_mean(x, x)

    close(rest(x), torch.zeros_like(x))
    assert ((rest(1.01 * x) * x).sum(-1) < 0.0).all()
    assert ((rest(0.99 * x) * x).sum(-1) > 0.0).all()


@each
def test_two_particles_by_hand(velocity, draw):
    """At -1 and 1 with h = 4: k = exp(-1), grad_{x_2} k(x_2, x_1) = (2/4) (x_1 - x_2) k = -k, away from each other."""
    x, score = draw(1).new_tensor([[-1.0], [1.0]]), draw(1).new_tensor([[5.0], [7.0]])
    k = math.exp(-1.0)
    first, second = {
        svgd.velocity: ((5.0 + 7.0 * k - k) / 2.0, (7.0 + 5.0 * k + k) / 2.0),
        svgd.blob: (5.0 - 2.0 * k / (1.0 + k), 7.0 + 2.0 * k / (1.0 + k)),
        svgd.gfsd: (5.0 - k / (1.0 + k), 7.0 + k / (1.0 + k)),
    }[velocity]
    close(velocity(x, score, rbf(4.0)), x.new_tensor([[first], [second]]))


def test_svgd_is_the_double_loop_of_eq_7(draw):
    x, score = draw(6, 3), draw(6, 3, seed=1)
    close(svgd.velocity(x, score, rbf(1.3)), oracles.rbf_velocity(x, score, 1.3))


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_unbiased_is_the_double_loop_over_the_others_each_weighted_as_its_component(groups, draw):
    """Weight 1/M for draws of other groups, 1 / (groups (m - 1)) for others of the own; a group of one keeps its own term."""
    x, score = draw(6, 3), draw(6, 3, seed=1)
    m, h = 6 // groups, oracles.bandwidth("svgd", x)
    expected = torch.zeros_like(x)
    for i in range(6):
        for j in range(6):
            k = math.exp(-oracles.squared(x[i], x[j]) / h)
            own = (0.0 if i == j else 1.0 / (groups * (m - 1))) if m > 1 else 1.0 / 6.0
            weight = own if i // m == j // m else 1.0 / 6.0
            expected[i] += weight * (k * score[j] + (2.0 / h) * (x[i] - x[j]) * k)
    close(svgd.unbiased(x, score, groups=groups), expected)
    close(svgd.unbiased(x, score, rbf(h), groups=groups), expected)


@pytest.mark.parametrize("groups", [1, 2])
def test_unbiased_takes_any_kernel_of_the_distance(groups, draw):
    """IMQ, one pair after another: the slope in x_j by central differences."""
    x, score = draw(6, 3), draw(6, 3, seed=1)
    m, kernel, expected = 6 // groups, IMQ(0.9), torch.zeros_like(x)
    for i in range(6):
        for j in set(range(6)) - {i}:
            weight = 1.0 / (groups * (m - 1)) if i // m == j // m else 1.0 / 6.0
            slope = oracles.central_difference(lambda z, i=i: kernel(x[i : i + 1], z)[0].sum(), x[j : j + 1])[0]
            expected[i] += weight * (kernel(x[i : i + 1], x[j : j + 1])[0][0, 0] * score[j] + slope)
    close(svgd.unbiased(x, score, kernel, groups=groups), expected, 1e-9)
    stack, scores = torch.stack([x, 2.0 * x]), torch.stack([score, score])
    scales = x.new_tensor([0.9, 1.8])
    found = svgd.unbiased(stack, scores, IMQ(scales), groups=groups)
    close(found[0], expected, 1e-9)
    close(found[1], svgd.unbiased(2.0 * x, score, IMQ(1.8), groups=groups))


def test_groups_divide_the_particles(draw):
    with pytest.raises(ValueError, match="groups is 4; allowed is a divisor of the 6 particles"):
        svgd.unbiased(draw(6, 3), draw(6, 3), groups=4)


@pytest.mark.parametrize("velocity", DRAWS.values(), ids=DRAWS)
def test_draws_keep_the_symmetries_of_svgd(velocity, monkeypatch, draw):
    x, score = draw(2, 6, 3), draw(2, 6, 3, seed=1)
    v = velocity(x, score)
    close(velocity(x + 100.0, score), v, 1e-10)
    close(v[1], velocity(x[1], score[1]))
    close(velocity(x[:, :1], score[:, :1]), score[:, :1])
    monkeypatch.setattr(kernels, "BLOCK", 20)
    close(velocity(x, score), v)
    monkeypatch.setattr(kernels, "SUBSAMPLE", 5)  # every second particle
    some = velocity(x, score)
    monkeypatch.setattr(kernels, "BLOCK", 2**19)
    close(velocity(x, score), some)
    assert (some - v).abs().max() > 1e-3


@pytest.mark.parametrize("velocity", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_at_the_extremes_are_finite_and_keep_their_dtype(velocity, dtype, draw):
    for d in (1, 100, 10_000):
        x = draw(6, d, dtype=dtype)
        for cloud in (x, x[:1], x[:2], x[:1].expand(6, d), torch.cat([x[:1]] * 5 + [x[1:2]]), 1e4 * x, 1e-4 * x, x + 1e3):
            v = velocity(cloud, -cloud)
            assert v.isfinite().all()
            assert (v.dtype, v.shape) == (dtype, cloud.shape)


def test_blob_and_gfsd_are_the_formulas_of_the_papers(draw):
    x, score = draw(6, 3), draw(6, 3, seed=1)
    close(svgd.blob(x, score, rbf(1.3)), oracles.blob(x, score, 1.3))
    close(svgd.gfsd(x, score, rbf(1.3)), oracles.blob(x, score, 1.3, both=False))


def test_gfsd_descends_the_log_density_of_the_smoothed_particles(draw):
    x, score = draw(6, 3), draw(6, 3, seed=1)
    for kernel in (RBF(0.9), IMQ(0.9)):
        v = svgd.gfsd(x, score, kernel)
        for i in range(6):
            gradient = oracles.central_difference(lambda z, k=kernel: k(z, x)[0].sum().log(), x[i : i + 1])
            close(v[i], score[i] - gradient[0], 1e-8)


@each
def test_without_a_kernel_the_bandwidth_is_the_papers_median(velocity, draw):
    x, score = draw(5, 3), draw(5, 3, seed=1)
    close(velocity(x, score), velocity(x, score, rbf(oracles.bandwidth("svgd", x))), 1e-10)


def test_svgd_with_the_median_of_some_particles_is_svgd_with_that_bandwidth(monkeypatch, draw):
    x, score = draw(2, 7, 3), draw(2, 7, 3, seed=1)
    monkeypatch.setattr(kernels, "SUBSAMPLE", 4)
    close(svgd.velocity(x, score), svgd.velocity(x, score, RBF(kernels.median_svgd(x))))


def test_gradients_pass_through_svgd_as_with_a_given_bandwidth(draw):
    x, score = draw(5, 3).requires_grad_(), draw(5, 3, seed=1).requires_grad_()
    kernel = RBF(kernels.median_svgd(x))
    ours, given = (torch.autograd.grad(svgd.velocity(x, score, k).square().sum(), (x, score)) for k in (None, kernel))
    close(ours, given)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_duplicates_do_not_repel_each_other_by_rounding(draw, dtype):
    """Two far clusters of equal particles have the floor as bandwidth: h = 1e-10, and float64 rounding over h / 2 is all that is left."""
    x = (draw(2, 3, dtype=dtype) * 10.0).repeat_interleave(6, 0)
    x[:5] = x[6]
    assert svgd.velocity(x, torch.zeros_like(x)).abs().max() < 10 * 1e-15 / 0.5e-10


@each
def test_translation_moves_nothing_and_permutation_permutes(velocity, draw):
    x, score = draw(7, 3), draw(7, 3, seed=1)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0)).to(x.device)
    v = velocity(x, score)
    close(velocity(x + 100.0, score), v, 1e-10)  # 100 loses two of sixteen digits, the square two more
    close(velocity(x[order], score[order]), v[order])


@each
def test_a_stack_is_each_problem_by_itself(velocity, draw):
    x, score = draw(2, 3, 5, 4), draw(2, 3, 5, 4, seed=1)
    v = velocity(x, score)
    for i in range(2):
        for j in range(3):
            close(v[i, j], velocity(x[i, j], score[i, j]))


@each
@pytest.mark.parametrize("block", [1, 20])
def test_blocks_of_rows_change_nothing(velocity, block, monkeypatch, draw):
    x, score = draw(2, 7, 3), draw(2, 7, 3, seed=1)
    whole = velocity(x, score)
    monkeypatch.setattr(kernels, "BLOCK", block)
    close(velocity(x, score), whole)


def moments(x):
    return x.mean(0), torch.cov(x.mT, correction=0)


def test_with_the_kernel_of_mean_and_covariance_the_fixed_point_has_the_targets(draw):
    """phi_i = E[score] + x_i E[x score]^T + x_i vanishes for all i iff E[score] = 0 and E[x score^T] = -I: Cov = Cov_p."""
    mean, root = draw(2, seed=3), draw(2, 2, seed=4) * 0.5 + 1.5 * torch.eye(2).to(draw(1))
    cov = root @ root.mT
    x = draw(8, 2)
    for _ in range(3000):
        x = x + 0.02 * svgd.velocity(x, (mean - x) @ torch.linalg.inv(cov), linear)
    close(moments(x)[0], mean, 1e-8)
    close(moments(x)[1], cov, 1e-8)
    assert svgd.velocity(x, (mean - x) @ torch.linalg.inv(cov), linear).abs().max() < 1e-8


def test_svgd_lowers_the_divergence_at_the_rate_of_its_own_discrepancy(draw):
    """For k = x . y + 1 and a cloud seen as a Gaussian, d KL / dt = -<phi, score - grad log q> < 0, here by a small step."""
    x = 1.5 * draw(9, 2) + 1.0

    def divergence(x):
        mean, cov = moments(x)
        return 0.5 * (cov.trace() + mean.square().sum() - cov.logdet())

    v = svgd.velocity(x, -x, linear)
    mean, cov = moments(x)
    force = -x + (x - mean) @ torch.linalg.inv(cov)  # score - grad log q
    slope = -(v * force).sum(-1).mean()
    rate = (divergence(x + 1e-5 * v) - divergence(x - 1e-5 * v)) / 2e-5
    close(rate, slope, 1e-7)
    assert slope < 0.0


def test_a_langevin_step_is_the_score_and_noise_of_variance_two_lr(draw):
    x, score, noise = draw(5, 3), draw(5, 3, seed=1), draw(5, 3, seed=2)
    close(x + 0.01 * svgd.langevin(score, noise, lr=0.01), x + 0.01 * score + math.sqrt(0.02) * noise)


def test_langevin_leaves_the_standard_normal_with_the_variance_of_its_recursion(draw):
    """x' = (1 - lr) x + sqrt(2 lr) xi has the variance (1 - lr)^2 + 2 lr = 1 + lr^2; standard error sqrt(2 / n) of it."""
    n, lr = 100_000, 0.1
    x = draw(n, 1)
    y = x + lr * svgd.langevin(-x, draw(n, 1, seed=1), lr=lr)
    assert abs(float(y.var()) - (1.0 + lr**2)) < 4.0 * math.sqrt(2.0 / n) * (1.0 + lr**2)
    assert abs(float(y.mean())) < 4.0 * math.sqrt((1.0 + lr**2) / n)


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [1, 100, 10_000])
def test_extremes_are_finite_and_keep_their_dtype_and_device(velocity, dtype, d, draw):
    x = draw(6, d, dtype=dtype)
    for cloud in (x, x[:1], x[:2], x[:1].expand(6, d), torch.cat([x[:1]] * 5 + [x[1:2]]), 1e4 * x, 1e-4 * x, x + 1e3):
        for kernel in (None, RBF(1e-4), IMQ(1e4)):
            v = velocity(cloud, -cloud, kernel)
            assert v.isfinite().all()
            assert (v.dtype, v.device, v.shape) == (dtype, x.device, cloud.shape)


@each
def test_float32_agrees_with_float64_on_duplicates_and_offsets(velocity, draw):
    x = torch.cat([draw(4, 3)] * 2).float() + 1000.0  # float32 resolves 6e-5 there; both get the same numbers
    score = draw(8, 3, seed=1).float()
    wide = velocity(x.double(), score.double())
    close(velocity(x, score).double(), wide, 1e-5 * float(wide.abs().max()))
