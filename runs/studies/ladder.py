"""The ladder from SAC to a Wasserstein gradient flow: what each step of it is worth, in returns and in time.

    python -m wgf.runs.studies ladder --env Hopper-v5
    python -m wgf.runs.studies ladder --env Hopper-v5 --known evaluations.csv    # what that file lacks is trained, and joined to it

Each rung changes one thing of the one below it. sac: SAC. draws: its policy's step as the velocity of KL at M draws per state, by the
policy's own density. kernel: the same through SVGD's kernel. On top of it noise: a trust region of common noise; radius: one whose scale
is learned, so that it has a radius; eq9: Eq. 9 as Zhang et al. 2018 print it. Critics, backup and temperature are SAC's on every rung.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from typing import NamedTuple

from wgf.agents.training.schedule import Schedule
from wgf.runs.command.options import Contest, Place, check_range
from wgf.runs.command.options import seeds as seeds_of
from wgf.runs.trainer import tables
from wgf.runs.trainer.compare import PARTS, Curves, plan
from wgf.runs.trainer.evaluations import Plan, gather, planned, write_rows
from wgf.runs.trainer.figures import caption, figure, returns
from wgf.runs.trainer.statistics import difference, holm

__all__ = ["RUNGS", "Options", "Rung", "below", "main", "rows"]


class Rung(NamedTuple):
    """What is trained, as in `wgf compare`, and the rung that it is compared with."""

    agent: str
    below: str


RUNGS = {
    "sac": Rung("sac", ""),
    "draws": Rung("wgf-sac:kl=density", "sac"),
    "kernel": Rung("wgf-sac:kl=svgd", "draws"),
    "noise": Rung("wgf-sac:kl=svgd:w2=common_noise:w2_scale=0.4:previous=average", "kernel"),
    "radius": Rung("wgf-sac:kl=svgd:w2=common_noise:w2_scale=0.4:previous=average:w2_radius=0.1", "kernel"),
    "eq9": Rung("wgf-sac:kl=svgd:w2=eq9_sum:w2_scale=0.4:previous=last", "kernel"),
}
SIZE = "preset=modern:hidden=128,128:batch=64"


@dataclass(frozen=True)
class Options:
    """Train every rung from SAC to a Wasserstein gradient flow, and compare each with the one below."""

    env: str = "Hopper-v5"
    """Gymnasium id of an environment with Box actions."""
    rungs: tuple[str, ...] = tuple(RUNGS)
    """Which rungs; one whose rung below is left out is compared with SAC."""
    size: str = SIZE
    """What all rungs have in common, as in `wgf compare`: a preset and settings."""
    particles: int = 8
    """Draws per state, M."""
    steps: int = 100_000
    """Environment steps per seed."""
    seeds: int = 10
    """Seeds per rung, trained as one stack."""
    first_seed: int = 0
    """The first seed; the others follow it."""
    warmup: int = 1_000
    """Environment steps of uniform actions before the first update."""
    known: Path | None = None
    """Evaluations that an earlier run of this command wrote: a CSV file. The seeds that it has are not trained again."""
    place: Place = field(default_factory=lambda: Place(name="ladder", threads=1))

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.rungs) - set(RUNGS)):
            raise ValueError(f"rungs has {unknown[0]!r}; it may have {', '.join(RUNGS)}")
        if "sac" not in self.rungs:
            raise ValueError(f"rungs is {', '.join(self.rungs)}; it needs sac, which the others are compared with")
        check_range(self, particles=(2, None), steps=(1, None), seeds=(2, None))
        seeds_of(self.seeds, self.first_seed)

    def plan(self, rung: str) -> Plan:
        """Returns the training of a rung: twenty looks of five episodes."""
        agent, flow = RUNGS[rung].agent, f":particles={self.particles}" if rung != "sac" else ""
        every = max(1, self.steps // 20)
        schedule = Schedule(steps=self.steps, warmup=self.warmup, eval_every=every, eval_episodes=5)
        found = plan(f"{agent}:{self.size}{flow}", Contest((agent,), self.env, self.seeds, self.first_seed), schedule, self.place)
        return planned(found, rung)


def below(rung: str, rungs: Sequence[str]) -> str:
    """Returns the rung that one is compared with: the one below it, or SAC where that was not trained."""
    return RUNGS[rung].below if RUNGS[rung].below in rungs else "sac"


def rows(curves: dict[str, Curves]) -> list[tables.Row]:
    """Returns a line per rung: mean returns over training and at the end, how they differ from those of the rung below, and the time.

    Times compare where all were trained; of runs that are known alone nobody knows on which machine they were.
    """
    lines: dict[str, dict[str, str]] = {
        rung: {"rung": rung, "compared with": "-" if rung == "sac" else below(rung, list(curves))} for rung in curves
    }
    for part, of in PARTS.items():
        pairs = {rung: difference(of(c), of(curves[below(rung, list(curves))])) for rung, c in curves.items() if rung != "sac"}
        welch, ranks = (holm([getattr(pair, test) for pair in pairs.values()]) for test in ("welch", "ranks"))
        said = {rung: f"{pair.interval}, p {p:.2g}, {q:.2g}" for (rung, pair), p, q in zip(pairs.items(), welch, ranks, strict=True)}
        for rung, c in curves.items():
            lines[rung] |= {f"return {part}, mean": f"{of(c).mean():,.4g}", f"difference {part}": said.get(rung, "-")}
    for rung, c in curves.items():
        time = curves["sac"].rate / c.rate
        lines[rung]["time / sac"] = "-" if isnan(time) else f"{time:.2f}"
    return list(lines.values())


NOTE = (
    "Differences of means with 95 % t-intervals (Welch), and p of no difference by Welch's t and by Mann and Whitney's exact test, "
    "both by Holm for all rungs of the column together."
)


def main(options: Options, say: Callable[[str], None]) -> int:
    """Trains what is missing, then writes the table, every evaluation, and a figure; returns an exit code."""
    plans = {rung: options.plan(rung) for rung in options.rungs}
    code, curves = gather(plans, options.known, say)
    if code:
        return code
    folder = tables.writable(Path(options.place.out) / options.place.name)
    say(tables.write(folder / "ladder", rows(curves), NOTE))
    write_rows(folder / "evaluations.csv", zip(plans.values(), curves.values(), strict=True), options.known)
    with figure(folder / "ladder.png", note=caption(options.seeds), panel=(7.0, 5.0)) as axes:
        for rung, c in curves.items():
            returns(axes[0, 0], c.steps, c.evals, rung)
        axes[0, 0].set(title=options.env, xlabel="environment steps per seed", ylabel="evaluation return")
    say(f"table: {folder / 'ladder.md'} .csv .txt\nrows: {folder / 'evaluations.csv'}\nfigure: {folder / 'ladder.png'} .pdf")
    return 0
