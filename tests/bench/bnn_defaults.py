"""The estimator as it comes against fixed settings: test RMSE on three of the UCI sets and on two of scikit-learn's.

    python tests/bench/bnn_defaults.py --data uci [--splits 3] [--sets concrete energy yacht diabetes friedman1] [--out FILE.md]

``--data`` is the folder that ``wgf bnn-data fetch --data uci`` fills. A fixed setting is a step size and a number of iterations, the same
for every split; the default chooses its step size by the dev part of each split. Splits: the standard ones; for scikit-learn's sets, made
the same way. friedman1 is ``make_friedman1(1000, noise=1.0, random_state=0)``. Means over splits.
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_diabetes, make_friedman1
from timing import report, table

from wgf.bnn import BayesianRegressor, Settings, data, fit

RATES, LENGTHS = (0.001, 0.002, 0.004, 0.008, 0.016), (2_000, 10_000)
SKLEARN = {"diabetes": lambda: load_diabetes(return_X_y=True), "friedman1": lambda: make_friedman1(1000, noise=1.0, random_state=0)}


def load(folder: Path, name: str, splits: int) -> tuple[data.Rows, list[data.Split]]:
    """A set and its first splits."""
    if name not in SKLEARN:
        return data.load(folder, name), data.splits(name)[:splits]
    rows = data.Rows(*SKLEARN[name]())
    return rows, data.splits(name, data.Set(len(rows.y), rows.x.shape[1], name, None))[:splits]


def fixed(rows: data.Rows, splits: Sequence[data.Split], iterations: int) -> list[float]:
    """Mean test RMSE of each of RATES, all splits and rates as one stack."""
    (x, y), (x_test, y_test) = (
        [torch.from_numpy(np.stack([part[s[k]] for s in splits] * len(RATES))) for part in (rows.x, rows.y[:, None])] for k in (0, 1)
    )
    rates = [rate for rate in RATES for _ in splits]
    found = fit(Settings(iterations=iterations), x, y, [*range(len(splits))] * len(RATES), rates=rates)
    return found.rmse(x_test, y_test).view(len(RATES), -1).mean(1).tolist()


def default(rows: data.Rows, splits: Sequence[data.Split]) -> tuple[float, list[float], float]:
    """Mean test RMSE of the estimator's defaults, the step sizes that the splits chose, and seconds of processor time a fit."""
    errors, chosen, start = [], [], time.process_time()
    for s, (train, test) in enumerate(splits):
        model = BayesianRegressor(random_state=s).fit(rows.x[train], rows.y[train])
        errors.append(np.sqrt(((model.predict(rows.x[test]) - rows.y[test]) ** 2).mean()))
        chosen.append(model.lr_)
    return float(np.mean(errors)), chosen, (time.process_time() - start) / len(splits)


def row(folder: Path, name: str, splits: int) -> dict[str, str]:
    """A set's line."""
    rows, parts = load(folder, name, splits)
    error, chosen, seconds = default(rows, parts)
    grid = {(lr, n): value for n in LENGTHS for lr, value in zip(RATES, fixed(rows, parts, n), strict=True)}
    best = min(grid, key=grid.__getitem__)
    return {
        "set": name,
        "rows": f"{len(parts[0].train):,}",
        "default": f"{error:.4g}",
        "its step sizes": ", ".join(f"{lr:g}" for lr in chosen),
        "best fixed": f"{grid[best]:.4g}: lr {best[0]:g}, {best[1]:,}",
        "default / best": f"{error / grid[best]:.3f}",
        **{f"lr {lr:g}, {n:,}": f"{value:.4g}" for (lr, n), value in grid.items()},
        "seconds a fit": f"{seconds:.0f}",
    }


def main() -> None:
    """Prints, and writes where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("WGF_DATA", "uci"))
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--sets", nargs="+", default=["concrete", "energy", "yacht", *SKLEARN])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    text = table([row(args.data, name, args.splits) for name in args.sets])
    report(args.out, "Bayesian regression: defaults against fixed settings", text, ["torch", "numpy", "scikit-learn"])


if __name__ == "__main__":
    main()
