"""Wasserstein policy optimisation (Pfau et al., ICML 2025): the policy follows the flow of its actions along grad_a Q."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wgf import projection
from wgf.agents.training.descent import Adam, descend_, train_
from wgf.agents.training.memory import memory
from wgf.agents.training.networks import critic
from wgf.agents.training.protocol import Batch, Info, Streams
from wgf.agents.training.settings import ACTOR, CRITIC, SMALL_CRITIC, DelayedSettings, ReplaySettings
from wgf.agents.training.targets import BOOTSTRAPS, entropy_target, td_target
from wgf.mlp import MLP
from wgf.policies.critics import Pairs, QNetwork
from wgf.policies.gaussian import GaussianMixture, entropy, noise_size, tanh_log_det
from wgf.policies.unbounded import UnboundedPolicy, block_fisher, decoupled_kl, flat, unflat

__all__ = ["PRESETS", "Config", "State", "act", "act_noise", "greedy", "init", "memory", "networks", "noise", "update"]

FLOOR = -18.0  # of the logarithms of the KL weights


@dataclass(frozen=True)
class Config(ReplaySettings, DelayedSettings):
    """The defaults are those of the authors' open code, but for lr and bootstrap.

    These two, 3e-4 and max, rest on memory and on what others wrote about the paper, not on its text: the open code has 1e-4 and mean.
    That code takes one update in 8 environment steps, on sequences of 10 steps; here each step has its update.
    """

    hidden: tuple[int, ...] = (256, 256, 256)
    """Hidden units of the policy: LayerNorm and tanh after the first layer, ELU after the others."""
    critic_hidden: tuple[int, ...] = (512, 512, 256)
    """Hidden units of the critic, of the same kind."""
    policy: Literal["gaussian", "mixture", "squashed"] = "gaussian"
    """gaussian: unbounded; squashed: the same through tanh, whose Fisher matrix is the Gaussian's; both in closed form. mixture: several
    Gaussians, by conjugate gradients."""
    components: int = 1
    """Gaussians of the mixture."""
    samples: int = 20
    """Actions per state, N: the policy's step is their sum, the KL terms are not; also those that the bootstrap sees."""
    n_step: int = 5
    """Steps of a return before it bootstraps."""
    bootstrap: Literal["mean", "max", "softmax", "draw"] = "max"
    """What is taken of the values of Q_target at the target policy's actions. draw: the first action's, its law where Q has one, and batch
    norm sees it in one minibatch with the present state and action."""
    sharpness: float = 1.0
    """Of the softmax bootstrap, weights exp(sharpness Q): 0 is the mean, infinity the largest."""
    copy_every: int = 100
    """Steps of policy and of critic between two moves of their targets."""
    tau: float = 1.0
    """The share by which targets move towards their networks then; 1: they are copies."""
    members: int = 1
    """Q networks; targets and the policy use the least of them. The paper: 1."""
    entropy: float = 0.0
    """Temperature of an entropy term, of the policy and of the critic's value; with n_step 1. The paper: 0."""
    entropy_std: float = 0.0
    """Deviation of a Gaussian whose entropy the temperature, which begins at ``entropy``, aims at; 0: it stays."""
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
    """Adam's step size for the logarithms of the weights, if hard."""
    fisher: int = 64
    """Further actions per state for the Fisher matrix of a mixture."""
    damping: float = 1e-2
    """Added to its diagonal."""
    cg_steps: int = 10
    """Conjugate-gradient steps on it."""

    def __post_init__(self) -> None:
        if self.entropy and self.n_step > 1:
            raise ValueError(f"n_step is {self.n_step}; with entropy it must be 1: the entropies of the steps between are not known")
        if self.entropy and self.policy == "mixture":
            raise ValueError(f"policy is {self.policy}; with entropy it must be gaussian or squashed: that of a mixture has no closed form")
        if self.entropy_std and not self.entropy:
            raise ValueError(f"entropy is 0; with entropy_std {self.entropy_std} it is where the temperature starts: give one above 0")
        if self.components > 1 and self.policy != "mixture":
            raise ValueError(f"components is {self.components}; a {self.policy} policy has 1")


