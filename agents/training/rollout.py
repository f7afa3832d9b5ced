"""Rollouts: segments of experience that the present policies collect, and that an update uses up."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wgf.agents.tasks.fleet import Outcome
from wgf.agents.training.envs import Envs, Mask, beside, returned
from wgf.agents.training.memory import Episodes, filled
from wgf.agents.training.playing import Play
from wgf.agents.training.protocol import Act, Finished, Size, Streams
from wgf.agents.training.schedule import Schedule
from wgf.agents.training.team import Team
from wgf.ranks import Group
from wgf.shards import Shards
from wgf.snapshot import Snapshot

__all__ = ["Rollout", "Segment", "nothing"]


class Segment(NamedTuple):
    """T steps of E environments for each of M policies of S seeds.

    obs and next_obs (S, M, T, E, D), action (S, M, T, E, A) as drawn, reward, discount = gamma (1 - terminated) and ended
    (S, M, T, E). Where an episode ended, next_obs is its last observation and the next obs the first of another.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    ended: Tensor
    next_obs: Tensor


def nothing(state: Any, draw: Streams) -> None:
    """Leaves a state as it is."""


class Rollout:
    """Collects a segment of ``steps`` steps of ``envs`` environments for each of ``policies`` policies per seed, and yields it once.

    ``explore`` changes the agent's state before each segment. ``pieces``: steps of the networks that one update takes. Environments
    live beside the networks. Of several ranks each collects with the policies that it has.
    """

    warmup, whole = 0, False

    def __init__(
        self, policies: int, envs: int, steps: int, gamma: float, *, pieces: int, explore: Callable[[Any, Streams], None] = nothing
    ) -> None:
        self.policies, self.steps, self.gamma, self.pieces, self.explore = policies, steps, gamma, pieces, explore
        self.each, self.envs, self.size = envs, policies * envs, policies * envs * steps
        self.team, self._own = Team(), policies

    def share(self, group: Group) -> Team:
        """Collects with this rank's share of the policies alone. Raises ValueError where there are more ranks than policies."""
        self.team = Team(Shards.even(group, self.policies), self.each, apart=True)
        self._own = self.team.policies
        self.envs = self._own * self.each
        return self.team

    def updates(self, steps: int) -> int:
        """Returns the steps of the networks of as many segments as it takes."""
        return -(-steps // self.size) * self.pieces

    def place(self, device: torch.device) -> torch.device:
        """Returns the device of the networks."""
        return device

    def starts(self, seed: int) -> Sequence[int]:
        """Returns seeds that lie far from those of evaluations."""
        first = self.team.within.first if self.team.apart else 0
        return beside(seed, first + self.envs)[first:]

    def needs(self, seeds: int, obs: int, action: int) -> Size:
        """Returns what a segment takes, and what an update keeps of it beside: about as much again."""
        words = f"segment: {seeds} x {self.policies} x {self.each} x {self.steps:,} steps"
        return Size(2 * seeds * self.size * 4 * (2 * obs + action + 3), words, "--batch")

    def begin(self, envs: Envs, seeds: Sequence[int], device: torch.device) -> None:
        """Takes environments, which begin anew."""
        self._envs, self.obs = envs, envs.reset(seeds)  # obs (S, n, D) to act on next
        self._play, self._episodes = Play(envs, self._noted), Episodes.begun(self.obs, self._own)
        self._segments: list[Segment] = []

    def extend(self, schedule: Schedule) -> None:
        """Needs no more room."""

    def snapshot(self) -> Snapshot:
        """Returns what it is between two segments."""
        return {"obs": self.obs.clone(), "episodes": self._episodes.snapshot(), "envs": self._envs.snapshot()}

    def rows(self, since: Snapshot | None) -> dict[str, Tensor]:
        """Keeps nothing from segment to segment."""
        return {}

    def restore(self, snapshot: Snapshot, rows: Iterable[dict[str, Tensor]]) -> None:
        """Becomes what it was at a snapshot, its environments too."""
        self._episodes.restore(snapshot["episodes"])
        self.obs = returned(self._envs, snapshot)

    def collect(self, act: Act) -> tuple[Finished, Mask]:
        """Collects a segment, policy by policy; a number that is not finite, which ends its seed, is learned from as 0."""
        columns: list[tuple[Tensor, ...]] = []
        for obs, kept in self._play(act, self.obs, self._episodes, self.steps):
            self.obs = obs
            columns.append(kept)
        each = (self._own, self.each)
        segment = Segment(*(torch.unflatten(torch.cat(c, 1), 2, each).transpose(1, 2) for c in zip(*columns, strict=True)))
        finite = (segment.next_obs.isfinite().all(-1) & segment.reward.isfinite()).flatten(1).all(1).cpu().numpy()
        self._segments.append(segment if finite.all() else Segment(*map(filled, segment)))
        return self._told(self._episodes.finished(), finite)

    def _told(self, finished: Finished, finite: Mask) -> tuple[Finished, Mask]:
        """Returns what the policies of all ranks did; one collective."""
        if not self.team.apart:
            return finished, finite
        sound = np.broadcast_to(finite[:, None], finished.counts.shape).astype(finished.counts.dtype)
        *sums, sound = (x[..., 0] for x in self.team.arrays(*(x[..., None] for x in (*finished, sound))))
        return Finished(*sums), np.asarray((sound > 0.0).all(1))

    def _noted(self, episodes: Episodes, obs: Tensor, action: Tensor, outcome: Outcome) -> tuple[Tensor, ...]:
        """Counts a step of every environment, and returns a segment's parts of it."""
        ended = outcome.terminated | outcome.truncated
        episodes.add(outcome.reward)
        episodes.end(ended)
        discount = self.gamma * (~outcome.terminated).to(outcome.reward)
        return obs, action, outcome.reward, discount, ended, outcome.next_obs

    def batches(self) -> Iterator[Segment]:
        """Yields the segment and lets go of it."""
        while self._segments:
            yield self._segments.pop()
