"""DP-WGF: direct policy learning as a Wasserstein gradient flow (Zhang et al. 2018, Sec. 4.2 and Algorithm 1, App. G)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wgf import svgd
from wgf.agents.training import sampling, soft
from wgf.agents.training.descent import Adam, train_
from wgf.agents.training.memory import memory
from wgf.agents.training.protocol import Batch, Info, Streams
from wgf.agents.training.sampling import Nets, SamplingSettings, act, act_noise, evaluate_, greedy, networks
from wgf.agents.training.settings import ACTOR, SMALL, STRONG, TODAY
from wgf.agents.training.soft import temper_
from wgf.agents.training.targets import against, log_mean_exp, mean_square, speed, w2_velocity
from wgf.agents.training.trust import GENTLE, TrustSettings, follow_
from wgf.policies.sampler import SamplingNetwork
from wgf.policies.squash import SQUASH
from wgf.residual import learning

__all__ = ["PRESETS", "Config", "State", "act", "act_noise", "greedy", "init", "memory", "networks", "noise", "update"]


@dataclass(frozen=True)
class Config(SamplingSettings, TrustSettings):
    """DP-WGF with the settings of Zhang et al. 2018, Table 5."""

    backup: Literal["normalizer", "soft", "expected", "density"] = "normalizer"
    """Value of the next state. normalizer: log E_q[exp(Q) / q] - H(q) over uniform actions, as Sec. 4.2 writes it; soft: the same with the
    entropy left in, A log 2 more, as soft Q-learning has it; expected: E_pi Q, Prop. 8's; density: Q - alpha log pi of one draw, as SAC has
    it, log pi by the change of variables through the sampling network; the others make a law of Q a number on its way."""
    temperature: Literal["fixed", "automatic"] = "fixed"
    """alpha stays, or is tuned to an entropy, which takes the density."""
    entropy_std: float = 0.0
    """Deviation of a Gaussian whose entropy an automatic temperature aims at; 0: it aims at -A."""

    def __post_init__(self) -> None:
        if self.temperature == "automatic" and self.backup != "density":
            raise ValueError(f"temperature is automatic with backup {self.backup}; it needs the policy's entropy: set backup density")


MODERN = Config(backup="soft", squash="exact", **TODAY, **GENTLE)
# strong: the temperature starts in units of a reward whose returns lie within the bounds, as SAC's does; so small a one makes Q too
# peaked for a mean over uniform actions
SHARP = {"particles": 8, "alpha": ACTOR["alpha0"], "entropy_std": ACTOR["entropy_std"], "backup": "density", "temperature": "automatic"}
PRESETS = {
    "paper": Config(),
    "modern": MODERN,
    "strong": replace(MODERN, **STRONG | SHARP),
    "strong-small": replace(MODERN, **SMALL | SHARP),
}


@dataclass
class State(soft.State):
    """And the parameters of the previous policy, (S, P)."""

    nets: Nets
    previous: Tensor = field(kw_only=True)


class Noise(NamedTuple):
    """xi ~ N(0, I) (S, B, M, A) of the particles, and the next states': N(0, I) (S, d B, A) for density, (S, d B, M, A) for expected, else
    actions from U(-1, 1)."""

    policy: Tensor
    value: Tensor


def init(
    cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device, nets: Nets | None = None
) -> State:
    """Makes a fresh state of len(generators) seeds; the previous policy is the policy itself."""
    fresh = sampling.init(cfg, obs, action, generators, device, nets)
    log_alpha = Adam(torch.full((len(generators),), math.log(cfg.alpha), device=device), cfg.lr, cfg.lr_fall // cfg.policy_delay)
    return State(**vars(fresh), previous=fresh.policy.theta.clone(), log_alpha=log_alpha)


def noise(cfg: Config, action: int, draw: Streams) -> Noise:
    """Draws the noise of one update."""
    now, rows = draw.normal(cfg.batch, cfg.particles, action), cfg.policy_delay * cfg.batch
    if cfg.backup == "density":
        return Noise(now, draw.normal(rows, action))
    after = rows, cfg.particles, action
    return Noise(now, draw.normal(*after) if cfg.backup == "expected" else 2.0 * draw.uniform(*after) - 1.0)


def next_value(cfg: Config, state: State, obs: Tensor, value_noise: Tensor, alpha: Tensor) -> Tensor:
    """Returns V(s') (S, B) by a backup without a density; alpha (S, 1, 1)."""
    policy, q = state.nets
    if cfg.backup == "expected":
        return q.least(state.q_target, obs, torch.tanh(policy.particles(state.policy.theta, obs, value_noise))).mean(-1)
    integral = log_mean_exp(q.least(state.q_target, obs, value_noise) / alpha)
    if cfg.backup == "soft":
        integral = integral + value_noise.shape[-1] * math.log(2.0)
    return alpha[..., 0] * integral


def update(cfg: Config, state: State, batch: Batch, noise: Noise) -> Info:
    """Takes one gradient step of Q on each of ``policy_delay`` minibatches, then one of the policy on the last."""
    policy, q = state.nets
    squash, alpha = SQUASH[cfg.squash], state.log_alpha.theta.exp()[:, None, None]

    # Update Q function; update target
    for last, after in zip(batch.parts(cfg.batch), torch.split(noise.value, cfg.batch, 1), strict=True):
        if cfg.backup == "density":
            q_loss, q_values = soft.evaluate_(cfg, state, last, after)
        else:
            q_loss, q_values = evaluate_(cfg, state, last, next_value(cfg, state, last.next_obs, after, alpha))

    # Update prior policy parameters, after its last use
    x_prev = squash.coordinate(learning(policy).particles(state.previous, last.obs, noise.policy))
    follow_(cfg, state.previous, state.policy.theta)

    # Update policy: the velocity v of KL(pi || exp(Q / alpha)) + W2^2(pi, previous pi) at its particles x, by the loss -<v, x>
    def flow(policy: SamplingNetwork, theta: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        x = squash.coordinate(policy.particles(theta, last.obs, noise.policy))
        value, score = squash.score(lambda a: q.least(state.q.theta, last.obs, a), x, alpha)
        kl, w2 = svgd.unbiased(x.detach(), score), w2_velocity(cfg.w2, cfg.w2_scale, x.detach(), x_prev)
        return against(kl + w2, x), (x, value, kl, w2)

    log_prob = policy.draw(state.policy.theta, last.obs, noise.policy[:, :, 0]).log_prob if cfg.backup == "density" else None
    _, (x, value, kl, w2) = train_(state.policy, policy, flow)

    # Update temperature: descend -log alpha (E[log pi] + target entropy)
    if log_prob is not None and cfg.temperature == "automatic":
        temper_(state, log_prob, batch.action.shape[-1], cfg.entropy_std)
    return lambda: {
        "losses/q": q_loss,
        "losses/q_values": q_values,
        "losses/policy": -value.mean((1, 2)),
        "flow/kl_speed": speed(kl),
        "flow/w2_speed": speed(w2),
        "flow/w2": mean_square(x - x_prev),
        "policy/spread": squash.action(x).std(-2, correction=0).mean((1, 2)),
        "policy/alpha": alpha[:, 0, 0],
        **({} if log_prob is None else {"policy/entropy": -log_prob.mean(-1)}),
    }
