"""DP-WGF-V: DP-WGF with a V network and an explicit policy (Zhang et al. 2018, Sec. 4.2 "Reducing Variance" and Algorithm 3, App. G).

Departs: the paper names its policy only as "a BNN discussed in Section 4.1, whose induced policy distribution is denoted pi~". Read
here as K weight particles theta_k with Gaussian heads, pi~(a | s) = (1/K) sum_k N_squashed(a; mean_k(s), std_k(s)): log pi~ is explicit,
and the M action particles are M/K reparameterised draws of each theta_k. Evaluation takes the component mean with the largest Q.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from wgf import svgd
from wgf.agents.training import mixing
from wgf.agents.training.descent import Adam, descend_, train_
from wgf.agents.training.memory import memory
from wgf.agents.training.mixing import MixtureSettings, Nets, act, greedy
from wgf.agents.training.networks import body, critic
from wgf.agents.training.protocol import Batch, Info, Streams
from wgf.agents.training.settings import ACTOR, SMALL, STRONG, TODAY, ActorSettings
from wgf.agents.training.targets import against, entropy_target, entropy_value, mean_square, normalizer_value, speed, td_target, w2_velocity
from wgf.agents.training.trust import GENTLE, TrustSettings, follow_
from wgf.policies.bayesian import BayesianPolicy
from wgf.policies.critics import QNetwork, VNetwork, squared_error
from wgf.policies.gaussian import MixturePolicy, noise_size
from wgf.policies.squash import SQUASH
from wgf.residual import learning

__all__ = ["PRESETS", "Config", "State", "act", "act_noise", "greedy", "init", "memory", "networks", "noise", "update"]


@dataclass(frozen=True)
class Config(ActorSettings, MixtureSettings, TrustSettings):
    """DP-WGF-V with the settings of Zhang et al. 2018, Table 5."""

    members: int = 1
    """Q networks; the value and the policy use the least of them."""
    particles: int = 32
    """Action particles per state (App. E.3)."""
    temperature: Literal["fixed", "automatic"] = "fixed"
    """alpha stays at alpha0, or is tuned to an entropy, of -A unless entropy_std says another."""
    backup: Literal["entropy", "normalizer"] = "entropy"
    """J_V's target: E[Q - alpha log pi~], what the paper ran; or log E[exp(Q / alpha) / pi~] + E[log pi~], its exact form, entropy off."""
    squash: Literal["exact", "soft_q"] = "exact"
    """Particles on u with the exact density, or on tanh(u) with the barrier of soft Q-learning's public code."""

    def __post_init__(self) -> None:
        if self.particles % self.components:
            raise ValueError(f"particles is {self.particles}; it must be a multiple of components, {self.components}")


MODERN = Config(temperature="automatic", **TODAY, **GENTLE)
PRESETS = {
    "paper": Config(),
    "modern": MODERN,
    "strong": replace(MODERN, particles=8, **STRONG | ACTOR),
    "strong-small": replace(MODERN, particles=8, **SMALL | ACTOR),
}


@dataclass
class State(mixing.State):
    """And the parameters of the previous policy, (S, K, P), and log alpha, (S,)."""

    previous: Tensor = field(kw_only=True)
    log_alpha: Adam = field(kw_only=True)


def networks(cfg: Config, obs: int, action: int) -> Nets:
    """Makes the networks of a configuration, for so many numbers of an observation and of an action."""
    net = body(cfg, obs, cfg.policy_hidden or cfg.hidden, 2 * action, cfg.activation)
    policy = BayesianPolicy(net, cfg.components, action, cfg.smooth, cfg.start_std)
    q = critic(cfg, obs + action, cfg.hidden, cfg.activation)
    return Nets(policy, q, VNetwork(body(cfg, obs, cfg.hidden, 1, cfg.activation)))


def act_noise(cfg: Config, action: int, n: int, draw: Streams) -> Tensor:
    """Draws xi ~ N(0, I) and, of several components, a number that picks one, (S, n, A or A + 1), held for up to ``held`` steps."""
    return draw.held(n, noise_size(cfg.components, action), cfg.held)


