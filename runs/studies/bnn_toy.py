"""Draws fits in one dimension, where a person can see that the uncertainty of a posterior grows away from the data.

y = x^3 + noise of deviation 3 at 20 points of (-4, 4): the toy of Hernandez-Lobato & Adams 2015, Fig. 2.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from wgf.bnn import BayesianRegressor, Settings
from wgf.runs.trainer.figures import figure
from wgf.runs.trainer.statistics import Values

__all__ = ["GRID", "draw", "points"]

GRID = np.linspace(-6.0, 6.0, 121)


def points(seed: int) -> tuple[Values, Values]:
    """x (20,) and y (20,)."""
    random = np.random.default_rng(seed)
    x = random.uniform(-4.0, 4.0, 20)
    return x, x**3 + 3.0 * random.standard_normal(20)


def draw(methods: Mapping[str, Settings], seed: int, path: Path) -> dict[str, Values]:
    """Fits each method and draws mean, 90 % interval, truth, data and spread; returns the intervals' half-widths along GRID."""
    x, y = points(seed)
    columns = min(3, len(methods))
    widths = {}
    with figure(path, math.ceil(len(methods) / columns), columns, "dots: data; spread of the particles, where the prior's is 1") as grid:
        for axes, (label, settings) in zip(grid.flat, methods.items(), strict=False):
            model = BayesianRegressor(**asdict(settings), random_state=seed).fit(x[:, None], y)
            mean, (low, high) = model.predict(GRID[:, None]), model.predict_interval(GRID[:, None], 0.9)
            widths[label] = 0.5 * (high - low)
            axes.fill_between(GRID, low, high, alpha=0.3, linewidth=0, color="C0", label="90 % interval")
            axes.plot(GRID, mean, "C0-", label="mean")
            axes.plot(GRID, GRID**3, "k--", linewidth=0.7, label="truth")
            axes.plot(x, y, "ko", markersize=3)
            axes.set(title=f"{label}\nspread {model.fit_.spread().item():.2f}", xlabel="x", ylim=(-250.0, 250.0))
    return widths
