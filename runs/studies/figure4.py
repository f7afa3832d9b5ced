"""Draws Figure 4 of Moskovitz et al. 2020: evolution strategies on a point, (a), and a quadruped, (b), before a U-shaped wall; and over
minutes, which Figure 5 is about.

    python -m wgf.runs.studies figure4 --name figure4
    python -m wgf.runs.studies figure4 --task quadruped --name quadruped    # 40 million steps of MuJoCo per method and seed

ES, BGES with beta 0.5 and 0.75, BG-WNES, WNES, NSR-ES with one centre and five, whose returns are the mean of all, and ES whose gradient
is clipped (by plain steps, since Adam divides a length out);
beside them BGES by Sinkhorn's distance, in the place of the published code's score.
Every run is one of `wgf compare`: it goes on where it was stopped, and a finished one is not trained again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from wgf.agents.tasks import TASKS
from wgf.agents.training.schedule import Schedule
from wgf.runs.command.options import Contest, Place, check_range, check_some
from wgf.runs.command.options import seeds as seeds_of
from wgf.runs.trainer import tables
from wgf.runs.trainer.compare import Curves, minutes, over_training_and_at_the_end, plan
from wgf.runs.trainer.evaluations import Plan, gather, planned, write_rows
from wgf.runs.trainer.figures import caption, figure, returns
from wgf.runs.trainer.statistics import COVERAGE, TESTS

__all__ = ["METHODS", "Method", "Options", "Scene", "main", "rows"]


class Scene(NamedTuple):
    """An environment, what a figure calls it, the steps of an episode, pairs per update, and settings of all methods."""

    env: str
    title: str
    horizon: int
    pairs: int
    settings: str


SCENES = {
    "point": Scene("wgf/PointWall-v0", "Point", TASKS["PointWall"].horizon, 50, ""),
    # App. D and the authors' code: 251 directions, of length 1 for 502 weights, so 0.045 per weight
    "quadruped": Scene("wgf/AntWall-v0", "Quadruped", 400, 251, ":hidden=64,64:lr=0.02:noise_std=0.045:embedding=reward_to_go"),
}


class Method(NamedTuple):
    """What a figure calls it, and its preset and settings, as in `wgf compare`."""

    title: str
    settings: str


METHODS = {
    "es": Method("ES", "preset=paper"),
    "bges": Method("BGES", "preset=bges"),
    "bg-wnes": Method("BG-WNES", "preset=bg-wnes"),
    "wnes": Method("WNES", "preset=wnes"),
    "bges-sinkhorn": Method("BGES, Sinkhorn", "preset=bges:guide=wasserstein"),
    "bges-75": Method("BGES, beta = 0.75", "preset=bges:guide_weight=0.75"),
    "nsr-es": Method("NSR-ES", "preset=nsr-es"),
    "nsr-es-5": Method("NSR-ES, five centres", "preset=nsr-es:centres=5"),
    "es-clip": Method("ES, clipped", "preset=paper:optimiser=sgd:lr=1.0:clip_norm=1.0"),
}
LOOKS = 20


@dataclass(frozen=True)
class Options:
    """Train evolution strategies before a wall, as in Figure 4 of Moskovitz et al. 2020."""

    task: Literal["point", "quadruped"] = "point"
    """What stands before the wall."""

    methods: tuple[str, ...] = tuple(METHODS)
    """Which methods, the first of which the others are compared with."""
    iterations: int = 200
    """Updates of each; a multiple of 20."""
    pairs: int = 0
    """Antithetic pairs of policies per update; 0: 50 of the point, 251 of the quadruped."""
    seeds: int = 5
    """Seeds per method, trained as one stack. The 95 % intervals are over seeds; with five they cover about 84 to 89 %."""
    first_seed: int = 0
    """The first seed; the others follow it."""
    known: Path | None = None
    """Evaluations that an earlier run of this command wrote: a CSV file. The seeds that it has are not trained again."""
    place: Place = field(default_factory=lambda: Place(name="figure4", threads=1))

    def __post_init__(self) -> None:
        if unknown := [name for name in self.methods if name not in METHODS]:
            raise ValueError(f"methods has {unknown[0]!r}; it may have {', '.join(METHODS)}")
        check_some(self, "methods")
        check_range(self, iterations=(LOOKS, None), pairs=(0, None))
        if self.iterations % LOOKS:
            raise ValueError(f"iterations is {self.iterations}; it must be a multiple of {LOOKS}")
        seeds_of(self.seeds, self.first_seed)

    @property
    def each(self) -> int:
        """Returns the environment steps of an update."""
        scene = SCENES[self.task]
        return 2 * (self.pairs or scene.pairs) * scene.horizon

    def plan(self, method: str) -> Plan:
        """Returns the training of a method: twenty looks at the centre, five episodes each."""
        scene, steps = SCENES[self.task], self.iterations * self.each
        schedule = Schedule(steps=steps, eval_every=steps // LOOKS, log_every=steps // LOOKS, eval_episodes=5)
        contest = Contest(("es",), scene.env, self.seeds, self.first_seed)
        settings = f"es:{METHODS[method].settings}:pairs={self.pairs or scene.pairs}{scene.settings}"
        return planned(plan(settings, contest, schedule, self.place), method)


def rows(curves: Sequence[Curves]) -> Sequence[tables.Row]:
    """Returns a line per method: the centre's return over training, at the end and at its best look, beside the first method's, and
    what it took."""
    cells = over_training_and_at_the_end(curves, curves[0].label)
    best = [", ".join(f"{value:.0f}" for value in c.evals.max(1)) for c in curves]
    return [
        {"method": c.label, **mine, "best look of each seed": looks, "minutes": minutes(c)}
        for c, mine, looks in zip(curves, cells, best, strict=True)
    ]


def main(options: Options, say: Callable[[str], None]) -> int:
    """Trains what is missing, then writes the table, every evaluation, and the figure; returns an exit code."""
    plans = {method: options.plan(method) for method in options.methods}
    code, curves = gather(plans, options.known, say)
    if code:
        return code
    folder = tables.writable(Path(options.place.out) / options.place.name)
    say(tables.write(folder / "figure4", rows(list(curves.values())), f"{COVERAGE} {TESTS}"))
    write_rows(folder / "evaluations.csv", zip(plans.values(), curves.values(), strict=True), options.known)
    timed = all(np.isfinite(c.seconds).all() for c in curves.values())  # Figure 5
    with figure(folder / "figure4.png", columns=1 + timed, note=caption(options.seeds), panel=(6.0, 5.0)) as axes:
        by_iterations, *by_minutes = axes[0]
        for c in curves.values():
            returns(by_iterations, c.steps / options.each, c.evals, METHODS[c.label].title)
            for axis in by_minutes:
                returns(axis, c.seconds / 60.0, c.evals, METHODS[c.label].title)
        by_iterations.set(title=f"{SCENES[options.task].title} before a U-shaped wall", xlabel="iterations", ylabel="return of the centre")
        for axis in by_minutes:
            axis.set(xlabel="minutes of training, all seeds of a stack together")
    say(f"table: {folder / 'figure4.md'} .csv .txt\nrows: {folder / 'evaluations.csv'}\nfigure: {folder / 'figure4.png'} .pdf")
    return 0
