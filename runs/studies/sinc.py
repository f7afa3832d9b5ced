"""Compares gradients, penalties and natural gradients on a sum of sinc functions, Figure 1 of Moskovitz et al. 2020 (arXiv 2010.05380).

    python -m wgf.runs.studies sinc --out runs/results/sinc

Descends L(theta) = sum_i E[1 - sin(x_i) / x_i], x ~ N(mean, diag std^2) in 100 dimensions, in (mean, log std) or (mean, variance). The
integral is exact: E sin(x) / x = (1/2) int_{-1}^{1} cos(k mean) exp(-k^2 std^2 / 2) dk, by 24 nodes of Gauss and Legendre. The paper
leaves open the start, here mean ~ N(0, I) and std 1, and how a penalty is minimised, here by ``inner`` gradient steps from the iterate it
is measured from: with one it would be the gradient itself, since a penalty has no slope there. Its Eq. 19 is printed without the sign.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from wgf import natural, trusted
from wgf.runs.command.options import LARGEST_SEED, check_range
from wgf.runs.trainer import tables
from wgf.runs.trainer.figures import figure

__all__ = ["Law", "Options", "descend", "loss", "losses", "main", "moved", "pull", "slope"]

DIMENSIONS, STEP, NODES = 100, 0.9, 24
STEPS = tuple(float(f"{x:.2g}") for x in np.geomspace(1e-3, 10.0, 9))  # of panel (f)
WEIGHTS = (0.1, 1.0, 10.0, 100.0)  # of penalties
RULE = np.polynomial.legendre.leggauss(NODES)
SHOWN = (1e-12, 3.0)  # of losses, in the figure
FLOOR = 1e-30  # of a variance, which a step may take below 0
COORDINATES = {"log_std": "log std", "variance": "variance"}
NATURAL = {"Fisher": natural.gaussian_fisher, "Wasserstein": natural.gaussian_wasserstein}
PENALTIES = ("KL", "W2")


@dataclass(frozen=True)
class Options:
    """Descend to a deterministic optimum by gradients, penalties and natural gradients, as in Figure 1 of Moskovitz et al. 2020."""

    out: Path = Path("runs/sinc")
    """Folder for sinc.md, .txt, .csv, .png and .pdf; it is made if it is missing."""
    iterations: int = 4000
    """Gradient steps of every method."""
    inner: int = 5
    """Gradient steps on a penalised loss before its centre moves to the iterate."""
    seed: int = 0
    """Random seed of the first mean."""

    def __post_init__(self) -> None:
        check_range(self, iterations=(1, 1_000_000), inner=(1, None), seed=(0, LARGEST_SEED))


class Law(NamedTuple):
    """N(mean, diag std^2), of (*b, d) each; or a slope in both."""

    mean: Tensor
    std: Tensor


def _nodes(like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights on (-1, 1), (24,) each."""
    return cast(tuple[Tensor, Tensor], tuple(torch.from_numpy(x).to(like) for x in RULE))


def loss(law: Law) -> Tensor:
    """Returns E[1 - sin(x) / x] of every dimension, (*b, d), as (1/2) sum_k w_k (1 - cos(k mean) e^(-k^2 std^2 / 2)), near 0 too."""
    k, w = _nodes(law.mean)
    decay = -0.5 * (k * law.std[..., None]).square()
    return 0.5 * (w * (-torch.expm1(decay) + 2.0 * (0.5 * k * law.mean[..., None]).sin().square() * decay.exp())).sum(-1)


def slope(law: Law) -> Law:
    """Returns the gradient of ``loss`` in mean and std."""
    k, w = _nodes(law.mean)
    weight = 0.5 * w * k * (-0.5 * (k * law.std[..., None]).square()).exp()
    angle = k * law.mean[..., None]
    return Law((weight * angle.sin()).sum(-1), law.std * (weight * k * angle.cos()).sum(-1))


def pull(penalty: str, law: Law, centre: Law) -> Law:
    """Returns the gradient in mean and std of half of W2^2(law, centre), or of KL(centre || law), per dimension."""
    if penalty == "W2":
        return Law(law.mean - centre.mean, law.std - centre.std)
    apart = law.mean - centre.mean
    inverse = 1.0 / law.std
    return Law(apart * inverse.square(), inverse - (centre.std.square() + apart.square()) * inverse**3)


