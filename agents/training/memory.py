"""The memory of agents that learn from a replay, and the count of episodes that every memory keeps."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wgf.agents.tasks.fleet import Outcome
from wgf.agents.training.envs import Envs, Mask, beside, returned
from wgf.agents.training.making import CPU
from wgf.agents.training.protocol import Act, Batch, Finished, Size, Streams
from wgf.agents.training.ring import Ring
from wgf.agents.training.schedule import Schedule
from wgf.agents.training.settings import DelayedSettings, ReplaySettings
from wgf.snapshot import Snapshot, put_

__all__ = ["Episodes", "Replay", "filled", "memory"]


@dataclass
class Episodes:
    """Return and length of the episodes that are running, (S, n), and the sums of those that ended since they were last asked for."""

    policies: int
    running: Tensor
    length: Tensor
    returns: Tensor
    lengths: Tensor
    counts: Tensor

    @staticmethod
    def begun(obs: Tensor, policies: int) -> "Episodes":
        """Counts from 0, for environments with such observations (S, n, D)."""
        return Episodes(policies, *(torch.zeros_like(obs[..., 0]) for _ in range(5)))

    def add(self, reward: Tensor) -> None:
        """Counts one step of every environment and its reward (S, n)."""
        self.running += reward
        self.length += 1.0

    def end(self, ended: Tensor) -> None:
        """Ends the episodes of some environments (S, n)."""
        self.returns += self.running * ended
        self.lengths += self.length * ended
        self.counts += ended
        self.running.masked_fill_(ended, 0.0)
        self.length.masked_fill_(ended, 0.0)

    def finished(self) -> Finished:
        """Returns the sums over the episodes that ended since the last call."""
        totals = (self.returns, self.lengths, self.counts)
        found = Finished(*(torch.unflatten(t, 1, (self.policies, -1)).sum(-1).cpu().numpy() for t in totals))
        for t in totals:
            t.zero_()
        return found

    def snapshot(self) -> Snapshot:
        """Returns every count."""
        return {name: t.clone() for name, t in self._by_name().items()}

    def restore(self, snapshot: Snapshot) -> None:
        """Counts on from a snapshot."""
        for name, t in self._by_name().items():
            put_(t, snapshot[name], f"the episodes' {name}")

    def _by_name(self) -> dict[str, Tensor]:
        return {"return": self.running, **{name: getattr(self, name) for name in ("length", "returns", "lengths", "counts")}}


class Replay:
    """Collects one step of ``envs`` environments per seed at a time, and yields one minibatch per transition after the warm-up.

    So the number of updates per environment step does not depend on ``envs``. With ``delay`` d it yields d minibatches as one after
    each d transitions, for an agent that moves its policy once while Q moves d times. Environments are stepped on the CPU.
    """

    whole = True

    def __init__(self, schedule: Schedule, batch: int, gamma: float, n_step: int = 1, envs: int = 1, delay: int = 1) -> None:
        self.schedule, self.batch, self.gamma, self.n_step, self.delay = schedule, delay * batch, gamma, n_step, delay
        self.envs, self.size, self.policies, self.warmup = envs, envs, 1, schedule.warmup

    def updates(self, steps: int) -> int:
        """Returns one for each ``delay`` transitions from the end of the warm-up on."""
        return max(0, steps - max(0, self.warmup - 1)) // self.delay

    def place(self, device: torch.device) -> torch.device:
        """Returns the CPU."""
        return CPU

    def starts(self, seed: int) -> Sequence[int]:
        """Returns the seed itself for the first environment, and seeds far from it for the others."""
        return [seed, *beside(seed, self.envs)[1:]]

    def needs(self, seeds: int, obs: int, action: int) -> Size:
        """Returns what its rings take."""
        rows, rings = self.schedule.rows(self.envs), f"{self.envs} x " if self.envs > 1 else ""
        words = f"replay: {seeds} x {rings}{rows:,} rows of {obs} + {action} + 2 numbers"
        taken = Ring.bytes(seeds * self.envs, rows, obs, action)
        return Size(taken, words, "--replay", taken)

    def begin(self, envs: Envs, seeds: Sequence[int], device: torch.device) -> None:
        """Forgets everything, allocates its rings on ``device``, and takes environments, which begin anew."""
        rows = self.schedule.rows(self.envs)
        self.ring = Ring(seeds, rows, envs.obs_size, envs.action_size, self.gamma, device, self.n_step, self.envs)
        self._envs, self._steps, self.obs = envs, 0, envs.reset(seeds)  # obs (S, n, D) to act on next
        self._episodes, self._finite, self._sound = Episodes.begun(self.obs, 1), np.ones(len(seeds), dtype=bool), False
        self._none = self._episodes.finished()

    def extend(self, schedule: Schedule) -> None:
        """Makes room for a training that goes on by another schedule."""
        self.schedule = schedule
        self.ring.grow(schedule.rows(self.envs))

    def snapshot(self) -> Snapshot:
        """Returns what it is between two collections, but for the rows of its rings."""
        parts = {"ring": self.ring.snapshot(), "episodes": self._episodes.snapshot(), "envs": self._envs.snapshot()}
        return {"obs": self.obs.clone(), "steps": self._steps, **parts}

    def rows(self, since: Snapshot | None) -> dict[str, Tensor]:
        """Returns what was stored since an earlier snapshot, or all there is."""
        return self.ring.rows(since["ring"] if since else None)

    def restore(self, snapshot: Snapshot, rows: Iterable[dict[str, Tensor]]) -> None:
        """Becomes what it was at a snapshot, its environments too, from the pieces that ``rows`` returned up to then."""
        for piece in rows:
            self.ring.put(piece)
        self.ring.restore(snapshot["ring"])
        self._episodes.restore(snapshot["episodes"])
        self._steps, self.obs = snapshot["steps"], returned(self._envs, snapshot)

    def explore(self, state: Any, draw: Streams) -> None:
        """Changes nothing."""

    def collect(self, act: Act) -> tuple[Finished, Mask]:
        """Steps every environment once and stores its transition; a number that is not finite, which ends its seed, is stored as 0."""
        action = act(self.obs)
        outcome = self._envs.step(action)
        # a sum is finite where its numbers are, and is quicker to look at; where it only overflows, every number is looked at
        sound = math.isfinite((outcome.next_obs.sum() + outcome.obs.sum() + outcome.reward.sum()).item())
        if sound and self._sound:
            self.ring.add(self.obs, action, outcome)
        else:
            self.ring.add(filled(self.obs), action, Outcome(*(filled(part) for part in outcome)))
        self.obs, self._sound, self._steps = outcome.obs, sound, self._steps + self.envs
        self._episodes.add(outcome.reward)
        ended, finished = outcome.terminated | outcome.truncated, self._none
        if ended.any():
            self._episodes.end(ended)
            finished = self._episodes.finished()
        return finished, self._finite if sound else outcome.finite().all(1).numpy()

    def batches(self) -> Iterator[Batch]:
        """Yields a minibatch for each of the last transitions, from the last one of the warm-up on, those of ``delay`` at once."""
        now = self._steps - max(0, self.warmup - 1)
        for _ in range(max(0, now) // self.delay - max(0, now - self.envs) // self.delay):
            yield self.ring.sample(self.batch)


def filled(x: Tensor) -> Tensor:
    """Returns numbers with 0 in the place of those that are not finite; flags as they are."""
    return torch.where(x.isfinite(), x, 0) if x.is_floating_point() else x


def memory(cfg: ReplaySettings, schedule: Schedule) -> Replay:
    """Learns from a replay: how every agent with such settings collects, ``policy_delay`` minibatches at a time where it has that."""
    delay = cfg.policy_delay if isinstance(cfg, DelayedSettings) else 1
    return Replay(schedule, cfg.batch, cfg.gamma, cfg.n_step, cfg.envs, delay)
