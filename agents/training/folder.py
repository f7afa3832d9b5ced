"""The folder of a training: seed-K with the log and the policy of each seed, and in the first seed's the checkpoints of the stack."""

import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wgf.agents.training.checkpoint import read_sealed
from wgf.agents.training.log import LOCK, NoLog, RunLog, being_written
from wgf.agents.training.loop import Keeper
from wgf.agents.training.record import Record
from wgf.agents.training.store import Saved, Store
from wgf.shown import shown

__all__ = ["SNAPSHOT", "checkpoints", "difference", "free", "identity", "newest", "opened", "resumable", "seed_folder"]

SNAPSHOT = {"seeds": list, "compile": bool, "assessing": bool} | dict.fromkeys(("about", "state", "streams", "memory", "record"), dict)
FREE = ("steps", "checkpoint_every", "step_limit")  # of a schedule: a training that goes on may change them


def seed_folder(log: Path, seed: int) -> Path:
    """Returns the folder of one seed."""
    return log / f"seed-{seed}"


def free(folder: Path) -> bool:
    """Says whether nothing is there that a new run would harm."""
    return not folder.is_dir() or all(path.name == LOCK for path in folder.iterdir())


def checkpoints(log: Path, seeds: Sequence[int]) -> Store:
    """Returns the place of the checkpoints of a stack."""
    return Store(seed_folder(log, seeds[0]) / "training")


def newest(store: Store) -> Saved:
    """Returns the newest whole checkpoint, with a RuntimeWarning for each that is damaged. Raises ValueError where there is none."""
    for damaged, step in enumerate(steps := store.steps()):
        try:
            return store.load(step)._replace(damaged=damaged)
        except ValueError as error:
            warnings.warn(f"checkpoint {step} cannot be used: {error}", RuntimeWarning, stacklevel=2)
    raise ValueError(f"{store.folder} holds no {'whole ' if steps else ''}checkpoint: train again in another folder")


def resumable(log: Path, seeds: Sequence[int], about: Mapping[str, Any], compile: bool | str) -> tuple[Store, Saved]:
    """Returns the checkpoints in a folder, and the newest, which becomes the last: no other process may write there.

    **Raises** ValueError where one does, and unless the checkpoint is of these seeds and of what ``about`` says.
    """
    if being_written(seed_folder(log, seeds[0])):
        raise ValueError(f"{log} is being written by another process; wait for it")
    saved = newest(store := checkpoints(log, seeds))
    saved.check(store.folder, SNAPSHOT)
    held = saved.snapshot
    if held["seeds"] != list(seeds):
        raise ValueError(f"{log} holds seeds {', '.join(map(str, held['seeds']))} as one stack, which goes on as a whole: give these seeds")
    want = {**identity(about), "compile": held["compile"] if compile == "auto" else compile}
    if other := difference(want, {**held["about"], "compile": held["compile"]}):
        raise ValueError(f"{log} holds a run with {other}: give the same settings, or another folder")
    return store, saved


def opened(
    log: Path | None,
    seeds: Sequence[int],
    about: Mapping[str, Any],
    where: Mapping[str, Any],
    keeper: Keeper | None,
    step: int,
    continues: bool,
    choices: Mapping[str, Sequence[Any]],
    *,
    writes: bool = True,
) -> tuple[Record, Keeper]:
    """Opens the logs of a training: those that ``keeper`` kept until this ``step``, where they are this folder's, else new ones.

    ``about`` is what is saved with each policy, ``where`` what config.json says besides; ``continues``: whether there may be checkpoints;
    ``choices``: the values of the settings that have few. Of several ranks the first alone ``writes``; the others keep the same record.

    **Raises** ValueError for a folder that holds another run, or cannot be written.
    """
    if log is None:
        return Record([NoLog() for _ in seeds], seeds, about), Keeper(None)
    folders, store = [seed_folder(log, seed) for seed in seeds], checkpoints(log, seeds)
    last = keeper.last if keeper is not None and keeper.store is not None and keeper.store.folder == store.folder else None
    goes_on = last is not None and last["step"] == step and (not writes or any(last["record"]["logs"].values()))
    if not writes:
        record = Record([NoLog() for _ in seeds], seeds, about)
        if last is not None and goes_on:
            record.restore(last["record"])
        return record, keeper if keeper is not None and goes_on else Keeper(store if continues else None, writes=False)
    logs: list[RunLog | NoLog] = []
    try:
        if keeper is None or last is None or not goes_on:
            if taken := next((folder for folder in folders if not free(folder)), None):
                raise ValueError(f"{taken} already holds a run; write to another folder, or move it away")
            now = {**where, "started": _now()}
            logs += (RunLog(folder, {**about, "seed": seed, **now}, choices=choices) for folder, seed in zip(folders, seeds, strict=True))
            return Record(logs, seeds, about), Keeper(store if continues else None)
        before = last["record"]
        for s, (folder, seed) in enumerate(zip(folders, seeds, strict=True)):
            logs.append(_reopened(folder, {**about, "seed": seed, **where}, before["logs"].get(str(s)), step))
    except OSError as error:
        for half in reversed(logs):
            half.discard()
        raise ValueError(f"{error.filename} cannot be written: {error.strerror}; write to another folder") from None
    record = Record(logs, seeds, about)
    record.restore(before)
    return record, keeper


def _reopened(folder: Path, settings: Mapping[str, Any], position: Mapping[str, Any] | None, step: int) -> RunLog | NoLog:
    """Opens a log that goes on; none for a seed that had ended by itself."""
    if position is None:
        return NoLog()
    old = read_sealed(folder / "config.json")
    if change := difference({k: settings[k] for k in ("versions", "threads", "system")}, old):
        warnings.warn(f"{folder} was begun with {change}: its numbers may differ from a run without a break", RuntimeWarning, stacklevel=3)
    return RunLog(folder, {**settings, "started": old.get("started"), "continued": [*old.get("continued", []), _now()]}, position, step)


def difference(want: Mapping[str, Any], have: Mapping[str, Any], path: str = "") -> str | None:
    """Names the first setting in which ``have`` is not as wanted, as in "schedule.warmup = 100, not 200"; None where there is none."""
    for key, value in want.items():
        other = have.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            if inner := difference(value, other, f"{path}{key}."):
                return inner
        elif value != other:
            return f"{path}{key} = {shown(other)}, not {shown(value)}"
    return None


def identity(about: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what makes two trainings the same experiment, of what is said about them: not the versions, nor how long they are."""
    fixed = {name: value for name, value in about["schedule"].items() if name not in FREE}
    kept = ("agent", "preset", "env", "own", "backend", "nets", "config", "obs_size", "action_size")
    return {name: about[name] for name in kept if name in about} | {"schedule": fixed}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
