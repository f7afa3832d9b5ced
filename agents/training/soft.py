"""What SAC, WGF-SAC and DP-WGF share: SAC's critics and its temperature (Haarnoja et al. 2018b, arXiv 1812.05905)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from wgf.agents.training import sampling
from wgf.agents.training.descent import Adam, descend_, train_
from wgf.agents.training.protocol import Batch
from wgf.agents.training.settings import ActorSettings, SmoothedSettings
from wgf.agents.training.targets import entropy_target
from wgf.policies.critics import Pairs, QNetwork

__all__ = ["SoftSettings", "State", "begin", "evaluate_", "temper_"]


@dataclass(frozen=True)
class SoftSettings(ActorSettings, SmoothedSettings):
    """Settings of today's SAC. The defaults are those of Stable-Baselines3."""

    members: int = 2
    """Q networks; targets and the policy use the least of them."""


@dataclass
class State(sampling.State):
    """And log alpha, (S,). ``nets`` has ``policy``, whose draws come with their log pi, and ``q``."""

    nets: Any
    log_alpha: Adam


def begin(cfg: SoftSettings, nets: Any, generators: Sequence[torch.Generator], device: torch.device) -> State:
    """Makes a fresh state of len(generators) seeds."""
    policy, q = nets.policy.init(generators).to(device), nets.q.init(cfg.members, generators).to(device)
    log_alpha = torch.full((len(generators),), math.log(cfg.alpha0), device=device)
    fall = cfg.lr_fall // cfg.policy_delay
    return State(nets, Adam(policy, cfg.lr, fall), Adam(q, cfg.lr, cfg.lr_fall), q.clone(), Adam(log_alpha, cfg.lr, fall))


def evaluate_(cfg: SmoothedSettings, state: State, part: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Takes one gradient step of Q on a minibatch, then moves its target; returns the loss and the mean Q, (S,) each.

    Descends E[(Q(s, a) - y)^2] / 2, y = r + discount (min Q_target(s', a') - alpha log pi(a' | s')), a' one draw by ``noise``.
    **Source** Haarnoja et al. 2018b, Eq. 5 and 6, with the least of the members.
    """
    policy, q = state.nets.policy, state.nets.q
    alpha, after = state.log_alpha.theta.exp()[:, None], policy.draw(state.policy.theta, part.next_obs, noise)
    pairs = Pairs(part.obs, part.action, part.next_obs, after.action)
    y = q.backup(state.q_target, pairs, cfg.reward_scale * part.reward, part.discount, -alpha * after.log_prob)
    found = train_(state.q, q, partial(QNetwork.error, pairs=pairs, y=y))
    state.q_target.lerp_(state.q.theta, cfg.tau)
    return found


def temper_(state: State, log_prob: Tensor, action: int, entropy_std: float) -> Tensor:
    """Takes one step of the temperature down -log alpha (E[log pi] + target entropy); returns the entropy, (S,).

    ``log_prob``: log pi of the policy's own draws, (S, ...); ``action``: how many numbers an action has; ``entropy_std``: the deviation
    of a Gaussian whose entropy is the target, 0: -A. **Source** as above, Eq. 18.
    """
    entropy, aim = -log_prob.flatten(1).mean(-1), entropy_target(action, entropy_std)
    descend_(state.log_alpha, lambda log_alpha: log_alpha * (entropy - aim))
    return entropy
