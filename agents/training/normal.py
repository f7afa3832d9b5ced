"""Observations and rewards in units of their running deviation, which is part of an agent's state."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wgf.agents.tasks.fleet import Outcome
from wgf.agents.training.envs import BrokenEnvironment, Envs, Mask
from wgf.agents.training.population import Population
from wgf.agents.training.protocol import Act, AnyAgent, Finished, Info, Memory, Size, Streams
from wgf.agents.training.schedule import Schedule
from wgf.snapshot import Snapshot

__all__ = ["LIMIT", "Moments", "Normalized", "State", "Watched", "Watching", "normalized"]

LIMIT = 10.0  # deviations at which an observation is cut


@dataclass
class Moments:
    """How many numbers there were, (S,), their mean and their sum of squared distances from it, (S, ...); float64."""

    count: Tensor
    mean: Tensor
    squares: Tensor

    def add_(self, x: Tensor) -> None:
        """Counts n more, x (S, n, ...): the mean and the squares are those of all numbers together.

        **Source** Chan, Golub & LeVeque 1979; one by one it is Welford's recursion.
        """
        x = x.to(self.mean)
        n, here = x.shape[1], x.mean(1)
        each = (-1, *[1] * (self.mean.ndim - 1))
        before, total = self.count.view(each), (self.count + n).view(each)
        apart = here - self.mean
        self.squares += (x - here[:, None]).square().sum(1) + apart.square() * before * n / total
        self.mean += apart * n / total
        self.count += n

    def deviation(self) -> Tensor:
        """Returns sqrt(squares / count + 1e-8), (S, ...); 1 before there are two numbers."""
        each = (-1, *[1] * (self.mean.ndim - 1))
        count = self.count.view(each)
        return torch.where(count < 2.0, 1.0, (self.squares / count + 1e-8).sqrt())


@dataclass
class State:
    """An agent's state, the moments of the observations (S, D) and of the running returns (S,), and the largest of these in size, (S,)."""

    inner: Any
    obs: Moments
    returns: Moments
    largest: Tensor


class Normalized:
    """An agent that sees (obs - mean) / deviation, cut at 10, and learns from reward / deviation of the running return, or one of both.

    The running return of an environment is R <- gamma (1 - terminated) R + r, as in Gymnasium's NormalizeReward. With a ``bound`` the
    reward is divided by the largest |R| / bound where that is more, so that returns lie within it (**Source** Kim et al. 2026,
    FlashSAC). The moments are each seed's own, over the observations that were acted on and over the returns after each step; only
    collection moves them, and memories hold what the environments gave.
    """

    def __init__(self, inner: AnyAgent, observations: bool, rewards: bool, bound: float = math.inf) -> None:
        self.inner, self.observations, self.rewards, self.bound = inner, observations, rewards, bound

    @property
    def Config(self) -> type[Any]:
        """Returns what the agent has."""
        return self.inner.Config

    @property
    def PRESETS(self) -> Mapping[str, Any]:
        """Returns what the agent has."""
        return self.inner.PRESETS

    def memory(self, cfg: Any, schedule: Schedule) -> "Watching":
        """Collects as the agent does, and counts. Raises ValueError for a population, whose episodes end at steps of their own."""
        return Watching(self.inner.memory(cfg, schedule), cfg.gamma)

    def networks(self, cfg: Any, obs: int, action: int) -> Any:
        """Returns what the agent has."""
        return self.inner.networks(cfg, obs, action)  # type: ignore[attr-defined]

    def init(self, cfg: Any, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device, *nets: Any) -> State:
        """Makes a fresh state, with nothing counted."""
        seeds = len(generators)
        zeros = [torch.zeros(shape, device=device, dtype=torch.float64) for shape in ((seeds,), (seeds, obs), (seeds, obs))]
        returns = [torch.zeros(seeds, device=device, dtype=torch.float64) for _ in range(4)]
        inner = self.inner.init(cfg, obs, action, generators, device, *nets)
        return State(inner, Moments(*zeros), Moments(*returns[:3]), returns[3])

    def act_noise(self, cfg: Any, action: int, n: int, draw: Streams) -> Any:
        """Returns what the agent has."""
        return self.inner.act_noise(cfg, action, n, draw)

    def act(self, cfg: Any, state: State, obs: Tensor, noise: Any) -> Tensor:
        """Returns the agent's actions that explore, (S, n, A)."""
        return self.inner.act(cfg, state.inner, self.seen(state, obs), noise)

    def greedy(self, cfg: Any, state: State, obs: Tensor) -> Tensor:
        """Returns the agent's deterministic actions, (S, n, A)."""
        return self.inner.greedy(cfg, state.inner, self.seen(state, obs))

    def noise(self, cfg: Any, action: int, draw: Streams) -> Any:
        """Returns what the agent has."""
        return self.inner.noise(cfg, action, draw)

    def update(self, cfg: Any, state: State, batch: Any, noise: Any) -> Info:
        """Takes the agent's update, on what it sees."""
        return self.inner.update(cfg, state.inner, self.given(state, batch), noise)

    def given(self, state: State, batch: Any) -> Any:
        """Returns what a memory holds as the agent learns from it."""
        reward = batch.reward
        if self.rewards:
            reward = reward / _over(torch.maximum(state.returns.deviation(), state.largest / self.bound), reward, 0)
        return batch._replace(obs=self.seen(state, batch.obs), next_obs=self.seen(state, batch.next_obs), reward=reward)

    def seen(self, state: State, obs: Tensor) -> Tensor:
        """Returns observations (S, ..., D) as the agent sees them."""
        if not self.observations:
            return obs
        mean, deviation = (_over(t, obs, 1) for t in (state.obs.mean, state.obs.deviation()))
        return ((obs - mean) / deviation).clamp(-LIMIT, LIMIT)


