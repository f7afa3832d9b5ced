"""Small transport problems as one Triton kernel, by Triton's interpreter: ``test_fused`` runs this file in a process of its own.

Triton chooses its interpreter as it is imported, for the whole process.
"""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wgf import fused, transport, trusted
from wgf import sinkhorn as solver
from wgf.agents import Agent
from wgf.agents.training.checkpoint import tensors
from wgf.sinkhorn import sinkhorn


@pytest.fixture(autouse=True)
def on(monkeypatch):
    monkeypatch.setenv("WGF_FUSED_SINKHORN", "1")


def both(monkeypatch, *args, **options):
    """The plan by the kernel, and by the iterations in torch."""
    quick = sinkhorn(*args, **options)
    with monkeypatch.context() as patch:
        patch.delenv("WGF_FUSED_SINKHORN")
        return quick, sinkhorn(*args, **options)


def clouds(problems, m, n, d, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(problems, m, d, generator=g, dtype=dtype), torch.randn(problems, n, d, generator=g, dtype=dtype) + 1.0


@settings(max_examples=20, deadline=None)
@given(
    m=st.integers(1, 20), n=st.integers(1, 20), d=st.integers(1, 3), share=st.sampled_from([0.05, 0.3, 3.0, 1e6]), seed=st.integers(0, 99)
)
def test_its_plan_is_that_of_the_iterations_in_torch(m, n, d, share, seed):
    x, y = clouds(2, m, n, d, seed)
    eps = share * torch.tensor([1.0, 2.0], dtype=x.dtype)  # each problem has its own
    a, b = (torch.rand(2, k, generator=torch.Generator().manual_seed(seed), dtype=x.dtype) + 0.1 for k in (m, n))
    with pytest.MonkeyPatch.context() as monkeypatch:
        quick, plain = both(monkeypatch, x, y, eps, a=a, b=b, tol=1e-10, max_iters=5_000)
    assert (quick.gap <= 1e-10).all()
    assert quick.converged.all()
    torch.testing.assert_close(quick.log_plan.exp(), plain.log_plan.exp(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(quick.value, plain.value, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(quick.log_plan.exp().sum(-1), a / a.sum(-1, keepdim=True))  # rows to rounding
    assert ((quick.log_plan.exp().sum(-2) - b / b.sum(-1, keepdim=True)).abs().sum(-1) - quick.gap).abs().max() < 1e-12


def test_the_largest_that_fit_and_float32(monkeypatch):
    asked = []
    monkeypatch.setattr(fused, "solve", lambda *args, solve=fused.solve: asked.append(args[0].cost.shape) or solve(*args))
    x, y = clouds(1, 64, 64, 4, dtype=torch.float32)
    quick, plain = both(monkeypatch, x, y, 1.0, tol=1e-4)
    torch.testing.assert_close(quick.log_plan.exp(), plain.log_plan.exp(), rtol=1e-2, atol=1e-5)
    sinkhorn(torch.cat([x, x[:, :1]], 1), y, 1.0)  # 65 are too many
    assert asked == [(1, 64, 64)]


def test_points_without_mass_take_none(monkeypatch):
    x, y = clouds(2, 5, 6, 2)
    a, b = (torch.tensor([mass, mass]).double() for mass in ([0.0, 1.0, 2.0, 1.0, 0.0], [1.0, 0.0, 3.0, 1.0, 1.0, 0.0]))
    quick, plain = both(monkeypatch, x, y, 0.5, a=a, b=b, tol=1e-10)
    torch.testing.assert_close(quick.log_plan.exp(), plain.log_plan.exp(), rtol=1e-6, atol=1e-10)
    assert (quick.log_plan.exp()[:, :, [1, 5]] == 0.0).all()


def test_a_problem_stops_at_the_most_iterations_and_one_that_is_not_finite_stays_so(monkeypatch):
    x, y = clouds(3, 6, 6, 2)
    with_nan = x.clone()
    with_nan[1, 2, 0] = torch.nan
    few, plain = both(monkeypatch, x[:1], y[:1], 0.02, tol=1e-9, max_iters=9)
    assert not few.converged.any()
    torch.testing.assert_close(few.gap, plain.gap)  # after as many iterations
    with trusted():
        quick, plain = both(monkeypatch, with_nan, y, 0.5, tol=1e-10)
    assert quick.gap[1].isnan()
    for s in (0, 2):
        torch.testing.assert_close(quick.f[s], plain.f[s], rtol=1e-6, atol=1e-8)


def test_it_is_asked_for_by_name_and_needs_its_package(monkeypatch):
    x, y = clouds(1, 3, 3, 2)
    monkeypatch.setattr(solver, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^WGF_FUSED_SINKHORN is 1, which needs the package triton: pip install triton, or unset it$"):
        sinkhorn(x, y, 1.0)
    monkeypatch.delenv("TRITON_INTERPRET")
    sinkhorn(x, y, 1.0)  # a CPU has the iterations in torch


@pytest.mark.filterwarnings("ignore:.*stopped short of their tolerance")
@pytest.mark.parametrize(("name", "w2", "plans"), [("dp-wgf-v", "entropic", 1), ("wgf-sac", "debiased", 2)])
def test_a_training_with_it_ends_where_one_with_as_many_iterations_in_torch_does(monkeypatch, name, w2, plans):
    small = {"env": "wgf/CartPole-v0", "seeds": 1, "device": "cpu", "hidden": (6,), "particles": 4, "batch": 1, "warmup": 10}
    asked, ends = [], []
    monkeypatch.setattr(fused, "solve", lambda *args, solve=fused.solve: asked.append(args[0].cost.shape) or solve(*args))
    monkeypatch.setattr(transport, "sinkhorn", partial(sinkhorn, tol=1e-12, max_iters=9))  # which a plan needs more than
    torch.set_default_dtype(torch.float64)
    try:
        for on, scale in (("1", 0.4), ("0", 0.4), ("0", 0.0)):
            monkeypatch.setenv("WGF_FUSED_SINKHORN", on)
            agent = Agent(name, w2=w2, w2_scale=scale, eval_episodes=1, compile=False, **small).learn(13)
            ends.append(tensors(agent.state))
            agent.close()
    finally:
        torch.set_default_dtype(torch.float32)
    assert asked == [(1, 4, 4)] * 4 * plans  # of four updates with it, none without
    quick, plain, without = ends
    for key, t in quick.items():
        torch.testing.assert_close(t, plain[key], rtol=0.0, atol=1e-12, msg=key)
    assert max((t - without[key]).abs().max() for key, t in quick.items()) > 1e-6  # the plans do count
