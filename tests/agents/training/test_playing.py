"""Steps as machine code, from observation to note, against the same steps one by one."""

from contextlib import nullcontext
from dataclasses import dataclass

import pytest
import torch

from wgf.agents import Agent, es
from wgf.agents.tasks.fleet import Fleet
from wgf.agents.training.checkpoint import tensors
from wgf.agents.training.playing import Play
from wgf.agents.training.population import EMBEDDINGS, Population
from wgf.agents.training.protocol import Actor, Streams
from wgf.agents.training.rollout import Rollout, nothing

CPU = torch.device("cpu")
SEEDS, N = (3, 4), 6


@dataclass
class State:
    """A gain for each environment, (S, n, 1)."""

    gain: torch.Tensor


def actor(size, noise=0.0):
    """Acts by the state, the observation and noise of its own."""
    streams = Streams([torch.Generator().manual_seed(seed) for seed in SEEDS])
    gain = torch.linspace(-1.0, 1.0, N)[None, :, None].repeat(len(SEEDS), 1, 1)

    def act(state, obs, noise):
        return torch.sin(state.gain * obs.sum(-1, keepdim=True) + noise)

    return Actor(act, State(gain), lambda n: noise * streams.normal(n, size))


def sides(name, make, noise=0.0):
    """The memory that ``make`` makes, playing step by step and as machine code, each with an actor."""
    for compile in (False, True):
        memory, fleet = make(), Fleet(name, N, CPU, compile)
        memory.begin(fleet, SEEDS, CPU)
        yield memory, fleet, actor(fleet.action_size, noise)


@pytest.mark.parametrize("name", ["CartPole", "MultiGoal"])
def test_a_segment_as_machine_code_is_that_of_single_steps(name, recordings):
    (plain, fleet, act), (quick, other, same) = sides(name, lambda: Rollout(1, N, 60, 0.9, pieces=1), 1.0)
    for _ in range(2):
        (expected, finite), (found, _) = plain.collect(act), quick.collect(same)
        assert finite.all()
        for one, two in zip((*found, *quick._segments[0]), (*expected, *plain._segments[0]), strict=True):
            torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(two), rtol=1e-5, atol=1e-5)
        assert quick._segments[0].ended.any()
        plain._segments.clear(), quick._segments.clear()
        torch.testing.assert_close(other.state, fleet.state, rtol=1e-5, atol=1e-5)
        assert torch.equal(other.age, fleet.age)
    assert len(recordings) == 1


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_episodes_of_a_population_as_machine_code_are_those_of_single_steps(embedding, recordings):
    (plain, _, act), (quick, _, same) = sides("CartPole", lambda: Population(N, 45, 0.9, embedding, nothing))
    for _ in range(2):
        (expected, finite), (found, _) = plain.collect(act), quick.collect(same)
        assert finite.all()
        for one, two in zip((*found, *next(quick.batches())), (*expected, *next(plain.batches())), strict=True):
            torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(two), rtol=1e-4, atol=1e-4)
    assert len(recordings) == 1


@pytest.mark.parametrize(("steps", "each"), [(1, 1), (7, 1), (8, 4), (9, 3), (10, 5)])
def test_as_many_steps_are_played_at_once_as_divide_them(steps, each, recordings):
    fleet, counts = Fleet("CartPole", N, CPU, compile=True), State(torch.zeros(2, N))
    obs = fleet.reset(SEEDS)

    def note(counts, obs, action, outcome):
        counts.gain += outcome.reward
        return (obs,)

    for after, (kept,) in Play(fleet, note)(actor(1), obs, counts, steps):
        assert kept.shape == (2, each, N, 4)
        assert torch.equal(kept[:, 0], obs)  # what is acted on first is what was there before
        obs, steps = after, steps - each
    assert steps == 0
    assert (counts.gain != 0.0).all()


def test_what_cannot_be_recorded_is_played_step_by_step(recordings):
    fleet, plain = Fleet("CartPole", N, CPU, compile=True), Fleet("CartPole", N, CPU)

    def act(state, obs, noise):
        return obs[..., :1] * float(obs.sum() < 1e9)  # looks at a number

    def note(counts, obs, action, outcome):
        return (outcome.reward,)

    found = []
    for side in (fleet, plain):
        obs, one = side.reset(SEEDS), State(torch.zeros(2))
        with pytest.warns(RuntimeWarning, match="^not compiled: ") if side is fleet else nullcontext():
            found.append(torch.cat([kept[0] for _, kept in Play(side, note)(Actor(act, one, lambda n: None), obs, one, 10)], 1))
    assert torch.equal(*found)


def test_a_policy_for_each_environment_is_laid_side_by_side_and_stays_what_it_is(recordings):
    cfg, fleet = es.Config(pairs=3, hidden=(4,), horizon=10), Fleet("CartPole", 6, CPU, compile=True)
    state = es.init(cfg, 4, 1, [torch.Generator().manual_seed(k) for k in SEEDS], CPU)
    seen = []

    def act(given, obs, noise):
        seen.append(given.population)
        return es.act(cfg, given, obs, noise)

    memory = es.memory(cfg, None)
    memory.begin(fleet, SEEDS, CPU)
    es.explore(cfg, state, Streams([torch.Generator().manual_seed(k) for k in SEEDS]))
    before = state.population.clone()
    memory.collect(Actor(act, state, lambda n: None))
    assert seen[0].stride(1) == 1
    assert torch.equal(seen[0], before)
    assert torch.equal(state.population, before)
    assert state.population.is_contiguous()  # as single steps read it


def test_a_compiled_training_of_a_population_learns_what_one_of_single_steps_does(recordings):
    found = []
    for compile in (False, True):
        agent = Agent("es", "wgf/CartPole-v0", seeds=2, pairs=3, hidden=(4,), horizon=10, compile=compile, eval_every=180, eval_episodes=1)
        agent.learn(180)
        found.append(agent.state.policy.theta)
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)
    assert len(recordings) >= 1


@pytest.mark.parametrize(
    ("name", "settings"), [("es", {"pairs": 3, "hidden": (4,), "horizon": 10}), ("pg", {"batch": 20, "critic_steps": 1, "hidden": (4,)})]
)
def test_a_compiled_training_that_was_broken_off_goes_on_bit_by_bit(name, settings, tmp_path, recordings):
    def agent():
        return Agent(name, "wgf/CartPole-v0", seeds=2, **settings, compile=True, eval_every=120, eval_episodes=1)

    whole = agent().learn(240, log=tmp_path / "whole")
    agent().learn(120, log=tmp_path / "broken").close()
    broken = agent().resume(tmp_path / "broken")
    assert broken.step == 120
    broken.learn(120, log=tmp_path / "broken")
    for one, two in zip(tensors(broken.state).values(), tensors(whole.state).values(), strict=True):
        assert torch.equal(one, two)
    assert len(recordings) >= 3
