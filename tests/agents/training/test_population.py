"""Whole episodes of a population against environments stepped by hand, one policy after another."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from wgf.agents import Agent, es
from wgf.agents.tasks.fleet import Fleet, drawn
from wgf.agents.training import envs
from wgf.agents.training.population import EMBEDDINGS, Population, Trajectory, embedding_size
from wgf.agents.training.rollout import nothing

CPU = torch.device("cpu")
N, T = 4, 40


def pushed(obs):
    """Policies: each pushes by the state and by its own place."""
    return torch.sin(obs[..., :1] + torch.arange(obs.shape[1])[:, None]).expand(*obs.shape[:2], 1)


def begun(name, seeds, gamma=0.9, embedding="final_state", horizon=T, n=N):
    memory = Population(n, horizon, gamma, embedding, nothing)
    side = envs.Source(name).make(len(seeds), n, starts=memory.starts)
    memory.begin(side, seeds, CPU)
    return memory, side


def by_hand(seed, number, i, horizon):
    """One episode of Gymnasium's Pendulum of policy i from start ``number`` of a seed: rewards, actions and the last observation."""
    env = gym.make("Pendulum-v1")
    obs, _ = env.reset(seed=drawn(seed, number))
    rewards, actions, ended = [], [], False
    while not ended and len(rewards) < horizon:
        action = np.sin(np.float32(obs[0]) + np.float32(i))
        obs, reward, terminated, truncated, _ = env.step(np.array([2.0 * action], np.float32))
        rewards.append(reward), actions.append(action)
        ended = terminated or truncated
    return np.array(rewards), np.array(actions), obs


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_an_iteration_is_an_episode_of_every_policy_from_one_start_and_another_start_follows(embedding):
    memory, side = begun("Pendulum-v1", (3, 4), embedding=embedding, horizon=12)
    assert memory.size == N * 12
    for number in range(2):
        finished, finite = memory.collect(pushed)
        (iteration,) = memory.batches()
        assert finite.tolist() == [True, True]
        assert finished.counts.tolist() == [[N], [N]]
        assert finished.lengths.tolist() == [[12.0 * N], [12.0 * N]]
        for s, seed in enumerate((3, 4)):
            total = 0.0
            for i in range(N):
                rewards, actions, last = by_hand(seed, number, i, 12)
                total += rewards.sum()
                assert iteration.returns[s, i].item() == pytest.approx((0.9 ** np.arange(12) * rewards).sum(), rel=1e-4)
                expected = {"final_state": last, "reward_to_go": rewards[::-1].cumsum()[::-1], "actions": actions}[embedding]
                np.testing.assert_allclose(iteration.embedding[s, i], expected, rtol=1e-3, atol=1e-3)
            assert finished.returns[s, 0] == pytest.approx(total, rel=1e-4)
    assert list(memory.batches()) == []  # an iteration is learned from once
    side.close()


class Falls(gym.Env):
    """Reward 1 a step, until policy and start say that it ends: after 2 to 5 steps; its observation is the step, and behind it 100 more."""

    observation_space, action_space = gym.spaces.Box(-1e9, 1e9, (1,)), gym.spaces.Box(-1.0, 1.0, (1,))
    episode = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.episode = 0, self.episode + 1
        return np.array([0.0], np.float32), {}

    def step(self, action):
        self.t += 1
        return np.array([self.t], np.float32), 1.0, bool(self.t >= 2 + round(3.0 * float(action[0]))), False, {}


gym.register("toy/Falls-v0", entry_point=Falls, max_episode_steps=8)


def falling(obs):
    return torch.linspace(0.0, 1.0, obs.shape[1])[None, :, None].expand(*obs.shape[:2], 1)


