"""wgf compare, where every run has finished before: what is read, told and written of runs that were written by hand."""

import csv
from contextlib import contextmanager

import numpy as np
import pytest

from wgf.agents.training.checkpoint import digest, read_sealed, write_sealed
from wgf.agents.training.schedule import Schedule
from wgf.runs.command.options import Contest, Place
from wgf.runs.trainer import compare
from wgf.runs.trainer.figures import caption, figure

SCHEDULE = Schedule(steps=60)


@pytest.fixture
def contest(tmp_path):
    """Two agents of two seeds, which have finished: sac returns 1 and 2, then 3 and 4; ddpg 11 and 12, then 13 and 14."""
    contest, place = Contest(("sac:batch=8", "ddpg"), "Swimmer-v5", 2), Place(out=str(tmp_path))
    for k, token in enumerate(contest.agents):
        job = compare.plan(token, contest, SCHEDULE, place)
        for seed in job.seeds:
            folder, schedule = job.folder(seed), job.identity()["schedule"] | {"steps": 60}
            folder.mkdir(parents=True)
            about = {"seed": seed, "stack": [0, 1], "versions": {"torch": "2.10", "mujoco": "3.3"}, "device": "cpu"}
            write_sealed(folder / "config.json", job.identity() | about | {"schedule": schedule})
            first = 10 * k + 1 + seed
            lines = [f"30,eval/return,{first}", "30,losses/q,7", "33,charts/episodic_return,120", f"60,eval/return,{first + 2}"]
            (folder / "metrics.csv").write_text("\n".join(["step,tag,value", *lines, ""]))
            ended = {"status": "finished", "step": 60, "stack": 2, "seconds": 4.0 * (k + 1)}
            write_sealed(folder / "result.json", ended | {"metrics": digest(folder / "metrics.csv")})
    return contest, place


def compared(contest, place):
    said = []
    assert compare.compare(contest, SCHEDULE, place, said.append) == 0
    return said


