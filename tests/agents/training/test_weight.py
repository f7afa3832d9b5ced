"""What an agent takes is known before it is taken, and numbers without bound are refused in a line."""

import math
import resource
from dataclasses import replace

import pytest
import torch

from wgf.agents import Agent
from wgf.agents.registry import AGENTS, find
from wgf.agents.training import checkpoint, making, weight
from wgf.agents.training.normal import normalized

CPU = torch.device("cpu")
CASES = {f"{name} {preset}": find(name, preset) for name, presets in AGENTS.items() for preset in presets}


@pytest.mark.parametrize(("agent", "preset"), CASES.values(), ids=CASES.keys())
def test_shapes_are_those_of_a_state_and_a_preset_is_lighter_than_its_bound(agent, preset):
    state = checkpoint.tensors(agent.init(preset, 5, 2, [torch.Generator().manual_seed(0)], CPU))
    found = weight.shapes(agent, preset, 5, 2)
    assert {name: (t.shape, t.dtype) for name, t in found.items()} == {name: (t.shape, t.dtype) for name, t in state.items()}
    held = sum(t.numel() * t.element_size() for t in state.values())
    assert held < weight.weight(agent, preset, 5, 2) < weight.weight(agent, preset, 376, 17) < weight.PRESET


def test_the_scale_counts_the_bytes_that_live_at_once(monkeypatch):
    with weight.Scale(math.inf) as scale:
        one = torch.empty(10, device="meta")
        parts = one.view(2, 5).unbind()  # the same bytes
        two = torch.rand(5, generator=torch.Generator(), device="meta")
        assert (scale.live, scale.peak) == (60, 60)
        del one
        assert scale.live == 60
        del parts
        assert (scale.live, scale.peak) == (20, 60)
        del two
        pair = torch.stack([torch.empty(5, device="meta")]).split(1)
        assert (scale.live, scale.peak) == (20, 60)
    assert pair[0].is_meta
    with weight.Scale(40):
        torch.empty(10, device="meta")
        with pytest.raises(weight.Enough):
            torch.empty(11, device="meta")
    monkeypatch.setattr(weight, "CALLS", 3)
    with weight.Scale(math.inf):
        for _ in range(3):
            torch.empty(1, device="meta")
        with pytest.raises(weight.Enough):
            torch.empty(1, device="meta")


def test_a_weight_counts_the_minibatch_of_an_update():
    agent, cfg = find("sac", "modern")
    thousand, two = (weight.weight(agent, replace(cfg, batch=n, hidden=(8, 8)), 5, 2) for n in (1_000_000, 2_000_000))
    assert two - thousand >= 4 * 1_000_000 * (5 + 2 + 1 + 1 + 5)  # the rows of the replay alone
    normal = normalized(agent, "both")
    assert weight.weight(normal, replace(cfg, batch=1_000_000, hidden=(8, 8)), 5, 2) >= thousand
    assert weight.weight(agent, cfg, 5, 2, most=1000) < 1_000_000 < weight.weight(agent, cfg, 5, 2)


def test_an_agent_that_needs_numbers_is_counted_up_to_there():
    agent, cfg = find("sac", "modern")

    class Looks:
        memory, noise = staticmethod(agent.memory), staticmethod(agent.noise)

        @staticmethod
        def init(*args):
            return agent.init(*args)

        @staticmethod
        def update(cfg, state, batch, noise):
            batch.obs.sum().item()

    state = sum(t.numel() * t.element_size() for t in weight.shapes(agent, cfg, 5, 2).values())
    assert state < weight.weight(Looks, cfg, 5, 2) <= weight.weight(agent, cfg, 5, 2)


@pytest.mark.parametrize(
    ("agent", "env", "settings", "words"),
    [
        ("sac", "Pendulum-v1", {"batch": 10**10}, "batch is 10000000000: networks and one update take at least "),
        ("sac", "Pendulum-v1", {"batch": 10**18 - 1}, "more than can be counted on cpu"),
        ("sac", "Pendulum-v1", {"hidden": (10**6, 10**6)}, "hidden is 1000000,1000000: networks and one update take at least "),
        ("sac", "Pendulum-v1", {"hidden": (1,) * 100_000}, r"hidden is 1,1,1,... \(100,000 numbers\); it must be at most 100 layers of"),
        ("dp-wgf", "Pendulum-v1", {"particles": 10**6}, "particles is 1000000: networks"),
        ("svpg", "Pendulum-v1", {"particles": 10**8}, "particles is 100000000: networks"),
        ("wpo", "Pendulum-v1", {"samples": 10**9}, "samples is 1000000000: networks"),
        ("ppo", "Pendulum-v1", {"horizon": 10**12}, "horizon is 1000000000000: networks"),
        ("es", "wgf/PointWall-v0", {"guide": "published", "features": 10**12}, "features is 1000000000000: networks"),
        ("es", "wgf/PointWall-v0", {"guide": "published", "taught": 10**12}, "taught is 1000000000000: networks"),
        ("sac", "Pendulum-v1", {"seeds": 10**6}, "seeds is 1000000: networks"),
    ],
)
def test_numbers_without_bound_are_refused_before_they_take_memory(agent, env, settings, words):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=words) as caught:
        Agent(agent, env, **settings)
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19  # half a GiB: torch's own modules


