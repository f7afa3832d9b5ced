"""The step size by the dev part: several of them fitted side by side, as one stack."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from wgf.bnn.fit import Fit, dev_likelihood, fit
from wgf.bnn.settings import Settings
from wgf.shards import ALONE, Shards

__all__ = ["best_rate"]


def best_rate(
    settings: Settings,
    rates: Sequence[float],
    x: Tensor,
    y: Tensor,
    weights: Tensor,
    seeds: Sequence[int],
    tick: Callable[[int], None] = lambda step: None,
    *,
    compile: bool = False,
    shards: Shards = ALONE,
) -> tuple[Fit, Tensor]:
    """Fits data sets x (S, n, d), y (S, n, K), weights (S, n) with every step size of ``rates``; for each set, the fit with the best
    log-likelihood of the dev part, and its step size (S,).

    A data set starts alike under every rate, from its seed. **Raises** FloatingPointError where particles of any rate are not finite.
    """
    x, y, weights = (t.repeat(len(rates), *[1] * (t.ndim - 1)) for t in (x, y, weights))
    each = [rate for rate in rates for _ in seeds]
    found = fit(settings, x, y, [*seeds] * len(rates), tick=tick, weights=weights, rates=each, compile=compile, shards=shards)
    best = dev_likelihood(found, x, y, weights).view(len(rates), len(seeds)).argmax(0)
    chosen = best * len(seeds) + torch.arange(len(seeds), device=best.device)
    parts = {name: getattr(found, name)[chosen] for name in Fit._fields if name != "model"}
    return found._replace(**parts), torch.tensor(rates, dtype=torch.float64)[best.cpu()]
