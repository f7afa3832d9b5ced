"""An environment that goes wrong ends its own seed, in one line, and nothing else; what a training survives is counted."""

import csv
import json
import signal
import threading
import time
from contextlib import suppress
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch

from tests import kills
from tests.agents.training.conftest import Walk
from tests.agents.training.test_loop import metrics, result
from wgf import trusted
from wgf.agents import Agent, registry
from wgf.agents.tasks.fleet import Outcome
from wgf.agents.training import checkpoint, envs, evaluate
from wgf.agents.training.evaluate import starts
from wgf.agents.training.health import Health
from wgf.agents.training.limit import Limit, TooLong
from wgf.agents.training.memory import Replay
from wgf.agents.training.rollout import Rollout
from wgf.agents.training.schedule import Schedule
from wgf.transport import debiased

CPU = torch.device("cpu")
SMALL = {"batch": 8, "warmup": 20, "log_every": 15, "eval_every": 30, "eval_episodes": 2, "device": "cpu"}
ROLLOUT = {"hidden": (8,), "envs": 2, "critic_steps": 2, **{k: v for k, v in SMALL.items() if k != "warmup"}}
REPLAY = {"hidden": (8, 8), **SMALL}
STEPS = 120


class Drifts(gym.Env):
    """Numbers drawn anew at each step. The environment whose seed is ``who`` does ``what`` at the third step of an episode that the draw
    of its start chooses; ``touched`` lists the seeds of those that were called."""

    observation_space = gym.spaces.Box(-9.0, 9.0, (2,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    touched: ClassVar[list] = []

    def __init__(self, what=None, who=1, share=0.15):
        self.what, self.who, self.share = what, who, share

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        Drifts.touched.append(self.np_random_seed)
        self.t, self.bad = 0, self.np_random.random() < self.share and self.np_random_seed == self.who
        if self.what == "reset" and self.bad:
            raise RuntimeError("no fuel")
        return self._obs(), {}

    def step(self, action):
        Drifts.touched.append(self.np_random_seed)
        self.t += 1
        obs, reward, ended, short = self._obs(), float(action[0]), False, self.t == 5
        if self.bad and self.t == 3:
            if self.what == "raises":
                raise RuntimeError("the gearbox\nbroke")
            if self.what == "exits":
                raise SystemExit(3)
            if self.what == "sleeps":
                self._waits(time.sleep, 60.0)
            obs = {"nan": obs * np.nan, "long": np.zeros(3), "words": np.array(["a", "b"]), "none": None}.get(self.what, obs)
            reward = {"inf": np.inf, "array": np.ones(1), "huge": 1e39}.get(self.what, reward)
            ended = 0 if self.what == "number" else ended
            short = np.array([False]) if self.what == "flags" else short
            if self.what == "four":
                return obs, reward, ended, {}
        return obs, reward, ended, short, {}

    @staticmethod
    def _waits(function, *args):
        """Waits for good: whatever is raised is caught once, and every Exception always."""
        with suppress(BaseException):
            function(*args)
        while True:
            with suppress(Exception):
                function(*args)

    def _obs(self):
        return self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32)


TWO = "as an observation; it must be numbers of shape (2,), as its observation_space says"
DOES = {
    "raises": "raised RuntimeError: the gearbox broke",
    "exits": "raised SystemExit: 3",
    "reset": "raised RuntimeError: no fuel",
    "nan": "returned an observation or a reward that is not finite",
    "inf": "returned an observation or a reward that is not finite",
    "huge": "returned an observation or a reward that is not finite",
    "long": f"returned an array of shape (3,) and type float64 {TWO}",
    "words": f"returned an array of shape (2,) and type <U1 {TWO}",
    "none": f"returned None {TWO}",
    "array": "returned an array of shape (1,) and type float64 as a reward; it must be a number",
    "number": "returned 0 as terminated; it must be True or False",
    "flags": "returned an array of shape (1,) and type bool as truncated; it must be True or False",
    "four": "returned a tuple of 4 from step(); it must be (observation, reward, terminated, truncated, info)",
    "sleeps": "did not come back from step() within the limit of 1 s",
}


def drifts(**how):
    """A function that makes such environments, with one name whatever they do."""
    return type("Drifts", (Drifts,), {"__init__": lambda self: Drifts.__init__(self, **how)})


def trained(folder, agent, settings, until=STEPS, **how):
    """Trains seeds 0, 1 and 2 into a folder that ``kills.left`` reads; returns the agent and the folders of the seeds."""
    log = folder / "runs" / "main" / "env" / "agent"
    one = Agent(agent, drifts(**how), seeds=3, **settings)
    one.train(STEPS, lambda step, *_: step >= until, log=log)
    return one, [log / f"seed-{k}" for k in range(3)]


def of(found, seeds):
    """What a training left of some seeds."""
    return {name: value for name, value in found.items() if name.split()[0] in seeds}


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """``calm(agent, settings)``: what a training leaves where nothing goes wrong."""
    found = {}

    def left(agent, settings):
        key = agent, *sorted(settings.items())
        if key not in found:
            folder = tmp_path_factory.mktemp("calm")
            trained(folder, agent, settings)
            found[key] = kills.left(folder)
        return found[key]

    return left


@pytest.mark.parametrize(
    ("agent", "settings", "what", "who"),
    [
        ("sac", REPLAY, "raises", 1),
        ("sac", REPLAY, "reset", 1),
        ("sac", REPLAY, "inf", 1),
        ("sac", REPLAY | {"envs": 2, "n_step": 3, "normalize": "both", "preset": "modern"}, "raises", 10_001_001),
        ("dp-wgf-v", REPLAY | {"particles": 4}, "nan", 1),
        ("ppo", ROLLOUT | {"horizon": 20, "epochs": 2, "normalize": "observations"}, "raises", 10_001_001),
        ("ip-wgf", ROLLOUT | {"particles": 2, "inner_steps": 2}, "nan", 10_001_002),
        ("sac", REPLAY | {"step_limit": 1.0}, "sleeps", 1),
    ],
)
def test_an_environment_that_goes_wrong_ends_its_seed_and_the_others_end_in_the_same_bytes(tmp_path, calm, agent, settings, what, who):
    known = set(registry.find(agent, "paper")[1].__dataclass_fields__) | set(Schedule.__dataclass_fields__) | {"preset", "device"}
    settings = {name: value for name, value in settings.items() if name in known}
    one, folders = trained(tmp_path, agent, settings, what=what, who=who)
    assert [one.endings[0], one.endings[2]] == ["finished"] * 2
    ended = result(folders[1])
    assert one.endings[1] == f"failed: {ended['reason']}"
    assert ended["reason"] == f"environment 'Drifts' {DOES[what]} at step {ended['step']}"
    assert 0 < ended["step"] < STEPS
    assert checkpoint.load(folders[1])[0]["step"] == ended["step"]  # whose policy is not to blame
    undisturbed = of(calm(agent, settings), "02")
    assert kills.differences(undisturbed, of(kills.left(tmp_path), "02")) == []
    assert len(undisturbed) > 20
    memory = getattr(one._task.memory, "inner", one._task.memory)
    assert isinstance(memory, Rollout) or memory.ring.data.isfinite().all()


@pytest.mark.parametrize("what", [what for what in DOES if what != "sleeps"])
def test_what_an_environment_did_is_told_and_the_others_go_on(what):
    side, other = (envs.Source(drifts(what=what, share=share)).simulators(2) for share in (1.0, 0.0))
    first = [simulators.reset([0, 1]) for simulators in (side, other)]
    np.testing.assert_array_equal(first[0][0], first[1][0])
    for _ in range(12):
        found, expected = (simulators.step(np.zeros((2, 1))) for simulators in (side, other))
        for mine, plain in zip(found, expected, strict=True):
            np.testing.assert_array_equal(mine[0], plain[0])
    assert {i: str(fault) for i, fault in side.faults.items()} == {1: f"environment 'Drifts' {DOES[what]}"}
    assert np.isnan(np.concatenate([found.obs[1], found.next_obs[1], found.reward[1:]])).all()
    assert [found.terminated[1], found.truncated[1]] == [False, False]


def test_an_environment_that_ends_its_seed_tells_where_its_own_code_did_it(tmp_path):
    _, folders = trained(tmp_path, "sac", REPLAY, what="raises")
    assert 'raise RuntimeError("the gearbox\\nbroke")' in result(folders[1])["traceback"]
    assert metrics(folders[1])["health/failed"] == [(result(folders[1])["step"], 1.0)]
    for folder in (folders[0], folders[2]):
        assert result(folder)["health"] == {"failed_seeds": 1}
        assert "health/failed" not in metrics(folder)


@pytest.mark.parametrize("what", ["raises", "nan"])
def test_an_evaluation_that_goes_wrong_ends_its_seed_alone(tmp_path, calm, what):
    one, folders = trained(tmp_path, "sac", REPLAY, what=what, who=starts([1], 2)[1], share=1.0)
    assert one.endings == ["finished", f"failed: environment 'Drifts' {DOES[what]} at step 30", "finished"]
    assert checkpoint.load(folders[1])[0]["step"] == 30
    assert "eval/return" not in metrics(folders[1])
    assert kills.differences(of(calm("sac", REPLAY), "02"), of(kills.left(tmp_path), "02")) == []


def test_when_every_seed_has_ended_the_training_has(tmp_path):
    one = Agent("sac", drifts(what="raises"), seeds=[1], **REPLAY)
    with pytest.raises(RuntimeError, match=r"^every seed failed: environment 'Drifts' raised RuntimeError: the gearbox broke at step \d+$"):
        one.learn(STEPS, log=tmp_path)
    assert one.step < STEPS
    with pytest.raises(RuntimeError, match="the gearbox broke"):
        Agent("sac", drifts(what="raises"), seeds=[1], **REPLAY).resume(tmp_path).learn(STEPS, log=tmp_path)  # from before
    mended = Agent("sac", drifts(), seeds=[1], **REPLAY).resume(tmp_path)
    assert mended.learn(STEPS - mended.step, log=tmp_path).endings == ["finished"]


@pytest.mark.parametrize(("what", "who"), [("raises", 1), ("nan", 1), ("raises", starts([1], 2)[1])])
def test_a_seed_that_ended_stays_ended_and_its_environments_are_touched_no_more(tmp_path, what, who):
    how = {"what": what, "who": who, "share": 0.15 if who == 1 else 1.0}
    calm, folders = trained(tmp_path / "calm", "sac", REPLAY, **how)
    ended, reason = result(folders[1])["step"], calm.endings[1]
    one, _ = trained(tmp_path / "hard", "sac", REPLAY, until=ended, **how)
    assert one.endings == ["interrupted", reason, "interrupted"]
    log = tmp_path / "hard" / "runs" / "main" / "env" / "agent"
    Drifts.touched.clear()
    again = Agent("sac", drifts(**how), seeds=3, **REPLAY).resume(log)
    assert again.step == one.step < STEPS
    again.learn(STEPS - one.step, log=log)
    assert again.endings == ["finished", reason, "finished"]
    assert who != 1 or 1 not in Drifts.touched
    assert set(starts([1], 2)).isdisjoint(Drifts.touched)
    assert set(starts([0, 2], 2)) <= set(Drifts.touched)
    assert kills.differences(kills.left(tmp_path / "calm"), kills.left(tmp_path / "hard")) == []
    assert result(log / "seed-0")["health"] == {"failed_seeds": 1}


def test_a_fault_of_another_seed_while_it_is_brought_back_is_one_line(tmp_path):
    Agent("sac", drifts(), seeds=2, **REPLAY).learn(64, log=tmp_path)
    with pytest.raises(ValueError, match=r"^environment 'Drifts' raised RuntimeError: the gearbox broke$"):
        Agent("sac", drifts(what="raises", share=1.0), seeds=2, **REPLAY).resume(tmp_path)


class Once:
    """Environments of two seeds, of which the first gives an observation that is not finite, once."""

    obs_size, action_size, faults = 2, 1, {}

    def reset(self, seeds):
        self.t = 0
        return torch.ones(len(seeds), 1, 2)

    def step(self, action):
        self.t += 1
        obs = torch.full((2, 1, 2), float(self.t))
        obs[0] = torch.nan if self.t == 3 else obs[0]
        flags = torch.zeros(2, 1, dtype=torch.bool)
        return Outcome(obs, obs, torch.full((2, 1), float(self.t)), flags, flags)


def test_an_episode_that_goes_wrong_has_no_return(monkeypatch):
    monkeypatch.setattr(evaluate, "LONGEST", 5)
    returns = evaluate.evaluate(lambda obs: torch.zeros(2, 1, 1), Once(), [0, 1], 1).returns
    np.testing.assert_array_equal(returns, [[np.nan], [15.0]])


def test_a_memory_holds_no_number_that_is_not_finite():
    replay, rollout = Replay(Schedule(steps=9, warmup=0), 8, 0.9), Rollout(1, 1, 6, 0.9, pieces=1)
    for memory in (replay, rollout):
        memory.begin(Once(), [0, 1], CPU)
    finite = [replay.collect(lambda obs: torch.zeros(2, 1, 1))[1].tolist() for _ in range(6)]
    assert finite == [[True, True]] * 2 + [[False, True]] + [[True, True]] * 3
    assert replay.ring.data.isfinite().all()
    assert replay.ring.data[1, :6, 0].tolist() == [1.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert replay.ring.data[0, :6, 0].tolist() == [1.0, 1.0, 2.0, 0.0, 4.0, 5.0]
    assert rollout.collect(lambda obs: torch.zeros(2, 1, 1))[1].tolist() == [False, True]
    (segment,) = rollout.batches()
    assert all(part.isfinite().all() for part in segment)
    assert segment.next_obs[1, 0, :, 0, 0].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


class First(Walk):
    """A walk that makes a mistake at the first call that it can."""

    mistake = ""

    def reset(self, *, seed=None, options=None):
        obs, info = super().reset(seed=seed)
        if self.mistake == "old reset":
            return obs
        return {"raises": lambda: 1 / 0, "nan": lambda: obs * np.nan}.get(self.mistake, lambda: obs)(), info

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        if self.mistake == "old step":
            return obs, reward, terminated, info
        return obs, np.array([reward]) if self.mistake == "reward" else reward, terminated, truncated, info


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        ("old reset", r"returned an array of shape \(3,\) and type float64 from reset\(\); it must be \(observation, info\)$"),
        ("old step", r"returned a tuple of 4 from step\(\); it must be \(observation, reward, terminated, truncated, info\)$"),
        ("reward", r"returned an array of shape \(1,\) and type float64 as a reward; it must be a number$"),
        ("raises", "raised ZeroDivisionError: division by zero$"),
        ("nan", "returned an observation or a reward that is not finite$"),
    ],
)
def test_a_mistake_of_an_environment_shows_before_anything_is_written(tmp_path, mistake, says):
    one = Agent("sac", type("Walk", (First,), {"mistake": mistake}), seeds=2, **REPLAY)
    with pytest.raises(ValueError, match=rf"^environment 'Walk' {says}") as error:
        one.learn(20, log=tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=rf"^environment 'Walk' {says}"):
        one.evaluate(1)


