"""Wasserstein policy optimisation (Pfau et al., ICML 2025): the policy follows the flow of its actions along grad_a Q."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from wgf.agents.targets import BOOTSTRAPS, td_target
from wgf.agents.training.descent import Adam, regress_, regression_loss
from wgf.agents.training.memory import Replay
from wgf.agents.training.protocol import Batch, Info, Streams
from wgf.agents.training.schedule import Schedule
from wgf.mlp import polyak_
from wgf.policies.critics import QNetwork, best
from wgf.policies.forms import FORMS
from wgf.policies.gaussian import entropy
from wgf.policies.unbounded import (
    Law,
    Parts,
    UnboundedPolicy,
    decoupled_kl,
    decoupled_kl_gradient,
    draw,
    log_prob,
    noise_size,
)

FLOOR = -18.0  # of the dual variables: softplus(-18) = 1.5e-8


@dataclass(frozen=True)
class Config:
    """The defaults are those of the authors' open code, and the paper's where it differs: step size and bootstrap."""

    hidden: tuple[int, ...] = (256, 256, 256)
    """Hidden units of the policy: LayerNorm and tanh after the first layer, ELU after the others."""
    critic_hidden: tuple[int, ...] = (512, 512, 256)
    """Hidden units of the critic, of the same kind."""
    policy: Literal["gaussian", "mixture", "squashed"] = "gaussian"
    """gaussian: unbounded, its Fisher matrix in closed form; mixture of several, and one squashed by tanh: by conjugate gradients."""
    components: int = 1
    """Gaussians of the mixture."""
    batch: int = 256
    """Transitions an update and seed."""
    samples: int = 20
    """Actions a state, N: the policy's step is their sum, the KL terms are not; also those that the bootstrap sees."""
    n_step: int = 5
    """Steps of a return before it bootstraps."""
    bootstrap: Literal["mean", "max", "softmax"] = "max"
    """Of Q_target at the target policy's actions."""
    sharpness: float = 1.0
    """Of the softmax bootstrap, weights exp(sharpness Q): 0 is the mean, infinity the largest."""
    lr: float = 3e-4
    """Adam's step size, both networks."""
    gamma: float = 0.99
    """Discount."""
    copy_every: int = 100
    """Updates between two copies of policy and critic to their targets."""
    members: int = 1
    """Q networks; targets and the policy use the least of them. The paper: 1."""
    entropy: float = 0.0
    """Temperature of an entropy term: d std += entropy / std an action, and in the critic; with n_step 1. The paper: 0."""
    squash: Literal["identity", "cbrt"] = "identity"
    """What grad_a Q passes through, entry by entry. The paper: the cube root on fusion."""
    std0: float = 0.7
    """Standard deviation of the first policy."""
    kl: Literal["soft", "hard"] = "soft"
    """soft: fixed weights of KL(target policy || policy). hard: they are learned, so that it stays at its bounds."""
    kl_mean: float = 0.693
    """Weight of the part that moves the mean, per dimension; where it starts, if hard."""
    kl_std: float = 1e4
    """Weight of the part that moves the standard deviation, likewise."""
    bound_mean: float = 0.0025
    """Bound of the first part per dimension, if hard."""
    bound_std: float = 1e-6
    """Bound of the second, if hard."""
    dual_lr: float = 1e-2
    """Adam's step size for the weights, if hard."""
    fisher: int = 64
    """Further actions a state for the Fisher matrix of a mixture or a squashed Gaussian."""
    damping: float = 1e-2
    """Added to its diagonal."""
    cg_steps: int = 10
    """Conjugate-gradient steps on it."""
    reward_scale: float = 1.0
    """Factor of the reward."""

    def __post_init__(self) -> None:
        if self.entropy and self.n_step > 1:
            raise ValueError(f"n_step is {self.n_step}; with entropy it must be 1: the entropies of the steps between are not known")
        if self.entropy and self.policy != "gaussian":
            raise ValueError(f"policy is {self.policy}; with entropy it must be gaussian, whose entropy has a closed form")
        if self.components > 1 and self.policy != "mixture":
            raise ValueError(f"components is {self.components}; a {self.policy} policy has 1")


PRESETS = {
    "paper": Config(),
    # fewer actions weigh less against the KL, so that its weights are a fifth as well
    "modern": Config(
        hidden=(256, 256), critic_hidden=(256, 256), samples=4, n_step=1, bootstrap="mean", members=2, kl_mean=0.139, kl_std=2e3
    ),
}


@dataclass
class State:
    """Networks and optimisers, every tensor with the seeds as its first axis. ``dual``: raw KL weights (S, 2, A), mean and std."""

    policy: UnboundedPolicy
    policy_target: UnboundedPolicy
    q: QNetwork
    q_target: QNetwork
    dual: Tensor
    policy_adam: Adam
    q_adam: Adam
    dual_adam: Adam


class Noise(NamedTuple):
    """N(0, I) of one update, ``wgf.policies.unbounded.draw``'s: of N actions at the next states and at those of the minibatch, and of
    those for the Fisher matrix; (S, B, n, ...) each."""

    after: Tensor
    now: Tensor
    fisher: Tensor


def memory(cfg: Config, schedule: Schedule) -> Replay:
    """Learns from a replay."""
    return Replay(schedule, cfg.batch, cfg.gamma, cfg.n_step)


