"""The options of the commands. Nothing here imports torch, so that --help answers at once; the docstring of a field is its help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

Preset = Literal["paper", "modern"]


@dataclass(frozen=True)
class What:
    """The task, the seeds and the preset."""

    env: str = "Hopper-v5"
    """Gymnasium id of an environment with Box actions; MODULE:ID imports MODULE first."""
    seeds: int = 1
    """Number of seeds; all are trained together, as one stack."""
    first_seed: int = 0
    """The first seed; the others follow it."""
    preset: Preset = "paper"
    """paper: settings of the agent's paper. modern: settings used today. The preset sets the defaults of the agent options below."""

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
    preset: Preset = "paper"
    """paper: settings of each agent's paper. modern: settings used today."""
    threshold: float | None = None
    """The column "episodes to" counts episodes until this return; by default the return of the paper's Table 2, or Gymnasium's own."""


@dataclass(frozen=True)
class Place:
    """Where the results go, and what computes them."""

    out: str = "runs"
    """Folder for the results; it is made if it is missing."""
    name: str = "main"
    """Name of the experiment; a run is written to OUT/NAME/ENV/AGENT/seed-K."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; auto takes a GPU if there is one."""
    threads: int = 0
    """Number of CPU threads; 0 lets the size of an update decide."""
    compile: Literal["auto"] | bool = "auto"
    """Updates as machine code: faster, after up to a minute of compiling; this needs a C++ compiler.
    auto compiles where the updates are many and large enough to save more than twice that time."""
    backend: Literal["gymnasium", "envpool"] = "gymnasium"
    """The package that steps the environments."""

    def __post_init__(self) -> None:
        if self.name in ("", ".", "..") or "/" in self.name:
            raise ValueError(f"name is {self.name!r}; it must be the name of one folder")
        if self.threads < 0:
            raise ValueError(f"threads is {self.threads}; it must be at least 0, where 0 chooses")


@dataclass(frozen=True)
class Show:
    """Play episodes with the deterministic actions of a saved policy, and tell their returns."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of a run, for example runs/main/Hopper-v5/sac/seed-0."""
    episodes: int = 10
    """Number of episodes."""
    video: Annotated[Path | None, tyro.conf.arg(metavar="FILE.mp4")] = None
    """Film the first episode into this file; no display is needed."""
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


@dataclass(frozen=True)
class Study:
    """Fit Bayesian networks by particle flows to the sets of Hernandez-Lobato & Adams (2015), and compare the flows."""

    data: Path | None = None
    """Folder with a SET/data.txt for each set; by default the folder that the environment variable WGF_DATA names."""
    sets: tuple[str, ...] = ("boston", "energy", "yacht")
    """Which sets: boston concrete energy kin8nm naval power protein wine yacht year."""
    methods: tuple[str, ...] = ("svgd", "wgf")
    """Flows, with settings after colons: wgf:w2=exact:w2_scale=0.4, svgd:lr=0.001, blob, langevin, ensemble. The first is the baseline."""
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


@dataclass(frozen=True)
class Fetch:
    """Fetch the standard regression sets from the network. A set that is already there is checked and not fetched again."""

    data: Path
    """Folder for the sets; it is made if it is missing."""
    sets: tuple[str, ...] = ("boston", "concrete", "energy", "kin8nm", "naval", "power", "protein", "wine", "yacht")
    """Which sets; year (200 MB) is fetched only if it is named here."""


def seeds(n: int, first: int = 0) -> tuple[int, ...]:
    """Returns n seeds from ``first`` on. Raises ValueError for n < 1, and for a seed outside 0 to 999,999."""
    if n < 1:
        raise ValueError(f"seeds is {n}; it must be at least 1")
    if not 0 <= first <= 1_000_000 - n:
        raise ValueError(f"first-seed is {first}; seeds must lie from 0 to 999,999")
    return tuple(range(first, first + n))
