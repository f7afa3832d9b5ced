"""Tables of agents on MuJoCo tasks, where there are published numbers beside them: each a question, its agents, tasks and settings.

    python -m wgf.runs.studies mujoco --table paper     # DP-WGF-V, SAC, TRPO and DDPG on four tasks, the settings of Zhang et al. 2018
    python -m wgf.runs.studies mujoco --table strong    # five tasks, 1,000,000 steps, four environments per seed: for a GPU
    python -m wgf.runs.studies mujoco --table small     # three tasks, 100,000 steps, the strong critic in a size for a processor
    python -m wgf.runs.studies mujoco --table n_step    # WPO and SAC with returns of equal length on two tasks of the control suite
    python -m wgf.runs.studies mujoco --table small --known evaluations.csv    # what that file lacks is trained, and joined to it

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
from wgf.runs.trainer.compare import THRESHOLDS, Curves, over_training_and_at_the_end, plan, table
from wgf.runs.trainer.evaluations import Plan, gather, planned, write_rows
from wgf.runs.trainer.figures import caption, display, figure, returns
from wgf.runs.trainer.statistics import COVERAGE, TESTS

__all__ = ["TABLES", "Options", "Table", "main", "rows"]


class Table(NamedTuple):
    """Which tasks and agents, with which preset and settings, for how long, and what is published of them.

    An agent's own settings come after the common ones, and win.
    """

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
    # beside it FlashSAC's full size
    "small": Table(
        ("Hopper-v5", "HalfCheetah-v5", "Walker2d-v5"),
        ("sac", "wgf-sac", "wpo", "dp-wgf-v", "sac:preset=modern"),
        "preset=strong-small",
        100_000,
        5_000,
        {"sac": {"Hopper": "2,121", "Walker2d": "3,299", "HalfCheetah": "9,815"}},
    ),
    # an entropy of a deviation of 0.7 is what WPO's policy keeps
    "n_step": Table(
        ("dm_control/cartpole-swingup-v0", "dm_control/walker-walk-v0"),
        tuple(f"{agent}:n_step={n}" for n in (1, 3) for agent in ("sac", "sac:entropy_std=0.7", "wpo:critic_hidden=128,128")),
        "preset=modern:hidden=128,128:batch=64",
        30_000,
        1_000,
        {},
    ),
}


@dataclass(frozen=True)
class Options:
    """Train the agents of a table on its MuJoCo tasks, and write it beside the published one."""

    table: Literal["paper", "strong", "small", "n_step"] = "paper"
    """paper: Table 2 of Zhang et al. 2018. strong: SAC and WGF-SAC with the critic of FlashSAC, which takes a GPU. small: the same critic
    in a size for a processor, under every actor. n_step: WPO and SAC with one-step and with three-step returns."""
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
    known: Path | None = None
    """Evaluations that an earlier run of this command wrote: a CSV file. The seeds that it has are not trained again."""
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

    def plans(self, task: str) -> dict[str, Plan]:
        """Returns the trainings on a task, an agent each: twenty looks of five episodes."""
        chosen = TABLES[self.table]
        steps = self.steps or chosen.steps
        warmup = chosen.warmup if self.warmup < 0 else self.warmup
        schedule = Schedule(steps=steps, warmup=warmup, eval_every=max(1, steps // 20), eval_episodes=5)
        agents = self.agents or chosen.agents
        contest, found = Contest(agents, task, self.seeds, self.first_seed), {}
        for agent in agents:
            name, _, own = agent.partition(":")
            token = ":".join(filter(None, [name, self.settings or chosen.settings, own]))
            found[agent] = planned(plan(token, contest, schedule, self.place), agent.replace(":", ","))
        return found


def rows(options: Options, task: str, curves: dict[str, Curves]) -> list[tables.Row]:
    """Returns a line per agent: those of `wgf compare`, returns over the training, both beside the first agent's, and published numbers."""
    name, published = task.rpartition("-")[0], TABLES[options.table].published
    found = list(curves.values())
    finals = table(found, THRESHOLDS.get(name) if options.table == "paper" else None)
    whole = over_training_and_at_the_end(found, found[0].label)
    return [
        {"task": task, **final, **{key: words for key, words in part.items() if "over training" in key}, "published": known}
        for agent, final, part in zip(curves, finals, whole, strict=True)
        for known in [published.get(agent, {}).get(name, "-")]
    ]


def main(options: Options, say: Callable[[str], None]) -> int:
    """Trains what is missing, then writes the table, every evaluation, and a figure; returns an exit code."""
    tasks = options.tasks or TABLES[options.table].tasks
    plans = {(task, agent): found for task in tasks for agent, found in options.plans(task).items()}
    code, learnt = gather(plans, options.known, say)
    if code:
        return code
    curves: dict[str, dict[str, Curves]] = {task: {} for task in tasks}
    for (task, agent), c in learnt.items():
        curves[task][agent] = c
    folder = Path(options.place.out) / options.place.name
    note = f"{COVERAGE} {TESTS}"
    say(tables.write(tables.writable(folder) / options.table, [line for task in tasks for line in rows(options, task, curves[task])], note))
    write_rows(folder / "evaluations.csv", zip(plans.values(), learnt.values(), strict=True), options.known)
    with figure(folder / f"{options.table}.png", columns=len(tasks), note=caption(options.seeds)) as axes:
        for axis, (task, found) in zip(axes[0], curves.items(), strict=True):
            for c in found.values():
                returns(axis, c.steps, c.evals, display(c.label))
            axis.set(title=task, xlabel="environment steps per seed", ylabel="evaluation return")
    say(f"table: {folder / options.table}.md .csv .txt\nrows: {folder / 'evaluations.csv'}\nfigure: {folder / options.table}.png .pdf")
    return 0
