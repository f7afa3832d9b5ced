"""Compares gradients and natural gradients on two examples, Figures 2 to 4 of Hoagland, "Natural Gradient Methods for Optimization and
Applications to Reinforcement Learning".

    python -m wgf.runs.studies natural --out runs/results/natural

Both methods climb with the fixed step size of the paper. The paper leaves four things open. Number of points, and whether their
log-likelihoods are summed: here 1,000, summed, since both first jumps are then as in Figure 2. Length and number of episodes: here 10
steps, 20 episodes. The unit of a return: here standardised over the episodes, since with plain returns both methods diverge.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wgf import natural
from wgf.runs.command.options import LARGEST_SEED, check_range
from wgf.runs.trainer import tables
from wgf.runs.trainer.figures import each, figure
from wgf.runs.trainer.statistics import bootstrap

__all__ = [
    "AGENTS", "METHODS", "Options", "algorithm_2", "ascent", "draw_likelihood", "draw_line", "episodes", "fit", "learn", "log_likelihood",
    "main", "policy_gradient", "slope", "table",
]  # fmt: skip

MAXIMUM, START, POINTS, LIKELIHOOD_STEP, NEAR = (12.0, 4.0), (0.0, 1.0), 1000, 1e-4, 0.05
AGENTS, LINE_START, LINE_STEP, HORIZON, EPISODES = 10, (10.0, 14.0), 0.075, 10, 20
EPS = 0.05  # of Algorithm 2, in nats
METHODS = ("gradient", "natural gradient")


@dataclass(frozen=True)
class Options:
    """Fit a Gaussian and train a policy on the line, by gradients and by natural gradients."""

    out: Path = Path("runs/natural")
    """Folder for natural.md, likelihood.png and line.png; it is made if it is missing."""
    updates: int = 200
    """Number of policy updates on the line."""
    seed: int = 0
    """Random seed of the points and of the first agent."""

    def __post_init__(self) -> None:
        check_range(self, updates=(1, None), seed=(0, LARGEST_SEED - AGENTS))


def ascent(method: str, theta: Tensor, gradient: Tensor) -> Tensor:
    """Returns the gradient in (mean, std), (..., 2), or F^-1 times it, which multiplies it by (std^2, std^2 / 2)."""
    if method == "gradient":
        return gradient
    return gradient / torch.stack(natural.gaussian_fisher(theta[..., 1]), -1)


# --- maximum likelihood -----------------------------------------------------------------------------------------------


def log_likelihood(theta: Tensor, data: Tensor) -> Tensor:
    """sum_n log N(x_n; mean, std^2) less its constant, of theta (..., 2); nan where std <= 0."""
    mean, std = theta[..., :1], theta[..., 1:]
    return -(0.5 * ((data - mean) / std).square() + std.log()).sum(-1)


def slope(theta: Tensor, data: Tensor) -> Tensor:
    """Returns the gradient of ``log_likelihood`` in theta, (..., 2)."""
    std = theta[..., 1:]
    z = (data - theta[..., :1]) / std
    return torch.stack([z.sum(-1), (z.square() - 1.0).sum(-1)], -1) / std


def fit(method: str, data: Tensor, most: int = 20_000) -> Tensor:
    """Returns theta after every step until it is NEAR the maximum, (steps + 1, 2)."""
    best = torch.stack([data.mean(), data.std(correction=0)])
    path = [torch.tensor(START, dtype=data.dtype)]
    while len(path) <= most and (path[-1] - best).norm() > NEAR:
        path.append(path[-1] + LIKELIHOOD_STEP * ascent(method, path[-1], slope(path[-1], data)))
    return torch.stack(path)


def algorithm_2(data: Tensor, generator: torch.Generator, most: int = 1000) -> Tensor:
    """Returns the path of Algorithm 2: steps of EPS nats, the metric from len(data) draws of the model, halved until they climb."""
    best = torch.stack([data.mean(), data.std(correction=0)])
    path = [torch.tensor(START, dtype=data.dtype)]
    while len(path) <= most and (path[-1] - best).norm() > NEAR:
        theta = path[-1]
        z = torch.randn(len(data), dtype=data.dtype, generator=generator)
        metric = natural.empirical(torch.stack([z, z.square() - 1.0], -1) / theta[1])
        step = natural.step(metric, slope(theta, data), eps=EPS, steps=2)

        def climbs(candidate: Tensor, start: Tensor = theta) -> Tensor:
            return log_likelihood(candidate, data) > log_likelihood(start, data)

        path.append(natural.backtrack(climbs, theta, step.move, shrink=0.5, tries=30)[0])
    return torch.stack(path)


# --- the line ---------------------------------------------------------------------------------------------------------


def episodes(theta: Tensor, xi: Tensor) -> Tensor:
    """Returns of a ~ N(mean, std^2), s' = s + a from s = 0, r = -s^2 - a^2: theta (S, 2), noise (S, episodes, T) -> (S, episodes)."""
    action = theta[:, :1, None] + theta[:, 1:, None] * xi
    state = action.cumsum(-1) - action
    return -(state.square() + action.square()).sum(-1)


