"""What a run leaves on disk, read back with TensorBoard's own reader."""

import csv
import hashlib
import json
import subprocess
import sys
from dataclasses import make_dataclass
from types import SimpleNamespace
from typing import Literal

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams import plugin_data_pb2
from torch.utils.tensorboard.summary import scalar

from wgf.agents import ddpg, registry
from wgf.agents.training.checkpoint import load, read_sealed
from wgf.agents.training.log import Events, RunLog, being_written

CONFIG = {"agent": "sac", "preset": "paper", "env": "Hopper-v5", "seed": 3, "config": {"lr": 3e-4, "hidden": [8, 8], "activation": "tanh"}}


@pytest.fixture
def written(tmp_path):
    log = RunLog(tmp_path / "a" / "seed-3", CONFIG)
    log.scalars(10, {"eval/return": 1.5, "losses/q": float("nan")})
    log.scalars(20, {"eval/return": 2.5})
    log.close({"status": "finished"})
    return log.folder


def read(folder):
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def test_tensorboard_reads_every_scalar_at_its_environment_step(written):
    events = read(written)
    assert [(e.step, e.value) for e in events.Scalars("eval/return")] == [(10, 1.5), (20, 2.5)]
    assert sorted(events.Tags()["scalars"]) == ["eval/return", "losses/q"]


def looked(log, step, found=None):
    """An evaluation, where one was made, and the policy of that step."""
    if found is not None:
        log.scalars(step, {"eval/return": found})
    log.save({"theta": torch.full((2,), float(step))}, {"step": step})
    return load(log.folder)[0]["step"], load(log.folder / "best")[0]["step"], load(log.folder / "best")[1]["theta"].tolist()


def test_the_policy_of_the_best_evaluation_stays_beside_the_last_one(tmp_path):
    log = RunLog(tmp_path / "seed-3", CONFIG)
    log.save({"theta": torch.zeros(2)}, {"step": 5})
    assert not (log.folder / "best").exists()
    assert looked(log, 10, -5.0) == (10, 10, [10.0, 10.0])
    assert looked(log, 20, 7.0) == (20, 20, [20.0, 20.0])
    assert looked(log, 30, 7.0) == (30, 20, [20.0, 20.0])  # no better
    log.scalars(35, {"charts/episodic_return": 99.0})
    assert looked(log, 40) == (40, 20, [20.0, 20.0])  # without an evaluation
    assert looked(log, 50, 8.0) == (50, 50, [50.0, 50.0])
    assert looked(log, 60) == (60, 50, [50.0, 50.0])
    log.close({"status": "interrupted"})


def test_a_log_that_goes_on_knows_the_best_evaluation_before_its_position_and_forgets_later_ones(tmp_path):
    log = RunLog(tmp_path / "seed-3", CONFIG)
    early = log.position()
    looked(log, 10, 7.0)
    looked(log, 20, 5.0)
    position = log.position()
    looked(log, 25, 9.0)
    log.close({"status": "interrupted"})
    again = RunLog(tmp_path / "seed-3", CONFIG, position, 20)
    assert looked(again, 30, 6.0) == (30, 25, [25.0, 25.0])  # which the same training comes to once more
    assert looked(again, 40, 8.0) == (40, 40, [40.0, 40.0])
    again.close({"status": "interrupted"})
    anew = RunLog(tmp_path / "seed-3", CONFIG, early, 0)
    assert looked(anew, 10, -7.0) == (10, 10, [10.0, 10.0])
    anew.close({"status": "finished"})


def test_hyper_parameters_are_in_the_runs_own_events(written):
    content = read(written).summary_metadata
    data = plugin_data_pb2.HParamsPluginData.FromString(content["_hparams_/session_start_info"].plugin_data.content)
    values = {k: v.number_value or v.string_value for k, v in data.session_start_info.hparams.items()}
    assert values == {
        "agent": "sac", "preset": "paper", "env": "Hopper-v5", "seed": 3.0, "lr": 3e-4, "hidden": "[8, 8]", "activation": "tanh"
    }  # fmt: skip
    assert domains(written) == {}
    experiment = plugin_data_pb2.HParamsPluginData.FromString(content["_hparams_/experiment"].plugin_data.content)
    assert [m.name.tag for m in experiment.experiment.metric_infos] == ["eval/return"]
    runs = EventMultiplexer().AddRunsFromDirectory(str(written.parents[1])).Runs()
    assert list(runs) == ["a/seed-3"]


def domains(folder):
    data = plugin_data_pb2.HParamsPluginData.FromString(read(folder).summary_metadata["_hparams_/experiment"].plugin_data.content)
    infos = data.experiment.hparam_infos
    return {info.name: list(info.domain_discrete) for info in infos if info.WhichOneof("domain") == "domain_discrete"}


def test_settings_with_few_values_have_them_for_a_domain(tmp_path):
    config = {"kl": "soft", "twin": True, "blocks": 2, "squash": "mine", "lr": 1.0}
    few = {
        "agent": ["sac", "wpo"],
        "kl": ["soft", "hard", 1],
        "twin": [False, True],
        "blocks": [1, 2],
        "squash": ["exact"],
        "norm": ["batch"],
    }
    RunLog(tmp_path, CONFIG | {"config": config}, choices=few).close({})
    found = domains(tmp_path)
    assert found == {"agent": ["sac", "wpo"], "kl": ["soft", "hard"], "twin": ["False", "True"], "blocks": [1.0, 2.0]}
    content = read(tmp_path).summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams["twin"].string_value == "True"


