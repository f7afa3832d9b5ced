"""Soft Q-learning with a sampling network trained by amortised SVGD (Haarnoja et al. 2017, Algorithm 1): DP-WGF's twin."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wgf import svgd
from wgf.agents.training.descent import Adam, descend_, squared_error
from wgf.agents.training.memory import Replay
from wgf.agents.training.protocol import Batch, Info, Streams
from wgf.agents.training.schedule import Schedule
from wgf.agents.training.settings import PaperSettings
from wgf.agents.training.targets import against, soft_value, speed, td_target
from wgf.mlp import MLP
from wgf.policies.critics import QNetwork
from wgf.policies.sampler import SamplingNetwork
from wgf.policies.squash import SQUASH


@dataclass(frozen=True)
class Config(PaperSettings):
    """Soft Q-learning as Zhang et al. 2018 compare with it: their Table 5.

    Departs from the public code of Haarnoja et al. 2017 as DP-WGF does, its twin: a smoothed target, not a copy every 1,000 steps; all
    particles on both sides of the kernel, where the code splits them into halves that attract and halves that move; 32 particles
    and 32 uniform actions, where it has 16 of each; the bandwidth from the median over one set of particles.
    """

    members: int = 1
    """Q networks; targets and the policy use the least of them."""
    particles: int = 32
    """Action particles per state (App. E.3)."""
    value_particles: int = 32
    """Uniform actions per state in the soft value."""
    alpha: float = 1.0
    """Temperature."""
    squash: Literal["exact", "soft_q"] = "soft_q"
    """Particles on u with the exact density, or on tanh(u) with the barrier of the public code."""


PRESETS = {
    "paper": Config(),
    "modern": Config(hidden=(256, 256), activation="relu", batch=256, tau=0.005, members=2, squash="exact"),
}


class Nets(NamedTuple):
    """The functions of theta."""

    policy: SamplingNetwork
    q: QNetwork


@dataclass
class State:
    """What an update changes, every tensor with the seeds as its first axis; and the functions of theta, which it does not change."""

    nets: Nets
    policy: Adam
    q: Adam
    q_target: Tensor


class Noise(NamedTuple):
    """xi ~ N(0, I) (S, B, M, A) of the particles; uniform actions (S, B, K, A) in (-1, 1) of the soft value."""

    policy: Tensor
    value: Tensor


def memory(cfg: Config, schedule: Schedule) -> Replay:
    """Learns from a replay."""
    return Replay(schedule, cfg.batch, cfg.gamma, cfg.n_step, cfg.envs)


def networks(cfg: Config, obs: int, action: int) -> Nets:
    """Makes the networks of a configuration; the noise has as many numbers as an action."""
    policy = SamplingNetwork(MLP((obs + action, *cfg.hidden, action), cfg.activation), action)
    return Nets(policy, QNetwork(MLP((obs + action, *cfg.hidden, 1), cfg.activation)))


def init(
    cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device, nets: Nets | None = None
) -> State:
    """Makes a fresh state of len(generators) seeds."""
    nets = nets or networks(cfg, obs, action)
    policy, q = nets.policy.init(generators).to(device), nets.q.init(cfg.members, generators).to(device)
    return State(nets, Adam(policy, cfg.lr), Adam(q, cfg.lr), q.clone())


def act_noise(cfg: Config, action: int, n: int, draw: Streams) -> Tensor:
    """Draws xi ~ N(0, I), (S, n, 1, A)."""
    return draw.normal(n, 1, action)


def act(cfg: Config, state: State, obs: Tensor, noise: Tensor) -> Tensor:
    """Returns one draw of the sampling network, (S, n, A)."""
    return torch.tanh(state.nets.policy.particles(state.policy.theta, obs, noise))[..., 0, :]


def greedy(cfg: Config, state: State, obs: Tensor) -> Tensor:
    """Returns the one of M fixed draws that has the largest Q, (S, n, A)."""
    policy, q = state.nets
    return q.best(state.q.theta, obs, policy.mode(state.policy.theta, obs, cfg.particles))


def noise(cfg: Config, action: int, draw: Streams) -> Noise:
    """Draws the noise of one update."""
    return Noise(draw.normal(cfg.batch, cfg.particles, action), 2.0 * draw.uniform(cfg.batch, cfg.value_particles, action) - 1.0)


def update(cfg: Config, state: State, batch: Batch, noise: Noise) -> Info:
    """Takes one gradient step of each network on one minibatch."""
    policy, q = state.nets
    squash = SQUASH[cfg.squash]

    # Update Q function: y = r + discount V(s'), V the log-integral of exp(Q_target / alpha) over uniform actions
    next_value = soft_value(q.least(state.q_target, batch.next_obs, noise.value), cfg.alpha, batch.action.shape[-1])
    y = td_target(cfg.reward_scale * batch.reward, batch.discount, next_value)
    q_loss, q_values = descend_(state.q, lambda theta: squared_error(q(theta, batch.obs, batch.action), y))

    # Update policy: the SVGD velocity v of its particles x, by the loss -<v, x>
    def flow(theta: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        x = squash.coordinate(policy.particles(theta, batch.obs, noise.policy))
        value, score = squash.score(lambda a: q.least(state.q.theta, batch.obs, a), x, cfg.alpha)
        kl = svgd.unbiased(x.detach(), score)
        return against(kl, x), (x, value, kl)

    _, (x, value, kl) = descend_(state.policy, flow)

    # Update target
    state.q_target.lerp_(state.q.theta, cfg.tau)
    return lambda: {
        "losses/q": q_loss,
        "losses/q_values": q_values,
        "losses/policy": -value.mean((1, 2)),
        "flow/kl_speed": speed(kl),
        "policy/spread": squash.action(x).std(-2, correction=0).mean((1, 2)),
    }
