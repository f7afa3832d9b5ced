"""Ray and submitit start real trainings, and go on with one whose worker was killed or whose job was interrupted."""

import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from wgf.agents.training.checkpoint import read_sealed
from wgf.runs.command.answers import STOPPED
from wgf.runs.sweeps import on_ray, on_slurm
from wgf.runs.sweeps.engines import Command
from wgf.runs.sweeps.on_slurm import Slurm

RUN = Path("runs/tiny/wgf_CartPole-v0/sac,hidden=8,batch=8/seed-0")
LONG = {"steps": 300, "checkpoint_every": 20, "eval_every": 300}


def parent(process):
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def at_checkpoint(act, folder=None):
    """Acts, in a thread, on the process that trains as soon as it has a checkpoint; a list that has the process then."""
    run, seen = Path(folder or Path.cwd()) / RUN, []

    def watch():
        while not list(run.glob("training/training-*.json")):
            time.sleep(0.02)
        seen.append(read_sealed(run / "config.json")["process"])
        act(seen[0])

    threading.Thread(target=watch, daemon=True).start()
    return seen


def finished_and_continued(seen):
    about = read_sealed(RUN / "config.json")
    assert read_sealed(RUN / "result.json")["status"] == "finished"
    assert len(about["continued"]) == 1
    assert about["process"] != seen[0]


def test_a_ray_task_whose_worker_is_killed_goes_on(sweep, monkeypatch):
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        seen = at_checkpoint(lambda process: os.kill(parent(process), signal.SIGKILL))
        code, _, err = sweep(engine="ray", **LONG)
    finally:
        ray.shutdown()
    assert (code, err) == (0, "")
    finished_and_continued(seen)


def test_a_job_that_its_scheduler_interrupts_saves_and_goes_on(sweep, monkeypatch):
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    jobs, submit = [], Slurm.start

    def start(engine, command):
        jobs.append(submit(engine, command))
        return jobs[-1]

    monkeypatch.setattr(Slurm, "start", start)
    seen = at_checkpoint(lambda process: os.kill(parent(process), signal.SIGUSR2))
    code, _, err = sweep(engine="slurm", slurm={"cluster": "local"}, **LONG)
    assert (code, err) == (0, "")
    assert len(jobs) == 1
    finished_and_continued(seen)


def test_a_job_has_the_exit_code_of_its_command(tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    monkeypatch.chdir(tmp_path)
    handle = Slurm({"cluster": "debug"}, tmp_path).start(Command(["nonsense"], tmp_path / "log.txt", 1, 2.0**30))
    assert handle.poll() == 2
    assert "wgf: command 'nonsense' is unknown" in (tmp_path / "log.txt").read_text()


def raising(error):
    def call(*args):
        raise error

    return call


def test_a_ray_task_that_died_counts_as_killed_and_one_that_was_cancelled_as_stopped():
    class RayError(Exception):
        cause = ValueError("no such\n folder")

    kinds = {name: type(name, (RayError,), {}) for name in ("TaskCancelledError", "RayTaskError", "WorkerCrashedError")}

    def polled(kind):
        ray = SimpleNamespace(exceptions=SimpleNamespace(RayError=RayError, **kinds), get=raising(kinds[kind]()))
        ray.wait = lambda tasks, timeout: (tasks, [])
        return on_ray._Task(ray, "task").poll()

    assert polled("WorkerCrashedError") == -signal.SIGKILL
    assert polled("TaskCancelledError") == STOPPED
    with pytest.raises(ValueError, match=r"^no such folder$"):
        polled("RayTaskError")


def test_a_job_that_died_counts_as_killed_and_one_that_failed_says_why():
    utils = pytest.importorskip("submitit.core.utils", reason="the extra slurm is not installed")

    def polled(error):
        return on_slurm._Job(SimpleNamespace(done=lambda: True, result=raising(error))).poll()

    assert polled(utils.UncompletedJobError("gone")) == -signal.SIGKILL
    with pytest.raises(ValueError, match=r"^OSError: no space$"):
        polled(utils.FailedJobError("Job failed:\nOSError: no space\n"))


@pytest.mark.parametrize(("memory", "gigabytes"), [(2**30, 1), (2**30 + 1, 2), (2.5 * 2**30, 3)])
def test_a_job_asks_for_its_threads_and_for_whole_gigabytes_that_are_enough(tmp_path, monkeypatch, memory, gigabytes):
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    engine, asked = Slurm({"cluster": "debug"}, tmp_path), {}
    monkeypatch.setattr(engine._executor, "update_parameters", lambda **given: asked.update(given))
    monkeypatch.setattr(engine._executor, "submit", lambda *given: None)
    engine.start(Command(["agents"], tmp_path / "log.txt", 3, memory))
    assert (asked["cpus_per_task"], asked["mem_gb"]) == (3, gigabytes)