class Watching:
    """A memory whose environments' observations and rewards are counted in the state that collects."""

    def __init__(self, inner: Memory[Any], gamma: float) -> None:
        if isinstance(inner, Population):
            raise ValueError("normalize must be none for an agent that plays whole episodes: what they count would depend on other seeds")
        self.inner, self.gamma = inner, gamma
        self.envs, self.policies, self.warmup, self.size = inner.envs, inner.policies, inner.warmup, inner.size
        self.whole = inner.whole

    def updates(self, steps: int) -> int:
        """Returns what the memory does."""
        return self.inner.updates(steps)

    def place(self, device: torch.device) -> torch.device:
        """Returns what the memory does."""
        return self.inner.place(device)

    def starts(self, seed: int) -> Sequence[int]:
        """Returns what the memory does."""
        return self.inner.starts(seed)

    def needs(self, seeds: int, obs: int, action: int) -> Size:
        """Returns what the memory takes."""
        return self.inner.needs(seeds, obs, action)

    def begin(self, envs: Envs, seeds: Sequence[int], device: torch.device) -> None:
        """Begins anew; running returns are 0."""
        self._returns, self._watched = torch.zeros(()), Watched(envs, self)
        self.inner.begin(self._watched, seeds, device)

    def extend(self, schedule: Schedule) -> None:
        """Makes room in the memory."""
        self.inner.extend(schedule)

    def snapshot(self) -> Snapshot:
        """Returns what the memory does, and the running returns."""
        return {"inner": self.inner.snapshot(), "returns": torch.as_tensor(self._returns)}

    def rows(self, since: Snapshot | None) -> dict[str, Tensor]:
        """Returns what the memory does."""
        return self.inner.rows(since["inner"] if since else None)

    def restore(self, snapshot: Snapshot, rows: Iterable[dict[str, Tensor]]) -> None:
        """Becomes what it was at a snapshot; the moments are the agent's."""
        self._returns = snapshot["returns"].to(self._watched.obs)
        self.inner.restore(snapshot["inner"], rows)

    def explore(self, state: State, draw: Streams) -> None:
        """Changes the agent's state, and counts in this one from now on."""
        self._state = state
        self.inner.explore(state.inner, draw)

    def collect(self, act: Act) -> tuple[Finished, Mask]:
        """Collects as the memory does."""
        return self.inner.collect(act)

    def batches(self) -> Iterator[Any]:
        """Yields what the memory does."""
        return self.inner.batches()

    def count(self, obs: Tensor, outcome: Outcome) -> None:
        """Counts observations that were acted on, (S, n, D), and the running returns after what came of it.

        A number that is not finite, which ends its seed, counts as 0.
        """
        obs, reward = (x.nan_to_num(0.0, 0.0, 0.0) for x in (obs, outcome.reward))
        self._state.obs.add_(obs)
        self._returns = self._returns * self.gamma * (~outcome.terminated).to(reward) + reward
        self._state.returns.add_(self._returns)
        torch.maximum(self._state.largest, self._returns.abs().amax(1).to(self._state.largest), out=self._state.largest)


class Watched:
    """Environments of a ``Watching`` memory."""

    def __init__(self, inner: Envs, memory: Watching) -> None:
        self.inner, self.memory, self.obs_size, self.action_size = inner, memory, inner.obs_size, inner.action_size
        self.horizon, self.continues = inner.horizon, inner.continues

    @property
    def faults(self) -> Mapping[int, BrokenEnvironment]:
        """Returns what went wrong with the environments."""
        return self.inner.faults

    def reset(self, seeds: Sequence[int | None], common: int | None = None) -> Tensor:
        """Begins every episode anew and returns the first observations (S, n, D)."""
        self.obs = self.inner.reset(seeds, common)
        return self.obs

    def step(self, action: Tensor) -> Outcome:
        """Applies actions (S, n, A) in (-1, 1)."""
        outcome = self.inner.step(action)
        self.memory.count(self.obs, outcome)
        self.obs = outcome.obs
        return outcome

    def snapshot(self) -> Snapshot:
        """Returns what the environments do."""
        return self.inner.snapshot()

    def restore(self, snapshot: Snapshot) -> Tensor:
        """Comes back to where a snapshot was taken."""
        self.obs = self.inner.restore(snapshot)
        return self.obs

    def close(self) -> None:
        """Frees the simulators."""
        self.inner.close()


def normalized(agent: AnyAgent, what: str, bound: float = math.inf) -> AnyAgent:
    """Returns the agent itself for "none", else one that normalises "observations", "rewards" or "both".

    With a ``bound`` it divides rewards whatever is asked for, so that returns lie within it.
    """
    observations, rewards = what in ("observations", "both"), what in ("rewards", "both") or bound < math.inf
    return Normalized(agent, observations, rewards, bound) if observations or rewards else agent


def _over(t: Tensor, x: Tensor, own: int) -> Tensor:
    """Returns a tensor (S, ...) with ``own`` axes behind the seeds, in the type of x and with its number of axes."""
    return t.to(x.dtype).view(len(t), *[1] * (x.ndim - 1 - own), *t.shape[1:])
