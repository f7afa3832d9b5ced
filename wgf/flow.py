"""The Wasserstein gradient flow: velocity = KL term + W2 term, and the JKO scheme over it.

The default is the flow of Eq. 6: Blob's velocity, which descends KL itself, and the debiased transport, which descends W2^2 itself.
The paper's combination of Eq. 7 with a W2 velocity, ``kl=svgd.velocity``, is another flow: SVGD smooths the slope of KL by its kernel,
nothing smooths that of W2^2, and the sum is the slope of no common objective. Both are here; each has its own name.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from wgf import svgd, transport
from wgf.door import door
from wgf.shards import ALONE, Shards, own
from wgf.shown import shown

__all__ = ["Flow", "Run", "State", "jko", "run", "velocity"]

KLVelocity = Callable[[Tensor, Tensor], Tensor]
W2Velocity = Callable[[Tensor, Tensor], Tensor]


@door(x="*b M d", score="*b M d", x_prev="*b N d", scale="real", kl="function", w2="function")
def velocity(
    x: Tensor,
    score: Tensor,
    x_prev: Tensor,
    *,
    scale: float,
    kl: KLVelocity = svgd.blob,
    w2: W2Velocity = transport.debiased,
) -> Tensor:
    """v = kl(x, score) + scale * w2(x, x_prev), (..., M, d).

    Blob or GFSD with a transport map and scale = 1/h descends M times [KL + W2^2 / (2 h)]. ``kl=svgd.velocity`` with one of Eq. 9's
    forms and scale = epsilon (0.4 in the paper) is the paper's "combining Eq. 7 and Eq. 9": another flow, as said above.

    **Source** Zhang et al. 2018, Eq. 6 and Sec. 3. **Sign** add it. **Limits** scale = 0 is the KL velocity.
    """
    return own(kl(x, score)) + scale * own(w2(x, x_prev))


class State(NamedTuple):
    """Particles x and the last JKO iterate x_prev, both (..., M, d)."""

    x: Tensor
    x_prev: Tensor


class Flow(NamedTuple):
    """``state = init(x)``, then ``state = step(state)``."""

    init: Callable[[Tensor], State]
    step: Callable[[State], State]


class Run(NamedTuple):
    """The ``state`` after the last step, and ``history`` (K + 1, ..., M, d): the particles at the start and after every so many steps."""

    state: State
    history: Tensor


@door(x="*b M d", steps=">=1", every=">=1", progress="function")
def run(flow: Flow, x: Tensor, steps: int, *, every: int = 1, progress: Callable[[int, State], object] | None = None) -> Run:
    """Takes so many steps of a flow from the particles x, (..., M, d), and keeps them after every ``every``-th.

    ``progress(step, state)`` is called after each step, from 1 to ``steps``: to print, to look at ``wgf.diagnostics``, or to stop by an
    exception. **Limits** the history takes steps / every times the memory of x; ``every=steps`` keeps the start and the end alone.
    """
    if not isinstance(flow, Flow):
        raise ValueError(f"flow is {shown(flow)}; pass a wgf.flow.Flow, such as jko(...)")
    state, kept = flow.init(x), [x]
    for step in range(1, steps + 1):
        state = flow.step(state)
        if step % every == 0:
            kept.append(state.x)
        if progress is not None:
            progress(step, state)
    return Run(state, torch.stack(kept))


@door(score="function", h=">0", lr=">0", inner_steps=">=1", kl="function", w2="function")
def jko(
    score: Callable[[Tensor], Tensor],
    *,
    h: float,
    lr: float,
    inner_steps: int,
    kl: KLVelocity = svgd.blob,
    w2: W2Velocity = transport.debiased,
    shards: Shards = ALONE,
) -> Flow:
    """mu_{k+1} = argmin_mu KL(mu || p) + W2^2(mu, mu_k) / (2 h), by ``inner_steps`` gradient steps x += lr [kl + w2 / h].

    ``score(x)`` returns grad log p at particles (..., M, d); ``w2`` is a transport map, zero at x = x_prev. All inner steps of an
    iterate measure from one x_prev, the particles at the first of them. There w2 is zero: a single inner step is the KL velocity's alone.

    ``shards``: the particles of several ranks. Then ``score``, ``init`` and ``step`` have this rank's rows (..., m, d), and whole clouds
    go to ``kl`` and ``w2``, by one all-gather for each inner step and one more for each iterate; ``wgf.shards`` says what each flow adds.

    ``kl`` decides what is minimised. Blob (the default) and GFSD follow the slope of KL; then the inner steps reach the argmin, but for
    the width of the kernel beside the cloud's. ``kl=svgd.velocity`` is the paper's scheme and not the argmin: from N(2, 1/4) to N(0, 1)
    with h = 1/2 twenty particles come to the mean 1.76, where Eq. 6 has 1.33.

    **Source** Zhang et al. 2018, Eq. 6 and 13; Jordan, Kinderlehrer, Otto 1998.
    **Limits** h -> inf is the KL flow; h -> 0 the Fokker-Planck equation, with an error proportional to h and that of the kernel's width
    (``w2=transport.exact``: the gaps of ``debiased``'s plans add up over short steps); N(m, s^2) to N(0, 1): m' = m / (1 + h),
    (1 + h) s'^2 - s s' - h = 0. Stable for lr < 2 / (1/h + Lip), Lip the Lipschitz constant of the KL velocity.
    """

    if not isinstance(shards, Shards):
        raise ValueError(f"shards is {shown(shards)}; pass a wgf.shards.Shards")

    @door(x="*b M d")
    def init(x: Tensor) -> State:
        return State(x, x)

    def step(state: State) -> State:
        x, x_prev = state.x, shards.gather(state.x)

        def direction(x: Tensor, score: Tensor) -> Tensor:
            return velocity(x, score, x_prev, scale=1.0 / h, kl=kl, w2=w2)

        for _ in range(inner_steps):
            x = x + lr * shards.velocity(direction, x, score(x))
        return State(x, state.x)

    return Flow(init, step)
