"""Draws Figure 2 of Moskovitz et al. 2020, and Table 1: natural and penalised policy gradients beside PPO on six tasks.

    python -m wgf.runs.studies figure2 --name figure2
    python -m wgf.runs.studies figure2 --tasks Hopper --steps 100000 --name short
    python -m wgf.runs.studies figure2 --name figure2 --known evaluations.csv    # what that file lacks is trained, and joined to it

Each method has the step size that is best for it, of the paper's four, on other seeds than those that are reported. All normalise
observations and rewards. The paper's tasks are Roboschool's and Gym's of 2018, here Gymnasium's v5, so that orders compare and numbers
hardly do. A finished run is not trained again, so several processes may share the work, each with its own --tasks.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from wgf.agents.training.schedule import Schedule
from wgf.runs.command.options import Contest, Place, check_range, check_some
from wgf.runs.command.options import seeds as seeds_of
from wgf.runs.trainer import tables
from wgf.runs.trainer.compare import Curves, minutes, over_training_and_at_the_end, plan
from wgf.runs.trainer.evaluations import Plan, best, choices, gather, planned, sweep, write_rows
from wgf.runs.trainer.figures import caption, figure, returns
from wgf.runs.trainer.statistics import COVERAGE, TESTS

__all__ = ["METHODS", "TASKS", "Learnt", "Method", "Options", "draw", "main", "rows", "train"]

TASKS = {  # the paper's final return of each method, mean over 5 seeds
    "Walker2d": (516.47, 529.60, 652.53, 683.38, 739.51),
    "HalfCheetah": (1412.57, 1334.27, 1668.75, 1655.04, 1817.68),
    "Ant": (1627.01, 1566.63, 1735.98, 1844.14, 2072.56),
    "Reacher": (-0.37, -6.46, 0.46, 2.13, 4.37),
    "InvertedDoublePendulum": (4401.24, 3964.51, 6526.48, 6740.96, 7254.98),
    "Hopper": (1890.12, 1816.58, 1934.43, 2235.23, 2439.56),
}


class Method(NamedTuple):
    """What the paper calls it, and agent, preset and settings as in `wgf compare`."""

    title: str
    settings: str


METHODS = {
    "ppo": Method("PPO (Clip)", "ppo:preset=paper"),
    "none": Method("None", "wnpg:preset=paper:metric=none"),
    "bgpg": Method("BGPG", "wnpg:preset=bgpg"),
    "wnpg": Method("WNPG", "wnpg:preset=paper"),
    "bg-wnpg": Method("BG-WNPG", "wnpg:preset=bg-wnpg"),
}
LOOKS = 20
Key = tuple[str, str]  # task, method


class Learnt(NamedTuple):
    """The trainings by task and method: those that chose a step size, what each tried and chose, and those that are reported."""

    early: dict[Key, dict[float, Plan]]
    tried: dict[Key, dict[float, Curves]]
    lrs: dict[Key, float]
    plans: dict[Key, Plan]
    curves: dict[Key, Curves]


@dataclass(frozen=True)
class Options:
    """Train natural and penalised policy gradients and PPO, as in Figure 2 and Table 1 of Moskovitz et al. 2020."""

    tasks: tuple[str, ...] = tuple(TASKS)
    """Which tasks of Gymnasium, without their version, v5."""
    methods: tuple[str, ...] = tuple(METHODS)
    """Which methods, the first of which the others are compared with."""
    lrs: tuple[float, ...] = (1e-5, 5e-5, 1e-4, 3e-4)
    """Step sizes that each method chooses from; of one there is no choice, and nothing is trained for it."""
    choosing: int = 2
    """Seeds on which each chooses, by the mean return over the training; they follow those that are reported."""
    steps: int = 1_000_000
    """Environment steps per seed."""
    seeds: int = 5
    """Seeds per method that are reported, trained as one stack."""
    first_seed: int = 0
    """The first seed; the others follow it."""
    known: Path | None = None
    """Evaluations that an earlier run of this command wrote: a CSV file. The seeds that it has are not trained again."""
    place: Place = field(default_factory=lambda: Place(name="figure2", threads=1))

    def __post_init__(self) -> None:
        for name, known in (("tasks", TASKS), ("methods", METHODS)):
            if unknown := sorted(set(getattr(self, name)) - set(known)):
                raise ValueError(f"{name} has {unknown[0]!r}; it may have {', '.join(known)}")
        check_some(self, "tasks", "methods", "lrs")
        check_range(self, steps=(LOOKS, None), choosing=(1, None))
        seeds_of(self.seeds + self.choosing, self.first_seed)

    def plan(self, key: Key, lr: float, *, choosing: bool = False) -> Plan:
        """Returns a training of a method on a task at a step size, on the seeds of the report or on those for choosing."""
        task, method = key
        schedule = Schedule(steps=self.steps, eval_every=self.steps // LOOKS, eval_episodes=5, normalize="both")
        first, seeds = (self.first_seed + self.seeds, self.choosing) if choosing else (self.first_seed, self.seeds)
        job = plan(f"{METHODS[method].settings}:lr={lr:g}", Contest((method,), f"{task}-v5", seeds, first), schedule, self.place)
        return planned(job, job.label)


def rows(found: dict[str, dict[str, Curves]], lrs: dict[Key, float]) -> list[tables.Row]:
    """Returns a line per task and method: returns over training and at the end beside those of the first method, the time that they took,
    which Figure 5 is about, and the paper's."""
    lines: list[tables.Row] = []
    for task, curves in found.items():
        cells = over_training_and_at_the_end(list(curves.values()), METHODS[next(iter(curves))].title)
        published = dict(zip(METHODS, TASKS[task], strict=True))
        for method, mine in zip(curves, cells, strict=True):
            about = {"task": task, "method": METHODS[method].title, "lr": f"{lrs[task, method]:g}"}
            lines.append({**about, **mine, "minutes": minutes(curves[method]), "published": f"{published[method]:,.2f}"})
    return lines


