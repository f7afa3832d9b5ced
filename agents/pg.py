"""Vanilla policy gradient: REINFORCE with a baseline (lam = 1), or advantage actor-critic with a TD critic (lam = 0)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from wgf.agents.training.onpolicy import (
    Nets,
    Settings,
    State,
    act,
    act_noise,
    ascent,
    begin,
    estimate,
    fit_,
    greedy,
    learned,
    networks,
    noise,
    segments,
)
from wgf.agents.training.protocol import Info
from wgf.agents.training.rollout import Rollout, Segment
from wgf.agents.training.schedule import Schedule
from wgf.agents.training.targets import speed

__all__ = ["PRESETS", "Config", "State", "act", "act_noise", "greedy", "init", "memory", "networks", "noise", "update"]


@dataclass(frozen=True)
class Config(Settings):
    """One policy, one step a segment."""


PRESETS = {"paper": Config(), "modern": Config(lam=0.97)}


def memory(cfg: Config, schedule: Schedule) -> Rollout:
    """Learns from segments."""
    return segments(cfg, 1)


def init(
    cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device, nets: Nets | None = None
) -> State:
    """Makes a fresh state of len(generators) seeds."""
    return begin(cfg, 1, nets or networks(cfg, obs, action), generators, device)


def update(cfg: Config, state: State, batch: Segment, noise: None) -> Info:
    """Takes one step of the policy on one segment, then the critic's."""
    policy, v = state.nets

    # Advantages
    advantage, target = estimate(lambda obs: v(state.v.theta, obs), batch, cfg.reward_scale, cfg.gamma * cfg.lam)

    # Update policy: ascend J
    entropy = policy.entropy(state.mu)
    gradient = ascent(state, batch, advantage)
    state.policy.step(-gradient)

    # Update critic
    loss, sizes = fit_(v, state.v, batch, target, cfg.critic_steps), learned(state)
    return lambda: {
        "losses/v": loss,
        "losses/values": (target - advantage).mean((1, 2, 3)),
        "policy/gradient": speed(gradient),
        "policy/entropy": entropy[:, 0],
        **sizes,
    }