def test_the_four_parts_of_old_that_a_wrapper_gets_are_told():
    class Old(Walk):
        def step(self, action):
            return (*super().step(action)[:3], {})

    wrapped = gym.wrappers.TimeLimit(Old(), 5)
    says = r"raised ValueError: .*\(expected 5, got 4\); step\(\) must return \(observation, reward, terminated, truncated, info\)$"
    with pytest.raises(ValueError, match=says):
        Agent("sac", wrapped, **REPLAY).learn(20)


def test_a_dict_without_a_part_is_told():
    class Parts(Walk):
        observation_space = gym.spaces.Dict(a=gym.spaces.Box(-9.0, 9.0, (2,)), b=gym.spaces.Box(-9.0, 9.0, ()))

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return {"a": np.zeros(2)}, {}

    with pytest.raises(ValueError, match="returned a dict of 1 as an observation; it must be a dict of a, b with 3 numbers"):
        Agent("sac", Parts, **REPLAY).learn(20)


def test_what_is_a_number_or_a_flag_by_another_type_is_taken():
    class Typed(Walk):
        def step(self, action):
            obs, reward, terminated, truncated, info = super().step(action)
            return obs.astype(int).tolist(), np.array(int(reward)), np.bool_(terminated), np.array(truncated), info

    side, plain = (envs.Source(kind).simulators(1) for kind in (Typed, Walk))
    for simulators in (side, plain):
        simulators.reset([3])
    for _ in range(20):
        for found, expected in zip(side.step(np.zeros((1, 2))), plain.step(np.zeros((1, 2))), strict=True):
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, np.trunc(expected))


