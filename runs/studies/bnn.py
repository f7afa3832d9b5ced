"""Bayesian regression on the standard sets: fits what is missing, all splits of a set at once, then a table, a CSV file and pictures."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.special import ndtr

from wgf import ranks
from wgf.agents.training import machine
from wgf.agents.training.checkpoint import digest, read_sealed, write_sealed
from wgf.agents.training.folder import difference
from wgf.bnn import Settings, data
from wgf.bnn.fit import Course, Fit, dev_size, room
from wgf.bnn.flows import FLOWS
from wgf.bnn.model import deviation
from wgf.ranks import Group
from wgf.runs.command.answers import STOPPED
from wgf.runs.command.options import Study as Options
from wgf.runs.command.progress import Progress
from wgf.runs.command.signals import stop_signals
from wgf.runs.command.tokens import override
from wgf.runs.studies import bnn_report, bnn_toy
from wgf.runs.studies.bnn_diary import ELSEWHERE, HEARD, KEPT, Diary, opened
from wgf.runs.studies.bnn_report import PREDICTIONS, SCORES
from wgf.runs.trainer.reuse import locked
from wgf.runs.trainer.shared import spoken
from wgf.runs.trainer.tables import write_rows
from wgf.shards import ALONE, Shards

__all__ = [
    "SCORES", "Task", "described", "finished", "fitted", "held", "main", "measures", "plan", "planned", "predicted", "run", "scored",
    "sets_folder", "written",
]  # fmt: skip

VARIABLE = "WGF_DATA"
PROMISE = "this fit is saved after this step, then the study stops"
W2 = ("w2", "w2_scale", "inner_steps")  # the settings of WGF's W2 term


class Task(NamedTuple):
    """One method on one set: its splits are one computation."""

    label: str
    name: str
    settings: Settings
    splits: int
    seed: int
    folder: Path

    def identity(self) -> dict[str, Any]:
        """What makes two fits the same, as JSON would give it back."""
        about = {"set": self.name, "splits": self.splits, "seed": self.seed, "settings": asdict(self.settings)}
        return json.loads(json.dumps(about))  # type: ignore[no-any-return]


def main(study: Options, say: Callable[[str], None]) -> int:
    """Fits what is missing and reports; 75 where a person stopped it. Raises ValueError for what cannot be meant, OSError for a disk.

    With ``shards`` the first rank alone writes and reports, and says what all of them cannot carry out.
    """
    if not study.shards:
        return fitted(study, Group(), say)
    torch.set_num_threads(study.threads)

    def together() -> int:
        group = ranks.joined(machine.find_device(study.device))
        return fitted(study, group, say if group.rank == 0 else lambda line: None)

    return spoken(together)


def fitted(study: Options, group: Group, say: Callable[[str], None]) -> int:
    """Fits what is missing and reports, on the ranks of a group."""
    folder, tasks, device = group.together(lambda: planned(study))
    place = Path(study.out) / study.name
    torch.set_num_threads(study.threads)
    with held(place, group), stop_signals(PROMISE, muted=group.rank > 0) as stopping, machine.tuned(keeps=group.size == 1):
        complete = group.first(lambda: all([finished(task) for task in tasks]))
        for task in tasks:
            if not group.first(lambda task=task: finished(task)):  # type: ignore[misc]
                rows = group.together(lambda task=task: data.load(folder, task.name))  # type: ignore[misc]
                if not run(task, rows, device, say, stopping, compile=study.compile, group=group):
                    if group.rank == 0:
                        print(f"wgf: {task.folder} stopped; the same command goes on from here", file=sys.stderr)
                    return STOPPED
            if group.rank == 0:
                shutil.rmtree(task.folder / KEPT, ignore_errors=True)  # a fit that is whole needs no checkpoint
        if group.rank == 0:
            if not complete or not (place / "toy.png").exists():
                bnn_toy.draw({task.label: task.settings for task in tasks}, study.seed, place / "toy.png")
            say(bnn_report.write(place, [(task.name, task.label, task.folder) for task in tasks], tuned=study.tuned))
    return 0


def planned(study: Options) -> tuple[Path, list[Task], torch.device]:
    """Where the sets are, what is to be fitted, and on which device."""
    folder = sets_folder(study.data)
    tasks = list(dict.fromkeys(plan(study, name, token) for name in study.sets for token in study.methods))
    if not tasks:
        raise ValueError("name at least one set and one method, as in --sets boston --methods svgd wgf")
    return folder, tasks, machine.find_device(study.device)


@contextmanager
def held(place: Path, group: Group) -> Iterator[None]:
    """The lock of the study's folder, which the first rank holds for all."""
    with ExitStack() as stack:
        group.together(lambda: stack.enter_context(locked(place)) if group.rank == 0 else None)
        yield


