"""Fitting particles to S data sets of equal size in one computation, and what they predict in the data's own units.

The protocol is that of Liu & Wang's public code: the last tenth of the rows (at most 500) is the dev part and is not trained on; inputs
and targets are standardised by the others' mean and deviation (a deviation of 0 counts as 1); minibatches are cyclic; after training
each particle's gamma becomes the maximum likelihood on the dev part, in the data's units.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wgf.bnn import flows, mixture
from wgf.bnn.model import Model, log_density
from wgf.bnn.settings import Settings
from wgf.bnn.steps import Steps
from wgf.door import door, told
from wgf.limits import free_memory, size
from wgf.shards import ALONE, Shards
from wgf.shown import shown
from wgf.snapshot import Snapshot, put_

__all__ = ["DTYPE", "Course", "Fit", "dev_likelihood", "dev_size", "fit", "room"]

DTYPE = torch.float32  # of the particles
LOOKS = 20  # at a fit, evenly spaced
WIDEST = 1e100  # deviation of a column, and 1 over the narrowest: squares stay within float64
LEAST = 1e-12  # of the targets' variance: the least mean squared error that a dev part can show, below float32's digits


class Fit(NamedTuple):
    """Networks: particles (S, M, P) in standardised units, of the flow smi M draws, and, in float64, the means and deviations of inputs
    (S, 1, d) and targets (S, 1, K), and log gamma (S, M, K) in the targets' own units."""

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


