"""What a fit of the study leaves in its folder while it goes on: settings, curves, TensorBoard's events, and checkpoints.

A fit that was stopped or killed goes on from its newest whole checkpoint, on the same data and by the same code, versions, device and
threads, and ends in the same numbers, bit by bit, as one that was not. Where there is no such checkpoint it begins anew.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard.summary import scalar

from wgf.agents.training.checkpoint import write_sealed
from wgf.agents.training.folder import difference, newest
from wgf.agents.training.log import Events
from wgf.agents.training.store import Store
from wgf.bnn.fit import Course
from wgf.ranks import Group
from wgf.runs.trainer.reuse import move_aside
from wgf.shards import ALONE
from wgf.snapshot import Snapshot

__all__ = ["ELSEWHERE", "HEARD", "KEPT", "SELDOM", "SHARE", "Diary", "Follower", "opened"]

KEPT = "training"  # the folder of the checkpoints
SELDOM = 10.0  # seconds between two of them, at least: so much may be lost
SHARE = 40.0  # of the time between two of them, one takes a part of 1 / SHARE at most
ELSEWHERE = ("host", "process")  # of what config.json says: a fit goes on in another process
HEARD = 16  # steps between two looks of several ranks at whether to stop or to take a checkpoint
PARTS = {"about": dict, "course": dict, "tags": list, "looks": list, "curves": Tensor, "seconds": float}


class Diary:
    """The curves of a fit, one row for each look, and how long it took, with those of before where it goes on."""

    def __init__(self, folder: Path, about: Mapping[str, Any], course: Course, before: Snapshot) -> None:
        self._store, self._about, self._course = Store(folder / KEPT), about, course
        self._tags: list[str] = before.get("tags", [])
        self._looks: list[int] = before.get("looks", [])
        self._curves: list[Tensor] = [*before.get("curves", ())]  # (tags, splits) at each look
        self._spent, self._kept = 0.0, time.perf_counter()
        self._began: float = self._kept - before.get("seconds", 0.0)
        self._events = Events(folder, course.step or None)

    @property
    def seconds(self) -> float:
        """How long the fit took so far."""
        return time.perf_counter() - self._began

    def look(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Notes measures of each split at a step; TensorBoard shows their mean."""
        self._tags = [*values]
        self._looks.append(step)
        self._curves.append(torch.stack([value.double().cpu() for value in values.values()]))
        for tag, value in values.items():
            self._events.add(scalar(f"bnn/{tag}", value.mean().item()), step)
        self._events.flush()

    def rows(self) -> Iterator[tuple[int, str, int, float]]:
        """Yields step, measure, split and value of every look."""
        for step, curves in zip(self._looks, self._curves, strict=True):
            for tag, values in zip(self._tags, curves.tolist(), strict=True):
                yield from ((step, tag, s, value) for s, value in enumerate(values))

    def due(self) -> bool:
        """Says whether it is time for a checkpoint."""
        return time.perf_counter() - self._kept >= max(SELDOM, SHARE * self._spent)

    def keep(self) -> None:
        """Takes a checkpoint."""
        began = time.perf_counter()
        self._events.flush()
        os.fsync(self._events.file.fileno())
        curves = torch.stack(self._curves) if self._curves else torch.empty(0)
        now = {"about": {**self._about}, "tags": self._tags, "looks": self._looks, "curves": curves, "seconds": self.seconds}
        now["course"] = self._course.snapshot()
        self._store.save(self._course.step, now, {}, fresh=True)
        self._kept = time.perf_counter()
        self._spent = self._kept - began

    def close(self) -> None:
        """Closes the events."""
        self._events.file.close()


class Follower:
    """What every rank but the first has in place of a diary: it hands its particles over for a checkpoint, and writes nothing."""

    def __init__(self, course: Course) -> None:
        self._course = course

    def look(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Notes nothing."""

    def due(self) -> bool:
        """Leaves it to the first rank."""
        return False

    def keep(self) -> None:
        """Hands over its particles."""
        self._course.snapshot()

    def close(self) -> None:
        """Has nothing open."""


def opened(
    folder: Path, about: Mapping[str, Any], course: Callable[[], Course], group: Group = ALONE.group
) -> tuple[Course, Diary | Follower]:
    """Returns a fit and its diary: that of the folder, brought to its newest whole checkpoint, or a new one.

    ``about`` is config.json, and but for ELSEWHERE what makes two fits the same. What cannot go on is moved aside, and a line says why.
    Every rank of ``group`` reads the checkpoint, and the first alone writes. **Raises** ValueError where they find different ones.
    """
    found, before = course(), Snapshot()
    if (store := Store(folder / KEPT)).steps():
        try:
            before = _restored(found, store, about)
        except ValueError as error:
            if group.rank == 0:
                print(f"wgf: {folder} begins anew: {error}", file=sys.stderr)
            found = course()
    group.agree({f"the iteration of the checkpoint in {folder}, which all ranks must see,": found.step})
    if group.rank > 0:
        return found, Follower(found)
    if not before:
        if folder.exists():
            move_aside(folder)
        folder.mkdir(parents=True)
    write_sealed(folder / "config.json", about)
    return found, Diary(folder, about, found, before)


def _restored(course: Course, store: Store, about: Mapping[str, Any]) -> Snapshot:
    """Brings a fit to the newest whole checkpoint, and returns that. Raises ValueError where there is none of this very fit."""
    saved = newest(store)
    saved.check(store.folder, PARTS)
    found = saved.snapshot
    mine = {name: value for name, value in about.items() if name not in ELSEWHERE}
    if other := difference(mine, found["about"]):
        raise ValueError(f"{store.folder} holds a checkpoint of a fit with {other}")
    course.restore(found["course"])
    shape = (len(found["looks"]), len(found["tags"]), about["splits"])
    if course.step != saved.step or (found["looks"] and tuple(found["curves"].shape) != shape):
        raise ValueError(f"{store.folder} holds a checkpoint whose step or curves are not those of its fit")
    return found
