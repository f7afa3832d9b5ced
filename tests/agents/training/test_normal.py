"""Running moments against numpy and Gymnasium's own wrappers; an agent that sees through them."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from tests.agents.training.conftest import AGENT, Chain
from wgf.agents import Agent
from wgf.agents.tasks.fleet import Outcome
from wgf.agents.training import checkpoint
from wgf.agents.training.normal import Moments, Normalized, Watching, normalized
from wgf.agents.training.protocol import Batch
from wgf.agents.training.rollout import Rollout

TINY = {"hidden": (8, 8), "batch": 8, "warmup": 20, "log_every": 15, "eval_every": 30, "eval_episodes": 2, "device": "cpu"}
CPU = torch.device("cpu")


def moments(*shape):
    return Moments(torch.zeros(shape[0], dtype=torch.float64), *(torch.zeros(shape, dtype=torch.float64) for _ in range(2)))


@pytest.mark.parametrize("shape", [(2, 3), (2,)])
def test_moments_of_parts_are_those_of_the_whole(shape, draw):
    found, parts = moments(*shape), [5.0 + 3.0 * draw(2, n, *shape[1:], seed=n) for n in (1, 4, 1, 7)]
    for part in parts:
        found.add_(part)
    whole = torch.cat(parts, 1).numpy()
    assert found.count.tolist() == [13.0, 13.0]
    np.testing.assert_allclose(found.mean, whole.mean(1), rtol=1e-12)
    np.testing.assert_allclose(found.deviation(), np.sqrt(whole.var(1) + 1e-8), rtol=1e-12)


def test_the_deviation_is_one_before_there_are_two_numbers():
    found = moments(1, 2)
    assert found.deviation().tolist() == [[1.0, 1.0]]
    found.add_(torch.tensor([[[3.0, 4.0]]]))
    assert found.deviation().tolist() == [[1.0, 1.0]]
    found.add_(torch.tensor([[[5.0, 4.0]]]))
    np.testing.assert_allclose(found.deviation(), [[1.0, 1e-4]], rtol=1e-7)  # sqrt(1 + 1e-8), and sqrt(1e-8) where nothing varies


def watched(rewards, ends):
    """The moments of one seed with as many environments as columns, after these rewards (T, n) and terminations."""
    memory = Watching(Rollout(1, rewards.shape[1], 1, 0.9, pieces=1), 0.9)
    state = normalized(AGENT, "both").init(None, 2, 1, [torch.Generator()], CPU)
    memory._returns = 0.0
    memory._state = state
    for t, (r, end) in enumerate(zip(rewards, ends, strict=True)):
        obs = torch.full((1, len(r), 2), float(t))
        terminated = torch.from_numpy(end)[None]
        memory.count(obs, Outcome(obs, obs, torch.from_numpy(r)[None], terminated, ~terminated))
    return state


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_running_returns_are_discounted_and_begin_anew_where_a_task_ends(sign):
    rng = np.random.default_rng(0)
    rewards, ends = sign * rng.normal(2.0, 1.0, (30, 3)), rng.random((30, 3)) < 0.2
    state, running, seen = watched(rewards, ends), np.zeros(3), []
    for r, end in zip(rewards, ends, strict=True):
        running = np.where(end, 0.0, 0.9 * running) + r
        seen.append(running)
    np.testing.assert_allclose(state.returns.mean, [np.mean(seen)], rtol=1e-10)
    np.testing.assert_allclose(state.returns.deviation(), [np.sqrt(np.var(seen) + 1e-8)], rtol=1e-10)
    np.testing.assert_allclose(state.largest, [np.abs(seen).max()], rtol=1e-12)
    np.testing.assert_allclose(state.obs.mean, [[14.5, 14.5]], rtol=1e-12)  # of 0 to 29


class Noisy(gym.Env):
    """Rewards 0 to 5, ten steps an episode, which ends or is cut."""

    observation_space, action_space = gym.spaces.Box(-9.0, 9.0, (1,)), gym.spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        r = float(self.np_random.integers(6))
        return np.array([r - 2.0], np.float32), r, self.t == 10 and r > 2.0, self.t == 10 and r <= 2.0, {}


def test_returns_and_observations_are_gymnasiums():
    agent = Agent("sac", Noisy, normalize="both", gamma=0.9, **TINY)
    agent.learn(500)
    wrapped = gym.wrappers.NormalizeReward(gym.wrappers.NormalizeObservation(Noisy()), gamma=0.9)
    wrapped.reset(seed=0)
    for _ in range(500):
        if any(wrapped.step(np.zeros(1))[2:4]):
            wrapped.reset()
    # theirs begins with 1e-4 numbers of variance 1, and counts the observation that no action followed
    variance = agent.state.returns.squares[0].item() / 500
    assert variance == pytest.approx(float(wrapped.return_rms.var), rel=1e-5)
    # a last observation of an episode is theirs too: 50 of 550
    assert float(agent.state.obs.mean[0, 0]) == pytest.approx(0.5 * 0.9, abs=4 * 1.7 / np.sqrt(500))
    assert agent.state.obs.count.tolist() == [500.0]


class Spy:
    """An agent that shows what it is given."""

    def update(self, cfg, state, batch, noise):
        return batch

    def greedy(self, cfg, state, obs):
        return obs

    def act(self, cfg, state, obs, noise):
        return obs


def known():
    state = normalized(AGENT, "both").init(None, 2, 1, [torch.Generator(), torch.Generator()], CPU)
    state.obs.count += 4.0
    state.obs.mean += torch.tensor([[1.0, 2.0], [0.0, -1.0]])
    state.obs.squares += 4.0 * torch.tensor([[4.0, 9.0], [1.0, 16.0]])
    state.returns.count += 4.0
    state.returns.squares += 4.0 * torch.tensor([25.0, 1.0])
    return state


def test_an_agent_sees_deviations_from_the_mean_and_learns_from_rewards_over_the_returns_deviation():
    state, obs = known(), torch.tensor([[[3.0, 5.0], [1.0, 2.0]], [[500.0, 7.0], [0.0, -9.0]]])
    batch = Batch(obs, obs[..., :1], obs[..., 0], obs[..., 0], obs.flip(1))
    seen = torch.tensor([[[1.0, 1.0], [0.0, 0.0]], [[10.0, 2.0], [0.0, -2.0]]])  # cut at 10
    both = Normalized(Spy(), True, True)
    for found in (both.greedy(None, state, obs), both.act(None, state, obs, None), both.update(None, state, batch, None).obs):
        torch.testing.assert_close(found, seen, atol=1e-6, rtol=0.0)
    told = both.update(None, state, batch, None)
    torch.testing.assert_close(told.next_obs, seen.flip(1), atol=1e-6, rtol=0.0)
    torch.testing.assert_close(told.reward, batch.reward / torch.tensor([[5.0], [1.0]]), rtol=1e-6, atol=0.0)
    assert torch.equal(told.action, batch.action)
    assert torch.equal(told.discount, batch.discount)


def test_a_bound_divides_rewards_where_the_largest_return_asks_for_more_than_the_deviation():
    """Deviations 5 and 1, largest returns 40 and 3 in size: with a bound of 4 divided by 10 and by 1; the observations stay."""
    state, obs = known(), torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0))
    state.largest += torch.tensor([40.0, 3.0])
    batch = Batch(obs, obs[..., :1], obs[..., 0], obs[..., 0], obs)
    told = normalized(Spy(), "none", 4.0).update(None, state, batch, None)
    torch.testing.assert_close(told.reward, batch.reward / torch.tensor([[10.0], [1.0]]), rtol=1e-6, atol=0.0)
    assert torch.equal(told.obs, obs)
    both = normalized(Spy(), "observations", 4.0).update(None, state, batch, None)
    assert torch.equal(both.reward, told.reward)
    assert not torch.equal(both.obs, obs)


def test_returns_lie_within_the_bound_of_the_atoms_after_the_reward_is_scaled():
    for scale in (1.0, 100.0):
        agent = Agent("sac", "Pendulum-v1", atoms=11, bound=5.0, reward_scale=scale)
        assert agent.module.bound * agent.cfg.reward_scale == pytest.approx(5.0)


def test_one_of_both_leaves_the_other_as_it_is():
    state, obs = known(), torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0))
    batch = Batch(obs, obs[..., :1], obs[..., 0], obs[..., 0], obs)
    rewards, observations = (normalized(Spy(), what).update(None, state, batch, None) for what in ("rewards", "observations"))
    assert torch.equal(rewards.obs, batch.obs)
    assert not torch.equal(rewards.reward, batch.reward)
    assert torch.equal(observations.reward, batch.reward)
    assert not torch.equal(observations.obs, batch.obs)
    assert normalized(AGENT, "none") is AGENT


@pytest.mark.parametrize(
    ("name", "settings"), [("sac", TINY | {"envs": 2}), ("ppo", {"hidden": (8,), "horizon": 30, "batch": 10, "envs": 2})]
)
def test_a_seed_of_a_stack_counts_and_trains_as_alone(name, settings):
    stack, alone = (Agent(name, "Pendulum-v1", seeds=k, preset="modern", normalize="both", **settings) for k in ((3, 5), (5,)))
    stack.learn(120), alone.learn(120)
    mine = checkpoint.seed_slice(stack.state, 1)
    for tensor, t in checkpoint.seed_slice(alone.state, 0).items():
        torch.testing.assert_close(mine[tensor], t, rtol=1e-3, atol=1e-4)  # float32, after tens of updates
    assert stack.state.obs.count.tolist() == [120.0, 120.0]


def test_moments_are_saved_and_neither_evaluation_nor_acting_moves_them(tmp_path):
    agent = Agent("sac", "Pendulum-v1", normalize="both", **TINY).learn(50)
    before = {name: t.clone() for name, t in checkpoint.tensors(agent.state).items()}
    assert {"obs.mean", "obs.squares", "obs.count", "returns.mean", "returns.squares", "returns.count"} <= before.keys()
    obs, returns = np.array([0.5, 0.5, 3.0]), agent.evaluate(2).returns
    agent.predict(obs), agent.predict(obs, deterministic=False)
    agent.save(tmp_path)
    loaded = Agent.load(tmp_path)
    for found in (checkpoint.tensors(agent.state), checkpoint.tensors(loaded.state)):
        assert all(torch.equal(t, found[name]) for name, t in before.items())
    np.testing.assert_array_equal(loaded.predict(obs), agent.predict(obs))
    np.testing.assert_array_equal(loaded.evaluate(2).returns, returns)
    assert loaded.learn(10).state.obs.count.tolist() == [60.0]


def test_what_is_normalised_is_among_the_words_allowed():
    with pytest.raises(ValueError, match="normalize is 'all'; choose from 'none', 'observations', 'rewards', 'both'"):
        Agent("sac", Chain, normalize="all")