def test_the_domain_of_a_setting_holds_the_values_of_every_agent_that_has_it():
    """TensorBoard takes the domains of the first run for those of all runs, and leaves out a run with another value."""
    found = registry.choices(ddpg)
    assert {"sac", "es"} <= set(found["agent"])
    assert {"paper", "strong", "bges"} <= set(found["preset"])
    assert set(found["kl"]) == {"svgd", "blob", "density", "soft", "hard"}
    assert found["smooth"] == [False, True]
    assert "lr" not in found


def test_the_values_of_an_agent_of_ones_own_are_beside_them():
    own = SimpleNamespace(Config=make_dataclass("Config", [("kl", Literal["mine"]), ("speed", Literal[1, 2])]))
    found = registry.choices(own)
    assert found["kl"][-1] == "mine"
    assert found["speed"] == [1, 2]


def test_the_configuration_is_a_text(written):
    (event,) = read(written).Tensors("config/text_summary")
    assert event.step == 0
    tensor = event.tensor_proto
    assert json.loads(tensor.string_val[0].decode().removeprefix("```json\n").removesuffix("\n```")) == CONFIG
    assert read_sealed(written / "config.json") == CONFIG


def test_the_csv_holds_what_tensorboard_shows(written):
    with open(written / "metrics.csv", newline="") as f:
        rows = list(csv.reader(f))
    assert rows == [["step", "tag", "value"], ["10", "eval/return", "1.5"], ["10", "losses/q", "nan"], ["20", "eval/return", "2.5"]]


def test_a_folder_takes_one_run(written):
    with pytest.raises(FileExistsError):
        RunLog(written, CONFIG)
    text = (written / "metrics.csv").read_bytes()
    metrics = {"bytes": len(text), "rows": 4, "sha256": hashlib.sha256(text).hexdigest()}
    assert read_sealed(written / "result.json") == {"status": "finished", "metrics": metrics}


def test_a_log_that_goes_on_forgets_what_came_after_its_position(written):
    log = RunLog(written.with_name("again"), CONFIG)
    log.scalars(10, {"eval/return": 1.5})
    position = log.position()
    log.scalars(11, {"eval/return": 2.5})
    log.close({"status": "interrupted"})
    again = RunLog(log.folder, CONFIG, position, 10)
    assert again.position() == position
    assert not (log.folder / "result.json").exists()
    again.close({})
    assert (log.folder / "metrics.csv").read_text().splitlines() == ["step,tag,value", "10,eval/return,1.5"]
    assert read_sealed(log.folder / "result.json") == {"metrics": position}
    events = read(log.folder)
    assert [e.step for e in events.Scalars("eval/return")] == [10]
    assert len(events.Tensors("config/text_summary")) == 1


def test_a_log_does_not_go_on_behind_other_rows_than_its_own(tmp_path):
    log = RunLog(tmp_path, CONFIG)
    log.scalars(10, {"eval/return": 1.5})
    position = log.position()
    log.close({})
    (tmp_path / "metrics.csv").write_bytes((tmp_path / "metrics.csv").read_bytes().replace(b"1.5", b"1.6"))
    with pytest.raises(
        ValueError, match=r"metrics\.csv is damaged: it does not begin with what the checkpoint says; restore it from a copy"
    ):
        RunLog(tmp_path, CONFIG, position, 10)
    assert not being_written(tmp_path)
    assert b"1.6" in (tmp_path / "metrics.csv").read_bytes()


def test_a_log_that_is_open_is_nobody_elses(tmp_path):
    log = RunLog(tmp_path / "seed-0", CONFIG)
    assert being_written(log.folder)
    with pytest.raises(FileExistsError, match="another process writes into it"):
        RunLog(log.folder, CONFIG, log.position(), 10)
    log.scalars(20, {"eval/return": 2.5})
    log.close({})
    assert not being_written(log.folder)
    assert (log.folder / "metrics.csv").read_text().splitlines()[1:] == ["20,eval/return,2.5"]


def test_a_discarded_log_takes_the_folders_with_it_that_it_made(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "mine" / "seed-0").mkdir(parents=True)
    RunLog(tmp_path / "a" / "b" / "seed-0", CONFIG).discard()
    assert list((tmp_path / "a").iterdir()) == []
    RunLog(tmp_path / "mine" / "seed-0", CONFIG).discard()
    assert not being_written(tmp_path / "mine" / "seed-0")
    one, other = (RunLog(tmp_path / "new" / f"seed-{k}", CONFIG) for k in (0, 1))
    other.discard()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["seed-0"]
    one.discard()  # which made the folder around them
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "mine"]
    with pytest.raises(TypeError, match="JSON"):
        RunLog(tmp_path / "new" / "seed-0", {"config": object()})
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        RunLog(tmp_path / "file", CONFIG)


def test_events_alone_are_read_when_they_are_flushed(tmp_path):
    events = Events(tmp_path)
    events.add(scalar("a", 1.5), 10)
    events.flush()
    assert [(e.step, e.value) for e in read(tmp_path).Scalars("a")] == [(10, 1.5)]


def test_a_flush_is_enough_to_be_read(tmp_path):
    log = RunLog(tmp_path, CONFIG)
    log.scalars(10, {"eval/return": 1.5})
    log.flush()
    assert [e.value for e in read(tmp_path).Scalars("eval/return")] == [1.5]
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1] == "10,eval/return,1.5"
    log.close({})


def test_a_living_run_is_seen_and_a_dead_one_is_not(tmp_path):
    code = (
        "import json, sys; from pathlib import Path; from wgf.agents.training.log import RunLog\n"
        "log = RunLog(Path(sys.argv[1]), json.loads(sys.argv[2])); print('ready', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run"), json.dumps(CONFIG)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "ready\n"
        assert being_written(tmp_path / "run")
        other.kill()
    assert not being_written(tmp_path / "run")
    assert not being_written(tmp_path / "nowhere")
