"""The replay as a memory: what it needs, how often it is learned from, and what a critic learns through it."""

import numpy as np
import pytest
import torch

from wgf.agents.tasks.fleet import Outcome
from wgf.agents.training import envs
from wgf.agents.training.memory import Replay
from wgf.agents.training.protocol import Finished
from wgf.agents.training.ring import Ring
from wgf.agents.training.schedule import Schedule

CPU = torch.device("cpu")


def test_means_are_over_episodes_and_the_best_policy_is_told():
    finished = Finished(
        np.array([[6.0, 1.0], [0.0, 0.0], [0.0, -4.0]]),
        np.array([[9.0, 3.0], [0.0, 0.0], [0.0, 8.0]]),
        np.array([[2.0, 1.0], [0.0, 0.0], [0.0, 2.0]]),
    )
    returns, lengths = finished.mean()
    np.testing.assert_allclose(returns, [7.0 / 3.0, np.nan, -2.0])
    np.testing.assert_allclose(lengths, [4.0, np.nan, 4.0])
    np.testing.assert_allclose(finished.best(), [3.0, np.nan, -2.0])


def test_a_replay_says_what_it_needs():
    memory = Replay(Schedule(steps=100, warmup=7, replay=90), 16, 0.9, envs=4)
    assert (memory.policies, memory.envs, memory.size, memory.warmup) == (1, 4, 4, 7)
    assert memory.place(torch.device("meta")) == CPU
    assert memory.starts(3) == [3, 10_003_001, 10_003_002, 10_003_003]
    held = Ring.bytes(8, 23, 11, 3)
    assert memory.needs(2, 11, 3) == (held, "replay: 2 x 4 x 23 rows of 11 + 3 + 2 numbers", "--replay", held)
    alone = Replay(Schedule(steps=100), 16, 0.9)
    assert alone.starts(3) == [3]
    assert alone.needs(2, 11, 3).words == "replay: 2 x 202 rows of 11 + 3 + 2 numbers"


def collected(seeds, n, steps, n_step=1):
    """A replay of the toy walk, whose reward and observation tell environment, episode and step."""
    memory = Replay(Schedule(steps=n * steps, warmup=0), 500, 0.9, n_step, n)
    memory.begin(envs.Source("toy/Walk-v0").make(len(seeds), n, starts=memory.starts), seeds, CPU)
    for _ in range(steps):
        memory.collect(lambda obs: torch.linspace(-1.0, 1.0, n)[None, :, None].expand(len(seeds), n, 2))
    return memory


def test_every_environment_has_transitions_and_no_sample_joins_two():
    memory = collected((0, 1), 3, 40, n_step=3)
    batch = next(iter(memory.batches()))
    place = torch.round(batch.action[..., 0] + 1.0)  # 0, 1 or 2: which environment acted
    assert [place[s].unique().tolist() for s in (0, 1)] == [[0.0, 1.0, 2.0]] * 2
    # a walk's observation is (episode, step, action): up to three steps on, it is the same episode's and was led to by the same environment
    taken = batch.next_obs[..., 1] - batch.obs[..., 1]
    assert set(taken.unique().tolist()) == {1.0, 2.0, 3.0}
    torch.testing.assert_close(batch.next_obs[..., 0], batch.obs[..., 0])
    torch.testing.assert_close(batch.next_obs[..., 2], 2.0 * batch.action[..., 0])
    reward = sum(0.9**k * (100.0 * batch.obs[..., 0] + batch.obs[..., 1] + 1.0 + k) * (k < taken) for k in range(3))
    torch.testing.assert_close(batch.reward, reward, rtol=1e-5, atol=0.0)


def test_a_seed_of_a_stack_with_several_environments_samples_what_it_samples_alone():
    stack, alone = collected((4, 9), 3, 25, n_step=2), collected((9,), 3, 25, n_step=2)
    for both, one in zip(stack.batches(), alone.batches(), strict=True):
        for found, expected in zip(both, one, strict=True):
            assert torch.equal(found[1:], expected)


def test_a_sample_is_uniform_over_all_transitions_of_a_seed():
    ring = Ring((0,), 60, 1, 1, 0.9, CPU, envs=2)
    ring.count = np.array([30, 10])  # one environment has had three times as many
    drawn, slot = ring._drawn(40_000)
    share = (drawn == 0).mean()
    assert abs(share - 0.75) < 4.0 * np.sqrt(0.75 * 0.25 / 40_000)
    assert set(slot[drawn == 0]) == set(range(30))
    assert set(slot[drawn == 1]) == set(range(10))


