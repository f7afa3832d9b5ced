"""Fitting particles to S data sets of equal size in one computation, and what they predict in the data's own units.

The protocol is that of Liu & Wang's public code: the last tenth of the rows (at most 500) is the dev part and is not trained on; inputs
and targets are standardised by the others' mean and deviation (a deviation of 0 counts as 1); minibatches are cyclic; after training
each particle's gamma becomes the maximum likelihood on the dev part, in the data's units.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral, Real
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wgf.bnn import flows
from wgf.bnn.compiled import compiled
from wgf.bnn.model import Model, Prior, log_density
from wgf.door import trusted
from wgf.transport import VELOCITIES

DTYPE = torch.float32  # of the particles
LOOKS = 20  # at a fit, evenly spaced
LEAST = 1e-12  # of the targets' variance: the least mean squared error that a dev part can show, below float32's digits


@dataclass(frozen=True)
class Settings:
    """A fit's settings; the defaults are those of the papers where they give one."""

    flow: Literal["wgf", "svgd", "blob", "langevin", "ensemble", "dropout"] = "wgf"
    """wgf, svgd, blob, langevin move particles to the posterior; ensemble: MAP fits side by side; dropout: draws of one MAP fit with it."""
    hidden: tuple[int, ...] = (50,)
    """ReLU units, layer by layer."""
    particles: int = 20
    """Networks a data set."""
    iterations: int = 2000
    """Minibatch steps."""
    batch: int = 100
    """Rows of a minibatch."""
    lr: float = 1e-3
    """RMSProp's step size, at first."""
    anneal: bool = True
    """The step size falls linearly to nothing; otherwise it stays, as in the papers."""
    w2: Literal["common_noise", "eq9_sum", "eq9_mean", "entropic", "debiased", "exact"] = "exact"
    """W2 velocity of the flow wgf."""
    w2_scale: float = 0.4
    """Its factor: 1 / h for the transport maps, the paper's epsilon for Eq. 9's forms."""
    inner_steps: int = 5
    """Steps a JKO iterate of the flow wgf."""
    dropout: float = 0.05
    """Probability with which the flow dropout leaves a unit out."""
    centred: bool = False
    """Particles hold the weights themselves, as in the papers, where a long fit slides towards zero weights; or z = W sqrt(lambda)."""
    keep: Literal["best", "last"] = "best"
    """For each data set, of LOOKS looks at the fit the one with the best dev part; or the last."""
    prior_shape: float = 1.0
    """Shape of the Gamma priors on the precisions."""
    prior_rate: float = 0.1
    """Their rate."""

    def __post_init__(self) -> None:
        for name, allowed in {"flow": flows.FLOWS, "w2": tuple(VELOCITIES), "keep": ("best", "last")}.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose from {', '.join(allowed)}")
        whole = {name: getattr(self, name) for name in ("particles", "iterations", "batch", "inner_steps")}
        for name, value in {**whole, **{f"hidden[{i}]": units for i, units in enumerate(self.hidden)}}.items():
            if not (isinstance(value, Integral) and int(value) >= 1):
                raise ValueError(f"{name} is {value!r}; allowed is a whole number of at least 1")
        for name in ("lr", "prior_shape", "prior_rate", "w2_scale"):
            value, least = getattr(self, name), " or 0" if name == "w2_scale" else ""
            if not (isinstance(value, Real) and 0.0 <= float(value) < math.inf and (float(value) > 0.0 or least)):
                raise ValueError(f"{name} is {value!r}; allowed is a positive, finite number{least}")
        rate: object = self.dropout
        if not (isinstance(rate, Real) and 0.0 <= float(rate) < 1.0):
            raise ValueError(f"dropout is {rate!r}; allowed is a number from 0 to below 1")

    def model(self, features: int, splits: int) -> Model:
        """The networks of so many data sets, and their prior."""
        prior = Prior(self.prior_shape, self.prior_rate)
        return Model(features, self.hidden, splits, self.particles, centred=self.centred, prior=prior)


class Fit(NamedTuple):
    """Particles (S, M, P) in standardised units and, in float64, the means and deviations of inputs (S, 1, d) and targets (S, 1), and
    log gamma (S, M) in the targets' own unit."""

    model: Model
    particles: Tensor
    x_mean: Tensor
    x_std: Tensor
    y_mean: Tensor
    y_std: Tensor
    log_gamma: Tensor

    def predict(self, x: Tensor) -> Tensor:
        """f_m(x) in the targets' unit, (S, M, B), for x (S, B, d), both float64."""
        f = self.model.predict(self.particles, ((x - self.x_mean) / self.x_std).to(self.particles))
        return f.double() * self.y_std[..., None] + self.y_mean[..., None]

    def rmse(self, x: Tensor, y: Tensor) -> Tensor:
        """Root mean squared error of the particles' mean, (S,)."""
        return (self.predict(x).mean(1) - y).square().mean(-1).sqrt()

    def log_densities(self, x: Tensor, y: Tensor) -> Tensor:
        """log (1/M) sum_m N(y; f_m(x), 1 / gamma_m) of every row, (S, B), in nats."""
        return log_density(self.predict(x), self.log_gamma, y)

    def log_likelihood(self, x: Tensor, y: Tensor) -> Tensor:
        """Its mean over rows, (S,)."""
        return self.log_densities(x, y).mean(-1)

    def spread(self) -> Tensor:
        """Deviation of z = W sqrt(lambda) over particles, root mean square over the weights, (S,).

        Under the prior it is 1, and under the posterior near 1 where weights are many and rows few. SVGD's M particles in D > M
        dimensions rest near sqrt(log M / D), and Eq. 9 draws them nearer: what their predictions differ by is a part of the posterior's.
        """
        parts = self.model.parts(self.particles)
        z = parts.weights * torch.exp(0.5 * parts.log_lam)[..., None]
        return z.var(1, correction=0).mean(-1).sqrt()


