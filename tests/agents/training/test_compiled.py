"""An update as machine code changes the state as the update does. That every agent can be recorded is a test of test_contract."""

import types
import warnings
from copy import deepcopy
from dataclasses import dataclass

import pytest
import torch

from wgf import trusted
from wgf.agents.training.compiled import update
from wgf.agents.training.descent import Adam, regress_, regression_loss
from wgf.agents.training.protocol import Batch
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
