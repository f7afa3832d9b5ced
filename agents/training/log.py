"""What a run writes: one folder a seed with config.json, TensorBoard events, metrics.csv, the policy and, at its end, result.json."""

import csv
import fcntl
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from agents.training.checkpoint import write_json


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
        self._events = SummaryWriter(str(folder))
        self._events.add_text("config", "```json\n" + json.dumps(config, indent=1) + "\n```")
        settings = {k: config[k] for k in ("agent", "preset", "env", "seed") if k in config} | config["config"]
        flat = {k: v if isinstance(v, (int, float, str, bool)) else str(v) for k, v in settings.items()}
        for summary in hparams(flat, {"eval/return": 0.0}):  # into this run's own events: add_hparams would make a run of its own
            self._events.file_writer.add_summary(summary)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes tag -> value at an environment step."""
        for tag, value in values.items():
            self._events.add_scalar(tag, value, step)
            self._rows.writerow([step, tag, repr(float(value))])

    def flush(self) -> None:
        """Hands everything written so far to the operating system."""
        self._events.flush()
        self._file.flush()

    def close(self, result: Mapping[str, Any]) -> None:
        """Writes result.json and closes the files, as many as the disk still takes; raises the first OSError."""
        try:
            self.flush()
            write_json(self.folder / "result.json", result)
        finally:
            with suppress(OSError):
                self._events.close()
            with suppress(OSError):
                self._file.close()


def being_written(folder: Path) -> bool:
    """Whether a living process trains into this folder."""
    try:
        with open(folder / "metrics.csv") as f:
            fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