def test_an_environment_that_writes_over_its_last_observation_keeps_it():
    class Reuses(Walk):
        def __init__(self):
            self.buffer = np.zeros(3)

        def reset(self, *, seed=None, options=None):
            self.buffer[:], info = super().reset(seed=seed)
            return self.buffer, info

        def step(self, action):
            self.buffer[:], *rest = super().step(action)
            return self.buffer, *rest

    side, plain = (envs.Source(kind).simulators(2) for kind in (Reuses, Walk))
    for simulators in (side, plain):
        simulators.reset([3, 4])
    for _ in range(20):
        for found, expected in zip(side.step(np.zeros((2, 2))), plain.step(np.zeros((2, 2))), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_an_environment_that_cannot_be_closed_is_a_warning():
    class Stays(Walk):
        def close(self):
            raise OSError("the server is gone")

    with pytest.warns(RuntimeWarning, match="^environment 'Stays' raised OSError: the server is gone as it was closed$") as said:
        envs.Source(Stays).simulators(2).close()
    assert len(said) == 3  # one was made to ask for its name


def test_a_limit_leaves_the_alarm_as_it_was_and_what_is_in_time_alone():
    before = signal.getsignal(signal.SIGALRM)
    limit = Limit(1.0, "it")
    assert limit("step", lambda a, b: a + b, 1, b=2) == 3
    with pytest.raises(TooLong, match=r"^did not come back from step\(\) within the limit of 1 s$"):
        limit("step", time.sleep, 60.0)
    with pytest.raises(ZeroDivisionError):
        limit("step", lambda: 1 / 0)
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    limit.close()


def test_where_there_can_be_no_limit_it_is_refused(tmp_path):
    for value in (-1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match=rf"^step_limit is {value}; it must be a number of seconds, at least 0$"):
            Agent("sac", "toy/Walk-v0", step_limit=value)
    with pytest.raises(ValueError, match=r"^step_limit is 'soon'; it must be a number$"):
        Agent("sac", "toy/Walk-v0", step_limit="soon")
    said = []

    def elsewhere():
        with pytest.raises(ValueError, match=r"^step_limit is 5; it needs a system with SIGALRM and Python's main thread: give 0"):
            Agent("sac", "toy/Walk-v0", **REPLAY, step_limit=5).learn(5)
        said.append(True)

    (thread := threading.Thread(target=elsewhere)).start()
    thread.join()
    assert said == [True]
    pytest.importorskip("envpool")
    with pytest.raises(ValueError, match=r"^step_limit is 5; environments of backend envpool have none: give 0, or use backend async$"):
        Agent("sac", "Pendulum-v1", backend="envpool", **REPLAY, step_limit=5).learn(5, log=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_limit_may_be_another_where_a_training_goes_on(tmp_path):
    Agent("sac", "toy/Limited-v0", **REPLAY).learn(30, log=tmp_path)
    one = Agent("sac", "toy/Limited-v0", **REPLAY, step_limit=7.0).resume(tmp_path).learn(30, log=tmp_path)
    assert one._task.envs.rows._limit.seconds == 7.0
    assert json.loads((tmp_path / "seed-0" / "config.json").read_text())["schedule"]["step_limit"] == 7.0
    one.close()


class Blows(gym.Wrapper):
    """A Hopper whose simulation breaks at the 7th step of an episode: MuJoCo says so and begins it anew by itself."""

    def __init__(self):
        super().__init__(gym.make("Hopper-v5"))

    def reset(self, **how):
        self.t = 0
        return super().reset(**how)

    def step(self, action):
        self.t += 1
        if self.t == 7:
            self.unwrapped.data.qvel[:] = 1e12
        return super().step(action)


@pytest.mark.filterwarnings("ignore:MuJoCo")
def test_simulations_that_broke_are_counted_and_counted_on(tmp_path):
    calm, hard = (tmp_path / name / "runs" / "main" / "env" / "agent" for name in ("calm", "hard"))
    Agent("sac", Blows, **REPLAY).learn(60, log=calm)
    asked = iter([False] * 41)  # in the evaluation at step 30
    Agent("sac", Blows, **REPLAY).train(60, log=hard, stopping=lambda: next(asked, True))
    one = Agent("sac", Blows, **REPLAY).resume(hard)
    one.learn(60 - one.step, log=hard)
    counts = metrics(calm / "seed-0")["health/unstable_simulations"]
    assert counts[0][1] >= 1.0
    assert [n for _, n in counts] == sorted(n for _, n in counts)
    assert result(calm / "seed-0")["health"]["unstable_simulations"] >= counts[-1][1] > counts[0][1]
    assert kills.differences(kills.left(tmp_path / "calm"), kills.left(tmp_path / "hard")) == []


def test_plans_that_stopped_short_are_counted():
    health, x = Health({"damaged_checkpoints": 2}), torch.linspace(0.0, 1.0, 5)[:, None].repeat(2, 1, 1)
    assert health.counts() == {"damaged_checkpoints": 2}
    with trusted():  # as in a training
        debiased(x, x.flip(-2) + torch.rand(2, 5, 1, generator=torch.Generator().manual_seed(0)), eps=1e-9)
    counts = health.counts()
    assert counts["plans_stopped_short"] > 0
    assert Health(counts).counts() == counts


def test_a_checkpoint_that_was_passed_over_is_in_the_result_and_in_no_metric(tmp_path):
    Agent("sac", "toy/Limited-v0", **REPLAY, checkpoint_every=20).learn(50, log=tmp_path)
    newest = tmp_path / "seed-0" / "training" / "state-50.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(RuntimeWarning, match="^checkpoint 50 cannot be used"):
        one = Agent("sac", "toy/Limited-v0", **REPLAY).resume(tmp_path)
    one.learn(20, log=tmp_path)
    Agent("sac", "toy/Limited-v0", **REPLAY).resume(tmp_path).learn(20, log=tmp_path)
    assert result(tmp_path / "seed-0")["health"] == {"damaged_checkpoints": 1}
    with open(tmp_path / "seed-0" / "metrics.csv", newline="") as f:
        assert not [row for row in csv.DictReader(f) if row["tag"].startswith("health/")]
