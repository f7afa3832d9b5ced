"""What is recorded, and what is refused."""

import logging
import shutil
import sys
from uuid import uuid4

import pytest
import torch

from wgf import kernels, svgd, transport
from wgf.agents.training.descent import gradients
from wgf.compiler import available, machine_code, tanh
from wgf.door import trusted
from wgf.mlp import MLP

needs_a_compiler = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="needs a C++ compiler")


@pytest.mark.parametrize(("program", "there"), [(sys.executable, True), ("/nowhere/g++", False)])
def test_a_compiler_is_a_program_that_tells_its_version(program, there):
    import torch._inductor.config as config

    with config.patch({"cpp.cxx": (program,)}):
        assert available() is there


def test_a_recording_holds_for_other_numbers_and_for_what_it_changes(recordings):
    def function(x, score, held):
        held.add_(x.sum())
        return {"v": svgd.velocity(x, score), "w2": transport.eq9_mean(x, score)}

    draw = [torch.randn(4, 3, generator=torch.Generator().manual_seed(k)) for k in range(4)]
    held, other = torch.zeros(()), torch.zeros(())
    quick = machine_code(function, draw[0], draw[1], held)
    assert held.item() == pytest.approx(draw[0].sum().item())  # recording runs it once
    found, expected = quick(draw[2], draw[3], other), function(draw[2], draw[3], held.zero_())
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(other, held)


def test_what_looks_at_numbers_is_refused(recordings):
    with pytest.warns(RuntimeWarning, match="^not compiled: .*trying to get value out of a tracing tensor"):
        assert machine_code(lambda x: x if x.sum() > 0.0 else -x, torch.ones(3)) is None


PLANS = {
    "exact": (transport.exact, "assignment"),
    "entropic": (transport.entropic, "sinkhorn"),
    "debiased": (transport.debiased, "sinkhorn"),
    "cost": (lambda x, y: transport.entropic_cost(x, y, 0.5), "sinkhorn"),
    "slope": (lambda x, y: torch.func.grad(lambda x: transport.entropic_cost(x, y, 0.5).sum())(x), "sinkhorn"),
}


@pytest.mark.parametrize(("function", "operator"), PLANS.values(), ids=PLANS)
def test_a_plan_is_an_operator_of_the_recording_and_the_plan_of_other_numbers(recordings, function, operator):
    """Bit by bit, also of a stack of problems that need different numbers of iterations."""
    x, y, a, b = (torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(k)) for k in range(4))
    quick = machine_code(lambda x, y: function(x, y), x, y)
    assert f"wgf.{operator}.default" in {str(node.target) for node in recordings[0].graph.nodes}
    spread = torch.tensor([0.1, 1.0, 3.0, 10.0])[:, None, None]
    assert torch.equal(quick(spread * a, b), function(spread * a, b))


def test_a_velocity_by_a_plan_is_recorded_inside_a_transform_and_not_counted_there(recordings):
    x, y, a, b = (torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(k)) for k in range(4))
    quick = machine_code(lambda x, y: torch.func.vmap(transport.debiased)(x, y), x, y)
    assert "wgf.counted.default" not in {str(node.target) for node in recordings[0].graph.nodes}
    torch.testing.assert_close(quick(a, b), transport.debiased(a, b))


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=needs_a_compiler)])
def test_recorded_plans_that_stop_short_are_counted_at_each_call(real, request, monkeypatch):
    if not real:
        request.getfixturevalue("recordings")
    x, y = (torch.randn(3, 40, 2, generator=torch.Generator().manual_seed(k)) for k in range(2))

    def function(x, y):
        return transport.debiased(x, y, 1e-6), transport.debiased(x, y, 1.0), transport.exact(x, y)

    with trusted():
        before = transport.unconverged()
        expected = function(x, y)
        short = transport.unconverged() - before
        quick = machine_code(function, x, y)
        assert transport.unconverged() == before + 2 * short  # recording runs it once
        for n in (3, 4):
            found = quick(x, y)
            assert transport.unconverged() == before + n * short
    assert short > 0
    torch.testing.assert_close(found[1:], expected[1:])


def test_a_step_down_a_gradient_is_recorded_with_its_parameters(recordings):
    net = MLP((3, 4, 1))
    theta = net.init((1,), [torch.Generator().manual_seed(0)])
    x = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(1))

    def descend(theta, x):
        (slope,), value = gradients(lambda theta: net(theta, x).square().mean((1, 2)), theta)
        theta.sub_(slope)
        return value

    quick, other = machine_code(descend, theta.clone(), x), 2.0 * theta
    expected, found = other.clone(), other
    torch.testing.assert_close(quick(found, 3.0 * x), descend(expected, 3.0 * x))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("rows", [4, 20])  # below and above the numbers from which on a median is numpy's
