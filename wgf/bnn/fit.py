"""Fitting particles to S data sets of equal size in one computation, and what they predict in the data's own units.

The protocol is that of Liu & Wang's public code: the last tenth of the rows (at most 500) is the dev part and is not trained on; inputs
and targets are standardised by the others' mean and deviation (a deviation of 0 counts as 1); minibatches are cyclic; after training
each particle's gamma becomes the maximum likelihood on the dev part, in the data's units.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wgf.bnn import flows
from wgf.bnn.compiled import compiled
from wgf.bnn.model import Model, Prior, log_density
from wgf.bnn.network import Net
from wgf.door import door, told, trusted
from wgf.limits import free_memory, size
from wgf.shown import shown
from wgf.transport import VELOCITIES, W2Name

DTYPE = torch.float32  # of the particles
LARGEST = 10**18  # of a whole number: tensors count no further
MOST = 1e30  # of other numbers: float32 holds them and their products
FLAGS = (True, False)
MOST_LAYERS = 100  # of hidden units: more of them cost time and train nothing
LOOKS = 20  # at a fit, evenly spaced
WIDEST = 1e100  # deviation of a column, and 1 over the narrowest: squares stay within float64
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
    w2: W2Name = "exact"
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
        for name, allowed in {
            "flow": flows.FLOWS,
            "w2": tuple(VELOCITIES),
            "keep": ("best", "last"),
            "anneal": FLAGS,
            "centred": FLAGS,
        }.items():
            value = getattr(self, name)
            if not isinstance(value, (str, bool, np.bool_)) or value not in allowed:
                raise ValueError(f"{name} is {shown(value)}; choose from {', '.join(map(str, allowed))}")
        if not isinstance(self.hidden, (tuple, list)):
            raise ValueError(f"hidden is {shown(self.hidden)}; allowed are whole numbers, one a layer")
        if len(self.hidden) > MOST_LAYERS:
            raise ValueError(f"hidden has {len(self.hidden)} layers; allowed are at most {MOST_LAYERS}")
        whole = {name: getattr(self, name) for name in ("particles", "iterations", "batch", "inner_steps")}
        for name, value in {**whole, **{f"hidden[{i}]": units for i, units in enumerate(self.hidden)}}.items():
            if not (_within(value, Integral, LARGEST) and value >= 1):
                raise ValueError(f"{name} is {shown(value)}; allowed is a whole number of at least 1, with at most 18 digits")
        for name in ("lr", "prior_shape", "prior_rate", "w2_scale"):
            value, least = getattr(self, name), " or 0" if name == "w2_scale" else ""
            if not (_within(value, Real, MOST) and (value > 0.0 or least)):
                raise ValueError(f"{name} is {shown(value)}; allowed is a positive, finite number{least}, at most {MOST:g}")
        if not (_within(self.dropout, Real, 1.0) and self.dropout < 1.0):
            raise ValueError(f"dropout is {shown(self.dropout)}; allowed is a number from 0 to below 1")

    def model(self, features: int, outputs: int = 1) -> Model:
        """The networks of a data set, and their prior."""
        net = Net((features, *self.hidden, outputs))
        return Model(net, self.particles, self.centred, Prior(self.prior_shape, self.prior_rate))


def _within(value: Any, kind: type, most: float) -> bool:
    """Whether it is a number of the kind from 0 to ``most``."""
    return isinstance(value, kind) and not isinstance(value, bool) and 0 <= value <= most  # type: ignore[operator]


class Fit(NamedTuple):
    """Particles (S, M, P) in standardised units and, in float64, the means and deviations of inputs (S, 1, d) and targets (S, 1, K), and
    log gamma (S, M, K) in the targets' own units."""

    model: Model
    particles: Tensor
    x_mean: Tensor
    x_std: Tensor
    y_mean: Tensor
    y_std: Tensor
    log_gamma: Tensor

    @told
    def predict(self, x: Tensor) -> Tensor:
        """f_m(x) in the targets' units, (S, M, B, K), for x (S, B, d), both float64."""
        f = self.model.predict(self.particles, ((x - self.x_mean) / self.x_std).to(self.particles))
        return f.double() * self.y_std[:, None] + self.y_mean[:, None]

    @told
    def rmse(self, x: Tensor, y: Tensor) -> Tensor:
        """Root mean squared error of the particles' mean, (S,), over rows and outputs y (S, B, K)."""
        return (self.predict(x).mean(1) - y).square().mean((-2, -1)).sqrt()

    @told
    def log_densities(self, x: Tensor, y: Tensor) -> Tensor:
        """log (1/M) sum_m prod_k N(y_k; f_mk(x), 1 / gamma_mk) of every row, (S, B), in nats."""
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


