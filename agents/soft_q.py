"""Soft Q-learning with a sampling network trained by amortised SVGD (Haarnoja et al. 2017, Algorithm 1): DP-WGF's twin."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from wgf import svgd
from wgf.agents.training.descent import train_
from wgf.agents.training.memory import memory
from wgf.agents.training.protocol import Batch, Info, Streams
from wgf.agents.training.sampling import SamplingSettings, State, act, act_noise, evaluate_, greedy, init, networks
from wgf.agents.training.settings import SMALL, STRONG, TODAY
from wgf.agents.training.targets import against, soft_value, speed
from wgf.policies.sampler import SamplingNetwork
from wgf.policies.squash import SQUASH

__all__ = ["PRESETS", "Config", "State", "act", "act_noise", "greedy", "init", "memory", "networks", "noise", "update"]


@dataclass(frozen=True)
class Config(SamplingSettings):
    """Soft Q-learning as Zhang et al. 2018 compare with it: their Table 5.

    Departs from the public code of Haarnoja et al. 2017 as DP-WGF does, its twin: a smoothed target, not a copy every 1,000 steps; all
    particles on both sides of the kernel, where the code splits them into halves that attract and halves that move; 32 particles
    and 32 uniform actions, where it has 16 of each; the bandwidth from the median over one set of particles.
    """

    value_particles: int = 32
    """Uniform actions per state in the soft value."""


MODERN = Config(squash="exact", **TODAY)
# strong: the temperature in units of a reward whose returns lie within the bounds, as SAC's starts there
SHARP = {"particles": 8, "alpha": 0.01}
PRESETS = {
    "paper": Config(),
    "modern": MODERN,
    "strong": replace(MODERN, **STRONG | SHARP),
    "strong-small": replace(MODERN, **SMALL | SHARP),
}


class Noise(NamedTuple):
    """xi ~ N(0, I) (S, B, M, A) of the particles; uniform actions (S, d B, K, A) in (-1, 1) of the soft value at d minibatches."""

    policy: Tensor
    value: Tensor


def noise(cfg: Config, action: int, draw: Streams) -> Noise:
    """Draws the noise of one update."""
    after = draw.uniform(cfg.policy_delay * cfg.batch, cfg.value_particles, action)
    return Noise(draw.normal(cfg.batch, cfg.particles, action), 2.0 * after - 1.0)


def update(cfg: Config, state: State, batch: Batch, noise: Noise) -> Info:
    """Takes one gradient step of Q on each of ``policy_delay`` minibatches, then one of the policy on the last."""
    policy, q = state.nets
    squash = SQUASH[cfg.squash]

    # Update Q function: y = r + discount V(s'), V the log-integral of exp(Q_target / alpha) over uniform actions; update target
    for last, uniform in zip(batch.parts(cfg.batch), torch.split(noise.value, cfg.batch, 1), strict=True):
        next_value = soft_value(q.least(state.q_target, last.next_obs, uniform), cfg.alpha, last.action.shape[-1])
        q_loss, q_values = evaluate_(cfg, state, last, next_value)

    # Update policy: the SVGD velocity v of its particles x, by the loss -<v, x>
    def flow(policy: SamplingNetwork, theta: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        x = squash.coordinate(policy.particles(theta, last.obs, noise.policy))
        value, score = squash.score(lambda a: q.least(state.q.theta, last.obs, a), x, cfg.alpha)
        kl = svgd.unbiased(x.detach(), score)
        return against(kl, x), (x, value, kl)

    _, (x, value, kl) = train_(state.policy, policy, flow)

    return lambda: {
        "losses/q": q_loss,
        "losses/q_values": q_values,
        "losses/policy": -value.mean((1, 2)),
        "flow/kl_speed": speed(kl),
        "policy/spread": squash.action(x).std(-2, correction=0).mean((1, 2)),
    }
