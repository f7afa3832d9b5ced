"""What a run writes: one folder per seed with config.json, TensorBoard events, metrics.csv, the policy and, at its end, result.json."""

import csv
import fcntl
import json
import os
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor
from torch.utils.tensorboard.summary import hparams, scalar, text

from wgf.agents.training.checkpoint import save, write_json


class Events:
    """A TensorBoard event file, written in this thread: a disk that is full is an OSError here, where SummaryWriter's thread would die."""

    def __init__(self, folder: Path) -> None:
        self.file = open(folder / f"events.out.tfevents.{int(time.time())}.{platform.node()}.{os.getpid()}", "xb")  # noqa: SIM115
        self._records = RecordWriter(self.file)
        self._write(Event(file_version="brain.Event:2"))

    def add(self, summary: Any, step: int = 0) -> None:
        """Adds a summary at a step."""
        self._write(Event(summary=summary, step=step))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())


class RunLog:
    """The log of one seed. The x axis is environment steps; a row of metrics.csv is (step, tag, value).

    metrics.csv is made first, must be new, and stays locked until the run ends: ``being_written`` sees the lock, and a dead process
    holds none.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._file = open(folder / "metrics.csv", "x", newline="")  # noqa: SIM115 - closed in close()
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._rows = csv.writer(self._file)
        self._rows.writerow(["step", "tag", "value"])
        write_json(folder / "config.json", config)
        self._events = Events(folder)
        self._events.add(text("config", "```json\n" + json.dumps(config, indent=1) + "\n```"))
        settings = {k: config[k] for k in ("agent", "preset", "env", "seed") if k in config} | config["config"]
        flat = {k: v if isinstance(v, (int, float, str, bool)) else str(v) for k, v in settings.items()}
        for summary in hparams(flat, {"eval/return": 0.0}):  # into this run's own events: add_hparams would make a run of its own
            self._events.add(summary)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes tag -> value at an environment step."""
        for tag, value in values.items():
            self._events.add(scalar(tag, value), step)
            self._rows.writerow([step, tag, repr(float(value))])

    def save(self, values: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Writes a policy's tensors and what is said about them."""
        save(self.folder, dict(values), about)

    def flush(self) -> None:
        """Hands everything written so far to the operating system."""
        self._events.file.flush()
        self._file.flush()

    def close(self, result: Mapping[str, Any]) -> None:
        """Writes result.json and closes the files, as many as the disk still takes; raises its OSError."""
        try:
            write_json(self.folder / "result.json", result)
            self.flush()
        finally:
            for file in (self._events.file, self._file):
                with suppress(OSError):
                    file.close()


class NoLog:
    """The log of a seed whose training leaves no folder."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes nothing."""

    def save(self, values: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Writes nothing."""

    def flush(self) -> None:
        """Does nothing."""

    def close(self, result: Mapping[str, Any]) -> None:
        """Writes nothing."""


def being_written(folder: Path) -> bool:
    """Says whether a living process trains into this folder."""
    try:
        with open(folder / "metrics.csv") as f:
            fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
