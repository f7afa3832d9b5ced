"""The loop: what it logs, what it keeps when something goes wrong, and that a seed of a stack is the seed alone."""

import csv
import json
import resource
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from wgf.agents import registry
from wgf.agents.tasks.fleet import Outcome
from wgf.agents.training import checkpoint, envs
from wgf.agents.training.evaluate import Episodes, starts
from wgf.agents.training.health import Health
from wgf.agents.training.loop import Task, actor, assess, attempt, begin, collect, learn
from wgf.agents.training.memory import Replay
from wgf.agents.training.protocol import Finished, Streams
from wgf.agents.training.schedule import Schedule


def metrics(folder):
    rows = {}
    with open(folder / "metrics.csv", newline="") as f:
        for row in csv.DictReader(f):
            rows.setdefault(row["tag"], []).append((int(row["step"]), float(row["value"])))
    return rows


def result(folder):
    return json.loads((folder / "result.json").read_text())


class Recorder:
    """Environments that remember what they were told and what they answered."""

    def __init__(self, inner):
        self.inner, self.obs_size, self.action_size = inner, inner.obs_size, inner.action_size
        self.actions, self.steps, self.first, self.faults = [], [], None, {}

    def reset(self, seeds):
        self.first = self.inner.reset(seeds)
        return self.first

    def step(self, action):
        self.actions.append(action.clone())
        self.steps.append(self.inner.step(action))
        return self.steps[-1]


