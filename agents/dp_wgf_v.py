"""DP-WGF-V: DP-WGF with a V network and an explicit policy (Zhang et al. 2018, Sec. 4.2 "Reducing Variance" and Algorithm 3, App. G).

Departs: the paper names its policy only as "a BNN discussed in Section 4.1, whose induced policy distribution is denoted pi~". Read
here as K weight particles theta_k with Gaussian heads, pi~(a | s) = (1/K) sum_k N_squashed(a; mean_k(s), std_k(s)): log pi~ is explicit,
and the M action particles are M/K reparameterised draws of each theta_k. Evaluation takes the component mean with the largest Q.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from wgf import svgd
from wgf.agents.training import mixing
from wgf.agents.training.descent import Adam, descend_, squared_error
from wgf.agents.training.memory import memory
from wgf.agents.training.mixing import MixtureSettings, Nets, act, act_noise, greedy
from wgf.agents.training.protocol import Batch, Info, Streams
from wgf.agents.training.targets import against, entropy_value, mean_square, normalizer_value, speed, td_target, w2_velocity
from wgf.mlp import MLP
from wgf.policies.bayesian import BayesianPolicy
from wgf.policies.critics import QNetwork, VNetwork
from wgf.policies.squash import SQUASH
from wgf.transport import W2Name

__all__ = ["PRESETS", "Config", "State", "act", "act_noise", "greedy", "init", "memory", "networks", "noise", "update"]


@dataclass(frozen=True)
class Config(MixtureSettings):
    """DP-WGF-V with the settings of Zhang et al. 2018, Table 5."""

    members: int = 1
    """Q networks; the value and the policy use the least of them."""
    particles: int = 32
    """Action particles per state (App. E.3)."""
    temperature: Literal["fixed", "automatic"] = "fixed"
    """alpha = 1, or tuned to an entropy of -A."""
    w2: W2Name = "eq9_sum"
    """W2 velocity: Eq. 9 as printed (eq9_sum), its mean, or a transport map to the previous policy's particles."""
    w2_scale: float = 0.4
    """Scale of the Wasserstein trust region (Table 5): epsilon of Eq. 9's forms, 1/h of the transport maps; 0 turns it off."""
    previous: Literal["last", "average"] = "last"
    """Previous policy (App. E.1): the last iterate, or its moving average with rate tau."""
    backup: Literal["entropy", "normalizer"] = "entropy"
    """J_V's target: E[Q - alpha log pi~], what the paper ran; or log E[exp(Q / alpha) / pi~] + E[log pi~], its exact form, entropy off."""
    squash: Literal["exact", "soft_q"] = "exact"
    """Particles on u with the exact density, or on tanh(u) with the barrier of soft Q-learning's public code."""

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
class State(mixing.State):
    """And the parameters of the previous policy, (S, K, P), and log alpha, (S,)."""

    previous: Tensor = field(kw_only=True)
    log_alpha: Adam = field(kw_only=True)


def networks(cfg: Config, obs: int, action: int) -> Nets:
    """Makes the networks of a configuration, for so many numbers of an observation and of an action."""
    policy = BayesianPolicy(MLP((obs, *cfg.hidden, 2 * action), cfg.activation), cfg.components, action)
    q = QNetwork(MLP((obs + action, *cfg.hidden, 1), cfg.activation))
    return Nets(policy, q, VNetwork(MLP((obs, *cfg.hidden, 1), cfg.activation)))


def init(
    cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device, nets: Nets | None = None
) -> State:
    """Makes a fresh state of len(generators) seeds; alpha = 1."""
    nets, seeds = nets or networks(cfg, obs, action), len(generators)
    policy, q = nets.policy.init(generators).to(device), nets.q.init(cfg.members, generators).to(device)
    v, log_alpha = nets.v.init((seeds,), generators).to(device), torch.zeros(seeds, device=device)
    adams = Adam(policy, cfg.lr), Adam(q, cfg.lr), Adam(v, cfg.lr)
    return State(nets, *adams, v.clone(), previous=policy.clone(), log_alpha=Adam(log_alpha, cfg.lr))


def noise(cfg: Config, action: int, draw: Streams) -> Tensor:
    """Draws xi ~ N(0, I) of one update's particles, (S, B, M, A)."""
    return draw.normal(cfg.batch, cfg.particles, action)


def update(cfg: Config, state: State, batch: Batch, noise: Tensor) -> Info:
    """Takes one gradient step of each network on one minibatch."""
    policy, q, v = state.nets
    squash, alpha = SQUASH[cfg.squash], state.log_alpha.theta.exp()[:, None, None]

    # Update Q function
    y = td_target(cfg.reward_scale * batch.reward, batch.discount, v(state.v_target, batch.next_obs))
    q_loss, q_values = descend_(state.q, lambda theta: squared_error(q(theta, batch.obs, batch.action), y))

    # Update prior policy parameters, after its last use
    x_prev = squash.coordinate(policy.law(state.previous, batch.obs).stratified(noise))
    state.previous.lerp_(state.policy.theta, 1.0 if cfg.previous == "last" else cfg.tau)

    # Update policy: the velocity v of KL(pi || exp(Q / alpha)) + W2^2(pi, previous pi) at its particles x, by the loss -<v, x>,
    # through the draws to every theta_k
    def flow(theta: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        law = policy.law(theta, batch.obs)
        u = law.stratified(noise)
        x, log_prob = squash.coordinate(u), law.detach().squashed_log_prob(u.detach())
        value, score = squash.score(lambda a: q.least(state.q.theta, batch.obs, a), x, alpha)
        kl = svgd.unbiased(x.detach(), score, groups=cfg.components)
        w2 = w2_velocity(cfg.w2, cfg.w2_scale, x.detach(), x_prev)
        return against(kl + w2, x), (x, log_prob, value, kl, w2)

    _, (x, log_prob, value, kl, w2) = descend_(state.policy, flow)

    # Update value function: the same particles, those of the policy before its step, stand for E_{a ~ pi~}
    target = (entropy_value if cfg.backup == "entropy" else normalizer_value)(value, log_prob, alpha)
    v_loss, _ = descend_(state.v, lambda theta: squared_error(v(theta, batch.obs), target))

    # Update temperature: descend -log alpha (E[log pi~] + target entropy), the target -A
    entropy, entropy_target = -log_prob.mean((1, 2)), -batch.action.shape[-1]
    if cfg.temperature == "automatic":
        descend_(state.log_alpha, lambda log_alpha: log_alpha * (entropy - entropy_target))

    # Update target
    state.v_target.lerp_(state.v.theta, cfg.tau)
    return lambda: {
        "losses/q": q_loss,
        "losses/q_values": q_values,
        "losses/v": v_loss,
        "losses/policy": -value.mean((1, 2)),
        "flow/kl_speed": speed(kl),
        "flow/w2_speed": speed(w2),
        "flow/w2": mean_square(x - x_prev),
        "policy/entropy": entropy,
        "policy/alpha": alpha[:, 0, 0],
    }
