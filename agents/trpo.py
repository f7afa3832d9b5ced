"""Trust region policy optimisation (Schulman et al. 2015, arXiv 1502.05477) with generalised advantages (Schulman et al. 2016)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wgf import natural
from wgf.agents.training.descent import Adam, gradients
from wgf.agents.training.epochs import EpochSettings, begin, memory, minibatches, networks, noise, samples, taken
from wgf.agents.training.onpolicy import Nets, act_noise, regress_, standardised
from wgf.agents.training.protocol import Info
from wgf.agents.training.rollout import Segment
from wgf.policies.diagonal import DiagonalPolicy

__all__ = ["PRESETS", "Config", "State", "act", "act_noise", "greedy", "init", "memory", "networks", "noise", "update"]


@dataclass(frozen=True)
class Config(EpochSettings):
    """The defaults are those of sb3-contrib, but for what a KL is: there the mean over the action's A numbers, so that its target_kl of
    0.01 and damping of 0.1 are 0.01 A and 0.1 A here."""

    target_kl: float = 0.01
    """How far a step may move the policy: KL(old || new), mean over states, in nats."""
    damping: float = 0.1
    """Multiple of the identity that is added to the Fisher metric."""
    cg_steps: int = 15
    """Conjugate-gradient steps for the direction."""
    shrink: float = 0.8
    """Factor of the step from one try of the line search to the next."""
    tries: int = 10
    """Tries of the line search; where none is acceptable the policy stays."""
    batch: int = 128
    """Transitions of a minibatch of the critic."""
    critic_lr: float = 1e-3
    """Adam's step size for the critic."""


# Zhang et al. 2018, Sec. 6.3, say of their TRPO-GAE baseline only its networks
PRESETS = {"paper": Config(hidden=(128, 128)), "modern": Config()}


@dataclass
class State:
    """What an update changes, seeds first in every tensor: the policy, whose step is its own, and the critic; and the networks."""

    nets: Nets
    policy: Tensor
    v: Adam


def init(
    cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device, nets: Nets | None = None
) -> State:
    """Makes a fresh state of len(generators) seeds; deviations of 1 and means near 0."""
    nets, policy, v = begin(cfg, obs, action, generators, device, nets)
    return State(nets, policy, Adam(v, cfg.critic_lr))


def act(cfg: Config, state: State, obs: Tensor, noise: Tensor) -> Tensor:
    """Returns a draw from the policy, (S, n, A)."""
    return state.nets.policy.draw(state.policy, obs[:, None], noise[:, None]).action[:, 0]


def greedy(cfg: Config, state: State, obs: Tensor) -> Tensor:
    """Returns the mean, (S, n, A)."""
    return state.nets.policy.mode(state.policy, obs[:, None])[:, 0]


def ascend(
    cfg: Config, policy: DiagonalPolicy, theta: Tensor, obs: Tensor, action: Tensor, gain: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Climbs L = E[r A], r = pi(a | s) / pi_old(a | s), with KL(pi_old || pi) <= target_kl; samples (S, M, B).

    ``gain`` is A, standardised, so that L is 0 at first. Returns the new theta, that KL, the fraction of the largest step that was taken
    (0: none), and the direction's relative residual, (S, M) each.
    **Source** Schulman et al. 2015, Eq. 14 and App. C. **Limits** A = 0 stays.
    """
    old = policy.log_prob(theta, obs, action)

    def surrogate(theta: Tensor) -> Tensor:
        return (torch.exp(policy.log_prob(theta, obs, action) - old) * gain).mean(-1)

    # Direction d = (F + damping I)^-1 g, g = grad L; largest step beta d with beta^2 d'(F + damping I) d / 2 = target_kl
    (gradient,), _ = gradients(surrogate, theta)
    metric = natural.damped(policy.fisher(theta, obs), cfg.damping)
    step = natural.step(metric, gradient, eps=cfg.target_kl, steps=cfg.cg_steps)

    # Line search: the first of beta d, shrink beta d, shrink^2 beta d ... that raises L within the trust region
    def acceptable(candidate: Tensor) -> Tensor:
        return (surrogate(candidate) > 0.0) & (policy.kl(theta, candidate, obs).mean(-1) <= cfg.target_kl)

    found, fraction = natural.backtrack(acceptable, theta, step.move, shrink=cfg.shrink, tries=cfg.tries)
    return found, policy.kl(theta, found, obs).mean(-1), fraction, step.residual


def update(cfg: Config, state: State, batch: Segment, noise: Tensor) -> Info:
    """Takes one step of the policy on one segment, then the critic's epochs."""
    policy, v = state.nets

    # Advantages
    obs, action, advantage, target = samples(cfg, lambda obs: v(state.v.theta, obs), batch)

    # Policy: one step inside the trust region
    theta, moved, fraction, residual = ascend(cfg, policy, state.policy, obs, action, standardised(advantage))
    state.policy.copy_(theta)
    entropy = policy.entropy(state.policy)

    # Critic: descend (1/2) (V - y)^2
    losses = [regress_(v, state.v, taken(obs, rows), taken(target, rows)) for rows in minibatches(noise, cfg.batch)]
    return lambda: {
        "losses/v": torch.stack(losses).mean(0),
        "losses/values": (target - advantage).mean((1, 2)),
        "policy/kl": moved[:, 0],
        "policy/step": fraction[:, 0],
        "policy/residual": residual[:, 0],
        "policy/entropy": entropy[:, 0],
    }
