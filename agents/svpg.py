"""SVPG: Stein variational policy gradient (Liu et al. 2017, arXiv 1704.02399)."""

from dataclasses import dataclass

from wgf import svgd
from wgf.agents.onpolicy import State, act, act_noise, estimate, fit_, greedy, noise, policy_gradient
from wgf.agents.particles import ParticleSettings, init, kernel, memory, score, seen
from wgf.agents.targets import speed
from wgf.agents.training.protocol import Info
from wgf.agents.training.rollout import Segment

__all__ = ["PRESETS", "Config", "State", "act", "act_noise", "greedy", "init", "memory", "noise", "update"]


@dataclass(frozen=True)
class Config(ParticleSettings):
    """SVPG."""


PRESETS = {"paper": Config(), "modern": Config(lam=0.97, alpha=1.0)}


def update(cfg: Config, state: State, batch: Segment, noise: None) -> Info:
    """One step of the particles on one segment, then their critics'."""
    # Score of exp(J / alpha) p0
    advantage, target = estimate(state.v, batch, cfg.reward_scale, cfg.gamma * cfg.lam)
    gradient, x = policy_gradient(state.collector, batch, advantage), state.policy.theta.clone()
    at = score(cfg, x, gradient, state.policy_adam)

    # Update particles: along (1/M) sum_j [ k(x_j, x_i) score_j + grad_{x_j} k(x_j, x_i) ]
    v = svgd.velocity(x, at, kernel(cfg, x))
    state.policy_adam.step(-v)

    # Update critics
    loss, after = fit_(state.v, state.v_adam, batch, target, cfg.critic_steps), state.policy.theta.clone()
    return lambda: {"losses/v": loss, "flow/kl_speed": speed(v), **seen(x, after, gradient)}
