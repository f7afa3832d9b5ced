"""Environments in processes give what they give in this one, bit by bit; a process that hangs or dies takes nothing else with it."""

import os
import signal
import subprocess
import sys
import time
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch

from tests import kills
from tests.agents.training.conftest import Walk
from tests.agents.training.test_envs import Parts
from tests.agents.training.test_faults import DOES, REPLAY, Blows, Drifts, drifts
from tests.agents.training.test_loop import result
from wgf.agents import Agent
from wgf.agents.training import envs
from wgf.agents.training.health import Health

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="what a test defines is known to a fork alone")


def sides(env, n, **how):
    """The same environments in this process, and in one each."""
    return [envs.Source(env, backend).simulators(n, **how) for backend in ("gymnasium", "async")]


def same(one, other):
    """Whether two arrays are equal bit by bit, in one type."""
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def actions(side, n, steps):
    return np.random.default_rng(0).uniform(-1.0, 1.0, (steps, n, side.action_size)).astype(np.float32)


@pytest.fixture
def closing():
    """Closes simulators at the end of a test."""
    held = []
    yield lambda both: held.extend(both) or both
    for side in held:
        side.close()


@pytest.mark.parametrize("env", ["toy/Walk-v0", Parts, gym.make("InvertedPendulum-v5")])
def test_every_step_is_that_of_the_same_environments_in_this_process(closing, env):
    plain, side = closing(sides(env, 3))
    assert (side.obs_size, side.action_size, side.horizon, side.continues) == (plain.obs_size, plain.action_size, plain.horizon, True)
    for seeds in ([5, None, 7], [1, 2, 3]):  # the second time the processes are there
        assert same(side.reset(seeds), plain.reset(seeds))
        ends = 0
        for action in actions(plain, 3, 15):
            steps = plain.step(action), side.step(action)
            assert all(same(*parts) for parts in zip(*steps, strict=True))
            ends += (steps[1].terminated | steps[1].truncated)[[0, 2]].sum()
        assert ends >= 2
        assert np.isfinite(steps[1].obs[[0, 2]]).all()


@pytest.mark.parametrize("what", ["raises", "exits", "reset", "nan", "four", "flags"])
def test_what_an_environment_did_is_told_as_in_this_process(closing, what):
    plain, side = closing(sides(drifts(what=what, share=0.5 if what == "reset" else 1.0), 2))  # a later reset, which a step calls
    assert same(side.reset([0, 1]), plain.reset([0, 1]))
    assert side.faults == {}
    for action in actions(plain, 2, 16):
        assert all(same(*parts) for parts in zip(plain.step(action), side.step(action), strict=True))
        assert side.faults.keys() == plain.faults.keys()
    assert {i: str(fault) for i, fault in side.faults.items()} == {1: f"environment 'Drifts' {DOES[what]}"}
    assert what != "raises" or 'raise RuntimeError("the gearbox\\nbroke")' in str(side.faults[1].__cause__)
    assert side.snapshot()["1"] == plain.snapshot()["1"]
    assert same(side.reset([0, 0]), plain.reset([0, 0]))  # it may begin again
    assert side.faults == {}


class Stops(Drifts):
    """Drifts whose process stops, with all that could interrupt it, in the third step; or at the seventh of a life, which is one only."""

    def step(self, action):
        if self.what == "stops" and self.np_random_seed == 1 and self.t == 2:
            os.kill(os.getpid(), signal.SIGSTOP)
        if self.what == "dies" and self.np_random_seed == 1 and self.t == 2:
            os._exit(3)
        return super().step(action)


def stops(what):
    return type("Drifts", (Stops,), {"__init__": lambda self: Drifts.__init__(self, what=what)})


def test_a_process_that_does_not_come_back_is_killed_and_the_others_go_on(closing):
    (plain, _), (_, side) = closing(sides(drifts(), 3)), closing(sides(stops("stops"), 3, limit=1.0))
    first, began = plain.reset([0, 1, 2]), time.monotonic()
    assert same(side.reset([0, 1, 2]), first)
    for t, action in enumerate(actions(plain, 3, 6)):
        expected, found = plain.step(action), side.step(action)
        for mine, own in zip(found, expected, strict=True):
            assert same(mine[[0, 2]], own[[0, 2]])
            assert t >= 2 or same(mine, own)
    assert {i: str(fault) for i, fault in side.faults.items()} == {1: f"environment 'Drifts' {DOES['sleeps']}"}
    assert np.isnan(found.obs[1]).all()
    assert time.monotonic() - began >= 1.0  # it was given its time


