"""The checkpoints of a training on a disk: everything that its next step depends on, so that a run that was killed goes on.

    training/training-STEP.json         what is not a tensor, and the names of the other files with their sha256; written last
    training/state-STEP.safetensors     every tensor but the replay's rows
    training/rows-STEP.safetensors      the rows that the replay stored since the checkpoint before

A checkpoint counts when its json is there and every sha256 fits. Two are kept; the newest whole one is taken.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from wgf.agents.training.checkpoint import read_sealed, read_tensors, write_sealed, write_tensors
from wgf.snapshot import Snapshot, joined, parted

__all__ = ["Saved", "Store"]

FORMAT, KEPT = 1, 2
NAME = re.compile(r"training-(\d+)\.json")
FILES = r"(state|rows)-\d+\.safetensors"


class Saved(NamedTuple):
    """A checkpoint: its step, its snapshot, and the pieces of the replay's rows, which are read one after another.

    ``damaged``: how many newer ones could not be used.
    """

    step: int
    snapshot: Snapshot
    pieces: Callable[[], Iterator[dict[str, Tensor]]]
    damaged: int = 0

    def check(self, folder: Path, kinds: Mapping[str, type]) -> None:
        """Raises ValueError, naming folder and part, where a part of the snapshot is not of its type."""
        for name, kind in kinds.items():
            if not isinstance(self.snapshot.get(name), kind):
                raise ValueError(f"{folder} holds another kind of checkpoint, or one of another version: its {name} is no {kind.__name__}")


class Store:
    """The checkpoints of one training in a folder, which is made with the first of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: list[dict[str, Any]] = []  # the pieces of the replay's rows so far

    def steps(self) -> list[int]:
        """Returns the steps of its checkpoints, the newest first, whole or not."""
        found = [NAME.fullmatch(path.name) for path in self.folder.glob("training-*.json")]
        return sorted((int(m[1]) for m in found if m), reverse=True)

    def save(self, step: int, snapshot: Snapshot, rows: dict[str, Tensor], fresh: bool) -> None:
        """Adds a checkpoint, then removes those that are too many.

        ``rows``: what the replay stored since the checkpoint before, or all that it holds where the training is ``fresh`` here, as
        ``Ring.rows`` returns it; {} where there is none.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors, facts = parted(snapshot)
        pieces = [] if fresh else list(self._rows)
        if rows:
            oldest = rows["oldest"].tolist()
            pieces = [piece for piece in pieces if any(last > old for last, old in zip(piece["last"], oldest, strict=True))]
            pieces.append({**write_tensors(self.folder / f"rows-{step}.safetensors", rows), "last": rows["last"].tolist()})
        state = write_tensors(self.folder / f"state-{step}.safetensors", tensors)
        about = {"format": FORMAT, "step": step, "state": state, "rows": pieces, "facts": facts}
        write_sealed(self.folder / f"training-{step}.json", about)
        self._rows = pieces
        self._prune(keep=[s for s in self.steps() if s <= step][:KEPT])

    def load(self, step: int) -> Saved:
        """Returns a checkpoint and makes it the one that is added to; later ones are removed.

        **Raises** ValueError, in one line, unless every file of it is whole.
        """
        about = self._about(step)
        state = read_tensors(self.folder, about["state"], FILES, f"training-{step}.json")
        try:
            snapshot = joined(state, about["facts"])
        except (AttributeError, TypeError):
            raise ValueError(f"{self.folder / about['state']['file']} has tensors whose names do not fit training-{step}.json") from None
        for piece in about["rows"]:  # all, before anything is believed
            read_tensors(self.folder, piece, FILES, f"training-{step}.json")
        self._rows = about["rows"]
        self._prune(keep=[s for s in self.steps() if s <= step])

        def pieces() -> Iterator[dict[str, Tensor]]:
            return (read_tensors(self.folder, piece, FILES, f"training-{step}.json") for piece in about["rows"])

        return Saved(step, snapshot, pieces)

    def _about(self, step: int) -> dict[str, Any]:
        path, kinds = self.folder / f"training-{step}.json", {"step": int, "state": dict, "rows": list, "facts": dict}
        about = read_sealed(path, lambda found: found.get("format") == FORMAT, f"a checkpoint of format {FORMAT}")
        whole = all(isinstance(about.get(name), kind) for name, kind in kinds.items()) and about["step"] == step
        if not whole or not all(isinstance(part, dict) and isinstance(part.get("file"), str) for part in (about["state"], *about["rows"])):
            raise ValueError(f"{path} is not a checkpoint of step {step}: it was not written by wgf")
        return about

    def _prune(self, keep: list[int]) -> None:
        """Removes every other checkpoint, then the files that none of those kept names, and what a dead process left half-written."""
        needed = {f"training-{step}.json" for step in keep}
        for path in self.folder.iterdir():
            if NAME.fullmatch(path.name) and path.name not in needed:
                path.unlink()
        for step in keep:
            with suppress(ValueError):  # damaged: nothing of it can be used
                about = self._about(step)
                needed |= {part["file"] for part in (about["state"], *about["rows"])}
        for path in self.folder.iterdir():
            if path.name not in needed and (re.fullmatch(FILES, path.name) or path.name.endswith(".tmp")):
                path.unlink()
