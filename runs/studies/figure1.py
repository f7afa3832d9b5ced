"""Draws Figure 1 of Zhang et al. 2018: IP-WGF and SVPG, with REINFORCE and advantage actor-critic, on three tasks of rllab.

    python -m wgf.runs.studies figure1 --name figure1
    python -m wgf.runs.studies figure1 --name figure1 --known evaluations.csv    # what that file lacks is trained, and joined to it

Sixteen policies per seed, 5,000 samples per policy and iteration. SVPG equals IP-WGF without the W2 term to the last bit (a test checks
it): it is the control, and sixteen policies that learn alone are SVPG's. Departs: each agent has the temperature that is best for it on
other seeds than those that are reported; the paper gives all the same one, of 6 to 11 (Table 4; the captions of Tables 4 and 5 are
swapped). A finished run is not trained again, so several processes may share the work, each with its own --tasks.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from wgf.agents.training.schedule import Schedule
from wgf.runs.command.options import Contest, Place, check_range, check_some
from wgf.runs.command.options import seeds as seeds_of
from wgf.runs.trainer import tables
from wgf.runs.trainer.compare import Curves, over_training_and_at_the_end, plan
from wgf.runs.trainer.evaluations import Plan, best, choices, gather, planned, sweep, write_rows
from wgf.runs.trainer.figures import caption, display, figure, returns
from wgf.runs.trainer.statistics import COVERAGE, TESTS

__all__ = ["ALONE", "FLOWS", "LEARNING", "Options", "draw", "grouped", "main", "rows"]

ITERATIONS = {"CartPole": 100, "CartPoleSwingUp": 1000, "DoublePendulum": 1000}
LEARNING = {"REINFORCE": "1.0", "A2C": "0.0"}  # lambda of the advantages
POLICIES, SAMPLES = 16, 5000  # of a seed; of a policy and iteration
ALONE, FLOWS = "pg", ("svpg", "ip-wgf")  # of ALONE one seed is one policy
LOOKS = 20


@dataclass(frozen=True)
class Options:
    """Train IP-WGF, SVPG and policies alone on cart-pole, its swing-up and the double pendulum, as in Figure 1 of Zhang et al. 2018."""

    tasks: tuple[str, ...] = tuple(ITERATIONS)
    """Which tasks: CartPole, CartPoleSwingUp, DoublePendulum."""
    alphas: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 6.0)
    """Temperatures that IP-WGF and SVPG choose from."""
    choosing: int = 3
    """Seeds on which each of the two chooses, by the mean return over the training; they follow those that are reported."""
    iterations: int = 1000
    """Largest number of iterations per task; the paper takes 100, 1,000 and 1,000."""
    seeds: int = 10
    """Seeds per agent that are reported, trained as one stack: of sixteen policies each."""
    first_seed: int = 0
    """The first seed; the others follow it."""
    known: Path | None = None
    """Evaluations that an earlier run of this command wrote: a CSV file. The seeds that it has are not trained again."""
    place: Place = field(default_factory=lambda: Place(name="figure1", threads=1))

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.tasks) - set(ITERATIONS)):
            raise ValueError(f"tasks has {unknown[0]!r}; it may have {', '.join(ITERATIONS)}")
        check_some(self, "tasks", "alphas")
        check_range(self, iterations=(1, None), choosing=(1, None), seeds=(2, None))
        if wrong := [alpha for alpha in self.alphas if not 0.0 < alpha < math.inf]:
            raise ValueError(f"alphas has {wrong[0]}; it must be above 0")
        seeds_of(max(POLICIES * self.seeds, self.seeds + self.choosing), self.first_seed)

    def plan(self, task: str, way: str, agent: str, alpha: float = 0.0, *, choosing: bool = False) -> Plan:
        """Returns a training of an agent, at a temperature where it has one, on the seeds of the report or on those for choosing."""
        alone = agent == ALONE
        steps = min(self.iterations, ITERATIONS[task]) * SAMPLES * (1 if alone else POLICIES)
        schedule = Schedule(steps=steps, eval_every=steps // LOOKS, eval_episodes=2, log_every=steps // LOOKS)
        first, seeds = (self.first_seed + self.seeds, self.choosing) if choosing else (self.first_seed, self.seeds)
        contest = Contest((agent,), f"wgf/{task}-v0", seeds * (POLICIES if alone else 1), first)
        job = plan(f"{agent}:lam={LEARNING[way]}" + ("" if alone else f":alpha={alpha:g}"), contest, schedule, self.place)
        return planned(job, job.label)


Panel = tuple[str, str]  # task, way of learning
Key = tuple[str, str, str]  # and agent


def grouped(alone: Curves) -> Curves:
    """Returns curves of the mean over each sixteen policies that learnt alone."""
    evals = alone.evals.reshape(-1, POLICIES, alone.evals.shape[-1]).mean(1)
    return alone._replace(evals=evals, steps=alone.steps * POLICIES)


def rows(found: dict[Panel, dict[str, Curves]], alphas: dict[Key, float]) -> list[tables.Row]:
    """Returns a line per panel and agent: returns over training and at the end, beside SVPG's."""
    lines: list[tables.Row] = []
    for panel, curves in found.items():
        cells = over_training_and_at_the_end(list(curves.values()), FLOWS[0])
        for agent, mine in zip(curves, cells, strict=True):
            alpha = "-" if agent == ALONE else f"{alphas[*panel, agent]:g}"
            lines.append({"task": panel[0], "learning": panel[1], "agent": agent, "alpha": alpha, **mine})
    return lines


