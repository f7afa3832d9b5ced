"""DP-WGF-V: DP-WGF with a V network and an explicit policy (Zhang et al. 2018, Sec. 4.2 "Reducing Variance" and Algorithm 3, App. G).

Departs: the paper names its policy only as "a BNN discussed in Section 4.1, whose induced policy distribution is denoted pi~". Read
here as K weight particles theta_k with Gaussian heads, pi~(a | s) = (1/K) sum_k N_squashed(a; mean_k(s), std_k(s)): log pi~ is explicit,
and the M action particles are M/K reparameterised draws of each theta_k. Evaluation takes the component mean with the largest Q.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wgf import svgd
from wgf.agents.targets import entropy_value, mean_square, normalizer_value, pull, speed, td_target, temperature_gradient, w2_velocity
from wgf.agents.training.descent import Adam, regress_, regression_loss
from wgf.agents.training.memory import Replay
from wgf.agents.training.protocol import Batch, Info, Streams
from wgf.agents.training.schedule import Schedule
from wgf.mlp import polyak_
from wgf.policies.bayesian import BayesianPolicy
from wgf.policies.critics import QNetwork, VNetwork, best
from wgf.policies.squash import SQUASH


@dataclass(frozen=True)
class Config:
    """DP-WGF-V with the settings of Zhang et al. 2018, Table 5."""

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
    """Q networks; the value and the policy use the least of them."""
    particles: int = 32
    """Action particles a state (App. E.3)."""
    components: int = 4
    """Weight particles theta_k, each a Gaussian policy; divides particles. SAC of the paper mixes four Gaussians."""
    temperature: Literal["fixed", "automatic"] = "fixed"
    """alpha = 1, or tuned to an entropy of -A."""
    w2: Literal["common_noise", "eq9_sum", "eq9_mean", "entropic", "debiased", "exact"] = "eq9_sum"
    """W2 velocity: Eq. 9 as printed (eq9_sum), its mean, or a transport map to the previous policy's particles."""
    w2_scale: float = 0.4
    """Scale of the Wasserstein trust region (Table 5): epsilon of Eq. 9's forms, 1/h of the transport maps; 0 turns it off."""
    previous: Literal["last", "average"] = "last"
    """Previous policy (App. E.1): the last iterate, or its moving average with rate tau."""
    backup: Literal["entropy", "normalizer"] = "entropy"
    """J_V's target: E[Q - alpha log pi~], what the paper ran; or log E[exp(Q / alpha) / pi~] + E[log pi~], its exact form, entropy off."""
    squash: Literal["exact", "soft_q"] = "exact"
    """Particles on u with the exact density, or on tanh(u) with the barrier of soft Q-learning's public code."""
    reward_scale: float = 1.0
    """Factor of the reward (Table 6 for its environments)."""

    def __post_init__(self) -> None:
        if self.particles % self.components:
            raise ValueError(f"particles is {self.particles}; it must be a multiple of components, {self.components}")


PRESETS = {
    "paper": Config(),
    "modern": Config(
        hidden=(256, 256),
        activation="relu",
        batch=256,
        tau=0.005,
        members=2,
        temperature="automatic",
        w2="common_noise",
        previous="average",
    ),
}


@dataclass
class State:
    """Networks and optimisers, every tensor with the seeds as its first axis."""

    policy: BayesianPolicy
    previous: BayesianPolicy
    q: QNetwork
    v: VNetwork
    v_target: VNetwork
    log_alpha: Tensor
    policy_adam: Adam
    q_adam: Adam
    v_adam: Adam
    alpha_adam: Adam


class Noise(NamedTuple):
    """The component's choice pick ~ U(0, 1) (S, n) and xi ~ N(0, I) (S, n, A) of one action."""

    pick: Tensor
    xi: Tensor


def memory(cfg: Config, schedule: Schedule) -> Replay:
    """Learns from a replay."""
    return Replay(schedule, cfg.batch, cfg.gamma)