def stream(name, env, seeds, steps, warmup, n=1):
    """(first observations, actions, answers) of a real agent's training, (S, steps, n, ...)."""
    agent, preset = registry.find(name, "paper")
    cfg, schedule = type(preset)(hidden=(8, 8), batch=8), Schedule(steps=steps, warmup=warmup, eval_episodes=1)
    memory, source = Replay(schedule, 8, 0.99, envs=n), envs.Source(env)
    side = Recorder(source.make(len(seeds), n, starts=memory.starts))
    task = Task(agent, cfg, schedule, seeds, memory, side, source.make(len(seeds)), torch.device("cpu"))
    training, quiet = begin(task), SimpleNamespace(write=lambda *_: None, running=[])
    for _ in range(steps // n):
        collect(task, training, quiet)
        learn(task, training)
    columns = {c: torch.stack([getattr(s, c) for s in side.steps], 1).numpy() for c in Outcome._fields}
    return side.first.numpy(), torch.stack(side.actions, 1).numpy(), columns


@pytest.mark.parametrize(("name", "n"), [("sac", 1), ("dp-wgf-v", 1), ("sac", 3)])
def test_a_seed_of_a_stack_has_the_environment_stream_that_it_has_alone(name, n):
    warmup, steps = 60 * n, 90 * n
    first, actions, stack = stream(name, "InvertedPendulum-v5", (3, 8, 5), steps, warmup, n)
    alone_first, alone_actions, alone = stream(name, "InvertedPendulum-v5", (8,), steps, warmup, n)
    np.testing.assert_array_equal(first[1:2], alone_first)
    for column, values in stack.items():  # with uniform actions every bit is the same
        np.testing.assert_array_equal(values[1, :60], alone[column][0, :60])
    np.testing.assert_array_equal(actions[1, :60], alone_actions[0, :60])
    np.testing.assert_allclose(actions[1], alone_actions[0], atol=1e-4)  # then they differ by float32 sums in another order
    ended = stack["terminated"][1] | stack["truncated"][1]
    np.testing.assert_array_equal(ended, alone["terminated"][0] | alone["truncated"][0])
    assert ended[60:].any()
    np.testing.assert_array_equal(stack["obs"][1][ended], alone["obs"][0][ended])  # every episode starts at the same bits


def test_the_first_of_several_environments_is_that_of_one():
    first, actions, _ = stream("sac", "InvertedPendulum-v5", (3,), 60, 60, 3)
    alone, _, _ = stream("sac", "InvertedPendulum-v5", (3,), 20, 20)
    np.testing.assert_array_equal(first[:, :1], alone)
    assert len(np.unique(first[0], axis=0)) == 3
    assert len(np.unique(actions[0, 0])) == 3


def test_seeds_differ():
    first, actions, _ = stream("sac", "InvertedPendulum-v5", (3, 8), 5, 5)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(actions[0], actions[1])


def test_actions_are_uniform_until_warmup_is_over_and_the_agents_after():
    calls = []
    agent = SimpleNamespace(
        act_noise=lambda cfg, action, n, draw: (action, n),
        act=lambda cfg, state, obs, noise: calls.append(noise) or torch.full((1, 2, 4), torch.nan),
    )
    envs_, memory = SimpleNamespace(action_size=4), Memory()
    task = SimpleNamespace(memory=memory, envs=envs_, agent=agent, cfg=None, device=torch.device("cpu"), seeds=[0], team=None)
    training = SimpleNamespace(step=0, streams=Streams([torch.Generator().manual_seed(0)]), state=None)
    uniform = torch.rand(2, 2, 4, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        collect(task, training, SimpleNamespace(write=lambda *_: None, running=[]))
    assert training.step == 6
    torch.testing.assert_close(torch.cat(memory.actions[:2]), 2 * uniform - 1)  # steps 1 to 4; the warm-up is over after 3
    assert memory.actions[2].tolist() == [[[0.0] * 4] * 2]  # a policy that is not finite stands still
    assert calls == [(4, 2)]
    assert actor(task, training, uniform=False)(torch.zeros(1, 2, 3)).tolist() == [[[0.0] * 4] * 2]


def test_an_attempt_begins_one_environment_and_leaves_the_others_alone():
    told = []
    side = SimpleNamespace(reset=told.append, step=lambda action: told.append(tuple(action.shape)), action_size=2, faults={})
    attempt(side, 7, 3)
    assert told == [[*starts([7], 1), None, None], (3, 1, 2)]


def test_of_several_policies_the_best_mean_of_its_own_episodes_is_told(monkeypatch):
    returns = np.array([[1.0, 3.0, 10.0, 20.0, 4.0, 4.0]])  # of three policies, two episodes each
    asked, told = [], {}
    monkeypatch.setattr("wgf.agents.training.loop.evaluate", lambda *given: asked.append(given[2:4]) or Episodes(returns, 2.0 * returns))
    task = SimpleNamespace(agent=None, cfg=None, device=None, seeds=[7], eval_envs=SimpleNamespace(faults={}), team=None, played=6)
    task.memory, task.schedule = SimpleNamespace(policies=3), Schedule(eval_episodes=2)
    run, record = (
        SimpleNamespace(state=None, step=1, health=Health()),
        SimpleNamespace(running=[0], write=lambda _, values: told.update(values)),
    )
    assert assess(task, run, record, lambda: False)
    assert asked == [([7], 6)]
    expected = {"eval/return": 7.0, "eval/return_std": returns.std(), "eval/length": 14.0, "eval/return_best": 15.0}
    assert {tag: value.tolist() for tag, value in told.items()} == {tag: [value] for tag, value in expected.items()}


class Memory:
    """Two environments per seed that only ask for actions."""

    warmup, size, policies = 3, 2, 1

    def __init__(self):
        self.actions = []

    def explore(self, state, draw):
        pass

    def collect(self, act):
        self.actions.append(act(torch.zeros(1, 2, 3)))
        return Finished(np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 1))), np.array([True])


def test_updates_begin_with_the_last_step_of_the_warmup(train_toy):
    assert train_toy("toy/Limited-v0", schedule={"warmup": 70}).state.updates.tolist() == [31.0]
    assert train_toy("toy/Limited-v0", schedule={"warmup": 0}, out="b").state.updates.tolist() == [100.0]


