"""An update as machine code changes the state as the update does. That every agent can be recorded is a test of test_contract."""

import types
import warnings
from dataclasses import dataclass

import pytest
import torch

from wgf import trusted
from wgf.agents import Agent, pg, ppo, sac
from wgf.agents.training import compiled
from wgf.agents.training.compiled import Recorder, piece, update
from wgf.agents.training.descent import Adam, descend_
from wgf.agents.training.protocol import Batch
from wgf.agents.training.schedule import Schedule
from wgf.compiler import available
from wgf.mlp import MLP
from wgf.policies.critics import QNetwork, squared_error

Q = QNetwork(MLP((3 + 2, 8, 1)))


@dataclass
class State:
    """A critic's optimiser and its target."""

    q: Adam
    target: torch.Tensor


@piece
def fit(adam, obs, action, y):
    return descend_(adam, lambda theta: squared_error(Q(theta, obs, action), y))[0]


@piece
def smooth(target, theta):
    return target.lerp_(theta, 0.1)


def step(cfg, state, batch, noise):
    y = batch.reward + cfg * noise + Q.least(state.target, batch.next_obs, batch.action)
    losses = [fit(state.q, batch.obs[:, half], batch.action[:, half], y[:, half]) for half in (slice(0, 3), slice(3, 6))]
    smooth(state.target, state.q.theta)
    return lambda: {"losses/q": torch.stack(losses).mean(0)}


AGENT = types.SimpleNamespace(update=step)


def fresh(device):
    theta = Q.init(2, [torch.Generator().manual_seed(k) for k in (0, 1)]).to(device)
    return State(Adam(theta, 1e-2), theta.clone())


def minibatches(device, n):
    g = torch.Generator().manual_seed(5)
    for _ in range(n):
        parts = [torch.randn(2, 6, *d, generator=g).to(device) for d in ((3,), (2,), (), (), (3,), ())]
        yield Batch(*parts[:5]), parts[5]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("before", [0, 2])
