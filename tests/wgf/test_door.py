import math

import numpy as np
import pytest
import torch

import wgf
from wgf import conjugate, diagnostics, flow, kernels, mlp, natural, projection, svgd, transport
from wgf.door import door

CLOUDS = {  # every public function of two clouds, with what else it needs
    "squared_distances": kernels.squared_distances,
    "RBF": kernels.RBF(1.0),
    "IMQ": kernels.IMQ(1.0),
    "median_cross": kernels.median_cross,
    "svgd": svgd.velocity,
    "unbiased": svgd.unbiased,
    "blob": svgd.blob,
    "gfsd": svgd.gfsd,
    "langevin": lambda x, y: svgd.langevin(x, y, lr=0.1),
    "sinkhorn": lambda x, y: transport.sinkhorn(x, y, 1.0),
    "entropic_cost": lambda x, y: transport.entropic_cost(x, y, 1.0),
    "sinkhorn_divergence": lambda x, y: transport.sinkhorn_divergence(x, y, 1.0),
    "exact_cost": transport.exact_cost,
    "median_lam": transport.median_lam,
    "eq9_sum": transport.eq9_sum,
    "eq9_mean": transport.eq9_mean,
    "entropic": transport.entropic,
    "debiased": transport.debiased,
    "exact": transport.exact,
    "common_noise": transport.common_noise,
    "flow": lambda x, y: flow.velocity(x, x, y, scale=1.0),
    "ksd": diagnostics.ksd,
    "squared_ksd": diagnostics.squared_ksd,
    "jko": lambda x, y: flow.jko(lambda _: y, h=1.0, lr=0.1, inner_steps=1).step(flow.State(x, x)),
}
SCALES = {
    "sinkhorn": transport.sinkhorn,
    "entropic_cost": transport.entropic_cost,
    "sinkhorn_divergence": transport.sinkhorn_divergence,
    "eq9_sum": transport.eq9_sum,
    "eq9_mean": transport.eq9_mean,
    "entropic": transport.entropic,
    "debiased": transport.debiased,
    "RBF": lambda x, y, s: kernels.RBF(s)(x, y),
    "IMQ": lambda x, y, s: kernels.IMQ(s)(x, y),
}
MEDIANS = [kernels.median_svgd, kernels.median_full, kernels.median_svpg]


def refused(function, *args, says, **kwargs):
    with pytest.raises(ValueError, match=says) as error:
        function(*args, **kwargs)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("f", CLOUDS.values(), ids=CLOUDS)
def test_a_wrong_dimension_type_device_or_value_is_named(f, draw):
    x = draw(4, 2)
    refused(f, x, draw(4, 3), says=r"has shape \(4, 3\); allowed is \(\*b, \w, d\) with .*d = 2")
    refused(f, x, draw(3, 4, 2), says=r"has shape \(3, 4, 2\); allowed is .*\*b = \(\)")
    refused(f, x, draw(2), says=r"has shape \(2,\); allowed is \(\*b, \w, d\)")
    refused(f, x, x.float(), says="has dtype torch.float32 but x has torch.float64|but score has torch.float64")
    refused(f, x.int(), x.int(), says="has dtype torch.int32; float32 and float64 are allowed")
    refused(f, x, x.tolist(), says="is a list; pass a torch tensor")
    refused(f, x, x.to("meta"), says="is on meta but")
    refused(f, x, x[:0], says=r"has shape \(0, 2\)")
    refused(f, x, x.new_tensor([[1.0, 2.0], [math.nan, math.inf], [3.0, 4.0], [5.0, 6.0]]), says="2 non-finite values of 8")
    refused(f, x, x.index_fill(0, torch.tensor(1).to(x.device), math.inf), says="2 non-finite values of 8")
    for huge in (1e200, -1e200):
        y = x.index_fill(0, torch.tensor(1).to(x.device), huge)
        refused(f, x, y, says=r"value of size 1e\+200; squared distances overflow torch.float64 beyond 2.*e\+153")


@pytest.mark.parametrize("f", MEDIANS)
def test_a_median_names_a_bad_cloud(f, draw):
    refused(f, draw(3), says=r"x has shape \(3,\); allowed is \(\*b, M, d\) with any sizes")
    refused(f, draw(3, 2) * math.nan, says="x holds 6 non-finite values of 6")
    refused(f, draw(3, 2), floor=0.0, says="floor is 0.0; allowed is a positive, finite number")
    refused(f, draw(0, 2), says="every axis needs at least one entry")


