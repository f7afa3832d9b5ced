"""Measures how far a W2 velocity shrinks a posterior: the spread at which particles come to rest, against the posterior's closed form.

    python -m wgf.runs.studies bnn_spread --out runs/results/bnn

Bayesian linear regression at fixed precisions: W ~ N(S gamma A^T y, S), S = (gamma A^T A + lambda I)^-1, A the inputs with a column of
ones. A velocity that is zero at x = x_prev lets the flow rest where it does without it; Eq. 9 and the entropic map do not. Beside them
stands Stein mixture inference (smi), whose particles have a width of their own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wgf import flow, svgd, trusted
from wgf.bnn import flows, mixture
from wgf.bnn.model import Model, Prior
from wgf.bnn.network import Net
from wgf.runs.command.options import check_range
from wgf.runs.trainer import tables
from wgf.runs.trainer.figures import figure
from wgf.transport import VELOCITIES

__all__ = ["Options", "Problem", "draw", "main", "rest", "table"]

FEATURES, ROWS, GAMMA, LAM = 2, 30, 0.2, 1.5
LR, INNER = 0.05, 4
M, SCALE = 20, 0.4  # where the other one varies
DRAWS = 10  # of each component of smi
ALONE = ("none", "smi")  # without a W2 velocity
PARTICLES, SCALES = (5, 10, 20, 40, 80), (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)


@dataclass(frozen=True)
class Options:
    """Measure the spread at which particles rest under each W2 velocity, against their number and the velocity's factor."""

    out: Path = Path("runs/spread")
    """Folder for spread.csv, spread.png and spread.pdf; it is made if it is missing."""
    steps: int = 400
    """Number of JKO steps; each takes four gradient steps."""
    repeats: int = 5
    """Number of starts; their mean and range are shown."""

    def __post_init__(self) -> None:
        check_range(self, steps=(1, None), repeats=(1, None))


class Problem:
    """One data set, its posterior's mean (3,) and covariance (3, 3), and the score of weights (S, M, 3)."""

    def __init__(self) -> None:
        g = torch.Generator().manual_seed(0)
        self.x = torch.randn(1, ROWS, FEATURES, generator=g, dtype=torch.float64)
        self.y = torch.randn(1, ROWS, 1, generator=g, dtype=torch.float64) + 1.0
        a = torch.cat([self.x[0], self.x.new_ones(ROWS, 1)], -1)
        self.covariance = torch.linalg.inv(GAMMA * a.mT @ a + LAM * torch.eye(FEATURES + 1, dtype=torch.float64))
        self.mean = self.covariance @ (GAMMA * a.mT @ self.y[0, :, 0])

    def log_joint(self, w: Tensor) -> Tensor:
        """log p(W, data) up to a constant, (S, M), by the network without hidden layers."""
        precisions = torch.tensor([GAMMA, LAM], dtype=w.dtype).log().expand(*w.shape[:-1], 2)
        model = Model(Net((FEATURES, 1)), w.shape[1], centred=True, prior=Prior())
        x, y = (t.expand(len(w), -1, -1) for t in (self.x, self.y))
        return model.log_joint(torch.cat([w, precisions], -1), x, y, torch.ones_like(y[..., 0]), ROWS)

    def score(self, w: Tensor) -> Tensor:
        """grad log p(W | data)."""
        leaf = w.detach().requires_grad_()
        return torch.autograd.grad(self.log_joint(leaf).sum(), leaf)[0]

    def spread(self, w: Tensor, within: Tensor | float = 0.0) -> Tensor:
        """sqrt(tr(S^-1 cov) / d) of particles (S, M, d), (S,): 1 where their covariance is the posterior's.

        ``within``: the variances within a particle, (S, M, d), where it has a width.
        """
        centred = w - w.mean(-2, keepdim=True)
        covariance = centred.mT @ centred / w.shape[-2] + torch.diag_embed((torch.zeros_like(w) + within).mean(-2))
        ratio: Tensor = torch.linalg.solve(self.covariance, covariance)
        return ratio.diagonal(dim1=-2, dim2=-1).mean(-1).sqrt()


