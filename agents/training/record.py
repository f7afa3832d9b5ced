"""What becomes of each seed of a stack: its log, its saved policies, and how it ended."""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wgf.agents.training import checkpoint
from wgf.agents.training.envs import Array
from wgf.agents.training.log import NoLog, RunLog
from wgf.snapshot import Snapshot

__all__ = ["FINISHED", "INTERRUPTED", "RUNNING", "Record", "check"]

RUNNING, FINISHED, INTERRUPTED = "running", "finished", "interrupted"


def check(snapshot: Mapping[str, Any], seeds: int) -> None:
    """Raises ValueError unless it is what ``Record.snapshot`` returned for so many seeds."""
    kinds, position = {"endings": list, "latest": dict, "seconds": float, "logs": dict}, {"bytes": int, "rows": int, "sha256": str}
    logs = snapshot.get("logs")
    parts = [(snapshot, kinds), *((log, position) for log in (logs.values() if isinstance(logs, dict) else ()) if log is not None)]
    whole = all(isinstance(part, dict) and all(type(part.get(name)) is kind for name, kind in of.items()) for part, of in parts)
    if not whole or len(snapshot["endings"]) != seeds or not all(isinstance(ending, str) for ending in snapshot["endings"]):
        raise ValueError("the record of the seeds is not whole")
    if not all(isinstance(value, Tensor) and value.shape == (seeds,) for value in snapshot["latest"].values()):
        raise ValueError("the last metrics are not numbers of each seed")


class Record:
    """The logs of S seeds. A seed that fails is closed at once and written no more; ``endings`` says how each ended.

    ``health``: how often what went wrong and was survived, by its name, for result.json.
    """

    def __init__(self, logs: Sequence[RunLog | NoLog], seeds: Sequence[int], about: Mapping[str, Any]) -> None:
        self.logs, self.seeds, self.about = list(logs), list(seeds), about
        self.endings = [RUNNING] * len(self.seeds)
        self.latest: dict[str, Array] = {}
        self.health: Mapping[str, int] = {}
        self._started = time.perf_counter()

    def snapshot(self) -> Snapshot:
        """Returns how each seed stands, the last value of every metric, and where each log is."""
        latest = {tag: torch.from_numpy(value.copy()) for tag, value in self.latest.items()}
        logs = {str(s): self.logs[s].position() for s in self.running}
        return {"endings": list(self.endings), "latest": latest, "seconds": time.perf_counter() - self._started, "logs": logs}

    def restore(self, snapshot: Snapshot) -> None:
        """Goes on from a snapshot; the logs are those of the seeds that still trained."""
        self.endings = list(snapshot["endings"])
        self.latest = {tag: value.numpy().copy() for tag, value in snapshot["latest"].items()}
        self._started -= snapshot["seconds"]

    @property
    def running(self) -> list[int]:
        """Returns the rows of the stack that still train."""
        return [s for s, ending in enumerate(self.endings) if ending == RUNNING]

    def write(self, step: int, values: Mapping[str, Any], rows: Sequence[int] | None = None) -> None:
        """Writes tag -> (S,) for every seed, or for some rows of the stack. A value that is not finite stops its seed."""
        for s in self.running if rows is None else [s for s in rows if self.endings[s] == RUNNING]:
            own = {tag: float(value[s]) for tag, value in values.items()}
            for tag, value in own.items():
                self.latest.setdefault(tag, np.full(len(self.seeds), np.nan, np.float32))[s] = value
            self.logs[s].scalars(step, own)
            bad = [f"{tag} is {value}" for tag, value in own.items() if not math.isfinite(value)]
            if bad:
                self.fail(s, step, f"{bad[0]} for seed {self.seeds[s]} at step {step}", diverged=True)

    def save(self, state: Any, step: int) -> None:
        """Saves the policy of every seed that still trains; one that is not finite stops its seed, and the one before it stays."""
        for s in self.running:
            if bad := self._save(s, state, step):
                self.fail(s, step, f"{bad} is not finite for seed {self.seeds[s]} at step {step}", diverged=True)

    def lose(self, s: int, state: Any, step: int, reason: str, trace: str | None) -> None:
        """Ends one seed by no fault of its policy, which is saved once more."""
        self._save(s, state, step)
        self.fail(s, step, reason, trace)

    def flush(self) -> None:
        """Hands what the logs hold to the operating system."""
        for s in self.running:
            self.logs[s].flush()

    def fail(self, s: int, step: int, reason: str, trace: str | None = None, *, diverged: bool = False) -> None:
        """Ends one seed; result.json says where it was its own numbers that ``diverged``, which they would do again."""
        self.logs[s].scalars(step, {"health/failed": 1.0})
        self._end(s, step, "failed", reason, trace, diverged=diverged)

    def close(self, step: int, status: str, reason: str | None = None, trace: str | None = None) -> None:
        """Ends every seed that still trains, the same way."""
        for s in self.running:
            self._end(s, step, status, reason, trace)

    def discard(self, reason: str) -> None:
        """Ends every seed that still trains as failed, and leaves nothing of it."""
        for s in reversed(self.running):  # the first made the folder around them
            self.endings[s] = f"failed: {reason}"
            self.logs[s].discard()

    def _save(self, s: int, state: Any, step: int) -> str | None:
        """Saves the policy of one seed, or returns the name of a tensor of it that is not finite."""
        values = checkpoint.seed_slice(state, s)
        bad = next((name for name, t in values.items() if not torch.isfinite(t).all()), None)
        if bad is None:
            self.logs[s].save(values, {**self.about, "seed": self.seeds[s], "step": step})
        return bad

    def _end(self, s: int, step: int, status: str, reason: str | None = None, trace: str | None = None, *, diverged: bool = False) -> None:
        failed = sum(ending.startswith("failed") for ending in self.endings)
        self.endings[s] = status if reason is None else f"{status}: {reason}"
        health = {**self.health, **({"failed_seeds": failed} if failed else {})}
        last = float(self.latest["eval/return"][s]) if "eval/return" in self.latest else math.nan
        result = {"status": status, "reason": reason, "step": step, "eval_return": last if math.isfinite(last) else None}
        spent = {"seconds": time.perf_counter() - self._started, "stack": len(self.seeds)}
        more = {"diverged": diverged, "health": health, "traceback": trace}
        with suppress(OSError):  # a disk that is full has been reported by what filled it
            self.logs[s].close(result | spent | {name: value for name, value in more.items() if value})