def policy_gradient(theta: Tensor, xi: Tensor, returns: Tensor) -> Tensor:
    """E[(sum_t grad log pi(a_t)) R] of standardised returns, (S, 2)."""
    deviation, mean = torch.std_mean(returns, -1, keepdim=True)
    score = torch.stack([xi.sum(-1), (xi.square() - 1.0).sum(-1)], -1) / theta[:, None, 1:]
    return (score * ((returns - mean) / deviation)[..., None]).mean(1)


def learn(method: str, options: Options) -> Tensor:
    """Returns the agents' mean returns before every update and after the last, (updates + 1, agents); each has its own generator."""
    generators = [torch.Generator().manual_seed(options.seed + k) for k in range(AGENTS)]
    theta, found = torch.tensor(LINE_START, dtype=torch.float64).expand(AGENTS, 2), []
    for _ in range(options.updates + 1):
        xi = torch.stack([torch.randn(EPISODES, HORIZON, dtype=torch.float64, generator=g) for g in generators])
        returns = episodes(theta, xi)
        found.append(returns.mean(-1))
        theta = theta + LINE_STEP * ascent(method, theta, policy_gradient(theta, xi, returns))
    return torch.stack(found)


# --- what a person sees -----------------------------------------------------------------------------------------------


def draw_likelihood(paths: dict[str, Tensor], data: Tensor, file: Path) -> None:
    """Draws Figures 2 and 3: the paths, and the two fields of arrows."""
    with figure(file, columns=3) as axes:
        left, *fields = axes[0]
        for name, path in paths.items():
            left.plot(*path.T, linewidth=0.8, label=f"{name}: {len(path) - 1:,} steps")
        left.plot(*MAXIMUM, "k*", markersize=12)
        left.set(title="maximum likelihood of N(12, 4²) from (0, 1)", xlabel="mean", ylabel="standard deviation")
        mean, std = np.meshgrid(np.linspace(0.0, 20.0, 11), np.linspace(1.0, 10.0, 10))
        theta = torch.from_numpy(np.stack([mean, std], -1))
        for ax, method in zip(fields, METHODS, strict=True):
            arrows = ascent(method, theta, slope(theta, data)) / len(data)
            lengths = arrows.norm(dim=-1)
            ax.quiver(mean, std, *arrows.movedim(-1, 0).numpy(), lengths.log10().numpy(), angles="xy", cmap="viridis")
            ax.plot(*MAXIMUM, "k*", markersize=12)
            ax.set(title=f"{method}: length {lengths.min():.2g} to {lengths.max():.3g}", xlabel="mean")


def draw_line(curves: dict[str, Tensor], file: Path) -> None:
    """Draws Figure 4: each agent as a thin line, their mean as a bold one."""
    with figure(file, note=f"{AGENTS} agents each (thin) and their mean (bold); step size {LINE_STEP}", panel=(7.0, 4.5)) as axes:
        ax = axes[0, 0]
        for method, curve in curves.items():
            (line,) = ax.plot(curve.mean(-1).numpy(), linewidth=2.5, label=method.replace("gradient", "policy gradient"))
            each(ax, line, range(len(curve)), curve.mT.numpy())
        ax.set(title="the line", xlabel="update", ylabel="return of an episode", yscale="symlog")


def table(paths: dict[str, Tensor], curves: dict[str, Tensor]) -> str:
    """Writes steps and detours of the fits, and the agents' mean returns with 95 % bootstrap intervals."""
    fits = [
        {"maximum likelihood": name, "steps until near": f"{len(path) - 1:,}", "largest std on the way": f"{path[:, 1].max():.3g}"}
        for name, path in paths.items()
    ]
    updates, lines = len(next(iter(curves.values()))) - 1, []
    for method, curve in curves.items():
        line = {"line, return before update": method.replace("gradient", "policy gradient")}
        for k in (updates * part // 20 for part in (0, 1, 5, 20)):
            line[str(k)] = str(bootstrap(lambda x: float(x.mean()), curve[k].numpy()))
        lines.append(line)
    return f"{tables.markdown(fits)}\n{tables.markdown(lines)}"


def main(options: Options, say: Callable[[str], None]) -> int:
    """Fits, learns, draws and says; returns the exit code 0."""
    tables.writable(options.out)
    generator = torch.Generator().manual_seed(options.seed)
    data = MAXIMUM[0] + MAXIMUM[1] * torch.randn(POINTS, dtype=torch.float64, generator=generator)
    paths = {method: fit(method, data) for method in METHODS} | {f"Algorithm 2, {EPS} nats": algorithm_2(data, generator)}
    curves = {method: learn(method, options) for method in METHODS}
    draw_likelihood(paths, data, options.out / "likelihood.png")
    draw_line(curves, options.out / "line.png")
    tables.write_text(options.out / "natural.md", table(paths, curves))
    say(table(paths, curves))
    return 0
