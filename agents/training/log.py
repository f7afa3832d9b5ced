"""What a run writes: one folder per seed with config.json, TensorBoard events, metrics.csv, the policy and, at its end, result.json."""

import csv
import hashlib
import io
import json
import math
import os
import platform
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor
from torch.utils.tensorboard.summary import hparams, scalar, text

from wgf.agents.training.checkpoint import named, save, write_sealed

__all__ = ["LOCK", "Events", "NoLog", "Rows", "RunLog", "being_written"]

LOCK = ".lock"
BEST = "best"  # a folder in that of a seed
RETURN = "eval/return"


class Events:
    """A TensorBoard event file, written in this thread: a disk that is full is an OSError here, where SummaryWriter's thread would die.

    ``after``: the step behind which TensorBoard forgets what earlier files of the folder say, where a run goes on.
    """

    def __init__(self, folder: Path, after: int | None = None) -> None:
        earlier = [int(m[1]) for path in folder.glob("events.*") if (m := re.match(r"events\.out\.tfevents\.(\d+)\.", path.name))]
        began = max([int(time.time()), *(t + 1 for t in earlier)])  # TensorBoard reads files in the order of their names
        self.file = open(folder / f"events.out.tfevents.{began}.{platform.node()}.{os.getpid()}", "xb")  # noqa: SIM115
        self._records = RecordWriter(self.file)
        self._write(Event(file_version="brain.Event:2"))
        if after is not None:
            self._write(Event(step=after + 1, session_log=SessionLog(status=SessionLog.START)))

    def add(self, summary: Any, step: int = 0) -> None:
        """Adds a summary at a step."""
        self._write(Event(summary=summary, step=step))

    def flush(self) -> None:
        """Hands what was written to the operating system."""
        with named(Path(self.file.name)):
            self.file.flush()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        with named(Path(self.file.name)):
            self._records.write(event.SerializeToString())


class Rows:
    """metrics.csv, and the sha256 of what it holds: a run that goes on cuts it there. ``best``: the best evaluation in it."""

    def __init__(self, path: Path, position: Mapping[str, Any] | None) -> None:
        self.path, self._hash, self._bytes, self._count, self.best = path, hashlib.sha256(), 0, 0, -math.inf
        self.file = open(path, "x+b" if position is None else "r+b")  # noqa: SIM115 - closed in RunLog.close()
        if position is None:
            self.add(["step", "tag", "value"])
            return
        held = self.file.read(position["bytes"])
        self._hash.update(held)
        self._bytes, self._count = len(held), position["rows"]
        if self.position() != position:
            raise ValueError(f"{path} is damaged: it does not begin with what the checkpoint says; restore it from a copy")
        self.file.truncate()
        self.best = max((float(value) for _, tag, value in csv.reader(held.decode().splitlines()) if tag == RETURN), default=-math.inf)

    def add(self, row: list[Any]) -> None:
        """Writes one row."""
        line = io.StringIO(newline="")
        csv.writer(line).writerow(row)
        data = line.getvalue().encode()
        with named(self.path):
            self.file.write(data)
        self._hash.update(data)
        self._bytes, self._count = self._bytes + len(data), self._count + 1

    def position(self) -> dict[str, Any]:
        """Returns how many bytes and rows there are, and their sha256."""
        return {"bytes": self._bytes, "rows": self._count, "sha256": self._hash.hexdigest()}