def test_every_episode_and_evaluation_is_logged_at_its_step(train_toy):
    done = train_toy("toy/Limited-v0", (0, 1))
    for folder in done.folders:
        rows = metrics(folder)
        assert rows["charts/episodic_return"] == rows["charts/episodic_length"] == [(5 * i, 5.0) for i in range(1, 21)]
        assert rows["eval/return"] == rows["eval/length"] == [(20 * i, 5.0) for i in range(1, 6)]
        assert [step for step, _ in rows["losses/q"]] == list(range(10, 101, 10))
        assert all(value > 0 for _, value in rows["charts/steps_per_second"])
        assert result(folder).items() >= {"status": "finished", "reason": None, "step": 100, "eval_return": 5.0, "stack": 2}.items()
    assert [t.step for t in done.ticks] == list(range(10, 101, 10))
    for tag in ("charts/episodic_return", "eval/return"):
        assert done.ticks[-1].of(tag, 2).tolist() == [5.0, 5.0]
    assert np.isnan(done.ticks[0].of("eval/return", 2)).all()


def test_several_environments_log_the_mean_of_the_episodes_that_ended_together(train_toy):
    rows = metrics(train_toy("toy/Limited-v0", envs=4).folders[0])
    assert rows["charts/episodic_return"] == rows["charts/episodic_length"] == [(20 * i, 5.0) for i in range(1, 6)]
    assert [step for step, _ in rows["losses/q"]] == [12, 20, 32, 40, 52, 60, 72, 80, 92, 100]  # the first steps at or past 10, 20, ...
    assert [step for step, _ in rows["eval/return"]] == [20, 40, 60, 80, 100]


def test_episode_returns_are_sums_of_their_own_rewards(train_toy):
    rows = metrics(train_toy("toy/Walk-v0").folders[0])
    for episode, (total, length) in enumerate(zip(rows["charts/episodic_return"], rows["charts/episodic_length"], strict=True), 1):
        n = length[1]
        assert total[1] == 100.0 * episode * n + n * (n + 1) / 2
    assert sum(n for _, n in rows["charts/episodic_length"]) == rows["charts/episodic_length"][-1][0]


def test_the_rate_counts_steps_between_looks_and_leaves_evaluations_out(train_toy, monkeypatch):
    clock = {"now": 0.0}
    monkeypatch.setattr("wgf.agents.training.loop.time", SimpleNamespace(perf_counter=lambda: clock["now"]))
    real_step, real_evaluate = envs.Gymnasium.step, __import__("wgf.agents.training.loop", fromlist=["evaluate"]).evaluate

    def step(self, action):
        clock["now"] += 0.25 if len(action) == 1 else 0.0  # the training environment; an evaluation has two
        return real_step(self, action)

    def evaluate(*args):
        clock["now"] += 1000.0
        return real_evaluate(*args)

    monkeypatch.setattr(envs.Gymnasium, "step", step)
    monkeypatch.setattr("wgf.agents.training.loop.evaluate", evaluate)
    rows = metrics(train_toy("toy/Limited-v0").folders[0])
    assert rows["charts/steps_per_second"] == [(10 * i, 4.0) for i in range(1, 11)]


def test_a_loss_that_is_not_finite_stops_its_seed_alone(train_toy):
    done = train_toy("toy/Limited-v0", (4, 5, 6), poison=5)
    assert done.endings == ["finished", "failed: losses/q is nan for seed 5 at step 50", "finished"]  # its 40th update is at step 49
    alone = train_toy("toy/Limited-v0", (6,), out="alone")
    torch.testing.assert_close(done.state.value[2:], alone.state.value, atol=0, rtol=0)
    about, tensors = checkpoint.load(done.folders[1])
    assert about["step"] == 40
    assert all(torch.isfinite(t).all() for t in tensors.values())
    assert result(done.folders[1])["reason"] == "losses/q is nan for seed 5 at step 50"
    assert checkpoint.load(done.folders[0])[0]["step"] == 100


def test_a_policy_that_is_not_finite_is_not_saved(train_toy):
    done = train_toy("toy/Limited-v0", (5,), poison=5, schedule={"steps": 49, "warmup": 10, "log_every": 100})
    # the update that ruins the values reports the finite loss from before it
    assert done.endings == ["failed: value is not finite for seed 5 at step 49"]
    assert checkpoint.load(done.folders[0])[0]["step"] == 40


