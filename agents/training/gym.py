"""Gymnasium's environments, stepped one after another in this process: one that breaks leaves the others as they are."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from wgf.agents.training import spaces
from wgf.agents.training.limit import Limit, TooLong
from wgf.agents.training.making import closed, refuse_statistics, several
from wgf.agents.training.spaces import Array, BrokenEnvironment, Misfit, Scale, Step, cast, raised
from wgf.snapshot import Snapshot

__all__ = ["Episode", "Gymnasium"]

FAULTS = (Exception, SystemExit, TooLong)  # an environment's own code may raise anything, and may call sys.exit
BEGUN, STEPPED = ("observation", "info"), ("observation", "reward", "terminated", "truncated", "info")


@dataclass
class Episode:
    """How an episode began, by the seed of its reset or by its generator's state before, and its actions (A,) since, in (-1, 1).

    A simulator's own state is not saved: the episode is played again.
    """

    seed: int | None
    generator: Any = None
    actions: list[Array] = field(default_factory=list)

    def saved(self, action_size: int) -> Snapshot:
        """Returns what ``of`` makes it of again."""
        actions = np.asarray(self.actions, np.float32).reshape(-1, action_size)
        return {"seed": self.seed, "generator": self.generator, "actions": torch.from_numpy(actions)}

    @classmethod
    def of(cls, saved: Snapshot, action_size: int) -> "Episode":
        """Returns an episode that was saved. Raises ValueError for what is none."""
        seed, actions = saved["seed"], saved["actions"].numpy()
        known = seed is None or (type(seed) is int and 0 <= seed < 2**31)
        if not known or actions.dtype != np.float32 or actions.shape != (len(actions), action_size) or not np.isfinite(actions).all():
            raise ValueError("an episode in the checkpoint is none: its seed or its actions are none")
        return cls(seed, saved["generator"], list(actions))


class Gymnasium:
    """Environments made by their id, or each by a call of ``factory``; ``limit`` seconds for a step or a reset of one, 0 for no limit.

    They come back to where a snapshot was taken if an episode follows from the environment's ``np_random`` at its reset and the actions.

    ``faults`` says of an environment that raised, answered what it may not, or took too long, by its place, what it did. It is touched
    no more, and all its numbers are nan from then on.
    """

    continues = True

    def __init__(self, name: str, n: int, factory: Callable[[], Any] | None = None, limit: float = 0.0) -> None:
        self.name = name
        self.envs = several(name, n, factory)
        spec, self.space, action = self.envs[0].spec, self.envs[0].observation_space, self.envs[0].action_space
        if factory is None and spec.id != name.rpartition(":")[2]:
            raise ValueError(f"environment {name!r} has no version; did you mean {spec.id!r}?")
        refuse_statistics(name, self.envs[0])
        self.obs_size, self.action_size = spaces.sizes(name, self.space, action)
        self.scale, self.horizon = Scale(action), spec.max_episode_steps if spec else None
        self.faults: dict[int, BrokenEnvironment] = {}
        self._limit = Limit(limit, f"environment {name!r}") if limit else None
        self._nothing = np.full(self.obs_size, np.nan, np.float32)

    def reset(self, seeds: Sequence[int | None]) -> Array:
        """Returns the first observations (N, D); environment i is seeded with seeds[i] and keeps its own stream from then on.

        One whose seed is None is left alone, with nan for numbers.
        """
        self.faults = {}
        self._episodes = [None if seed is None else Episode(int(seed)) for seed in seeds]
        obs = cast([self._first(i) for i in range(len(self.envs))])
        self._found_finite(obs)
        return obs

    def step(self, action: Array) -> Step:
        """Applies actions (N, A) in (-1, 1)."""
        rows = [self._stepped(i, a, own) for i, (a, own) in enumerate(zip(self.scale(action), action.copy(), strict=True))]
        first, after, reward, terminated, truncated = zip(*rows, strict=True)
        next_obs, earned = cast(after), cast(reward)
        obs = cast(first) if any(terminated) or any(truncated) else next_obs
        self._found_finite(obs, next_obs, earned)
        return Step(obs, next_obs, earned, np.array(terminated), np.array(truncated))

    def snapshot(self) -> Snapshot:
        """Returns of each environment its ``Episode``, or its fault."""
        return {str(i): one.saved(self.action_size) if one else {"fault": str(self.faults[i])} for i, one in enumerate(self._episodes)}

    def restore(self, snapshot: Snapshot) -> Array:
        """Plays every episode again up to where a snapshot was taken, and returns the observations there, (N, D).

        One that had a fault then is left alone. **Raises** BrokenEnvironment where another has one now.
        """
        self.faults = {}
        return cast([self._again(i, snapshot[str(i)]) for i in range(len(self.envs))])

    def close(self) -> None:
        """Frees the simulators. One that raises meanwhile is a RuntimeWarning."""
        for env in self.envs:
            try:
                self._called("close", closed, self.name, env)
            except TooLong as error:
                warnings.warn(f"{self._fault(error)}", RuntimeWarning, stacklevel=2)
        if self._limit:
            self._limit.close()

    def _stepped(self, i: int, action: Any, own: Array) -> tuple[Any, Any, Any, bool, bool]:
        """Steps one environment and begins its next episode where it ended: its row of a ``Step``."""
        episode = self._episodes[i]
        if episode is None:
            return self._nothing, self._nothing, math.nan, False, False
        try:
            obs, reward, terminated, truncated, _ = spaces.answered(self._called("step", self.envs[i].step, action), "step", *STEPPED)
            row = spaces.numbers(self.space, self.obs_size, obs), spaces.number(reward)
            ended = spaces.flag(terminated, "terminated"), spaces.flag(truncated, "truncated")
            episode.actions.append(own)
        except FAULTS as error:
            self._lost(i, self._fault(error))
            return self._nothing, self._nothing, math.nan, False, False
        if not any(ended):
            return row[0], *row, *ended
        last = row[0].copy()  # which a reset may write over
        return self._first(i, anew=True), last, row[1], *ended

    def _first(self, i: int, anew: bool = False) -> Any:
        """Begins the episode of one environment, or the next one where ``anew``, and returns its first observation."""
        episode = self._episodes[i]
        if episode is None:
            return self._nothing
        try:
            if anew:
                episode = self._episodes[i] = Episode(None, self.envs[i].unwrapped.np_random.bit_generator.state)
            return self._begun(i, episode)
        except FAULTS as error:
            self._lost(i, self._fault(error))
            return self._nothing

    def _begun(self, i: int, episode: Episode) -> Any:
        obs, _ = spaces.answered(self._called("reset", self.envs[i].reset, seed=episode.seed), "reset", *BEGUN)
        return spaces.numbers(self.space, self.obs_size, obs)

    def _again(self, i: int, saved: Snapshot) -> Any:
        """Plays one environment's episode again and returns the observation at its end."""
        if "fault" in saved:
            self._lost(i, BrokenEnvironment(saved["fault"]))
            return self._nothing
        env, episode = self.envs[i], Episode.of(saved, self.action_size)
        self._episodes[i] = episode
        if episode.seed is None:
            env.unwrapped.np_random.bit_generator.state = episode.generator
        try:
            obs = self._begun(i, episode)
            for action in episode.actions:
                obs = spaces.numbers(self.space, self.obs_size, self._called("step", env.step, self.scale(action))[0])
        except FAULTS as error:
            raise self._fault(error) from error
        return obs

    def _called(self, call: str, function: Callable[..., Any], *args: Any, **named: Any) -> Any:
        return function(*args, **named) if self._limit is None else self._limit(call, function, *args, **named)

    def _found_finite(self, *columns: Array) -> None:
        """Marks the environments that gave a number that is not finite, and makes their rows nan."""
        if math.isfinite(sum(np.vdot(column, column) for column in columns)):  # which is quick, and finite where all numbers are
            return
        wrong = ~np.all([np.isfinite(column).reshape(len(column), -1).all(1) for column in columns], 0)
        for i in np.flatnonzero(wrong).tolist():
            if self._episodes[i] is not None:
                self._lost(i, self._fault(Misfit("an observation or a reward that is not finite")))
            for column in columns:
                column[i] = np.nan

    def _lost(self, i: int, fault: BrokenEnvironment) -> None:
        self._episodes[i], self.faults[i] = None, fault

    def _fault(self, error: BaseException) -> BrokenEnvironment:
        """Returns what an environment did, in a line, with the error as its cause."""
        if isinstance(error, Misfit):
            text = f"returned {error}"
        elif isinstance(error, TooLong):
            text = str(error)
        else:
            text = f"raised {raised(error)}"
            if "(expected 5, got 4)" in text:  # a wrapper's answer to the 4 parts of Gym, Gymnasium's predecessor
                text += f"; step() must return ({', '.join(STEPPED)})"
        fault = BrokenEnvironment(f"environment {self.name!r} {text}")
        fault.__cause__ = error
        return fault