def moved(law: Law, down: Law, step: Tensor | float, phi: str, metric: str = "") -> Law:
    """Returns the law after theta <- theta - step G^-1 g, g the gradient in (mean, phi), of ``down``, that in (mean, std)."""
    along = natural.SLOPES[phi](law.std)
    move = Law(down.mean, down.std * along)
    if metric:
        entries = NATURAL[metric](law.std, phi)
        move = Law(move.mean / entries.mean, move.std / entries.phi)
    mean, change = law.mean - step * move.mean, step * move.std
    if phi == "log_std":
        return Law(mean, (law.std.log() - change).exp())
    return Law(mean, (law.std.square() - change).clamp_min(FLOOR).sqrt())


def descend(options: Options, phi: str, method: str, steps: Tensor | float = STEP, weights: Tensor | float = 0.0) -> list[Law]:
    """Returns every iterate of a method: "gradient", a metric of NATURAL or one of PENALTIES; step sizes and weights (*b, 1) or numbers."""
    start = torch.randn(DIMENSIONS, dtype=torch.float64, generator=torch.Generator().manual_seed(options.seed))
    mean = start + torch.zeros_like(torch.as_tensor(steps + weights))
    law = centre = Law(mean, torch.ones_like(mean))
    path = [law]
    for t in range(options.iterations):
        down = slope(law)
        if method in PENALTIES:
            centre = law if t % options.inner == 0 else centre
            down = Law(*(g + weights * p for g, p in zip(down, pull(method, law, centre), strict=True)))
        law = moved(law, down, steps, phi, method if method in NATURAL else "")
        path.append(law)
    return path


def losses(path: list[Law]) -> Tensor:
    """Returns the mean of ``loss`` over dimensions at every iterate, (iterations + 1, *b); inf where it is not a number."""
    return torch.stack([loss(law).mean(-1) for law in path]).nan_to_num(torch.inf, torch.inf)


METHODS = ("gradient", *NATURAL, *PENALTIES)


def main(options: Options, say: Callable[[str], None]) -> int:
    """Runs every method, and writes the table and the figure; returns an exit code."""
    folder = tables.writable(options.out)
    column = torch.tensor(WEIGHTS, dtype=torch.float64)[:, None]
    grid = torch.tensor(STEPS, dtype=torch.float64)[:, None]
    with trusted():  # a method may diverge
        paths = {(phi, m): descend(options, phi, m, weights=0.1) for phi in COORDINATES for m in METHODS}
        seen = {key: losses(path) for key, path in paths.items()}
        penalised = {m: losses(descend(options, "log_std", m, weights=column)) for m in PENALTIES}
        ends = {m: losses(descend(options, "log_std", m, steps=grid, weights=0.1)[-1:])[0] for m in METHODS}
    marks = sorted({min(options.iterations, t) for t in (10, 100, 1000, 4000)})
    rows = [
        {"coordinates": f"mean, {COORDINATES[phi]}", "method": m}
        | {f"loss per dimension after {t:,}": f"{curve[t]:.3g}" for t in marks}
        | {"deviation, the first": f"{paths[phi, m][-1].std[0]:.3g}"}
        for (phi, m), curve in seen.items()
    ]
    note = f"Step size {STEP}, penalties of weight 0.1 with {options.inner} gradient steps an iterate, seed {options.seed}."
    say(tables.write(folder / "sinc", rows, note))
    with figure(folder / "sinc.png", rows=2, columns=3, note=note) as axes:
        for axis, penalty, metric in zip(axes[0], PENALTIES[::-1], list(NATURAL)[::-1], strict=False):
            for i, weight in enumerate(WEIGHTS):
                axis.loglog(penalised[penalty][:, i], marker="1234"[i], label=f"penalty of weight {weight:g}")
            axis.loglog(seen["log_std", metric], "k-", label="natural gradient")
            axis.set(
                title=f"{metric}: penalty {penalty}, natural gradient", xlabel="gradient steps", ylabel="loss per dimension", ylim=SHOWN
            )
        for method in ("gradient", *NATURAL):
            path = paths["log_std", method]
            axes[0, 2].plot([law.mean[0] for law in path], [law.std[0] for law in path], label=method)
        axes[0, 2].set(title="The first dimension", xlabel="mean", ylabel="deviation")
        for axis, (phi, name) in zip(axes[1], COORDINATES.items(), strict=False):
            for method in METHODS:
                axis.loglog(seen[phi, method], label=method)
            axis.set(title=f"In mean and {name}", xlabel="gradient steps", ylabel="loss per dimension", ylim=SHOWN)
        for method in METHODS:
            axes[1, 2].loglog(STEPS, ends[method], label=method)
        axes[1, 2].set(title=f"After {options.iterations:,}, log std", xlabel="step size", ylabel="loss per dimension", ylim=SHOWN)
    say(f"table: {folder / 'sinc.md'} .csv .txt\nfigure: {folder / 'sinc.png'} .pdf")
    return 0
