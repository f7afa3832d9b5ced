"""An exact Gaussian process on the standard splits of a set: scikit-learn's, beside which a flow may be seen.

An RBF with a length per feature, and white noise; amplitude, lengths and noise maximise the likelihood of all train rows, from one start,
by L-BFGS. Inputs and targets are standardised by the train rows.
"""

import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.preprocessing import StandardScaler

from wgf.agents.training import machine
from wgf.agents.training.checkpoint import digest, read_sealed, write_sealed
from wgf.bnn import data
from wgf.runs.studies.bnn_report import SCORES
from wgf.runs.trainer.statistics import Values
from wgf.runs.trainer.tables import write_rows

__all__ = ["fit", "predict", "scores"]

LENGTHS, NOISES = (1e-2, 1e4), (1e-6, 1e1)  # bounds: of a standardised feature's length, and of the noise's part of the targets' variance


def fit(place: Path, name: str, rows: data.Rows, splits: int, say: Callable[[str], None]) -> None:
    """Fits the splits of a set, unless they are there, and writes splits.csv and result.json as a flow's fit does.

    **Raises** ValueError where the folder holds other splits.
    """
    about = {"set": name, "splits": splits}
    if (place / "result.json").exists():
        held = read_sealed(place / "config.json")
        if different := {key for key in about if held.get(key) != about[key]}:
            raise ValueError(f"{place} holds a fit with another {', '.join(sorted(different))}; give another --out")
        return
    place.mkdir(parents=True, exist_ok=True)
    write_sealed(
        place / "config.json", {**about, **machine.about(torch.device("cpu"), torch.get_num_threads()), "versions": machine.versions()}
    )
    began, found = time.perf_counter(), []
    for s, split in enumerate(data.splits(name)[:splits]):
        mean, std = predict(rows.x[split.train], rows.y[split.train], rows.x[split.test])
        found.append([s, *scores(mean, std, rows.y[split.test], data.repeated(rows, split))])
        say(f"{name} gp  split {s + 1} of {splits}  rmse {found[-1][1]:.3f}  log-likelihood {found[-1][2]:.3f}")
    seconds = time.perf_counter() - began
    write_rows(place / "splits.csv", ["split", *SCORES], found)
    write_sealed(place / "result.json", {"seconds": seconds, "files": {"splits.csv": digest(place / "splits.csv")}})


def predict(x: Values, y: Values, x_test: Values) -> tuple[Values, Values]:
    """Fits to x (n, d), y (n,); returns the predictive mean and deviation, noise included, at x_test (m, d): (m,) each."""
    units = StandardScaler().fit(x)
    kernel = ConstantKernel() * RBF(np.ones(x.shape[1]), LENGTHS) + WhiteKernel(0.1, NOISES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a feature that says nothing has its longest length
        process = GaussianProcessRegressor(kernel, normalize_y=True).fit(units.transform(x), y)
    mean, std = process.predict(units.transform(x_test), return_std=True)
    return mean, std


def scores(mean: Values, std: Values, y: Values, copies: NDArray[np.bool_]) -> list[float]:
    """Returns the SCORES of a split; those of a dev part, which a Gaussian process does not need, are nan."""
    square, density = (mean - y) ** 2, norm.logpdf(y, mean, std)
    new = ~copies
    return [np.sqrt(square.mean()), density.mean(), np.nan, np.nan, np.sqrt(square[new].mean()), density[new].mean()]
