"""The options of the commands. Nothing here imports torch, so that --help answers at once; the docstring of a field is its help."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, make_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

__all__ = [
    "LARGEST_SEED", "LONGEST_NAME", "Bench", "Completion", "Computer", "Contest", "Export", "Fetch", "Ordered", "Place", "Resume", "Shell",
    "Show", "Study", "Sweep", "What", "check_place", "check_range", "check_some", "seeds", "together",
]  # fmt: skip

Shell = Literal["bash", "zsh"]
LARGEST_SEED = 999_999
LONGEST_NAME = 255  # bytes, on the usual file systems
LEAST_PIXELS, MOST_PIXELS = 16, 4096  # of a side of a film
MOST_THREADS = max(16, 4 * (os.cpu_count() or 1))  # a run may be repeated on a machine with fewer processors


@dataclass(frozen=True)
class What:
    """The task, the seeds and the preset, and whether several processes share them."""

    env: str = "Hopper-v5"
    """Gymnasium id of an environment with Box actions; MODULE:ID imports MODULE first."""
    seeds: int = 1
    """Number of seeds; all are trained together, as one stack."""
    first_seed: int = 0
    """The first seed; the others follow it."""
    preset: Annotated[str, tyro.conf.arg(metavar="NAME")] = "paper"
    """paper: settings of the agent's paper; modern: settings used today; wgf agents lists each agent's. The preset sets the defaults of the
    agent options below."""
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A file with options, one in a line, as in "steps: 1000", or the config.json of a run. Options beside it count more."""
    shards: bool = False
    """Share the policies of es or ip-wgf out among the processes that torchrun started:
    torchrun --standalone --nproc-per-node=2 --no-python wgf train es --shards True ..."""

    def __post_init__(self) -> None:
        self.chosen()

    def chosen(self) -> tuple[int, ...]:
        """Returns the seeds. Raises ValueError where there is none."""
        return seeds(self.seeds, self.first_seed)


