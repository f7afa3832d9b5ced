"""Which seeds of a job are still to be trained, told by what lies in their folders."""

import json
import os
import shutil
from dataclasses import replace

import pytest
from filelock import FileLock

from wgf.agents.registry import find
from wgf.agents.training.checkpoint import read_sealed, write_sealed
from wgf.agents.training.schedule import Schedule
from wgf.runs.command.options import Place
from wgf.runs.trainer import reuse
from wgf.runs.trainer.reuse import Part, complete, finished, locked, missing, move_aside
from wgf.runs.trainer.training import Job


@pytest.fixture
def job(tmp_path):
    return Job("sac", "sac", "paper", find("sac", "paper")[1], "a/B-v0", (0, 1, 2), Schedule(steps=60), Place(out=str(tmp_path)))


def lies(job, seed, stack=None, steps=60, status="finished", kept=True, ended=None, **changes):
    """A run in the folder of a seed: its settings, how it ended if it did, and a checkpoint if there is one."""
    folder, identity = job.folder(seed), job.identity()
    folder.mkdir(parents=True, exist_ok=True)
    schedule, about = identity["schedule"] | {"steps": steps}, {"seed": seed, "stack": stack or [seed], "versions": {}, "threads": 3}
    write_sealed(folder / "config.json", {**identity, **about, "schedule": schedule} | changes)
    if status:
        write_sealed(folder / "result.json", {"status": status, **(ended or {})})
    if kept:
        place = job.folder(stack[0] if stack else seed) / "training"
        place.mkdir(parents=True, exist_ok=True)
        (place / "training-5.json").touch()


def parts(job):
    return [(part.job.seeds, part.threads) for part in missing(job)]


def test_what_is_not_there_is_trained_as_one_stack(job):
    assert missing(job) == [Part(job)]
    job.folder(1).mkdir(parents=True)
    (job.folder(1) / ".lock").touch()
    assert missing(job) == [Part(job)]


def test_what_has_finished_stays_what_has_not_goes_on_and_the_rest_is_new(job):
    lies(job, 0)
    lies(job, 1, status=None)
    assert parts(job) == [((1,), 3), ((2,), None)]
    lies(job, 1, status="interrupted")
    assert parts(job) == [((1,), 3), ((2,), None)]
    lies(job, 1)
    lies(job, 2)
    assert parts(job) == []


def test_a_run_of_fewer_steps_goes_on_though_it_has_finished(job):
    for seed in job.seeds:
        lies(job, seed, steps=30)
    assert parts(job) == [((0,), 3), ((1,), 3), ((2,), 3)]


def test_seeds_of_one_stack_go_on_together_and_as_a_whole(job):
    for seed in (0, 2):
        lies(job, seed, stack=[0, 2], status=None)
    assert parts(job) == [((0, 2), 3), ((1,), None)]
    for seed in job.seeds:
        lies(job, seed, stack=[0, 1, 2], status=None)
    assert parts(job) == [((0, 1, 2), 3)]
    lies(job, 1, stack=[1, 5], status=None)
    with pytest.raises(ValueError, match="sac holds seeds 1, 5 as one stack, which goes on as a whole: give these seeds"):
        missing(job)


@pytest.mark.parametrize(("status", "steps"), [(None, 60), ("interrupted", 60), ("interrupted", 30), (None, 30)])
def test_what_left_no_checkpoint_is_moved_aside_and_trained_again(job, capsys, status, steps):
    lies(job, 1, status=status, steps=steps, kept=False)
    assert parts(job) == [((0, 1, 2), None)]
    assert capsys.readouterr().err == f"wgf: {job.folder(1)} was not finished: moved to seed-1.unfinished-1, trained again\n"
    assert [path.name for path in job.folder(1).parent.iterdir()] == ["seed-1.unfinished-1"]


def test_what_has_finished_and_left_no_checkpoint_is_not_moved(job):
    lies(job, 1, steps=30, kept=False)
    with pytest.raises(ValueError, match="seed-1 has finished and left no checkpoint to go on from; give another --name or --out"):
        missing(job)
    assert (job.folder(1) / "result.json").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 90}, "schedule.steps = 90, not 60"),
        ({"steps": 90, "status": None}, "schedule.steps = 90, not 60"),
        ({"seed": 2}, "seed = 2, not 1"),
        ({"preset": "modern"}, "preset = 'modern', not 'paper'"),
    ],
)
def test_a_run_of_other_settings_is_refused(job, changes, words):
    lies(job, 1, **{name: value for name, value in changes.items() if name in ("steps", "status")})
    if "seed" in changes or "preset" in changes:
        config = json.loads((job.folder(1) / "config.json").read_text())
        del config["seal"]
        write_sealed(job.folder(1) / "config.json", config | changes)
    with pytest.raises(ValueError, match=rf"seed-1 holds a run with {words}; give another --name or --out$"):
        missing(job)


def test_a_run_goes_on_with_the_threads_of_before(job):
    lies(job, 1, status=None)
    for asked in (0, 3):
        assert parts(replace(job, place=replace(job.place, threads=asked)))[0] == ((1,), 3)
    with pytest.raises(ValueError, match="seed-1 holds a run with threads = 3, not 2; give the same, or another --name or --out"):
        missing(replace(job, place=replace(job.place, threads=2)))
    for threads in (None, 0, 1025, True, "3"):
        lies(job, 1, status=None, threads=threads)
        with pytest.raises(ValueError, match=r"seed-1/config\.json does not say how many threads: it was not written by wgf train"):
            missing(job)