def test_machine_code_changes_the_state_as_the_update_does(device, before, whole):
    plain, quick = fresh(device), fresh(device)
    held = quick.q.theta
    ways = update(AGENT, 0.5, plain, compile=False), update(AGENT, 0.5, quick, compile=True, whole=whole)
    with trusted(), warnings.catch_warnings():
        warnings.filterwarnings("error", message="not compiled")
        for k, (batch, noise) in enumerate(minibatches(device, 5)):
            one = ways[0](batch, noise)()
            other = (step(0.5, quick, batch, noise) if k < before else ways[1](batch, noise))()
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)  # float32, a few steps
            for name in ("theta", "m", "v", "steps"):
                torch.testing.assert_close(getattr(plain.q, name), getattr(quick.q, name), rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(plain.target, quick.target, rtol=1e-4, atol=1e-6)
    assert quick.q.theta is held


@pytest.mark.parametrize(("whole", "count"), [(True, 1), (False, 2)])
def test_it_is_recorded_once_whole_or_once_for_each_piece(recordings, whole, count):
    """The halves of the minibatch have one shape, so that a piece is recorded at its first call alone."""
    run = update(AGENT, 0.5, fresh("cpu"), compile=True, whole=whole)
    for batch, noise in minibatches("cpu", 3):
        run(batch, noise)
    assert len(recordings) == count


def test_outside_a_compiled_update_a_piece_runs_plainly(recordings):
    run = update(AGENT, 0.5, fresh("cpu"), compile=True, whole=False)
    batch, noise = next(minibatches("cpu", 1))
    run(batch, noise)
    known = len(recordings)
    state = fresh("cpu")
    fit(state.q, batch.obs, batch.action, batch.reward)
    update(AGENT, 0.5, state, compile=False)(batch, noise)
    assert len(recordings) == known
    assert state.q.steps == 3


def test_a_recorder_records_for_each_function_shape_and_type_and_changes_its_own_arguments_alone(recordings):
    recorder = Recorder()

    def add_(x, pair):
        return x.add_(pair[0]).add_(pair[1], alpha=2.0).clone()

    for n, (shape, dtype) in enumerate([((3,), torch.float32), ((4,), torch.float32), ((3,), torch.float64)], start=1):
        for _ in range(2):
            x, one = torch.ones(shape, dtype=dtype), torch.ones(shape, dtype=dtype)
            assert torch.equal(recorder(add_, x, (one, 3.0 * one)), 8.0 * one)
            assert torch.equal(x, 8.0 * one)  # the run that records leaves no second step behind
            assert torch.equal(one, torch.ones_like(one))
        assert len(recordings) == n
    recorder(lambda x: x + 1.0, torch.ones(3))
    assert len(recordings) == 4


def test_what_cannot_be_recorded_runs_plainly_after_one_warning(recordings):
    recorder = Recorder()

    def looks(x):
        return x.add_(1.0) if x.sum().item() > 0.0 else x

    x = torch.ones(3)
    with pytest.warns(RuntimeWarning, match="^not compiled: "):
        recorder(looks, x)
    assert torch.equal(x, torch.full((3,), 2.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(recorder(looks, x), torch.full((3,), 3.0))


def test_compiling_pays_where_it_saves_twice_its_cost():
    # SAC at batch 256, 256-256: 1.2e-3 + 8e-11 x 16.8e6 = 2.54 ms per update, so that 80 s are saved after 31,500 updates
    work = 256 * 256**2
    assert compiled.saving(1_000, work) == pytest.approx(1.2 + 1.342, abs=1e-3)
    assert compiled.saving(-5, work) == 0.0
    if available():
        assert [compiled.pays(n, work, torch.device("cpu")) for n in (31_000, 32_000)] == [False, True]
        assert [compiled.pays(32_000, w, torch.device("cpu")) for w in (work // 2, 2 * work)] == [False, True]
        assert [compiled.pays(0, work, torch.device("cpu"), ticks) for ticks in (390_000, 410_000)] == [False, True]
        assert compiled.pays(16_000, work, torch.device("cpu"), 210_000)  # the one half, the other half
    assert not compiled.pays(10**9, work, torch.device("cuda"))


def test_without_a_compiler_nothing_is_compiled_by_itself(tmp_path):
    with torch._inductor.config.patch({"cpp.cxx": (str(tmp_path / "g++"),)}):
        assert not available()
        assert not compiled.pays(10**9, 10**9, torch.device("cpu"))


@pytest.mark.parametrize(
    ("steps", "settings", "expected"),
    [
        (33_000, {}, True),
        (31_000, {}, False),
        (33_000, {"hidden": (64, 64)}, False),
        (130_000, {"warmup": 100_000}, False),
        (31_000, {"compile": True}, True),
        (10**6, {"compile": False}, False),
    ],
)
def test_a_training_says_whether_it_is_compiled(monkeypatch, steps, settings, expected):
    monkeypatch.setattr("wgf.agents.training.compiled.available", lambda: True)
    assert Agent("sac", "Pendulum-v1", preset="modern", device="cpu", **settings).compiles(steps) is expected


@pytest.mark.parametrize(
    ("env", "steps", "expected"),
    [("PointWall", 42_000_000, True), ("PointWall", 30_000_000, False), ("PointWallMuJoCo", 42_000_000, False)],
)
def test_the_steps_of_a_task_of_its_own_count_too(monkeypatch, env, steps, expected):
    """100 policies at once: 420,000 steps together save 84 s."""
    monkeypatch.setattr("wgf.agents.training.compiled.available", lambda: True)
    assert Agent("es", f"wgf/{env}-v0", device="cpu").compiles(steps) is expected


def test_the_steps_of_a_training_are_those_of_its_memory():
    schedule = Schedule(warmup=100)
    replay, rollout = sac.memory(sac.Config(envs=4), schedule), ppo.memory(ppo.Config(horizon=10, envs=3, batch=7, epochs=2), schedule)
    assert [replay.updates(n) for n in (99, 100, 150)] == [0, 1, 51]
    assert [rollout.updates(n) for n in (30, 31)] == [2 * 5, 2 * 2 * 5]  # 30 transitions are five minibatches of seven or two
    assert pg.memory(pg.Config(batch=1200, envs=10, critic_steps=20), schedule).updates(1200) == 20 + 3  # 120 times in parts of 50


def test_a_rollout_is_compiled_in_pieces(recordings):
    small = {"hidden": (8, 8), "device": "cpu", "horizon": 20, "batch": 7, "epochs": 2, "compile": True}
    Agent("ppo", "wgf/CartPole-v0", **small).learn(40)
    assert len(recordings) == 3  # a step of the task, a minibatch of seven, and the last, of six


def test_what_is_decided_is_what_is_done(recordings, monkeypatch):
    monkeypatch.setattr("wgf.agents.training.compiled.available", lambda: True)
    monkeypatch.setattr("wgf.agents.training.compiled.COST", 1e-3)
    small = {"hidden": (8, 8), "batch": 8, "warmup": 10, "device": "cpu"}
    Agent("sac", "Pendulum-v1", preset="modern", **small).learn(10)  # one update, 1.2 ms
    assert not recordings
    Agent("sac", "Pendulum-v1", preset="modern", **small).learn(12)  # three, 3.6 ms
    assert len(recordings) == 1
