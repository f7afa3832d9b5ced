"""The tables of MuJoCo tasks: what they train, what stands beside it, and a short one of each from beginning to end."""

import csv

import numpy as np
import pytest

from wgf.runs.studies.main import run
from wgf.runs.studies.mujoco import TABLES, Options, rows
from wgf.runs.trainer.compare import Curves


def test_the_papers_table_has_its_agents_settings_and_numbers():
    options = Options(seeds=2, first_seed=3)
    for task in TABLES["paper"].tasks:
        jobs = [job for job, _ in options.plans(task).values()]
        assert [job.agent for job in jobs] == ["dp-wgf-v", "sac", "trpo", "ddpg"]
        assert {(job.env, job.preset, job.seeds, job.schedule.steps) for job in jobs} == {(task, "paper", (3, 4), 1_000_000)}
    names = TABLES["paper"].agents
    curves = {name: Curves(name, np.arange(1.0, 3.0), np.full((2, 2), [50.0, 150.0]), [np.full(20, 120.0)] * 2, 9.0) for name in names}
    lines = rows(options, "Swimmer-v5", curves)
    assert [line["published"] for line in lines] == ["181.60 / 76", "180.83 / 112", "110.58 / 433", "49.57 / -"]
    assert lines[0]["episodes to 100"] == "10 (2/2 seeds)"
    assert (lines[0]["task"], lines[3]["agent"]) == ("Swimmer-v5", "ddpg")
    assert lines[3]["return over training, IQM [95 %]"].startswith("100 [")
    assert lines[3]["final return, IQM [95 %]"].startswith("150 [")
    assert lines[3]["mean - that of dp-wgf-v over training"].startswith("0 [")


def test_the_strong_table_has_four_environments_per_seed_on_the_strong_critic():
    jobs = [job for job, _ in Options(table="strong").plans("Ant-v5").values()]
    assert {(job.preset, job.cfg.envs, job.cfg.atoms, job.cfg.batch, job.schedule.warmup) for job in jobs} == {
        ("strong", 4, 101, 512, 10_000)
    }
    flows = [(job.cfg.kl, job.cfg.w2_scale, job.cfg.w2_radius) for job in jobs[1:]]
    assert flows == [("svgd", 0.0, 0.0), ("density", 0.0, 0.0), ("svgd", 0.4, 0.1)]


def test_what_an_agent_has_of_its_own_wins_over_what_all_have():
    jobs = {name: job for name, (job, _) in Options(table="small").plans("Hopper-v5").items()}
    assert {name: job.preset for name, job in jobs.items()} == {
        "sac": "strong-small",
        "wgf-sac": "strong-small",
        "wpo": "strong-small",
        "dp-wgf-v": "strong-small",
        "sac:preset=modern": "modern",
    }
    assert jobs["sac:preset=modern"].cfg.atoms == 1
    assert {(job.label, job.schedule.steps, job.schedule.warmup) for job in jobs.values()} >= {("sac,preset=modern", 100_000, 5_000)}


def test_the_table_of_returns_of_equal_length_has_both_lengths_for_every_agent():
    jobs = [job for job, _ in Options(table="n_step").plans("dm_control/walker-walk-v0").values()]
    assert [(job.agent, job.cfg.n_step, job.cfg.entropy_std) for job in jobs] == [
        (agent, n, std) for n in (1, 3) for agent, std in (("sac", 0.0), ("sac", 0.7), ("wpo", 0.0))
    ]
    assert {(job.cfg.hidden, job.cfg.batch, job.preset) for job in jobs} == {((128, 128), 64, "modern")}
    assert {job.cfg.critic_hidden for job in jobs if job.agent == "wpo"} == {(128, 128)}


@pytest.mark.parametrize("table", ["paper", "strong"])
def test_a_short_table_from_beginning_to_end(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = {
        "paper": ["--agents", "dp-wgf-v:particles=4", "sac"],
        "strong": ["--agents", "sac:policy_hidden=4,4", "wgf-sac:policy_hidden=4,4:particles=2"],
    }
    common = {"paper": "preset=paper:hidden=8,8:batch=8", "strong": "preset=strong:envs=4:hidden=4,4:expansion=1:batch=8:atoms=5"}
    args = [
        "--table",
        table,
        "--tasks",
        "Hopper-v5",
        "--settings",
        common[table],
        *small[table],
        "--steps",
        "80",
        "--warmup",
        "20",
        "--seeds",
        "2",
    ]
    assert run("mujoco", [*args, "--device", "cpu", "--compile", "False"], "mujoco") == 0
    folder = tmp_path / "runs" / "mujoco"
    evaluations = (folder / "evaluations.csv").read_text()
    assert len(list(csv.DictReader(evaluations.splitlines()))) == 2 * 2 * 20
    text = (folder / f"{table}.md").read_text()
    assert ("episodes to 2000" in text) is (table == "paper")
    assert (folder / f"{table}.png").read_bytes().startswith(b"\x89PNG")
    folder.rename(tmp_path / "known")
    again = [*args, "--known", str(tmp_path / "known" / "evaluations.csv"), "--device", "cpu", "--compile", "False"]
    assert run("mujoco", again, "mujoco") == 0
    assert (folder / "evaluations.csv").read_text() == evaluations
    assert not (folder / "Hopper-v5").exists()  # nothing was trained again
    before, after = (list(csv.DictReader((f / f"{table}.csv").open(newline=""))) for f in (tmp_path / "known", folder))
    for known, one in zip(after, before, strict=True):
        unknown = {"steps/s, all seeds", "episodes to 2000"} & one.keys()
        assert {tag: known[tag] for tag in unknown} == dict.fromkeys(unknown, "-")
        assert {tag: known[tag] for tag in known if tag not in unknown} == {tag: one[tag] for tag in one if tag not in unknown}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--tasks", "Ant-v5"], "tasks has 'Ant-v5'; it may have Swimmer-v5, Hopper-v5, Walker2d-v5, Humanoid-v5"),
        (["--tasks", "Hopper-v5", "Hopper-v5"], "task 'Hopper-v5' is named twice"),
        (["--steps", "-1"], "steps is -1; it must be at least 0"),
        (["--table", "best"], "--table"),
        (["--settings", "preset=papers"], "preset 'papers' is unknown"),
    ],
)
def test_mistakes_are_named(args, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("mujoco", args, "mujoco") == 2
    assert words in capsys.readouterr().err
