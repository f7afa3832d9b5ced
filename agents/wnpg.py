"""Wasserstein natural policy gradient (Moskovitz et al. 2020, arXiv 2010.05380, Sec. 5): PPO's epochs without its clip.

The gradient of policy and critic together is preconditioned by a Wasserstein metric: of what the policy does at the states of a
minibatch, ten actions each and V, as the authors' code has it, by kernel functions; or the policy's own in closed form.

Departs: the new and the old loss of the damping's rule are of one minibatch, and a step that leads uphill has no ratio; Adam's eps is
1e-8, there 1e-5; each transition keeps its ten draws for the whole segment; functions sit at the first states of a minibatch, whose
order is random; a penalty compares the clouds of all states of a minibatch, there state by state.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.func import vjp, vmap

from wgf import dual, kwng, natural
from wgf.agents.training import onpolicy
from wgf.agents.training.compiled import piece
from wgf.agents.training.damping import NONE, adapt_
from wgf.agents.training.descent import Adam, gradients
from wgf.agents.training.epochs import EpochSettings, begin, divergence, memory, minibatches, networks, samples, taken
from wgf.agents.training.onpolicy import Nets, act, act_noise, greedy, standardised
from wgf.agents.training.protocol import Info, Streams
from wgf.agents.training.rollout import Segment
from wgf.compiler import settled
from wgf.conjugate import conjugate_gradient
from wgf.door import traced
from wgf.dual import Features
from wgf.policies import gaussian
from wgf.policies.critics import squared_error
from wgf.transport import entropic_cost

__all__ = ["PRESETS", "Config", "State", "act", "act_noise", "greedy", "init", "memory", "networks", "noise", "update"]


SMOOTHING = 1.0  # of W2^2 in the penalty
FEATURES, WIDTH, DUAL_STEPS = 100, 0.1, 25  # of its functions: how many features, their kernel's length, and steps


@dataclass(frozen=True)
class Config(EpochSettings):
    """The defaults are those of Moskovitz et al. 2020, App. D, and of their code; their lr is the best of 1e-5, 5e-5, 1e-4 and 3e-4."""

    lr: float = 5e-5
    """Adam's step size, both networks."""
    metric: Literal["kernel", "gaussian", "none"] = "kernel"
    """Metric of the gradient. kernel: of actions and V, from samples; gaussian: the policy's alone, in closed form, by conjugate gradients;
    none: the gradient itself, the control."""
    basis: int = 5
    """Functions of the kernel metric, each one more backward pass; of a smaller minibatch, as many as it has states."""
    renew: int = 1
    """Minibatch steps from one kernel metric to the next, which is of the minibatch where it is made; the paper: 1."""
    draws: int = 10
    """Actions per state that the kernel metric sees."""
    damping: float = 1e-5
    """eps, what is added to the metric's diagonal; of the kernel metric where it starts, since a rule changes it every fifth step."""
    cg_steps: int = 10
    """Conjugate-gradient steps of the closed form."""
    max_norm: float = 0.5
    """Length at which the direction of both networks together is cut, before Adam."""
    critic_weight: float = 0.5
    """Weight of the critic's loss beside the policy's."""
    penalty: float = 0.0
    """Weight of W2^2, smoothed by 1 (Sinkhorn), between what the policy does at a minibatch's states and did at the segment's start.
    With it WNPG is BG-WNPG, and with metric none BGPG; the paper: 0.1."""
    dual: Literal["potentials", "features"] = "potentials"
    """Functions by which that W2^2 is found. potentials: Sinkhorn's; features: sums of random features, as published, which find less."""


PRESETS = {
    "paper": Config(),
    "modern": Config(lr=3e-4, metric="gaussian"),
    "bgpg": Config(metric="none", penalty=0.1),
    "bg-wnpg": Config(penalty=0.1),
}


@dataclass
class State(onpolicy.State):
    """And the damping, (S,), with the best reduction ratio since it was last changed, (S,)."""

    eps: Tensor = field(kw_only=True)
    best: Tensor = field(kw_only=True)


class Noise(NamedTuple):
    """The order in which epochs take the transitions, (S, epochs, n); xi ~ N(0, I) of each one's draws, (S, 1, n, draws, A); U(0, 1) that
    picks a coordinate for each function of each minibatch, (S, minibatches, M); the random features of the penalty."""

    order: Tensor
    xi: Tensor
    axes: Tensor
    frequencies: Tensor
    phases: Tensor


