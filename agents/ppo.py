"""Proximal policy optimisation with the clipped surrogate (Schulman et al. 2017, arXiv 1707.06347)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wgf.agents.training.compiled import piece
from wgf.agents.training.descent import Adam, gradients
from wgf.agents.training.epochs import EpochSettings, begin, divergence, memory, minibatches, networks, noise, samples, taken
from wgf.agents.training.onpolicy import Nets, State, act, act_noise, greedy, standardised
from wgf.agents.training.protocol import Info
from wgf.agents.training.rollout import Segment
from wgf.policies.critics import squared_error

__all__ = ["PRESETS", "Config", "State", "act", "act_noise", "greedy", "init", "memory", "networks", "noise", "update"]


@dataclass(frozen=True)
class Config(EpochSettings):
    """The defaults are those of Schulman et al. 2017, Table 3, and of Stable-Baselines3."""

    lr: float = 3e-4
    """Adam's step size, both networks."""
    clip: float = 0.2
    """How far the ratio of the policies may leave 1."""
    max_norm: float = 0.5
    """Length at which the gradient of both networks together is cut."""


PRESETS = {"paper": Config(), "modern": Config()}


def init(
    cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device, nets: Nets | None = None
) -> State:
    """Makes a fresh state of len(generators) seeds; deviations of 1 and means near 0."""
    nets, policy, v = begin(cfg, obs, action, generators, device, nets)
    return State(nets, Adam(policy, cfg.lr), Adam(v, cfg.lr))


def update(cfg: Config, state: State, batch: Segment, noise: Tensor) -> Info:
    """Takes epochs of minibatch steps on one segment."""
    policy, v = state.nets
    obs, action, advantage, target = samples(cfg, lambda obs: v(state.v.theta, obs), batch)
    before = policy.log_prob(state.policy.theta, obs, action)
    told = [step_(cfg, state, rows, obs, action, advantage, target, before) for rows in minibatches(noise, cfg.batch)]
    entropy = policy.entropy(state.policy.theta)

    def info() -> dict[str, Tensor]:
        loss, clipped, distance = torch.stack(told).mean(0)
        return {
            "losses/v": loss,
            "losses/values": (target - advantage).mean((1, 2)),
            "policy/clipped": clipped,
            "policy/kl": distance,
            "policy/entropy": entropy[:, 0],
        }

    return info


@piece
def step_(
    cfg: Config, state: State, rows: Tensor, obs: Tensor, action: Tensor, advantage: Tensor, target: Tensor, before: Tensor
) -> Tensor:
    """Takes one step of both networks on the rows (S, k) of a segment; the critic's loss, the share of ratios beyond the clip, and
    the ``divergence``: (3, S)."""
    policy, v = state.nets
    s, a, gain, y, old = (taken(t, rows) for t in (obs, action, advantage, target, before))
    gain = standardised(gain)

    # Descend -min(r A, clip(r) A) + (1/2) (V - y)^2, r = pi(a | s) / pi_old(a | s)
    def loss(theta: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        log_ratio = policy.log_prob(theta, s, a) - old
        ratio = log_ratio.exp()
        surrogate = torch.minimum(ratio * gain, ratio.clamp(1.0 - cfg.clip, 1.0 + cfg.clip) * gain)
        error, _ = squared_error(v(w, s), y)
        return error - surrogate.mean((1, 2)), error, log_ratio

    (down, down_v), (_, error, log_ratio) = gradients(loss, state.policy.theta, state.v.theta)

    # Both gradients, no longer than max_norm together
    norm = (down.square().sum((1, 2)) + down_v.square().sum((1, 2))).sqrt()
    scale = (cfg.max_norm / (norm + 1e-6)).clamp_max(1.0)[:, None, None]
    state.policy.step(scale * down)
    state.v.step(scale * down_v)
    clipped = ((log_ratio.exp() - 1.0).abs() > cfg.clip).to(log_ratio)
    return torch.stack([error, clipped.mean((1, 2)), divergence(log_ratio)])
