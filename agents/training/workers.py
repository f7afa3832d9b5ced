"""Gymnasium's environments in processes, one each (its AsyncVectorEnv): they step at the same time, and give what they give in this one."""

import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import TimeoutError
from multiprocessing.util import Finalize
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.async_vector_env import _async_worker

from wgf.agents.training.gym import Episode, Gymnasium
from wgf.agents.training.making import CPU, fitting, unstable
from wgf.agents.training.spaces import Array, BrokenEnvironment, Step, quiet
from wgf.limits import free_memory
from wgf.snapshot import Snapshot

__all__ = ["Row", "Trace", "Workers", "restarted"]
CONTEXT = "fork" if sys.platform == "linux" else None  # a fork knows the program's functions, ids and modes; None: the system's usual way
EACH = 2**24  # bytes that a process takes at least
STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)]
_restarted = [0]


class Row(gym.Env):  # type: ignore[misc]
    """One environment of ``Gymnasium`` as an environment itself, for a worker: its observations are rows of numbers, and it raises nothing.

    ``info`` says what went wrong, and of a next episode the state of the generator before it. It is made by ``make``.
    """

    _side: Gymnasium
    _first: Array

    def __init__(self, side: Callable[[], Gymnasium], obs_size: int, action_size: int) -> None:
        self._make, self._known = side, unstable()
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (obs_size,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (action_size,), np.float32)

    def make(self) -> dict[str, Any]:
        """Makes the environment."""
        try:
            self._side = self._make()
        except ValueError as error:
            return _fault(error)
        return {}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Array, dict[str, Any]]:
        """Begins an episode; without a seed it is the one that has begun in the step before."""
        if seed is not None:
            return self._side.reset([seed])[0], self._told()
        return self._first, self._told() | {"generator": [self._side.snapshot()["0"].get("generator")]}

    def step(self, action: Array) -> tuple[Array, Any, Any, Any, dict[str, Any]]:
        """Applies an action (A,); the observation is the episode's own, also its last."""
        self._first, obs, reward, terminated, truncated = (column[0] for column in self._side.step(action[None]))
        return obs, reward, terminated, truncated, {} if terminated or truncated else self._told()

    def restore(self, saved: Snapshot) -> dict[str, Any]:
        """Plays a saved episode again, after ``reset``, and returns the observation at its end, or what went wrong."""
        try:
            obs = self._side.restore({"0": {**saved, "actions": torch.from_numpy(saved["actions"])}})[0]
        except BrokenEnvironment as error:
            return _fault(error)
        self._known = unstable()
        return {"obs": obs}

    def shut(self) -> list[str]:
        """Closes the environment and returns its warnings."""
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            self._side.close()
        return [str(one.message) for one in said]

    def _told(self) -> dict[str, Any]:
        found = {name: value for fault in self._side.faults.values() for name, value in _fault(fault).items()}
        if broken := unstable() - self._known:
            self._known, found["unstable"] = unstable(), broken
        return found


def _fault(error: Exception) -> dict[str, Any]:
    return {"fault": str(error), "trace": "".join(traceback.format_exception(error.__cause__)) if error.__cause__ else ""}


class Trace(Exception):
    """The traceback of an error in another process."""


def _worked(*args: Any) -> None:
    """AsyncVectorEnv's own worker, without the program's signals, its threads, and a word where the program is gone."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C is for the program, which saves before it ends: neither for this process nor for what its environment starts
    for number in STOPS:  # nor is what a scheduler sends to every process
        signal.signal(number, lambda *_: None)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    torch.set_num_threads(1)
    with suppress(EOFError, BrokenPipeError):
        _async_worker(*args)


@contextmanager
def _unheard() -> Iterator[None]:
    """Signals that ask to stop wait meanwhile: a process that is begun has the program's answers to them until it has its own."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ended(workers: list[Any], i: int, wait: float) -> int:
    """Ends a process, by force where it is there after so many seconds; returns its exit code."""
    worker, workers[i] = workers[i], None
    (process,), (pipe,) = worker.processes, worker.parent_pipes
    process.join(wait)
    process.kill()
    process.join()
    pipe.close()
    worker.closed = True
    code: int = process.exitcode
    return code


def _dismissed(workers: list[Any]) -> None:
    """Ends what was not closed, where the program ends or was interrupted."""
    for i, worker in enumerate(workers):
        if worker:
            _ended(workers, i, wait=0.0)


def restarted() -> int:
    """Returns how many processes of environments ended by themselves and were begun anew, since this one began."""
    return _restarted[0]