@pytest.mark.parametrize("f", SCALES.values(), ids=SCALES)
def test_a_scale_is_positive_finite_and_one_a_problem(f, draw):
    x, y = draw(5, 4, 2), draw(5, 4, 2, seed=1)
    for bad in (0.0, -1.0, math.nan, math.inf, "1"):
        refused(f, x, y, bad, says=r"(eps|lam|lengthscale) is \S+; allowed is a positive, finite number, or a tensor of one a batch entry")
    refused(f, x, y, x.new_tensor([1.0, 1.0, -2.0, 1.0, 3.0]), says="holds values from -2 to 3; allowed is a positive")
    refused(f, x, y, x.new_tensor([1.0, 1.0, math.inf, 1.0, 3.0]), says="holds values from 1 to inf")
    for shape in ((4,), (2, 5), (5, 1), (5, 4, 2)):
        refused(f, x, y, x.new_ones(shape), says=r"has shape \(.*\); allowed is .* a batch entry, \(5,\)")
    refused(f, x, y, x.new_ones(5).float(), says="has dtype torch.float32 but x has torch.float64")
    refused(f, x, y, x.new_ones(5).to("meta"), says="is on meta but x is on")
    for good in (1, 1.0, torch.tensor(1.0), x.new_ones(1), x.new_ones(5)):
        f(x, y, good)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("f", SCALES.values(), ids=SCALES)
def test_a_scale_is_one_that_the_tensors_dtype_holds(f, dtype, draw):
    """A lengthscale's square too: below, a gram matrix of particles that coincide would be 0 / 0."""
    x, power = draw(4, 2, dtype=dtype), 2.0 if f in (SCALES["RBF"], SCALES["IMQ"]) else 1.0
    least, most = torch.finfo(dtype).tiny ** (1.0 / power), (torch.finfo(dtype).max / 2.0) ** (1.0 / power)
    for bad in (0.9 * least, 1.1 * most):
        refused(f, x, x, bad, says=rf"(eps|lam|lengthscale) is \S+; allowed in {dtype} is a number from \S+ to \S+$")
        refused(f, x, x, torch.tensor(bad, dtype=torch.float64), says=rf"holds values from \S+ to \S+; allowed .* in {dtype}$")
    for scale in (1.1 * least, 0.9 * most):
        f(x * 0.0, x * 0.0, scale)


@pytest.mark.parametrize("f", [lambda *k, **w: transport.sinkhorn(*k, 1.0, **w), transport.exact_cost])
def test_weights_are_non_negative_with_a_positive_sum(f, draw):
    x, y = draw(4, 2), draw(3, 2)
    refused(
        f, x, y, a=x.new_tensor([1.0, 1.0, -0.5, 1.0]), says="a must be non-negative weights with a positive sum; its least entry is -0.5"
    )
    refused(f, draw(2, 4, 2), draw(2, 3, 2), b=x.new_tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]), says="b must be non-negative weights")
    refused(f, x, y, b=x.new_zeros(3), says="b must be non-negative weights with a positive sum; its least entry is 0")
    refused(f, x, y, b=x.new_ones(4), says=r"b has shape \(4,\); allowed is \(\*b, N\) with .*N = 3")
    refused(f, x, y, a=x.new_ones(4) * math.inf, says="a holds 4 non-finite values")
    f(x, y, a=x.new_tensor([0.5, 0.25, 0.0, 0.25]))


