"""Trains one stack of seeds from names and numbers: resolves them, makes the folders, trains, and says how each seed ended."""

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from wgf.agents import Agent
from wgf.agents.training import machine
from wgf.agents.training.checkpoint import read_sealed
from wgf.agents.training.description import resolve
from wgf.agents.training.folder import identity, seed_folder
from wgf.agents.training.log import being_written
from wgf.agents.training.loop import Tick
from wgf.agents.training.population import Population
from wgf.agents.training.protocol import Memory
from wgf.agents.training.ranges import LARGEST, check
from wgf.agents.training.record import FINISHED, INTERRUPTED
from wgf.agents.training.rollout import Rollout
from wgf.agents.training.schedule import Schedule
from wgf.runs.command.answers import FAILED, STOPPED
from wgf.runs.command.options import LONGEST_NAME, Place
from wgf.runs.command.progress import Progress
from wgf.runs.command.signals import stop_signals
from wgf.runs.command.tokens import label, override, split

__all__ = ["MANY_THREADS", "Job", "exit_code", "finish", "job", "length", "report", "resolve", "resume", "run", "words"]
MANY_THREADS = 1024  # of a run that goes on: as many as large machines have processors
PROMISE = "every seed is saved after this step, then the run stops"


@dataclass(frozen=True)
class Job:
    """One agent in one environment for some seeds. ``label`` names its folder; ``cfg`` is the agent's resolved configuration; ``shards``:
    whether the ranks that torchrun started share it."""

    label: str
    agent: str
    preset: str
    cfg: Any
    env: str
    seeds: tuple[int, ...]
    schedule: Schedule
    place: Place
    shards: bool = False

    def __post_init__(self) -> None:
        check(self.cfg)
        if len(self.label.encode()) > LONGEST_NAME:
            raise ValueError(f"agent {self.label!r} has {len(self.label.encode())} bytes; a folder's name has at most {LONGEST_NAME}")

    def folder(self, seed: int) -> Path:
        """OUT/NAME/ENV/AGENT/seed-K."""
        return Path(self.place.out) / self.place.name / self.env.replace("/", "_") / self.label / f"seed-{seed}"

    def settings(self) -> dict[str, Any]:
        """Returns what ``Agent`` takes by name, but for what computes it."""
        fixed = {name: value for name, value in vars(self.schedule).items() if name != "steps"}
        return {**vars(self.cfg), **fixed}

    def threads(self) -> int:
        """Returns how many threads compute it, where no run goes on."""
        return machine.find_threads(self.place.threads, len(self.seeds), self.cfg)

    def begun(self) -> Agent:
        """Returns the agent before it learns. Raises ValueError as ``Agent`` does."""
        place = self.place
        return Agent(
            self.agent, self.env, seeds=self.seeds, preset=self.preset, device=place.device, backend=place.backend, compile=place.compile,
            shards=self.shards, **self.settings(),
        )  # fmt: skip

    def identity(self) -> dict[str, Any]:
        """Returns what makes two runs the same experiment (all but the seed), in the form in which JSON gives it back."""
        about = {"agent": self.agent, "preset": self.preset, "env": self.env, "backend": self.place.backend}
        whole = identity({**about, "config": asdict(self.cfg), "schedule": asdict(self.schedule)})
        return json.loads(json.dumps(whole))  # type: ignore[no-any-return]


def job(token: str, preset: str, env: str, seeds: tuple[int, ...], schedule: Schedule, place: Place) -> Job:
    """Makes the job of "AGENT:field=value:...", in which preset=NAME counts more than ``preset``."""
    name, own, settings = split(token)
    preset = own or preset
    return Job(label(token), name, preset, override(resolve(name, preset, env), settings), env, seeds, schedule, place)


def run(job: Job, say: Callable[[str], None], threads: int | None = None) -> list[str]:
    """Trains every seed of a job side by side, or goes on from the last checkpoint with so many threads; returns how each ended.

    Raises ValueError before anything is written.
    """
    place, folder = job.place, job.folder(0).parent
    torch.set_num_threads(threads or job.threads())
    agent = job.begun()
    if threads is not None:
        agent.resume(folder)
    elif place.backend == "envpool":
        say("environments of backend envpool leave no checkpoint: a run that is stopped has to begin anew")
    if place.backend == "warp":
        say("Warp compiles its kernels at the first step of a robot, which takes minutes on a CPU; it keeps them for later runs")
    return finish(agent, job.label, job.schedule, folder, say)


