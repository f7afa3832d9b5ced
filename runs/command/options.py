"""The options of the commands. Free of torch, so that --help answers at once; each field's docstring is its help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

Preset = Literal["paper", "modern"]


@dataclass(frozen=True)
class What:
    """What to train on."""

    env: str = "Hopper-v5"
    """Gymnasium id of an environment with Box actions; MODULE:ID imports MODULE first."""
    seeds: int = 1
    """Number of seeds, trained as one stack."""
    first_seed: int = 0
    """The first of them."""
    preset: Preset = "paper"
    """paper: the agent's paper, as Tables 4 to 6 of Zhang et al. 2018. modern: what is used today. It changes the agent options below."""

    def chosen(self) -> tuple[int, ...]:
        """The seeds. Raises ValueError for none."""
        return seeds(self.seeds, self.first_seed)


@dataclass(frozen=True)
class Contest:
    """What to compare."""

    agents: tuple[str, ...] = ("sac", "dp-wgf-v")
    """Agents, the first the baseline. Settings follow a colon: dp-wgf-v:w2_scale=0, sac:preset=modern:lr=0.001."""
    env: str = "Hopper-v5"
    """Gymnasium id of an environment with Box actions; MODULE:ID imports MODULE first."""
    seeds: int = 5
    """Number of seeds, trained as one stack an agent."""
    preset: Preset = "paper"
    """paper: the agent's paper, as Tables 4 to 6 of Zhang et al. 2018. modern: what is used today."""
    threshold: float | None = None
    """Return for the column "episodes to"; by default that of the paper's Table 2, or Gymnasium's own."""


@dataclass(frozen=True)
class Place:
    """Where results go and what computes them."""

    out: str = "runs"
    """Folder for results, made if missing."""
    name: str = "main"
    """Name of the experiment: runs are written to OUT/NAME/ENV/AGENT/seed-K."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; auto is a GPU where there is one."""
    threads: int = 0
    """CPU threads; 0 chooses by the size of an update."""
    compile: Literal["auto"] | bool = "auto"
    """The update as machine code, of agents that learn from a replay: faster, after up to a minute of compiling; needs a C++ compiler.
    auto: where the updates are many and large enough to save more than twice that."""
    backend: Literal["gymnasium", "envpool"] = "gymnasium"
    """Who steps the environments."""

    def __post_init__(self) -> None:
        if self.name in ("", ".", "..") or "/" in self.name:
            raise ValueError(f"name is {self.name!r}; it must be the name of one folder")
        if self.threads < 0:
            raise ValueError(f"threads is {self.threads}; it must be at least 0, where 0 chooses")


@dataclass(frozen=True)
class Show:
    """Returns of a saved policy with its deterministic actions."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder of a run, such as runs/main/Hopper-v5/sac/seed-0."""
    episodes: int = 10
    """Episodes."""
    video: Annotated[Path | None, tyro.conf.arg(metavar="FILE.mp4")] = None
    """Film the first episode; needs no display."""


@dataclass(frozen=True)
class Study:
    """Bayesian regression on the sets of Hernandez-Lobato & Adams (2015), by particle flows side by side."""

    data: Path | None = None
    """Folder with SET/data.txt; by default what the environment variable WGF_DATA names."""
    sets: tuple[str, ...] = ("boston", "energy", "yacht")
    """Sets: boston concrete energy kin8nm naval power protein wine yacht year."""
    methods: tuple[str, ...] = ("svgd", "wgf")
    """Flows, settings after a colon: wgf:w2=exact:w2_scale=0.4, svgd:lr=0.001, blob, langevin, ensemble. Differences are to the first."""
    tuned: bool = False
    """A second table, a row a flow: of the settings that --methods gives a flow, each split takes the best by its own dev part."""
    splits: int = 0
    """The first so many of a set's standard splits; 0 is all of them."""
    iterations: int = 2000
    """Minibatch steps of every method."""
    particles: int = 20
    """Networks a split."""
    seed: int = 0
    """Split i starts from seed 1,000 seed + i."""
    out: str = "runs"
    """Folder for results, made if missing."""
    name: str = "bnn"
    """Name of the study: OUT/NAME/SET/METHOD."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; auto is a GPU where there is one."""
    compile: bool = False
    """Steps as machine code: some ten seconds for each network size and method, then faster; needs a C++ compiler."""
    threads: int = 1
    """CPU threads."""


@dataclass(frozen=True)
class Fetch:
    """Fetch the standard regression sets from the network; what is there already is checked and left alone."""

    data: Path
    """Folder for the sets, made if missing."""
    sets: tuple[str, ...] = ("boston", "concrete", "energy", "kin8nm", "naval", "power", "protein", "wine", "yacht")
    """Sets; year, 200 MB, only where it is named."""


def seeds(n: int, first: int = 0) -> tuple[int, ...]:
    """n seeds from ``first`` on. Raises ValueError for none, or for one that environments do not take."""
    if n < 1:
        raise ValueError(f"seeds is {n}; it must be at least 1")
    if not 0 <= first <= 1_000_000 - n:
        raise ValueError(f"first-seed is {first}; seeds must lie from 0 to 999,999")
    return tuple(range(first, first + n))
