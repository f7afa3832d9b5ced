"""An update as machine code changes the state as the update does. That every agent can be recorded is a test of test_contract."""

import types
import warnings
from copy import deepcopy
from dataclasses import dataclass

import pytest
import torch

from wgf import trusted
from wgf.agents import Agent
from wgf.agents.training import compiled
from wgf.agents.training.compiled import update
from wgf.agents.training.descent import Adam, regress_, regression_loss
from wgf.agents.training.protocol import Batch
from wgf.compiler import available
from wgf.mlp import polyak_
from wgf.policies.critics import QNetwork


@dataclass
class State:
    """A critic, its target and its optimiser."""

    q: QNetwork
    target: QNetwork
    adam: Adam


def step(cfg, state, batch, noise):
    q, pull_back = state.q.vjp(batch.obs, batch.action)
    error = regress_(state.adam, q, pull_back, batch.reward + cfg * noise + state.target.least(batch.next_obs, batch.action))
    polyak_(state.target, state.q, 0.1)
    return lambda: {"losses/q": regression_loss(error)}


AGENT = types.SimpleNamespace(update=step)


def fresh(device):
    q = QNetwork(3, 2, 2, (8,), "tanh", [torch.Generator().manual_seed(k) for k in (0, 1)]).to(device)
    return State(q, deepcopy(q), Adam(q.theta, 1e-2))


def minibatches(device, n):
    g = torch.Generator().manual_seed(5)
    for _ in range(n):
        parts = [torch.randn(2, 6, *d, generator=g).to(device) for d in ((3,), (2,), (), (), (3,), ())]
        yield Batch(*parts[:5]), parts[5]


@pytest.mark.parametrize("before", [0, 2])
def test_machine_code_changes_the_state_as_the_update_does(device, before):
    plain, quick = fresh(device), fresh(device)
    ways = update(AGENT, 0.5, plain, compile=False), update(AGENT, 0.5, quick, compile=True)
    with trusted(), warnings.catch_warnings():
        warnings.filterwarnings("error", message="not compiled")
        for k, (batch, noise) in enumerate(minibatches(device, 5)):
            one = ways[0](batch, noise)()
            other = (step(0.5, quick, batch, noise) if k < before else ways[1](batch, noise))()
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)  # float32, a few steps
            for name in ("theta", "m", "v", "steps"):
                torch.testing.assert_close(getattr(plain.adam, name), getattr(quick.adam, name), rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(plain.target.theta, quick.target.theta, rtol=1e-4, atol=1e-6)
    assert quick.adam.theta is quick.q.theta


def test_compiling_pays_where_it_saves_twice_its_cost():
    # SAC at batch 256, 256-256: 6e-4 + 4e-11 x 16.8e6 = 1.27 ms per update, so that 80 s are saved after 62,900 updates
    work = 256 * 256**2
    assert compiled.saving(1_000, work) == pytest.approx(0.6 + 0.671, abs=1e-3)
    assert compiled.saving(-5, work) == 0.0
    if available():
        assert [compiled.pays(n, work, torch.device("cpu")) for n in (62_000, 64_000)] == [False, True]
        assert [compiled.pays(64_000, w, torch.device("cpu")) for w in (work // 2, 2 * work)] == [False, True]
    assert not compiled.pays(10**9, work, torch.device("cuda"))


def test_without_a_compiler_nothing_is_compiled_by_itself(monkeypatch, tmp_path):
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", (str(tmp_path / "g++"),))
    assert not available()
    assert not compiled.pays(10**9, 10**9, torch.device("cpu"))


@pytest.mark.parametrize(
    ("steps", "settings", "expected"),
    [
        (70_000, {}, True),
        (60_000, {}, False),
        (70_000, {"hidden": (64, 64)}, False),
        (130_000, {"warmup": 100_000}, False),
        (60_000, {"compile": True}, True),
        (10**6, {"compile": False}, False),
    ],
)
def test_a_training_says_whether_it_is_compiled(monkeypatch, steps, settings, expected):
    monkeypatch.setattr("wgf.agents.training.compiled.available", lambda: True)
    assert Agent("sac", "Pendulum-v1", preset="modern", device="cpu", **settings).compiles(steps) is expected


def test_rollouts_are_not_compiled():
    assert not Agent("pg", "wgf/CartPole-v0", device="cpu").compiles(10**9)
    with pytest.raises(ValueError, match="compile is True; allowed is False for pg, which learns from rollouts, not from a replay"):
        Agent("pg", "wgf/CartPole-v0", device="cpu", compile=True)


def test_what_is_decided_is_what_is_done(recordings, monkeypatch):
    monkeypatch.setattr("wgf.agents.training.compiled.available", lambda: True)
    monkeypatch.setattr("wgf.agents.training.compiled.COST", 1e-3)
    small = {"hidden": (8, 8), "batch": 8, "warmup": 10, "device": "cpu"}
    Agent("sac", "Pendulum-v1", preset="modern", **small).learn(12)  # three updates, 1.8 ms
    assert not recordings
    Agent("sac", "Pendulum-v1", preset="modern", **small).learn(14)  # five, 3 ms
    assert len(recordings) == 1
