"""Draws Figure 1 of Zhang et al. 2018: IP-WGF and SVPG, with REINFORCE and advantage actor-critic, on three tasks of rllab.

    python -m wgf.runs.studies figure1 --name figure1

Sixteen policies per seed, 5,000 samples per policy and iteration, temperatures 6 to 11 (Table 4; the captions of Tables 4 and 5 are
swapped). A finished run is not trained again, so several processes may share the work, each with its own --tasks. SVPG equals IP-WGF
without the W2 term to the last bit (a test checks it): it is the control.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from wgf.agents.training.schedule import Schedule
from wgf.runs.command.options import Contest, Place, check_range, check_some
from wgf.runs.command.options import seeds as seeds_of
from wgf.runs.trainer.compare import Curves, compare, plan, read
from wgf.runs.trainer.figures import caption, display, figure, returns
from wgf.runs.trainer.statistics import COVERAGE, bootstrap, improvement, iqm
from wgf.runs.trainer.tables import write_rows

ITERATIONS = {"CartPole": 100, "CartPoleSwingUp": 1000, "DoublePendulum": 1000}
LEARNING = {"REINFORCE": "1.0", "A2C": "0.0"}  # lambda of the advantages
AGENTS = ("svpg", "ip-wgf")
EACH = 16 * 5000  # environment steps per iteration and seed
LOOKS = 20


@dataclass(frozen=True)
class Options:
    """Train IP-WGF and SVPG on cart-pole, its swing-up and the double pendulum, as in Figure 1 of Zhang et al. 2018."""

    tasks: tuple[str, ...] = tuple(ITERATIONS)
    """Which tasks: CartPole, CartPoleSwingUp, DoublePendulum."""
    alphas: tuple[float, ...] = (6.0, 7.0, 8.0, 9.0, 10.0, 11.0)
    """Temperatures; each agent is trained with every one of them."""
    iterations: int = 1000
    """Largest number of iterations per task; the paper takes 100, 1,000 and 1,000."""
    seeds: int = 5
    """Seeds per agent, trained as one stack. The 95 % intervals are over seeds; with five they cover about 84 to 89 %."""
    first_seed: int = 0
    """The first seed; the others follow it."""
    place: Place = field(default_factory=lambda: Place(name="figure1", threads=1))

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.tasks) - set(ITERATIONS)):
            raise ValueError(f"tasks has {unknown[0]!r}; it may have {', '.join(ITERATIONS)}")
        check_some(self, "tasks", "alphas")
        check_range(self, iterations=(1, None))
        if wrong := [alpha for alpha in self.alphas if not 0.0 < alpha < math.inf]:
            raise ValueError(f"alphas has {wrong[0]}; it must be above 0")
        seeds_of(self.seeds, self.first_seed)

    def contest(self, task: str) -> tuple[Contest, Schedule]:
        """Returns what is compared on a task, and for how long."""
        tokens = [f"{agent}:lam={lam}:alpha={alpha:g}" for lam in LEARNING.values() for alpha in self.alphas for agent in AGENTS]
        steps = min(self.iterations, ITERATIONS[task]) * EACH
        schedule = Schedule(steps=steps, eval_every=steps // LOOKS, eval_episodes=2, log_every=steps // LOOKS)
        return Contest(tuple(tokens), f"wgf/{task}-v0", self.seeds, self.first_seed), schedule


Panel = dict[str, dict[float, Curves]]  # agent -> temperature -> curves


def panels(options: Options) -> dict[tuple[str, str], Panel]:
    """Reads the finished runs, by task and way of learning."""
    found: dict[tuple[str, str], Panel] = {}
    for task in options.tasks:
        contest, schedule = options.contest(task)
        jobs = iter([plan(token, contest, schedule, options.place) for token in contest.agents])
        for way in LEARNING:
            panel = found.setdefault((task, way), {agent: {} for agent in AGENTS})
            for alpha in options.alphas:
                for agent in AGENTS:
                    job = next(jobs)
                    panel[agent][alpha] = read(agent, [job.folder(seed) for seed in job.seeds])
    return found


def chosen(runs: dict[float, Curves]) -> float:
    """Returns the temperature with the best mean return over training; the rule is the same for every agent."""
    return max(runs, key=lambda alpha: float(runs[alpha].evals.mean()))


def rows(found: dict[tuple[str, str], Panel]) -> list[list[str]]:
    """Returns a line per panel and temperature: IQM over seeds of the returns over training and at the end, and P(IP-WGF better)."""
    lines = []
    for (task, way), panel in found.items():
        for alpha in panel[AGENTS[0]]:
            line = [task, way, f"{alpha:g}"]
            pair = [panel[agent][alpha].evals for agent in AGENTS]
            for part in ([e.mean(1) for e in pair], [e[:, -1] for e in pair]):
                line += [str(bootstrap(lambda x: float(iqm(x)), values)) for values in part]
                line.append(str(bootstrap(improvement, part[1], part[0])))
            best = "".join(f" {agent}" for agent in AGENTS if chosen(panel[agent]) == alpha)
            lines.append([*line, best.strip() or "-"])
    return lines


MEASURES = [f"{name}, {part}" for part in ("over training", "at the end") for name in (*AGENTS, "P(ip-wgf better)")]


def draw(found: dict[tuple[str, str], Panel], seeds: int, path: Path) -> None:
    """Draws a panel per task and way of learning: mean return of the sixteen policies, IQM and 95 % bootstrap band over seeds."""
    tasks = sorted({task for task, _ in found}, key=list(ITERATIONS).index)
    with figure(path, len(LEARNING), len(tasks), f"Mean return of sixteen policies; {caption(seeds)}") as axes:
        for (task, way), panel in found.items():
            ax, best = axes[list(LEARNING).index(way), tasks.index(task)], {agent: chosen(runs) for agent, runs in panel.items()}
            for agent, runs in panel.items():
                returns(ax, runs[best[agent]].steps / EACH, runs[best[agent]].evals, display(agent))
            temperatures = ", ".join(f"{display(agent)} {alpha:g}" for agent, alpha in best.items())
            ax.set(title=f"{task}, {way}\nalpha: {temperatures}", xlabel="iterations", ylabel="evaluation return")


def main(options: Options, say: Callable[[str], None]) -> int:
    """Trains what is missing, then writes figure1.csv and figure1.png; returns an exit code."""
    for task in options.tasks:
        if code := compare(*options.contest(task), options.place, say):
            return code
    found = panels(options)
    folder = Path(options.place.out) / options.place.name
    write_rows(folder / "figure1.csv", ["task", "learning", "alpha", *MEASURES, "drawn"], rows(found))
    draw(found, options.seeds, folder / "figure1.png")
    say(f"{folder / 'figure1.csv'}, {folder / 'figure1.png'}\n{COVERAGE}")
    return 0
