"""Tables of MuJoCo tasks beside published ones: the agents of Zhang et al. 2018, Table 2, and those on the strong critic.

    python -m wgf.runs.studies mujoco --table paper     # DP-WGF-V, SAC, TRPO and DDPG on four tasks, the paper's settings
    python -m wgf.runs.studies mujoco --table strong    # five tasks, 1,000,000 steps, four environments per seed: for a GPU

Every run is one of `wgf compare`: it goes on where it was stopped, and a finished one is not trained again. The paper's tasks are those of
rllab and Gym v1, FlashSAC's numbers (Kim et al. 2026, means of five seeds) those of Gym v4: other simulators than Gymnasium's v5, so that
orders compare and numbers hardly do.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from wgf.agents.training.schedule import Schedule
from wgf.runs.command.options import Contest, Place, check_range, check_some
from wgf.runs.command.options import seeds as seeds_of
from wgf.runs.trainer import tables
from wgf.runs.trainer.compare import THRESHOLDS, Curves, plan, read, table
from wgf.runs.trainer.figures import caption, display, figure, returns
from wgf.runs.trainer.reuse import complete
from wgf.runs.trainer.statistics import COVERAGE
from wgf.runs.trainer.training import Job


class Table(NamedTuple):
    """Which tasks and agents, with which preset and settings, for how long, and what is published of them."""

    tasks: tuple[str, ...]
    agents: tuple[str, ...]
    settings: str
    steps: int
    warmup: int
    published: dict[str, dict[str, str]]  # agent, or "best known" -> task -> words


TABLES = {
    # best average return / episodes to the threshold of ``THRESHOLDS``
    "paper": Table(
        ("Swimmer-v5", "Hopper-v5", "Walker2d-v5", "Humanoid-v5"),
        ("dp-wgf-v", "sac", "trpo", "ddpg"),
        "preset=paper",
        1_000_000,
        1_000,
        {
            "dp-wgf-v": {
                "Swimmer": "181.60 / 76",
                "Hopper": "3,248.76 / 678",
                "Walker2d": "4,978.59 / 2,289",
                "Humanoid": "3,077.84 / 18,740",
            },
            "sac": {"Swimmer": "180.83 / 112", "Hopper": "3,146.51 / 736", "Walker2d": "4,255.05 / 2,388", "Humanoid": "2,212.51 / 26,476"},
            "trpo": {"Swimmer": "110.58 / 433", "Hopper": "2,604 / 1,749", "Walker2d": "3,497.81 / 3,020", "Humanoid": "5,411.15 / 32,261"},
            "ddpg": {"Swimmer": "49.57 / -", "Hopper": "1,317 / -", "Walker2d": "2,138.42 / -", "Humanoid": "2,230.60 / 34,652"},
        },
    ),
    "strong": Table(
        ("Hopper-v5", "Walker2d-v5", "HalfCheetah-v5", "Ant-v5", "Humanoid-v5"),
        ("sac", "wgf-sac", "wgf-sac:kl=density", "wgf-sac:w2_scale=0.4:w2_radius=0.1"),
        "preset=strong:envs=4",
        1_000_000,
        10_000,
        {"sac": {"Hopper": "4,064", "Walker2d": "7,346", "HalfCheetah": "14,465", "Ant": "7,590", "Humanoid": "12,606"}},
    ),
}


@dataclass(frozen=True)
class Options:
    """Train the agents of a table on its MuJoCo tasks, and write it beside the published one."""

    table: Literal["paper", "strong"] = "paper"
    """paper: Table 2 of Zhang et al. 2018. strong: SAC and WGF-SAC with the critic of FlashSAC, which takes a GPU."""
    tasks: tuple[str, ...] = ()
    """Some of the table's tasks; by default all."""
    agents: tuple[str, ...] = ()
    """Agents, as in `wgf compare`; by default the table's."""
    settings: str = ""
    """What all agents have in common, a preset and settings with colons between; by default the table's."""
    steps: int = 0
    """Environment steps per seed; 0: as many as the table has."""
    warmup: int = -1
    """Steps of uniform actions before the first update; -1: as many as the table has."""
    seeds: int = 5
    """Seeds per agent, trained as one stack."""
    first_seed: int = 0
    """The first seed; the others follow it."""
    place: Place = field(default_factory=lambda: Place(name="mujoco", threads=1))

    def __post_init__(self) -> None:
        known = TABLES[self.table].tasks
        if unknown := sorted(set(self.tasks) - set(known)):
            raise ValueError(f"tasks has {unknown[0]!r}; it may have {', '.join(known)}")
        for name in ("tasks", "agents"):
            if getattr(self, name):
                check_some(self, name)
        check_range(self, steps=(0, None), warmup=(-1, None))
        seeds_of(self.seeds, self.first_seed)

    def jobs(self, task: str) -> list[Job]:
        """Returns the trainings on a task: twenty looks of five episodes."""
        chosen = TABLES[self.table]
        steps = self.steps or chosen.steps
        warmup = chosen.warmup if self.warmup < 0 else self.warmup
        schedule = Schedule(steps=steps, warmup=warmup, eval_every=max(1, steps // 20), eval_episodes=5)
        agents, common = self.agents or chosen.agents, self.settings or chosen.settings
        contest = Contest(agents, task, self.seeds, self.first_seed)
        return [plan(":".join([agent, *filter(None, [common])]), contest, schedule, self.place) for agent in agents]


def rows(options: Options, task: str, curves: list[Curves]) -> list[tables.Row]:
    """Returns the lines of `wgf compare` for a task, with the published numbers of an agent at the end."""
    name, published = task.rpartition("-")[0], TABLES[options.table].published
    agents = options.agents or TABLES[options.table].agents
    lines = table(curves, THRESHOLDS.get(name) if options.table == "paper" else None)
    return [{"task": task, **line, "published": published.get(agent, {}).get(name, "-")} for agent, line in zip(agents, lines, strict=True)]


def main(options: Options, say: Callable[[str], None]) -> int:
    """Trains what is missing, task by task, then writes the table, every evaluation, and a figure; returns an exit code."""
    tasks = options.tasks or TABLES[options.table].tasks
    jobs = {task: options.jobs(task) for task in tasks}
    if code := complete([job for mine in jobs.values() for job in mine], say):
        return code
    curves = {task: [read(job.label, [job.folder(seed) for seed in job.seeds]) for job in mine] for task, mine in jobs.items()}
    folder = Path(options.place.out) / options.place.name
    say(tables.write(folder / options.table, [line for task in tasks for line in rows(options, task, curves[task])], COVERAGE))
    looks = [
        (task, c.label, seed, int(step), f"{value:.2f}")
        for task, found in curves.items()
        for c in found
        for seed, evals in zip(seeds_of(options.seeds, options.first_seed), c.evals.tolist(), strict=True)
        for step, value in zip(c.steps.tolist(), evals, strict=True)
    ]
    tables.write_rows(folder / "evaluations.csv", ["environment", "agent", "seed", "step", "return"], looks)
    with figure(folder / f"{options.table}.png", columns=len(tasks), note=caption(options.seeds)) as axes:
        for axis, (task, found) in zip(axes[0], curves.items(), strict=True):
            for c in found:
                returns(axis, c.steps, c.evals, display(c.label))
            axis.set(title=task, xlabel="environment steps per seed", ylabel="evaluation return")
    say(f"table: {folder / options.table}.md .csv .txt\nrows: {folder / 'evaluations.csv'}\nfigure: {folder / options.table}.png .pdf")
    return 0
