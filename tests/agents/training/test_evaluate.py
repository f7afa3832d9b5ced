"""Evaluation on tasks whose returns are known."""

import numpy as np
import pytest
import torch

from wgf.agents.training import envs, evaluate


def run(name, seeds, episodes, policy=None, **options):
    side = envs.Source(name).make(len(seeds) * episodes)
    shape = (len(seeds), episodes, side.action_size)
    return evaluate.evaluate(policy or (lambda obs: torch.zeros(shape)), side, seeds, episodes, **options)


def test_returns_and_lengths_are_those_of_the_first_episode():
    result = run("toy/Walk-v0", (0, 3), 4)
    lengths = []
    for start in [1_000_000, 1_000_001, 1_000_002, 1_000_003, 1_003_000, 1_003_001, 1_003_002, 1_003_003]:
        lengths.append(min(4, int(np.random.Generator(np.random.PCG64(np.random.SeedSequence(start))).integers(1, 7))))
    lengths = np.array(lengths).reshape(2, 4)
    np.testing.assert_array_equal(result.lengths, lengths)
    np.testing.assert_array_equal(result.returns, 100.0 * lengths + lengths * (lengths + 1) / 2)  # sum of 100 + t


def test_the_policy_sees_each_seeds_environments_and_its_actions_reach_them():
    seen = []

    def policy(obs):
        seen.append(obs.numpy().copy())
        return torch.tensor([0.5, -1.0])[:, None, None].expand(2, 3, 2).clone()

    run("toy/Walk-v0", (0, 1), 3, policy)
    assert seen[0].shape == (2, 3, 3)
    still = seen[1][..., 1] == 1  # the environments whose first episode goes on
    np.testing.assert_array_equal(seen[1][..., 2], np.where(still, [[1.0], [-2.0]], 0.0))


def test_every_evaluation_has_the_same_starts():
    one, two = (run("Pendulum-v1", (0,), 3) for _ in range(2))
    np.testing.assert_array_equal(one.returns, two.returns)
    assert len(np.unique(one.returns)) == 3


def test_a_seed_of_a_stack_is_evaluated_as_alone():
    np.testing.assert_array_equal(run("Pendulum-v1", (0, 7), 2).returns[1:], run("Pendulum-v1", (7,), 2).returns)


def test_a_task_without_end_is_cut(monkeypatch):
    monkeypatch.setattr(evaluate, "LONGEST", 30)
    monkeypatch.setattr(evaluate, "starts", lambda seeds, episodes: [0, 1])
    assert run("toy/Endless-v0", (0,), 2).lengths.tolist() == [[30.0, 30.0]]
    assert run("toy/NanEndless-v0", (0,), 2).lengths.tolist() == [[30.0, 3.0]]  # also beside one that ended


def test_a_simulator_gone_wrong_ends_its_episode(monkeypatch):
    monkeypatch.setattr(evaluate, "starts", lambda seeds, episodes: [0, 1])  # the second goes wrong at its third step
    assert run("toy/NanSoon-v0", (0,), 2).lengths.tolist() == [[5.0, 3.0]]


def test_an_evaluation_can_be_stopped():
    asked = iter([False, False, True])
    assert run("toy/Endless-v0", (0,), 1, stopping=lambda: next(asked)) is None
    with pytest.raises(StopIteration):
        next(asked)