# fewer actions weigh less against the KL, so that its weights are a fifth as well
MODERN = Config(hidden=(256, 256), critic_hidden=(256, 256), samples=4, n_step=1, bootstrap="mean", members=2, kl_mean=0.139, kl_std=2e3)
# rewards are divided there, on Hopper-v5 by about 50, and the KL's weights with them; the deviation's is light, since one that is held lets
# the temperature rise without end. It begins where the temperature aims
STRONG = {
    "policy": "squashed",
    "bootstrap": "draw",
    "entropy": ACTOR["alpha0"],
    "entropy_std": ACTOR["entropy_std"],
    "std0": ACTOR["entropy_std"],
    "kl_mean": 2.8e-3,
    "kl_std": 0.2,
    "copy_every": 1,
}
PRESETS = {
    "paper": Config(),
    "modern": MODERN,
    "strong": replace(MODERN, **CRITIC | STRONG | {"critic_hidden": CRITIC["hidden"]}),
    "strong-small": replace(MODERN, **SMALL_CRITIC | STRONG | {"critic_hidden": SMALL_CRITIC["hidden"]}),
}


class Nets(NamedTuple):
    """The functions of theta."""

    policy: UnboundedPolicy
    q: QNetwork


@dataclass
class State:
    """What an update changes, every tensor with the seeds as its first axis; and the functions of theta, which it does not change.

    ``log_weight``: of the KL's parts, mean and std, (S, 2, A). ``moved``: those parts when the targets moved last, (S, 2, A): how
    far the policy went from one move of its target to the next. ``log_factor``: the logarithm of what the temperature ``entropy`` is
    multiplied by, (S,).
    """

    nets: Nets
    policy: Adam
    policy_target: Tensor
    q: Adam
    q_target: Tensor
    log_weight: Adam
    moved: Tensor
    log_factor: Adam


class Noise(NamedTuple):
    """N(0, I) of one update, ``GaussianMixture.draw``'s: of N actions at the next states of d minibatches, (S, d B, n, ...), and at those
    of the last, and of those for the Fisher matrix; (S, B, n, ...) each."""

    after: Tensor
    now: Tensor
    fisher: Tensor


def networks(cfg: Config, obs: int, action: int) -> Nets:
    """Makes the networks of a configuration, for so many numbers of an observation and of an action."""
    net = MLP((obs, *cfg.hidden, cfg.components * (1 + 2 * action)), "layernorm")
    q = critic(cfg, obs + action, cfg.critic_hidden, "layernorm")
    return Nets(UnboundedPolicy(net, cfg.components, action, cfg.std0), q)


def init(
    cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device, nets: Nets | None = None
) -> State:
    """Makes a fresh state of len(generators) seeds."""
    nets, seeds = nets or networks(cfg, obs, action), len(generators)
    policy, q = nets.policy.init(generators).to(device), nets.q.init(cfg.members, generators).to(device)
    weights = torch.tensor([cfg.kl_mean, cfg.kl_std], device=device, dtype=policy.dtype)
    log_weight = weights.log()[:, None].repeat(seeds, 1, action)
    fall = cfg.lr_fall // cfg.policy_delay
    adams = Adam(policy, cfg.lr, fall), Adam(q, cfg.lr, cfg.lr_fall), Adam(log_weight, cfg.dual_lr)
    factor = Adam(torch.zeros(seeds, device=device), cfg.lr, fall)
    return State(nets, adams[0], policy.clone(), adams[1], q.clone(), adams[2], torch.zeros_like(log_weight), factor)


def act_noise(cfg: Config, action: int, n: int, draw: Streams) -> Tensor:
    """Draws from N(0, I), (S, n, A), or A + 1 numbers for a mixture, held for up to ``held`` steps."""
    return draw.held(n, noise_size(cfg.components, action), cfg.held)


def act(cfg: Config, state: State, obs: Tensor, noise: Tensor) -> Tensor:
    """Returns a draw from the policy, (S, n, A), as the critic sees it: cut to the cube, or squashed by tanh."""
    return bounded(cfg, state.nets.policy.law(state.policy.theta, obs).draw(noise))


def greedy(cfg: Config, state: State, obs: Tensor) -> Tensor:
    """Returns the mean, or of several the one with the largest Q, (S, n, A); cut or squashed."""
    policy, q = state.nets
    actions = bounded(cfg, policy.law(state.policy.theta, obs).mean)
    return actions[..., 0, :] if cfg.components == 1 else q.best(state.q.theta, obs, actions)