def init(
    cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device, nets: Nets | None = None
) -> State:
    """Makes a fresh state of len(generators) seeds; deviations of 1 and means near 0."""
    nets, policy, v = begin(cfg, obs, action, generators, device, nets)
    eps = torch.full((len(generators),), cfg.damping, device=device)
    return State(nets, Adam(policy, cfg.lr), Adam(v, cfg.lr), eps=eps, best=torch.full_like(eps, NONE))


def noise(cfg: Config, action: int, draw: Streams) -> Noise:
    """Draws the noise of one update."""
    n = cfg.horizon * cfg.envs
    functions = cfg.basis if cfg.metric == "kernel" else 0
    draws = cfg.draws if functions or cfg.penalty else 0
    axes = draw.uniform(cfg.epochs * -(-n // cfg.batch), functions)
    features = FEATURES if cfg.penalty and cfg.dual == "features" else 0
    order, xi = draw.permutations(cfg.epochs, n), draw.normal(1, n, draws, action)
    return Noise(order, xi, axes, draw.normal(draws * action + 1, features) / WIDTH, 2.0 * math.pi * draw.uniform(features))


def update(cfg: Config, state: State, batch: Segment, noise: Noise) -> Info:
    """Takes epochs of minibatch steps on one segment."""
    policy, v = state.nets
    obs, action, advantage, target = samples(cfg, lambda obs: v(state.v.theta, obs), batch)
    before = policy.log_prob(state.policy.theta, obs, action)
    did = behaviour(noise.xi, *outputs(state.nets, state.policy.theta, state.v.theta, obs)) if cfg.penalty else obs[..., :0]
    metric = obs.new_zeros(len(obs), noise.axes.shape[-1], state.policy.theta.shape[-1] + state.v.theta.shape[-1])
    rest = metric, obs, action, advantage, target, before, noise.xi, did, noise.frequencies, noise.phases
    steps = enumerate(zip(minibatches(noise.order, cfg.batch), noise.axes.unbind(1), strict=True))
    told = [step_(cfg, state, rows, pick[:, : None if k % cfg.renew == 0 else 0], *rest) for k, (rows, pick) in steps]
    entropy = policy.entropy(state.policy.theta)

    def info() -> dict[str, Tensor]:
        loss, distance, cosine = torch.stack(told).mean(0)
        return {
            "losses/v": loss,
            "losses/values": (target - advantage).mean((1, 2)),
            "policy/kl": distance,
            "policy/cosine": cosine,
            "policy/damping": state.eps,
            "policy/entropy": entropy[:, 0],
        }

    return info


@piece
def step_(
    cfg: Config,
    state: State,
    rows: Tensor,
    pick: Tensor,
    metric: Tensor,
    obs: Tensor,
    action: Tensor,
    advantage: Tensor,
    target: Tensor,
    before: Tensor,
    xi: Tensor,
    did: Tensor,
    frequencies: Tensor,
    phases: Tensor,
) -> Tensor:
    """Takes one step of both networks on the rows (S, k) of a segment, and renews the rows T of the kernel metric (S, M, P + Q) where
    ``pick`` has functions; the critic's loss, the ``divergence``, and the cosine of gradient and direction: (3, S)."""
    s, a, gain, y, old, z, was = (taken(t, rows) for t in (obs, action, advantage, target, before, xi, did))
    gain = standardised(gain)

    # -E[r A] + weight (1/2) (V - y)^2 + penalty W2^2, r = pi(a | s) / pi_old(a | s), by means, log std and V at the states
    def loss(*out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_std, predicted = out
        log_ratio = gaussian.log_prob(a, mean, log_std[:, :, None]) - old
        error, _ = squared_error(predicted, y)
        found = cfg.critic_weight * error - (log_ratio.exp() * gain).mean((1, 2))
        if cfg.penalty:
            moved = distance(behaviour(z, *out)[:, 0], was[:, 0], Features(frequencies, phases))
            found = found + cfg.penalty * moved
        return found, error, log_ratio

    # Its gradient in policy and critic together, and with it, by one backward pass, the rows of the kernel metric's Jacobian
    out, back = vjp(lambda theta, w: outputs(state.nets, theta, w, s), state.policy.theta, state.v.theta)[:2]
    slope, (value, error, log_ratio) = gradients(loss, *out)
    slopes, cotangents = functions(out, z, pick)
    passed = [torch.cat([one[None], each]) for one, each in zip(slope, cotangents, strict=True)]
    pulled = torch.cat(vmap(lambda *c: back(c))(*passed), -1)[:, :, 0]
    gradient, theta = pulled[0], torch.cat([state.policy.theta, state.v.theta], -1)[:, 0]
    if found := slopes.shape[1]:
        metric[:, :found] = kwng.whitened(slopes, pulled[1:].movedim(0, 1)).rows
        metric[:, found:] = 0.0

    # Direction (G + eps)^-1 g; g itself where that is no ascent; no longer than max_norm
    direction = preconditioned(cfg, state, gradient, s, metric)
    product = (direction * gradient).sum(-1, keepdim=True)
    direction = torch.where(product > 0.0, direction, gradient)
    direction = direction * (cfg.max_norm / (direction.norm(dim=-1, keepdim=True) + 1e-6)).clamp_max(1.0)
    direction = settled(direction) if traced() else direction  # Inductor of torch 2.13 cannot join Adam's loops to these
    down, down_v = direction[:, None].split([state.policy.theta.shape[-1], state.v.theta.shape[-1]], -1)
    state.policy.step(down)
    state.v.step(down_v)

    # Damping: by what the loss of these rows fell, beside what the metric predicts
    if cfg.metric == "kernel":
        with torch.no_grad():
            after = loss(*outputs(state.nets, state.policy.theta, state.v.theta, s))[0]
        moved = (gradient * (theta - torch.cat([state.policy.theta, state.v.theta], -1)[:, 0])).sum(-1)
        fell = torch.where(moved > 0.0, 2.0 * (value - after) / moved, NONE)  # Adam's momentum may lead uphill
        adapt_(state.eps, state.best, fell, state.policy.steps)
    cosine = torch.cosine_similarity(direction, gradient, -1)
    return torch.stack([error, divergence(log_ratio), cosine])


def distance(x: Tensor, y: Tensor, features: Features) -> Tensor:
    """Returns the smoothed W2^2 of clouds (S, k, D), (S,): Sinkhorn's, or what functions of the features find, if there are any."""
    if not features.phases.shape[-1]:
        return entropic_cost(x, y, SMOOTHING)
    return dual.value(x, y, SMOOTHING, dual.maximised(x, y, SMOOTHING, features, steps=DUAL_STEPS))


def functions(out: tuple[Tensor, ...], xi: Tensor, pick: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Returns the gradients of the kernel metric's functions in what the policy does, (S, M, k, d), and those of their means in the
    networks' outputs, M of each; M is as many as ``pick`` has."""
    if not pick.shape[-1]:
        return out[0][:, :0], tuple(t.new_zeros(0, *t.shape) for t in out)
    seen, down = vjp(lambda *out: behaviour(xi, *out)[:, 0], *out)[:2]
    points = seen[:, : pick.shape[-1]]
    axes = (pick * seen.shape[-1]).long()[:, : points.shape[1]]
    slopes = kwng.spanned(seen, points, axes).slopes(seen)
    return slopes, vmap(down)(slopes.movedim(1, 0) / seen.shape[1])


def preconditioned(cfg: Config, state: State, gradient: Tensor, obs: Tensor, rows: Tensor) -> Tensor:
    """Returns (G + eps D^-1)^-1 g, (S, P + Q), of policy and critic together; G the kernel metric of rows T (S, M, P + Q), or the policy's
    own at states (S, 1, k, D)."""
    policy, theta = state.nets.policy, state.policy.theta
    if cfg.metric == "none":
        return gradient
    if cfg.metric == "kernel":
        return kwng.Metric(rows).solve(gradient, state.eps, "columns")
    size = theta.shape[-1]
    metric = natural.damped(policy.wasserstein(theta, obs), cfg.damping)
    own, _, _ = conjugate_gradient(metric, gradient[:, None, :size], steps=cfg.cg_steps)
    return torch.cat([own[:, 0], gradient[:, size:]], -1)


def outputs(nets: Nets, theta: Tensor, w: Tensor, obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns means (S, 1, k, A) and V (S, 1, k) at states (S, 1, k, D), and between them log std, (S, 1, A)."""
    return nets.policy.mode(theta, obs), nets.policy.log_std(theta), nets.v(w, obs)


def behaviour(xi: Tensor, mean: Tensor, log_std: Tensor, value: Tensor) -> Tensor:
    """Returns what a policy does: at each state an action for each draw xi (S, 1, k, draws, A), and V, (S, 1, k, draws A + 1)."""
    actions = mean[..., None, :] + log_std.exp()[:, :, None, None] * xi
    return torch.cat([actions.flatten(-2), value[..., None]], -1)