def test_a_simulator_gone_wrong_stops_its_seed_alone(train_toy):
    done = train_toy("toy/Nan-v0", (0, 1))
    says = "environment 'toy/Nan-v0' returned an observation or a reward that is not finite at step 30"
    assert done.endings == ["finished", f"failed: {says}"]
    assert checkpoint.load(done.folders[1])[0]["step"] == 30


def test_all_seeds_failing_ends_the_training(train_toy):
    done = train_toy("toy/Nan-v0", (1,))
    assert done.ticks[-1].step == 30
    assert result(done.folders[0])["step"] == 30


def test_an_environment_that_raises_keeps_what_was_learnt(train_toy):
    done = train_toy("toy/Raises-v0", (0, 1))
    reason = "environment 'toy/Raises-v0' raised RuntimeError: the gearbox broke at step 30"
    assert done.endings == [f"failed: {reason}"] * 2
    for folder in done.folders:
        assert result(folder)["reason"] == reason
        assert "the gearbox" in result(folder)["traceback"]
        assert checkpoint.load(folder)[0]["step"] == 30
        assert metrics(folder)["charts/episodic_return"][-1] == (25, 5.0)


def test_an_error_of_the_program_is_named_with_its_traceback_kept(train_toy):
    done = train_toy("toy/Limited-v0", fault=ArithmeticError)
    assert done.endings == ["failed: ArithmeticError: of the update at step 49"]
    assert "in update" in result(done.folders[0])["traceback"]


def test_a_second_interrupt_leaves_a_closed_log_and_the_last_policy(train_toy, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train_toy("toy/Limited-v0", fault=KeyboardInterrupt)
    folder = tmp_path / "toy" / "seed-0"
    assert result(folder)["status"] == "interrupted"
    assert checkpoint.load(folder)[0]["step"] == 40
    assert metrics(folder)["charts/episodic_return"][-1] == (45, 5.0)


def test_being_asked_to_stop_saves_and_leaves(train_toy):
    asked = iter([False] * 33 + [True])
    done = train_toy("toy/Limited-v0", (0, 1), stopping=lambda: next(asked), schedule={"eval_every": 1000, "log_every": 1000})
    assert done.ticks == []
    assert done.endings == ["interrupted"] * 2
    for folder in done.folders:
        step = result(folder)["step"]
        assert checkpoint.load(folder)[0]["step"] == step == 34
        assert "losses/q" not in metrics(folder)  # a run that goes on has the rows of one that was not stopped
        assert result(folder)["eval_return"] is None


def test_an_evaluation_that_is_stopped_is_not_logged(train_toy):
    asked = iter([False] * 23 + [True])  # one question a step, one a step of the evaluation, which begins at step 20
    done = train_toy("toy/Limited-v0", stopping=lambda: next(asked))
    assert done.endings == ["interrupted"]
    assert checkpoint.load(done.folders[0])[0]["step"] == 20
    assert "eval/return" not in metrics(done.folders[0])


def test_a_policy_is_there_from_the_first_moment(train_toy):
    done = train_toy("toy/Limited-v0", stopping=lambda: True)
    assert done.endings == ["interrupted"]
    assert checkpoint.load(done.folders[0])[0]["step"] == 1


def test_a_full_disk_ends_the_run_and_leaves_the_last_policy_whole(train_toy, tmp_path):
    """Files may grow to 16 KiB: the metrics of a longer training do not fit."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 10, before[1]))
        done = train_toy("toy/Limited-v0", schedule={"steps": 2000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert done.endings[0].endswith("cannot be written: File too large")
    about, _ = checkpoint.load(done.folders[0])
    assert 0 < about["step"] < 2000
    assert result(done.folders[0])["status"] == "failed"
    assert not list(tmp_path.glob("**/.*.tmp"))


@pytest.mark.parametrize("field", ["steps", "log_every", "eval_every", "eval_episodes"])
def test_a_schedule_without_steps_is_refused(field):
    with pytest.raises(ValueError, match=rf"^{field} is 0; it must be at least 1$"):
        Schedule(**{field: 0})
    with pytest.raises(ValueError, match=r"^warmup is -1; it must be at least 0$"):
        Schedule(warmup=-1)
