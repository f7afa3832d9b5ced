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
        jobs = options.jobs(task)
        assert [job.agent for job in jobs] == ["dp-wgf-v", "sac", "trpo", "ddpg"]
        assert {(job.env, job.preset, job.seeds, job.schedule.steps) for job in jobs} == {(task, "paper", (3, 4), 1_000_000)}
    curves = [Curves(name, np.array([1.0]), np.full((2, 1), 150.0), [np.full(20, 120.0)] * 2, 9.0) for name in ("a", "b", "c", "d")]
    lines = rows(options, "Swimmer-v5", curves)
    assert [line["published"] for line in lines] == ["181.60 / 76", "180.83 / 112", "110.58 / 433", "49.57 / -"]
    assert lines[0]["episodes to 100"] == "10 (2/2 seeds)"
    assert (lines[0]["task"], lines[3]["agent"]) == ("Swimmer-v5", "d")


def test_the_strong_table_has_four_environments_per_seed_on_the_strong_critic():
    jobs = Options(table="strong").jobs("Ant-v5")
    assert {(job.preset, job.cfg.envs, job.cfg.atoms, job.cfg.batch, job.schedule.warmup) for job in jobs} == {
        ("strong", 4, 101, 512, 10_000)
    }
    flows = [(job.cfg.kl, job.cfg.w2_scale, job.cfg.w2_radius) for job in jobs[1:]]
    assert flows == [("svgd", 0.0, 0.0), ("density", 0.0, 0.0), ("svgd", 0.4, 0.1)]


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
    with (tmp_path / "runs" / "mujoco" / "evaluations.csv").open(newline="") as f:
        assert len(list(csv.DictReader(f))) == 2 * 2 * 20
    text = (tmp_path / "runs" / "mujoco" / f"{table}.md").read_text()
    assert ("episodes to 2000" in text) is (table == "paper")
    assert (tmp_path / "runs" / "mujoco" / f"{table}.png").read_bytes().startswith(b"\x89PNG")


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