@dataclass(frozen=True)
class Contest:
    """Which agents are compared, and on which task."""

    agents: tuple[str, ...] = ("sac", "dp-wgf-v")
    """Agents; the first is the baseline. Settings follow after colons: dp-wgf-v:w2_scale=0, sac:preset=modern:hidden=64,64."""
    env: str = "Hopper-v5"
    """Gymnasium id of an environment with Box actions; MODULE:ID imports MODULE first."""
    seeds: int = 5
    """Seeds per agent, trained as one stack. The table's 95 % intervals are over seeds; with five they cover about 84 to 89 %."""
    first_seed: int = 0
    """The first seed; the others follow it."""
    preset: Annotated[str, tyro.conf.arg(metavar="NAME")] = "paper"
    """paper: settings of each agent's paper; modern: settings used today; wgf agents lists each agent's."""
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A file with options, one in a line, as in "agents: [sac, wpo]". Options beside it count more."""
    threshold: float | None = None
    """The column "episodes to" counts episodes until this return; by default the return of the paper's Table 2, or Gymnasium's own."""

    def __post_init__(self) -> None:
        check_some(self, "agents")
        self.chosen()
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ValueError(f"threshold is {self.threshold}; it must be a finite number")

    def chosen(self) -> tuple[int, ...]:
        """Returns the seeds. Raises ValueError where there is none."""
        return seeds(self.seeds, self.first_seed)


@dataclass(frozen=True)
class Bench:
    """Time how fast agents would train on this machine, in turns, and say what a whole training would take. Nothing is kept."""

    agents: tyro.conf.Positional[tuple[str, ...]] = ("sac", "dp-wgf-v")
    """Agents; the others are compared with the first. Settings follow after colons: dp-wgf-v:w2_scale=0, sac:preset=modern:hidden=64,64."""
    env: str = "Hopper-v5"
    """Gymnasium id of an environment with Box actions; MODULE:ID imports MODULE first."""
    seeds: int = 1
    """Seeds per agent, trained as one stack."""
    preset: Annotated[str, tyro.conf.arg(metavar="NAME")] = "paper"
    """paper: settings of each agent's paper; modern: settings used today; wgf agents lists each agent's."""
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A file with options, one in a line, as in "agents: [sac, wpo]". Options beside it count more."""
    rounds: int = 10
    """Rounds in which all agents take turns, each for a quarter of a second or one update."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE.json")] = None
    """Write the numbers, the machine and the versions into this file, too."""

    def __post_init__(self) -> None:
        check_some(self, "agents")
        check_range(self, rounds=(2, None))
        self.chosen()
        if self.json is not None and (self.json.suffix != ".json" or not self.json.parent.is_dir()):
            raise ValueError(f"json {str(self.json)!r} must be a .json file in a folder that exists")

    def chosen(self) -> tuple[int, ...]:
        """Returns the seeds. Raises ValueError where there is none."""
        return seeds(self.seeds)


@dataclass(frozen=True)
class Sweep:
    """Train every agent and setting that a file names in every environment with every seed, side by side; what has finished stays."""

    environments: tuple[str, ...] = ("Hopper-v5",)
    """Gymnasium ids of environments with Box actions."""
    agents: Annotated[Any, tyro.conf.Suppress] = ("sac", "dp-wgf-v")
    """Agents as in wgf compare, each with a grid of its own if it is written {agent: NAME, grid: {...}}."""
    grid: Annotated[Any, tyro.conf.Suppress] = None
    """Settings of all agents, each with the list of its values; every combination is trained."""
    seeds: int = 5
    """Seeds per agent, setting and environment."""
    first_seed: int = 0
    """The first seed; the others follow it."""
    preset: Annotated[str, tyro.conf.arg(metavar="NAME")] = "paper"
    """paper: settings of each agent's paper; modern: settings used today; wgf agents lists each agent's."""
    stack: int = 0
    """Seeds that are trained together by one process; 0: all seeds of a setting, which costs least time of processors."""
    search: int = 0
    """Search the ranges of the file with so many settings per agent and environment, by optuna; 0: train the whole grid."""
    engine: Literal["local", "ray", "slurm"] = "local"
    """What starts the trainings: local, processes of this machine; ray, tasks of a Ray cluster; slurm, jobs by submitit."""
    slots: int = 0
    """Trainings at a time; 0: as many as processors and memory allow, and with ray and slurm as these allow."""
    ray: Annotated[Any, tyro.conf.Suppress] = None
    """Options of a Ray task, as in {num_gpus: 0.25}."""
    slurm: Annotated[Any, tyro.conf.Suppress] = None
    """Parameters of submitit, as in {slurm_partition: gpu, timeout_min: 600}."""

    def __post_init__(self) -> None:
        check_some(self, "environments")
        self.chosen()
        check_range(self, stack=(0, None), search=(0, None), slots=(0, None))

    def chosen(self) -> tuple[int, ...]:
        """Returns the seeds. Raises ValueError where there is none."""
        return seeds(self.seeds, self.first_seed)


@dataclass(frozen=True)
class Ordered:
    """What a person says of a sweep, and its file does not."""

    modules: tuple[str, ...] = ()
    """Modules of your own whose agents and environments, MODULE:NAME, the file may name; no file has a module imported, only you do."""
    dry_run: bool = False
    """Say what would be trained, and where; train nothing."""


@dataclass(frozen=True)
class Computer:
    """What computes."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N; auto takes a GPU if there is one."""
    threads: int = 0
    """Number of CPU threads; 0 lets the size of an update decide."""
    compile: Literal["auto"] | bool = "auto"
    """Updates as machine code: faster, after a minute or two of compiling, once on a machine; this needs a C++ compiler.
    auto compiles where the updates are many and large enough to save more than twice that time."""
    backend: Literal["gymnasium", "async", "envpool", "warp"] = "gymnasium"
    """What steps the environments: Gymnasium, one after another; async, Gymnasium with a process for each; EnvPool; or MuJoCo Warp, on the
    device."""

    def __post_init__(self) -> None:
        check_range(self, threads=(0, MOST_THREADS))


@dataclass(frozen=True)
class _Folder:
    out: str = "runs"
    """Folder for the results; it is made if it is missing."""
    name: str = "main"
    """Name of the experiment; a run is written to OUT/NAME/ENV/AGENT/seed-K."""


@dataclass(frozen=True)
class Place(Computer, _Folder):
    """Where the results go, and what computes them."""

    def __post_init__(self) -> None:
        check_place(self)
        super().__post_init__()