class Workers:
    """``n`` environments as ``Gymnasium`` has them, each in a process of its own; ``limit`` seconds for a step or a reset, 0 for no limit.

    A step counts together with the reset that follows where it ends an episode. A process that is late is killed, and its environment has
    a fault. One that ended by itself is begun anew and plays its episode again; where it ends once more, or comes out elsewhere, its
    environment has a fault.

    The processes begin at the first ``reset`` or ``restore`` that needs them. **Raises** as ``Gymnasium`` does.
    """

    continues = True

    def __init__(self, name: str, n: int, factory: Callable[[], Any] | None = None, limit: float = 0.0) -> None:
        fitting(name, n, EACH, free_memory(CPU))
        view = Gymnasium(name, 1, factory)
        view.close()
        self.name, self.space, self.scale, self.horizon = name, view.space, view.scale, view.horizon
        self.obs_size, self.action_size = view.obs_size, view.action_size
        self.faults: dict[int, BrokenEnvironment] = {}
        self._limit = limit or None
        self._row = partial(Row, partial(Gymnasium, name, 1, factory), self.obs_size, self.action_size)
        self._workers: list[Any] = [None] * n
        Finalize(self, _dismissed, (self._workers,), exitpriority=0)
        self._episodes: list[Episode | None] = [None] * n
        self._nothing = np.full((n, self.obs_size), np.nan, np.float32)

    def reset(self, seeds: Sequence[int | None]) -> Array:
        """Returns the first observations (N, D); environment i is seeded with seeds[i] and keeps its own stream from then on.

        One whose seed is None is left alone, with nan for numbers.
        """
        self.faults, self._seeds, self._obs = {}, seeds, self._nothing.copy()
        self._episodes = [None if seed is None else Episode(int(seed)) for seed in seeds]
        self._make(self._running())
        for i, (obs, info) in self._ask("reset", {i: ([seeds[i]],) for i in self._running()}).items():
            self._obs[i] = obs[0]
            self._hear(i, info)
        return self._obs.copy()

    def step(self, action: Array) -> Step:
        """Applies actions (N, A) in (-1, 1)."""
        answers = self._ask("step", {i: (action[i : i + 1],) for i in self._running()})
        self._obs, next_obs = self._nothing.copy(), self._nothing.copy()
        reward, ended = np.full(len(action), np.nan, np.float32), np.zeros((2, len(action)), bool)
        for i, (obs, earned, terminated, truncated, info) in answers.items():
            self._obs[i], next_obs[i] = obs[0], info["final_obs"][0] if "final_obs" in info else obs[0]
            reward[i], ended[:, i] = earned[0], (terminated[0], truncated[0])
            if "generator" in info:
                self._episodes[i] = Episode(None, info["generator"][0][0])
            elif episode := self._episodes[i]:
                episode.actions.append(action[i].copy())
            self._hear(i, info)
        return Step(self._obs.copy(), next_obs, reward, *ended)

    def snapshot(self) -> Snapshot:
        """Returns of each environment its ``Episode``, or its fault."""
        return {str(i): one.saved(self.action_size) if one else {"fault": str(self.faults[i])} for i, one in enumerate(self._episodes)}

    def restore(self, snapshot: Snapshot) -> Array:
        """Plays every episode again up to where a snapshot was taken, after ``reset``, and returns the observations there, (N, D).

        One that had a fault then is left alone. **Raises** BrokenEnvironment where another has one now.
        """
        saved = [snapshot[str(i)] for i in range(len(self._workers))]
        self.faults = {i: BrokenEnvironment(one["fault"]) for i, one in enumerate(saved) if "fault" in one}
        self._episodes = [None if "fault" in one else Episode.of(one, self.action_size) for one in saved]
        self._obs, running = self._nothing.copy(), self._running()
        for i, obs in self._replayed(running).items():
            self._obs[i] = obs
        for i in running:
            if i in self.faults:
                raise self.faults[i]
        return self._obs.copy()

    def close(self) -> None:
        """Closes the environments and ends the processes. One that raises meanwhile is a RuntimeWarning."""
        living = {i: ("shut",) for i, worker in enumerate(self._workers) if worker}
        answers, _ = self._answers("call", living, self._limit)
        for (texts,) in answers.values():
            for text in texts:
                warnings.warn(text, RuntimeWarning, stacklevel=2)
        for i in answers:
            self._end(i, wait=0.0)

    def _running(self) -> list[int]:
        return [i for i, episode in enumerate(self._episodes) if episode]

    def _make(self, rows: Iterable[int]) -> None:
        """Begins the processes that are not there; an environment that cannot be made in its own has a fault."""
        fresh = [i for i in rows if not self._workers[i]]
        with quiet(), _unheard():
            for i in fresh:  # one for each: where its process ends, it alone is gone
                self._workers[i] = AsyncVectorEnv([self._row], context=CONTEXT, worker=_worked, autoreset_mode=AutoresetMode.SAME_STEP)
        self._called("make", {i: () for i in fresh})

    def _ask(self, call: str, given: Mapping[int, tuple[Any, ...]]) -> dict[int, Any]:
        """Returns what the workers answer, by row. One whose process has ended is begun anew and asked once more."""
        answers, dead = self._answers(call, given, self._limit)
        if not dead:
            return answers
        for why in dead.values():
            _restarted[0] += 1
            warnings.warn(f"{why}; it is begun anew", RuntimeWarning, stacklevel=3)
        self._make(dead)
        if call == "step":
            self._answers("reset", {i: ([self._seeds[i]],) for i in self._running() if i in dead}, self._limit)
            for i, obs in self._replayed([i for i in self._running() if i in dead]).items():
                if obs.tobytes() != self._obs[i].tobytes():
                    self._lost(i, f"{dead[i]}, and it does not come back to where it was")
        again, dead = self._answers(call, {i: given[i] for i in self._running() if i in dead}, self._limit)
        for i, why in dead.items():
            self._lost(i, why)
        return answers | again

    def _called(self, name: str, given: Mapping[int, tuple[Any, ...]], limit: float | None = None) -> dict[int, dict[str, Any]]:
        """Calls a method of some rows and returns what they tell; one whose process ends has a fault."""
        answers, dead = self._answers("call", {i: (name, *args) for i, args in given.items()}, limit)
        for i, (told,) in answers.items():
            self._hear(i, {key: [value] for key, value in told.items()})
        for i, why in dead.items():
            self._lost(i, why)
        return {i: told for i, (told,) in answers.items()}

    def _replayed(self, rows: Sequence[int]) -> dict[int, Array]:
        """Plays the episodes of some environments again and returns the observations at their ends; one that goes wrong has a fault."""
        saved = {i: episode.saved(self.action_size) for i, episode in enumerate(self._episodes) if episode and i in rows}
        steps = 1 + max((len(one["actions"]) for one in saved.values()), default=0)
        given = {i: ({**one, "actions": one["actions"].numpy()},) for i, one in saved.items()}
        told = self._called("restore", given, self._limit and steps * self._limit)
        return {i: one["obs"] for i, one in told.items() if "obs" in one}

    def _answers(
        self, call: str, given: Mapping[int, tuple[Any, ...]], limit: float | None = None
    ) -> tuple[dict[int, Any], dict[int, str]]:
        """Asks all at once; returns what they answer, and of those whose process has ended, how. One that is late has a fault."""
        answers, dead, began = dict[int, Any](), dict[int, str](), time.monotonic()
        for i, args in given.items():
            try:
                getattr(self._workers[i], f"{call}_async")(*args)
            except OSError:
                dead[i] = self._end(i)
        for i, args in given.items():
            if i in dead:
                continue
            try:
                left = None if limit is None else max(0.0, began + limit - time.monotonic())
                answers[i] = getattr(self._workers[i], f"{call}_wait")(timeout=left)
            except TimeoutError:
                self._end(i, wait=0.0)
                what = args[0] if call == "call" else call
                self._lost(i, f"environment {self.name!r} did not come back from {what}() within the limit of {limit:g} s")
            except (EOFError, OSError):
                dead[i] = self._end(i)
        return answers, dead

    def _end(self, i: int, wait: float = 1.0) -> str:
        """Ends a process, and says how it ended where it did so by itself; it is killed where it is there yet."""
        code = _ended(self._workers, i, wait)
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"the process of environment {self.name!r} {how}"

    def _hear(self, i: int, info: Mapping[str, Any]) -> None:
        """Takes note of what a worker told: a fault, or simulations that broke."""
        if "unstable" in info:
            unstable(int(info["unstable"][0]))
        if "fault" in info:
            self._lost(i, info["fault"][0], info["trace"][0])

    def _lost(self, i: int, text: str, trace: str = "") -> None:
        self._episodes[i], self.faults[i] = None, BrokenEnvironment(text)
        self.faults[i].__cause__ = Trace(trace) if trace else None
