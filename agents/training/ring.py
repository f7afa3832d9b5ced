"""The storage of a replay: the transitions of S seeds on a device, one ring per environment, each observation stored once."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from wgf.agents.tasks.fleet import Outcome
from wgf.agents.training.protocol import Batch
from wgf.snapshot import Snapshot, put_

__all__ = ["Ring"]


class Ring:
    """A ring of rows (observation, action, reward, discount) for each of the n environments of a seed.

    A transition is a row and the observation of the next. The end of an episode takes one more row, for its last observation:
    ``_starts`` lists the rows that begin a transition, oldest first from slot ``_first``, and a row that is overwritten leaves it. Each
    seed draws with a generator of its own.

    With ``n_step`` above 1 a sample is n steps of one environment together: r_0 + gamma r_1 + ..., the discount of as many steps, and
    the state behind the last of them. Fewer steps where the episode ends or has not gone on yet: a time limit bootstraps from its own
    last observation.
    """

    def __init__(
        self, seeds: Sequence[int], rows: int, obs: int, action: int, gamma: float, device: torch.device, n_step: int = 1, envs: int = 1
    ) -> None:
        self.obs_size, self.action_size, self.gamma, self.n_step, self.envs = obs, action, gamma, n_step, envs
        rings = len(seeds) * envs
        self.data = torch.zeros(rings, rows, obs + action + 2, device=device)
        self.count = np.zeros(rings, dtype=np.int64)  # transitions in each ring
        self._generators = [np.random.default_rng([seed, 1]) for seed in seeds]
        self._starts = np.zeros((rings, rows), dtype=np.int64)
        self._last = np.zeros((rings, rows), dtype=bool)  # rows whose transition no other follows, or none yet
        self._written, self._first, self._each = np.zeros_like(self.count), np.zeros_like(self.count), np.arange(rings)
        self._added = 0  # transitions of each ring since its beginning; that with number k is listed in slot k % rows of _starts
        self._ended = np.ones(rings, dtype=bool)
        self._offsets = np.tile(rows * self._each, 2)  # of each ring's rows in the flattened data

    @staticmethod
    def bytes(rings: int, rows: int, obs: int, action: int) -> int:
        """Returns the bytes of so many rings, before they are made."""
        return rings * rows * (4 * (obs + action + 2) + 9)

    def grow(self, rows: int) -> None:
        """Makes room for ``rows`` rows per ring, of rings that have not gone round; what they hold stays."""
        more = rows - self.data.shape[1]
        if more > 0:
            self.data = torch.cat([self.data, self.data.new_zeros(len(self.data), more, self.data.shape[2])], 1)
            self._starts, self._last = (np.pad(x, ((0, 0), (0, more))) for x in (self._starts, self._last))
            self._offsets = np.tile(rows * self._each, 2)

    def add(self, obs: Tensor, action: Tensor, outcome: Outcome) -> None:
        """Stores one transition of every environment: obs (S, n, D), action (S, n, A) and what the environments answered."""
        d, rows = self.obs_size, self.data.shape[1]
        row, after = self._written % rows, (self._written + 1) % rows
        if 2 * self.count.max() >= rows - 2:  # a transition takes two rows at most: before, no ring has gone round
            self._forget(row)
            self._forget(after)
        rings = len(self._each)
        next_obs, reward, terminated, truncated = (t.cpu().numpy().reshape(rings, *t.shape[2:]) for t in outcome[1:])
        written = np.zeros((2, *self.data.shape[::2]), np.float32)
        written[0, :, :d], written[0, :, d:-2] = (t.cpu().numpy().reshape(rings, -1) for t in (obs, action))
        written[0, :, -2], written[0, :, -1] = reward, self.gamma * (1.0 - terminated)
        written[1, :, :d] = next_obs
        place = torch.from_numpy(np.concatenate([row, after]) + self._offsets)
        ring, values = self.data.flatten(0, 1), torch.from_numpy(written)
        ring.index_copy_(0, place.to(ring.device), values.to(ring).flatten(0, 1))
        self._starts[self._each, (self._first + self.count) % rows] = row
        self._last[self._each, row - 1] &= self._ended  # the row before, where it is the same episode's
        self._last[self._each, row] = True
        self._ended = terminated | truncated
        self.count = self.count + 1
        self._written = self._written + 1 + self._ended
        self._added += 1

    def snapshot(self) -> Snapshot:
        """Returns everything but its rows, which ``rows`` returns piece by piece."""
        numbers = {"count": self.count, "written": self._written, "ended": self._ended}
        drawn = {str(s): g.bit_generator.state for s, g in enumerate(self._generators)}
        return {name: torch.from_numpy(value.copy()) for name, value in numbers.items()} | {"added": self._added, "generators": drawn}

    def rows(self, since: Snapshot | None) -> dict[str, Tensor]:
        """Returns what was stored since an earlier snapshot, or all there is: the rows first[i] to last[i] of each ring, one after another.

        Rows are numbered from a ring's beginning on; the last two of a piece are the first of the next, since a row whose transition
        is followed by another changes once more. ``starts`` (rings, n) lists where the n transitions from number ``added`` on begin.
        Rows before ``oldest`` (rings,) have been overwritten: pieces that hold no others are no longer needed.
        """
        size = self.data.shape[1]
        before, added = (since["written"].numpy(), since["added"]) if since else (np.zeros_like(self._written), 0)
        last = self._written + ~self._ended  # one more, which holds the observation that comes next
        first = np.maximum(np.maximum(before - 1, last - size), 0)
        ring, row = self._spread(first, last)
        new = np.arange(max(added, self._added - size), self._added) % size
        place = torch.from_numpy(row + size * ring).to(self.data.device)
        return {
            "first": torch.from_numpy(first),
            "last": torch.from_numpy(last),
            "oldest": torch.from_numpy(last - size),
            "data": self.data.flatten(0, 1).index_select(0, place).cpu(),
            "ends": torch.from_numpy(self._last[ring, row]),
            "added": torch.tensor(self._added - len(new)),
            "starts": torch.from_numpy(np.ascontiguousarray(self._starts[:, new])),
        }

    def put(self, rows: dict[str, Tensor]) -> None:
        """Stores what ``rows`` returned, piece by piece in their order; those that are no longer needed may be left out."""
        size, first, last = self.data.shape[1], rows["first"].numpy(), rows["last"].numpy()
        if (last < first).any() or (last - first).sum() != len(rows["data"]):
            raise ValueError("the replay's rows are not as many as their numbers say")
        ring, row = self._spread(first, last)
        place = torch.from_numpy(row + size * ring).to(self.data.device)
        self.data.flatten(0, 1).index_copy_(0, place, rows["data"].to(self.data))
        self._last[ring, row] = rows["ends"].numpy()
        starts = rows["starts"].numpy()
        self._starts[:, (int(rows["added"]) + np.arange(starts.shape[1])) % size] = starts

    def restore(self, snapshot: Snapshot) -> None:
        """Becomes what it was at a snapshot, after its rows were put."""
        self._added = snapshot["added"]
        for own, name in ((self.count, "count"), (self._written, "written"), (self._ended, "ended")):
            put_(torch.from_numpy(own), snapshot[name], f"the replay's {name}")
        self._first = (self._added - self.count) % self.data.shape[1]
        for s, generator in enumerate(self._generators):
            generator.bit_generator.state = snapshot["generators"][str(s)]

    def _spread(self, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns ring and row of all rows from first[i] up to last[i], ring after ring."""
        ring = np.repeat(self._each, last - first)
        row = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)]) % self.data.shape[1]
        return ring, row

    def sample(self, batch: int) -> Batch:
        """Draws ``batch`` transitions per seed, uniform with replacement over where they begin in all its environments."""
        rows = self.data.shape[1]
        ring, slot = self._drawn(batch)
        row = self._starts[ring, (self._first[ring] + slot) % rows]
        steps = self._steps(ring, row)
        here, after = self._rows(ring, np.stack([row, (row + steps) % rows]))
        obs, action, reward, discount = here.split([self.obs_size, self.action_size, 1, 1], -1)
        if self.n_step == 1:
            return Batch(obs, action, reward[..., 0], discount[..., 0], after[..., : self.obs_size])
        return Batch(obs, action, *self._together(ring, row, steps), after[..., : self.obs_size])

    def _drawn(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Rings (S, B), or (S, 1) where there is one per seed, and slots (S, B).

        One number drawn over all transitions of a seed says which environment and which of its transitions.
        """
        ends = self.count.reshape(-1, self.envs).cumsum(1)  # (S, n): transitions up to and with each environment
        drawn = np.stack([g.integers(0, total, batch) for g, total in zip(self._generators, ends[:, -1], strict=True)])
        if self.envs == 1:
            return self._each[:, None], drawn
        ring = (drawn[..., None] >= ends[:, None]).sum(-1) + self.envs * np.arange(len(ends))[:, None]
        return ring, drawn - (ends.flatten() - self.count)[ring]

    def _steps(self, ring: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Counts how many of n steps from each row (S, B) there are."""
        if self.n_step == 1:
            return np.ones_like(row)
        window = (row[..., None] + np.arange(self.n_step)) % self.data.shape[1]
        last = self._last[ring[..., None], window]
        return np.where(last.any(-1), last.argmax(-1) + 1, self.n_step)

    def _together(self, ring: np.ndarray, row: np.ndarray, steps: np.ndarray) -> tuple[Tensor, Tensor]:
        """Returns sum_k gamma^k r_k over ``steps`` rows, and gamma^(steps - 1) times the last one's discount, (S, B) each."""
        window = (row + np.arange(self.n_step)[:, None, None]) % self.data.shape[1]
        reward, discount = self._rows(ring, window)[..., -2:].unbind(-1)
        k = torch.arange(self.n_step, device=reward.device)[:, None, None]
        count = torch.from_numpy(steps).to(reward.device)
        weight = torch.pow(self.gamma, k.to(reward))
        return (weight * reward * (k < count)).sum(0), (weight * discount * (k == count - 1)).sum(0)

    def _rows(self, ring: np.ndarray, row: np.ndarray) -> Tensor:
        """Rows (..., S, B) of rings (S, B), (..., S, B, numbers)."""
        place = torch.from_numpy(row + self.data.shape[1] * ring).to(self.data.device)
        return self.data.flatten(0, 1).index_select(0, place.flatten()).view(*place.shape, -1)

    def _forget(self, row: np.ndarray) -> None:
        stale = (self.count > 0) & (self._starts[self._each, self._first] == row)
        self._first = (self._first + stale) % self.data.shape[1]
        self.count = self.count - stale