def plan(study: Options, name: str, token: str) -> Task:
    """The task of "METHOD:field=value:..." on a set, with that set's network and minibatch. WGF without its W2 term is SVGD's own fit."""
    if name not in data.SETS:
        raise ValueError(f"set {name!r} is unknown; choose from {', '.join(data.SETS)}")
    about, (flow, *changes) = data.SETS[name], token.split(":")
    if not 0 <= study.splits <= about.splits:
        raise ValueError(f"splits is {study.splits}; {name} has {about.splits}, and 0 takes them all")
    base = Settings(hidden=(about.hidden,), batch=about.batch, iterations=study.iterations, particles=study.particles)
    if flow not in FLOWS:
        raise ValueError(f"method {flow!r} is unknown; choose from {', '.join(FLOWS)}")
    settings = override(replace(base, flow=flow), changes)  # type: ignore[arg-type]  # one of its literals, seen above
    label = token.replace(":", ",")
    if flow == "wgf" and settings.w2_scale == 0.0:
        others = [change for change in changes if change.split("=")[0] not in W2]
        return plan(study, name, ":".join(["svgd", *others]))._replace(label=label)
    return Task(label, name, settings, study.splits or about.splits, study.seed, Path(study.out) / study.name / name / label)


def finished(task: Task) -> bool:
    """Whether the folder holds this very fit, whole. Raises ValueError where it holds another."""
    if not (task.folder / "result.json").exists():
        return False
    if different := difference(task.identity(), read_sealed(task.folder / "config.json")):
        raise ValueError(f"{task.folder} holds a fit with {different}; give another --name or --out")
    return True


def run(
    task: Task,
    rows: data.Rows,
    device: torch.device,
    say: Callable[[str], None],
    stopping: Callable[[], bool],
    *,
    compile: bool,
    group: Group,
) -> bool:
    """Fits all splits side by side, from where they were left, and writes curves, scores and predictions.

    False where it was stopped: then there is a checkpoint, and nothing else counts. Several ranks share the particles out; one hears
    every ``HEARD`` steps whether another was stopped.
    """
    shards = ALONE if group.size == 1 else Shards.even(group, task.settings.particles)
    splits = data.splits(task.name)[: task.splits]
    parts = rows.x, rows.y[:, None]  # one output
    train, test = ([torch.from_numpy(np.stack([part[s[k]] for s in splits])).to(device) for part in parts] for k in (0, 1))
    group.together(lambda: room(task.settings, train[0], train[1], group.size))
    dev = [part[:, -dev_size(part.shape[1]) :] for part in train]
    seeds = [1000 * task.seed + s for s in range(len(splits))]
    about = described(task, rows, device, compile, group)
    make = partial(Course, task.settings, train[0], train[1], seeds, compile=compile, shards=shards)
    course, diary = opened(task.folder, about, make, group)
    note = "  ".join(f"{word} -" for word in SHOWN)
    if course.step:
        say(f"{task.name} {task.label} goes on from iteration {course.step:,}")

    def tick(step: int) -> None:
        if step % HEARD == 0 or group.size == 1:
            stop, due = group.either(stopping(), diary.due())
            if stop or due:
                diary.keep()
            if stop:
                raise KeyboardInterrupt
        progress.show(step, note)

    def look(step: int, now: Fit) -> None:
        nonlocal note
        scores, parts = measures(now, dev, test), now.model.parts(now.particles)
        scores |= {"log_lambda": parts.log_lam.mean(-1), "weights": parts.weights.square().sum(-1).mean(-1), "spread": now.spread()}
        diary.look(step, scores)
        note = "  ".join(f"{word} {scores[tag].mean():.3f}" for word, tag in SHOWN.items())

    try:
        with Progress(f"{task.name} {task.label}", task.settings.iterations, first=course.step, muted=group.rank > 0) as progress:
            found = course.run(look, tick)
    except KeyboardInterrupt:
        return False
    except FloatingPointError as error:
        raise ValueError(f"{task.name} {task.label}: {error}") from None
    finally:
        diary.close()
    if isinstance(diary, Diary):
        written(task, found, diary, rows, dev, test)
    return True


