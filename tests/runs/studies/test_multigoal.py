"""Figure 3's recipe: its settings, its count of goals, and a short one from beginning to end."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from wgf.agents.tasks.multigoal import GOALS
from wgf.runs.command.cli import run
from wgf.runs.studies.multigoal import Options, Policy, wander


def towards(goals):
    """A policy of one seed per goal that walks straight to it, or away from all for None."""
    step = torch.tensor([[0.0, 0.0] if g is None else [0.2 * x for x in GOALS[g]] for g in goals])
    agent = SimpleNamespace(act=lambda cfg, state, obs, noise: step[:, None].expand(-1, obs.shape[1], -1), act_noise=lambda *about: None)
    return Policy("straight", agent, None, None, tuple(range(len(goals))))


def test_every_episode_is_followed_to_its_goal_or_to_the_time_limit():
    paths, counts = wander(towards([0, 1, 2, 3, None]), 6)
    np.testing.assert_array_equal(counts, np.vstack([6 * np.eye(4, dtype=int), np.zeros((1, 4), dtype=int)]))
    for seed, goal in enumerate(GOALS):
        for path in paths[seed]:
            steps = np.diff(path, axis=0)
            np.testing.assert_allclose(steps, np.tile(0.2 * np.array(goal), (len(steps), 1)), atol=1e-6)
            inside = np.hypot(*(path - goal).T) < 1.0
            assert inside.tolist() == [False] * len(steps) + [True]
            assert np.hypot(*path[0]) < 0.6
    assert [len(path) for path in paths[4]] == [31] * 6
    assert len({tuple(path[0]) for path in paths[4]}) == 6


def test_the_settings_are_those_of_the_figure():
    for name in ("dp-wgf", "dp-wgf-v"):
        job = Options(seeds=3, steps=4000).job(name)
        assert (job.env, job.seeds, job.preset, job.label) == ("wgf/MultiGoal-v0", (0, 1, 2), "paper", name)
        assert (job.schedule.steps, job.schedule.warmup, job.schedule.eval_every) == (4000, 2000, 4000)
        assert (job.cfg.tau, job.cfg.reward_scale, job.cfg.activation, job.cfg.w2) == (1e-3, 0.1, "relu", "common_noise")
    backups = ["soft", "normalizer", "density"]
    assert [Options(backup=b).job("dp-wgf").cfg.backup for b in backups] == backups
    assert Options().job("dp-wgf").cfg.backup == "soft"
    assert Options(seeds=2, first_seed=3).job("dp-wgf").seeds == (3, 4)
    assert Options(backup="normalizer").job("dp-wgf-v").cfg.backup == "entropy"  # J_V as the paper ran it, whatever DP-WGF has


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--steps", "0"], "steps is 0; it must be at least 1"),
        (["--episodes", "0"], "episodes is 0; it must be at least 1"),
        (["--seeds", "0"], "seeds is 0; it must be at least 1"),
        (["--agents", "sac"], "--agents is 'sac'; choose from 'dp-wgf', 'dp-wgf-v'"),
    ],
)
def test_options_that_cannot_be_are_one_line(args, words, tmp_path, capsys):
    assert run(["multigoal", *args, "--out", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_recipe_writes_a_figure_and_a_count_of_goals_and_trains_nothing_twice(tmp_path, capsys):
    args = ["multigoal", "--agents", "dp-wgf", "--seeds", "2", "--steps", "2002", "--episodes", "2", "--out", str(tmp_path)]
    assert run(args) == 0
    out = tmp_path / "multigoal"
    assert (out / "dp-wgf.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "dp-wgf.pdf").read_bytes().startswith(b"%PDF")
    shown = capsys.readouterr().out
    assert (out / "goals.txt").read_text() in shown
    counts = [line.split("|") for line in (out / "goals.md").read_text().splitlines()[2:]]
    assert [c[2].strip() for c in counts] == ["0", "1"]
    assert all(sum(map(int, c[3].split())) <= 2 for c in counts)
    assert run(args) == 0
    assert "replay:" in shown
    assert "replay:" not in capsys.readouterr().out
    assert run(["eval", str(out / "wgf_MultiGoal-v0" / "dp-wgf" / "seed-1"), "--episodes", "1"]) == 0
