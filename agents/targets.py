"""Targets and losses that agents share. Losses are means within a seed, (S,); their sum over seeds is what is differentiated."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from wgf.transport import VELOCITIES

# Zhang et al. 2018, Table 6 (from Haarnoja's soft actor-critic of 2017); the reward scale is the inverse temperature. Others: 1.
REWARD_SCALE = {"Swimmer": 100.0, "Hopper": 1.0, "Walker2d": 3.0, "Humanoid": 3.0}


def td_target(reward: Tensor, discount: Tensor, next_value: Tensor) -> Tensor:
    """y = r + discount V(s'), (S, B); discount = gamma (1 - terminated), so that truncation bootstraps."""
    return torch.addcmul(reward, discount, next_value)


def gae(reward: Tensor, discount: Tensor, value: Tensor, next_value: Tensor, ended: Tensor, decay: float) -> Tensor:
    """Generalised advantage estimates, (..., T, E): A_t = d_t + decay A_{t+1}, no further than the episode's end,
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


def soft_value(q: Tensor, alpha: float, action_size: int) -> Tensor:
    """V = alpha log int exp(Q / alpha) da over (-1, 1)^A, from K uniform actions: alpha [logsumexp_k(Q_k / alpha) - log K + A log 2].

    q (S, B, K) -> (S, B). **Source** Haarnoja et al. 2017, Eq. 10; Zhang et al. 2018, Sec. 4.2 with a uniform q. Limits: equals Q
    plus alpha A log 2 where Q is flat; biased low for few samples.
    """
    return alpha * (torch.logsumexp(q / alpha, -1) - math.log(q.shape[-1]) + action_size * math.log(2.0))


def expected_value(q: Tensor) -> Tensor:
    """V - alpha H = E_pi Q at pi = exp((Q - V) / alpha): Prop. 8's backup, with the policy's own particles. q (S, B, M) -> (S, B)."""
    return q.mean(-1)


def entropy_value(q: Tensor, log_prob: Tensor, alpha: Tensor) -> Tensor:
    """E_pi [Q - alpha log pi], (S, B, M) each -> (S, B). **Source** Zhang et al. 2018, Sec. 4.2, the J_V found to work well."""
    return (q - alpha * log_prob).mean(-1)


def normalizer_value(q: Tensor, log_prob: Tensor, alpha: Tensor) -> Tensor:
    """alpha log E_pi[exp(Q / alpha) / pi] + alpha E_pi[log pi], (S, B, M) each -> (S, B): for many samples of any pi, V - alpha H(pi).

    **Source** Zhang et al. 2018, Sec. 4.2, the exact J_V.
    """
    log_mean = torch.logsumexp(q / alpha - log_prob, -1) - math.log(q.shape[-1])
    return (alpha * (log_mean[..., None] + log_prob.mean(-1, keepdim=True)))[..., 0]


def softmax_value(q: Tensor, sharpness: float) -> Tensor:
    """sum_n w_n Q_n, w = softmax(sharpness Q): between the mean (0) and the largest (infinity). q (S, B, N) -> (S, B)."""
    return (torch.softmax(sharpness * q, -1) * q).sum(-1)


# V of Q at N actions of a policy (S, B, N) -> (S, B), as WPO and MPO bootstrap; the sharpness is the softmax's
BOOTSTRAPS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "mean": lambda q, _: q.mean(-1),
    "max": lambda q, _: q.amax(-1),
    "softmax": softmax_value,
}


def temperature_gradient(log_prob: Tensor, target_entropy: float) -> Tensor:
    """d/dlog alpha of -log alpha (log pi + target entropy), mean: descending it raises alpha where the entropy is below its target.

    (S, B...) -> (S,).
    """
    return -(log_prob.flatten(1).mean(-1) + target_entropy)


def pull(v: Tensor) -> Tensor:
    """g = -v / (B M), the gradient of -<v, x>, mean over states and particles: descending it moves x = f(s, xi) along v. (S, B, M, A).

    **Source** Zhang et al. 2018, Eq. 15 and the chain rule below it.
    """
    return v / -(v.shape[1] * v.shape[2])


def w2_velocity(name: str, scale: float, x: Tensor, x_prev: Tensor) -> Tensor:
    """scale times the W2 velocity of that name, (S, B, M, A); nothing is computed for a scale of 0."""
    return scale * VELOCITIES[name](x, x_prev) if scale else torch.zeros_like(x)


def speed(v: Tensor) -> Tensor:
    """Mean length of vectors, (S, ..., A) -> (S,)."""
    return v.square().sum(-1).sqrt().flatten(1).mean(-1)


def mean_square(v: Tensor) -> Tensor:
    """Mean squared length, (S, ..., A) -> (S,): of x - x_prev under common noise, a coupling, an upper bound of W2^2."""
    return v.square().sum(-1).flatten(1).mean(-1)
