"""One stacked training from names and numbers: resolves them, makes the folders, trains, and says how it ended."""

import json
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from wgf.agents import registry
from wgf.agents.training import envs as environments
from wgf.agents.training.log import RunLog
from wgf.agents.training.loop import Task, begin, policies, segment, train
from wgf.agents.training.memory import Replay
from wgf.agents.training.ranges import check
from wgf.agents.training.record import FINISHED, INTERRUPTED, Record
from wgf.agents.training.rollout import Rollout, side
from wgf.agents.training.schedule import Schedule
from wgf.agents.training.targets import REWARD_SCALE
from wgf.runs import machine
from wgf.runs.arguments import parse
from wgf.runs.options import Place
from wgf.runs.progress import Progress

EXIT_INTERRUPTED, EXIT_FAILED = 75, 70


@dataclass(frozen=True)
class Job:
    """One agent in one environment for some seeds. ``label`` names its folder; ``cfg`` is the agent's resolved configuration."""

    label: str
    agent: str
    preset: str
    cfg: Any
    env: str
    seeds: tuple[int, ...]
    schedule: Schedule
    place: Place

    def __post_init__(self) -> None:
        check(self.cfg)

    def folder(self, seed: int) -> Path:
        """OUT/NAME/ENV/AGENT/seed-K."""
        return Path(self.place.out) / self.place.name / self.env.replace("/", "_") / self.label / f"seed-{seed}"

    def identity(self) -> dict[str, Any]:
        """What makes two runs the same experiment, seed apart, as JSON would give it back."""
        about = {"agent": self.agent, "preset": self.preset, "env": self.env, "backend": self.place.backend}
        return json.loads(json.dumps({**about, "config": asdict(self.cfg), "schedule": asdict(self.schedule)}))  # type: ignore[no-any-return]


def resolve(agent: str, preset: str, env: str) -> Any:
    """The preset's configuration for an environment: the paper's reward scale is its Table 6, by the name of the task.

    It is the inverse temperature of soft agents; others take rewards as they are.
    """
    _, cfg = registry.find(agent, preset)
    soft = preset == "paper" and agent in registry.SOFT
    return replace(cfg, reward_scale=REWARD_SCALE.get(re.split(r"-v\d+$", env)[0], 1.0) if soft else 1.0)


def override(cfg: Any, settings: Sequence[str]) -> Any:
    """cfg with "field=value" settings. Raises ValueError for a field that is not there or a value that does not fit it."""
    known = sorted(f.name for f in fields(cfg))
    pairs = [s.partition("=") for s in settings]
    for (field, equals, _), setting in zip(pairs, settings, strict=True):
        if field not in known or not equals:
            raise ValueError(f"setting {setting!r} is not FIELD=VALUE; the fields of this agent are {', '.join(known)}")
    args = [part for field, _, value in pairs for part in (f"--{field.replace('_', '-')}", *value.split(","))]
    return parse(type(cfg), args, default=cfg, prog="wgf train AGENT")


def run(job: Job, say: Callable[[str], None]) -> list[str]:
    """Trains every seed of a job side by side; returns how each ended. Raises ValueError before anything is written."""
    agent, _ = registry.find(job.agent, job.preset)
    device, threads = machine.find_device(job.place.device), machine.find_threads(job.place.threads, len(job.seeds), job.cfg)
    for seed in job.seeds:
        if job.folder(seed).is_dir() and any(job.folder(seed).iterdir()):
            raise ValueError(f"{job.folder(seed)} already holds a run; give another --name or --out, or move it away")
    torch.set_num_threads(threads)
    obs, action = environments.sizes(job.env, job.place.backend)
    if job.place.compile and segment(agent, job.cfg):
        raise ValueError(f"compile is True; allowed is False for {job.agent}, which learns from rollouts, not from a replay")
    say(_fits(job, obs, action, device))
    say(
        f"{job.label} on {job.env}: {_seeds(job.seeds)}, {job.schedule.steps:,} steps each, {device}, {threads} thread{'s' * (threads > 1)}"
    )
    count, shape = len(job.seeds), segment(agent, job.cfg)
    envs = side(job.env, shape, count, job.place.backend, device) if shape else environments.make(job.env, count, job.place.backend)
    eval_envs = environments.make(job.env, count * policies(agent, job.cfg) * job.schedule.eval_episodes, job.place.backend)
    about = {**job.identity(), "obs_size": obs, "action_size": action, "versions": machine.versions()}
    where = {
        **machine.about(device, threads),
        "compile": job.place.compile,
        "stack": list(job.seeds),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    task = Task(agent, job.cfg, job.schedule, job.seeds, envs, eval_envs, device, job.place.compile)
    try:
        training = begin(task)
    except environments.BrokenEnvironment as error:
        raise ValueError(str(error)) from None
    try:
        logs = [RunLog(job.folder(seed), {**about, "seed": seed, **where}) for seed in job.seeds]
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be written: {error.strerror}; give another --out") from None
    with machine.tuned(), stop_signals() as stopping, Progress(job.label, job.schedule.steps) as progress:
        endings = train(task, training, Record(logs, job.seeds, about), tell=progress.tell, stopping=stopping)
    envs.close()
    eval_envs.close()
    return endings


def exit_code(endings: Sequence[str]) -> int:
    """0 when every run finished, 75 when one was interrupted, 70 when one failed."""
    if INTERRUPTED in endings:
        return EXIT_INTERRUPTED
    return 0 if all(e == FINISHED for e in endings) else EXIT_FAILED


def report(job: Job, endings: Sequence[str]) -> int:
    """A line on stderr for each way of not finishing, with the seeds that went it; returns the exit code."""
    for ending in dict.fromkeys(endings):
        if ending != FINISHED:
            seeds = [k for k, e in zip(job.seeds, endings, strict=True) if e == ending]
            print(f"wgf: {job.folder(seeds[0]).parent}, {_seeds(seeds)} {ending}; the last saved policy is kept", file=sys.stderr)
    return exit_code(endings)


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Within, the first Ctrl-C or SIGTERM only sets a flag, so that the loop can save and leave; the second acts as ever."""
    asked: list[int] = []
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for s, handler in before.items():
            signal.signal(s, handler)

    def note(number: int, frame: Any) -> None:
        asked.append(number)
        restore()

    for s in before:
        signal.signal(s, note)
    try:
        yield lambda: bool(asked)
    finally:
        restore()


def _fits(job: Job, obs: int, action: int, device: torch.device) -> str:
    count, rows, free = len(job.seeds), job.schedule.rows(), machine.free_memory(device)
    if shape := segment(registry.find(job.agent, job.preset)[0], job.cfg):
        size, smaller = Rollout.bytes(count, shape, obs, action), "--batch"
        text = f"segment: {count} x {shape.policies} x {shape.envs} x {shape.steps:,} steps = {_size(size)} on {device}"
    else:
        size, smaller = Replay.bytes(count, rows, obs, action), "--replay"
        text = f"replay: {count} x {rows:,} rows of {obs} + {action} + 2 numbers = {_size(size)} on {device}"
    if size > free:
        raise ValueError(f"{text}, but {_size(free)} are free; give a smaller {smaller} or fewer --seeds")
    return text


def _size(count: float) -> str:
    return f"{count / 2**20:,.1f} MiB" if count < 2**30 else f"{count / 2**30:,.1f} GiB"


def _seeds(seeds: Sequence[int]) -> str:
    whole = len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"seed{'s' * (len(seeds) > 1)} " + (f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds)))
