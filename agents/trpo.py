"""Trust region policy optimisation (Schulman et al. 2015, arXiv 1502.05477) with generalised advantages (Schulman et al. 2016)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wgf import natural
from wgf.agents.epochs import EpochSettings, memory, networks, noise, samples, taken
from wgf.agents.onpolicy import Networks, act, act_noise, greedy, standardised
from wgf.agents.training.descent import Adam, regress_, regression_loss
from wgf.agents.training.protocol import Info
from wgf.agents.training.rollout import Segment
from wgf.policies.diagonal import DiagonalPolicy
from wgf.policies.gaussian import entropy, kl, log_prob

__all__ = ["PRESETS", "Config", "State", "act", "act_noise", "greedy", "init", "memory", "noise", "update"]


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
class State(Networks):
    """And the critic's optimiser; the policy has a step of its own."""

    v_adam: Adam


def init(cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device) -> State:
    """Fresh networks of len(generators) seeds; deviations of 1 and means near 0."""
    policy, v = networks(cfg, obs, action, generators, device)
    return State(policy, v, Adam(v.theta, cfg.critic_lr))


def ascend_(cfg: Config, policy: DiagonalPolicy, obs: Tensor, action: Tensor, gain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Raise L = E[r A], r = pi(a | s) / pi_old(a | s), with KL(pi_old || pi) <= target_kl; samples (S, M, B).

    ``gain`` is A, standardised, so that L is 0 at first. Returns that KL, the fraction of the largest step that was taken
    (0: none), and the direction's relative residual, (S, M) each.
    **Source** Schulman et al. 2015, Eq. 14 and App. C. **Limits** A = 0 stays.
    """
    # Direction d = (F + damping I)^-1 g, g = grad L = E[A grad log pi]; largest step beta d with beta^2 d'(F + damping I) d / 2 = target_kl
    log_prob_old, pull_back = policy.score(obs, action)
    metric = natural.damped(policy.fisher(obs), cfg.damping)
    step = natural.step(metric, pull_back(gain / gain.shape[-1]), eps=cfg.target_kl, steps=cfg.cg_steps)

    # Line search: the first of beta d, shrink beta d, shrink^2 beta d ... that raises L within the trust region
    def law() -> tuple[Tensor, Tensor]:
        return policy.mean(obs), policy.log_std[:, :, None].clone()

    start, old = policy.theta.clone(), law()

    def acceptable(theta: Tensor) -> Tensor:
        policy.theta.copy_(theta)
        new = law()
        ratio = torch.exp(log_prob(action, *new) - log_prob_old)
        return ((ratio * gain).mean(-1) > 0.0) & (kl(*old, *new).mean(-1) <= cfg.target_kl)

    theta, fraction = natural.backtrack(acceptable, start, step.move, shrink=cfg.shrink, tries=cfg.tries)
    policy.theta.copy_(theta)
    return kl(*old, *law()).mean(-1), fraction, step.residual


def update(cfg: Config, state: State, batch: Segment, noise: Tensor) -> Info:
    """One step of the policy on one segment, then the critic's epochs."""
    # Advantages
    obs, action, advantage, target = samples(cfg, state.v, batch)

    # Policy: one step inside the trust region
    moved, fraction, residual = ascend_(cfg, state.policy, obs, action, standardised(advantage))
    log_std = state.policy.log_std.clone()

    # Critic: descend (1/2) (V - y)^2
    losses = []
    for epoch in noise.unbind(1):
        for rows in torch.split(epoch, cfg.batch, -1):
            error = regress_(state.v_adam, *state.v.vjp(taken(obs, rows)), taken(target, rows))
            losses.append(regression_loss(error))
    return lambda: {
        "losses/v": torch.stack(losses).mean(0),
        "losses/values": (target - advantage).mean((1, 2)),
        "policy/kl": moved[:, 0],
        "policy/step": fraction[:, 0],
        "policy/residual": residual[:, 0],
        "policy/entropy": entropy(log_std)[:, 0],
    }