def dev_size(n: int) -> int:
    """Rows of the dev part: a tenth, at most 500, at least one."""
    return max(1, min(round(0.1 * n), 500))


def fit(
    settings: Settings,
    x: Tensor,
    y: Tensor,
    seeds: Sequence[int],
    look: Callable[[int, Fit], None] = lambda step, fit: None,
    tick: Callable[[int], None] = lambda step: None,
    *,
    compile: bool = False,
) -> Fit:
    """Fits data sets x (S, n, d), y (S, n), float64, rows in random order, with seeds[s] for set s.

    ``look`` sees the fit at LOOKS steps, ``tick`` hears of every step; what they raise ends it. ``compile``: as machine code, for
    which the first fit of a shape takes some ten seconds; the flow dropout, which draws as it goes, is never compiled.

    Raises FloatingPointError where the particles are not finite.
    """
    n = x.shape[1] - dev_size(x.shape[1])
    x_dev, y_dev = x[:, n:], y[:, n:]
    x_mean, y_mean = x[:, :n].mean(1, keepdim=True), y[:, :n].mean(1, keepdim=True)
    x_std, y_std = (_or_one(t[:, :n].std(1, correction=0, keepdim=True)) for t in (x, y))
    shown = settings.model(x.shape[-1], len(x))
    draws, best, reached = [torch.Generator().manual_seed(s) for s in seeds], None, torch.empty(0)
    train = ((x[:, :n] - x_mean) / x_std).to(DTYPE), ((y[:, :n] - y_mean) / y_std).to(DTYPE)
    for step, particles in _steps(settings, *train, draws, tick, compile):
        if not particles.isfinite().all():
            raise FloatingPointError(f"the particles are not finite after {step} iterations; lower lr, which is {settings.lr:g}")
        if settings.flow == "dropout":
            particles = flows.thinned(particles, shown.net, settings.dropout, [torch.Generator(x.device).manual_seed(s) for s in seeds])
        rough = Fit(shown, particles.clone(), x_mean, x_std, y_mean, y_std, particles[..., -2])
        error = (rough.predict(x_dev) - y_dev[:, None]).square().mean(-1)
        now = rough._replace(log_gamma=-error.clamp_min(LEAST * y_std.square()).log())
        look(step, now)
        likelihood = now.log_likelihood(x_dev, y_dev)
        if best is None or settings.keep == "last":
            best, reached = now, likelihood
        else:
            better = (likelihood > reached)[:, None]
            best = best._replace(
                particles=torch.where(better[..., None], now.particles, best.particles),
                log_gamma=torch.where(better, now.log_gamma, best.log_gamma),
            )
            reached = torch.maximum(likelihood, reached)
    assert best is not None  # a look follows the last step
    return best


def _steps(
    settings: Settings, x: Tensor, y: Tensor, draws: Sequence[torch.Generator], tick: Callable[[int], None], compile: bool
) -> Iterator[tuple[int, Tensor]]:
    """Moves particles on standardised data; yields (step, particles) LOOKS times, the last after the last step."""
    n, dropout = x.shape[1], settings.flow == "dropout"
    model = (replace(settings, particles=1) if dropout else settings).model(x.shape[-1], len(x))
    particles = model.init(x, y, draws)
    noise = [torch.Generator(x.device).manual_seed(int(torch.randint(2**62, (), generator=g))) for g in draws]
    if dropout:
        model.net.activation = flows.thinning(settings.dropout, noise)
    make = partial(compiled, batch=min(settings.batch, n), device=x.device) if compile and not dropout else flows.drive
    drive = make(settings.flow, model, n, settings.w2 if settings.flow == "wgf" else None, settings.w2_scale)
    optimiser = flows.RMSProp()
    looks = {math.ceil(settings.iterations * k / LOOKS) for k in range(1, LOOKS + 1)}
    x_prev = particles.clone()
    for step, rows in zip(range(1, settings.iterations + 1), flows.minibatches(n, settings.batch), strict=False):
        if settings.flow == "wgf" and (step - 1) % settings.inner_steps == 0:
            x_prev = particles.clone()
        with trusted():
            v = drive(particles, x_prev, x[:, rows], y[:, rows])
        root, lr = optimiser.root(v), settings.lr * (1.0 - (step - 1) / settings.iterations if settings.anneal else 1.0)
        particles.addcdiv_(v, root, value=lr)
        if settings.flow == "langevin":
            xi = torch.stack([torch.randn(v.shape[1:], generator=g, device=v.device) for g in noise])
            particles.addcdiv_(xi, root.sqrt(), value=math.sqrt(2.0 * lr))
        if step in looks:
            yield step, particles
        tick(step)


def _or_one(deviation: Tensor) -> Tensor:
    return torch.where(deviation > 0.0, deviation, 1.0)