def init(cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device) -> State:
    """Fresh networks of len(generators) seeds; alpha = 1."""
    policy = BayesianPolicy(obs, action, cfg.components, cfg.hidden, cfg.activation, generators).to(device)
    q = QNetwork(obs, action, cfg.members, cfg.hidden, cfg.activation, generators).to(device)
    v = VNetwork(obs, cfg.hidden, cfg.activation, generators).to(device)
    log_alpha = torch.zeros(len(generators), device=device)
    policy_adam, q_adam, v_adam = (Adam(network.theta, cfg.lr) for network in (policy, q, v))
    alpha_adam = Adam(log_alpha, cfg.lr)
    return State(policy, deepcopy(policy), q, v, deepcopy(v), log_alpha, policy_adam, q_adam, v_adam, alpha_adam)


def act_noise(cfg: Config, action: int, n: int, draw: Streams) -> Noise:
    """pick (S, n), xi (S, n, A)."""
    return Noise(draw.uniform(n), draw.normal(n, action))


def act(cfg: Config, state: State, obs: Tensor, noise: Noise) -> Tensor:
    """A draw from pi~: one of its components, then its Gaussian, (S, n, A)."""
    return state.policy.act(obs, *noise)


def greedy(cfg: Config, state: State, obs: Tensor) -> Tensor:
    """The component mean with the largest Q, (S, n, A)."""
    return best(state.q, obs, state.policy.modes(obs))


def noise(cfg: Config, action: int, draw: Streams) -> Tensor:
    """xi ~ N(0, I) of one update's particles, (S, B, M, A)."""
    return draw.normal(cfg.batch, cfg.particles, action)


def update(cfg: Config, state: State, batch: Batch, noise: Tensor) -> Info:
    """One gradient step of each network on one minibatch."""
    alpha = state.log_alpha.exp()[:, None, None, None]

    # Update Q function
    y = td_target(cfg.reward_scale * batch.reward, batch.discount, state.v_target(batch.next_obs))
    q, pull_back = state.q.vjp(batch.obs, batch.action)
    q_error = regress_(state.q_adam, q, pull_back, y)

    # Update value function: the particles of the policy stand for E_{a ~ pi~}
    u, log_prob, policy_back = state.policy.sample(batch.obs, noise)
    action, squash = torch.tanh(u), SQUASH[cfg.squash]
    value, slope = state.q.action_gradient(batch.obs, action)
    target = (entropy_value if cfg.backup == "entropy" else normalizer_value)(value, log_prob, alpha[..., 0])
    v_error = regress_(state.v_adam, *state.v.vjp(batch.obs), target)

    # Update policy: particle velocity of KL(pi || exp(Q / alpha)) + W2^2(pi, previous pi), pulled back through the draws to every theta_k
    x, score = squash.coordinate(u), squash.score(action, slope, alpha)
    x_prev = squash.coordinate(state.previous.particles(batch.obs, noise))
    kl = svgd.unbiased(x, score, groups=cfg.components)
    w2 = w2_velocity(cfg.w2, cfg.w2_scale, x, x_prev)
    polyak_(state.previous, state.policy, 1.0 if cfg.previous == "last" else cfg.tau)  # Update prior policy parameters
    state.policy_adam.step(policy_back(squash.pull_back(action, pull(kl + w2))))
    if cfg.temperature == "automatic":
        state.alpha_adam.step(temperature_gradient(log_prob, -batch.action.shape[-1]))

    # Update target
    polyak_(state.v_target, state.v, cfg.tau)
    return lambda: {
        "losses/q": regression_loss(q_error),
        "losses/q_values": q.mean((1, 2)),
        "losses/v": regression_loss(v_error),
        "losses/policy": -value.mean((1, 2)),
        "flow/kl_speed": speed(kl),
        "flow/w2_speed": speed(w2),
        "flow/w2": mean_square(x - x_prev),
        "policy/entropy": -log_prob.mean((1, 2)),
        "policy/alpha": alpha[:, 0, 0, 0],
    }
