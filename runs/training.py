"""One stacked training from names and numbers: resolves them, makes the folders, trains, and says how it ended."""

import json
import os
import platform
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from agents import registry
from agents.targets import REWARD_SCALE
from agents.training import envs as environments
from agents.training.checkpoint import read_json
from agents.training.log import RunLog
from agents.training.loop import Schedule, train
from agents.training.memory import Replay
from runs.progress import Progress

INTERRUPTED, FAILED = 75, 70  # exit codes
PACKAGES = ("wgf", "torch", "gymnasium", "mujoco", "numpy")


@dataclass(frozen=True)
class Place:
    """Where and on what to run."""

    out: str = "runs"
    """Folder for results, made if missing."""
    name: str = "main"
    """Name of the experiment: runs are written to OUT/NAME/ENV/AGENT/seed-K."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; auto is a GPU where there is one."""
    threads: int = 0
    """CPU threads; 0 chooses by the size of the stack."""
    backend: Literal["gymnasium", "envpool"] = "gymnasium"
    """Who steps the environments."""


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

    def folder(self, seed: int) -> Path:
        return Path(self.place.out) / self.place.name / self.env.replace("/", "_") / self.label / f"seed-{seed}"

    def identity(self) -> dict[str, Any]:
        """What makes two runs the same experiment, seed apart."""
        about = {"agent": self.agent, "preset": self.preset, "env": self.env, "backend": self.place.backend}
        return json.loads(json.dumps({**about, "config": asdict(self.cfg), "schedule": asdict(self.schedule)}))  # type: ignore[no-any-return]


def resolve(agent: str, preset: str, env: str) -> Any:
    """The preset's configuration for an environment: the paper's reward scale is its Table 6, by the name of the task."""
    _, cfg = registry.find(agent, preset)
    scale = REWARD_SCALE.get(re.split(r"-v\d+$", env)[0], 1.0) if preset == "paper" else 1.0
    return replace(cfg, reward_scale=scale)


def find_device(name: str) -> torch.device:
    """auto, cpu, cuda or cuda:N. Raises ValueError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ValueError(f"device {name!r} is unknown; use auto, cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {name!r} is not available: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA GPUs; use --device cpu"
        )
    return device


def find_threads(asked: int, seeds: int, batch: int) -> int:
    """Small products of one seed run fastest on one thread; stacks and large minibatches use up to four."""
    if asked < 0:
        raise ValueError(f"threads is {asked}; it must be at least 0, where 0 chooses")
    return asked or (min(4, os.cpu_count() or 1) if seeds > 1 or batch > 64 else 1)


def run(job: Job, say: Callable[[str], None]) -> list[str]:
    """Trains every seed of a job side by side; returns how each ended. Raises ValueError before anything is written."""
    agent, _ = registry.find(job.agent, job.preset)
    device, threads = find_device(job.place.device), find_threads(job.place.threads, len(job.seeds), job.cfg.batch)
    for seed in job.seeds:
        if (job.folder(seed) / "config.json").exists():
            raise ValueError(f"{job.folder(seed)} already holds a run; give another --name or --out, or move it away")
    torch.set_num_threads(threads)
    envs = environments.make(job.env, len(job.seeds), job.place.backend)
    eval_envs = environments.make(job.env, len(job.seeds) * job.schedule.eval_episodes)
    say(_fits(job, envs.obs_size, envs.action_size, device))
    say(
        f"{job.label} on {job.env}: seeds {_range(job.seeds)}, {job.schedule.steps:,} steps each, {device}, {threads} thread{'s' * (threads > 1)}"
    )
    versions = {p: version(p) for p in PACKAGES}
    about = {**job.identity(), "obs_size": envs.obs_size, "action_size": envs.action_size, "versions": versions}
    where = {"device": str(device), "threads": threads, "machine": f"{platform.system()} {platform.machine()}", "commit": _commit()}
    stack = {"stack": list(job.seeds), "process": os.getpid(), "host": platform.node(), "started": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    try:
        logs = [RunLog(job.folder(seed), {**about, **where, "seed": seed, **stack}) for seed in job.seeds]
    except OSError as error:
        raise ValueError(f"{job.folder(job.seeds[0])} cannot be written: {error.strerror}; give another --out") from None
    with stop_signals() as stopping, Progress(job.label, job.schedule.steps) as progress:
        endings = train(
            agent, job.cfg, job.schedule, job.seeds, envs, eval_envs, logs, device, about=about, tell=progress.tell, stopping=stopping
        )
    envs.close()
    eval_envs.close()
    for seed, ending in zip(job.seeds, endings, strict=True):
        if ending != "finished":
            say(f"{job.folder(seed)}: {ending}")
    return endings


def exit_code(endings: Sequence[str]) -> int:
    """0 when every run finished, 75 when one was interrupted, 70 when one failed."""
    return INTERRUPTED if "interrupted" in endings else 0 if all(e == "finished" for e in endings) else FAILED


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Within, the first Ctrl-C or SIGTERM only sets a flag, so that the loop can save and leave; the second acts as ever."""
    asked: list[int] = []
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: Any) -> None:
        asked.append(number)
        for s, handler in before.items():
            signal.signal(s, handler)

    for s in before:
        signal.signal(s, note)
    try:
        yield lambda: bool(asked)
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


