"""wgf sweep: what it trains, what it goes on with, what it never repeats, and how it ends."""

import csv
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from wgf.agents.training.checkpoint import read_sealed
from wgf.agents.training.schedule import Schedule
from wgf.runs.command.options import Contest, Place
from wgf.runs.sweeps.engines import engine
from wgf.runs.sweeps.process import reason, started
from wgf.runs.trainer.compare import plan, read
from wgf.runs.trainer.reuse import finished

TINY = {"steps": 40, "warmup": 10, "log_every": 20, "eval_every": 20, "eval_episodes": 1, "checkpoint_every": 20}  # conftest's


def held(folder):
    """Every file of every run, and when it was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("seed-*/**/*") if path.is_file() and path.name != ".lock"}


def status(folder):
    return read_sealed(folder / "result.json").get("status")


def rows(path):
    with open(path, newline="") as f:
        return list(csv.DictReader(f))


def test_a_sweep_trains_what_is_missing_and_repeats_nothing(sweep, forks):
    grid = {"lr": [1e-3, 1e-2]}
    code, out, err = sweep(grid=grid, seeds=2, stack=1)
    assert (code, err) == (0, "")
    assert "tiny.yaml: 2 settings, seeds 0, 1 each: 4 runs in runs/tiny; 4 begin\n" in out
    assert len(forks.started) == 4
    assert [command.threads for command, _ in forks.started] == [1] * 4
    labels = [f"sac,hidden=8,batch=8,lr={lr}" for lr in (0.001, 0.01)]
    folders = [sweep.cartpole / label / f"seed-{seed}" for label in labels for seed in (0, 1)]
    assert {status(folder) for folder in folders} == {"finished"}
    table = rows(sweep.folder / "sweep.csv")
    assert [(row["agent"], row["seed"], row["state"]) for row in table] == [(x, str(k), "finished") for x in labels for k in (0, 1)]
    for row, folder in zip(table, folders, strict=True):
        evals = read(row["agent"], [folder]).evals[0]
        numbers = [f"{x:,.4g}" for x in (evals[-1], evals.mean(), evals.max())]
        assert [row["final return"], row["mean return"], row["best return"]] == numbers
    assert [row["seeds"] for row in rows(sweep.folder / "settings.csv")] == ["2 of 2", "2 of 2"]
    assert (sweep.folder / "sweep.txt").read_text() in out
    before = held(sweep.folder)
    code, out, err = sweep(grid=grid, seeds=2, stack=1)
    assert (code, err) == (0, "")
    assert "4 runs in runs/tiny; 4 have finished\n" in out
    code, out, err = sweep(grid={"lr": [1e-3, 1e-2, 1e-1]}, seeds=2)
    assert "6 runs in runs/tiny; 4 have finished, 2 begin\n" in out
    assert len(forks.started) == 5  # two seeds in one process
    assert before.items() <= held(sweep.folder).items()
    schedule = Schedule(**TINY)
    for command, _ in forks.started[:4]:  # the same runs, to a comparison
        job = plan(command.args[1], Contest(("sac",), "wgf/CartPole-v0", seeds=2), schedule, Place(name="tiny"))
        assert [finished(job, seed) for seed in (0, 1)] == [True, True]
        assert not finished(replace(job, schedule=replace(schedule, warmup=11)), 0)
        assert not finished(job, 7)


def test_a_training_that_is_killed_goes_on_and_the_same_call_goes_on_with_the_rest(sweep, forks, monkeypatch):
    killed = []

    def kill(command):
        if not killed and forks.started:  # the second one starts: the first is killed at its first checkpoint
            first = forks.started[0][1]
            kept = sweep.cartpole / "sac,hidden=8,batch=8,lr=0.001" / "seed-0" / "training"
            deadline = time.monotonic() + 60.0
            while not list(kept.glob("training-*.json")) and time.monotonic() < deadline:
                time.sleep(0.01)
            first.kill()
            killed.append(first.pid)

    forks.before = kill
    code, out, err = sweep(grid={"lr": [1e-3, 1e-2]}, steps=150)
    assert (code, err) == (0, "")
    assert "sac,hidden=8,batch=8,lr=0.001 on wgf/CartPole-v0, seed 0: killed by SIGKILL; goes on\n" in out
    assert len(forks.started) == 3
    run = sweep.cartpole / "sac,hidden=8,batch=8,lr=0.001" / "seed-0"
    assert status(run) == "finished"
    assert len(read_sealed(run / "config.json")["continued"]) == 1
    assert not list(sweep.folder.rglob("*.unfinished-*"))


def test_a_training_that_is_killed_each_time_has_failed(sweep, forks):
    class Killed:
        def poll(self):
            return -signal.SIGKILL

    forks.start = lambda command: forks.started.append((command, Killed())) or Killed()
    Killed.kill = lambda self: None
    code, out, err = sweep()
    assert code == 70
    assert out.count("killed by SIGKILL; goes on") == 3
    assert err == "wgf: sac,hidden=8,batch=8 on wgf/CartPole-v0, seed 0: killed by SIGKILL\n"
    assert len(forks.started) == 4


def test_the_bar_counts_the_settings_that_ended_and_those_that_failed(sweep, forks, monkeypatch):
    class Failed:
        def poll(self):
            return 3

    shown = []
    monkeypatch.setattr("wgf.runs.sweeps.sweep.Progress.show", lambda self, step, note: shown.append((step, self.steps, note)))
    forks.start = lambda command: Failed()
    code, _, err = sweep(grid={"lr": [1e-3, 1e-2, 1e-1]}, slots=1)
    assert (code, err.count("ended with exit code 3\n")) == (70, 3)
    running = (1, 1, 0)  # the next begins as soon as one has ended
    assert shown == [(k, 3, f"settings  {n} trainings run  {k} failed") for k, n in enumerate(running, 1)]


def test_a_run_that_fails_is_named_with_its_reason_and_stops_nobody(sweep, forks):
    sweep(agents=["ddpg:hidden=8:batch=8"])
    other = sweep.cartpole / "ddpg,hidden=8,batch=8" / "seed-0"
    agents = ["ddpg:hidden=8:batch=8", "sac:hidden=8:batch=8:lr=1e30", "sac:hidden=8:batch=8"]
    code, out, err = sweep(agents=agents, warmup=11)
    assert code == 70
    lines = err.splitlines()
    assert lines[0] == (
        f"wgf: ddpg,hidden=8,batch=8 on wgf/CartPole-v0, seed 0: {other.relative_to(sweep.folder.parents[1])} holds a run with "
        "schedule.warmup = 10, not 11; give another --name or --out"
    )
    assert "1 cannot be trained" in out
    table = {row["agent"]: row["state"] for row in rows(sweep.folder / "sweep.csv")}
    assert table["sac,hidden=8,batch=8"] == "finished"
    assert table["ddpg,hidden=8,batch=8"] == "failed"
    assert lines[1].startswith("wgf: sac,hidden=8,batch=8,lr=1e30 on wgf/CartPole-v0, seed 0: ")
    assert len(lines) == 2
    assert table["sac,hidden=8,batch=8,lr=1e30"] == "failed"


def test_a_second_driver_is_refused_in_a_line(sweep):
    sweep.folder.mkdir(parents=True)
    with FileLock(sweep.folder / ".lock"):
        code, _, err = sweep()
    assert (code, err) == (2, "wgf: runs/tiny is being written by another process; wait for it, or give another --name\n")


def test_a_run_that_somebody_else_trains_is_waited_for(sweep, forks):
    run = sweep.cartpole / "sac,hidden=8,batch=8" / "seed-0"
    run.mkdir(parents=True)
    lock = FileLock(run / ".lock", thread_local=False)
    lock.acquire()
    release = threading.Timer(1.0, lock.release)
    release.start()
    code, out, err = sweep()
    assert (code, err) == (0, "")
    assert "1 are trained by another process" in out
    assert "seed 0: being written by another process; waits for it\n" in out
    assert status(run) == "finished"


def test_a_dry_run_trains_nothing_and_writes_nothing(sweep, forks):
    code, out, err = sweep("--dry-run", "True", grid={"lr": [1e-3, 1e-2]}, seeds=3)
    assert (code, err) == (0, "")
    assert "tiny.yaml: 2 settings, seeds 0 to 2 each: 6 runs in runs/tiny; 6 begin\n" in out
    assert "at most 2 run at a time" in out
    assert not forks.started
    assert not sweep.folder.exists()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"stepps": 3}, "setting 'stepps' is unknown; did you mean 'steps'?"),
        ({"agnets": []}, "setting 'agnets' is unknown; did you mean 'agents'?"),
        ({"modules": ["os"]}, "setting 'modules' is unknown"),
        ({"engine": "lokal"}, "engine is 'lokal'; choose from 'local', 'ray', 'slurm'"),
        ({"slots": -1}, "slots is -1; it must be at least 0"),
        ({"environments": ["Nowhere-v0"]}, "Nowhere"),
        ({"engine": "slurm", "slurm": 3}, "slurm is 3; it must name options with their values"),
        ({"engine": "slurm", "slurm": {"cluster": "local", "tmie": 3}}, "slurm is {'cluster': 'local', 'tmie': 3}: Parameter 'tmie' need"),
        ({"engine": "slurm"}, "this machine has no srun"),
        ({"engine": "ray", "search": 3, "grid": {"lr": [1e-3]}}, "slots is 0; a search by ray needs the number of trainings"),
        ({"search": 3}, "agent 'sac:hidden=8:batch=8' has nothing to search"),
    ],
)
def test_a_file_that_cannot_be_carried_out_is_refused_in_a_line(sweep, fields, said):
    code, _, err = sweep(**{"slots": 0, **fields})
    assert code == 2
    assert err.startswith("wgf: tiny.yaml: ")
    assert err.count("\n") == 1
    assert said in err
    assert not list(sweep.folder.parent.rglob("seed-*"))


def test_a_sweep_needs_a_file(person):
    assert person("sweep") == (2, "", "wgf: sweep needs a file first, as in: wgf sweep lr.yaml (see docs/sweep.md)\n")
    code, out, _ = person("sweep", "--help")
    assert code == 0
    assert "usage: wgf sweep FILE.yaml" in out
    assert person("sweep", "none.yaml") == (2, "", "wgf: none.yaml cannot be read: No such file or directory; give a file of settings\n")


@pytest.mark.parametrize("package", ["ray", "submitit", "optuna"])
def test_a_package_that_is_missing_is_named(sweep, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    extra = {"ray": "ray", "submitit": "slurm", "optuna": "search"}[package]
    fields = {"engine": extra} if extra != "search" else {"search": 2, "grid": {"lr": [1e-3, 1e-2]}}
    code, _, err = sweep(**fields)
    assert (code, err) == (2, f"wgf: tiny.yaml: this needs a package that is not installed: pip install 'wgflow[{extra}]'\n")


def trainings(folder):
    """The processes that train in a folder."""
    found = []
    for path in Path("/proc").iterdir():
        try:
            if b"wgf.runs.command" in (path / "cmdline").read_bytes() and (path / "cwd").resolve() == folder.resolve():
                found.append(int(path.name))
        except OSError:
            continue
    return found


def until(holds, seconds=600.0):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_driver_that_is_killed_leaves_no_training_and_the_next_call_goes_on(sweep, forks, person, monkeypatch):
    """The first call has the engine as it is: two processes beside each other."""
    fields = {"agents": ["sac:hidden=8:batch=8", "ddpg:hidden=8:batch=8"], "steps": 400, "checkpoint_every": 20, "eval_every": 400}
    runs = [sweep.cartpole / f"{agent},hidden=8,batch=8" / "seed-0" for agent in ("sac", "ddpg")]
    driver = os.fork()
    if not driver:
        try:
            monkeypatch.setattr("wgf.runs.sweeps.sweep.engine", engine)
            sweep(**fields)
        finally:
            os._exit(1)
    until(lambda: all(list(run.glob("training/training-*.json")) for run in runs))
    assert len(trainings(person.folder)) == 2
    os.kill(driver, signal.SIGKILL)
    os.waitpid(driver, 0)
    until(lambda: not trainings(person.folder))
    ended = [status(run) for run in runs]
    assert "interrupted" in ended  # SIGUSR1 came, and it saved
    assert set(ended) <= {"interrupted", "finished"}
    code, out, err = sweep(**fields)
    assert (code, err) == (0, "")
    assert f"{ended.count('interrupted')} go on\n" in out
    assert [status(run) for run in runs] == ["finished", "finished"]
    assert not list(sweep.folder.rglob("*.unfinished-*"))


def test_the_reason_is_the_last_line_of_error_or_what_ended_it(tmp_path):
    log = tmp_path / "log"
    log.write_text("wgf: of before\n")
    offset = log.stat().st_size
    with log.open("a") as f:
        f.write("$ wgf train\nsac 1/2\nwgf: one\nwgf: two\nsac 2/2\n")
    assert reason(log, offset, 2) == "two"
    assert reason(log, offset, -9) == "killed by SIGKILL"
    assert reason(log, log.stat().st_size, 3) == "ended with exit code 3"
    with log.open("a") as f:
        f.write("Fatal: no memory\n")
    assert reason(log, log.stat().st_size - 17, 3) == "ended with exit code 3: Fatal: no memory"
    assert reason(tmp_path / "none", 0, 3) == "ended with exit code 3"


def test_a_command_has_a_session_of_its_own_and_a_log(tmp_path):
    process = started(["agents"], tmp_path / "deep" / "log.txt")
    assert os.getsid(process.pid) == process.pid
    assert process.wait() == 0
    text = (tmp_path / "deep" / "log.txt").read_text()
    assert text.startswith("$ wgf agents\n")
    assert "dp-wgf-v" in text


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "wgf.runs.command", "nonsense"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("wgf: command 'nonsense' is unknown; choose from train, ")