def init(cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device) -> State:
    """Fresh networks of len(generators) seeds."""
    policy = UnboundedPolicy(obs, action, cfg.components, cfg.hidden, cfg.std0, generators).to(device)
    q = QNetwork(obs, action, cfg.members, cfg.critic_hidden, "layernorm", generators).to(device)
    weights = torch.tensor([cfg.kl_mean, cfg.kl_std], device=device, dtype=policy.theta.dtype)
    dual = inverse_softplus(weights)[:, None].repeat(len(generators), 1, action)
    adams = Adam(policy.theta, cfg.lr), Adam(q.theta, cfg.lr), Adam(dual, cfg.dual_lr)
    return State(policy, deepcopy(policy), q, deepcopy(q), dual, *adams)


def act_noise(cfg: Config, action: int, n: int, draw: Streams) -> Tensor:
    """(S, n, A), or A + 1 for a mixture."""
    return draw.normal(n, noise_size(cfg.components, action))


def act(cfg: Config, state: State, obs: Tensor, noise: Tensor) -> Tensor:
    """A draw from the policy, (S, n, A), as the critic sees it: cut to the cube, or squashed by tanh."""
    return FORMS[cfg.policy].action(draw(state.policy(obs), noise[..., None, :]))[..., 0, :]


def greedy(cfg: Config, state: State, obs: Tensor) -> Tensor:
    """The mean, or of several that with the largest Q, (S, n, A); cut or squashed."""
    actions = FORMS[cfg.policy].action(state.policy(obs).mean)
    return actions[..., 0, :] if cfg.components == 1 else best(state.q, obs, actions)


def noise(cfg: Config, action: int, draw: Streams) -> Noise:
    """For ``update``."""
    size, fisher = noise_size(cfg.components, action), 0 if cfg.policy == "gaussian" else cfg.fisher
    return Noise(*(draw.normal(cfg.batch, n, size) for n in (cfg.samples, cfg.samples, fisher)))


def update(cfg: Config, state: State, batch: Batch, noise: Noise) -> Info:
    """One gradient step of each network on one minibatch."""
    form = FORMS[cfg.policy]

    # Laws of the target policy, at the next states and at the states
    after, target = state.policy_target(torch.cat([batch.next_obs, batch.obs], 1)).parts(cfg.batch)

    # Update Q function: y = r + discount V(s'), V of Q_target at actions of the target policy
    next_q = state.q_target.least(batch.next_obs, form.action(draw(after, noise.after)))
    next_value = BOOTSTRAPS[cfg.bootstrap](next_q, cfg.sharpness) + cfg.entropy * entropy(after.std.log())[..., 0]
    y = td_target(cfg.reward_scale * batch.reward, batch.discount, next_value)
    q, pull_back = state.q.vjp(batch.obs, batch.action)
    q_error = regress_(state.q_adam, q, pull_back, y)

    # The policy's direction: the flow of its actions along grad_a Q, and of its entropy, projected on its parameters
    law, policy_back = state.policy.vjp(batch.obs)
    u = draw(law, noise.now)
    value, slope = state.q.action_gradient(batch.obs, form.action(u))
    ascent = form.projected(law, u, form.slope(u, SQUASH[cfg.squash](slope)), noise.fisher, cfg.damping, cfg.cg_steps)
    spread = cfg.samples * cfg.entropy / law.std

    # Update policy: ascend, and descend sum_d weight KL(target policy || policy)
    weight = Parts(*(softplus(state.dual) + 1e-8)[:, :, None].unbind(1))
    back = decoupled_kl_gradient(target, law, weight)
    step = Law(back.logits - ascent.logits, back.mean - ascent.mean, back.std - ascent.std - spread)
    state.policy_adam.step(policy_back(Law(*(g / cfg.batch for g in step))))

    # Update KL weights: descend weight (bound - KL), per dimension
    if cfg.kl == "hard":
        kl = torch.stack([part.mean(1) for part in decoupled_kl(target, law)], 1)
        bound = kl.new_tensor([cfg.bound_mean, cfg.bound_std])[:, None]
        state.dual_adam.step(torch.sigmoid(state.dual) * (bound - kl))
        state.dual.clamp_(min=FLOOR)

    # Update targets: a copy every so many updates
    due = (state.q_adam.steps % cfg.copy_every == 0).to(q)
    polyak_(state.policy_target, state.policy, due)
    polyak_(state.q_target, state.q, due)

    def info() -> dict[str, Tensor]:
        kl = decoupled_kl(target, law)
        return {
            "losses/q": regression_loss(q_error),
            "losses/q_values": q.mean((1, 2)),
            "losses/policy": -value.mean((1, 2)),
            "policy/entropy": -log_prob(law, u).mean((1, 2)),
            "policy/kl_mean": kl.mean.sum(-1).mean(1),
            "policy/kl_std": kl.std.sum(-1).mean(1),
            "policy/outside": (u.abs() > 1.0).to(q).mean((1, 2, 3)),
        }

    return info


def cube_root(x: Tensor) -> Tensor:
    """sign(x) |x|^(1/3)."""
    return x.sign() * x.abs().pow(1.0 / 3.0)


SQUASH: dict[str, Callable[[Tensor], Tensor]] = {"identity": lambda g: g, "cbrt": cube_root}


def inverse_softplus(y: Tensor) -> Tensor:
    """x of softplus(x) = y > 0."""
    return y + torch.log(-torch.expm1(-y))
