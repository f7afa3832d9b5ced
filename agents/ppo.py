"""Proximal policy optimisation with the clipped surrogate (Schulman et al. 2017, arXiv 1707.06347)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wgf.agents.epochs import EpochSettings, memory, networks, noise, samples, taken
from wgf.agents.onpolicy import State, act, act_noise, greedy, standardised
from wgf.agents.training.descent import Adam
from wgf.agents.training.protocol import Info
from wgf.agents.training.rollout import Segment
from wgf.policies.gaussian import entropy

__all__ = ["PRESETS", "Config", "State", "act", "act_noise", "greedy", "init", "memory", "noise", "update"]


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


def init(cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device) -> State:
    """Fresh networks of len(generators) seeds; deviations of 1 and means near 0."""
    policy, v = networks(cfg, obs, action, generators, device)
    return State(policy, v, Adam(policy.theta, cfg.lr), Adam(v.theta, cfg.lr))


def update(cfg: Config, state: State, batch: Segment, noise: Tensor) -> Info:
    """Epochs of minibatch steps on one segment."""
    obs, action, advantage, target = samples(cfg, state.v, batch)
    before, _ = state.policy.score(obs, action)
    losses, clipped, distances = [], [], []
    for epoch in noise.unbind(1):
        for rows in torch.split(epoch, cfg.batch, -1):
            s, a, gain, y, old = (taken(t, rows) for t in (obs, action, advantage, target, before))
            gain = standardised(gain)

            # Policy: ascend min(r A, clip(r) A), r = pi(a | s) / pi_old(a | s): r A grad log pi where the clip does not hold
            log_prob, pull_back = state.policy.score(s, a)
            ratio = torch.exp(log_prob - old)
            held = torch.where(gain > 0.0, ratio > 1.0 + cfg.clip, ratio < 1.0 - cfg.clip)
            ascent = pull_back((gain * ratio).masked_fill(held, 0.0) / rows.shape[-1])

            # Critic: descend (1/2) (V - y)^2
            value, v_pull_back = state.v.vjp(s)
            descent = v_pull_back((value - y) / rows.shape[-1])

            # Both, no longer than max_norm together
            norm = (ascent.square().sum((1, 2)) + descent.square().sum((1, 2))).sqrt()
            scale = (cfg.max_norm / (norm + 1e-6)).clamp_max(1.0)[:, None, None]
            state.policy_adam.step(-scale * ascent)
            state.v_adam.step(scale * descent)
            losses.append(0.5 * (value - y).square().mean((1, 2)))
            clipped.append(((ratio - 1.0).abs() > cfg.clip).to(ratio).mean((1, 2)))
            distances.append((ratio - 1.0 - (log_prob - old)).mean((1, 2)))
    log_std = state.policy.log_std.clone()
    return lambda: {
        "losses/v": torch.stack(losses).mean(0),
        "losses/values": (target - advantage).mean((1, 2)),
        "policy/clipped": torch.stack(clipped).mean(0),
        "policy/kl": torch.stack(distances).mean(0),
        "policy/entropy": entropy(log_std).mean(1),
    }