def noise(cfg: Config, action: int, draw: Streams) -> Noise:
    """Draws the noise of ``update``."""
    size, fisher = noise_size(cfg.components, action), cfg.fisher if cfg.policy == "mixture" else 0
    after = draw.normal(cfg.policy_delay * cfg.batch, 1 if cfg.bootstrap == "draw" else cfg.samples, size)
    return Noise(after, *(draw.normal(cfg.batch, n, size) for n in (cfg.samples, fisher)))


def bounded(cfg: Config, u: Tensor) -> Tensor:
    """Returns a draw as an action: squashed by tanh, or what the environment makes of it, cut."""
    return torch.tanh(u) if cfg.policy == "squashed" else u.clamp(-1.0, 1.0)


def temperature(cfg: Config, state: State) -> Tensor:
    """Returns the temperature of the entropy term, (S, 1): ``entropy``, or what has become of it."""
    return cfg.entropy * state.log_factor.theta.exp()[:, None]


def entropy_of(cfg: Config, law: GaussianMixture, u: Tensor) -> Tensor:
    """Returns the entropy of a policy of one Gaussian, (S, B), in nats: the Gaussian's, and of a squashed one sum log(1 - tanh^2 u) more.

    The latter is its mean over draws u (S, B, N, A).
    """
    found = entropy(law.std.log())[..., 0]
    return found + tanh_log_det(u).mean(-1) if cfg.policy == "squashed" else found