def draw(found: dict[str, dict[str, Curves]], seeds: int, path: Path) -> None:
    """Draws a panel per task, three in a row: the IQM of each method's returns and its 95 % bootstrap band over seeds."""
    columns = min(len(found), 3)
    with figure(path, -(-len(found) // columns), columns, caption(seeds)) as axes:
        for axis, (task, curves) in zip(axes.flat, found.items(), strict=False):
            for method, c in curves.items():
                returns(axis, c.steps, c.evals, METHODS[method].title)
            axis.set(title=f"{task}-v5", xlabel="environment steps per seed", ylabel="evaluation return")
        for axis in axes.flat[len(found) :]:
            axis.set_axis_off()


def train(options: Options, say: Callable[[str], None]) -> tuple[int, Learnt | None]:
    """Trains what is missing, first to choose step sizes; returns an exit code and, where it is 0, what was learnt."""
    keys = [(task, method) for task in options.tasks for method in options.methods]
    choice = options.lrs if len(options.lrs) > 1 else ()
    early = {key: {lr: options.plan(key, lr, choosing=True) for lr in choice} for key in keys}
    code, tried = sweep(early, options.known, say)
    if code:
        return code, None
    lrs = {key: best(tried[key]) if tried else options.lrs[0] for key in keys}
    plans = {key: options.plan(key, lrs[key]) for key in keys}
    code, curves = gather(plans, options.known, say)
    return code, None if code else Learnt(early, tried, lrs, plans, curves)


def main(options: Options, say: Callable[[str], None]) -> int:
    """Trains what is missing, then writes the table, the choices, every evaluation and the figure; returns an exit code."""
    code, learnt = train(options, say)
    if learnt is None:
        return code
    found: dict[str, dict[str, Curves]] = {}
    for (task, method), c in learnt.curves.items():
        found.setdefault(task, {})[method] = c
    folder = tables.writable(Path(options.place.out) / options.place.name)
    say(tables.write(folder / "figure2", rows(found, learnt.lrs), f"{COVERAGE} {TESTS}"))
    tables.write_rows(
        folder / "choices.csv", ["task", "method", "lr", "return over training of each seed", "chosen"], choices(learnt.tried)
    )
    trials = [(plan, learnt.tried[key][lr]) for key, mine in learnt.early.items() for lr, plan in mine.items()]
    write_rows(folder / "evaluations.csv", [*trials, *zip(learnt.plans.values(), learnt.curves.values(), strict=True)], options.known)
    draw(found, options.seeds, folder / "figure2.png")
    say(f"table: {folder / 'figure2.md'} .csv .txt\nrows: {folder / 'evaluations.csv'}\nfigure: {folder / 'figure2.png'} .pdf")
    return 0
