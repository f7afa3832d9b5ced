"""IP-WGF: indirect policy learning as a Wasserstein gradient flow (Zhang et al. 2018, Sec. 4.1 and Algorithm 2, App. G).

Departs: the first inner step of an iterate measures from the iterate before, the others from the particles at that first step;
``wgf.flow.jko`` measures all from the latter. With one inner step, the default, its rule would have x = x_prev in every update: a
transport map is zero there, so that nothing of W2 would be left. Pinned by
tests/agents/test_onpolicy.py::test_ip_wgf_adds_the_w2_velocity_to_the_last_iterate.

Departs: the scale epsilon is 4e-4, where App. D has 0.4 "if not explicitly stated". Epsilon is a force per distance, to be seen against
the kernel term: 0.4 suits the actions of DP-WGF, and among parameters it drowns that term (the help of ``w2_scale`` says how to see it).

Departs: the prior is flat, where Table 4 has the variance 0.01. Taken literally that is the score -100 theta; the public SVPG code, whose
scheme this is, has none. ``prior=0.01`` is the table's; tests/agents/test_onpolicy.py holds both scores.

Departs: there is no h = 0.1 (Sec. 6.2): Adam's step size, 5e-3 in Table 4, is that of the flow, and epsilon stands for 1 / (2 h).

Noise on the weights of the particles is off, as in the paper's experiments, and is either of one deviation or of learned ones
(Eq. 22): a particle is then (mu, sigma), and the kernel, the prior and W2 see both. ``onpolicy.explore`` draws it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wgf import svgd
from wgf.agents.training import onpolicy, particles
from wgf.agents.training.onpolicy import Nets, act, act_noise, ascent, estimate, fit_, greedy, learned, networks, noise
from wgf.agents.training.particles import ParticleSettings, kernel, memory, of_all, rows, score, seen
from wgf.agents.training.protocol import Info
from wgf.agents.training.rollout import Segment
from wgf.agents.training.targets import speed, w2_velocity
from wgf.shards import ALONE, Shards, own
from wgf.transport import W2Name

__all__ = ["PRESETS", "Config", "State", "act", "act_noise", "greedy", "init", "memory", "networks", "noise", "share", "update"]


@dataclass(frozen=True)
class Config(ParticleSettings):
    """IP-WGF."""

    w2: W2Name = "eq9_sum"
    """W2 velocity: Eq. 9 as printed (eq9_sum), its mean, or a transport map to the particles of the last JKO iterate."""
    w2_scale: float = 4e-4
    """Scale of the W2 velocity: epsilon of Eq. 9's forms, 1/h of the transport maps; 0 turns it off and leaves SVPG. The paper gives none
    for parameters; its 0.4 for actions drowns the kernel term here: flow/w2_speed against flow/kl_speed of
    ``wgf train ip-wgf --env wgf/CartPole-v0 --w2-scale 0.4``."""
    inner_steps: int = 1
    """Updates a JKO iterate."""


PRESETS = {"paper": Config(), "modern": Config(lam=0.97, alpha=1.0)}


@dataclass
class State(onpolicy.State):
    """And the particles of the last JKO iterate, (S, M, d). ``shards``: which of the particles each rank has; a rank's state has these
    alone, with their critics."""

    previous: Tensor = field(kw_only=True)
    shards: Shards = field(default=ALONE, kw_only=True)


def init(
    cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device, nets: Nets | None = None
) -> State:
    """Makes a fresh state of len(generators) seeds; the last iterate is the particles themselves."""
    fresh = particles.init(cfg, obs, action, generators, device, nets)
    return State(**vars(fresh), previous=fresh.policy.theta.clone())


def share(state: State, shards: Shards) -> State:
    """Returns the state of a rank: its rows of the state of all, in tensors of its own."""
    noisy, xi = (None if t is None else shards.mine(t).clone() for t in (state.noisy, state.xi))
    previous = shards.mine(state.previous).clone()
    return State(state.nets, rows(state.policy, shards), rows(state.v, shards), noisy, xi, previous=previous, shards=shards)


def update(cfg: Config, state: State, batch: Segment, noise: None) -> Info:
    """Takes one step of the particles on one segment, then their critics'."""
    v = state.nets.v

    # Score of exp(J / alpha) p0
    advantage, target = estimate(lambda obs: v(state.v.theta, obs), batch, cfg.reward_scale, cfg.gamma * cfg.lam)
    gradient, x = ascent(state, batch, advantage), state.policy.theta.clone()
    at = score(cfg, x, gradient, state.policy)

    # Update particles: along Eq. 7 and the W2 velocity to the last iterate, of whole clouds
    def flow(x: Tensor, at: Tensor, previous: Tensor) -> Tensor:
        return torch.cat([own(svgd.velocity(x, at, kernel(cfg, x))), own(w2_velocity(cfg.w2, cfg.w2_scale, x, previous))], -1)

    kl, w2 = state.shards.velocity(flow, x, at, state.previous).chunk(2, -1)
    due = state.policy.steps % cfg.inner_steps == 0
    state.previous.copy_(torch.where(due, x, state.previous))
    state.policy.step(-(kl + w2))

    # Update critics
    loss, after, sizes = fit_(v, state.v, batch, target, cfg.critic_steps), state.policy.theta.clone(), learned(state)

    def told() -> dict[str, Tensor]:
        mine = {"losses/v": loss, "flow/kl_speed": speed(kl), "flow/w2_speed": speed(w2), "policy/gradient": speed(gradient)}
        means, before, now = of_all(state.shards, {**mine, **sizes}, x, after)
        return means | seen(before, now)

    return told