@pytest.mark.parametrize("env", ["Pendulum-v1", "InvertedPendulum-v5", "wgf/CartPole-v0"])
def test_episodes_without_bound_are_refused_before_their_simulators_are_made(env):
    agent, before = Agent("sac", env, hidden=(8, 8), eval_episodes=10**9), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for play in (lambda: agent.evaluate(10**9), lambda: agent.learn(5)):
        with pytest.raises(ValueError, match=rf"^1,000,000,000 environments '{env}' side by side take about .* GiB, but .* are free; give"):
            play()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19


def test_what_the_first_32_environments_and_twice_as_many_take_says_whether_all_fit(monkeypatch):
    """Before the first the process takes 10^6 bytes, then 5,000 more for each: 100 fit into 500,000 and no fewer, found at 32 and 64."""
    standing, closed = [], []
    monkeypatch.setattr(making, "made", lambda name, factory: standing.append(Shut(closed)) or standing[-1])
    monkeypatch.setattr(making, "resident", lambda: 10**6 + 5_000 * len(standing))
    monkeypatch.setattr(making, "free_memory", lambda device: free)
    looks, fitting = [], making.fitting
    monkeypatch.setattr(making, "fitting", lambda *given: looks.append((len(standing), given[2])) or fitting(*given))
    free = 500_000
    assert len(making.several("mine", 100, None)) == 100
    assert looks == [(32, 5_000), (64, 5_000)]
    assert closed == []
    standing.clear()
    free = 499_999
    with pytest.raises(ValueError, match=r"^100 environments 'mine' side by side take about "):
        making.several("mine", 100, None)
    assert closed == standing
    assert len(standing) == 32


class Shut:
    """An environment that says when it is closed."""

    def __init__(self, closed):
        self.close = lambda: closed.append(self)


def test_what_is_modest_costs_no_look(monkeypatch):
    agent, cfg = find("sac", "modern")
    monkeypatch.setattr(weight, "free_memory", lambda device: 4 * weight.PRESET)
    assert weight.modest(cfg, cfg, 5, 4, CPU)
    assert weight.modest(replace(cfg, batch=512), cfg, 5, 1, CPU)
    for other, obs, seeds in ((cfg, 5, 5), (replace(cfg, batch=512), 5, 2), (replace(cfg, hidden=(512, 512)), 5, 1), (cfg, 1000, 1)):
        assert not weight.modest(other, cfg, obs, seeds, CPU)
    looks = []
    monkeypatch.setattr(weight, "weight", lambda *given: looks.append(given[-1]) or 0.0)
    weight.check(agent, cfg, cfg, 5, 2, 4, CPU)
    assert looks == []
    weight.check(agent, cfg, cfg, 5, 2, 8, CPU)
    assert looks == [weight.PRESET / 2]  # a seed's share of what is free


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"hidden": [20000, 20000]}, "in the checkpoint; the agent needs torch.float32 of shape"),
        ({"hidden": [10**6, 10**6]}, "in the checkpoint; the agent needs torch.float32 of shape"),
        ({"hidden": [10**12, 10**12]}, ""),
        ({"hidden": [1] * 100_000}, "it must be at most 100 layers"),
        ({"members": 10**9}, "in the checkpoint; the agent needs torch.float32 of shape"),
        ({"batch": 10**10}, "batch is 10000000000: networks and one update take at least"),
    ],
)
def test_a_size_that_stands_in_a_file_is_compared_with_its_tensors_first(tmp_path, config, words):
    Agent("sac", "Pendulum-v1", preset="modern", hidden=(8, 8)).save(tmp_path)
    path = tmp_path / "seed-0" / "policy.json"
    about = checkpoint.read_sealed(path)
    checkpoint.write_sealed(path, about | {"config": about["config"] | config})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=rf"policy.json does not describe an agent of this version: [^\n]*{words}"):
        Agent.load(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19
