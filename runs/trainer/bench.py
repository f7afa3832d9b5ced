"""Times agents on this machine, in turns: an update, the parts of a step, and what follows of them for a whole training."""

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from wgf.agents.training import machine, needs
from wgf.agents.training.pace import Pace, Spent
from wgf.agents.training.schedule import Schedule
from wgf.limits import size
from wgf.runs.command.options import Bench, Computer, Place
from wgf.runs.command.progress import Progress
from wgf.runs.trainer import tables, training
from wgf.runs.trainer.statistics import Interval, bootstrap

__all__ = ["Contender", "bench", "measured", "table"]

TURN, LOOK = 0.25, 0.05  # seconds of an agent's turn in a round, at least, and of its look at an evaluation
SHOWN = ("wgflow", "torch", "gymnasium", "mujoco", "python")
NOTE = """Medians over {rounds} rounds in which agents took turns, with 95 % bootstrap intervals. Milliseconds are of all seeds together,
steps are environment steps of each seed, and a step is learning + acting + environment, where storing what was seen counts.
The beginning of a training was timed: its replay is small, and episodes are those of policies that know nothing. The hours leave out
logs and checkpoints; evaluations come beside, and take so long where every episode lasts until the time limit."""
BUSY = 0.8  # of a processor, that a process gets where nothing else takes it


@dataclass
class Contender:
    """An agent that is timed: its turns so far, one a round, and the seconds of a step of an evaluation."""

    job: training.Job
    pace: Pace
    turns: list[Spent] = field(default_factory=list)
    judged: list[float] = field(default_factory=list)

    def turn(self) -> None:
        """Takes its turn in a round."""
        torch.set_num_threads(self.job.threads())
        spent = self.pace.turn()
        while spent.seconds < TURN:
            spent += self.pace.turn()
        self.turns.append(spent)
        self.judged.append(self.pace.judged(LOOK))


def bench(what: Bench, schedule: Schedule, computer: Computer, say: Callable[[str], None]) -> int:
    """Times agents in turns, and prints what was found; returns an exit code. Raises ValueError as ``wgf train`` does."""
    jobs = [training.job(token, what.preset, what.env, what.chosen(), schedule, Place(**asdict(computer))) for token in what.agents]
    with ExitStack() as stack, Progress("bench", len(jobs) * (what.rounds + 1)) as progress:
        contenders = []
        for done, job in enumerate(jobs):
            progress.show(done, f"{job.label} begins")
            torch.set_num_threads(job.threads())
            contenders.append(Contender(job, stack.enter_context(closing(Pace(job.begun(), schedule.steps)))))
        began = time.perf_counter(), time.process_time()
        for done, contender in enumerate(contenders * what.rounds, len(jobs) + 1):
            contender.turn()
            progress.show(done, contender.job.label)
        share = (time.process_time() - began[1]) / (time.perf_counter() - began[0])
    found = [measured(contender, contenders[0]) for contender in contenders]
    where, versions = _about(contenders[0].pace.agent.device), machine.versions()
    say("\n" + tables.text(table(found, schedule.steps)) + f"\n{NOTE.format(rounds=what.rounds)}")
    say(f"{where['device_name']}, {where['processors']} processors; " + ", ".join(f"{name} {versions[name]}" for name in SHOWN))
    if share < BUSY and where["device"] == "cpu" and computer.backend == "gymnasium":
        say(f"other work ran on this machine: these numbers were taken with {share:.0%} of a processor")
    if what.json is not None:
        asked = {"env": what.env, "seeds": what.seeds, "steps": schedule.steps, "rounds": what.rounds, "backend": computer.backend}
        about = {**asked, "machine": {**where, "share_of_a_processor": share}, "versions": versions, "agents": found}
        tables.write_text(what.json, json.dumps(about, indent=2) + "\n")
    return 0


def _about(device: torch.device) -> dict[str, Any]:
    whole = machine.about(device, machine.cores())
    return {name: whole[name] for name in ("device", "device_name", "system", "commit")} | {"processors": machine.cores()}


def measured(contender: Contender, first: Contender) -> dict[str, Any]:
    """Returns the numbers of an agent: intervals are (median, low, high) over rounds; None is for what there is not.

    step_ms is the sum of its three parts, and rates and hours follow from it. time_ratio is that of a step to one of the first agent's,
    round by round.
    """
    job, pace, turns = contender.job, contender.pace, contender.turns
    update = _median(1e3 * t.learning / t.updates for t in turns)
    each = sum(t.steps for t in turns) / sum(t.updates for t in turns)
    learning = update.value / each
    acting, environment = (_median(1e3 * part / t.steps for t, part in taken).value for taken in _collecting(turns))
    step = learning + environment + (0.0 if math.isnan(acting) else acting)
    looks = math.ceil(job.schedule.steps / job.schedule.eval_every)
    numbers = {
        "agent": job.label,
        "preset": job.preset,
        "threads": job.threads(),
        "update_ms": update,
        "steps_per_update": each,
        "learning_ms": learning,
        "acting_ms": acting,
        "environment_ms": environment,
        "step_ms": step,
        "steps_per_second": 1e3 / step,
        "steps_per_second_all_seeds": len(job.seeds) * 1e3 / step,
        "hours": job.schedule.steps * step / 3.6e6,
        "evaluation_hours_at_most": looks * pace.longest * _median(contender.judged).value / 3600.0,
        "memory_bytes": needs.memory(pace.agent, job.schedule),
        "compiling_seconds": pace.compiling,
        "time_ratio": _median((t.seconds / t.steps) / (f.seconds / f.steps) for t, f in zip(turns, first.turns, strict=True)),
    }
    return {name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in numbers.items()}


def _collecting(turns: Sequence[Spent]) -> list[list[tuple[Spent, float]]]:
    return [[(t, t.acting) for t in turns], [(t, t.stepping) for t in turns]]


def _median(values: Iterable[float]) -> Interval:
    return bootstrap(lambda x: float(np.median(x)), np.array(list(values)))


def table(found: Sequence[Mapping[str, Any]], steps: int) -> list[dict[str, str]]:
    """Returns a row for each number and a column for each agent."""
    first = found[0]["agent"]
    rows: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "an update, ms [95 %]": lambda x: str(x["update_ms"]),
        "steps from update to update": lambda x: f"{x['steps_per_update']:,.4g}",
        "a step, ms": lambda x: f"{x['step_ms']:.3g}",
        "  learning": lambda x: f"{x['learning_ms']:.3g}",
        "  acting": lambda x: "with the environment" if x["acting_ms"] is None else f"{x['acting_ms']:.3g}",
        "  environment": lambda x: f"{x['environment_ms']:.3g}",
        "steps/s, each seed": lambda x: f"{x['steps_per_second']:,.0f}",
        "steps/s, all seeds together": lambda x: f"{x['steps_per_second_all_seeds']:,.0f}",
        f"hours of {steps:,} steps": lambda x: f"{x['hours']:.3g}",
        "  evaluations, at most": lambda x: f"{x['evaluation_hours_at_most']:.3g}",
        "memory": lambda x: "-" if x["memory_bytes"] is None else size(x["memory_bytes"]),
        "threads": lambda x: str(x["threads"]),
        "machine code, s to compile": lambda x: "no" if x["compiling_seconds"] is None else f"{x['compiling_seconds']:.0f}",
        f"time of a step / {first} [95 %]": lambda x: "1" if x["agent"] == first else str(x["time_ratio"]),
    }
    return [{"": name, **{x["agent"]: told(x) for x in found}} for name, told in rows.items()]
