"""Populations: whole episodes of many policies from one start, of which an update sees returns and what the policies did."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from wgf.agents.tasks.fleet import Outcome
from wgf.agents.training.envs import Envs, Mask, beside
from wgf.agents.training.memory import filled
from wgf.agents.training.playing import Play
from wgf.agents.training.protocol import Act, Finished, Size, Streams
from wgf.agents.training.schedule import Schedule
from wgf.agents.training.team import Team
from wgf.ranks import Group
from wgf.shards import Shards
from wgf.snapshot import Snapshot

__all__ = [
    "EMBEDDINGS", "Course", "EmbeddingName", "Iteration", "Population", "Trajectory", "actions", "embedding_size", "final_state", "noted",
    "reward_to_go",
]  # fmt: skip


class Iteration(NamedTuple):
    """One episode of each of n policies of S seeds: discounted returns (S, n) and embeddings Phi of what they did (S, n, d)."""

    returns: Tensor
    embedding: Tensor


class Trajectory(NamedTuple):
    """An episode of each of n policies of S seeds: the last observation (S, n, D), rewards (S, n, T) and actions (S, n, T, A).

    Behind the end of an episode rewards and actions are 0. Actions are kept for the embedding that consists of them; else A is 0.
    """

    last: Tensor
    reward: Tensor
    action: Tensor


@dataclass
class Course:
    """Of each of n policies of S seeds: whether it still plays, whether all its numbers were finite, its last observation, its steps."""

    plays: Tensor
    sound: Tensor
    last: Tensor
    length: Tensor

    @staticmethod
    def begun(obs: Tensor) -> "Course":
        """All play, from first observations (S, n, D)."""
        length = torch.zeros_like(obs[..., 0])
        return Course(torch.ones_like(length, dtype=torch.bool), torch.ones_like(length, dtype=torch.bool), torch.zeros_like(obs), length)


def noted(kept: int, course: Course, obs: Tensor, action: Tensor, outcome: Outcome) -> tuple[Tensor, Tensor]:
    """Counts a step of those that play, and returns rewards (S, n) and the first ``kept`` numbers of the actions of all."""
    course.sound &= outcome.finite() | ~course.plays
    course.last.copy_(torch.where(course.plays[..., None], outcome.next_obs, course.last))
    course.length += course.plays
    course.plays &= course.sound & ~(outcome.terminated | outcome.truncated)
    return outcome.reward, action[..., :kept]


def final_state(trajectory: Trajectory) -> Tensor:
    """Phi = s_H, the observation at the end, (S, n, D). **Source** Pacchiano et al. 2020, Sec. 3.1."""
    return trajectory.last


def reward_to_go(trajectory: Trajectory) -> Tensor:
    """Phi = sum_t r_t (sum_(i <= t) e_i): at place i the sum of the rewards from step i on, (S, n, T). **Source** as ``final_state``."""
    return trajectory.reward.flip(-1).cumsum(-1).flip(-1)


def actions(trajectory: Trajectory) -> Tensor:
    """Phi = (a_0, ..., a_(T-1)), one after another, (S, n, T A). **Source** as ``final_state``."""
    return trajectory.action.flatten(-2)


EmbeddingName = Literal["final_state", "reward_to_go", "actions"]
EMBEDDINGS: dict[str, Callable[[Trajectory], Tensor]] = {f.__name__: f for f in (final_state, reward_to_go, actions)}


def embedding_size(name: str, obs: int, action: int, horizon: int) -> int:
    """Returns how many numbers an embedding has, for so many of an observation, of an action, and steps of an episode."""
    return {"final_state": obs, "reward_to_go": horizon, "actions": horizon * action}[name]


class Population:
    """Plays one episode of each of ``n`` policies per seed, one environment each, and yields an ``Iteration``.

    All begin in one start, another at each collection, which follows from the seed and the collection's number: nothing of an
    environment has to be saved. Rewards after an episode's end do not count. An episode is cut after ``horizon`` steps, or by the
    environment's own time limit where that comes first; a collection counts as ``n`` times so many steps, whether or not episodes end
    before. ``explore`` draws the policies into the agent's state; ``policies`` of a seed are evaluated: the centres. Environments live
    beside the networks. Of several ranks each plays some of the policies, and has the iteration of all.
    """

    warmup, whole = 0, False

    def __init__(
        self, n: int, horizon: int, gamma: float, embedding: EmbeddingName, explore: Callable[[Any, Streams], None], policies: int = 1
    ) -> None:  # fmt: skip
        self.n, self.horizon, self.gamma, self.embedding, self.explore, self.policies = n, horizon, gamma, embedding, explore, policies
        self.envs, self.size, self.team = n, n * horizon, Team()

    def updates(self, steps: int) -> int:
        """Returns one for each collection."""
        return -(-steps // self.size)

    def place(self, device: torch.device) -> torch.device:
        """Returns the device of the networks."""
        return device

    def share(self, group: Group) -> Team:
        """Plays this rank's share of the policies alone. Raises ValueError where there are more ranks than policies."""
        self.team = Team(Shards.even(group, self.n))
        self.envs = self.team.shards.counts[group.rank]
        return self.team

    def starts(self, seed: int) -> Sequence[int]:
        """Returns seeds of environments that are not played: each collection has its own."""
        return beside(seed, self.envs)

    def needs(self, seeds: int, obs: int, action: int) -> Size:
        """Returns what the episodes of a collection take, and what an embedding of them takes beside: at most as much again."""
        words = f"population: {seeds} x {self.envs} episodes of {self.horizon:,} steps"
        kept = action if self.embedding == actions.__name__ else 0
        return Size(2 * seeds * self.envs * 4 * (obs + self.horizon * (kept + 1)), words, "--pairs")

    def begin(self, envs: Envs, seeds: Sequence[int], device: torch.device) -> None:
        """Takes environments and looks at their first observations; collections begin them anew."""
        self._envs, self._seeds, self._count = envs, list[int | None](seeds), 0
        self.steps = min(self.horizon, envs.horizon or self.horizon)
        self.size = self.n * self.steps
        kept = envs.action_size if self.embedding == actions.__name__ else 0
        self._play, self._iterations = Play(envs, partial(noted, kept)), list[Iteration]()
        envs.reset(seeds)

    def extend(self, schedule: Schedule) -> None:
        """Needs no more room."""

    def snapshot(self) -> Snapshot:
        """Returns the number of collections, and the seeds that still play."""
        return {"count": self._count, "seeds": list(self._seeds)}

    def rows(self, since: Snapshot | None) -> dict[str, Tensor]:
        """Keeps nothing from collection to collection."""
        return {}

    def restore(self, snapshot: Snapshot, rows: Iterable[dict[str, Tensor]]) -> None:
        """Counts on from a snapshot."""
        count, seeds = snapshot["count"], snapshot["seeds"]
        if type(count) is not int or count < 0 or type(seeds) is not list or len(seeds) != len(self._seeds):
            raise ValueError("the number of collections in the checkpoint is none, or its seeds are others")
        self._count = count
        self._seeds = [own if found is not None else None for own, found in zip(self._seeds, seeds, strict=True)]

    def collect(self, act: Act) -> tuple[Finished, Mask]:
        """Plays an episode of every policy. A seed with a number that is not finite, which ends it, plays no more; its numbers are 0."""
        obs = self._envs.reset(self._seeds, common=self._count)
        self._count += 1
        course, columns = Course.begun(obs), []
        for _, kept in self._play(act, obs, course, self.steps):
            columns.append(kept)
            if not course.plays.any():
                break
        reward, action = (torch.cat(column, 1).transpose(1, 2) for column in zip(*columns, strict=True))
        left, counts = self.horizon - reward.shape[2], torch.arange(reward.shape[2], device=obs.device) < course.length[..., None]
        reward, action = filled(torch.where(counts, reward, 0.0)), torch.where(counts[..., None], action, 0.0)
        played = Trajectory(filled(course.last), pad(reward, (0, left)), pad(action, (0, 0, 0, left)))
        discounted = (played.reward * self.gamma ** torch.arange(self.horizon).to(reward)).sum(-1)  # of an episode the same bits anywhere
        each = discounted, played.reward.sum(-1), course.length, course.sound.to(reward)
        embedding, *rest = self.team.gather(EMBEDDINGS[self.embedding](played), *(t[..., None] for t in each))
        discounted, earned, length, sound = (t[..., 0] for t in rest)
        self._iterations.append(Iteration(discounted, embedding))
        finite = (sound > 0.0).all(1).cpu().numpy()
        self._seeds = [seed if well else None for seed, well in zip(self._seeds, finite.tolist(), strict=True)]
        return Finished(*(t.sum(1, keepdim=True).cpu().numpy() for t in (earned, length, torch.ones_like(length)))), finite

    def batches(self) -> Iterator[Iteration]:
        """Yields the iteration and lets go of it."""
        while self._iterations:
            yield self._iterations.pop()
