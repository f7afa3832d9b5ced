"""What on-policy agents share: M policies per seed with a critic each, how they act, and the advantages of a segment."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wgf.agents.training.compiled import piece
from wgf.agents.training.descent import Adam, descend_, gradients
from wgf.agents.training.protocol import Streams
from wgf.agents.training.rollout import Rollout, Segment
from wgf.agents.training.targets import gae
from wgf.mlp import MLP
from wgf.policies.critics import VNetwork, squared_error
from wgf.policies.diagonal import DiagonalPolicy

__all__ = [
    "Nets", "Settings", "State", "act", "act_noise", "ascent", "begin", "estimate", "explore", "fit_", "greedy", "learned", "networks",
    "noise", "part_of_gradient", "policy_gradient", "regress_", "segments", "standardised",
]  # fmt: skip

TIMES = 50  # of a segment at once: few enough that the hidden layers stay in the cache


@dataclass(frozen=True)
class Settings:
    """Policies that step once a segment; the defaults are those of Zhang et al. 2018, Table 4."""

    hidden: tuple[int, ...] = (25, 16)
    """Hidden units of policies and critics."""
    activation: str = "tanh"
    """Activation: tanh or relu."""
    batch: int = 5000
    """Environment steps per update and policy; a multiple of envs."""
    envs: int = 10
    """Environments per policy, side by side."""
    lr: float = 5e-3
    """Adam's step size for the policies."""
    critic_lr: float = 1e-2
    """Adam's step size for the critics."""
    critic_steps: int = 20
    """Steps of the critics per update, which share its samples out; at most batch / envs."""
    gamma: float = 0.99
    """Discount."""
    lam: float = 1.0
    """Lambda of the advantages: 1 is REINFORCE with a baseline, 0 advantage actor-critic."""
    reward_scale: float = 1.0
    """Factor of the reward."""
    weight_noise: float = 0.0
    """Deviation of the noise on a policy's weights while it collects a segment: exploration in parameter space."""
    sigma: Literal["fixed", "learned"] = "fixed"
    """fixed: the deviation of every weight's noise is weight_noise. learned: each weight has its own, which starts there and moves as the
    weights do (Zhang et al. 2018, Eq. 22); Fortunato et al. 2018 start at 0.017."""

    def __post_init__(self) -> None:
        if self.envs < 1:
            raise ValueError(f"envs is {self.envs}; it must be at least 1")
        if self.batch % self.envs:
            raise ValueError(f"batch is {self.batch}; it must be a multiple of envs, {self.envs}")
        if self.critic_steps > self.batch // self.envs:
            raise ValueError(f"critic_steps is {self.critic_steps}; it must be at most batch / envs, {self.batch // self.envs}")


class Nets(NamedTuple):
    """The functions of theta."""

    policy: DiagonalPolicy
    v: VNetwork


@dataclass
class State:
    """What an update changes, seeds first and policies second in every tensor; and the functions of theta, which it does not change.

    ``policy``: moves the parameters mu of the policies, and behind them the deviations sigma of their noise, where these are learned.
    ``noisy``: the parameters of the policies that collect, where there is weight noise. ``xi``: the noise in them, where sigma is learned.
    """

    nets: Nets
    policy: Adam
    v: Adam
    noisy: Tensor | None = None
    xi: Tensor | None = None

    @property
    def mu(self) -> Tensor:
        """Returns the parameters of the policies without noise, (S, M, P)."""
        return self.policy.theta if self.xi is None else self.policy.theta.chunk(2, -1)[0]

    @property
    def collector(self) -> Tensor:
        """Returns the parameters of the policies that collect."""
        return self.policy.theta if self.noisy is None else self.noisy


def explore(cfg: Settings, state: State, draw: Streams) -> None:
    """Draws theta~ = mu + sigma xi, xi ~ N(0, I), before a segment: it collects, and grad J is taken at theta~.

    So the update ascends E J(mu + sigma xi), the return of a Gaussian over weights. sigma is ``weight_noise``, or learned, one number per
    weight (S, M, P). A layer of theta~ is Eq. 22's y = (mu_w + sigma_w xi_w) x + mu_b + sigma_b xi_b.

    **Source** Zhang et al. 2018, Eq. 22 and Sec. 5, where one particle with it is noisy exploration; Plappert et al. 2018, Sec. 3, for the
    fixed sigma; Fortunato et al. 2018, Sec. 3, for the learned one, whose actor-critic too keeps xi for a whole rollout. **Limits** log
    std, which is in no layer, has noise as every other parameter.
    """
    if state.noisy is None:
        return
    xi = draw.normal(*state.noisy.shape[1:])
    if state.xi is None:
        state.noisy.copy_(state.mu + cfg.weight_noise * xi)
    else:
        mu, sigma = state.policy.theta.chunk(2, -1)
        state.noisy.copy_(mu + sigma * xi)
        state.xi.copy_(xi)