def described(task: Task, rows: data.Rows, device: torch.device, compile: bool, group: Group) -> dict[str, Any]:
    """What config.json says of a fit. Raises ValueError where the ranks of a group have other data or another commit."""
    about = {**task.identity(), **machine.about(device, torch.get_num_threads()), "compile": compile, "versions": machine.versions()}
    about |= {"data": sha256(np.column_stack(rows).tobytes()).hexdigest()} | ({"ranks": group.size} if group.size > 1 else {})
    group.agree({name: value for name, value in about.items() if name not in ELSEWHERE})
    return about


def written(task: Task, found: Fit, diary: Diary, rows: data.Rows, dev: list[Tensor], test: list[Tensor]) -> None:
    """Writes curves, scores and predictions of a fit, and last of all that it is whole."""
    seconds = diary.seconds
    write_rows(task.folder / "curves.csv", ["step", "measure", "split", "value"], diary.rows())
    copies = np.array([data.repeated(rows, s) for s in data.splits(task.name)[: task.splits]])
    write_rows(task.folder / "splits.csv", ["split", *SCORES], scored(found, dev, test, torch.from_numpy(copies).to(test[0].device)))
    write_rows(task.folder / "predictions.csv", PREDICTIONS, predicted(found, *test))
    files = {name: digest(task.folder / name) for name in bnn_report.FILES}
    about = {"seconds": seconds, "splits": task.splits, "iterations": task.settings.iterations, "files": files}
    write_sealed(task.folder / "result.json", about)


SHOWN = {"rmse": "rmse", "log-likelihood": "log_likelihood", "dev": "dev_log_likelihood"}  # beside the progress


def measures(now: Fit, dev: list[Tensor], test: list[Tensor]) -> dict[str, Tensor]:
    """Scores of each split, (S,)."""
    return {
        "rmse": now.rmse(*test),
        "log_likelihood": now.log_likelihood(*test),
        "dev_rmse": now.rmse(*dev),
        "dev_log_likelihood": now.log_likelihood(*dev),
    }


def scored(found: Fit, dev: list[Tensor], test: list[Tensor], copies: Tensor) -> list[list[float]]:
    """Returns a row per split; the last two scores are without the test rows that occur in the train part."""
    unseen = ~copies
    columns = measures(found, dev, test)
    error = (found.predict(test[0]).mean(1) - test[1]).square()[..., 0]
    columns["rmse_unseen"] = ((error * unseen).sum(-1) / unseen.sum(-1)).sqrt()
    columns["log_likelihood_unseen"] = (found.log_densities(*test) * unseen).sum(-1) / unseen.sum(-1)
    return [[s, *(columns[name][s].item() for name in SCORES)] for s in range(len(copies))]


def predicted(found: Fit, x: Tensor, y: Tensor) -> list[list[float]]:
    """Returns a row per test row: split, target, predictive mean and deviation, and the predictive probability of less than the target."""
    f, noise = found.predict(x), torch.exp(-0.5 * found.log_gamma)[:, :, None]
    below = ndtr((y[:, None] - f) / noise).mean(1)
    columns = [t.flatten().tolist() for t in (y, f.mean(1), deviation(f, found.log_gamma), below)]
    split = [s for s in range(len(y)) for _ in range(y.shape[1])]
    return [list(row) for row in zip(split, *columns, strict=True)]


def sets_folder(given: Path | None) -> Path:
    """Returns the folder of the sets: what is given, or what WGF_DATA names. Raises ValueError where there is none."""
    named = given or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    if named is None:
        raise ValueError(f"data is not given; name the folder that holds boston/data.txt and so on by --data or {VARIABLE}")
    if not named.is_dir():
        raise ValueError(f"data is {str(named)!r}, which is not a folder; give the one that holds boston/data.txt and so on")
    return named