def rest(problem: Problem, name: str, particles: int, scale: float, options: Options) -> Tensor:
    """Spreads (repeats,) at which SVGD plus ``scale`` times the named W2 velocity, "none" for nothing, comes to rest; or "smi"."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(options.repeats, particles, FEATURES + 1, generator=g, dtype=torch.float64)
    with trusted():
        if name == "none":
            for _ in range(options.steps * INNER):
                x = x + LR * svgd.velocity(x, problem.score(x))
            return problem.spread(x)
        if name == "smi":
            components = mixture.init(x)
            for _ in range(options.steps * INNER):
                xi = torch.randn(options.repeats, particles, DRAWS, FEATURES + 1, generator=g, dtype=torch.float64)
                v = flows.KL["smi"](components, mixture.slope(problem.log_joint, components, xi))
                components = components + LR / particles * v  # its attraction is a sum, where SVGD's is a mean
            mean, log_std = components.chunk(2, -1)
            return problem.spread(mean, torch.exp(2.0 * log_std))
        scheme = flow.jko(problem.score, h=1.0 / scale, lr=LR, inner_steps=INNER, kl=svgd.velocity, w2=VELOCITIES[name])
        state = scheme.init(x)
        for _ in range(options.steps):
            state = scheme.step(state)
    return problem.spread(state.x)


def table(options: Options) -> list[tuple[str, int, float, int, float]]:
    """(velocity, particles, scale, repeat, spread), against the particles at SCALE and against the scale at M."""
    problem, rows = Problem(), []
    for name in (*ALONE, *VELOCITIES):
        places = [(m, SCALE) for m in PARTICLES] + [(M, s) for s in SCALES if s != SCALE]
        for particles, scale in places:
            if name in ALONE and scale != SCALE:
                continue
            found = rest(problem, name, particles, scale, options).tolist()
            rows += [(name, particles, scale, i, value) for i, value in enumerate(found)]
    return rows


def draw(rows: Sequence[tuple[str, int, float, int, float]], path: Path) -> None:
    """Spread against the number of particles and against the scale: the mean over starts, and as a band their range."""
    with figure(path, columns=2, note="mean and range of the starts", panel=(6.0, 4.5), sharey=True) as axes:
        for column, (ax, kept, fixed) in enumerate(zip(axes[0], (2, 1), (SCALE, M), strict=True), 1):
            for name in dict.fromkeys(row[0] for row in rows):
                mine = [row for row in rows if row[0] == name and row[kept] == fixed]
                places = sorted({row[column] for row in mine})
                values = [[row[4] for row in mine if row[column] == place] for place in places]
                if len(places) == 1:  # without a W2 velocity there is no scale
                    places, values = list(SCALES), values * len(SCALES)
                (line,) = ax.plot(places, [np.mean(v) for v in values], label=name)
                ax.fill_between(places, [min(v) for v in values], [max(v) for v in values], color=line.get_color(), alpha=0.2, linewidth=0)
        left, right = axes[0]
        left.set(title=f"scale {SCALE}", xlabel="particles", ylabel="deviation at rest / posterior's")
        right.set(title=f"{M} particles", xlabel="scale of the W2 velocity")
        for ax, ticks in ((left, PARTICLES), (right, SCALES)):
            ax.set(xscale="log", ylim=(0.0, None))
            ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            ax.minorticks_off()


def main(options: Options, say: Callable[[str], None]) -> int:
    """Writes spread.csv, spread.png and spread.pdf; returns the exit code 0."""
    tables.writable(options.out)
    rows = table(options)
    tables.write_rows(options.out / "spread.csv", ["velocity", "particles", "scale", "repeat", "spread"], rows)
    draw(rows, options.out / "spread.png")
    say(f"{options.out / 'spread.csv'}, {options.out / 'spread.png'} .pdf")
    return 0
