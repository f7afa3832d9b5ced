"""DP-WGF: direct policy learning as a Wasserstein gradient flow (Zhang et al. 2018, Sec. 4.2 and Algorithm 1, App. G)."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wgf import svgd
from wgf.agents.targets import expected_value, mean_square, pull, soft_value, speed, td_target, w2_velocity
from wgf.agents.training.descent import Adam, regress_, regression_loss
from wgf.agents.training.memory import Replay
from wgf.agents.training.protocol import Batch, Info, Streams
from wgf.agents.training.schedule import Schedule
from wgf.mlp import polyak_
from wgf.policies.critics import QNetwork, best
from wgf.policies.sampler import SamplingNetwork, fixed_noise
from wgf.policies.squash import SQUASH


@dataclass(frozen=True)
class Config:
    """DP-WGF with the settings of Zhang et al. 2018, Table 5."""

    hidden: tuple[int, ...] = (128, 128)
    """Hidden units of every network (Table 5)."""
    activation: str = "tanh"
    """Activation: tanh (Sec. 6.3) or relu."""
    batch: int = 64
    """Transitions an update and seed (Table 5)."""
    lr: float = 3e-4
    """Adam's step size (Table 5)."""
    gamma: float = 0.99
    """Discount (Table 5)."""
    tau: float = 0.01
    """Target smoothing (Table 5)."""
    members: int = 1
    """Q networks; targets and the policy use the least of them."""
    particles: int = 32
    """Action particles a state (App. E.3)."""
    alpha: float = 1.0
    """Temperature."""
    w2: Literal["common_noise", "eq9_sum", "eq9_mean", "entropic", "debiased", "exact"] = "eq9_sum"
    """W2 velocity: Eq. 9 as printed (eq9_sum), its mean, or a transport map to the previous policy's particles."""
    w2_scale: float = 0.4
    """Scale of the Wasserstein trust region (Table 5): epsilon of Eq. 9's forms, 1/h of the transport maps; 0 turns it off."""
    previous: Literal["last", "average"] = "last"
    """Previous policy (App. E.1): the last iterate, or its moving average with rate tau."""
    backup: Literal["soft", "expected"] = "soft"
    """Value of the next state: log-integral of exp(Q) over uniform actions (entropy included), or E_pi Q (Prop. 8, entropy taken off)."""
    squash: Literal["exact", "soft_q"] = "soft_q"
    """Particles on u with the exact density, or on tanh(u) with the barrier of soft Q-learning's public code."""
    reward_scale: float = 1.0
    """Factor of the reward (Table 6 for its environments)."""


PRESETS = {
    "paper": Config(),
    "modern": Config(
        hidden=(256, 256), activation="relu", batch=256, tau=0.005, members=2, w2="common_noise", previous="average", squash="exact"
    ),
}


@dataclass
class State:
    """Networks and optimisers, every tensor with the seeds as its first axis."""

    policy: SamplingNetwork
    previous: SamplingNetwork
    q: QNetwork
    q_target: QNetwork
    policy_adam: Adam
    q_adam: Adam


class Noise(NamedTuple):
    """xi ~ N(0, I) (S, B, M, A) of the particles, and the next states' (S, B, M, A): uniform on (-1, 1) or N(0, I) by the backup."""

    policy: Tensor
    value: Tensor


def memory(cfg: Config, schedule: Schedule) -> Replay:
    """Learns from a replay."""
    return Replay(schedule, cfg.batch, cfg.gamma)


def init(cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device) -> State:
    """Fresh networks of len(generators) seeds; the noise has as many numbers as an action."""
    policy = SamplingNetwork(obs, action, action, cfg.hidden, cfg.activation, generators).to(device)
    q = QNetwork(obs, action, cfg.members, cfg.hidden, cfg.activation, generators).to(device)
    return State(policy, deepcopy(policy), q, deepcopy(q), Adam(policy.theta, cfg.lr), Adam(q.theta, cfg.lr))


def act_noise(cfg: Config, action: int, n: int, draw: Streams) -> Tensor:
    """(S, n, 1, A)."""
    return draw.normal(n, 1, action)


def act(cfg: Config, state: State, obs: Tensor, noise: Tensor) -> Tensor:
    """One draw of the sampling network, (S, n, A)."""
    return state.policy.act(obs, noise)[..., 0, :]


def greedy(cfg: Config, state: State, obs: Tensor) -> Tensor:
    """Of M fixed draws the one with the largest Q, (S, n, A)."""
    xi = fixed_noise(cfg.particles, state.policy.noise_size, obs).expand(*obs.shape[:-1], -1, -1)
    return best(state.q, obs, state.policy.act(obs, xi))


def noise(cfg: Config, action: int, draw: Streams) -> Noise:
    """The noise of one update."""
    shape = (cfg.batch, cfg.particles, action)
    return Noise(draw.normal(*shape), 2.0 * draw.uniform(*shape) - 1.0 if cfg.backup == "soft" else draw.normal(*shape))


def next_value(cfg: Config, state: State, obs: Tensor, value_noise: Tensor) -> Tensor:
    """V(s') (S, B) by the chosen backup."""
    if cfg.backup == "soft":
        return soft_value(state.q_target.least(obs, value_noise), cfg.alpha, value_noise.shape[-1])
    return expected_value(state.q_target.least(obs, state.policy.act(obs, value_noise)))


def update(cfg: Config, state: State, batch: Batch, noise: Noise) -> Info:
    """One gradient step of each network on one minibatch."""
    # Update Q function
    y = td_target(cfg.reward_scale * batch.reward, batch.discount, next_value(cfg, state, batch.next_obs, noise.value))
    q, pull_back = state.q.vjp(batch.obs, batch.action)
    q_error = regress_(state.q_adam, q, pull_back, y)

    # Update policy: particle velocity of KL(pi || exp(Q / alpha)) + W2^2(pi, previous pi), pulled back through the sampling network
    u, pull_back = state.policy.vjp(batch.obs, noise.policy)
    action, squash = torch.tanh(u), SQUASH[cfg.squash]
    value, slope = state.q.action_gradient(batch.obs, action)
    x, score = squash.coordinate(u), squash.score(action, slope, cfg.alpha)
    x_prev = squash.coordinate(state.previous(batch.obs, noise.policy))
    kl = svgd.unbiased(x, score)
    w2 = w2_velocity(cfg.w2, cfg.w2_scale, x, x_prev)
    polyak_(state.previous, state.policy, 1.0 if cfg.previous == "last" else cfg.tau)  # Update prior policy parameters
    state.policy_adam.step(pull_back(squash.pull_back(action, pull(kl + w2))))

    # Update target
    polyak_(state.q_target, state.q, cfg.tau)
    return lambda: {
        "losses/q": regression_loss(q_error),
        "losses/q_values": q.mean((1, 2)),
        "losses/policy": -value.mean((1, 2)),
        "flow/kl_speed": speed(kl),
        "flow/w2_speed": speed(w2),
        "flow/w2": mean_square(x - x_prev),
        "policy/spread": action.std(-2, correction=0).mean((1, 2)),
    }
