"""How each seed of a stack ends, and what its folder says of it."""

import csv
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from wgf.agents.training import checkpoint, record
from wgf.agents.training.log import NoLog, RunLog
from wgf.agents.training.record import Record


@dataclass
class State:
    w: torch.Tensor


@pytest.fixture
def two(tmp_path, monkeypatch):
    """The seeds 4 and 7 of one stack, whose clock begins at 100 seconds and stands still."""
    monkeypatch.setattr(record.time, "perf_counter", lambda: 100.0)
    return Record([RunLog(tmp_path / "agent" / f"seed-{seed}", {"config": {}}) for seed in (4, 7)], (4, 7), {"agent": "toy"})


def rows(log):
    with open(log.folder / "metrics.csv", newline="") as f:
        return [(int(row["step"]), row["tag"], float(row["value"])) for row in csv.DictReader(f)]


def result(log):
    found = checkpoint.read_sealed(log.folder / "result.json")
    del found["metrics"]
    return found


def test_a_value_that_is_not_finite_ends_its_seed_and_each_result_says_how(two, monkeypatch):
    two.write(10, {"losses/v": np.array([0.5, 0.25]), "eval/return": np.array([1.5, 2.5]), "losses/q": np.array([np.nan, 3.0])})
    assert two.endings == ["failed: losses/q is nan for seed 4 at step 10", "running"]
    assert two.running == [1]
    two.write(20, {"eval/return": np.array([8.0, 9.0])}, rows=[0])
    two.write(20, {"eval/return": np.array([8.0, 3.5])}, rows=[0, 1])
    two.write(30, {"losses/v": np.array([7.0, 6.0])})
    two.flush()
    assert rows(two.logs[1])[2:] == [(10, "losses/q", 3.0), (20, "eval/return", 3.5), (30, "losses/v", 6.0)]
    monkeypatch.setattr(record.time, "perf_counter", lambda: 107.5)
    two.close(40, "interrupted", "a person", "line 1")
    assert two.endings[1] == "interrupted: a person"
    assert [tag for _, tag, _ in rows(two.logs[0])] == ["losses/v", "eval/return", "losses/q", "health/failed"]
    assert rows(two.logs[0])[-1] == (10, "health/failed", 1.0)
    failed = {"status": "failed", "reason": "losses/q is nan for seed 4 at step 10", "step": 10, "eval_return": 1.5, "diverged": True}
    assert result(two.logs[0]) == failed | {"seconds": 0.0, "stack": 2}
    stopped = {"status": "interrupted", "reason": "a person", "step": 40, "eval_return": 3.5, "traceback": "line 1"}
    assert result(two.logs[1]) == stopped | {"seconds": 7.5, "stack": 2, "health": {"failed_seeds": 1}}


def test_a_result_has_no_return_where_none_was_measured_or_it_was_no_number(two):
    two.write(10, {"eval/return": np.array([np.inf, 2.0])}, rows=[0])
    two.close(20, "finished")
    assert two.endings == ["failed: eval/return is inf for seed 4 at step 10", "finished"]
    for log in two.logs:
        assert result(log)["eval_return"] is None
        assert "traceback" not in result(log)


def test_a_policy_is_saved_with_its_own_seed_and_one_that_is_not_finite_is_not(two):
    state = State(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    two.save(state, 10)
    state.w[1, 0] = torch.inf
    two.save(state, 20)
    assert two.endings == ["running", "failed: w is not finite for seed 7 at step 20"]
    for log, seed, step, values in ((two.logs[0], 4, 20, [[1.0, 2.0]]), (two.logs[1], 7, 10, [[3.0, 4.0]])):
        about, tensors = checkpoint.load(log.folder)
        assert {name: about[name] for name in ("agent", "seed", "step")} == {"agent": "toy", "seed": seed, "step": step}
        assert tensors["w"].tolist() == values
    assert result(two.logs[1])["diverged"]
    two.close(30, "finished")
    assert "diverged" not in result(two.logs[0])


def test_a_seed_that_its_environment_loses_keeps_its_policy_and_what_was_survived_is_told(two):
    two.health = {"restarts": 2}
    two.lose(0, State(torch.tensor([[1.0], [2.0]])), 10, "a simulator left", "line 1")
    two.close(20, "finished")
    assert checkpoint.load(two.logs[0].folder)[0]["step"] == 10
    lost = {"status": "failed", "reason": "a simulator left", "step": 10, "traceback": "line 1", "health": {"restarts": 2}}
    assert result(two.logs[0]).items() >= lost.items()
    assert "diverged" not in result(two.logs[0])
    assert result(two.logs[1])["health"] == {"restarts": 2, "failed_seeds": 1}
    assert two.endings == ["failed: a simulator left", "finished"]


def test_what_is_discarded_leaves_nothing_but_the_seeds_that_had_ended(two, tmp_path):
    two.fail(0, 5, "it broke")
    two.discard("the disk is full")
    assert two.endings == ["failed: it broke", "failed: the disk is full"]
    assert [path.name for path in (tmp_path / "agent").iterdir()] == ["seed-4"]


def test_a_snapshot_keeps_what_was_then(two, monkeypatch):
    monkeypatch.setattr(record.time, "perf_counter", lambda: 107.5)
    two.write(10, {"eval/return": np.array([1.0, 2.0])})
    then = two.snapshot()
    two.write(20, {"eval/return": np.array([3.0, 4.0])})
    two.fail(1, 20, "it broke")
    now = two.snapshot()
    assert (now["endings"], list(now["logs"]), now["seconds"]) == (["running", "failed: it broke"], ["0"], 7.5)
    assert (then["endings"], then["latest"]["eval/return"].tolist()) == (["running", "running"], [1.0, 2.0])
    assert [then["logs"][s]["rows"] for s in ("0", "1")] == [2, 2]
    two.restore(then)
    assert (two.running, two.latest["eval/return"].tolist()) == ([0, 1], [1.0, 2.0])
    two.endings[0], two.latest["eval/return"][0] = "finished", 9.0
    assert (then["endings"], then["latest"]["eval/return"].tolist()) == (["running", "running"], [1.0, 2.0])


def test_the_seconds_before_a_break_count(two, monkeypatch):
    monkeypatch.setattr(record.time, "perf_counter", lambda: 107.5)
    then, later = two.snapshot(), Record([NoLog(), NoLog()], (4, 7), {})
    later.restore(then)
    monkeypatch.setattr(record.time, "perf_counter", lambda: 109.5)
    assert later.snapshot()["seconds"] == 9.5


def test_a_result_that_cannot_be_written_ends_its_seed_all_the_same(two):
    shutil.rmtree(two.logs[0].folder)
    two.close(10, "finished")
    assert two.endings == ["finished", "finished"]
    assert result(two.logs[1])["status"] == "finished"