def test_numbers_are_checked_where_a_loop_or_a_step_is_made(draw):
    x = draw(4, 2)
    refused(transport.sinkhorn, x, x, 1.0, tol=0.0, says="tol is 0.0; allowed is a positive, finite number")
    for bad in (0, 2.5, -3):
        refused(transport.sinkhorn, x, x, 1.0, max_iters=bad, says=f"max_iters is {bad}; allowed is a whole number of at least 1")
        refused(flow.jko, torch.neg, h=1.0, lr=0.1, inner_steps=bad, says=f"inner_steps is {bad}; allowed is a whole number of at least 1")
    refused(flow.jko, torch.neg, h=-1.0, lr=0.1, inner_steps=1, says="h is -1.0; allowed is a positive, finite number")
    refused(flow.jko, torch.neg, h=1.0, lr=math.nan, inner_steps=1, says="lr is nan; allowed is a positive, finite number")
    refused(flow.velocity, x, x, x, scale=math.inf, says="scale is inf; allowed is a finite number")
    refused(svgd.langevin, x, x, lr=0, says="lr is 0; allowed is a positive, finite number")
    flow.velocity(x, x, x, scale=-1)
    refused(svgd.langevin, x, x, lr=10**400, says="lr is 1000.*000...; allowed is a positive, finite number")
    refused(svgd.langevin, x, x, lr=10**5000, says="lr is something of type int; allowed is a positive, finite number")


def test_numbers_of_numpy_are_numbers(draw):
    x = draw(4, 2)
    assert torch.equal(svgd.langevin(x, x, lr=np.float32(0.5)), svgd.langevin(x, x, lr=0.5))
    assert torch.equal(transport.eq9_sum(x, -x, np.float32(0.5)), transport.eq9_sum(x, -x, 0.5))
    assert torch.equal(transport.sinkhorn(x, -x, 1, max_iters=np.int64(3)).f, transport.sinkhorn(x, -x, 1.0, max_iters=3).f)


def test_trusted_reads_no_value_but_still_checks_shapes(draw):
    x = draw(4, 2)
    with wgf.trusted():
        assert svgd.velocity(x, x * math.nan).isnan().all()
        transport.eq9_sum(x, x, x.new_tensor(-1.0))
        refused(svgd.velocity, x, draw(4, 3), says=r"score has shape \(4, 3\)")
    refused(svgd.velocity, x, x * math.nan, says="score holds 8 non-finite values of 8")


def test_trust_ends_with_its_block_whatever_happens_inside(draw):
    x = draw(4, 2)
    with pytest.raises(KeyError), wgf.trusted(), wgf.trusted():
        raise KeyError
    refused(svgd.velocity, x, x * math.nan, says="score holds")


def test_the_door_keeps_name_signature_and_text():
    assert svgd.velocity.__name__ == "velocity"
    assert "Eq. 7" in svgd.velocity.__doc__


def test_the_largest_value_let_in_has_finite_costs(draw):
    for dtype in (torch.float32, torch.float64):
        largest = (torch.finfo(dtype).max / (16 * 3)) ** 0.5 * 0.999
        x = draw(5, 3, dtype=dtype).sign() * largest
        for f in (svgd.velocity, transport.eq9_sum, transport.debiased, transport.exact):
            assert f(x, -x).isfinite().all()
        refused(svgd.velocity, x, x * 1.002, says="squared distances overflow")
        single = x.new_tensor((torch.finfo(dtype).max / 16) ** 0.5 * 0.999)
        natural.gaussian_fisher(single)
        refused(natural.gaussian_fisher, single * 1.002, says="squared distances overflow")


def test_a_missing_argument_is_a_type_error_and_none_is_filled_in(draw):
    @door(x="*b M d", y="*b M d")
    def f(x, y=None):
        return y

    assert f(draw(2, 2)) is None
    assert f(draw(2, 2), None) is None
    with pytest.raises(TypeError):
        f()


FUNCTIONS = {
    "empirical": natural.empirical,
    "hessian": lambda t: natural.hessian(lambda p: p.square().sum(-1), t),
    "pullback": lambda t: natural.pullback(lambda p: p, t, lambda v: v),
    "step": lambda t: natural.step(lambda v: v, t, eps=0.1, steps=2),
    "conjugate_gradient": lambda t: conjugate.conjugate_gradient(lambda v: v, t, steps=2),
    "backtrack": lambda t: natural.backtrack(lambda p: p.sum(-1) > 0, t, t, shrink=0.5, tries=3),
    "gaussian_fisher": natural.gaussian_fisher,
    "gaussian_wasserstein": natural.gaussian_wasserstein,
    "projection": lambda t: projection.gaussian(t, t),
    "median_full": kernels.median_full,
    "svgd": lambda t: svgd.velocity(t, t),
}


