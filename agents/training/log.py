"""What a run writes: one folder a seed with config.json, TensorBoard events, metrics.csv, the policy and, at its end, result.json."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from agents.training.checkpoint import replace


class RunLog:
    """The log of one seed. The x axis is environment steps; a row of metrics.csv is (step, tag, value)."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        replace(folder / "config.json", json.dumps(config, indent=1).encode())
        self._events = SummaryWriter(str(folder))
        self._file = open(folder / "metrics.csv", "w", newline="")  # noqa: SIM115 - closed in close()
        self._rows = csv.writer(self._file)
        self._rows.writerow(["step", "tag", "value"])
        self._events.add_text("config", "```json\n" + json.dumps(config, indent=1) + "\n```")
        flat = {k: v if isinstance(v, (int, float, str, bool)) else str(v) for k, v in config["config"].items()}
        for summary in hparams(flat, {"eval/return": 0.0}):
            self._events.file_writer.add_summary(summary)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes tag -> value at an environment step."""
        for tag, value in values.items():
            self._events.add_scalar(tag, value, step)
            self._rows.writerow([step, tag, repr(float(value))])

    def flush(self) -> None:
        """Everything written so far is on its way to the disk."""
        self._events.flush()
        self._file.flush()

    def close(self, result: Mapping[str, Any]) -> None:
        """Writes result.json and closes the files."""
        self.flush()
        self._events.close()
        self._file.close()
        replace(self.folder / "result.json", json.dumps(result, indent=1).encode())