def slope(cfg: Config, state: State, obs: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Returns Q, and what draws u (S, B, N, A) are to climb, in u: of a squashed law Q's gradient through tanh, so that its flow stays
    finite far out, and with an entropy term that of entropy log(1 - tanh^2 u) = -2 entropy tanh u.

    Q is fitted inside the cube alone, since the environment cuts actions. Beyond it Q goes on as there where it falls outwards, and is
    flat where it rises. Departs: the authors' open critic cuts too, which leaves no gradient outside, and a policy that is wholly out
    there never learns to come back. Pinned by test_a_policy_beyond_the_bounds_comes_back.
    """
    action = bounded(cfg, u)
    value, found = state.nets.q.slope(state.q.theta, obs, action)
    found = SQUASH[cfg.squash](found)
    if cfg.policy == "squashed":
        return value, found * (1.0 - action.square()) - 2.0 * temperature(cfg, state)[..., None, None] * action
    return value, found.masked_fill((u.abs() > 1.0) & (found * u > 0.0), 0.0)


def projected(cfg: Config, law: GaussianMixture, u: Tensor, slope: Tensor, noise: Tensor) -> GaussianMixture:
    """Returns the flow of draws u along their slopes, projected on the law's parameters and summed over the draws: what to add to them."""
    if cfg.components == 1:
        d_mean, d_std = projection.gaussian((u - law.mean) / law.std, slope)
        return GaussianMixture(torch.zeros_like(law.logits), d_mean[..., None, :], d_std[..., None, :])

    def log_prob(phi: Tensor, u: Tensor) -> Tensor:
        return unflat(phi, law).log_prob(u)

    draws, near = law.draw(noise), block_fisher(law)
    return unflat(projection.direction(log_prob, flat(law), u, slope, draws, damping=cfg.damping, steps=cfg.cg_steps, likely=near), law)


def evaluate_(cfg: Config, state: State, part: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Takes one gradient step of Q towards y = r + discount V(s') on a minibatch, then moves its target; the loss and the mean Q, (S,).

    V is of Q_target at actions of the target policy, drawn by ``noise``, and of that policy's entropy.
    """
    policy, q = state.nets
    after, reward = policy.law(state.policy_target, part.next_obs), cfg.reward_scale * part.reward
    u = after.draw(noise)
    action, bonus = bounded(cfg, u), temperature(cfg, state) * entropy_of(cfg, after, u)
    if cfg.bootstrap == "draw":
        pairs = Pairs(part.obs, part.action, part.next_obs, action[..., 0, :])
        y = q.backup(state.q_target, pairs, reward, part.discount, bonus)
        found = train_(state.q, q, partial(QNetwork.error, pairs=pairs, y=y))
    else:
        value = BOOTSTRAPS[cfg.bootstrap](q.least(state.q_target, part.next_obs, action), cfg.sharpness) + bonus
        y = td_target(reward, part.discount, value)
        found = train_(state.q, q, partial(QNetwork.fit, obs=part.obs, action=part.action, y=y))
    state.q_target.lerp_(state.q.theta, cfg.tau * due(cfg, state.q))
    return found


def due(cfg: Config, adam: Adam) -> Tensor:
    """Returns 1 where a network's target is to move, by its steps, else 0."""
    return (adam.steps % cfg.copy_every == 0).to(adam.theta)


def update(cfg: Config, state: State, batch: Batch, noise: Noise) -> Info:
    """Takes one gradient step of Q on each of ``policy_delay`` minibatches, then one of the policy on the last."""
    policy = state.nets.policy

    # Update Q function; update its target
    for last, xi in zip(batch.parts(cfg.batch), torch.split(noise.after, cfg.batch, 1), strict=True):
        q_loss, q_values = evaluate_(cfg, state, last, xi)

    # Update policy: along the projected flow of its N actions, by the loss -<flow, phi>, with N times the entropy of its Gaussian, inside
    # a soft trust region sum_d weight KL(target policy || policy)
    weight, target = state.log_weight.theta.exp(), policy.law(state.policy_target, last.obs)
    alpha = temperature(cfg, state)

    def policy_loss(policy: UnboundedPolicy, theta: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, GaussianMixture, Tensor]]:
        law = policy.law(theta, last.obs)
        u = law.detach().draw(noise.now)
        value, rise = slope(cfg, state, last.obs, u)
        flow = projected(cfg, law.detach(), u, rise, noise.fisher)
        gain = sum((along * part).flatten(2).sum(-1) for along, part in zip(flow, law, strict=True))
        gain = gain + cfg.samples * alpha * law.std.log().sum((-2, -1))
        kl = torch.stack([part.mean(1) for part in decoupled_kl(target, law)], 1)
        return (weight * kl).sum((1, 2)) - gain.mean(-1), (value, u, law, kl)

    _, (value, u, law, kl) = train_(state.policy, policy, policy_loss)

    # Update KL weights: descend log weight (bound - KL), per dimension. Departs: Abdolmaleki et al. 2018 descend weight (bound - KL) in
    # a raw weight, which Adam moves by its step size: from 1e4 it would need a million updates
    if cfg.kl == "hard":
        bound = kl.new_tensor([cfg.bound_mean, cfg.bound_std])[:, None]
        descend_(state.log_weight, lambda log_weight: (log_weight * (bound - kl)).sum((1, 2)))
        state.log_weight.theta.clamp_(min=FLOOR)

    # Update temperature: descend log temperature (entropy - target entropy)
    if cfg.entropy_std:
        spread = entropy_of(cfg, law, u).mean(-1) - entropy_target(last.action.shape[-1], cfg.entropy_std)
        descend_(state.log_factor, lambda log_factor: log_factor * spread)

    # Update target
    state.policy_target.lerp_(state.policy.theta, cfg.tau * due(cfg, state.policy))
    state.moved.lerp_(kl, due(cfg, state.policy))

    def info() -> dict[str, Tensor]:
        density = law.squashed_log_prob(u) if cfg.policy == "squashed" else law.log_prob(u)
        return {
            "losses/q": q_loss,
            "losses/q_values": q_values,
            "losses/policy": -value.mean((1, 2)),
            "policy/entropy": -density.mean((1, 2)),
            "policy/alpha": alpha[:, 0],
            "policy/std": law.std.mean((1, 2, 3)),
            "policy/kl_mean": state.moved[:, 0].sum(-1),
            "policy/kl_std": state.moved[:, 1].sum(-1),
            "policy/outside": (u.abs() > 1.0).to(u).mean((1, 2, 3)),
        }

    return info


def cube_root(x: Tensor) -> Tensor:
    """Returns sign(x) |x|^(1/3)."""
    return x.sign() * x.abs().pow(1.0 / 3.0)


SQUASH: dict[str, Callable[[Tensor], Tensor]] = {"identity": lambda g: g, "cbrt": cube_root}