def test_what_comes_after_an_end_does_not_count_and_nobody_plays_when_all_have_ended(monkeypatch):
    memory, side = begun("toy/Falls-v0", (3,), gamma=1.0, embedding="reward_to_go", horizon=20)
    assert (memory.steps, memory.size) == (8, 8 * N)  # the environment's own limit comes first
    stepped = []
    step = side.step
    monkeypatch.setattr(side, "step", lambda action: stepped.append(action) or step(action))
    finished, _ = memory.collect(falling)
    (iteration,) = memory.batches()
    lengths = [2, 3, 4, 5]
    assert iteration.returns.tolist() == [lengths]
    assert (finished.returns.item(), finished.lengths.item(), finished.counts.item()) == (14.0, 14.0, 4.0)
    for row, length in zip(iteration.embedding[0].tolist(), lengths, strict=True):
        assert row == [float(max(0, length - t)) for t in range(20)]
    assert len(stepped) == 5
    last, _ = begun("toy/Falls-v0", (3,), horizon=20)
    last.collect(falling)
    assert next(last.batches()).embedding[0, :, 0].tolist() == lengths  # what each saw at its own end
    acts, _ = begun("toy/Falls-v0", (3,), embedding="actions", horizon=6)
    acts.collect(falling)
    assert [int((row != 0.0).sum()) for row in next(acts.batches()).embedding[0]] == [0, 3, 4, 5]  # the first acts 0


def test_an_episode_is_cut_at_the_horizon():
    memory, _ = begun("toy/Falls-v0", (3,), gamma=1.0, horizon=3)
    finished, _ = memory.collect(falling)
    assert memory.size == 3 * N
    assert next(memory.batches()).returns.tolist() == [[2.0, 3.0, 3.0, 3.0]]
    assert finished.counts.item() == 4.0


def test_a_task_of_the_projects_own_begins_alike_and_elsewhere_each_time():
    fleet, seen = Fleet("PointWall", N, CPU), []
    for number in (0, 1, 0):
        obs = fleet.reset([3, 4], common=number)
        assert torch.equal(obs, obs[:, :1].expand_as(obs))
        assert not torch.equal(obs[0], obs[1])
        seen.append(obs)
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(Fleet("PointWall", 7, CPU).reset([4], common=1)[0, 0], seen[1][1, 0])  # whatever else there is
    assert not torch.equal(fleet.reset([3])[:, 0], fleet.reset([3])[:, 1])


@pytest.mark.parametrize("name", ["wgf/PointWall-v0", "Pendulum-v1"])
def test_it_goes_on_from_its_number_alone_and_a_seed_of_a_stack_plays_as_alone(name):
    def act(obs):
        return pushed(obs).expand(*obs.shape[:2], 2 if "Wall" in name else 1)

    memory, _ = begun(name, (3, 4), horizon=6)
    memory.collect(act), list(memory.batches())
    saved = memory.snapshot()
    memory.collect(act)
    (expected,) = memory.batches()
    other, _ = begun(name, (4,), horizon=6)
    other.restore({**saved, "seeds": [4]}, [])
    other.collect(act)
    (found,) = other.batches()
    assert torch.equal(found.returns, expected.returns[1:])
    assert torch.equal(found.embedding, expected.embedding[1:])
    assert memory.rows(None) == {}


@pytest.mark.parametrize("wrong", [{"count": -1}, {"count": 1.5}, {"seeds": [3]}, {"seeds": "34"}])
def test_a_checkpoint_of_no_population_is_refused(wrong):
    memory, _ = begun("wgf/PointWall-v0", (3, 4))
    with pytest.raises(ValueError, match="the number of collections in the checkpoint is none, or its seeds are others"):
        memory.restore({**memory.snapshot(), **wrong}, [])


class Breaks(Falls):
    """Of seed 4 the second policy's third step raises or is nan."""

    def __init__(self, kind):
        self.kind = kind

    def step(self, action):
        if self.t == 2 and 0.3 < action[0] < 0.4 and self.np_random_seed == drawn(4, 0):
            if self.kind == "raises":
                raise RuntimeError("broke")
            self.t += 1
            return np.array([np.nan], np.float32), 1.0, False, False, {}
        return super().step(action)


