"""The folder of a training: what is new there, what goes on, and what is not this training's."""

import json
import warnings

import numpy as np
import pytest

from wgf.agents.training.checkpoint import read_sealed
from wgf.agents.training.folder import checkpoints, difference, free, identity, opened
from wgf.agents.training.log import NoLog
from wgf.agents.training.loop import Keeper

ABOUT = {"agent": "sac", "config": {"lr": 1.0}}
WHERE = {"versions": {"torch": "2.10"}, "threads": 1, "system": "Linux", "cores": 2}


def begun(log, step=10, seeds=(4, 7)):
    """A stack of two seeds that was logged until a step, with what its keeper kept then."""
    record, keeper = opened(log, seeds, ABOUT, WHERE, None, 0, True, {})
    record.write(step, {"eval/return": np.array([1.0, 2.0])})
    keeper.last = {"step": step, "record": record.snapshot()}
    record.write(step + 5, {"eval/return": np.array([3.0, 4.0])})
    record.close(step + 5, "interrupted")
    return keeper


def steps(log, seed):
    return [row.split(",")[0] for row in (log / f"seed-{seed}" / "metrics.csv").read_text().splitlines()[1:]]


def test_a_new_stack_has_a_log_per_seed_and_its_checkpoints_in_the_first(tmp_path):
    record, keeper = opened(tmp_path, (4, 7), ABOUT, WHERE, None, 0, True, {})
    assert keeper.store.folder == checkpoints(tmp_path, (4, 7)).folder == tmp_path / "seed-4" / "training"
    record.close(0, "finished")
    for seed in (4, 7):
        config = read_sealed(tmp_path / f"seed-{seed}" / "config.json")
        assert config.pop("started").startswith("20")
        assert config == {**ABOUT, **WHERE, "seed": seed}
    record, keeper = opened(tmp_path / "b", (4,), ABOUT, WHERE, None, 0, False, {})
    assert keeper.store is None  # there is no way back
    record.close(0, "finished")


def test_a_training_without_a_folder_has_no_log():
    record, keeper = opened(None, (4, 7), ABOUT, WHERE, None, 0, True, {})
    assert [type(log) for log in record.logs] == [NoLog, NoLog]
    assert (keeper.store, record.seeds, record.about) == (None, [4, 7], ABOUT)


def test_a_folder_is_free_where_nothing_of_a_run_is(tmp_path):
    assert free(tmp_path / "nowhere")
    assert free(tmp_path)
    (tmp_path / ".lock").touch()
    assert free(tmp_path)
    (tmp_path / "metrics.csv").touch()
    assert not free(tmp_path)


def test_a_stack_goes_on_where_its_checkpoint_stands(tmp_path):
    keeper = begun(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record, same = opened(tmp_path, (4, 7), ABOUT | {"config": {"lr": 2.0}}, WHERE | {"cores": 8}, keeper, 10, True, {})
    assert same is keeper
    assert record.latest["eval/return"].tolist() == [1.0, 2.0]
    record.flush()
    assert [steps(tmp_path, seed) for seed in (4, 7)] == [["10"], ["10"]]
    record.close(20, "finished")
    config = read_sealed(tmp_path / "seed-7" / "config.json")
    assert (config["config"], config["cores"], len(config["continued"])) == ({"lr": 2.0}, 8, 1)
    assert config["started"] <= config["continued"][0]


def test_a_seed_that_had_ended_gets_no_more(tmp_path):
    keeper = begun(tmp_path)
    del keeper.last["record"]["logs"]["1"]
    keeper.last["record"]["endings"][1] = "failed: a"
    before = (tmp_path / "seed-7" / "metrics.csv").read_bytes()
    record, _ = opened(tmp_path, (4, 7), ABOUT, WHERE, keeper, 10, True, {})
    assert (record.endings, type(record.logs[1])) == (["running", "failed: a"], NoLog)
    record.close(20, "finished")
    assert (tmp_path / "seed-7" / "metrics.csv").read_bytes() == before


@pytest.mark.parametrize("change", [{"step": 9}, {"all": "ended"}, {"folder": "other"}, {"keeper": None}])
def test_what_is_not_this_training_does_not_go_on(tmp_path, change):
    keeper, step, log = begun(tmp_path / "log"), change.get("step", 10), tmp_path / "log"
    if "all" in change:
        keeper.last["record"]["logs"] = {"0": None, "1": None}
    if "folder" in change:
        keeper, _ = begun(tmp_path / "other"), log
    with pytest.raises(ValueError, match=r"log/seed-4 already holds a run; write to another folder, or move it away$"):
        opened(log, (4, 7), ABOUT, WHERE, None if "keeper" in change else keeper, step, True, {})
    with pytest.raises(ValueError, match="seed-4 already holds a run"):
        opened(log, (4, 7), ABOUT, WHERE, Keeper(None), step, True, {})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"versions": {"torch": "2.11"}}, "versions.torch = '2.10', not '2.11'"),
        ({"threads": 4}, "threads = 1, not 4"),
        ({"system": "Darwin"}, "system = 'Linux', not 'Darwin'"),
    ],
)
def test_another_machine_is_told_since_its_numbers_may_differ(tmp_path, change, words):
    keeper = begun(tmp_path)
    with pytest.warns(RuntimeWarning) as told:
        opened(tmp_path, (4, 7), ABOUT, WHERE | change, keeper, 10, True, {})[0].close(20, "finished")
    expected = [
        f"{tmp_path / name} was begun with {words}: its numbers may differ from a run without a break" for name in ("seed-4", "seed-7")
    ]
    assert [str(warning.message) for warning in told] == expected


def test_a_folder_that_cannot_be_written_leaves_no_new_seed_and_every_old_one(tmp_path):
    (tmp_path / "seed-7").write_text("a file")
    says = r"seed-7 cannot be written: File exists; write to another folder$"
    with pytest.raises(ValueError, match=says):
        opened(tmp_path, (4, 7), ABOUT, WHERE, None, 0, True, {})
    assert [path.name for path in tmp_path.iterdir()] == ["seed-7"]
    keeper = begun(tmp_path / "log")
    for name in ("config.json", "metrics.csv"):
        (tmp_path / "log" / "seed-7" / name).rename(tmp_path / name)
    (tmp_path / "config.json").rename(tmp_path / "log" / "seed-7" / "config.json")
    with pytest.raises(ValueError, match=r"seed-7/metrics\.csv cannot be written: No such file or directory; write to another folder$"):
        opened(tmp_path / "log", (4, 7), ABOUT, WHERE, keeper, 10, True, {})
    assert steps(tmp_path / "log", 4) == ["10"]


def test_the_first_difference_is_named_by_its_path():
    assert difference({"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 2, "d": 4}, "e": 5}) == "b.d = 4, not 3"
    assert difference({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}) == "a.b.c = 2, not 1"
    assert difference({"a": 1}, {}) == "a = None, not 1"
    assert difference({"a": {"b": 1}}, {"a": 1}) == "a = 1, not {'b': 1}"
    assert difference({"a": {"b": 1}}, {"a": {"b": 1}}) is None


def test_an_experiment_is_neither_its_seed_nor_how_long_it_is():
    about = {"agent": "sac", "seed": 4, "versions": {}, "obs_size": 3, "schedule": {"steps": 9, "checkpoint_every": 5, "warmup": 7}}
    assert identity(about) == {"agent": "sac", "obs_size": 3, "schedule": {"warmup": 7}}
    assert json.dumps(about["schedule"]) == '{"steps": 9, "checkpoint_every": 5, "warmup": 7}'