def test_a_process_that_dies_again_at_its_step_has_a_fault(closing):
    plain, side = closing([sides(drifts(), 2)[0], sides(stops("dies"), 2)[1]])
    side.reset([0, 1]), plain.reset([0, 1])
    action = actions(plain, 2, 4)
    for a in action[:2]:
        assert all(same(*parts) for parts in zip(plain.step(a), side.step(a), strict=True))
    why = "the process of environment 'Drifts' ended with exit code 3"
    with pytest.warns(RuntimeWarning, match=f"^{why}; it is begun anew$") as said:
        found, expected = side.step(action[2]), plain.step(action[2])
    assert len(said) == 1
    assert {i: str(fault) for i, fault in side.faults.items()} == {1: why}
    assert same(found.obs[:1], expected.obs[:1])
    assert np.isnan([*found.obs[1], *found.next_obs[1], found.reward[1]]).all()
    assert same(side.step(action[3]).obs[:1], plain.step(action[3]).obs[:1])


def test_a_process_that_is_killed_begins_anew_where_it_was(closing):
    plain, side = closing(sides("InvertedPendulum-v5", 2))
    side.reset([3, 4]), plain.reset([3, 4])
    health, killed, anew = Health(), set(), "the process of environment 'InvertedPendulum-v5' was ended by SIGKILL; it is begun anew"
    for action in actions(plain, 2, 20):
        episode = side._episodes[1]
        begun = "seed" if episode.seed is not None else "generator"  # which its episode follows from
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", RuntimeWarning)
            if kill := len(episode.actions) == 2 and begun not in killed:
                killed.add(begun)
                os.kill(side._workers[1].processes[0].pid, signal.SIGKILL)
            assert all(same(*parts) for parts in zip(plain.step(action), side.step(action), strict=True))
        assert [str(one.message) for one in said if one.category is RuntimeWarning] == [anew] * kill
    assert killed == {"seed", "generator"}
    assert health.counts() == {"restarted_environments": 2}
    assert side.faults == {}


def test_an_environment_that_does_not_come_back_to_where_its_process_was_killed_has_a_fault(closing):
    _, side = closing(sides(Walk, 1))  # which numbers its episodes
    side.reset([0])
    while side.step(np.zeros((1, 2), np.float32)).obs[0, 0] < 3.0:
        pass
    os.kill(side._workers[0].processes[0].pid, signal.SIGKILL)
    with pytest.warns(RuntimeWarning, match="it is begun anew"):
        found = side.step(np.zeros((1, 2), np.float32))
    assert str(side.faults[0]) == "the process of environment 'Walk' was ended by SIGKILL, and it does not come back to where it was"
    assert np.isnan(found.obs).all()


def trained(folder, backend, until=44, stopped=(), killed=()):
    """Trains seeds 0 and 1, with a break at some steps and a kill of a process at others; returns what it left, and a result.json."""
    log = folder / "runs" / "main" / "env" / "agent"
    settings, seen = REPLAY | {"envs": 2, "log_every": 4}, list[int]()

    def made():
        return Agent("sac", drifts(), seeds=2, backend=backend, **settings)

    def callback(step, *_):
        if step in killed:
            os.kill(one._task.envs.rows._workers[1].processes[0].pid, signal.SIGKILL)
        stop = step in stopped and step not in seen
        seen.append(step)
        return stop

    (one := made()).train(until, callback, log=log)
    for _ in stopped:
        assert one.step in stopped
        one.close()
        (one := made().resume(log)).train(until, callback, log=log)
    one.close()
    found = kills.left(folder)
    assert found["checkpoint"]["about"].pop("backend") == backend
    found["checkpoint"]["health"].pop("restarted_environments", None)
    return found, result(log / "seed-0")


def test_a_training_ends_in_the_same_bytes_with_a_break_and_a_kill_too(tmp_path):
    plain, calm = trained(tmp_path / "plain", "gymnasium")
    side, _ = trained(tmp_path / "side", "async")
    assert len(plain) > 40
    assert kills.differences(plain, side) == []
    with pytest.warns(RuntimeWarning, match="ended by SIGKILL; it is begun anew"):
        hard, survived = trained(tmp_path / "hard", "async", stopped=(24,), killed=(36,))
    assert kills.differences(plain, hard) == []
    assert (survived["health"], calm.get("health")) == ({"restarted_environments": 1}, None)


