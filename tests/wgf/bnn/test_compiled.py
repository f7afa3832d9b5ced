"""Compiled fits against fits as they are written; what the code depends on; a machine without a compiler."""

import warnings
from dataclasses import replace

import pytest
import torch

from wgf.bnn import BayesianRegressor, Settings, compiled, fit
from wgf.bnn.flows import drive

QUICK = Settings(flow="svgd", hidden=(6,), particles=4, iterations=5, batch=16, lr=1e-2, keep="last")


def task(splits=2, n=60, d=3):
    """Data sets whose 54 training rows minibatches of 16 go round in four steps."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(splits, n, d, generator=g, dtype=torch.float64)
    return x, torch.sin(2.0 * x[..., :1]) + 0.5 * x[..., 1:2]


@pytest.fixture
def graphs(monkeypatch, recordings):
    """Recordings, where nothing is compiled yet."""
    monkeypatch.setattr(compiled, "_made", {})
    return recordings


EQ9 = {"flow": "wgf", "w2": "eq9_mean", "w2_scale": 10.0}


@pytest.mark.parametrize("change", [{}, EQ9, {**EQ9, "w2": "exact"}, {"flow": "blob"}, {"flow": "langevin"}, {"flow": "smi"}])
@pytest.mark.parametrize("more", [{}, {"centred": True}, {"particles": 1}, {"hidden": (6, 5)}])
def test_what_is_recorded_is_the_fit(graphs, change, more):
    x, y = task()
    settings = replace(QUICK, **change, **more)
    plain, recorded = (fit(settings, x, y, [0, 1], compile=switch).particles for switch in (False, True))
    torch.testing.assert_close(recorded, plain, rtol=1e-4, atol=1e-5)  # float32, five steps
    assert len(graphs) == 1  # for slices of the rows and for the step that goes round them


def test_machine_code_is_the_direction_and_is_made_once():
    x, y = (t.float() for t in task())
    model = QUICK.model(3)
    particles = model.init(x, y, [torch.Generator().manual_seed(s) for s in (0, 1)])
    about, weights = ("wgf", model, 60, "eq9_mean", 10.0), torch.rand(2, 60, generator=torch.Generator().manual_seed(1))
    plain, quick, before = drive(*about), compiled.compiled(*about), 0.9 * particles
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="not compiled")
        for rows in (slice(0, 16), slice(16, 32), torch.arange(50, 66) % 60):
            v, found = (f(particles, before, x[:, rows], y[:, rows], weights[:, rows]) for f in (plain, quick))
            torch.testing.assert_close(found, v, rtol=1e-4, atol=1e-5 * v.abs().max().item())
    made = len(compiled._made)
    compiled.compiled(*about)(particles, before, x[:, :16], y[:, :16], weights[:, :16])
    assert len(compiled._made) == made


@pytest.mark.parametrize(
    "change",
    [
        *({"flow": "blob"}, {"hidden": (5,)}, {"particles": 3}, {"batch": 17}, {"centred": True}, {"prior_shape": 2.0}),
        *({**EQ9, "w2": "eq9_sum"}, {**EQ9, "w2_scale": 5.0}, {"rows": 70}, {"features": 2}, {"splits": 1}, {"outputs": 2}),
    ],
    ids=str,
)
def test_whatever_changes_the_code_has_its_own(graphs, change):
    def fitted(settings, switch, rows=60, features=3, splits=2, outputs=1):
        x, y = task(splits, rows, features)
        return fit(settings, x, y.expand(-1, -1, outputs), range(splits), compile=switch).particles

    change = dict(change)
    data = {name: change.pop(name) for name in ("rows", "features", "splits", "outputs") if name in change}
    first = replace(QUICK, **EQ9) if "w2" in change else QUICK
    fitted(first, True)
    found, plain = (fitted(replace(first, **change), switch, **data) for switch in (True, False))
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-5)
    assert len(graphs) == 2


def test_a_machine_without_a_compiler_fits_and_says_so_once(monkeypatch):
    def refuse(graph, examples, options):
        raise RuntimeError("no working C++ compiler")

    monkeypatch.setattr(compiled, "_made", {})
    monkeypatch.setattr("torch._inductor.compile", refuse)
    x, y = task()
    with pytest.warns(RuntimeWarning, match=r"not compiled: .*no working C\+\+ compiler") as seen:
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
    x, y = (t[0].numpy().squeeze() for t in task())
    plain, traced = (
        BayesianRegressor(iterations=5, particles=4, hidden=(6,), random_state=0, compile=switch).fit(x, y) for switch in (False, True)
    )
    assert len(graphs) == 1
    assert abs(plain.predict(x) - traced.predict(x)).max() < 1e-4
