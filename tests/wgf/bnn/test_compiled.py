"""Compiled fits against fits as they are written; every shape its own code; a machine without a compiler."""

import warnings
from dataclasses import replace
from functools import partial

import pytest
import torch

from wgf.bnn import BayesianRegressor, Settings, compiled, fit
from wgf.bnn.flows import drive

QUICK = Settings(flow="svgd", hidden=(6,), particles=4, iterations=5, batch=16, lr=1e-2, keep="last")


def task(splits=2, n=60, d=3):
    """Data sets whose 54 training rows minibatches of 16 go round in four steps."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(splits, n, d, generator=g, dtype=torch.float64)
    return x, torch.sin(2.0 * x[..., 0]) + 0.5 * x[..., 1]


@pytest.fixture
def graphs(monkeypatch):
    """Compiled code is the graph that was traced, run as it is; a list of these graphs, one a compilation."""
    seen = []

    def backend(graph, examples):
        seen.append(graph)
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setattr(compiled, "_made", {})
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    yield seen
    torch._dynamo.reset()


@pytest.mark.parametrize("change", [{}, {"flow": "wgf", "w2": "eq9_mean", "w2_scale": 10.0}, {"flow": "blob"}, {"flow": "langevin"}])
@pytest.mark.parametrize("more", [{}, {"centred": True}, {"particles": 1}, {"hidden": (6, 5)}])
def test_what_is_traced_is_the_fit(graphs, change, more):
    x, y = task()
    settings = replace(QUICK, **change, **more)
    plain, traced = (fit(settings, x, y, [0, 1], compile=switch).particles for switch in (False, True))
    torch.testing.assert_close(traced, plain, rtol=1e-4, atol=1e-5)  # float32, five steps
    assert len(graphs) == 1  # for slices of the rows and for the step that goes round them


def test_machine_code_is_the_direction_and_is_made_once():
    torch._dynamo.reset()
    x, y = (t.float() for t in task())
    model = QUICK.model(3, 2)
    particles = model.init(x, y, [torch.Generator().manual_seed(s) for s in (0, 1)])
    plain, quick = drive("svgd", model, 60), compiled.compiled("svgd", model, 60, 16, x.device)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the fit runs uncompiled")
        for rows in (slice(0, 16), slice(16, 32), torch.arange(50, 66) % 60):
            v = plain(particles, x[:, rows], y[:, rows])
            torch.testing.assert_close(quick(particles, x[:, rows], y[:, rows]), v, rtol=1e-4, atol=1e-5 * v.abs().max().item())
    assert compiled.compiled("svgd", QUICK.model(3, 2), 60, 16, x.device) is quick
    assert compiled.compiled("blob", model, 60, 16, x.device) is not quick


def test_the_tenth_shape_is_compiled_as_the_first_is(graphs):
    for n in range(60, 160, 10):
        x, y = task(n=n)
        for _ in range(2):
            fit(QUICK, x, y, [0, 1], compile=True)
    assert len(graphs) == 10


def test_a_machine_without_a_compiler_fits_and_says_so_once(monkeypatch):
    def backend(graph, examples):
        raise RuntimeError("no working C++ compiler")

    monkeypatch.setattr(compiled, "_made", {})
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    x, y = task()
    with pytest.warns(RuntimeWarning, match=r"the fit runs uncompiled: .*no working C\+\+ compiler") as seen:
        found = [fit(QUICK, x, y, [0, 1], compile=True).particles for _ in range(2)]
    assert len(seen) == 1
    plain = fit(QUICK, x, y, [0, 1]).particles
    assert all(torch.equal(each, plain) for each in found)


def test_dropout_is_never_compiled(graphs):
    x, y = task()
    settings = replace(QUICK, flow="dropout")
    assert torch.equal(*(fit(settings, x, y, [0, 1], compile=switch).particles for switch in (False, True)))
    assert not graphs


def test_the_estimator_compiles_where_it_is_told_to(graphs):
    x, y = (t[0].numpy() for t in task())
    plain, traced = (
        BayesianRegressor(iterations=5, particles=4, hidden=(6,), random_state=0, compile=switch).fit(x, y) for switch in (False, True)
    )
    assert len(graphs) == 1
    assert abs(plain.predict(x) - traced.predict(x)).max() < 1e-4