class RunLog:
    """The log of one seed. The x axis is environment steps; a row of metrics.csv is (step, tag, value).

    The folder stays locked until the run ends: ``being_written`` sees the lock, and a dead process holds none. With ``position``, which
    an earlier log returned at ``step``, that log goes on: what was written after it is cut off. ``settings`` are config.json, ``choices``
    the values of those that have few: TensorBoard filters runs by them.

    **Raises** FileExistsError where another run is there or is being written, ValueError where it does not fit the position.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], position: Mapping[str, Any] | None = None, step: int = 0,
        choices: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:  # fmt: skip
        self.folder = folder
        self._lock = FileLock(folder / LOCK)
        self._empty = [path for path in folder.parents if not path.exists()]
        self._made, self._open = False, list[Any]()
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._made = _made(folder)
            self._lock.acquire(timeout=0)
            self._rows = Rows(folder / "metrics.csv", position)
            self._open.append(self._rows.file)
            self._best, self._now = self._rows.best, -math.inf  # returns: of the best evaluation, and of one at this step
            write_sealed(folder / "config.json", settings)
            (folder / "result.json").unlink(missing_ok=True)
            self._events = Events(folder, None if position is None else step)
            self._open.append(self._events.file)
            if position is None:
                self._about(settings, choices or {})
        except Timeout:
            raise FileExistsError(17, "another process writes into it", str(folder)) from None
        except BaseException:
            self.discard()
            raise

    def _about(self, settings: Mapping[str, Any], choices: Mapping[str, Sequence[Any]]) -> None:
        """Writes the settings as a text and as hyper-parameters."""
        self._events.add(text("config", "```json\n" + json.dumps(settings, indent=1) + "\n```"))
        chosen = {k: settings[k] for k in ("agent", "preset", "env", "seed") if k in settings} | settings["config"]
        flat = {k: _flat(v) for k, v in chosen.items()}
        values = {k: [v for v in map(_flat, choices[k]) if type(v) is type(flat[k])] for k in flat.keys() & choices.keys()}
        domains = {k: found for k, found in values.items() if flat[k] in found}  # an agent of one's own may have other values
        for summary in hparams(flat, {"eval/return": 0.0}, domains):  # into this run's own events: add_hparams would make a run of its own
            self._events.add(summary)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes tag -> value at an environment step."""
        for tag, value in values.items():
            self._events.add(scalar(tag, value), step)
            self._rows.add([step, tag, repr(float(value))])
        self._now = values.get(RETURN, self._now)

    def save(self, values: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Writes a policy's tensors and what is said about them; into ``best`` too where it has just had the best evaluation."""
        save(self.folder, dict(values), about)
        if self._now > self._best:
            self._best = self._now
            with named(self.folder / BEST):
                (self.folder / BEST).mkdir(exist_ok=True)
            save(self.folder / BEST, dict(values), about)
        self._now = -math.inf

    def flush(self) -> None:
        """Hands everything written so far to the operating system."""
        for file in self._open:
            with named(Path(file.name)):
                file.flush()

    def position(self) -> dict[str, Any]:
        """Returns where metrics.csv is, which is on the disk then: bytes, rows and their sha256."""
        self.flush()
        for file in self._open:
            with named(Path(file.name)):
                os.fsync(file.fileno())
        return self._rows.position()

    def close(self, result: Mapping[str, Any]) -> None:
        """Writes result.json, with the sha256 of metrics.csv where that is whole, and closes the files; raises the disk's OSError."""
        metrics = None
        try:
            try:
                metrics = self.position()
            finally:
                write_sealed(self.folder / "result.json", {**result, "metrics": metrics})
        finally:
            self._close()

    def discard(self) -> None:
        """Closes the files, and removes the folder with everything in it where this log made it."""
        self._close()
        if self._made:
            shutil.rmtree(self.folder, ignore_errors=True)
        for path in self._empty:
            with suppress(OSError):  # something else is in it
                path.rmdir()

    def _close(self) -> None:
        for file in self._open:
            with suppress(OSError):
                file.close()
        self._lock.release()


class NoLog:
    """The log of a seed whose training leaves no folder."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes nothing."""

    def save(self, values: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Writes nothing."""

    def flush(self) -> None:
        """Does nothing."""

    def position(self) -> None:
        """Returns none."""

    def close(self, result: Mapping[str, Any]) -> None:
        """Writes nothing."""

    def discard(self) -> None:
        """Does nothing."""


def _flat(value: Any) -> int | float | str:
    """Returns a setting as TensorBoard shows it: a number as it is, all else as text."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def _made(folder: Path) -> bool:
    """Makes a folder; says whether it was not there before."""
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            raise
        return False
    return True


def being_written(folder: Path) -> bool:
    """Says whether a living process trains into this folder."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except (Timeout, OSError):
        return True