def test_a_recorded_median_is_the_median(recordings, rows):
    x, y = (torch.randn(rows, 500, generator=torch.Generator().manual_seed(k)) for k in range(2))
    quick = machine_code(kernels.median, x)
    used = {node.target for node in recordings[0].graph.nodes}
    assert (torch.ops.wgf.partition.default in used) is (500 * rows >= kernels.WORTH)
    torch.testing.assert_close(quick(y), y.quantile(0.5, -1))


def test_tanh_of_compiled_code_is_tanh_to_four_units_in_the_last_place():
    x = torch.cat([torch.linspace(-12.0, 12.0, 200_001), torch.logspace(-30.0, 1.0, 100_000)])
    found, exact = tanh(x), x.double().tanh()
    assert ((found - exact).abs() <= 4.0 * 2.0**-23 * exact.abs()).all()
    assert found.abs().max() == 1.0  # never beyond
    assert tanh(torch.tensor([torch.nan, torch.inf, -torch.inf])).tolist()[1:] == [1.0, -1.0]
    assert tanh(torch.tensor(torch.nan)).isnan()
    assert tanh(x.double()) is NotImplemented


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_recorded_tanh_has_the_slope_of_tanh_also_in_place(dtype, recordings):
    def function(x):
        (slope,), value = gradients(lambda x: (x * 1.0).tanh_() + 2.0 * torch.tanh(x), x)
        return slope, value

    x, y = (torch.randn(50, dtype=dtype, generator=torch.Generator().manual_seed(k)) for k in range(2))
    slope, value = machine_code(function, x)(y)
    torch.testing.assert_close(value, 3.0 * y.tanh(), rtol=1e-6, atol=0.0)
    torch.testing.assert_close(slope, 3.0 * (1.0 - y.tanh().square()), rtol=1e-5, atol=1e-6)
    targets = {node.target for node in recordings[0].graph.nodes}
    left = {torch.ops.aten.tanh.default, torch.ops.aten.tanh_.default}
    assert left.issubset(targets) if dtype == torch.float64 else not left & targets


@needs_a_compiler
def test_what_was_compiled_once_is_found_again(monkeypatch):
    """By another function of the same operators and numbers, of which one is new; not for another processor or number of threads."""
    from torch._dynamo.utils import counters

    x, new = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), uuid4().int / 2**128
    for kind, threads, found in (("AVX2", 1, 0), ("AVX2", 1, 1), ("AVX512", 1, 0), ("AVX2", 2, 0)):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda kind=kind: kind)
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        counters.clear()
        quick = machine_code(lambda x: torch.expm1(x.mT @ x) + new, x)
        assert counters["aot_autograd"]["autograd_cache_hit"] == found
        torch.testing.assert_close(quick(2.0 * x), torch.expm1(4.0 * x.mT @ x) + new)


@needs_a_compiler
def test_machine_code_is_the_function(caplog, monkeypatch):
    net = MLP((3, 6, 5, 1), "layernorm")
    theta = net.init((2,), [torch.Generator().manual_seed(k) for k in range(2)])

    def function(x, held):
        scale = -torch.expm1(-held) + (held % 3.0) + 1.0
        held.add_(1.0)
        (slope,), _ = gradients(lambda theta: scale * net(theta, torch.tanh(x)).square().sum((1, 2)), theta)
        return slope, svgd.velocity(x, torch.cat([x[..., 1:], x[..., :1]], -1)), torch.linalg.eigvalsh(x.mT @ x)

    x, y = (torch.randn(2, 64, 3, generator=torch.Generator().manual_seed(k)) for k in range(2))
    monkeypatch.setattr(logging.getLogger("torch._inductor.ir"), "handlers", [caplog.handler])
    with torch._inductor.config.patch(fx_graph_cache=False):  # so that code is written anew
        quick, code = torch._inductor.utils.run_and_get_code(machine_code, function, x, torch.zeros(()))
    assert not [record for record in caplog.records if record.name == "torch._inductor.ir"]
    assert "wgf::partition" in "".join(code)
    assert "aten::tanh" not in "".join(code)
    held, other = torch.tensor(4.0), torch.tensor(4.0)
    for found, expected in zip(quick(y, held), function(y, other), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert held == other == 5.0


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="needs a C++ compiler")
@pytest.mark.parametrize("one", [torch.tensor(4.0), torch.tensor([[4.0]])])
def test_what_is_made_of_one_number_is_made_once(one):
    def function(one, x):
        return x * (torch.expm1(-one) + one % 3.0)

    x = torch.arange(1001.0)  # a loop over vectors, and one over what is left
    with torch._inductor.config.patch(fx_graph_cache=False):
        quick, code = torch._inductor.utils.run_and_get_code(machine_code, function, one, x)
    assert "".join(code).count("expm1(") == 1
    assert "1001L" in "".join(code)  # a size is a number of the code, not looked up
    torch.testing.assert_close(quick(one + 0.5, x), function(one + 0.5, x))