@pytest.mark.parametrize(("n", "warmup", "steps"), [(1, 10, 100), (4, 10, 100), (5, 0, 100), (20, 50, 100), (1, 0, 60), (4, 12, 100)])
def test_there_is_one_update_per_transition_from_the_last_step_of_the_warmup_on(train_toy, n, warmup, steps):
    state = train_toy("toy/Limited-v0", envs=n, schedule={"warmup": warmup, "steps": steps}).state
    assert state.updates.tolist() == [steps - warmup + 1 if warmup else steps]


@pytest.mark.parametrize(("n", "warmup"), [(1, 0), (1, 1), (1, 10), (4, 0), (4, 11), (5, 3)])
def test_with_a_delay_as_many_minibatches_come_together_after_as_many_transitions(n, warmup):
    memory = Replay(Schedule(steps=40, warmup=warmup), 6, 0.9, envs=n, delay=3)
    memory.begin(envs.Source("toy/Walk-v0").make(1, n, starts=memory.starts), (0,), CPU)
    came = 0
    for step in range(n, 41, n):
        memory.collect(lambda obs: torch.zeros(1, n, 2))
        batches = list(memory.batches())
        assert all(batch.reward.shape == (1, 18) for batch in batches)
        came += len(batches)
        assert came == memory.updates(step) == max(0, step - max(0, warmup - 1)) // 3


class Spoilt:
    """One environment, of whose parts one each is not finite in its second, fourth and sixth step."""

    obs_size, action_size = 1, 1

    def reset(self, seeds):
        self.t = 0
        return torch.ones(1, 1, 1)

    def step(self, action):
        self.t += 1
        spoilt = {2: "obs", 4: "next_obs", 6: "reward"}.get(self.t)
        parts = {name: torch.full((1, 1, *rest), torch.inf if name == spoilt else 1.0) for name, rest in SHAPES.items()}
        return Outcome(**parts, terminated=torch.zeros(1, 1, dtype=torch.bool), truncated=torch.zeros(1, 1, dtype=torch.bool))


SHAPES = {"obs": (1,), "next_obs": (1,), "reward": ()}


def test_every_part_of_an_answer_is_looked_at():
    memory = Replay(Schedule(steps=9, warmup=0), 8, 0.9)
    memory.begin(Spoilt(), (0,), CPU)
    found = [memory.collect(lambda obs: torch.zeros(1, 1, 1))[1].tolist() for _ in range(7)]
    assert found == [[True], [False], [True], [False], [True], [False], [True]]
    assert memory.ring.data.isfinite().all()


def test_learning_begins_when_the_warmup_is_over():
    memory = collected((0,), 4, 3)
    memory.warmup = 11  # of 12 steps so far, the last two are learned from
    assert len(list(memory.batches())) == 2
    memory.warmup = 13
    assert list(memory.batches()) == []


@pytest.mark.parametrize("n_step", [1, 3, 7])
@pytest.mark.parametrize("n", [1, 4])
def test_a_time_limit_bootstraps(train_toy, n_step, n):
    result = train_toy("toy/Limited-v0", (0, 1), schedule={"steps": 600, "eval_every": 600}, n_step=n_step, envs=n)
    assert result.endings == ["finished"] * 2
    torch.testing.assert_close(result.state.value[:, 0], torch.full((2,), 10.0), atol=1e-3, rtol=0)  # 1 / (1 - 0.9)


@pytest.mark.parametrize("n_step", [1, 3, 4])
@pytest.mark.parametrize("n", [1, 4])
def test_an_end_of_the_task_does_not(train_toy, n_step, n):
    result = train_toy("toy/Ends-v0", (0, 1), schedule={"steps": 600, "eval_every": 600}, n_step=n_step, envs=n)
    torch.testing.assert_close(result.state.value[:, :3], torch.tensor([[1 + 0.9 + 0.81, 1.9, 1.0]]).expand(2, 3), atol=1e-3, rtol=0)


def test_rows_are_clipped_to_what_a_training_can_fill():
    assert Schedule(steps=10).rows() == 22
    assert Schedule(steps=10, replay=7).rows() == 7
    assert Schedule(steps=10).rows(3) == 10  # four steps each
    assert Schedule(steps=10, replay=31).rows(4) == 8
    with pytest.raises(ValueError, match="replay is 3; it must be at least 4"):
        Schedule(replay=3)