def room(settings: Settings, x: Tensor, y: Tensor, ranks: int = 1) -> None:
    """Looks whether a fit to x (S, n, d) and y (S, n, K) fits the memory.

    Counted are 6 tensors (S, M, P) of particles, with smi of components and of their draws, the units of the networks (S, M, B, units)
    and their gradients, and a kernel (S, M, M) where the flow has one: no fewer bytes are taken. Each of ``ranks`` takes its part.

    **Raises** ValueError, in one line, naming the setting that is largest beside its default.
    """
    (sets, rows, features), outputs, m, free = x.shape, y.shape[-1], settings.particles, free_memory(x.device)
    smi, networks = settings.flow == "smi", settings.networks
    units = min(settings.batch, rows) * (features + sum(settings.hidden) + outputs)
    held = (2 * m * smi + networks) * settings.model(features, outputs).numbers
    kernel = 0 if settings.flow in ("ensemble", "dropout", "langevin") else 2 * m * m
    needed = 4 * sets * (6 * held + 2 * networks * units + kernel) // ranks
    if needed > free:
        ratios = {name: getattr(settings, name) / getattr(Settings, name) for name in ("particles", "batch", *["draws"] * smi)}
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
    shards: Shards = ALONE,
) -> Fit:
    """Fits data sets x (S, n, d), y (S, n, K), float64, rows in random order, with seeds[s] for set s.

    ``weights`` (S, n), each at least 0 and 1 by default: how many times the log-likelihood of a row counts, and its part in means,
    deviations and the dev part. ``rates``: the step size of each data set, S numbers, in place of ``settings.lr`` for all.

    ``look`` sees the fit at LOOKS steps, ``tick`` hears of every step; what they raise ends it. ``compile``: as machine code, for
    which the first fit of a shape takes some ten seconds; the flow dropout, which draws as it goes, is never compiled.

    ``shards``: which of the particles each rank owns (``wgf.shards``). All ranks give the same arguments and return the same fit, which
    is that of one process but for rounding. A step has one collective and a JKO iterate of the flow wgf one more, a look another; the
    flows langevin and ensemble have those of the looks alone.

    **Raises** ValueError as ``room`` does and for columns whose squares are beyond the range of numbers, FloatingPointError where the
    particles are not finite, ValueError for shards of the flows smi and dropout and of a compiled fit.
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
    room(settings, x, y, shards.group.size)
    return Course(settings, x, y, seeds, weights=weights, rates=rates, compile=compile, shards=shards).run(look, tick)


class Course:
    """A fit on its way, of the arguments of ``fit``, which are believed: ``snapshot`` and ``restore`` put it down between two steps and
    take it up again, bit by bit, as if it had not been put down."""

    def __init__(
        self,
        settings: Settings,
        x: Tensor,
        y: Tensor,
        seeds: Sequence[int],
        *,
        weights: Tensor | None = None,
        rates: Sequence[float] = (),
        compile: bool = False,
        shards: Shards = ALONE,
    ) -> None:
        if shards is not ALONE:
            _sharded(settings, shards, compile)
        weights = torch.ones_like(x[..., 0]) if weights is None else weights
        if not (weights[:, -dev_size(x.shape[1]) :].sum(1) > 0.0).all():
            raise ValueError(f"weights has none above 0 among the last {dev_size(x.shape[1])} rows, the dev part; put other rows there")
        n = x.shape[1] - dev_size(x.shape[1])
        (x_mean, x_std), (y_mean, y_std) = (_standard(name, t[:, :n], weights[:, :n, None]) for name, t in (("x", x), ("y", y)))
        train = ((x[:, :n] - x_mean) / x_std).to(DTYPE), ((y[:, :n] - y_mean) / y_std).to(DTYPE), weights[:, :n].to(DTYPE)
        self._settings, self._data, self._dev, self._seeds = settings, (x, y, weights), [t[:, n:] for t in (x, y, weights)], seeds
        self._units = x_mean, x_std, y_mean, y_std
        self._lr = torch.tensor(rates or [settings.lr] * len(x), dtype=DTYPE, device=x.device)
        self._model = settings.model(x.shape[-1], y.shape[-1])
        self._steps = Steps(settings, *train, self._lr, [torch.Generator().manual_seed(s) for s in seeds], compile, shards)
        self._shards = shards
        self._best: Fit | None = None
        self._reached = torch.empty(0)

    @property
    def step(self) -> int:
        """How many steps it took."""
        return self._steps.step

    def run(self, look: Callable[[int, Fit], None], tick: Callable[[int], None]) -> Fit:
        """Goes to its end; ``look`` and ``tick`` as in ``fit``, which says what is raised."""
        total = self._settings.iterations
        looks = {math.ceil(total * k / LOOKS) for k in range(1, LOOKS + 1)}
        while self.step < total:
            self._steps.take()
            if self.step in looks:
                now = self._now()
                look(self.step, now)
                self._keep(now)
            tick(self.step)
        assert self._best is not None  # a look follows the last step
        return self._best

    def snapshot(self) -> Snapshot:
        """Returns all that the rest of it depends on beside its arguments, after one step at least."""
        best = self._best
        kept = {} if best is None else {"particles": best.particles, "log_gamma": best.log_gamma, "reached": self._reached}
        return {"steps": self._steps.snapshot(), "best": kept}

    def restore(self, found: Mapping[str, Any]) -> None:
        """Brings one that took no step yet to where another was. Raises ValueError for a snapshot of none with these arguments."""
        steps, best = found.get("steps"), found.get("best")
        if not isinstance(steps, dict) or not isinstance(best, dict):
            raise ValueError("it lacks the steps or the best look of a fit")
        self._steps.restore(steps)
        if self.step < math.ceil(self._settings.iterations / LOOKS):
            return
        like, outputs = self._steps.particles, self._data[1].shape[-1]
        stack, reached = (len(like), self._model.particles), self._lr.new_empty(len(like), dtype=torch.float64)
        particles, log_gamma = like.new_empty(*stack, self._model.numbers), reached.new_empty(*stack, outputs)
        for name, own in (("particles", particles), ("log_gamma", log_gamma), ("reached", reached)):
            put_(own, best.get(name), f"the best look's {name}")
        self._best, self._reached = Fit(self._model, particles, *self._units, log_gamma), reached

    def _now(self) -> Fit:
        """The fit where the particles are, with the noise precisions of the dev part."""
        settings, particles, (x, y, weights) = self._settings, self._shards.gather(self._steps.particles), self._dev
        again = [torch.Generator(x.device).manual_seed(s) for s in self._seeds]
        if settings.flow == "dropout":
            particles = flows.thinned(particles, self._model.net, settings.particles, settings.dropout, again)
        if settings.flow == "smi":
            xi = flows.normal((settings.particles, settings.draws, self._model.numbers), again)
            particles = mixture.draw(particles, xi).flatten(1, 2)
        if not (finite := particles.isfinite().flatten(1).all(1)).all():
            worst = self._lr[~finite].max()
            raise FloatingPointError(f"the particles are not finite after {self.step} iterations; lower lr, which is {worst:g}")
        rough = Fit(self._model, particles.clone(), *self._units, self._model.parts(particles).log_gamma)
        error = _mean((rough.predict(x) - y[:, None]).square(), weights[:, None, :, None], -2)
        return rough._replace(log_gamma=-error.clamp_min(LEAST * self._units[3].square()).log())

    def _keep(self, now: Fit) -> None:
        """Takes a look for the best, for each data set where it is."""
        likelihood, best = dev_likelihood(now, *self._data), self._best
        if best is None or self._settings.keep == "last":
            self._best, self._reached = now, likelihood
            return
        better = (likelihood > self._reached)[:, None, None]
        self._best = best._replace(
            particles=torch.where(better, now.particles, best.particles), log_gamma=torch.where(better, now.log_gamma, best.log_gamma)
        )
        self._reached = torch.maximum(likelihood, self._reached)


def _sharded(settings: Settings, shards: Shards, compile: bool) -> None:
    """Raises ValueError for what a fit in shards cannot be."""
    if settings.flow in ("smi", "dropout"):
        raise ValueError(f"flow is {settings.flow!r}; shards are for wgf, svgd, blob, langevin and ensemble: choose one of them")
    if compile:
        raise ValueError("compile is True, but a fit in shards is not compiled; leave out one of both")
    if shards.particles != settings.particles:
        raise ValueError(f"particles is {settings.particles}, but the shards hold {shards.particles}; give the same")


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
