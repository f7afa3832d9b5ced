"""The rings of a replay against plain lists of transitions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from wgf.agents.tasks.fleet import Outcome
from wgf.agents.training.ring import Ring

CPU = torch.device("cpu")
GAMMA = 0.9


class Plain:
    """One seed's transitions as a list, and which rows of a ring of ``rows`` each occupies."""

    def __init__(self, rows):
        self.rows, self.head, self.kept, self.ends = rows, 0, [], set()

    def add(self, transition, ended):
        taken = {self.head, (self.head + 1) % self.rows}
        self.kept = [(row, t) for row, t in self.kept if row not in taken]
        self.kept.append((self.head, transition))
        self.head = (self.head + 1 + ended) % self.rows
        self.ends |= {transition[1]} if ended else set()

    def together(self, i, n):
        """Up to n steps from the i-th kept transition on: obs, action, sum gamma^k r_k, gamma^(m - 1) discount, last next_obs."""
        obs, action, *_ = self.kept[i][1]
        total, k = 0.0, 0
        while True:
            _, time, reward, discount, next_obs = self.kept[i + k][1]
            total += GAMMA**k * reward
            if k + 1 == n or time in self.ends or i + k + 1 == len(self.kept):
                return obs, action, total, GAMMA**k * discount, next_obs
            k += 1


def feed(replay, plains, ends, *, first=0, obs=None):
    """Adds one transition a seed for each row of ``ends`` (0 goes on, 1 terminates, 2 is cut); every number names its place."""
    s = len(plains)
    obs = np.arange(s, dtype=np.float32)[:, None] * 1e4 + first if obs is None else obs
    for t, kinds in enumerate(ends, first):
        kinds = np.asarray(kinds)
        next_obs = (np.arange(s, dtype=np.float32) * 1e4 + t + 1)[:, None]
        fresh = (np.arange(s, dtype=np.float32) * 1e4 + t + 1 + 0.5)[:, None]
        action, reward = np.full((s, 1), t, np.float32), np.full(s, 2.0 * t, np.float32)
        after = np.where((kinds > 0)[:, None], fresh, next_obs)
        rows = (torch.from_numpy(x)[:, None] for x in (obs, action, after, next_obs, reward, kinds == 1, kinds == 2))
        replay.add(next(rows), next(rows), Outcome(*rows))
        for k, plain in enumerate(plains):
            plain.add((obs[k, 0], float(t), 2.0 * t, GAMMA * (kinds[k] != 1), next_obs[k, 0]), kinds[k] > 0)
        obs = after
    return obs


def rows_of(batch, k):
    columns = [batch.obs[k, :, 0], batch.action[k, :, 0], batch.reward[k], batch.discount[k], batch.next_obs[k, :, 0]]
    return [tuple(round(v, 4) for v in row) for row in zip(*(c.tolist() for c in columns), strict=True)]


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 12), st.lists(st.tuples(*[st.sampled_from([0, 0, 0, 1, 2])] * 3), min_size=1, max_size=40))
def test_samples_are_exactly_the_transitions_that_a_list_would_hold(rows, ends):
    replay, plains = Ring((0, 1, 2), rows, 1, 1, GAMMA, CPU), [Plain(rows) for _ in range(3)]
    obs = None
    for t, kinds in enumerate(ends):
        obs = feed(replay, plains, [kinds], first=t, obs=obs)
        assert replay.count.tolist() == [len(p.kept) for p in plains]
    batch = replay.sample(300)
    for k, plain in enumerate(plains):
        held = {tuple(round(float(v), 4) for v in transition) for _, transition in plain.kept}
        assert set(rows_of(batch, k)) == held  # 300 draws of at most 12: each is missed with probability below 1e-10


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 12), st.integers(2, 15), st.lists(st.tuples(*[st.sampled_from([0, 0, 0, 1, 2])] * 3), min_size=1, max_size=40))
def test_n_steps_are_added_up_to_the_end_of_the_episode_or_of_what_is_known(rows, n, ends):
    replay, plains = Ring((0, 1, 2), rows, 1, 1, GAMMA, CPU, n), [Plain(rows) for _ in range(3)]
    feed(replay, plains, ends)
    batch = replay.sample(300)
    for k, plain in enumerate(plains):
        wanted = {round(t[1], 1): t for t in (plain.together(i, n) for i in range(len(plain.kept)))}
        found = {round(t[1], 1): t for t in rows_of(batch, k)}
        assert found.keys() == wanted.keys()
        for time, row in found.items():
            np.testing.assert_allclose(row, wanted[time], rtol=1e-5, atol=1e-4)  # sums of 15 in float32, rounded to 1e-4


