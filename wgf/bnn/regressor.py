"""Bayesian neural regression as scikit-learn knows it: fit, predict, score; and what a posterior adds: intervals, samples, densities."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from rich.progress import Progress, TimeRemainingColumn
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor
from torch.special import ndtr

from wgf.bnn.fit import Fit, Settings, fit
from wgf.bnn.model import deviation, log_density

Array = NDArray[np.float64]
FORMAT = "wgf-bnn-1"
HALVINGS = 60  # of the bracket of a quantile: to float64's last digits


class BayesianRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Regression with a posterior over neural networks, found by a particle flow.

    The parameters are those of ``wgf.bnn.Settings``, and: ``random_state`` (an int, a RandomState, or None), ``device`` (cpu or cuda),
    ``compile`` (as machine code: seconds at first, then faster steps) and ``verbose`` (1 shows a bar). A tenth of the rows, at
    most 500, drawn at random, sets the noise precisions and is not trained on.

    >>> model = BayesianRegressor(iterations=500, random_state=0).fit(X, y)
    >>> mean, std = model.predict(X, return_std=True)
    >>> low, high = model.predict_interval(X, level=0.9)

    **Source** Zhang et al. 2018, Sec. 6.2; Liu & Wang 2016, Sec. 5. Errors are scikit-learn's.
    """

    def __init__(
        self,
        flow: str = Settings.flow,
        hidden: tuple[int, ...] = Settings.hidden,
        particles: int = Settings.particles,
        iterations: int = Settings.iterations,
        batch: int = Settings.batch,
        lr: float = Settings.lr,
        anneal: bool = Settings.anneal,
        w2: str = Settings.w2,
        w2_scale: float = Settings.w2_scale,
        inner_steps: int = Settings.inner_steps,
        dropout: float = Settings.dropout,
        centred: bool = Settings.centred,
        keep: str = Settings.keep,
        prior_shape: float = Settings.prior_shape,
        prior_rate: float = Settings.prior_rate,
        random_state: Any = None,
        device: str = "cpu",
        compile: bool = False,
        verbose: int = 0,
    ) -> None:
        self.flow, self.hidden, self.particles, self.iterations, self.batch = flow, hidden, particles, iterations, batch
        self.lr, self.anneal, self.centred = lr, anneal, centred
        self.w2, self.w2_scale, self.inner_steps, self.dropout = w2, w2_scale, inner_steps, dropout
        self.keep, self.prior_shape, self.prior_rate = keep, prior_shape, prior_rate
        self.random_state, self.device, self.compile, self.verbose = random_state, device, compile, verbose

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fits to inputs X (n, d) and targets y (n,), n >= 2, y not constant."""
        x, targets = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        if np.ptp(targets) == 0.0:
            raise ValueError(f"y is constant: every target is {targets[0]:g}; a regression needs at least two different targets")
        settings = self._settings()
        random = check_random_state(self.random_state)
        order, seed = random.permutation(len(targets)), int(random.randint(2**31 - 1))
        x_all, y_all = (torch.from_numpy(t[order])[None].to(self.device, torch.float64) for t in (x, targets))
        with Progress(*Progress.get_default_columns()[:2], TimeRemainingColumn(), disable=not self.verbose) as bar:
            task = bar.add_task(f"{self.flow}, {self.particles} particles", total=self.iterations)
            self.fit_ = fit(settings, x_all, y_all, [seed], tick=lambda step: bar.update(task, completed=step), compile=self.compile)
        return self

    def predict(self, X: ArrayLike, return_std: bool = False) -> Any:
        """The predictive mean (n,), and with ``return_std`` its standard deviation (n,), noise included.

        Mean of f_m over particles; variance of f_m over particles plus the mean of 1 / gamma_m.
        """
        f = self._predictions(X)
        mean = f.mean(0)
        if not return_std:
            return mean.numpy()
        return mean.numpy(), deviation(f[None], self.fit_.log_gamma.cpu())[0].numpy()

    def predict_interval(self, X: ArrayLike, level: float = 0.9) -> tuple[Array, Array]:
        """Ends (n,) of the central interval that holds ``level`` of the predictive mixture (1/M) sum_m N(f_m, 1 / gamma_m)."""
        if not 0.0 < level < 1.0:
            raise ValueError(f"level is {level!r}; allowed is a number between 0 and 1")
        f, std = self._predictions(X), self._noise()
        return _quantile(f, std, 0.5 - 0.5 * level).numpy(), _quantile(f, std, 0.5 + 0.5 * level).numpy()

    def sample(self, X: ArrayLike, n_samples: int = 1, random_state: Any = None) -> Array:
        """Draws of y from the predictive distribution, (n, n_samples): a particle a draw, the same for all rows, and noise."""
        f, std = self._predictions(X).numpy(), self._noise().numpy()
        random = check_random_state(random_state)
        which = random.randint(len(f), size=n_samples)
        draws: Array = f[which].T + std[which, 0] * random.standard_normal((f.shape[1], n_samples))
        return draws

    def log_likelihood(self, X: ArrayLike, y: ArrayLike) -> float:
        """Mean over rows of the predictive log-density at y, log (1/M) sum_m N(y; f_m, 1 / gamma_m), in nats and the targets' unit."""
        f = self._predictions(X)
        targets = torch.from_numpy(np.asarray(y, dtype=np.float64))
        return log_density(f[None], self.fit_.log_gamma.cpu(), targets[None]).mean().item()

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file: particles and units, and as JSON in its header the parameters. Loading it runs no code."""
        check_is_fitted(self)
        parameters = {k: v for k, v in self.get_params().items() if k != "random_state"}
        names = getattr(self, "feature_names_in_", None)
        about = {"parameters": parameters, "n_features_in": self.n_features_in_, "feature_names_in": None if names is None else list(names)}
        tensors = {name: getattr(self.fit_, name).cpu().contiguous() for name in Fit._fields if name != "model"}
        save_file(tensors, path, {"format": FORMAT, "about": json.dumps(about)})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """A fitted regressor from a file of ``save``. Raises ValueError where it is another file."""
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
        if header.get("format") != FORMAT:
            raise ValueError(f"{path} is not a saved BayesianRegressor of format {FORMAT}: its format is {header.get('format')!r}")
        about = json.loads(header["about"])
        found = cls(**{**about["parameters"], "hidden": tuple(about["parameters"]["hidden"]), "device": "cpu"})
        found.n_features_in_ = about["n_features_in"]
        if about["feature_names_in"] is not None:
            found.feature_names_in_ = np.array(about["feature_names_in"], dtype=object)
        found.fit_ = Fit(found._settings().model(found.n_features_in_, 1), **tensors)
        return found

    def _settings(self) -> Settings:
        return Settings(**{field.name: getattr(self, field.name) for field in fields(Settings)})

    def _predictions(self, X: ArrayLike) -> Tensor:
        """f_m(x), (M, n), on the CPU."""
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, reset=False, force_writeable=True)
        return self.fit_.predict(torch.from_numpy(x)[None].to(self.fit_.x_mean))[0].cpu()

    def _noise(self) -> Tensor:
        return torch.exp(-0.5 * self.fit_.log_gamma[0]).cpu()[:, None]


def _quantile(mean: Tensor, std: Tensor, level: float) -> Tensor:
    """t with (1/M) sum_m Phi((t - mean_m) / std_m) = level, (n,), by bisection; means (M, n), stds (M, 1)."""
    low, high = (mean - 40.0 * std).amin(0), (mean + 40.0 * std).amax(0)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        below = ndtr((middle - mean) / std).mean(0) < level
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return 0.5 * (low + high)
