"""Targets and losses that agents share. Losses are means within a seed, (S,); their sum over seeds is what is differentiated."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from wgf.transport import VELOCITIES, W2Name

__all__ = [
    "BOOTSTRAPS", "against", "entropy_target", "entropy_value", "gae", "log_mean_exp", "mean_square", "normalizer_value", "soft_value",
    "softmax_value", "speed", "td_target", "w2_velocity",
]  # fmt: skip


def td_target(reward: Tensor, discount: Tensor, next_value: Tensor) -> Tensor:
    """Returns y = r + discount V(s'), (S, B); discount = gamma (1 - terminated), so that truncation bootstraps."""
    return torch.addcmul(reward, discount, next_value)


def gae(reward: Tensor, discount: Tensor, value: Tensor, next_value: Tensor, ended: Tensor, decay: float) -> Tensor:
    """Returns generalised advantage estimates, (..., T, E): A_t = d_t + decay A_{t+1}, no further than the episode's end,
    d_t = r_t + discount_t V(s_{t+1}) - V(s_t).

    ``discount`` = gamma (1 - terminated) as ever, ``ended`` marks terminations and truncations, ``next_value`` is that of the state
    that the action led to, before any reset; ``decay`` = gamma lambda. lambda = 1: the return less V; lambda = 0: the TD error.
    **Source** Schulman et al. 2016, Eq. 16.
    """
    delta = reward + discount * next_value - value
    goes_on = decay * (~ended).to(delta.dtype)
    found = torch.empty_like(delta)
    after = torch.zeros_like(delta[..., 0, :])
    for t in range(delta.shape[-2] - 1, -1, -1):
        after = torch.addcmul(delta[..., t, :], goes_on[..., t, :], after)
        found[..., t, :] = after
    return found


def log_mean_exp(q: Tensor) -> Tensor:
    """Returns log (1/K) sum_k exp(q_k), (..., K) -> (...). Of uniform actions it is log E_u[exp(Q) / u] - H(u), u the uniform density.

    **Source** Zhang et al. 2018, Sec. 4.2, the target of DP-WGF with a uniform q.
    """
    return torch.logsumexp(q, -1) - math.log(q.shape[-1])


def soft_value(q: Tensor, alpha: float, action_size: int) -> Tensor:
    """Returns V = alpha log int exp(Q / alpha) da over (-1, 1)^A, from K uniform actions:
    alpha [logsumexp_k(Q_k / alpha) - log K + A log 2].

    q (S, B, K) -> (S, B). **Source** Haarnoja et al. 2017, Eq. 10; Zhang et al. 2018, Sec. 4.2 with a uniform q. Limits: equals Q
    plus alpha A log 2 where Q is flat; biased low for few samples.
    """
    return alpha * (log_mean_exp(q / alpha) + action_size * math.log(2.0))


def entropy_target(action_size: int, std: float) -> float:
    """Returns the entropy that a temperature keeps: -A, or that of a Gaussian of this deviation, A log(2 pi e std^2) / 2."""
    return 0.5 * action_size * math.log(2.0 * math.pi * math.e * std * std) if std else -float(action_size)


def entropy_value(q: Tensor, log_prob: Tensor, alpha: Tensor) -> Tensor:
    """Returns E_pi [Q - alpha log pi], (S, B, M) each -> (S, B). **Source** Zhang et al. 2018, Sec. 4.2, the J_V found to work well."""
    return (q - alpha * log_prob).mean(-1)


def normalizer_value(q: Tensor, log_prob: Tensor, alpha: Tensor) -> Tensor:
    """Returns alpha log E_pi[exp(Q / alpha) / pi] + alpha E_pi[log pi], (S, B, M) each -> (S, B): V - alpha H(pi) for many samples.

    **Source** Zhang et al. 2018, Sec. 4.2, the exact J_V.
    """
    return alpha[..., 0] * (log_mean_exp(q / alpha - log_prob) + log_prob.mean(-1))


def softmax_value(q: Tensor, sharpness: float) -> Tensor:
    """Returns sum_n w_n Q_n, w = softmax(sharpness Q): between the mean (0) and the largest (infinity). q (S, B, N) -> (S, B)."""
    return (torch.softmax(sharpness * q, -1) * q).sum(-1)


# V of Q at N actions of a policy (S, B, N) -> (S, B), as WPO and MPO bootstrap; the sharpness is the softmax's
BOOTSTRAPS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "mean": lambda q, _: q.mean(-1),
    "max": lambda q, _: q.amax(-1),
    "softmax": softmax_value,
}


def against(v: Tensor, x: Tensor) -> Tensor:
    """Returns -<v, x>, mean over states and particles, (S,), of v, held fixed, and x, (S, B, M, A) each: descending it in theta moves
    x = f(s, xi) along v.

    **Source** Zhang et al. 2018, Eq. 15 and the chain rule below it.
    """
    return -(v.detach() * x).sum(-1).mean((1, 2))


def w2_velocity(name: W2Name, scale: float, x: Tensor, x_prev: Tensor) -> Tensor:
    """Returns scale times the W2 velocity of that name, (S, B, M, A); nothing is computed for a scale of 0."""
    return scale * VELOCITIES[name](x, x_prev) if scale else torch.zeros_like(x)


def speed(v: Tensor) -> Tensor:
    """Returns the mean length of vectors, (S, ..., A) -> (S,)."""
    return v.square().sum(-1).sqrt().flatten(1).mean(-1)


def mean_square(v: Tensor) -> Tensor:
    """Returns the mean squared length, (S, ..., A) -> (S,): of x - x_prev under common noise, a coupling, an upper bound of W2^2."""
    return v.square().sum(-1).flatten(1).mean(-1)