def test_a_snapshot_of_one_is_a_snapshot_of_the_other(closing):
    plain, side = closing(sides("InvertedPendulum-v5", 2))
    again = closing(sides("InvertedPendulum-v5", 2))
    for one in (plain, side, *again):
        one.reset([3, 4])
    for action in actions(plain, 2, 13):
        found, _ = plain.step(action), side.step(action)
    saved = plain.snapshot(), side.snapshot()
    assert saved[0]["0"]["generator"] == saved[1]["0"]["generator"] is not None
    for one, snapshot in zip(again, reversed(saved), strict=True):
        assert same(one.restore(snapshot), found.obs)
    assert all(torch.equal(a["actions"], b["actions"]) for a, b in zip(saved[0].values(), saved[1].values(), strict=True))
    for action in actions(plain, 2, 5):
        assert all(same(*parts) for parts in zip(plain.step(action), again[1].step(action), strict=True))


def test_what_goes_wrong_while_it_is_brought_back_is_one_line(tmp_path):
    Agent("sac", drifts(), seeds=2, backend="async", **REPLAY).learn(64, log=tmp_path).close()
    with pytest.raises(ValueError, match=r"^environment 'Drifts' raised RuntimeError: the gearbox broke$"):
        Agent("sac", drifts(what="raises", share=1.0), seeds=2, backend="async", **REPLAY).resume(tmp_path)


@pytest.mark.filterwarnings("ignore:MuJoCo", "ignore:the process")
def test_simulations_that_broke_are_counted_here_and_not_again_when_they_are_played_again(closing):
    counts = []
    for side in closing(sides(Blows, 2)):
        side.reset([0, 1])
        health = Health()
        for t, action in enumerate(actions(side, 2, 9)):
            if t == 8 and hasattr(side, "_workers"):
                os.kill(side._workers[0].processes[0].pid, signal.SIGKILL)
            side.step(action)
        counts.append(health.counts()["unstable_simulations"])
    assert counts[0] == counts[1] >= 2


def test_an_environment_that_cannot_be_closed_is_a_warning_here():
    class Stays(Walk):
        def close(self):
            raise OSError("the server is gone")

    with pytest.warns(RuntimeWarning, match="the server is gone"):
        side = envs.Source(Stays, "async").simulators(2)
    side.reset([0, 1])
    with pytest.warns(RuntimeWarning, match="^environment 'Stays' raised OSError: the server is gone as it was closed$") as said:
        side.close()
    assert len(said) == 2


PROGRAM = """
import os, signal, sys
import numpy as np
from wgf.agents.training import envs, workers
leave = os.setpgrp

def late():
    for number in workers.STOPS:
        os.kill(os.getpid(), number)  # to a process that has just begun, in the program's group and with its answers
    leave()

os.setpgrp = late
for number in workers.STOPS:
    signal.signal(number, lambda number, _: print("heard", int(number), flush=True))
if __name__ == "__main__":
    side = envs.Source("my_task:Mine-v0", "async").simulators(2)
    side.reset([0, 1])
    processes = [worker.processes[0].pid for worker in side._workers]
    os.killpg(0, signal.SIGINT)
    for process in processes:
        for number in workers.STOPS:
            os.kill(process, number)
    side.step(np.zeros((2, 1), np.float32))
    print(*side.faults, *processes, flush=True)
    if sys.argv[1] == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("end", ["is killed", "forgets to close them"])
def test_processes_of_a_module_do_not_hear_what_stops_the_program_and_end_in_silence_with_it(tmp_path, end):
    (tmp_path / "my_task.py").write_text(
        "import gymnasium as gym\nfrom gymnasium.envs.classic_control import PendulumEnv\n"
        "gym.register('Mine-v0', entry_point=PendulumEnv, max_episode_steps=9)\n"
    )
    command = [sys.executable, "-c", PROGRAM, end]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, start_new_session=True, timeout=300)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL if end == "is killed" else 0, "")
    heard, found = done.stdout.splitlines()
    assert heard == f"heard {signal.SIGINT:d}"  # by the program, once
    processes = [int(word) for word in found.split()]
    assert len(processes) == 2
    until = time.monotonic() + 60.0
    while any(os.path.exists(f"/proc/{pid}") for pid in processes):
        assert time.monotonic() < until, "they are there yet"
        time.sleep(0.05)
