"""Bayesian neural regression as scikit-learn knows it: fit, predict, score; and what a posterior adds: intervals, samples, densities."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from rich.progress import Progress, TimeRemainingColumn
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor
from torch.special import ndtr

from wgf import ranks
from wgf.bnn import saved
from wgf.bnn.fit import Fit
from wgf.bnn.model import deviation, log_density
from wgf.bnn.rates import best_rate
from wgf.bnn.settings import LARGEST, Settings
from wgf.limits import as_path
from wgf.shards import ALONE, Shards
from wgf.shown import shown

__all__ = ["RATES", "BayesianRegressor"]

Array = NDArray[np.float64]
RATES = (0.001, 0.004)  # the better of two by the dev part: tests/bench/bnn_defaults.py
HALVINGS = 60  # of the bracket of a quantile: to float64's last digits


class BayesianRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Regression with a posterior over neural networks, found by a particle flow.

    The parameters are those of ``wgf.bnn.Settings``, with these differences. ``lr`` may be several step sizes: all are fitted side by
    side, and the one with the best log-likelihood of the dev part is kept. By default there are two, and 10,000 ``iterations``, which
    take 20 to 30 seconds on one core, whatever the number of rows. ``hidden`` may be one number of units. And there are
    ``random_state`` (an int, a RandomState, or None), ``device`` (cpu or cuda), ``compile`` (as machine code: seconds at first, then
    faster steps), ``verbose`` (1 shows a bar) and ``shards`` (True: the processes that ``torchrun`` started share the particles out, and
    each gets the whole fit; ``random_state`` is then an int). The dev part is a tenth of the rows, at most 500, drawn at random: it sets
    the noise precisions and is not trained on.

    After ``fit``, ``fit_`` holds the particles (of the flow smi ``draws`` networks drawn from each) and ``lr_`` the step size that was
    chosen. Targets y (n, K) are K outputs of one network, each with a noise precision of its own; what has an axis of outputs then has K,
    and none where y was (n,).

    >>> model = BayesianRegressor(random_state=0).fit(X, y)
    >>> mean, std = model.predict(X, return_std=True)
    >>> low, high = model.predict_interval(X, level=0.9)

    **Source** Zhang et al. 2018, Sec. 6.2; Liu & Wang 2016, Sec. 5. **Limits** Away from the data the intervals are too narrow. M
    particles do not fill a posterior of D > M dimensions: in N(0, I_D) SVGD's rest at a mean squared radius of log M, where the law has
    D, and a W2 velocity of Eq. 9's forms draws them nearer. Where the data say nothing, particles keep this small part of the prior's
    deviation: ``fit_.spread()`` shows it, near 1 under the prior and well below 1 after a fit. ``flow="langevin"`` keeps the deviation.
    **Raises** scikit-learn's errors.
    """

    def __init__(
        self,
        flow: str = Settings.flow,
        hidden: int | Sequence[int] = Settings.hidden,
        particles: int = Settings.particles,
        iterations: int = 10_000,
        batch: int = Settings.batch,
        lr: float | Sequence[float] = RATES,
        anneal: bool = Settings.anneal,
        w2: str = Settings.w2,
        w2_scale: float = Settings.w2_scale,
        inner_steps: int = Settings.inner_steps,
        dropout: float = Settings.dropout,
        draws: int = Settings.draws,
        centred: bool = Settings.centred,
        keep: str = Settings.keep,
        prior_shape: float = Settings.prior_shape,
        prior_rate: float = Settings.prior_rate,
        random_state: Any = None,
        device: str = "cpu",
        compile: bool = False,
        verbose: int = 0,
        shards: bool = False,
    ) -> None:
        self.flow, self.hidden, self.particles, self.iterations, self.batch = flow, hidden, particles, iterations, batch
        self.lr, self.anneal, self.centred = lr, anneal, centred
        self.w2, self.w2_scale, self.inner_steps, self.dropout, self.draws = w2, w2_scale, inner_steps, dropout, draws
        self.keep, self.prior_shape, self.prior_rate = keep, prior_shape, prior_rate
        self.random_state, self.device, self.compile, self.verbose, self.shards = random_state, device, compile, verbose, shards

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fits to inputs X (n, d) and targets y (n,) or (n, K), n >= 2, no output constant.

        ``sample_weight`` (n,): how many times each row's log-likelihood counts, 1 by default; rows of weight 0 are left out.
        """
        x, targets = validate_data(self, X, y, dtype=np.float64, y_numeric=True, multi_output=True, ensure_min_samples=2)
        weights = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
        self._flat = targets.ndim == 1
        x, targets, weights = (
            x[weights > 0.0],
            targets[weights > 0.0].reshape(-1, 1 if self._flat else targets.shape[1]),
            weights[weights > 0.0],
        )
        if len(x) < 2:
            raise ValueError(f"sample_weight leaves {len(x)} rows with a weight above 0; a fit needs at least 2")
        if (constant := np.ptp(targets, 0) == 0.0).any():
            which = targets[0, constant.argmax()]
            raise ValueError(f"y is constant: every target is {which:g}; a regression needs at least two different targets")
        settings, rates, device = self._settings(), self._rates(), self._device()
        shards = self._shared(device, x, targets, weights)
        random = check_random_state(self.random_state)
        order, seed = random.permutation(len(targets)), int(random.randint(2**31 - 1))
        x_all, y_all, w_all = (torch.from_numpy(t[order])[None].to(device, torch.float64) for t in (x, targets, weights))
        with Progress(*Progress.get_default_columns()[:2], TimeRemainingColumn(), disable=not self.verbose or shards.group.rank > 0) as bar:
            task = bar.add_task(f"{self.flow}, {self.particles} particles", total=self.iterations)
            show = partial(bar.update, task)
            self.fit_, lr = best_rate(
                settings, rates, x_all, y_all, w_all, [seed], lambda step: show(completed=step), compile=self.compile, shards=shards
            )
        self.lr_ = lr.item()
        return self

    def predict(self, X: ArrayLike, return_std: bool = False) -> Any:
        """The predictive mean (n,) or (n, K), and with ``return_std`` its standard deviation, noise included.

        Mean of f_m over particles; variance of f_m over particles plus the mean of 1 / gamma_m.
        """
        if not isinstance(return_std, (bool, np.bool_)):
            raise ValueError(f"return_std is {shown(return_std)}; choose from True, False")
        f = self._predictions(X)
        mean = self._shaped(f.mean(0))
        if not return_std:
            return mean
        return mean, self._shaped(deviation(f[None], self.fit_.log_gamma.cpu())[0])

    def predict_interval(self, X: ArrayLike, level: float = 0.9) -> tuple[Array, Array]:
        """Ends (n,) or (n, K) of the central interval that holds ``level`` of each output's mixture (1/M) sum_m N(f_m, 1 / gamma_m)."""
        if not isinstance(level, (int, float)) or not 0.0 < level < 1.0:
            raise ValueError(f"level is {shown(level)}; allowed is a number between 0 and 1")
        f, std = self._predictions(X), self._noise()
        low, high = (self._shaped(_quantile(f, std, 0.5 + side * level)) for side in (-0.5, 0.5))
        return low, high

    def sample(self, X: ArrayLike, n_samples: int = 1, random_state: Any = None) -> Array:
        """Draws of y from the predictive distribution, (n, n_samples) or (n, K, n_samples): a particle a draw, the same for all rows
        and outputs, and noise."""
        if isinstance(n_samples, bool) or not isinstance(n_samples, (int, np.integer)) or not 1 <= n_samples < LARGEST:
            raise ValueError(f"n_samples is {shown(n_samples)}; allowed is a whole number of at least 1")
        f, std = self._predictions(X).numpy(), self._noise().numpy()
        random = check_random_state(random_state)
        which = random.randint(len(f), size=n_samples)
        draws: Array = f[which] + std[which] * random.standard_normal((n_samples, *f.shape[1:]))
        return self._shaped(torch.from_numpy(draws).movedim(0, -1), -2)

    def log_likelihood(self, X: ArrayLike, y: ArrayLike) -> float:
        """Mean over rows of the predictive log-density at y, log (1/M) sum_m prod_k N(y_k; f_mk, 1 / gamma_mk), in nats and the
        targets' units."""
        f = self._predictions(X)
        targets, allowed = np.asarray(y, dtype=np.float64), tuple(f.shape[1 : 2 if self._flat else 3])
        if targets.shape != allowed:
            raise ValueError(f"y has shape {targets.shape}; allowed is {allowed}, for an X of {len(f[0])} rows")
        rows = torch.from_numpy(targets).view(1, *f.shape[1:])
        return log_density(f[None], self.fit_.log_gamma.cpu(), rows).mean().item()

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file: particles and units, and as JSON in its header the parameters. Loading it runs no code."""
        check_is_fitted(self)
        path = as_path("path", path)
        parameters: dict[str, Any] = {k: v for k, v in self.get_params().items() if k != "random_state"}
        names = getattr(self, "feature_names_in_", None)
        about = {
            "parameters": parameters,
            "n_features_in": self.n_features_in_,
            "feature_names_in": None if names is None else list(names),
            "lr": self.lr_,
            "flat": self._flat,
        }
        saved.write(path, about, {name: getattr(self.fit_, name).cpu().contiguous() for name in Fit._fields if name != "model"})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """A fitted regressor from a file of ``save``, as a regressor on the CPU.

        **Raises** ValueError, in one line with the file's name, for another file, one that is damaged, and one whose parameters, shapes
        or numbers are none of a fit: then it takes no memory beyond the file's.
        """
        about, tensors = saved.read(as_path("path", path))
        try:
            return cls._described(about, tensors)
        except KeyError as error:
            raise ValueError(f"{path} is not a saved BayesianRegressor: it lacks {error}") from None
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{path} is not a saved BayesianRegressor: {' '.join(str(error).split())}") from None

    @classmethod
    def _described(cls, about: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        parameters: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in about["parameters"].items()}
        found = cls(**{**parameters, "device": "cpu", "shards": False})
        kinds = {"n_features_in": int, "lr": float, "flat": bool}
        found.n_features_in_, found.lr_, found._flat = (saved.field(about, name, kind) for name, kind in kinds.items())
        if found.lr_ not in found._rates():
            raise ValueError(f"its step size is {found.lr_}, which is none of its lr, {found.lr}")
        if (names := about["feature_names_in"]) is not None:
            if len(saved.field(about, "feature_names_in", list)) != found.n_features_in_:
                raise ValueError(f"it has {len(names)} names for {found.n_features_in_} features")
            found.feature_names_in_ = np.array(names, dtype=object)
        outputs = 1 if found._flat else tensors["y_mean"].shape[-1]
        found.fit_ = saved.whole(Fit(found._settings().model(found.n_features_in_, outputs), **tensors), found.n_features_in_, outputs)
        return found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _device(self) -> torch.device:
        if not isinstance(self.compile, (bool, np.bool_)):
            raise ValueError(f"compile is {shown(self.compile)}; choose from True, False")
        if not isinstance(self.verbose, (int, np.bool_)):
            raise ValueError(f"verbose is {shown(self.verbose)}; choose 0 or 1, which shows a bar")
        if not isinstance(self.device, str) or not re.fullmatch(r"cpu|cuda(:\d{1,3})?", self.device):
            raise ValueError(f"device is {shown(self.device)}; choose cpu, cuda or cuda:N")
        device = torch.device(self.device)
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise ValueError(f"device is {self.device!r}; torch sees {torch.cuda.device_count()} CUDA GPUs here")
        return device

    def _shared(self, device: torch.device, *rows: Array) -> Shards:
        """Which particles are this process's: all, or with ``shards`` its part. Raises ValueError where ranks were given other things."""
        if not isinstance(self.shards, (bool, np.bool_)):
            raise ValueError(f"shards is {shown(self.shards)}; choose from True, False")
        if not self.shards:
            return ALONE
        if isinstance(self.random_state, bool) or not isinstance(self.random_state, (int, np.integer)):
            raise ValueError(f"random_state is {shown(self.random_state)}; with shards give a whole number: all ranks draw the same")
        group = ranks.joined(device)
        data = hashlib.sha256(b"".join(part.tobytes() for part in rows)).hexdigest()
        group.agree({name: shown(value) for name, value in self.get_params().items()} | {"the data's sha256": data})
        return Shards.even(group, self.particles)

    def _rates(self) -> list[float]:
        rates: list[float] = np.atleast_1d(np.asarray(self.lr)).tolist()
        if not rates:
            raise ValueError("lr is empty; give one step size or several")
        return [replace(self._settings(), lr=rate).lr for rate in rates]

    def _settings(self) -> Settings:
        given = {field.name: getattr(self, field.name) for field in fields(Settings) if field.name != "lr"}
        hidden = tuple(np.atleast_1d(np.asarray(self.hidden)).tolist())
        return Settings(**{**given, "hidden": hidden})

    def _predictions(self, X: ArrayLike) -> Tensor:
        """f_m(x), (M, n, K), on the CPU."""
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, reset=False, force_writeable=True)
        return self.fit_.predict(torch.from_numpy(x)[None].to(self.fit_.x_mean))[0].cpu()

    def _noise(self) -> Tensor:
        """Deviations of the noise, (M, 1, K)."""
        return torch.exp(-0.5 * self.fit_.log_gamma[0]).cpu()[:, None]

    def _shaped(self, values: Tensor, axis: int = -1) -> Array:
        """Without the axis of outputs where y had none."""
        found: Array = (values.squeeze(axis) if self._flat else values).numpy()
        return found


def _quantile(mean: Tensor, std: Tensor, level: float) -> Tensor:
    """t with (1/M) sum_m Phi((t - mean_m) / std_m) = level, (n, K), by bisection; means (M, n, K), stds (M, 1, K)."""
    low, high = (mean - 40.0 * std).amin(0), (mean + 40.0 * std).amax(0)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        below = ndtr((middle - mean) / std).mean(0) < level
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return 0.5 * (low + high)