@pytest.mark.parametrize("f", FUNCTIONS.values(), ids=FUNCTIONS)
def test_what_is_no_dense_tensor_of_numbers_is_named(f, draw):
    x = draw(4, 2).abs() + 1.0
    f(x)
    for bad, says in (
        (None, "is a NoneType; pass a torch tensor"),
        (x.cpu().numpy(), "is a ndarray; pass a torch tensor"),
        (x.to_sparse(), r"is a sparse tensor; pass a dense one, \w+\.to_dense\(\)"),
        (x.to("meta"), "is on the device meta, which holds no values; pass a tensor on a CPU or a GPU"),
        (x * math.nan, "holds 8 non-finite values of 8"),
        (x.to(torch.complex128), "has dtype torch.complex128; float32 and float64 are allowed"),
    ):
        refused(f, bad, says=says)


def test_a_deviation_is_positive_and_its_coordinate_known(draw):
    std = draw(3).abs() + 1.0
    for f in (natural.gaussian_fisher, natural.gaussian_wasserstein):
        refused(f, -std, says="std must be above 0 everywhere; its least entry is -")
        refused(f, std * 0.0, says="std must be above 0 everywhere; its least entry is 0")
        for phi in ("stdd", None, ["std"]):
            refused(f, std, phi, says=r"phi is .*; choose from std, log_std, variance")
        f(std[0])  # of any shape, a single number too
        with wgf.trusted():
            f(-std)


def test_a_deviation_whose_metric_no_number_holds_is_named(draw):
    """2 / std^2 is below 3.4e38 from 7.7e-20 on, and 1 / (2 std^4), in the variance, from 2e-10 on."""
    std = draw(3, dtype=torch.float32).abs() + 1.0
    for f, phi, least in (
        (natural.gaussian_fisher, "std", 7.7e-20),
        (natural.gaussian_fisher, "variance", 2e-10),
        (natural.gaussian_wasserstein, "variance", 2.8e-20),
    ):
        f(std.index_fill(0, torch.tensor(1), 1.1 * least), phi)
        bad = std.index_fill(0, torch.tensor(1), 0.7 * least)
        refused(f, bad, phi, says=r"std has an entry of \S+; the inverse of its square or fourth power overflows torch.float32")
        with wgf.trusted():
            f(bad, phi)


def test_numbers_of_natural_steps_are_checked(draw):
    x = draw(4, 2)
    for bad in (-1.0, math.nan, math.inf, None, "x", True):
        refused(natural.damped, torch.neg, bad, says=f"damping is {bad!r}; allowed is a finite number of at least 0")
    natural.damped(torch.neg, 0.0)
    for bad in (2.0, 1.0, 0.0, -1.0, math.nan, None):
        refused(natural.backtrack, torch.neg, x, x, shrink=bad, tries=3, says=f"shrink is {bad!r}; allowed is a number above 0 and below 1")
    for bad in (0, -1, 1.5, None, True):
        refused(
            natural.backtrack, torch.neg, x, x, shrink=0.5, tries=bad, says=f"tries is {bad!r}; allowed is a whole number of at least 1"
        )
    for bad in (True, None):
        refused(flow.jko, torch.neg, h=bad, lr=0.1, inner_steps=1, says=f"h is {bad!r}; allowed is a positive, finite number")


def test_what_must_be_a_function_is_named(draw):
    x = draw(4, 2)
    refused(flow.jko, None, h=1.0, lr=0.1, inner_steps=1, says="score is None; pass a function")
    refused(natural.damped, "x", 0.1, says="metric is 'x'; pass a function")
    refused(conjugate.conjugate_gradient, 3, x, steps=1, says="product is 3; pass a function")
    refused(natural.step, None, x, eps=0.1, steps=1, says="metric is None; pass a function")


def test_a_flow_begins_at_a_cloud(draw):
    scheme = flow.jko(torch.neg, h=1.0, lr=0.1, inner_steps=1)
    refused(scheme.init, draw(3), says=r"x has shape \(3,\)")
    refused(scheme.init, None, says="x is a NoneType; pass a torch tensor")


@pytest.mark.parametrize("sizes", [(3,), (), (0, 1), (3, -1), (2.5, 1), (True, 1), "ab", None])
def test_the_sizes_of_a_network_are_at_least_two_whole_numbers(sizes):
    with pytest.raises(ValueError, match=r"sizes is .*; it must be at least two whole numbers of at least 1"):
        mlp.MLP(sizes)