def room(settings: Settings, x: Tensor, y: Tensor) -> None:
    """Looks whether a fit to x (S, n, d) and y (S, n, K) fits the memory.

    Counted are 6 tensors (S, M, P) of particles, the units of the networks (S, M, B, units) and their gradients, and a kernel (S, M, M)
    where the flow has one: no fewer bytes are taken.

    **Raises** ValueError, in one line, naming the setting that is largest beside its default.
    """
    (sets, rows, features), outputs, m, free = x.shape, y.shape[-1], settings.particles, free_memory(x.device)
    numbers = settings.model(features, outputs).net.weights + outputs + 1
    units = min(settings.batch, rows) * (features + sum(settings.hidden) + outputs)
    needed = 4 * sets * m * (6 * numbers + 2 * units + (0 if settings.flow in ("ensemble", "dropout", "langevin") else 2 * m))
    if needed > free:
        ratios = {name: getattr(settings, name) / getattr(Settings, name) for name in ("particles", "batch")}
        ratios["hidden"] = math.prod(settings.hidden) / math.prod(Settings.hidden)
        name = max(ratios, key=lambda setting: ratios[setting])
        value = ",".join(map(str, settings.hidden)) if name == "hidden" else getattr(settings, name)
        raise ValueError(f"{name} is {value}: a fit takes at least {size(needed)} of memory, but {size(free)} are free; make it less")


def dev_size(n: int) -> int:
    """Rows of the dev part: a tenth, at most 500, at least one."""
    return max(1, min(round(0.1 * n), 500))