def test_a_comparison_says_where_its_figure_table_and_curves_are(contest, capsys):
    said = compared(*contest)
    results = compare.plan("ddpg", contest[0], SCHEDULE, contest[1]).folder(0).parents[1]
    assert said[0] == f"{results / 'sac,batch=8'}: seeds 0, 1 finished before; with more --steps they would go on"
    end = f"\nfigure: {results / 'compare.png'} .pdf\ntable:  {results / 'compare.md'} .csv .txt"
    curves = f"curves: tensorboard --logdir {contest[1].out}    (Custom Scalars: one curve with its band per agent)"
    assert said[2:] == [f"\n{(results / 'compare.txt').read_text()}{end}", curves]
    assert capsys.readouterr().err == ""
    assert (results / "compare.png").exists()
    with open(results / "compare.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert [row["agent"] for row in rows] == ["sac,batch=8", "ddpg"]
    assert [row["best average return"] for row in rows] == ["3.5", "13.5"]
    assert [row["steps/s, all seeds"] for row in rows] == ["30", "15"]
    assert "episodes to 100" in rows[0]  # of the paper's Table 2
    assert rows[1]["P(better than sac,batch=8)"] == "1"


def test_the_figure_shows_each_seed_of_each_agent_on_a_page(tmp_path, monkeypatch):
    found = []

    @contextmanager
    def seen(*args, **options):
        with figure(*args, **options) as axes:
            yield axes
            ax = axes[0, 0]
            found.extend([ax.get_title(), ax.get_xlabel(), ax.get_ylabel(), options["note"]])
            found.append([line.get_ydata().tolist() for line in ax.lines])
        found.append((ax.figure.get_size_inches()[0], 4.0 < ax.figure.get_size_inches()[1] < 6.0))

    monkeypatch.setattr(compare, "figure", seen)
    three, one = np.array([[1.0, 2.0], [2.0, 3.0], [6.0, 4.0]]), np.array([[5.0, 7.0]])
    runs = [compare.Curves(label, np.array([10.0, 20.0]), evals, [], 1.0) for label, evals in (("sac", three), ("ddpg", one))]
    compare.draw(runs, "Swimmer-v5", tmp_path / "compare.png")
    lines = [[3.0, 3.0], *three.tolist(), [5.0, 7.0]]
    assert found == ["Swimmer-v5", "environment steps per seed", "evaluation return", caption(3, 1), lines, (9.2, True)]


def test_a_threshold_that_was_given_comes_first(contest):
    given = Contest(contest[0].agents, "Swimmer-v5", 2, threshold=0.0)
    assert "episodes to 0" in compared(given, contest[1])[2]


def ends(folder, *lines, **result):
    """Writes other metrics of a run, and how it ended."""
    (folder / "metrics.csv").write_text("\n".join(["step,tag,value", *lines, ""]))
    about = {"step": 60, "stack": 2, "seconds": 4.0, "metrics": digest(folder / "metrics.csv")}
    write_sealed(folder / "result.json", about | result)


def test_of_a_seed_that_diverged_the_last_return_stands_for_the_rest(contest):
    folders = [compare.plan("ddpg", contest[0], SCHEDULE, contest[1]).folder(seed) for seed in (0, 1)]
    rate = "charts/steps_per_second"
    ends(folders[0], "30,eval/return,5", f"30,{rate},2", "31,losses/q,nan", status="failed", diverged=True, eval_return=5.0)
    ends(folders[1], f"30,{rate},3", "30,eval/return,7", f"60,{rate},5", "60,eval/return,9", status="finished")
    found = compare.read("ddpg", folders)
    assert (found.steps.tolist(), found.evals.tolist()) == ([30.0, 60.0], [[5.0, 5.0], [7.0, 9.0]])
    assert (dict(found.diverged), found.seconds.tolist()) == ({0: 1}, [10.0, 16.0])  # of the seed that went on
    assert "7 [5, 9], 1 diverged" in compared(*contest)[-2]
    both = compare.over_training_and_at_the_end([found], "ddpg")[0]
    assert both["return over training, IQM [95 %]"].endswith("], 1 diverged")
    ends(folders[0], f"30,{rate},2", "30,eval/return,5", f"60,{rate},3", "60,eval/return,6", status="finished")
    assert compare.read("ddpg", folders).seconds.tolist() == [12.5, 20.5]  # the mean of two whole runs
    ends(folders[0], "30,eval/return,5", f"30,{rate},2", "31,losses/q,nan", status="failed", diverged=True, eval_return=5.0)
    alone = compare.read("ddpg", folders[:1])
    assert (alone.steps.tolist(), alone.evals.tolist(), alone.seconds.tolist(), dict(alone.diverged)) == ([30.0], [[5.0]], [15.0], {0: 1})


def test_looks_that_a_seed_has_not_are_its_last():
    assert compare.padded(np.array([1.0, 5.0]), 4).tolist() == [1.0, 5.0, 5.0, 5.0]
    assert compare.padded(np.array([1.0, 5.0]), 2).tolist() == [1.0, 5.0]


def test_one_that_diverged_was_looked_at_when_the_others_were(contest):
    folders = [compare.plan("ddpg", contest[0], SCHEDULE, contest[1]).folder(seed) for seed in (0, 1)]
    for result in ({"status": "failed", "diverged": True}, {"status": "finished"}):
        ends(folders[0], "31,eval/return,5", **result)
        with pytest.raises(ValueError, match=r"seed-0/metrics\.csv lacks evaluations"):
            compare.read("ddpg", folders)


def test_versions_and_devices_that_differ_are_told(contest, capsys):
    folders = [compare.plan("ddpg", contest[0], SCHEDULE, contest[1]).folder(seed) for seed in (0, 1)]
    config = read_sealed(folders[1] / "config.json")
    write_sealed(
        folders[0] / "config.json", config | {"seed": 0, "device": "cpu:0", "versions": {"torch": "2.10", "mujoco": "3.3", "a": "1"}}
    )
    assert compare.mixed(folders) == []
    write_sealed(folders[1] / "config.json", config | {"device": "cuda:1", "versions": {"torch": "2.11", "mujoco": "3.3"}})
    lines = [f"these runs mix {what}: their returns may differ for that alone" for what in ("torch 2.10 and 2.11", "device cpu and cuda")]
    assert compare.mixed(folders) == lines
    compared(*contest)
    assert capsys.readouterr().err.splitlines() == [f"wgf: {line}" for line in lines]
    write_sealed(folders[1] / "config.json", config | {"versions": None})
    assert compare.mixed(folders)[0] == "these runs mix torch 2.10 and None: their returns may differ for that alone"


def test_a_training_that_fails_ends_the_comparison(contest, monkeypatch):
    def complete(jobs, say, *, diverged):
        return 70 if [job.label for job in jobs] == ["sac,batch=8", "ddpg"] and diverged else 0

    monkeypatch.setattr(compare, "complete", complete)
    assert compare.compare(*contest[:1], SCHEDULE, contest[1], print) == 70


def test_an_agent_of_a_comparison_may_have_settings_and_a_preset_of_its_own(contest):
    job = compare.plan("sac:preset=paper:batch=9:preset=modern", Contest(preset="paper", env="Swimmer-v5", seeds=3), SCHEDULE, contest[1])
    assert (job.label, job.agent, job.preset) == ("sac,preset=paper,batch=9,preset=modern", "sac", "modern")
    assert (job.cfg.batch, job.seeds, job.schedule, job.place) == (9, (0, 1, 2), SCHEDULE, contest[1])
    assert compare.plan("sac", Contest(seeds=2, first_seed=5), SCHEDULE, contest[1]).seeds == (5, 6)
    plain = compare.plan("sac", Contest(preset="modern", env="Swimmer-v5"), SCHEDULE, contest[1])
    assert (plain.preset, plain.cfg.hidden) == ("modern", job.cfg.hidden)
    assert plain.cfg.hidden != compare.plan("sac", contest[0], SCHEDULE, contest[1]).cfg.hidden


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "cannot be read as a run's metrics; move the run away to train it again"),
        ("step,tag,value\n30,eval/return,many\n", "cannot be read as a run's metrics"),
        ("step,tag,value\n", "lacks evaluations; move the run away to train it again"),
        ("step,tag,value\n30,eval/return,1\n61,eval/return,1\n", "lacks evaluations"),
    ],
)
def test_metrics_that_are_none_are_named(contest, text, words):
    folders = [compare.plan("ddpg", contest[0], SCHEDULE, contest[1]).folder(seed) for seed in (0, 1)]
    (folders[1] / "metrics.csv").write_text(text)
    write_sealed(folders[1] / "result.json", read_sealed(folders[1] / "result.json") | {"metrics": digest(folders[1] / "metrics.csv")})
    with pytest.raises(ValueError, match=rf"seed-1/metrics\.csv {words}"):
        compare.read("ddpg", folders)