def missing(job: Job, say: Callable[[str], None]) -> Job:
    """The job without the seeds whose finished runs can be reused. Unfinished runs are moved aside, not deleted.

    Raises ValueError where a folder holds a run of other settings, or one that is still being written.
    """
    left = []
    for seed in job.seeds:
        folder = job.folder(seed)
        if not (folder / "config.json").exists():
            left.append(seed)
            continue
        config = read_json(folder / "config.json")
        if different := _difference(job.identity(), config):
            raise ValueError(f"{folder} holds a run with {different}; give another --name or --out")
        if (folder / "result.json").exists() and read_json(folder / "result.json").get("status") == "finished":
            continue
        if not (folder / "result.json").exists() and config.get("host") == platform.node() and _alive(config.get("process")):
            raise ValueError(f"{folder} is being written by process {config['process']}; wait for it, or give another --name")
        aside = next(p for i in range(1, 1000) if not (p := folder.with_name(f"{folder.name}.unfinished-{i}")).exists())
        folder.rename(aside)
        say(f"{folder} was not finished: moved to {aside.name}, trained again")
        left.append(seed)
    return replace(job, seeds=tuple(left))


def _difference(want: dict[str, Any], have: dict[str, Any], path: str = "") -> str | None:
    for key, value in want.items():
        other = have.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            if inner := _difference(value, other, f"{path}{key}."):
                return inner
        elif value != other:
            return f"{path}{key} = {other!r}, not {value!r}"
    return None


def _alive(process: Any) -> bool:
    try:
        os.kill(int(process), 0)
    except (OSError, TypeError, ValueError):
        return False
    return int(process) != os.getpid()


def _fits(job: Job, obs: int, action: int, device: torch.device) -> str:
    size = Replay.bytes(len(job.seeds), job.schedule.rows(), obs, action)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    text = f"replay: {len(job.seeds)} x {job.schedule.rows():,} rows of {obs} + {action} + 2 numbers = {size / 2**20:,.0f} MiB on {device}"
    if size > free:
        raise ValueError(f"{text}, but {free / 2**20:,.0f} MiB are free; give a smaller --replay or fewer --seeds")
    return text


def _range(seeds: Sequence[int]) -> str:
    whole = len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))


def _commit() -> str | None:
    here = Path(__file__).parent
    try:
        done = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def override(cfg: Any, settings: Sequence[str]) -> Any:
    """cfg with "field=value" settings. Raises ValueError for a field that is not there or a value that does not fit it."""
    import tyro

    from runs.arguments import parse

    known = {f.name for f in fields(cfg)}
    for setting in settings:
        if setting.split("=")[0] not in known:
            raise ValueError(f"{setting.split('=')[0]!r} is no setting of this agent; choose from {', '.join(sorted(known))}")
    args = [part for s in settings for part in (f"--{s.split('=')[0].replace('_', '-')}", *s.partition("=")[2].split(","))]
    return parse(type(cfg), args, default=cfg, prog="settings", config=(tyro.conf.OmitArgPrefixes,)) if args else cfg