def dev_likelihood(found: Fit, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of the log-densities of the dev part of data sets x (S, n, d), y (S, n, K), weights (S, n): (S,)."""
    x, y, weights = (t[:, -dev_size(t.shape[1]) :] for t in (x, y, weights))
    return _mean(found.log_densities(x, y), weights, -1)


@door(x="*b n d", y="*b n K", weights="*b n", look="function", tick="function")
def fit(
    settings: Settings,
    x: Tensor,
    y: Tensor,
    seeds: Sequence[int],
    look: Callable[[int, Fit], None] = lambda step, fit: None,
    tick: Callable[[int], None] = lambda step: None,
    *,
    weights: Tensor | None = None,
    rates: Sequence[float] = (),
    compile: bool = False,
) -> Fit:
    """Fits data sets x (S, n, d), y (S, n, K), float64, rows in random order, with seeds[s] for set s.

    ``weights`` (S, n), each at least 0 and 1 by default: how many times the log-likelihood of a row counts, and its part in means,
    deviations and the dev part. ``rates``: the step size of each data set, S numbers, in place of ``settings.lr`` for all.

    ``look`` sees the fit at LOOKS steps, ``tick`` hears of every step; what they raise ends it. ``compile``: as machine code, for
    which the first fit of a shape takes some ten seconds; the flow dropout, which draws as it goes, is never compiled.

    **Raises** ValueError as ``room`` does and for columns whose squares are beyond the range of numbers, FloatingPointError where the
    particles are not finite.
    """
    if not isinstance(settings, Settings):
        raise ValueError(f"settings is {shown(settings)}; pass a wgf.bnn.Settings")
    if x.ndim != 3:
        raise ValueError(f"x has shape {tuple(x.shape)}; allowed is (S, n, d), and y (S, n, K)")
    for name, given in {"seeds": seeds, **({} if isinstance(rates, (tuple, list)) and not rates else {"rates": rates})}.items():
        if (
            not isinstance(given, Sequence)
            or isinstance(given, (str, bytes))
            or len(given) != len(x)
            or not all(isinstance(k, (int, float)) for k in given)
        ):
            raise ValueError(f"{name} is {shown(given)}; allowed are {len(x)} numbers, one for each data set")
    room(settings, x, y)
    weights = torch.ones_like(x[..., 0]) if weights is None else weights
    n = x.shape[1] - dev_size(x.shape[1])
    x_dev, y_dev, w_dev = (t[:, n:] for t in (x, y, weights))
    (x_mean, x_std), (y_mean, y_std) = (_standard(name, t[:, :n], weights[:, :n, None]) for name, t in (("x", x), ("y", y)))
    train = ((x[:, :n] - x_mean) / x_std).to(DTYPE), ((y[:, :n] - y_mean) / y_std).to(DTYPE), weights[:, :n].to(DTYPE)
    lr = torch.tensor(rates or [settings.lr] * len(x), dtype=DTYPE, device=x.device)
    model, best, reached = settings.model(x.shape[-1], y.shape[-1]), None, torch.empty(0)
    draws = [torch.Generator().manual_seed(s) for s in seeds]
    for step, particles in _steps(settings, *train, lr, draws, tick, compile):
        if not (finite := particles.isfinite().flatten(1).all(1)).all():
            worst = lr[~finite].max()
            raise FloatingPointError(f"the particles are not finite after {step} iterations; lower lr, which is {worst:g}")
        if settings.flow == "dropout":
            again = [torch.Generator(x.device).manual_seed(s) for s in seeds]
            particles = flows.thinned(particles, model.net, settings.particles, settings.dropout, again)
        rough = Fit(model, particles.clone(), x_mean, x_std, y_mean, y_std, model.parts(particles).log_gamma)
        error = _mean((rough.predict(x_dev) - y_dev[:, None]).square(), w_dev[:, None, :, None], -2)
        now = rough._replace(log_gamma=-error.clamp_min(LEAST * y_std.square()).log())
        look(step, now)
        likelihood = dev_likelihood(now, x, y, weights)
        if best is None or settings.keep == "last":
            best, reached = now, likelihood
        else:
            better = (likelihood > reached)[:, None, None]
            best = best._replace(
                particles=torch.where(better, now.particles, best.particles), log_gamma=torch.where(better, now.log_gamma, best.log_gamma)
            )
            reached = torch.maximum(likelihood, reached)
    assert best is not None  # a look follows the last step
    return best


def _steps(
    settings: Settings,
    x: Tensor,
    y: Tensor,
    weights: Tensor,
    lr: Tensor,
    draws: Sequence[torch.Generator],
    tick: Callable[[int], None],
    compile: bool,
) -> Iterator[tuple[int, Tensor]]:
    """Moves particles on standardised data; yields (step, particles) LOOKS times, the last after the last step."""
    n, dropout = x.shape[1], settings.flow == "dropout"
    model = (replace(settings, particles=1) if dropout else settings).model(x.shape[-1], y.shape[-1])
    particles = model.init(x, y, draws)
    noise = [torch.Generator(x.device).manual_seed(int(torch.randint(2**62, (), generator=g))) for g in draws]
    if dropout:
        model = replace(model, net=replace(model.net, phi=flows.thinning(settings.dropout, noise)))
    make = compiled if compile and not dropout else flows.drive
    drive = make(settings.flow, model, n, settings.w2 if settings.flow == "wgf" else None, settings.w2_scale)
    optimiser = flows.RMSProp()
    looks = {math.ceil(settings.iterations * k / LOOKS) for k in range(1, LOOKS + 1)}
    x_prev = particles.clone()
    for step, rows in zip(range(1, settings.iterations + 1), flows.minibatches(n, settings.batch), strict=False):
        if settings.flow == "wgf" and (step - 1) % settings.inner_steps == 0:
            x_prev = particles.clone()
        with trusted():
            v = drive(particles, x_prev, x[:, rows], y[:, rows], weights[:, rows])
        root = optimiser.root(v)
        rate = lr[:, None, None] * (1.0 - (step - 1) / settings.iterations if settings.anneal else 1.0)
        particles.addcmul_(v / root, rate)
        if settings.flow == "langevin":
            xi = torch.stack([torch.randn(v.shape[1:], generator=g, device=v.device) for g in noise])
            particles.addcmul_(xi, (2.0 * rate / root).sqrt())
        if step in looks:
            yield step, particles
        tick(step)


def _mean(values: Tensor, weights: Tensor, axis: int) -> Tensor:
    """Weighted mean along an axis, which is kept in neither."""
    return (values * weights).sum(axis) / weights.sum(axis)


def _standard(name: str, values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and deviation over the rows, (S, 1, d) each, of values (S, n, d); that of a constant column counts as 1.

    **Raises** ValueError for a deviation whose square would leave the range of numbers.
    """
    mean = _mean(values, weights, 1)[:, None]
    deviation = _mean((values - mean).square(), weights, 1)[:, None].sqrt()
    std = torch.where(values.amax(1, keepdim=True) > values.amin(1, keepdim=True), deviation, 1.0)
    if not ((std > 1.0 / WIDEST) & (std < WIDEST)).all():
        raise ValueError(f"{name} has columns of deviations from {std.min():g} to {std.max():g}; allowed is {1.0 / WIDEST:g} to {WIDEST:g}")
    return mean, std
