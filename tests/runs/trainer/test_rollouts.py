"""Agents that learn from rollouts, as a person trains, evaluates and compares them."""

import csv

import numpy as np
import pytest

from wgf.agents.registry import AGENTS
from wgf.agents.training.memory import Replay
from wgf.agents.training.population import Population
from wgf.agents.training.rollout import Rollout, nothing
from wgf.agents.training.schedule import Schedule
from wgf.runs.trainer.training import length, resolve

SMALL = ["--hidden", "6", "--batch", "40", "--envs", "2", "--eval-episodes", "2", "--eval-every", "300", "--log-every", "100"]


def column(folder, tag):
    with (folder / "metrics.csv").open(newline="") as file:
        return {int(row["step"]): float(row["value"]) for row in csv.DictReader(file) if row["tag"] == tag}


@pytest.mark.parametrize("env", ["wgf/CartPole-v0", "InvertedPendulum-v5"])
def test_policies_that_are_particles_train_and_tell_their_mean_and_their_best(person, env):
    code, out, err = person("train", "ip-wgf", "--env", env, "--steps", 900, "--particles", 4, "--seeds", 2, *SMALL)
    assert code == 0, err
    assert "segment: 2 x 4 x 2 x 20 steps" in out
    folder = person.folder / "runs" / "main" / env.replace("/", "_") / "ip-wgf" / "seed-0"
    assert list(column(folder, "flow/w2_moved")) == [160, 320, 480, 640, 800, 960]  # a segment has 4 x 2 x 20 steps, and the last is whole
    mean, best = column(folder, "eval/return"), column(folder, "eval/return_best")
    assert list(mean) == list(best) == [320, 640, 960]
    assert all(best[step] >= mean[step] for step in mean)
    episodes, best = column(folder, "charts/episodic_return"), column(folder, "charts/episodic_return_best")
    assert all(best[step] >= episodes[step] for step in episodes)
    code, out, err = person("eval", folder, "--episodes", 3)
    assert code == 0, err
    assert "over 3 episodes of each of 4 policies; the best, policy " in out
    returns = np.array([float(v) for v in out.split("returns: ")[1].split()]).reshape(4, 3)
    best, told = out.split("the best, policy ")[1].split("\n")[0].split(": ")
    assert int(best) == returns.mean(1).argmax()
    assert float(told) == pytest.approx(returns.mean(1).max(), abs=0.1)  # as printed


def test_one_policy_learns_to_keep_a_pole_up(person):
    code, _, err = person("train", "pg", "--env", "wgf/CartPole-v0", "--steps", 150_000, "--batch", 2000, "--eval-every", 50_000)
    assert code == 0, err
    returns = column(person.folder / "runs" / "main" / "wgf_CartPole-v0" / "pg" / "seed-0", "eval/return")
    assert returns[50_000] < 3000.0 < returns[150_000]  # 5,000 is the most


def test_a_training_shorter_than_a_segment_says_that_it_takes_the_whole_one(person):
    code, out, err = person("train", "ppo", "--env", "wgf/CartPole-v0", "--steps", 600, "--eval-every", 600, "--eval-episodes", 1)
    assert (code, err) == (0, "")
    assert "ppo on wgf/CartPole-v0: seed 0, 2,048 steps each (600 were asked for), one update, cpu, 1 thread" in out
    assert "  2,048/2,048  " in out.splitlines()[-1]
    assert list(column(person.folder / "runs" / "main" / "wgf_CartPole-v0" / "ppo" / "seed-0", "eval/return")) == [2048]


@pytest.mark.parametrize(
    ("steps", "memory", "whole", "words"),
    [
        (100, Rollout(2, 5, 10, 0.9, pieces=1), 100, "100 steps each, one update"),
        (101, Rollout(2, 5, 10, 0.9, pieces=1), 200, "200 steps each (101 were asked for), 2 updates of 100 steps"),
        (5000, Rollout(1, 1, 1000, 0.9, pieces=1), 5000, "5,000 steps each, 5 updates of 1,000 steps"),
        (1000, Replay(Schedule(), 8, 0.9), 1000, "1,000 steps each"),
        (
            999,
            Population(4, 50, 1.0, "final_state", nothing),
            999,
            "999 steps each, and what is left of the last update",
        ),
        (
            999,
            Replay(Schedule(), 8, 0.9),
            999,
            "999 steps each (nothing is learned, since 999 steps end before the warm-up of 1,000; give more --steps or a smaller --warmup)",
        ),
    ],
)
def test_the_length_of_a_training_is_told(steps, memory, whole, words):
    assert length(Schedule(steps=steps), memory) == (whole, words)


def test_the_reward_scale_of_table_6_is_for_soft_agents_alone():
    for agent in set(AGENTS) - {"es"}:  # which leaves out the scale of returns
        assert resolve(agent, "paper", "Swimmer-v5").reward_scale == (100.0 if agent in ("dp-wgf", "dp-wgf-v", "sac", "soft-q") else 1.0)
        assert resolve(agent, "paper", "Ant-v5").reward_scale == 1.0  # no paper has another
        assert resolve(agent, "modern", "Swimmer-v5").reward_scale == 1.0


def test_a_comparison_takes_both_kinds_of_agents(person):
    code, out, err = person(
        "compare", "--env", "wgf/CartPoleSwingUp-v0", "--agents", "ppo:horizon=64:hidden=8", "sac:hidden=8:batch=8", "--seeds", 2,
        "--steps", 600, "--eval-every", 200, "--eval-episodes", 1, "--log-every", 100, "--warmup", 100, "--name", "both",
    )  # fmt: skip
    assert code == 0, err
    assert "ppo,horizon=64,hidden=8" in out


def test_a_side_that_is_not_finite_ends_its_seed_alone(person, monkeypatch):
    import torch

    from wgf.agents.tasks.pendula import CartPole

    honest = CartPole.reward

    def broken(self, state, force):
        found = honest(self, state, force)
        return torch.where(torch.arange(len(found))[:, None] == 1, torch.nan, found) if found.shape == (2, 2) else found

    monkeypatch.setattr(CartPole, "reward", broken)
    code, _, err = person("train", "pg", "--env", "wgf/CartPole-v0", "--steps", 200, "--seeds", 2, *SMALL)
    assert code == 70
    assert "seed 1 failed: the environment's observation or reward is not finite at step 40" in err
    assert "seed 0" not in err


def test_a_segment_that_does_not_fit_is_refused_before_anything_is_written(person):
    code, _, err = person("train", "svpg", "--env", "wgf/CartPole-v0", "--batch", 10**9, "--envs", 1000)
    assert code == 2
    assert err.startswith("wgf: batch is 1000000000: networks and one update take at least ")
    assert err.endswith(" are free; make it smaller\n")
    assert not (person.folder / "runs").exists()