def init(
    cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device, nets: Nets | None = None
) -> State:
    """Makes a fresh state of len(generators) seeds."""
    nets, seeds = nets or networks(cfg, obs, action), len(generators)
    policy, q = nets.policy.init(generators).to(device), nets.q.init(cfg.members, generators).to(device)
    v, log_alpha = nets.v.init((seeds,), generators).to(device), torch.full((seeds,), math.log(cfg.alpha0), device=device)
    fall = cfg.lr_fall // cfg.policy_delay
    adams = Adam(policy, cfg.lr, fall), Adam(q, cfg.lr, cfg.lr_fall), Adam(v, cfg.lr, cfg.lr_fall)
    return State(nets, *adams, v.clone(), previous=policy.clone(), log_alpha=Adam(log_alpha, cfg.lr, fall))


def noise(cfg: Config, action: int, draw: Streams) -> Tensor:
    """Draws xi ~ N(0, I) of one update's particles, those of d minibatches, (S, d B, M, A)."""
    return draw.normal(cfg.policy_delay * cfg.batch, cfg.particles, action)


def update(cfg: Config, state: State, batch: Batch, noise: Tensor) -> Info:
    """Takes one gradient step of Q and of V on each of ``policy_delay`` minibatches, one of the policy and the temperature on the last."""
    policy, q, v = state.nets
    squash, alpha = SQUASH[cfg.squash], state.log_alpha.theta.exp()[:, None, None]
    *others, (last, xi) = zip(batch.parts(cfg.batch), torch.split(noise, cfg.batch, 1), strict=True)

    # Update Q function
    def fit_(part: Batch) -> tuple[Tensor, Tensor]:
        y = td_target(cfg.reward_scale * part.reward, part.discount, v(state.v_target, part.next_obs))
        return train_(state.q, q, partial(QNetwork.fit, obs=part.obs, action=part.action, y=y))

    # Update value function by particles of the policy, which stand for E_{a ~ pi~}; update target
    def evaluate_(obs: Tensor, value: Tensor, log_prob: Tensor) -> Tensor:
        target = (entropy_value if cfg.backup == "entropy" else normalizer_value)(value, log_prob, alpha)
        loss, _ = train_(state.v, v, lambda v, theta: squared_error(v(theta, obs), target))
        state.v_target.lerp_(state.v.theta, cfg.tau)
        return loss

    for part, draws in others:
        fit_(part)
        law = policy.law(state.policy.theta, part.obs)
        u = law.stratified(draws)
        evaluate_(part.obs, q.least(state.q.theta, part.obs, torch.tanh(u)), law.squashed_log_prob(u))
    q_loss, q_values = fit_(last)

    # Update prior policy parameters, after its last use
    x_prev = squash.coordinate(learning(policy).law(state.previous, last.obs).stratified(xi))
    follow_(cfg, state.previous, state.policy.theta)

    # Update policy: the velocity v of KL(pi || exp(Q / alpha)) + W2^2(pi, previous pi) at its particles x, by the loss -<v, x>,
    # through the draws to every theta_k
    def flow(policy: MixturePolicy, theta: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        law = policy.law(theta, last.obs)
        u = law.stratified(xi)
        x, log_prob = squash.coordinate(u), law.detach().squashed_log_prob(u.detach())
        value, score = squash.score(lambda a: q.least(state.q.theta, last.obs, a), x, alpha)
        kl = svgd.unbiased(x.detach(), score, groups=cfg.components)
        w2 = w2_velocity(cfg.w2, cfg.w2_scale, x.detach(), x_prev)
        return against(kl + w2, x), (x, log_prob, value, kl, w2)

    _, (x, log_prob, value, kl, w2) = train_(state.policy, policy, flow)

    # Update value function: the same particles, those of the policy before its step
    v_loss = evaluate_(last.obs, value, log_prob)

    # Update temperature: descend -log alpha (E[log pi~] + target entropy)
    entropy, aim = -log_prob.mean((1, 2)), entropy_target(batch.action.shape[-1], cfg.entropy_std)
    if cfg.temperature == "automatic":
        descend_(state.log_alpha, lambda log_alpha: log_alpha * (entropy - aim))
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
