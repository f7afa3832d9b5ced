"""What an agent module offers, and what it is given: the names that the loop, the evaluation and the contract test rely on."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from wgf.agents.training.schedule import Schedule
from wgf.agents.training.spaces import Array, Mask
from wgf.snapshot import Snapshot, set_states, states

if TYPE_CHECKING:
    from wgf.agents.training.envs import Envs

__all__ = ["Act", "Actor", "Agent", "AnyAgent", "B", "Batch", "C", "Finished", "Info", "Memory", "S", "Size", "Streams", "X", "Y"]

C = TypeVar("C")
S = TypeVar("S")
B = TypeVar("B")
X = TypeVar("X")
Y = TypeVar("Y")
B_co = TypeVar("B_co", covariant=True)

Info = Callable[[], dict[str, Tensor]]  # tag -> (S,), on the device; computed when it is looked at


class Batch(NamedTuple):
    """Transitions of S seeds: obs and next_obs (S, B, D), action (S, B, A) in (-1, 1), reward and discount (S, B).

    discount = gamma (1 - terminated): a time limit bootstraps, an end of the task does not. With returns of n steps,
    reward is the discounted sum of up to so many steps, next_obs the state behind the last and discount the product of theirs.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_obs: Tensor

    def parts(self, rows: int) -> list["Batch"]:
        """Returns it as minibatches of so many rows."""
        return [Batch(*parts) for parts in zip(*(torch.split(t, rows, 1) for t in self), strict=True)]


class Streams:
    """One random generator per seed. Draws are stacked: seed s of a stack sees the numbers that it sees by itself."""

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self.generators = list(generators)
        self.device = generators[0].device
        self._held: dict[str, Tensor] = {}

    def normal(self, *shape: int) -> Tensor:
        """Draws N(0, 1), (S, *shape)."""
        return torch.stack([torch.randn(shape, generator=g, device=self.device) for g in self.generators])

    def uniform(self, *shape: int) -> Tensor:
        """Draws U(0, 1), (S, *shape)."""
        return torch.stack([torch.rand(shape, generator=g, device=self.device) for g in self.generators])

    def held(self, n: int, action: int, most: int) -> Tensor:
        """Draws N(0, 1), (S, n, A), for n environments each, and keeps what an environment got for k steps, P(k) ~ 1 / k^2, k <= most.

        **Source** Kim et al. 2026 (FlashSAC): noise that stays goes further than noise that changes at every step.
        """
        if most == 1:
            return self.normal(n, action)
        fresh, pick = self.normal(n, action), self.uniform(n, 1)
        chances = torch.arange(1, most + 1, device=self.device, dtype=fresh.dtype).pow(-2.0)
        steps = 1.0 + (pick > (chances / chances.sum()).cumsum(0)[:-1]).sum(-1, keepdim=True)
        if self._held and self._held["noise"].shape == fresh.shape:
            goes_on = self._held["left"] > 0.0
            fresh, steps = torch.where(goes_on, self._held["noise"], fresh), torch.where(goes_on, self._held["left"], steps)
        self._held = {"noise": fresh, "left": steps - 1.0}
        return fresh

    def snapshot(self) -> Snapshot:
        """Returns where the generators stand, and the noise that is held."""
        return {"generators": states(self.generators), "held": dict(self._held)}

    def restore(self, snapshot: Snapshot) -> None:
        """Goes on from a snapshot."""
        set_states(self.generators, snapshot["generators"])
        self._held = {name: t.to(self.device) for name, t in snapshot["held"].items()}

    def permutations(self, k: int, n: int) -> Tensor:
        """Draws k orders of n things, (S, k, n)."""
        return torch.stack([torch.rand(k, n, generator=g, device=self.device).argsort(-1) for g in self.generators])


class Finished(NamedTuple):
    """Of the episodes that ended: sums of their returns and of their lengths, and their number, (S, M) for M policies per seed."""

    returns: Array
    lengths: Array
    counts: Array

    def mean(self) -> tuple[Array, Array]:
        """Returns the mean return and length of a seed's episodes, (S,); nan where none ended."""
        with np.errstate(invalid="ignore"):
            return self.returns.sum(1) / self.counts.sum(1), self.lengths.sum(1) / self.counts.sum(1)

    def best(self) -> Array:
        """Returns the mean return of the best policy, (S,); nan where none ended."""
        each = np.divide(self.returns, self.counts, out=np.full_like(self.returns, -np.inf), where=self.counts > 0)
        return np.where(self.counts.any(1), each.max(1), np.nan)


class Size(NamedTuple):
    """How many bytes a memory takes, what takes them in words, the option that makes it smaller, and the bytes that checkpoints hold."""

    bytes: int
    words: str
    option: str
    saved: int = 0


