"""SVPG: Stein variational policy gradient (Liu et al. 2017, arXiv 1704.02399)."""

from dataclasses import dataclass

from wgf import svgd
from wgf.agents.training.onpolicy import State, act, act_noise, ascent, estimate, fit_, greedy, learned, networks, noise
from wgf.agents.training.particles import ParticleSettings, init, kernel, memory, score, seen
from wgf.agents.training.protocol import Info
from wgf.agents.training.rollout import Segment
from wgf.agents.training.targets import speed

__all__ = ["PRESETS", "Config", "State", "act", "act_noise", "greedy", "init", "memory", "networks", "noise", "update"]


@dataclass(frozen=True)
class Config(ParticleSettings):
    """SVPG."""


PRESETS = {"paper": Config(), "modern": Config(lam=0.97, alpha=1.0)}


def update(cfg: Config, state: State, batch: Segment, noise: None) -> Info:
    """Takes one step of the particles on one segment, then their critics'."""
    v = state.nets.v

    # Score of exp(J / alpha) p0
    advantage, target = estimate(lambda obs: v(state.v.theta, obs), batch, cfg.reward_scale, cfg.gamma * cfg.lam)
    gradient, x = ascent(state, batch, advantage), state.policy.theta.clone()
    at = score(cfg, x, gradient, state.policy)

    # Update particles: along (1/M) sum_j [ k(x_j, x_i) score_j + grad_{x_j} k(x_j, x_i) ]
    velocity = svgd.velocity(x, at, kernel(cfg, x))
    state.policy.step(-velocity)

    # Update critics
    loss, after, sizes = fit_(v, state.v, batch, target, cfg.critic_steps), state.policy.theta.clone(), learned(state)
    return lambda: {"losses/v": loss, "flow/kl_speed": speed(velocity), "policy/gradient": speed(gradient), **seen(x, after), **sizes}