@dataclass(frozen=True)
class Show:
    """Play episodes with the deterministic actions of a saved policy, and tell their returns."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of a run, for example runs/main/Hopper-v5/sac/seed-0."""
    episodes: int = 10
    """Number of episodes."""
    video: Annotated[Path | None, tyro.conf.arg(metavar="FILE.mp4")] = None
    """Film the first episode into this file; no display is needed."""
    frames: int | None = None
    """Film at most so many steps; by default the whole episode."""
    size: Annotated[str | None, tyro.conf.arg(metavar="WIDTHxHEIGHT")] = None
    """Size of the film in pixels, two even numbers, as in 1280x720; by default that of the environment's own pictures."""
    env: str | None = None
    """The environment, where it is not the saved one; it must be given where that is MODULE:ID, since no file has a module imported."""
    agent: str | None = None
    """The agent, where it is one of your own, MODULE:NAME; it must be given for the same reason."""

    def __post_init__(self) -> None:
        check_range(self, episodes=(1, None))
        for name in ("frames", "size"):
            if getattr(self, name) is not None and self.video is None:
                raise ValueError(f"{name} is {getattr(self, name)}, of a film that is not asked for; add --video FILE.mp4")
        if self.frames is not None:
            check_range(self, frames=(1, None))
        if self.video is not None and (self.video.suffix != ".mp4" or not self.video.parent.is_dir()):
            raise ValueError(f"video {str(self.video)!r} must be an .mp4 file in a folder that exists")
        self.pixels()

    def pixels(self) -> tuple[int, int] | None:
        """Returns the width and height of the film, where they are given. Raises ValueError for what is no size of a film."""
        if self.size is None:
            return None
        found = re.fullmatch(r"(\d{1,4})x(\d{1,4})", self.size)
        numbers = [int(n) for n in found.groups()] if found else []
        if not numbers or not all(LEAST_PIXELS <= n <= MOST_PIXELS and n % 2 == 0 for n in numbers):
            raise ValueError(f"size is {self.size!r}; it must be two even numbers from {LEAST_PIXELS} to {MOST_PIXELS}, as in 1280x720")
        return numbers[0], numbers[1]


@dataclass(frozen=True)
class Export:
    """Write the deterministic policy of a run as an ONNX model: observations (n, D) -> actions (n, A), both as the environment has them."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of a run, for example runs/main/Hopper-v5/sac/seed-0."""
    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE.onnx")]
    """The file; what was there before is replaced."""
    policy: int = 0
    """Which policy, where a seed has several (svpg, ip-wgf): wgf eval names the best."""
    env: str | None = None
    """The environment, where it is not the saved one; it must be given where that is MODULE:ID, since no file has a module imported."""
    agent: str | None = None
    """The agent, where it is one of your own, MODULE:NAME; it must be given for the same reason."""


@dataclass(frozen=True)
class Resume:
    """Go on with a run that was stopped or killed, as if it had not been, or train a finished one for longer."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of a run, for example runs/main/Hopper-v5/sac/seed-0; the seeds that train with it go on too."""
    steps: int | None = None
    """Environment steps per seed in all; by default as many as the run was to take."""
    env: str | None = None
    """The environment where it is MODULE:ID: no file has a module imported, only you do."""
    agent: str | None = None
    """The agent where it is one of your own, MODULE:NAME."""

    def __post_init__(self) -> None:
        if self.steps is not None:
            check_range(self, steps=(1, None))


@dataclass(frozen=True)
class Completion:
    """Print the program that teaches a shell to complete commands, agents, environments and options of wgf."""

    shell: Annotated[tyro.conf.Positional[Shell], tyro.conf.arg(metavar="SHELL")]
    """bash or zsh."""


