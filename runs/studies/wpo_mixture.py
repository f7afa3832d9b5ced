"""Repeats Sec. 4.2 of Pfau et al. 2025: a mixture of two Gaussians climbs Q = -a^4 / 100 + a^2, whose maxima are -sqrt 50 and sqrt 50.

    python -m wgf.runs.studies wpo_mixture --out runs/results/wpo

It runs WPO in two ways: by conjugate gradients on the mixture's Fisher matrix, and with the paper's replacement for the inverse, which
multiplies all parameters of a component by its std^2. It starts from stds of 10, as printed in the paper, and from variances of 10, from
which the variance grows before it falls.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wgf import projection, trusted
from wgf.agents.training.ranges import check
from wgf.policies.gaussian import GaussianMixture
from wgf.policies.unbounded import flat, unflat
from wgf.runs.command.options import LARGEST_SEED, check_range
from wgf.runs.trainer import tables
from wgf.runs.trainer.figures import figure

__all__ = ["FORMS", "OPTIMUM", "STARTS", "Options", "arrival", "climb", "draw_paths", "main", "slope", "table"]

OPTIMUM = math.sqrt(50.0)
STARTS = {"std 10": 10.0, "variance 10": math.sqrt(10.0)}
FORMS = {"fisher": "conjugate gradients", "std^2": "std^2 for the inverse"}
NEAR = 0.25


@dataclass(frozen=True)
class Options:
    """Let a mixture of two Gaussians climb a function with two maxima, in two ways."""

    out: Path = Path("runs/wpo")
    """Folder for mixture.png and mixture.md; it is made if it is missing."""
    iterations: int = 2000
    """Number of steps."""
    batch: int = 1024
    """Draws per step."""
    lr: float = 3e-3
    """Step size."""
    seeds: int = 5
    """Number of seeds."""

    def __post_init__(self) -> None:
        check(self)
        check_range(self, iterations=(1, None), seeds=(1, LARGEST_SEED))


def slope(a: Tensor) -> Tensor:
    """Q'(a) = -a^3 / 25 + 2 a."""
    return -a.pow(3) / 25.0 + 2.0 * a


def climb(form: str, stds: Sequence[float], options: Options) -> Tensor:
    """Returns logits, means and stds (iterations + 1, starts, seeds, 6) from equal weights, means 1 and -1 and each of ``stds``."""
    shape = (len(stds), options.seeds)
    std = torch.tensor(stds, dtype=torch.float64)[:, None, None, None].expand(*shape, 2, 1)
    first = GaussianMixture(torch.zeros_like(std[..., 0]), torch.tensor([[1.0], [-1.0]], dtype=std.dtype).expand_as(std), std)
    generators = [torch.Generator().manual_seed(k) for k in range(options.seeds)]

    def log_prob(phi: Tensor, a: Tensor) -> Tensor:
        return unflat(phi, first).log_prob(a)

    path = [flat(first)]
    for _ in range(options.iterations):
        law = unflat(path[-1], first)
        noise = torch.stack([torch.randn(2 * options.batch, 2, generator=g, dtype=std.dtype) for g in generators])
        a, others = law.draw(noise.expand(*shape, -1, -1)).chunk(2, -2)
        g = slope(a) / options.batch
        if form == "fisher":
            direction = projection.direction(log_prob, path[-1], a, g, others, damping=1e-3, steps=6)
        else:
            scale = law.std.square()
            direction = projection.ascent(log_prob, path[-1], a, g) * flat(GaussianMixture(scale[..., 0], scale, scale))
        path.append(path[-1] + options.lr * direction)
    return torch.stack(path)


def arrival(path: Tensor) -> Tensor:
    """Returns the step from which on one mean is within ``NEAR`` of each maximum and no weight below 0.1, (starts, seeds); inf for none."""
    weight, mean = path[..., :2].softmax(-1), path[..., 2:4].sort(-1).values
    there = ((mean - OPTIMUM * mean.new_tensor([-1.0, 1.0])).abs() < NEAR).all(-1) & (weight > 0.1).all(-1)
    stays = there.flip(0).cumprod(0).flip(0)
    return torch.where(stays.any(0), len(path) - stays.sum(0).double(), math.inf)


def draw_paths(paths: dict[str, Tensor], path: Path) -> None:
    """Draws means and deviations of both components along the steps, for seed 0."""
    note = "seed 0: mean of each component (line) and its standard deviation (band); dashed, the two maxima"
    with figure(path, len(STARTS), len(paths), note, sharex=True, sharey=True) as axes:
        for column, (form, found) in enumerate(paths.items()):
            for row, start in enumerate(STARTS):
                ax, (mean, std) = axes[row, column], found[:, row, 0, 2:].chunk(2, -1)
                for k in range(2):
                    (line,) = ax.plot(mean[:, k], linewidth=1)
                    low, high = mean[:, k] - std[:, k], mean[:, k] + std[:, k]
                    ax.fill_between(range(len(mean)), low, high, alpha=0.25, linewidth=0, color=line.get_color())
                for sign in (-1.0, 1.0):
                    ax.axhline(sign * OPTIMUM, color="black", linewidth=0.6, linestyle="--")
                ax.set(title=f"{FORMS[form]}, from {start}", ylim=(-12.0, 12.0))
        axes[-1, 0].set(xlabel="step", ylabel="action")


def table(paths: dict[str, Tensor]) -> list[dict[str, str]]:
    """Returns a row per form and start: how many seeds find both maxima, when, and the largest std on the way."""
    rows = []
    for form, path in paths.items():
        for k, start in enumerate(STARTS):
            steps, std = arrival(path)[k], path[:, k, :, 4:]
            rows.append(
                {
                    "Fisher matrix": FORMS[form],
                    "start": start,
                    "seeds at both maxima": f"{int(steps.isfinite().sum())} of {len(steps)}",
                    "step of arrival, each seed": ", ".join("-" if math.isinf(s) else f"{s:,.0f}" for s in sorted(steps.tolist())),
                    "largest std": f"{std.max():.2f}",
                    "stds at the end": f"{std[-1].min():.2g} to {std[-1].max():.2g}",
                }
            )
    return rows


def main(options: Options, say: Callable[[str], None]) -> int:
    """Climbs, draws and says; returns the exit code 0."""
    tables.writable(options.out)
    torch.set_num_threads(1)
    with trusted():
        paths = {form: climb(form, tuple(STARTS.values()), options) for form in FORMS}
    draw_paths(paths, options.out / "mixture.png")
    tables.write_text(options.out / "mixture.md", tables.markdown(table(paths)))
    say(tables.markdown(table(paths)))
    return 0
