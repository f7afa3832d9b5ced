"""WGF-SAC: SAC whose policy takes DP-WGF-V's step in the place of its own (Haarnoja et al. 2018b; Zhang et al. 2018, Sec. 4.2).

Critics, backup and temperature are SAC's. The policy, an explicit mixture pi(a | s) = (1/K) sum_k N_squashed(a; mean_k(s), std_k(s)),
follows the velocity v of KL(pi || exp(Q / alpha)) + W2^2(pi, previous pi) at M action particles per state. ``kl="density"`` and no W2
term has the mean of SAC's gradient over alpha, of M draws and without the score's term, whose mean is 0, so that each setting says what
one ingredient of the flow is worth.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wgf import svgd
from wgf.agents.training import soft
from wgf.agents.training.descent import Adam, descend_, gradients, train_
from wgf.agents.training.memory import memory
from wgf.agents.training.networks import body, critic
from wgf.agents.training.protocol import Batch, Info, Streams
from wgf.agents.training.settings import ACTOR, SMALL, STRONG
from wgf.agents.training.soft import SoftSettings, evaluate_, temper_
from wgf.agents.training.targets import against, mean_square, speed, w2_velocity
from wgf.agents.training.trust import GENTLE, TrustSettings, follow_
from wgf.policies.bayesian import BayesianPolicy
from wgf.policies.critics import QNetwork
from wgf.policies.gaussian import GaussianMixture, MixturePolicy, noise_size
from wgf.policies.squash import SQUASH
from wgf.residual import learning

__all__ = ["PRESETS", "Config", "State", "act", "act_noise", "greedy", "init", "memory", "networks", "noise", "update"]


@dataclass(frozen=True)
class Config(SoftSettings, TrustSettings):
    """SAC's settings, and those of the flow."""

    components: int = 1
    """Gaussians of the policy, each a network of its own; their number divides particles."""
    particles: int = 8
    """Action particles per state."""
    kl: Literal["svgd", "blob", "density"] = "svgd"
    """KL velocity. svgd: Eq. 7 without its own term; density: grad log p - grad log pi, pi's own, which has no kernel; blob: by a kernel
    density of the particles, whose own term leaves the policy too narrow, by a sixth at 8 particles."""
    w2_radius: float = 0.0
    """Where the scale is learned: how far the particles may lie from the previous policy's, root mean square per action dimension, in
    the coordinate before tanh. 0: the scale stays."""
    dual_lr: float = 1e-2
    """Adam's step size for the logarithm of that scale."""

    def __post_init__(self) -> None:
        if self.particles % self.components:
            raise ValueError(f"particles is {self.particles}; it must be a multiple of components, {self.components}")
        if self.w2_radius and not self.w2_scale:
            raise ValueError(f"w2_scale is 0; with w2_radius {self.w2_radius} it is where the learned scale starts: give one above 0")


MODERN = Config(w2_scale=0.0, **GENTLE)
# paper: the networks and the flow of Zhang et al. 2018, Table 5 and App. E.3, that DP-WGF-V has
PRESETS = {
    "paper": Config(
        hidden=(128, 128),
        activation="tanh",
        batch=64,
        tau=0.01,
        components=4,
        particles=32,
    ),
    "modern": MODERN,
    "strong": replace(MODERN, **STRONG | ACTOR),
    "strong-small": replace(MODERN, **SMALL | ACTOR),
}


class Nets(NamedTuple):
    """The functions of theta."""

    policy: BayesianPolicy
    q: QNetwork


@dataclass
class State(soft.State):
    """And the parameters of the previous policy, (S, K, P), and the logarithm of what ``w2_scale`` is multiplied by, (S,)."""

    nets: Nets
    previous: Tensor = field(kw_only=True)
    log_factor: Adam = field(kw_only=True)


class Noise(NamedTuple):
    """What picks an action at the next states of d minibatches, (S, d B, A or A + 1), and xi ~ N(0, I) of the particles, (S, B, M, A)."""

    after: Tensor
    now: Tensor


def networks(cfg: Config, obs: int, action: int) -> Nets:
    """Makes the networks of a configuration, for so many numbers of an observation and of an action."""
    net = body(cfg, obs, cfg.policy_hidden or cfg.hidden, 2 * action, cfg.activation)
    return Nets(
        BayesianPolicy(net, cfg.components, action, cfg.smooth, cfg.start_std), critic(cfg, obs + action, cfg.hidden, cfg.activation)
    )


