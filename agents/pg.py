"""Vanilla policy gradient: REINFORCE with a baseline (lam = 1), or advantage actor-critic with a TD critic (lam = 0)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from wgf.agents.onpolicy import Settings, State, act, act_noise, begin, estimate, explore, fit_, greedy, noise, policy_gradient
from wgf.agents.targets import speed
from wgf.agents.training.protocol import Info
from wgf.agents.training.rollout import Rollout, Segment
from wgf.agents.training.schedule import Schedule
from wgf.policies.gaussian import entropy

__all__ = ["PRESETS", "Config", "State", "act", "act_noise", "greedy", "init", "memory", "noise", "update"]


@dataclass(frozen=True)
class Config(Settings):
    """One policy, one step a segment."""


PRESETS = {"paper": Config(), "modern": Config(lam=0.97)}


def memory(cfg: Config, schedule: Schedule) -> Rollout:
    """Learns from segments."""
    return Rollout(1, cfg.envs, cfg.batch // cfg.envs, cfg.gamma, partial(explore, cfg))


def init(cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device) -> State:
    """Fresh networks of len(generators) seeds."""
    return begin(cfg, 1, obs, action, generators, device)


def update(cfg: Config, state: State, batch: Segment, noise: None) -> Info:
    """One step of the policy on one segment, then the critic's."""
    # Advantages
    advantage, target = estimate(state.v, batch, cfg.reward_scale, cfg.gamma * cfg.lam)

    # Update policy: ascend J
    log_std = state.policy.log_std.clone()
    gradient = policy_gradient(state.collector, batch, advantage)
    state.policy_adam.step(-gradient)

    # Update critic
    loss = fit_(state.v, state.v_adam, batch, target, cfg.critic_steps)
    return lambda: {
        "losses/v": loss,
        "losses/values": (target - advantage).mean((1, 2, 3)),
        "policy/gradient": speed(gradient),
        "policy/entropy": entropy(log_std).mean(1),
    }
