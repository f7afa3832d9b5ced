"""What a task of the project's own must have, so that ``Fleet`` steps many of it and ``Single`` shows it to Gymnasium."""

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

__all__ = ["Drawing", "Task", "normal"]


class Drawing(NamedTuple):
    """What a picture of a state shows, in the task's units of length: dark lines from end to end (L, 2, 2), and red dots (K, 2)."""

    lines: Tensor
    dots: Tensor


class Task(Protocol):
    """Equations of motion, reward and end for any number of states at once: a state is (*b, state_size), dtype and device are its own."""

    obs_size: int
    action_size: int
    state_size: int
    start_size: int  # uniform numbers that a start uses up
    limit: float  # the largest action in the task's own unit; agents act in (-1, 1)
    horizon: int  # steps per episode, then a time limit
    seconds: float  # of one step, for films
    view: float  # length from the middle of a picture to its edge

    def start(self, u: Tensor) -> Tensor:
        """First states (*b, state_size) from u (*b, start_size), uniform on (0, 1)."""

    def advance(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(state, reward (*b,), ended (*b,)) after one step of actions (*b, action_size), in units of the limit; beyond 1 they are cut."""

    def observe(self, state: Tensor) -> Tensor:
        """What an agent sees, (*b, obs_size)."""

    def drawing(self, state: Tensor) -> Drawing:
        """What a picture of one state (state_size,) shows."""


def normal(u: Tensor) -> Tensor:
    """Standard normal numbers from uniform ones, sqrt 2 erfinv(2 u - 1).

    **Limits** They lie within 4.9 of 0: u = 0 and u = 1, which a generator may give, stay finite.
    """
    return math.sqrt(2.0) * torch.erfinv((2.0 * u - 1.0).clamp(-1.0 + 1e-6, 1.0 - 1e-6))