def test_a_time_limit_inside_the_window_bootstraps_from_its_own_last_observation_and_an_end_does_not():
    replay, plain = Ring((0,), 20, 1, 1, GAMMA, CPU, 3), Plain(20)
    feed(replay, [plain], [[0], [2], [0], [1], [0], [0], [0], [0]])
    found = {row[1]: row for row in rows_of(replay.sample(300), 0)}
    # reward 2 t at time t; time 1 is cut, its last observation is 2; time 3 ends; 7 is the newest, and its next observation 8
    expected = {
        0.0: (0.0, 0.0, 0.0 + 0.9 * 2.0, 0.9**2, 2.0),
        2.0: (2.5, 2.0, 4.0 + 0.9 * 6.0, 0.0, 4.0),
        4.0: (4.5, 4.0, 8.0 + 0.9 * 10.0 + 0.81 * 12.0, 0.9**3, 7.0),
        6.0: (6.0, 6.0, 12.0 + 0.9 * 14.0, 0.9**2, 8.0),
        7.0: (7.0, 7.0, 14.0, 0.9, 8.0),
    }
    for time, row in expected.items():
        assert found[time] == pytest.approx(row, abs=2e-4)


def test_an_observation_takes_one_row_and_an_end_one_more():
    replay, plains = Ring((0,), 10, 1, 1, GAMMA, CPU), [Plain(10)]
    feed(replay, plains, [[0], [0], [2], [0]])
    assert replay.data[0, :, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 3.5, 4.0, 0.0, 0.0, 0.0, 0.0]
    feed(replay, plains, [[0]] * 100, first=4, obs=np.array([[4.0]], np.float32))
    assert replay.count.tolist() == [9]  # of a full ring one row is the end of the newest transition


def test_sampling_is_uniform():
    replay = Ring((3,), 40, 1, 1, GAMMA, CPU)
    feed(replay, [Plain(40)], [[2 if t % 7 == 6 else 0] for t in range(90)])
    draws = replay.sample(30_000).action[0, :, 0].numpy()
    counts = np.unique(draws, return_counts=True)[1]
    assert len(counts) == replay.count[0]
    n = len(counts)
    assert stats.chisquare(counts).statistic < n - 1 + 4 * np.sqrt(2 * (n - 1))  # 4 sigma of chi squared


def test_a_seed_of_a_stack_draws_what_it_draws_alone():
    ends = np.random.default_rng(0).choice([0, 0, 1, 2], (60, 3))
    stack, alone = Ring((4, 9, 2), 30, 1, 1, GAMMA, CPU), Ring((9,), 30, 1, 1, GAMMA, CPU)
    feed(stack, [Plain(30)] * 3, ends)
    feed(alone, [Plain(30)], ends[:, 1:2])
    for _ in range(3):
        one, many = alone.sample(20), stack.sample(20)
        for column in ("action", "reward", "discount"):
            torch.testing.assert_close(getattr(one, column)[0], getattr(many, column)[1], atol=0, rtol=0)
        torch.testing.assert_close(one.obs[0], many.obs[1] - 1e4, atol=0, rtol=0)


def test_the_size_is_that_of_what_is_allocated():
    replay = Ring((0, 1), 1_000, 11, 3, GAMMA, CPU)
    assert Ring.bytes(2, 1_000, 11, 3) == replay.data.numel() * 4 + replay._starts.nbytes + replay._last.nbytes


def test_a_ring_that_grows_keeps_what_it_holds_and_has_just_so_many_rows():
    ends = [[0], [2], [0], [1], [0]]
    grown, whole, plain = Ring((3,), 8, 1, 1, GAMMA, CPU, 2), Ring((3,), 30, 1, 1, GAMMA, CPU, 2), Plain(30)
    at = [feed(ring, [Plain(30)], ends) for ring in (grown, whole)]
    grown.grow(30)
    grown.grow(12)  # is there already
    assert grown.data.shape == whole.data.shape == (1, 30, 4)
    for ring, obs in zip((grown, whole), at, strict=True):
        feed(ring, [plain], ends * 3, first=5, obs=obs)
    for found, expected in zip(grown.sample(50), whole.sample(50), strict=True):
        assert torch.equal(found, expected)
