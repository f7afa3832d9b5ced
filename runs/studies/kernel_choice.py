"""Measures what kernel, bandwidth, particles and step size do to a KL velocity where the law is known: normal laws of d axes.

    python -m wgf.runs.studies kernel_choice --out runs/results/kernel_choice

Particles start at N(1, 4 I) and flow until they rest. ``kept`` is their deviation there in units of that of the law, root mean square
over axes: 1 is right, less is too narrow. ``step`` is the largest of 0.2, 0.4, 0.8 and so on at which they keep the same, within 5 %. The
law is N(0, I), or has deviations from 0.3 to 3, on a logarithmic scale, so that one bandwidth has to serve them all.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from wgf import kernels, svgd, trusted
from wgf.runs.command.options import check_range
from wgf.runs.trainer import tables
from wgf.runs.trainer.figures import figure

__all__ = ["Found", "Options", "choices", "deviations", "draw", "largest", "law", "main", "rest", "rows", "scaled"]

STEP, SAME, MOST = 0.2, 0.05, 200.0
PARTICLES, AXES, M = (10, 30, 100), (1, 2, 10, 50), 30
SPREAD = 3.0  # the largest deviation of the unequal law, and 1 over its smallest


def scaled(factor: float) -> Callable[[Tensor], kernels.Kernel]:
    """An RBF whose lengthscale is a multiple of the median's."""
    return lambda x: kernels.RBF(factor * kernels.median_svgd(x))


KERNELS: dict[str, Callable[[Tensor], kernels.Kernel]] = {
    "RBF, median": scaled(1.0),
    "RBF, half": scaled(0.5),
    "RBF, double": scaled(2.0),
    "IMQ, median": lambda x: kernels.IMQ(kernels.median_svgd(x)),
}
VELOCITIES = {"svgd": svgd.velocity, "blob": svgd.blob, "gfsd": svgd.gfsd}


@dataclass(frozen=True)
class Options:
    """Measure what kernel, bandwidth, particles and step size do to a KL velocity, on normal laws."""

    out: Path = Path("runs/kernel_choice")
    """Folder for kernel_choice.md, .txt, .csv, .png and .pdf; it is made if it is missing."""
    time: float = 400.0
    """How long they flow: steps times step size."""
    repeats: int = 5
    """Number of starts; their mean is shown."""

    def __post_init__(self) -> None:
        check_range(self, time=(1.0, 1e5), repeats=(1, 1000))


class Found(NamedTuple):
    """What one choice came to: the deviation kept, and the largest step, nan where it was not looked for."""

    velocity: str
    kernel: str
    particles: int
    std: Tensor  # (d,) of the law
    kept: float
    largest: float


def deviations(axes: int, unequal: bool) -> Tensor:
    """The law's deviations, (d,)."""
    return torch.logspace(-1.0, 1.0, axes, SPREAD) if unequal else torch.ones(axes)


def rest(velocity: str, kernel: str, particles: int, std: Tensor, step: float, options: Options) -> float:
    """The deviation kept where particles rest, mean over repeats; nan where they do not stay finite."""
    g = torch.Generator().manual_seed(0)
    x = 1.0 + 2.0 * torch.randn(options.repeats, particles, len(std), generator=g)
    flow, make = VELOCITIES[velocity], KERNELS[kernel]
    with trusted():
        for _ in range(math.ceil(options.time / step)):
            x = x + step * flow(x, -x / std**2, make(x))
    return float(((x.var(-2, correction=0) / std**2).mean(-1)).sqrt().mean())


def largest(found: float, velocity: str, kernel: str, std: Tensor, options: Options) -> float:
    """The largest step, doubled from STEP on, at which M particles keep what they keep at STEP; MOST where there is no end to it."""
    step = STEP
    while step < MOST and abs(rest(velocity, kernel, M, std, 2.0 * step, options) / found - 1.0) < SAME:
        step *= 2.0
    return step


def choices(options: Options) -> Iterator[Found]:
    """Measures every choice, on N(0, I) of each number of axes and on the unequal law of ten."""
    for velocity in VELOCITIES:
        for kernel in KERNELS:
            for std in [*(deviations(d, False) for d in AXES), deviations(10, True)]:
                for particles in PARTICLES:
                    kept = rest(velocity, kernel, particles, std, STEP, options)
                    step = largest(kept, velocity, kernel, std, options) if particles == M else math.nan
                    yield Found(velocity, kernel, particles, std, kept, step)


def law(std: Tensor) -> str:
    """A law in words."""
    return f"d = {len(std)}" + (", unequal" if float(std[0]) < float(std[-1]) else "")


def rows(found: list[Found]) -> Iterator[tables.Row]:
    """Writes one row per velocity and kernel: what is kept by each number of axes and particles, and the largest step at M."""
    for velocity, kernel in dict.fromkeys((f.velocity, f.kernel) for f in found):
        mine = [f for f in found if (f.velocity, f.kernel) == (velocity, kernel)]
        row = {"velocity": velocity, "kernel": kernel}
        for name in dict.fromkeys(law(f.std) for f in mine):
            part = [f for f in mine if law(f.std) == name]
            row[f"kept, {name}"] = ", ".join(f"{f.kept:.2f}" for f in part)
        for f in mine:
            if not math.isnan(f.largest):
                row[f"step, {law(f.std)}"] = f"{f.largest:g}" if f.largest < MOST else "any"
        yield row


def draw(found: list[Found], path: Path) -> None:
    """What is kept against the number of axes, at M particles, a line per velocity and kernel."""
    with figure(path, columns=len(VELOCITIES), note=f"{M} particles, N(0, I) of d axes") as axes:
        for ax, velocity in zip(axes[0], VELOCITIES, strict=True):
            for kernel in KERNELS:
                kept = [f.kept for f in found if (f.velocity, f.kernel, f.particles) == (velocity, kernel, M) and "un" not in law(f.std)]
                ax.plot(AXES, kept, label=kernel)
            ax.set(title=velocity, xlabel="axes d", ylabel="deviation kept", xscale="log", ylim=(0.0, 1.2))
            ax.set_xticks(AXES, [str(d) for d in AXES])


def main(options: Options, say: Callable[[str], None]) -> int:
    """Measures, draws and says; returns the exit code 0."""
    tables.writable(options.out)
    found = list(choices(options))
    draw(found, options.out / "kernel_choice.png")
    sizes = ", ".join(map(str, PARTICLES))
    note = f"kept: with {sizes} particles. step: the largest with {M}. {options.repeats} starts, time {options.time:g}."
    say(tables.write(options.out / "kernel_choice", list(rows(found)), note))
    return 0