def finish(agent: Agent, label: str, schedule: Schedule, folder: Path, say: Callable[[str], None]) -> list[str]:
    """Trains an agent until the end of a schedule, with a bar and so that signals stop it; returns how each seed ended."""
    say(agent.needs(schedule.steps - agent.step))
    steps, text = length(schedule, agent.module.memory(agent.cfg, schedule))
    threads, gone = torch.get_num_threads(), f", from step {agent.step:,} on" if agent.step else ""
    say(f"{label} on {agent.source.name}: {words(agent.seeds)}, {text}{gone}, {agent.device}, {threads} thread{'s' * (threads > 1)}")
    if agent.compile == "auto" and agent.compiles(schedule.steps):
        say("updates run as machine code: a minute or two to compile, seconds where it was done before; --compile False does without")
    muted = agent.group.rank > 0
    with stop_signals(PROMISE, muted=muted) as stopping, Progress(label, steps, len(agent.seeds), agent.step, muted=muted) as progress:
        endings = agent.train(schedule.steps, lambda step, metrics, _: progress.tell(Tick(step, metrics)), folder, stopping)
    agent.close()
    return endings


def resume(run: Path, steps: int | None, say: Callable[[str], None], env: str | None = None, agent: str | None = None) -> int:
    """Goes on with the stack of the run in a folder until the steps that it was to take, or so many; returns an exit code.

    ``env`` and ``agent`` are what a person named, which may be of a module that is imported. Raises ValueError where there is nothing
    to go on with.
    """
    config = read_sealed(run / "config.json")
    schedule = config.get("schedule")
    stack: Any = config.get("stack")
    threads: Any = config.get("threads")
    total: Any = schedule.get("steps") if steps is None and isinstance(schedule, dict) else steps
    numbers = isinstance(stack, list) and stack and all(type(n) is int and n < LARGEST for n in (*stack, threads, total))
    if not numbers or not 1 <= threads <= MANY_THREADS or total < 1:
        raise ValueError(f"{run / 'config.json'} does not say which seeds, threads and steps: it was not written by wgf train")
    if being_written(run):
        raise ValueError(f"{run} is being written by another process; wait for it")
    torch.set_num_threads(threads)
    learner = Agent.load(run.parent, env, agent, seeds=stack, device=str(config.get("device", "auto"))).resume(run.parent)
    if steps is not None and steps < learner.step:
        raise ValueError(f"steps is {steps:,}; {run} is at step {learner.step:,}: give more, or leave --steps out")
    endings = finish(learner, run.parent.name, replace(learner.schedule, steps=total), run.parent, say)
    return report(run.parent, stack, endings)


def length(schedule: Schedule, memory: Memory[Any]) -> tuple[int, str]:
    """Returns how many steps per seed a training will take, and the words for it: what learns from rollouts ends with a whole one."""
    if isinstance(memory, Population):
        return schedule.steps, f"{schedule.steps:,} steps each, and what is left of the last update"
    if not isinstance(memory, Rollout):
        words = f"{schedule.steps:,} steps each"
        if schedule.steps < schedule.warmup:
            short = f"{schedule.steps:,} steps end before the warm-up of {schedule.warmup:,}"
            words += f" (nothing is learned, since {short}; give more --steps or a smaller --warmup)"
        return schedule.steps, words
    updates = math.ceil(schedule.steps / memory.size)
    steps, asked = updates * memory.size, f" ({schedule.steps:,} were asked for)" if schedule.steps % memory.size else ""
    return steps, f"{steps:,} steps each{asked}, " + (f"{updates:,} updates of {memory.size:,} steps" if updates > 1 else "one update")


def exit_code(endings: Sequence[str]) -> int:
    """Returns 0 where every run finished, 75 where one was interrupted, 70 where one failed."""
    if INTERRUPTED in endings:
        return STOPPED
    return 0 if all(e == FINISHED for e in endings) else FAILED


def report(folder: Path, seeds: Sequence[int], endings: Sequence[str], *, muted: bool = False) -> int:
    """Writes a line on stderr for each kind of unfinished run, with its seeds, unless ``muted``; returns the exit code."""
    for ending in dict.fromkeys(endings):
        if ending != FINISHED and not muted:
            mine = [k for k, e in zip(seeds, endings, strict=True) if e == ending]
            kept = "; the same command goes on from here" if ending == INTERRUPTED else "; the last saved policy is kept"
            if not all((seed_folder(folder, k) / "policy.json").exists() for k in mine):
                kept = ""
            print(f"wgf: {folder}, {words(mine)} {ending}{kept}", file=sys.stderr)
    return exit_code(endings)


def words(seeds: Sequence[int]) -> str:
    """Returns the seeds in words, "seeds 0 to 4"."""
    whole = len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"seed{'s' * (len(seeds) > 1)} " + (f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds)))