@pytest.mark.parametrize("kind", ["raises", "nan"])
def test_a_seed_gone_wrong_is_marked_and_plays_no_more(kind):
    memory = Population(N, 6, 1.0, "final_state", nothing)
    side = envs.Source(lambda: Breaks(kind)).make(2, N, starts=memory.starts)
    memory.begin(side, (3, 4), CPU)
    for _ in range(2):
        _, finite = memory.collect(falling)
        assert finite.tolist() == [True, False]
        (iteration,) = memory.batches()
        assert iteration.returns.isfinite().all()
        assert iteration.embedding.isfinite().all()
        assert iteration.returns[0].tolist() == [2.0, 3.0, 4.0, 5.0]
    assert memory.snapshot()["seeds"] == [3, None]
    again = Population(N, 6, 1.0, "final_state", nothing)
    again.begin(envs.Source(lambda: Breaks("no")).make(2, N, starts=again.starts), (3, 4), CPU)
    again.restore(memory.snapshot(), [])
    assert again.collect(falling)[1].tolist() == [True, False]  # it is left alone


def test_a_population_says_what_it_needs():
    memory = Population(N, T, 0.9, "actions", nothing)
    assert [memory.updates(steps) for steps in (1, N * T, N * T + 1)] == [1, 1, 2]
    assert (memory.policies, memory.envs, memory.size, memory.warmup, memory.whole) == (1, N, N * T, 0, False)
    assert memory.starts(7) == [10_007_000 + i for i in range(N)]
    assert memory.place(torch.device("meta")) == torch.device("meta")
    assert memory.needs(3, 5, 2) == (2 * 3 * N * 4 * (5 + T * 3), "population: 3 x 4 episodes of 40 steps", "--pairs", 0)
    for name, embed in EMBEDDINGS.items():
        trajectory = Trajectory(torch.zeros(2, N, 5), torch.zeros(2, N, T), torch.zeros(2, N, T, 2))
        assert embed(trajectory).shape == (2, N, embedding_size(name, 5, 2, T))


def test_of_several_centres_each_is_evaluated_as_a_policy():
    agent, seen = Agent("es", "wgf/PointWall-v0", seeds=2, preset="nsr-es", centres=3, pairs=2, hidden=(4,), horizon=20), []
    agent.learn(1_400, callback=lambda step, metrics, _: seen.append((step, metrics)))  # ten updates of four policies and three centres
    assert agent.policies == 3
    step, metrics = seen[-1]
    assert step == 1_400
    each = agent.evaluate(agent.schedule.eval_episodes).returns.reshape(2, 3, -1).mean(-1)
    np.testing.assert_allclose(metrics["eval/return"], each.mean(1), rtol=1e-5)
    np.testing.assert_allclose(metrics["eval/return_best"], each.max(1), rtol=1e-5)
    assert "charts/episodic_return_best" not in metrics  # these are the population's
    first, last = (agent.predict(np.ones(6), policy=i) for i in (0, 2))
    assert not np.array_equal(first, last)


def test_it_trains_logs_returns_and_evaluates_the_centre():
    seen = []
    agent = Agent("es", "wgf/PointWall-v0", seeds=2, pairs=3, hidden=(4,), log_every=1, eval_every=600, eval_episodes=1, horizon=20)
    agent.learn(600, callback=lambda step, metrics, _: seen.append((step, metrics)))
    assert [step for step, _ in seen] == [120, 240, 360, 480, 600]
    for _, metrics in seen:
        assert (metrics["charts/episodic_length"] == 20.0).all()
        np.testing.assert_allclose(metrics["charts/episodic_return"], metrics["population/return"], rtol=1e-5)
    assert (seen[-1][1]["eval/length"] == 50.0).all()
    obs = np.zeros((7, 6), np.float32)
    greedy, explores = agent.predict(obs), agent.predict(obs, deterministic=False)
    assert np.array_equal(greedy, np.repeat(greedy[:1], 7, 0))
    assert len({tuple(row) for row in explores.tolist()}) == 6  # the seventh is the first again
    assert es.PRESETS["paper"].horizon == 1000


def test_what_normalises_is_refused():
    with pytest.raises(ValueError, match="normalize must be none for an agent that plays whole episodes"):
        Agent("es", "Pendulum-v1", normalize="observations")
