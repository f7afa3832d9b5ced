"""The pace of a training: what its steps take, part by part. What is timed is what ``learn`` does, but for logs and checkpoints."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wgf import trusted
from wgf.agents.training import machine
from wgf.agents.training.agent import Agent
from wgf.agents.training.evaluate import LONGEST, deterministic, evaluate
from wgf.agents.training.loop import actor, blame, learn
from wgf.agents.training.protocol import Actor

__all__ = ["Pace", "Spent"]

WARMUP = 100  # steps of uniform actions are enough to learn from


class Spent(NamedTuple):
    """Seconds of some steps of a stack of seeds, in its parts: acting, collecting without it, learning; how many steps and updates.

    ``acting`` is nan where an agent acts and environments step in one piece of machine code, which ``stepping`` then counts.
    """

    acting: float
    stepping: float
    learning: float
    steps: int  # of each seed
    updates: int

    @property
    def seconds(self) -> float:
        """All parts together."""
        return self.learning + self.stepping + (0.0 if math.isnan(self.acting) else self.acting)

    def __add__(self, other: Any) -> "Spent":
        return Spent(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True)
class _Timed(Actor):
    """An actor that notes how long each of its actions took."""

    clock: Callable[[], float]
    spent: list[float]

    def __call__(self, obs: Tensor) -> Tensor:
        """Returns actions for observations."""
        began = self.clock()
        action = super().__call__(obs)
        self.spent.append(self.clock() - began)
        return action


class Pace:
    """A training of ``steps`` steps as it is near its beginning, which goes on by ``turn``, and ``compiling`` seconds of its first turn.

    **Limits** The replay holds few rows yet, and is read faster than a large one. Episodes are those of policies that know nothing: where
    these end early, environments are begun anew more often than later. **Raises** ValueError as ``Agent.learn`` does, before it takes a
    step.
    """

    def __init__(self, agent: Agent, steps: int) -> None:
        agent.needs(steps)
        self.agent = agent
        self.task, self.run = agent._prepared(replace(agent.schedule, steps=steps, warmup=min(agent.schedule.warmup, WARMUP)))
        first, again = self.turn(), self.turn()
        once = first.learning - again.learning * first.updates / again.updates
        once += first.stepping - again.stepping * first.steps / again.steps
        self.compiling = once if self.task.compile else math.nan

    def turn(self) -> Spent:
        """Collects and learns until an update has ended, and returns what it took. Raises ValueError for an environment that goes wrong."""
        spent = Spent(0.0, 0.0, 0.0, 0, 0)
        with trusted(), machine.tuned():
            while not spent.updates:
                spent += self._step()
        return spent

    def _step(self) -> Spent:
        task, run, memory = self.task, self.run, self.task.memory
        uniform = run.step < memory.warmup
        run.step += memory.size
        acting = _Timed(**vars(actor(task, run, uniform)), clock=self._now, spent=[])
        began = self._now()
        memory.explore(run.state, run.streams)
        _, finite = memory.collect(acting)
        collected = self._now()
        if not finite.all():
            raise ValueError(blame(task.envs.faults.get(int(np.flatnonzero(~finite)[0])), run.step)[0])
        updates = learn(task, run)
        learned, acted = self._now() - collected, sum(acting.spent)
        return Spent(acted if acting.spent else math.nan, collected - began - acted, learned, memory.size, updates)

    def judged(self, most: float) -> float:
        """Returns the seconds of a step of all episodes of an evaluation side by side, by one that is cut after ``most`` seconds."""
        times = list[float]()

        def over() -> bool:
            times.append(self._now())
            return times[-1] - times[0] > most

        policy = deterministic(self.task.agent, self.task.cfg, self.run.state, self.task.device)
        with trusted(), machine.tuned():
            if evaluate(policy, self.task.eval_envs, self.task.seeds, self.task.played, over):
                over()
        return (times[-1] - times[0]) / (len(times) - 1)

    @property
    def longest(self) -> int:
        """Steps of an evaluation at most: of an episode until the time limit."""
        return self.task.eval_envs.horizon or LONGEST

    def close(self) -> None:
        """Frees the environments."""
        self.agent.close()

    def _now(self) -> float:
        if self.task.device.type == "cuda":
            torch.cuda.synchronize(self.task.device)
        return time.perf_counter()