@pytest.mark.parametrize("stack", [5, [], [0], ["1"], [[1]], [True], ["../../x", 1]])
def test_seeds_of_a_stack_are_numbers_and_the_seed_is_one_of_them(job, stack):
    lies(job, 1, status=None, kept=False)
    config = read_sealed(job.folder(1) / "config.json")
    write_sealed(job.folder(1) / "config.json", config | {"stack": stack})
    with pytest.raises(ValueError, match=r"seed-1/config\.json says that seeds .* are a stack: it was not written by wgf train"):
        missing(job)


def test_a_run_whose_schedule_is_none_is_refused(job):
    lies(job, 1)
    config = read_sealed(job.folder(1) / "config.json")
    write_sealed(job.folder(1) / "config.json", config | {"schedule": [60]})
    with pytest.raises(ValueError, match=r"seed-1 holds a run with schedule = \[60\], not {"):
        missing(job)


def test_a_run_that_is_being_written_is_waited_for(job):
    lies(job, 1)
    with FileLock(job.folder(1) / ".lock"), pytest.raises(ValueError, match="seed-1 is being written by another process; wait for it, or"):
        missing(job)


def test_a_run_that_died_before_its_settings_is_moved_aside_and_the_next_one_beside_it(job):
    for number in (1, 2):
        job.folder(1).mkdir(parents=True)
        (job.folder(1) / "metrics.csv").touch()
        assert parts(job) == [((0, 1, 2), None)]
        assert (job.folder(1).with_name(f"seed-1.unfinished-{number}") / "metrics.csv").exists()


def test_what_wgf_did_not_write_is_not_moved(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("metrics.csv", "notes.txt"):
        (tmp_path / "a" / name).touch()
    with pytest.raises(ValueError, match=r"a holds 'notes\.txt', which wgf did not write"):
        move_aside(tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"a holds 'config\.json', which wgf did not write"):
        move_aside(tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text('{"versions": {}}')
    move_aside(tmp_path / "a")
    assert sorted(path.name for path in (tmp_path / "a.unfinished-1").iterdir()) == ["config.json", "metrics.csv", "notes.txt"]


def test_jobs_are_trained_in_order_also_where_one_fails_until_one_is_interrupted(job, monkeypatch):
    said, ran = [], []
    endings = iter([["finished"], ["finished", "failed: a"], ["finished"], ["interrupted", "finished"], ["failed: a"], ["finished"] * 2])
    monkeypatch.setattr(reuse, "run", lambda job, say, threads: ran.append((job.seeds, threads)) or next(endings))
    done = Job("ddpg", "ddpg", "paper", find("ddpg", "paper")[1], job.env, (3,), job.schedule, job.place)
    lies(done, 3)
    lies(job, 1, status=None)
    assert complete([done, job, job], said.append) == 75
    assert ran == [((1,), 3), ((0, 2), None)] * 2
    assert said == [f"{done.folder(3).parent}: seed 3 finished before; with more --steps they would go on"]
    assert complete([done], said.append) == 0
    assert complete([job], said.append) == 70
    assert len(ran) == 6


DIVERGED = {"diverged": True, "eval_return": 1.5}


@pytest.mark.parametrize("ended", [DIVERGED, {"eval_return": 1.5}, DIVERGED | {"eval_return": None}], ids=["diverged", "lost", "at once"])
def test_a_seed_that_diverged_after_a_look_has_ended_for_a_table_alone(job, monkeypatch, capsys, ended):
    def run(job, say, threads):
        for seed in job.seeds:
            lies(job, seed, status="failed" if seed == 1 else "finished", ended=ended if seed == 1 else None)
        return ["finished", "failed: losses/q is nan", "finished"][3 - len(job.seeds) :]

    monkeypatch.setattr(reuse, "run", run)
    counts = ended == DIVERGED
    assert complete([job], print, diverged=True) == (0 if counts else 70)
    assert "seed 1 failed: losses/q is nan" in capsys.readouterr().err
    assert parts(job) == [((1,), 3)]
    assert missing(job, diverged=True) == ([] if counts else missing(job))
    assert [finished(job, seed) for seed in job.seeds] == [True, False, True]
    assert [finished(job, seed, diverged=True) for seed in job.seeds] == [True, counts, True]
    monkeypatch.setattr(reuse, "run", lambda job, say, threads: ["failed: losses/q is nan"])
    assert complete([job], print) == 70
    assert missing(replace(job, schedule=replace(job.schedule, steps=70)), diverged=True) != []


def test_the_lock_of_a_study_leaves_what_was_there_and_what_was_made(tmp_path):
    (tmp_path / "old").mkdir()
    with locked(tmp_path / "old" / "new"):
        assert (tmp_path / "old" / "new" / ".lock").exists()
    assert (tmp_path / "old").is_dir()
    assert not (tmp_path / "old" / "new").exists()
    with locked(tmp_path / "old" / "new"):
        (tmp_path / "old" / "new" / "table.txt").touch()
    assert [path.name for path in (tmp_path / "old" / "new").iterdir()] == ["table.txt"]
    with FileLock(tmp_path / "old" / ".lock"):
        with pytest.raises(ValueError, match="old is being written by another process"), locked(tmp_path / "old"):
            pass
        assert (tmp_path / "old" / ".lock").exists()


def test_a_study_ends_where_its_folder_was_removed_and_does_not_begin_where_nothing_can_be_written(tmp_path, monkeypatch):
    with locked(tmp_path / "new"):
        shutil.rmtree(tmp_path / "new")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="new"), locked(tmp_path / "new"):
        pass
    assert list(tmp_path.iterdir()) == []
