"""Soft actor-critic of 2017: V network, single Q, a mixture of Gaussians (Haarnoja et al. 2018a, arXiv 1801.01290v1).

The baseline of Zhang et al. 2018. The temperature is fixed at 1: the reward scale is its inverse.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wgf.agents.training.descent import Adam, train_
from wgf.agents.training.memory import memory
from wgf.agents.training.mixing import MixtureSettings, Nets, State, act, act_noise, greedy
from wgf.agents.training.networks import body, critic
from wgf.agents.training.protocol import Batch, Info, Streams
from wgf.agents.training.targets import td_target
from wgf.policies.critics import VNetwork, squared_error
from wgf.policies.gaussian import GaussianMixture, MixturePolicy

__all__ = ["PRESETS", "Config", "State", "act", "act_noise", "greedy", "init", "memory", "networks", "noise", "update"]


@dataclass(frozen=True)
class Config(MixtureSettings):
    """SAC as Zhang et al. 2018 ran it: their Tables 5 and 6, and the public code of December 2017 for the rest."""

    regularization: float = 0.001
    """Weight of the penalty on means and log stds (code of 2017)."""


PRESETS = {"paper": Config()}


def networks(cfg: Config, obs: int, action: int) -> Nets:
    """Makes the networks of a configuration, for so many numbers of an observation and of an action."""
    policy = MixturePolicy(body(cfg, obs, cfg.hidden, cfg.components * (1 + 2 * action), cfg.activation), cfg.components, action)
    q = critic(cfg, obs + action, cfg.hidden, cfg.activation)
    return Nets(policy, q, VNetwork(body(cfg, obs, cfg.hidden, 1, cfg.activation)))


def init(
    cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device, nets: Nets | None = None
) -> State:
    """Makes a fresh state of len(generators) seeds."""
    nets, seeds = nets or networks(cfg, obs, action), len(generators)
    policy, q = nets.policy.init(generators).to(device), nets.q.init(1, generators).to(device)
    v = nets.v.init((seeds,), generators).to(device)
    adams = Adam(policy, cfg.lr, cfg.lr_fall), Adam(q, cfg.lr, cfg.lr_fall), Adam(v, cfg.lr, cfg.lr_fall)
    return State(nets, *adams, v.clone())


def noise(cfg: Config, action: int, draw: Streams) -> Tensor:
    """Draws the noise of one update."""
    return act_noise(cfg, action, cfg.batch, draw)


def size(law: GaussianMixture) -> Tensor:
    """Returns the mean square of the means plus that of the log stds, (S,): what the penalty holds small."""
    return (law.mean.square() + law.std.log().square()).mean((-3, -2, -1))


def update(cfg: Config, state: State, batch: Batch, noise: Tensor) -> Info:
    """Takes one gradient step of each network on one minibatch."""
    policy, q, v = state.nets

    # Update policy: likelihood ratio, E[grad log pi(a) (log pi(a) - Q(s, a) + V(s))], and a penalty on means and log stds. It comes
    # first, so that its action, with its log pi(a | s) and Q(s, a), serves V too: nothing below depends on the policy's step
    def policy_loss(policy: MixturePolicy, theta: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        law = policy.law(theta, batch.obs)
        u = law.detach().draw(noise)
        log_prob, q_now = law.squashed_log_prob(u), q.least(state.q.theta, batch.obs, torch.tanh(u))
        bracket = log_prob.detach() - q_now + v(state.v.theta, batch.obs)
        return (log_prob * bracket).mean(-1) + 0.5 * cfg.regularization * size(law), (log_prob, q_now)

    loss, (log_prob, q_now) = train_(state.policy, policy, policy_loss)

    # Update value function: V(s) towards Q(s, a) - log pi(a | s), a fresh
    v_loss, _ = train_(state.v, v, lambda v, theta: squared_error(v(theta, batch.obs), q_now - log_prob))

    # Update Q function: y = r + discount V_target(s')
    y = td_target(cfg.reward_scale * batch.reward, batch.discount, v(state.v_target, batch.next_obs))
    q_loss, q_values = train_(state.q, q, lambda q, theta: q.fit(theta, batch.obs, batch.action, y))

    # Update target
    state.v_target.lerp_(state.v.theta, cfg.tau)
    return lambda: {
        "losses/q": q_loss,
        "losses/q_values": q_values,
        "losses/v": v_loss,
        "losses/policy": loss,
        "policy/entropy": -log_prob.mean(-1),
    }
