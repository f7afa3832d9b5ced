"""Shows that the JKO scheme tends to the Fokker-Planck equation as its step h tends to 0 (Zhang et al. 2018, Eq. 6).

    python -m wgf.runs.studies fokker_planck --out runs/results/fokker_planck

From N(2, 1/4) the flow of KL to N(0, 1) solves d mu/dt = div(mu x) + Laplace mu: the law of Ornstein and Uhlenbeck, with the mean
m e^-t and the variance 1 + (s^2 - 1) e^-2t. The scheme is that of ``wgf.flow.jko`` with Blob's velocity and exact
transport: the mean's error halves when h halves. The deviation keeps an error of about -0.014, since Blob sees the law through a
kernel, whose width does not depend on h.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wgf import flow, transport
from wgf.runs.command.options import check_range
from wgf.runs.trainer import tables
from wgf.runs.trainer.figures import figure

__all__ = ["Options", "draw", "law", "main", "path", "rows"]

MEAN, STD, TIME, STEPS = 2.0, 0.5, 2.0, (0.4, 0.2, 0.1, 0.05)
STIFF, INNER = 40.0, 200  # above Blob's Lipschitz constant; of a move the inner steps leave (1 - (1/h + 1) / (1/h + STIFF))^INNER
MOST = 10_000  # particles: each step holds all pairs


@dataclass(frozen=True)
class Options:
    """Follow the JKO scheme with shorter and shorter steps to the Fokker-Planck equation."""

    out: Path = Path("runs/fokker_planck")
    """Folder for fokker_planck.md, .txt, .csv, .png and .pdf; it is made if it is missing."""
    particles: int = 50
    """Number of particles."""

    def __post_init__(self) -> None:
        check_range(self, particles=(2, MOST))


def law(time: Tensor) -> Tensor:
    """Returns mean and deviation of the Fokker-Planck equation's law at each time, (..., 2)."""
    return torch.stack([MEAN * (-time).exp(), (1.0 + (STD**2 - 1.0) * (-2.0 * time).exp()).sqrt()], -1)


def path(h: float, particles: int) -> Tensor:
    """Returns mean and deviation of the particles before the first step of size h and after each up to TIME, (TIME / h + 1, 2)."""
    u = (torch.arange(particles, dtype=torch.float64)[:, None] + 0.5) / particles
    z = torch.special.ndtri(u)
    scheme = flow.jko(torch.neg, h=h, lr=1.0 / (1.0 / h + STIFF), inner_steps=INNER, w2=transport.exact)
    states = [scheme.init(MEAN + STD * z / z.std(correction=0))]
    for _ in range(round(TIME / h)):
        states.append(scheme.step(states[-1]))
    return torch.stack([torch.stack([state.x.mean(), state.x.std(correction=0)]) for state in states])


def rows(paths: dict[float, Tensor]) -> list[tables.Row]:
    """Writes one row a step size: mean and deviation at TIME, and how far they are from those of the law."""
    found: list[tables.Row] = []
    last = math.nan
    for h, moments in paths.items():
        mean, std = moments[-1].tolist()
        mean_gap, std_gap = (moments[-1] - law(torch.tensor(TIME, dtype=torch.float64))).tolist()
        ratio = "-" if math.isnan(last) else f"{last / mean_gap:.2f}"
        last = mean_gap
        cells = {"mean": f"{mean:.4f}", "its error": f"{mean_gap:.4f}", "error of 2 h / error": ratio}
        found.append({"h": f"{h:g}", **cells, "deviation": f"{std:.4f}", "error of the deviation": f"{std_gap:+.4f}"})
    return found


def draw(paths: dict[float, Tensor], file: Path) -> None:
    """Draws mean and deviation over time against the law's, and the sizes of their errors at TIME over h."""
    time = torch.linspace(0.0, TIME, 200, dtype=torch.float64)
    note = f"JKO steps of size h from N({MEAN:g}, {STD:g}²) towards N(0, 1), Blob and exact transport"
    with figure(file, columns=3, note=note) as axes:
        for k, name in enumerate(("mean", "deviation")):
            ax = axes[0, k]
            for h, moments in paths.items():
                ax.plot(h * torch.arange(len(moments)), moments[:, k], linewidth=0.8, label=f"h = {h:g}")
            ax.plot(time, law(time)[:, k], "k--", label="Fokker-Planck equation")
            ax.set(title=name, xlabel="time")
        end = law(time)[-1]
        errors = torch.stack([(moments[-1] - end).abs() for moments in paths.values()])
        ax, steps = axes[0, 2], list(paths)
        ax.loglog(steps, errors[:, 0], "C4P-", label="error of the mean")
        ax.loglog(steps, errors[:, 1], "C5X--", label="error of the deviation, size")
        ax.loglog(steps, [0.5 * TIME * float(end[0]) * h for h in steps], "k:", label="proportional to h")
        ax.set_xticks(steps, [f"{h:g}" for h in steps], minor=False)
        ax.set_xticks([], minor=True)
        ax.set(title=f"errors at time {TIME:g}", xlabel="h")


def main(options: Options, say: Callable[[str], None]) -> int:
    """Follows each step size, draws and says; returns the exit code 0."""
    tables.writable(options.out)
    paths = {h: path(h, options.particles) for h in STEPS}
    draw(paths, options.out / "fokker_planck.png")
    say(tables.write(options.out / "fokker_planck", rows(paths), f"{options.particles} particles, time {TIME:g}."))
    return 0
