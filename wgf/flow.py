"""The Wasserstein gradient flow: velocity = KL term + W2 term, and the JKO scheme over it."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from wgf import svgd, transport
from wgf.door import door

KLVelocity = Callable[[Tensor, Tensor], Tensor]
W2Velocity = Callable[[Tensor, Tensor], Tensor]


@door(x="*b M d", score="*b M d", x_prev="*b N d", scale="real")
def velocity(
    x: Tensor,
    score: Tensor,
    x_prev: Tensor,
    *,
    scale: float,
    kl: KLVelocity = svgd.velocity,
    w2: W2Velocity = transport.debiased,
) -> Tensor:
    """v = kl(x, score) + scale * w2(x, x_prev), (..., M, d): "combining Eq. 7 and Eq. 9".

    **Source** Zhang et al. 2018, Eq. 6 and Sec. 3. ``scale`` is their epsilon (default 0.4 there) for Eq. 9's forms, and 1/h for the
    transport maps, with which v descends M times [KL + W2^2 / (2 h)]. **Sign** add it. **Limits** scale = 0 is the KL velocity.
    """
    return kl(x, score) + scale * w2(x, x_prev)


class State(NamedTuple):
    """Particles x and the last JKO iterate x_prev, both (..., M, d)."""

    x: Tensor
    x_prev: Tensor


class Flow(NamedTuple):
    """``state = init(x)``, then ``state = step(state)``."""

    init: Callable[[Tensor], State]
    step: Callable[[State], State]


@door(h=">0", lr=">0", inner_steps=">=1")
def jko(
    score: Callable[[Tensor], Tensor],
    *,
    h: float,
    lr: float,
    inner_steps: int,
    kl: KLVelocity = svgd.velocity,
    w2: W2Velocity = transport.debiased,
) -> Flow:
    """mu_{k+1} = argmin_mu KL(mu || p) + W2^2(mu, mu_k) / (2 h), by ``inner_steps`` gradient steps x += lr [kl + w2 / h].

    ``score(x)`` returns grad log p at particles (..., M, d); ``w2`` is a transport map, zero at x = x_prev.

    **Source** Zhang et al. 2018, Eq. 6 and 13; Jordan, Kinderlehrer, Otto 1998.
    **Limits** h -> inf is the KL flow; N(m, s^2) to N(0, 1): m' = m / (1 + h), (1 + h) s'^2 - s s' - h = 0.
    Stable for lr < 2 / (1/h + Lip), Lip the Lipschitz constant of the KL velocity.
    """

    def init(x: Tensor) -> State:
        return State(x, x)

    def step(state: State) -> State:
        x, x_prev = state.x, state.x
        for _ in range(inner_steps):
            x = x + lr * velocity(x, score(x), x_prev, scale=1.0 / h, kl=kl, w2=w2)
        return State(x, x_prev)

    return Flow(init, step)