@dataclass(frozen=True)
class Study:
    """Fit Bayesian networks by particle flows to the sets of Hernandez-Lobato & Adams (2015), and compare the flows."""

    data: Path | None = None
    """Folder with a SET/data.txt for each set; by default the folder that the environment variable WGF_DATA names."""
    sets: tuple[str, ...] = ("boston", "energy", "yacht")
    """Which sets: boston concrete energy kin8nm naval power protein wine yacht year."""
    methods: tuple[str, ...] = ("svgd", "wgf")
    """Flows, with settings after colons: wgf:w2=exact:w2_scale=0.4, svgd:lr=0.001, smi:draws=10, blob, langevin, ensemble, dropout. The
    first is the baseline."""
    tuned: bool = False
    """Write a second table with one row per flow: each split takes, of that flow's settings in --methods, the best on its own dev part."""
    splits: int = 0
    """How many of a set's standard splits are used, from the first on; 0 uses all."""
    iterations: int = 2000
    """Minibatch steps per method."""
    particles: int = 20
    """Networks (particles) per split."""
    seed: int = 0
    """Split i starts from the random seed 1,000 * SEED + i."""
    out: str = "runs"
    """Folder for the results; it is made if it is missing."""
    name: str = "bnn"
    """Name of the study; a fit is written to OUT/NAME/SET/METHOD."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; auto takes a GPU if there is one."""
    compile: bool = False
    """Run the steps as machine code: compiling takes about ten seconds per network size and method; it needs a C++ compiler."""
    threads: int = 1
    """Number of CPU threads."""
    shards: bool = False
    """Share the particles of each fit out among the processes that torchrun started:
    torchrun --standalone --nproc-per-node=2 --no-python wgf bnn --shards True ..."""

    def __post_init__(self) -> None:
        check_place(self)
        check_some(self, "sets", "methods")
        check_range(self, iterations=(1, None), particles=(1, None), seed=(0, LARGEST_SEED), threads=(1, MOST_THREADS))


@dataclass(frozen=True)
class Fetch:
    """Fetch the standard regression sets from the network. A set that is already there is checked and not fetched again."""

    data: Path
    """Folder for the sets; it is made if it is missing."""
    sets: tuple[str, ...] = ("boston", "concrete", "energy", "kin8nm", "naval", "power", "protein", "wine", "yacht")
    """Which sets; year (200 MB) is fetched only if it is named here."""

    def __post_init__(self) -> None:
        check_some(self, "sets")


def together(name: str, groups: Mapping[str, Any]) -> Any:
    """Returns the dataclass of several groups of options, which are side by side on a command line."""
    return _joined(name, tuple((field, type(value)) for field, value in groups.items()))


@cache  # what reads a command line remembers every type that it has seen
def _joined(name: str, groups: tuple[tuple[str, type], ...]) -> Any:
    return make_dataclass(name, groups, frozen=True)


def seeds(n: int, first: int = 0) -> tuple[int, ...]:
    """Returns n seeds from ``first`` on. Raises ValueError for n < 1, and for a seed outside 0 to 999,999."""
    if n < 1:
        raise ValueError(f"seeds is {n}; it must be at least 1")
    if n > LARGEST_SEED + 1 or not 0 <= first <= LARGEST_SEED + 1 - n:
        wrong = f"seeds is {n}" if n > LARGEST_SEED + 1 else f"first-seed is {first}"
        raise ValueError(f"{wrong}; seeds must lie from 0 to {LARGEST_SEED:,}")
    return tuple(range(first, first + n))


def check_range(options: Any, **bounds: tuple[float, float | None]) -> None:
    """Raises ValueError, naming the option and its range, for one below its least value or above its largest; None is no bound."""
    for name, (least, most) in bounds.items():
        value = getattr(options, name)
        if not (least <= value and value <= (math.inf if most is None else most)):
            allowed = f"at least {least:,}" if most is None else f"from {least:,} to {most:,}"
            raise ValueError(f"{name} is {value}; it must be {allowed}")


def check_some(options: Any, *names: str) -> None:
    """Raises ValueError for an option of several words that has none, or one of them twice."""
    for name in names:
        words = getattr(options, name)
        if not words:
            raise ValueError(f"{name} is empty; name at least one, as in --{name} {' '.join(map(str, _defaults(options)[name]))}")
        if twice := [word for i, word in enumerate(words) if word in words[:i]]:
            raise ValueError(f"{name.removesuffix('s')} {twice[0]!r} is named twice; name it once")


def check_place(options: Any) -> None:
    """Raises ValueError unless ``name`` can be one folder below ``out``."""
    if options.name in ("", ".", "..") or "/" in options.name or not options.name.isprintable():
        raise ValueError(f"name is {options.name!r}; it must be the name of one folder")
    if len(os.fsencode(options.name)) > LONGEST_NAME:
        raise ValueError(f"name has {len(os.fsencode(options.name))} bytes; a folder's name has at most {LONGEST_NAME}")
    if not options.out.strip() or not options.out.isprintable():
        raise ValueError(f"out is {options.out!r}; it must be a folder")


def _defaults(options: Any) -> dict[str, Any]:
    return {field.name: field.default for field in fields(options)}