Act = Callable[[Tensor], Tensor]  # observations (S, n, D) -> actions (S, n, A) in (-1, 1)


@dataclass(frozen=True)
class Actor:
    """An ``Act`` in its parts: ``noise(n)`` draws that of n actions per seed, and ``act(state, obs, noise)`` is a function of tensors."""

    act: Callable[[Any, Tensor, Any], Tensor]
    state: Any
    noise: Callable[[int], Any]

    def __call__(self, obs: Tensor) -> Tensor:
        """Returns actions for observations."""
        return self.act(self.state, obs, self.noise(obs.shape[1]))


class Memory(Protocol[B_co]):
    """How an agent collects experience and what it learns from: ``memory.Replay``, ``rollout.Rollout`` or ``population.Population``.

    Until ``begin`` it holds no tensors and only says what it needs.
    """

    envs: int  # environments per seed
    policies: int  # policies per seed, which share the environments out, policy by policy
    warmup: int  # steps of uniform actions at the beginning of a training
    size: int  # environment steps per seed of one collection
    whole: bool  # whether one update is one step of the networks, which can be compiled whole; else it is compiled piece by piece

    def updates(self, steps: int) -> int:
        """Returns how many steps of the networks a training of so many environment steps takes."""

    def place(self, device: torch.device) -> torch.device:
        """Returns where its environments live, for networks on ``device``."""

    def starts(self, seed: int) -> Sequence[int]:
        """Returns the seeds of the environments of a seed."""

    def needs(self, seeds: int, obs: int, action: int) -> Size:
        """Returns what it takes for so many seeds and for observations and actions of so many numbers."""

    def begin(self, envs: "Envs", seeds: Sequence[int], device: torch.device) -> None:
        """Forgets everything, allocates its tensors on ``device``, and takes environments, which begin anew."""

    def extend(self, schedule: Schedule) -> None:
        """Makes room for a training that goes on by another schedule, with what it holds."""

    def snapshot(self) -> Snapshot:
        """Returns what it is between two collections, its environments too, but for what ``rows`` returns."""

    def rows(self, since: Snapshot | None) -> dict[str, Tensor]:
        """Returns what was stored since an earlier snapshot, or all there is; nothing where a snapshot holds everything."""

    def restore(self, snapshot: Snapshot, rows: Iterable[dict[str, Tensor]]) -> None:
        """Becomes what it was at a snapshot, from the pieces that ``rows`` returned up to then; after ``begin``.

        **Raises** ValueError where the environments do not come back to the observations that they gave then.
        """

    def explore(self, state: Any, draw: Streams, /) -> None:
        """Changes an agent's state before a collection, where its exploration asks for that."""

    def collect(self, act: Act) -> tuple[Finished, Mask]:
        """Steps the environments ``size / envs`` times; returns the episodes that ended, and where every number was finite, (S,)."""

    def batches(self) -> Iterator[B_co]:
        """Yields what is to be learned from now, one update each."""


class Agent(Protocol[C, S, B, X, Y]):
    """An agent is a module, or any object, with these names.

    C is its configuration, a frozen dataclass with ``gamma``; S its state, a dataclass of tensors and optimisers; B what one update
    learns from, a ``Batch`` of a replay, a ``rollout.Segment`` or a ``population.Iteration``; X the noise of an action and Y that of an
    update.
    """

    @property
    def Config(self) -> type[C]:
        """Returns the class of its configurations."""

    @property
    def PRESETS(self) -> Mapping[str, C]:
        """Configurations by name."""

    def memory(self, cfg: C, schedule: Schedule, /) -> Memory[B]:
        """Says how it collects."""

    def init(self, cfg: C, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device, /) -> S:
        """Makes fresh networks of len(generators) seeds, for observations and actions of so many numbers."""

    def act_noise(self, cfg: C, action: int, n: int, draw: Streams, /) -> X:
        """Draws the noise of one action in each of n environments per seed."""

    def act(self, cfg: C, state: S, obs: Tensor, noise: X, /) -> Tensor:
        """Returns actions (S, n, A) that explore, for observations (S, n, D)."""

    def greedy(self, cfg: C, state: S, obs: Tensor, /) -> Tensor:
        """Returns deterministic actions (S, n, A), for observations (S, n, D)."""

    def noise(self, cfg: C, action: int, draw: Streams, /) -> Y:
        """Draws the noise of one update."""

    def update(self, cfg: C, state: S, batch: B, noise: Y, /) -> Info:
        """Changes the state in place by one update."""


AnyAgent = Agent[Any, Any, Any, Any, Any]  # one of a registry, whose types are its own