def init(
    cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device, nets: Nets | None = None
) -> State:
    """Makes a fresh state of len(generators) seeds; the previous policy is the policy itself."""
    fresh = soft.begin(cfg, nets or networks(cfg, obs, action), generators, device)
    factor = Adam(torch.zeros(len(generators), device=device), cfg.dual_lr)
    return State(**vars(fresh), previous=fresh.policy.theta.clone(), log_factor=factor)


def act_noise(cfg: Config, action: int, n: int, draw: Streams) -> Tensor:
    """Draws xi ~ N(0, I) and, of several components, a number that picks one, (S, n, A or A + 1), held for up to ``held`` steps."""
    return draw.held(n, noise_size(cfg.components, action), cfg.held)


def act(cfg: Config, state: State, obs: Tensor, noise: Tensor) -> Tensor:
    """Returns a draw from the policy, (S, n, A)."""
    return torch.tanh(state.nets.policy.law(state.policy.theta, obs).draw(noise))


def greedy(cfg: Config, state: State, obs: Tensor) -> Tensor:
    """Returns tanh(mean), of several components the one with the largest Q, (S, n, A)."""
    policy, q = state.nets
    actions = policy.mode(state.policy.theta, obs)
    return actions[..., 0, :] if cfg.components == 1 else q.best(state.q.theta, obs, actions)


def noise(cfg: Config, action: int, draw: Streams) -> Noise:
    """Draws the noise of one update."""
    after = draw.normal(cfg.policy_delay * cfg.batch, noise_size(cfg.components, action))
    return Noise(after, draw.normal(cfg.batch, cfg.particles, action))


def kl_velocity(cfg: Config, law: GaussianMixture, x: Tensor, score: Tensor) -> Tensor:
    """Returns the velocity of KL(pi || p) at particles x of the law pi, (S, B, M, A), all held fixed; ``score`` = grad log p."""
    if cfg.kl == "svgd":
        return svgd.unbiased(x, score, groups=cfg.components)
    if cfg.kl == "blob":
        return svgd.blob(x, score)
    (own,), _ = gradients(law.log_prob, x)
    return score - own


def update(cfg: Config, state: State, batch: Batch, noise: Noise) -> Info:
    """Takes one gradient step of Q on each of ``policy_delay`` minibatches, then one of the policy and the temperature on the last."""
    policy, q = state.nets
    squash, alpha = SQUASH["exact"], state.log_alpha.theta.exp()[:, None, None]
    factor = state.log_factor.theta.exp()

    # Update Q function: y = r + discount (min Q_target(s', a') - alpha log pi(a' | s')); update target
    for last, xi in zip(batch.parts(cfg.batch), torch.split(noise.after, cfg.batch, 1), strict=True):
        q_loss, q_values = evaluate_(cfg, state, last, xi)

    # Update prior policy parameters, after its last use
    x_prev = learning(policy).law(state.previous, last.obs).stratified(noise.now)
    follow_(cfg, state.previous, state.policy.theta)

    # Update policy: the velocity v of KL(pi || exp(Q / alpha)) + W2^2(pi, previous pi) at its particles x, by the loss -<v, x>,
    # through the draws to every theta_k
    def flow(policy: MixturePolicy, theta: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        law = policy.law(theta, last.obs)
        x = law.stratified(noise.now)
        value, score = squash.score(lambda a: q.least(state.q.theta, last.obs, a), x, alpha)
        log_prob = law.detach().squashed_log_prob(x.detach())
        kl = kl_velocity(cfg, law.detach(), x.detach(), score)
        w2 = factor[:, None, None, None] * w2_velocity(cfg.w2, cfg.w2_scale, x.detach(), x_prev)
        return against(kl + w2, x), (x, log_prob, value, kl, w2)

    _, (x, log_prob, value, kl, w2) = train_(state.policy, policy, flow)

    # Update scale of the trust region: descend log scale (radius^2 - E|x - x_prev|^2 / A)
    moved = mean_square(x - x_prev)
    if cfg.w2_radius:
        descend_(state.log_factor, lambda log_factor: log_factor * (cfg.w2_radius**2 - moved / x.shape[-1]))

    # Update temperature: descend -log alpha (E[log pi] + target entropy)
    entropy = temper_(state, log_prob, batch.action.shape[-1], cfg.entropy_std)
    return lambda: {
        "losses/q": q_loss,
        "losses/q_values": q_values,
        "losses/policy": -value.mean((1, 2)),
        "flow/kl_speed": speed(kl),
        "flow/w2_speed": speed(w2),
        "flow/w2": moved,
        "flow/w2_scale": cfg.w2_scale * factor,
        "policy/entropy": entropy,
        "policy/alpha": alpha[:, 0, 0],
    }