def draw(found: dict[Panel, dict[str, Curves]], alphas: dict[Key, float], seeds: int, path: Path) -> None:
    """Draws a panel per task and way of learning: mean return of the sixteen policies, IQM and 95 % bootstrap band over seeds."""
    tasks = sorted({task for task, _ in found}, key=list(ITERATIONS).index)
    with figure(path, len(LEARNING), len(tasks), f"Mean return of sixteen policies; {caption(seeds)}") as axes:
        for (task, way), curves in found.items():
            ax = axes[list(LEARNING).index(way), tasks.index(task)]
            for agent, c in curves.items():
                returns(ax, c.steps / (POLICIES * SAMPLES), c.evals, display(agent))
            temperatures = ", ".join(f"{display(agent)} {alphas[task, way, agent]:g}" for agent in FLOWS)
            ax.set(title=f"{task}, {way}\nalpha: {temperatures}", xlabel="iterations", ylabel="evaluation return")


def main(options: Options, say: Callable[[str], None]) -> int:
    """Trains what is missing, then writes the table, the choices, every evaluation and the figure; returns an exit code."""
    keys = [(task, way, agent) for task in options.tasks for way in LEARNING for agent in FLOWS]
    early = {key: {alpha: options.plan(*key, alpha, choosing=True) for alpha in options.alphas} for key in keys}
    code, tried = sweep(early, options.known, say)
    if code:
        return code
    alphas = {key: best(runs) for key, runs in tried.items()}
    keys = [(task, way, agent) for task in options.tasks for way in LEARNING for agent in (*FLOWS, ALONE)]
    plans = {key: options.plan(*key, alphas.get(key, 0.0)) for key in keys}
    code, learnt = gather(plans, options.known, say)
    if code:
        return code
    found: dict[Panel, dict[str, Curves]] = {}
    for (task, way, agent), c in learnt.items():
        found.setdefault((task, way), {})[agent] = grouped(c) if agent == ALONE else c
    folder = tables.writable(Path(options.place.out) / options.place.name)
    say(tables.write(folder / "figure1", rows(found, alphas), f"{COVERAGE} {TESTS}"))
    head = ["task", "learning", "agent", "alpha", "return over training of each seed", "chosen"]
    tables.write_rows(folder / "choices.csv", head, choices(tried))
    trials = [(plan, tried[key][alpha]) for key, mine in early.items() for alpha, plan in mine.items()]
    write_rows(folder / "evaluations.csv", [*trials, *zip(plans.values(), learnt.values(), strict=True)], options.known)
    draw(found, alphas, options.seeds, folder / "figure1.png")
    say(f"table: {folder / 'figure1.md'} .csv .txt\nrows: {folder / 'evaluations.csv'}\nfigure: {folder / 'figure1.png'} .pdf")
    return 0