def segments(cfg: Settings, policies: int) -> Rollout:
    """Says how so many policies per seed collect."""
    steps = cfg.batch // cfg.envs
    pieces = cfg.critic_steps + -(-steps // TIMES)
    return Rollout(policies, cfg.envs, steps, cfg.gamma, pieces=pieces, explore=partial(explore, cfg))


def act_noise(cfg: object, action: int, n: int, draw: Streams) -> Tensor:
    """Draws xi ~ N(0, I), (S, n, A)."""
    return draw.normal(n, action)


def act(cfg: object, state: State, obs: Tensor, noise: Tensor) -> Tensor:
    """Draws (S, n, A): of n states the first n / M are the first policy's, and so on."""
    theta = state.collector
    each = (theta.shape[1], -1)
    return state.nets.policy.draw(theta, torch.unflatten(obs, 1, each), torch.unflatten(noise, 1, each)).action.flatten(1, 2)


def greedy(cfg: object, state: State, obs: Tensor) -> Tensor:
    """Returns the means, (S, n, A), dealt as in ``act``."""
    theta = state.mu
    return state.nets.policy.mode(theta, torch.unflatten(obs, 1, (theta.shape[1], -1))).flatten(1, 2)


def noise(cfg: object, action: int, draw: Streams) -> None:
    """One step per segment needs none."""


def estimate(value: Callable[[Tensor], Tensor], segment: Segment, reward_scale: float, decay: float) -> tuple[Tensor, Tensor]:
    """Returns (advantages, targets of V = advantages + V), (S, M, T, E) each, by ``gae``; decay = gamma lambda; ``value``: obs -> V."""
    now, after = (torch.cat([value(part) for part in torch.split(x, TIMES, 2)], 2) for x in (segment.obs, segment.next_obs))
    advantage = gae(reward_scale * segment.reward, segment.discount, now, after, segment.ended, decay)
    return advantage, advantage + now


def standardised(advantage: Tensor) -> Tensor:
    """Moves and scales to mean 0 and deviation 1 over a policy's samples, (S, M, B): the unit in which temperatures are meant."""
    deviation, mean = torch.std_mean(advantage, -1, correction=0, keepdim=True)
    return (advantage - mean) / (deviation + 1e-8)


def ascent(state: State, segment: Segment, advantage: Tensor) -> Tensor:
    """Returns the gradient of E J(theta~) in what ``state.policy`` moves, shaped as it, from one theta~ = mu + sigma xi.

    g = grad J at theta~ in mu, and, where sigma is learned, g xi in sigma behind it, by the chain rule. **Source** Fortunato et al. 2018,
    Sec. 3 (reparameterisation); Zhang et al. 2018, Eq. 22. **Sign** to add: it ascends. **Limits** one draw of xi per policy and segment:
    unbiased where J's gradient is, and noisy in sigma, whose mean is E[g xi].
    """
    found = policy_gradient(state.nets.policy, state.collector, segment, advantage)
    return found if state.xi is None else torch.cat([found, found * state.xi], -1)


def learned(state: State) -> dict[str, Tensor]:
    """Returns the mean size of the deviations of the weights' noise, (S,), where they are learned; else nothing."""
    if state.xi is None:
        return {}
    return {"policy/weight_noise": state.policy.theta.chunk(2, -1)[1].abs().mean((1, 2))}


def policy_gradient(policy: DiagonalPolicy, theta: Tensor, segment: Segment, advantage: Tensor) -> Tensor:
    """Returns grad J = E[A grad log pi(a | s)], (S, M, P), from standardised advantages (S, M, T, E).

    **Source** Zhang et al. 2018, Sec. 4.1: REINFORCE or advantage actor-critic, by how the advantages were made.
    """
    weight = standardised(advantage.flatten(2)).view_as(advantage) / (advantage.shape[2] * advantage.shape[3])
    parts = zip(*(torch.split(x, TIMES, 2) for x in (segment.obs, segment.action, weight)), strict=True)
    return torch.stack([part_of_gradient(policy, theta, *(x.flatten(2, 3) for x in part)) for part in parts]).sum(0)


@piece
def part_of_gradient(policy: DiagonalPolicy, theta: Tensor, obs: Tensor, action: Tensor, weight: Tensor) -> Tensor:
    """Returns grad_theta sum_b w_b log pi(a_b | s_b), (S, M, P); obs (S, M, B, D), action (S, M, B, A), weight (S, M, B)."""
    (found,), _ = gradients(lambda theta: (weight * policy.log_prob(theta, obs, action)).sum((1, 2)), theta)
    return found


def fit_(v: VNetwork, adam: Adam, segment: Segment, target: Tensor, steps: int) -> Tensor:
    """Takes one pass down (1/2) (V - target)^2, the i-th of ``steps`` steps at times i, i + steps, ...; returns its mean before, (S,)."""
    parts = [(segment.obs[:, :, i::steps].flatten(2, 3), target[:, :, i::steps].flatten(2)) for i in range(steps)]
    return torch.stack([regress_(v, adam, obs, y) for obs, y in parts]).mean(0) / target.shape[1]


@piece
def regress_(v: VNetwork, adam: Adam, obs: Tensor, target: Tensor) -> Tensor:
    """Takes one step of M critics down (1/2) (V - target)^2, mean over samples (S, M, B): their losses before it, summed, (S,)."""
    return descend_(adam, lambda theta: squared_error(v(theta, obs), target))[0]


def networks(cfg: Settings, obs: int, action: int) -> Nets:
    """Makes the networks of a configuration, for so many numbers of an observation and of an action."""
    policy = DiagonalPolicy(MLP((obs, *cfg.hidden, action), cfg.activation), action)
    return Nets(policy, VNetwork(MLP((obs, *cfg.hidden, 1), cfg.activation)))


def begin(cfg: Settings, policies: int, nets: Nets, generators: Sequence[torch.Generator], device: torch.device) -> State:
    """Makes a fresh state: M policies of deviation 1 per seed, and their critics."""
    mu = nets.policy.init(policies, generators).to(device)
    v = Adam(nets.v.init((len(generators), policies), generators).to(device), cfg.critic_lr)
    if cfg.sigma == "learned":
        theta = torch.cat([mu, torch.full_like(mu, cfg.weight_noise)], -1)
        return State(nets, Adam(theta, cfg.lr), v, mu.clone(), torch.zeros_like(mu))
    return State(nets, Adam(mu, cfg.lr), v, mu.clone() if cfg.weight_noise else None)
