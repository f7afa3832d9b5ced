"""An update runs on meta tensors, which have shapes and no numbers: nothing in it waits for a device. And it grows with no seed."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from wgf import trusted
from wgf.agents.registry import AGENTS, find
from wgf.agents.training.population import Iteration, Population
from wgf.agents.training.protocol import Batch
from wgf.agents.training.rollout import Rollout, Segment
from wgf.agents.training.schedule import Schedule

D, A = 11, 3
# strong is strong-small with other sizes
CASES = {f"{name} {preset}": find(name, preset) for name, presets in AGENTS.items() for preset in presets if preset != "strong"}
CASES |= {
    f"{name} learned noise": (agent, replace(cfg, sigma="learned"))
    for name in ("pg", "svpg", "ip-wgf")
    for agent, cfg in [find(name, "paper")]
}
# Sinkhorn looks at numbers: a penalty takes its other dual, and a guide has no other
CASES = {name: case for name, case in CASES.items() if getattr(case[1], "guide", "") != "wasserstein"}
CASES |= {name: (agent, replace(cfg, dual="features")) for name, (agent, cfg) in CASES.items() if getattr(cfg, "penalty", 0.0)}
# of one seed a slice is in one piece, and an axis of one is no axis: a copy becomes a view there. Nothing is computed by these
COPIES = {"aten.view.default", "aten._unsafe_view.default", "aten.clone.default", "aten.squeeze.dim"}
SHORT = {"horizon": 64, "epochs": 2, "particles": 8, "tries": 3}


class Operators(TorchDispatchMode):
    """Counts operators by their names."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.counts[str(function)] += 1
        return function(*args, **(kwargs or {}))


class Nothing:
    """Streams without numbers."""

    def __init__(self, seeds):
        self.seeds = seeds

    def normal(self, *shape):
        return torch.empty(self.seeds, *shape, device="meta")

    def uniform(self, *shape):
        return self.normal(*shape)

    def permutations(self, k, n):
        return torch.empty(self.seeds, k, n, dtype=torch.int64, device="meta")


def operators(agent, cfg, seeds):
    """Those of one update of so many seeds."""
    device = torch.device("meta")
    state = agent.init(cfg, D, A, [torch.Generator().manual_seed(k) for k in range(seeds)], device)
    memory = agent.memory(cfg, Schedule())
    if isinstance(memory, Population):
        batch = Iteration(torch.empty(seeds, memory.envs, device=device), torch.empty(seeds, memory.envs, D, device=device))
    elif isinstance(memory, Rollout):
        lead = (seeds, memory.policies, memory.steps, memory.each)
        shapes = ((D,), (A,), (), (), (), (D,))
        parts = [torch.empty(*lead, *d, device=device, dtype=torch.bool if i == 4 else None) for i, d in enumerate(shapes)]
        batch = Segment(*parts)
    else:
        batch = Batch(*(torch.empty(seeds, memory.batch, *d, device=device) for d in ((D,), (A,), (), (), (D,))))
    with trusted(), Operators() as seen:
        agent.update(cfg, state, batch, agent.noise(cfg, A, Nothing(seeds)))
    return seen.counts


@pytest.mark.parametrize(("agent", "preset"), CASES.values(), ids=CASES.keys())
def test_an_update_has_as_many_operators_for_64_seeds_as_for_one(agent, preset):
    short = {name: value for name, value in SHORT.items() if hasattr(preset, name)} | (
        {"batch": 500} if hasattr(preset, "critic_steps") else {}
    )
    one, five, many = (operators(agent, replace(preset, **short), seeds) for seeds in (1, 5, 64))
    assert five == many
    assert {k: n for k, n in one.items() if k not in COPIES} == {k: n for k, n in five.items() if k not in COPIES}
    assert sum(one.values()) > 40
