"""Toy tasks whose every number is known, and a tabular agent that trains through the real loop."""

import types
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from wgf.agents.training import envs
from wgf.agents.training.log import RunLog
from wgf.agents.training.loop import Keeper, Task, begin, train
from wgf.agents.training.memory import Replay
from wgf.agents.training.record import Record
from wgf.agents.training.schedule import Schedule
from wgf.agents.training.store import Store
from wgf.agents.training.targets import td_target


class Walk(gym.Env):
    """Observation (episode, t, last first action number); an episode lasts a drawn number of steps, 1 to 6; a reward tells the step."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = gym.spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 10.0]), dtype=np.float64)
    episode = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode += 1
        self.t, self.lasts = 0, int(self.np_random.integers(1, 7))
        return np.array([self.episode, 0.0, 0.0]), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.t += 1
        return np.array([self.episode, self.t, action[0]]), 100.0 * self.episode + self.t, self.t >= self.lasts, False, {}


class Chain(gym.Env):
    """Reward 1 a step; the observation is one state, or the step t; ``length`` steps to a terminal state, or none."""

    observation_space = gym.spaces.Box(0.0, 1e3, (1,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, length=None, fault=None, at=30):
        self.length, self.fault, self.at, self.total = length, fault, at, 0

    def _obs(self):
        return np.array([self.t if self.length else 0], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action):
        self.t, self.total = self.t + 1, self.total + 1
        if self.fault == "raises" and self.total == self.at:
            raise RuntimeError("the gearbox\nbroke")
        obs = self._obs() * (np.nan if self.fault == "nan" and self.total == self.at and self.np_random_seed == 1 else 1.0)
        return obs, 1.0, bool(self.length) and self.t >= self.length, False, {}


gym.register("toy/Walk-v0", entry_point=Walk, max_episode_steps=4)
gym.register("toy/Limited-v0", entry_point=Chain, max_episode_steps=5)
gym.register("toy/Ends-v0", entry_point=Chain, kwargs={"length": 3}, max_episode_steps=50)
gym.register("toy/Endless-v0", entry_point=Chain)
gym.register("toy/Raises-v0", entry_point=Chain, kwargs={"fault": "raises"}, max_episode_steps=5)
gym.register("toy/NanSoon-v0", entry_point=Chain, kwargs={"fault": "nan", "at": 3}, max_episode_steps=5)
gym.register("toy/NanEndless-v0", entry_point=Chain, kwargs={"fault": "nan", "at": 3})
gym.register("toy/Nan-v0", entry_point=Chain, kwargs={"fault": "nan"}, max_episode_steps=5)


@dataclass(frozen=True)
class Config:
    """A tabular critic. ``poison`` is the seed whose values turn to nan at its 40th update; ``fault`` an error at that update."""

    gamma: float = 0.9
    batch: int = 16
    lr: float = 0.5
    n_step: int = 1
    envs: int = 1
    poison: int = -1
    fault: type[BaseException] | None = None


@dataclass
class State:
    """One value a state (S, 8), updates so far, and the seeds."""

    value: torch.Tensor
    updates: torch.Tensor
    seed: torch.Tensor


def memory(cfg, schedule):
    return Replay(schedule, cfg.batch, cfg.gamma, cfg.n_step, cfg.envs)


def init(cfg, obs, action, generators, device):
    seeds = torch.tensor([float(g.initial_seed()) for g in generators])
    return State(torch.zeros(len(generators), 8), torch.zeros(len(generators)), seeds)


def act_noise(cfg, action, n, draw):
    return draw.normal(n, action)


def act(cfg, state, obs, noise):
    return torch.tanh(noise + state.value[:, :1, None])


def greedy(cfg, state, obs):
    return torch.tanh(state.value[:, :1, None]).expand(*obs.shape[:-1], 1)


def noise(cfg, action, draw):
    return None


def update(cfg, state, batch, noise):
    """value[s] <- value[s] + lr (mean of the targets of the minibatch's rows at s - value[s])."""
    here, after = batch.obs[..., 0].nan_to_num().long(), batch.next_obs[..., 0].nan_to_num().long()
    y = td_target(batch.reward, batch.discount, state.value.gather(1, after))
    count = torch.zeros_like(state.value).scatter_add(1, here, torch.ones_like(y))
    mean = torch.zeros_like(state.value).scatter_add(1, here, y) / count.clamp(min=1.0)
    loss = (y - state.value.gather(1, here)).square().mean(1)
    state.value += cfg.lr * (mean - state.value) * (count > 0)
    state.updates += 1
    state.value[(state.updates == 40) & (state.seed == cfg.poison)] = torch.nan
    if cfg.fault is not None and state.updates[0] == 40:
        raise cfg.fault("of the update")
    return lambda: {"losses/q": loss}


AGENT = types.SimpleNamespace(
    Config=Config,
    PRESETS={"paper": Config()},
    memory=memory,
    init=init,
    act_noise=act_noise,
    act=act,
    greedy=greedy,
    noise=noise,
    update=update,
)


@dataclass
class Result:
    """What a toy training left."""

    endings: list[str]
    state: State
    folders: list[Path]
    ticks: list


@pytest.fixture
def train_toy(tmp_path):
    """Trains the tabular agent on a toy task through the real loop, logs and environments."""

    def run(env, seeds=(0,), *, out="toy", stopping=lambda: False, schedule=None, **settings):
        schedule = Schedule(**{"steps": 100, "warmup": 10, "log_every": 10, "eval_every": 20, "eval_episodes": 2} | (schedule or {}))
        cfg = Config(**settings)
        replay = memory(cfg, schedule)
        source = envs.Source(env)
        sides = source.make(len(seeds), cfg.envs, starts=replay.starts), source.make(len(seeds) * schedule.eval_episodes)
        task = Task(AGENT, cfg, schedule, seeds, replay, *sides, torch.device("cpu"))
        training = begin(task)
        folders = [tmp_path / out / f"seed-{k}" for k in seeds]
        config = {"agent": "toy", "preset": "paper", "env": env, "config": {"gamma": task.cfg.gamma}}
        logs = [RunLog(folder, {**config, "seed": k}) for folder, k in zip(folders, seeds, strict=True)]
        ticks = []
        keeper = Keeper(Store(folders[0] / "training"))
        endings = train(task, training, Record(logs, seeds, {"agent": "toy"}), keeper, tell=ticks.append, stopping=stopping)
        return Result(endings, training.state, folders, ticks)

    return run
