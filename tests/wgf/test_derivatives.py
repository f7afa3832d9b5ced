"""What each velocity is to autograd and to ``torch.vmap``: its docstring says it under **Derivative**."""

import warnings
from functools import partial

import pytest
import torch

from tests import oracles
from wgf import kernels, svgd, transport, trusted
from wgf.kernels import RBF


def stein(f, x, score):
    """f with the bandwidth of these particles."""
    return partial(f, kernel=RBF(kernels.median_svgd(x)))


def eq9(f, x, x_prev):
    """f with the lam of these particles."""
    return partial(f, lam=transport.median_lam(x, x_prev))


def same(f, x, y):
    return f


grouped = partial(svgd.unbiased, groups=2)
langevin = partial(svgd.langevin, lr=0.1)
OWN = {  # velocity, and what holds fixed what its derivative holds fixed
    "svgd": (svgd.velocity, stein),
    "unbiased": (svgd.unbiased, stein),
    "grouped": (grouped, stein),
    "blob": (svgd.blob, stein),
    "gfsd": (svgd.gfsd, stein),
    "langevin": (langevin, same),
    "eq9_sum": (transport.eq9_sum, eq9),
    "eq9_mean": (transport.eq9_mean, eq9),
    "exact": (transport.exact, same),
    "common_noise": (transport.common_noise, same),
}
NONE = {"entropic": transport.entropic, "debiased": transport.debiased}
ALL = {name: f for name, (f, _) in OWN.items()} | NONE


def test_every_velocity_is_here():
    assert set(transport.VELOCITIES) < set(ALL)


@pytest.mark.parametrize("d", [2, 8])
@pytest.mark.parametrize("name", OWN)
def test_a_derivative_is_that_of_central_differences(name, d, draw):
    """Their error: step^2 f''' / 6, below 1e-9 for f''' of size 10, and rounding 1e-16 / step."""
    f, fixed = OWN[name]
    inputs, w = (draw(6, d), draw(6, d, seed=1)), draw(6, d, seed=2)
    frozen = fixed(f, *inputs)
    leaves = [t.clone().requires_grad_() for t in inputs]
    found = torch.autograd.grad((f(*leaves) * w).sum(), leaves)
    first = oracles.central_difference(lambda t: (frozen(t, inputs[1]) * w).sum(), inputs[0])
    second = oracles.central_difference(lambda t: (frozen(inputs[0], t) * w).sum(), inputs[1])
    torch.testing.assert_close(found, (first, second), rtol=1e-7, atol=1e-8)
    assert all(gradient.abs().max() > 1e-2 for gradient in found)


@pytest.mark.parametrize("name", NONE)
def test_a_velocity_of_an_entropic_plan_is_detached(name, draw):
    assert not NONE[name](draw(6, 2).requires_grad_(), draw(6, 2, seed=1).requires_grad_()).requires_grad


@pytest.mark.parametrize("dims", [(0, 0), (0, None), (None, 0)])
@pytest.mark.parametrize("d", [2, 8])
@pytest.mark.parametrize("name", ALL)
def test_vmap_is_one_problem_after_another(name, d, dims, draw):
    f, pair = ALL[name], (draw(3, 6, d), draw(3, 6, d, seed=1))
    arguments = [t if k == 0 else t[0] for t, k in zip(pair, dims, strict=True)]
    with trusted(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that vmap of an operation in place is slow
        mapped = torch.vmap(f, in_dims=dims)(*arguments)
        alone = [f(*(t[i] if k == 0 else t for t, k in zip(arguments, dims, strict=True))) for i in range(3)]
    torch.testing.assert_close(mapped, torch.stack(alone), rtol=1e-12, atol=1e-12)
