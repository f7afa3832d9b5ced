"""Two updates of every agent against the same updates written by hand.

By hand: one seed at a time, one state and one action at a time, log-densities from torch.distributions, gradients by plain autograd of
the paper's objective, velocities by double loops, and Adam from its paper. Networks, targets and previous policies all start different.
"""

import math
from dataclasses import fields, replace
from itertools import permutations
from types import ModuleType
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from torch.distributions import Normal

from wgf import transport
from wgf.agents import ddpg, dp_wgf, dp_wgf_v, sac, sac_v, soft_q, wgf_sac
from wgf.agents.training.protocol import Batch, Streams

D, A, B, M = 3, 2, 3, 4
PHI = {"tanh": torch.tanh, "relu": torch.relu}
TINY = {"hidden": (8,), "batch": B, "lr": 1e-2, "tau": 0.2, "reward_scale": 3.0}
FLOW = {"particles": M, "w2_scale": 0.3}


pytestmark = pytest.mark.usefixtures("double")


# --- by hand: networks, Adam, velocities ------------------------------------------------------------------------------


def network(parameters, x, cfg, member=None):
    """One network (or one member of an ensemble) on one input vector; ``parameters`` are its weights, then its biases."""
    layers = len(parameters) // 2
    for i in range(layers):
        w, b = parameters[i], parameters[layers + i]
        w, b = (w, b) if member is None else (w[member], b[member])
        x = (PHI[cfg.activation](x) if i else x) @ w + b[0]
    return x


class Adam:
    """Kingma & Ba 2015, Algorithm 1."""

    def __init__(self, parameters, lr):
        self.parameters, self.lr, self.t = parameters, lr, 0
        self.m, self.v = [[torch.zeros_like(p) for p in parameters] for _ in range(2)]

    @torch.no_grad()
    def step(self, gradients):
        self.t += 1
        for p, g, m, v in zip(self.parameters, gradients, self.m, self.v, strict=True):
            m.copy_(0.9 * m + 0.1 * g)
            v.copy_(0.999 * v + 0.001 * g * g)
            p -= self.lr * (m / (1.0 - 0.9**self.t)) / (torch.sqrt(v / (1.0 - 0.999**self.t)) + 1e-8)


def vectors(state):
    """Every theta of a state by its name: what optimisers move, targets and previous policies."""
    named = {f.name: getattr(state, f.name) for f in fields(state) if f.name != "nets"}
    return {name: getattr(value, "theta", value) for name, value in named.items()}


def tensors_of(state, name, theta):
    """Weights, then biases, of a vector (of a target, or of moments) shaped as the theta of that name; a temperature or a scale itself."""
    if name in ("log_alpha", "log_factor"):
        return [theta]
    net = getattr(state.nets, {"previous": "policy"}.get(name, name.removesuffix("_target"))).net
    return [t for pair in zip(*net.layers(theta), strict=True) for t in pair]


class Alone:
    """One seed of a state as lists of leaf tensors, and what is done with them."""

    def __init__(self, state, s, cfg):
        self.cfg = cfg
        self.p = {name: [p[s].clone().requires_grad_() for p in tensors_of(state, name, t)] for name, t in vectors(state).items()}
        steps = {"q": getattr(cfg, "critic_lr", cfg.lr), "log_factor": getattr(cfg, "dual_lr", cfg.lr)}
        moved = [f.name for f in fields(state) if hasattr(getattr(state, f.name), "theta")]
        self.adam = {name: Adam(self.p[name], steps.get(name, cfg.lr)) for name in moved}

    def descend(self, name, gradients):
        self.adam[name].step(gradients)

    @torch.no_grad()
    def smooth(self, target, source, rate):
        for p, q in zip(self.p[target], self.p[source], strict=True):
            p.copy_((1.0 - rate) * p + rate * q)

    def q(self, obs, action, name="q"):
        """Q of every member at one state and action."""
        members = len(self.p[name][0])
        return torch.stack([network(self.p[name], torch.cat([obs, action]), self.cfg, e)[0] for e in range(members)])

    def v(self, obs, name="v"):
        return network(self.p[name], obs, self.cfg)[0]

    def alpha(self):
        return self.p["log_alpha"][0].detach().exp()

    def fit_q(self, batch, next_value):
        """Descends sum_e mean_b (Q_e(s, a) - r - discount V(s'))^2 / 2, ``next_value(b)`` = V(s'_b)."""
        q = torch.stack([self.q(batch.obs[b], batch.action[b]) for b in range(B)])
        y = torch.stack([self.cfg.reward_scale * batch.reward[b] + batch.discount[b] * next_value(b) for b in range(B)]).detach()
        loss = sum((q[b] - y[b]).square().sum() / 2.0 for b in range(B)) / B
        self.descend("q", torch.autograd.grad(loss, self.p["q"]))
        return {"losses/q": loss, "losses/q_values": q.mean()}

    def fit_v(self, batch, target):
        loss = sum((self.v(batch.obs[b]) - target(b).detach()).square() / 2.0 for b in range(B)) / B
        self.descend("v", torch.autograd.grad(loss, self.p["v"]))
        return {"losses/v": loss}

    def fit_alpha(self, log_prob):
        """alpha by d/dlog alpha of -log alpha (log pi - A), a target entropy of -A."""
        self.descend("log_alpha", [-(log_prob.detach().mean() - A)])


def normal_log_prob(u, mean, log_std):
    return Normal(mean, log_std.exp()).log_prob(u).sum()


def jacobian(u):
    """sum log(1 - tanh^2 u)."""
    return -2.0 * torch.log(torch.cosh(u)).sum()


def gaussian(out):
    """Mean and log std, two halves of a network's output; log std within (-20, 2)."""
    return out[: len(out) // 2], out[len(out) // 2 :].clamp(-20.0, 2.0)


def svgd(x, score, groups):
    """Eq. 7 with h = med^2 / log M and without its term j = i, particle by particle; every group weighs 1 / groups.

    A group of one has no other draw: then Eq. 7 as it stands.
    """
    n, size = len(x), len(x) // groups
    lengths = sorted(torch.dist(x[i], x[j]).item() for i in range(n) for j in range(i))
    med = (lengths[(len(lengths) - 1) // 2] + lengths[len(lengths) // 2]) / 2.0
    h = med**2 / math.log(n)
    v = torch.zeros_like(x)
    for i in range(n):
        for j in [j for j in range(n) if j != i or size == 1]:
            k = torch.exp(-(x[i] - x[j]).square().sum() / h)
            others = size - 1 if i // size == j // size and size > 1 else size
            v[i] += (k * score[j] + 2.0 / h * (x[i] - x[j]) * k) / (groups * others)
    return v


def blob(x, score):
    """v_i = score_i + sum_j grad_j k_ij (1 / k_i + 1 / k_j), k_i = sum_j k_ij, with h as above."""
    n = len(x)
    lengths = sorted(torch.dist(x[i], x[j]).item() for i in range(n) for j in range(i))
    h = ((lengths[(len(lengths) - 1) // 2] + lengths[len(lengths) // 2]) / 2.0) ** 2 / math.log(n)
    k = [[torch.exp(-(x[i] - x[j]).square().sum() / h) for j in range(n)] for i in range(n)]
    v = score.clone()
    for i in range(n):
        for j in range(n):
            v[i] += 2.0 / h * (x[i] - x[j]) * k[i][j] * (1.0 / sum(k[i]) + 1.0 / sum(k[j]))
    return v


def eq9(x, y, total):
    """Eq. 9 with lam = med^2 / log M, its sum or its mean."""
    n = len(x)
    c = [[(x[i] - y[j]).square().sum() for j in range(n)] for i in range(n)]
    lengths = sorted(math.sqrt(c[i][j].item()) for i in range(n) for j in range(n))
    lam = ((lengths[(n * n - 1) // 2] + lengths[n * n // 2]) / 2.0) ** 2 / math.log(n)
    v = torch.zeros_like(x)
    for i in range(n):
        for j in range(n):
            v[i] += 2.0 * (1.0 - c[i][j] / lam) * torch.exp(-c[i][j] / lam) * (x[i] - y[j]) / (1.0 if total else n)
    return v


def assigned(x, y):
    """To the pairing of least total cost, found among all of them."""
    return min((y[list(order)] - x for order in permutations(range(len(x)))), key=lambda t: t.square().sum().item())


W2 = {
    "eq9_sum": lambda x, y: torch.stack([eq9(*pair, True) for pair in zip(x, y, strict=True)]),
    "eq9_mean": lambda x, y: torch.stack([eq9(*pair, False) for pair in zip(x, y, strict=True)]),
    "common_noise": lambda x, y: y - x,
    "exact": lambda x, y: torch.stack([assigned(*pair) for pair in zip(x, y, strict=True)]),
    "entropic": transport.entropic,  # iterations, whose tests are the engine's own
    "debiased": transport.debiased,
}


def flow(alone, batch, u, alpha, u_prev=None, factor=1.0, density=None):
    """Descends the policy's parameters along the particles u (B, M, A): -d/dphi <x, KL velocity + scale W2> / (B M). Returns Info.

    ``density(b, u)``: log density of u at state b, where the KL velocity may take it.
    """
    cfg = alone.cfg
    exact = getattr(cfg, "squash", "exact") == "exact"
    x = u if exact else torch.tanh(u)
    score, value = torch.zeros_like(u), torch.zeros(B, M)
    for b in range(B):
        for m in range(M):
            at = x[b, m].detach().requires_grad_()
            a = torch.tanh(at) if exact else at
            value_at = alone.q(batch.obs[b], a).min()
            barrier = torch.log(1.0 - a.square() + (0.0 if exact else 1e-6)).sum()
            (score[b, m],) = torch.autograd.grad(value_at / alpha + barrier, at)
            value[b, m] = value_at.detach()
    kind = getattr(cfg, "kl", "svgd")
    if kind == "density":
        kl = torch.zeros_like(u)
        for b in range(B):
            for m in range(M):
                at = x[b, m].detach().requires_grad_()
                kl[b, m] = score[b, m] - torch.autograd.grad(density(b, at), at)[0]
    else:
        kl = torch.stack(
            [
                blob(x[b].detach(), score[b]) if kind == "blob" else svgd(x[b].detach(), score[b], getattr(cfg, "components", 1))
                for b in range(B)
            ]
        )
    info = {"losses/policy": -value.mean(), "flow/kl_speed": kl.norm(dim=-1).mean()}
    v = kl
    if u_prev is not None:
        x_prev = u_prev if exact else torch.tanh(u_prev)
        w2 = torch.zeros_like(kl)
        if cfg.w2_scale:
            w2 = factor * cfg.w2_scale * W2[cfg.w2](x.detach(), x_prev.detach())
        v = kl + w2
        info |= {"flow/w2_speed": w2.norm(dim=-1).mean(), "flow/w2": (x - x_prev).square().sum(-1).mean()}
        alone.smooth("previous", "policy", 1.0 if cfg.previous == "last" else cfg.tau)  # before the policy moves: phi_{k-1}
    alone.descend("policy", torch.autograd.grad(x, alone.p["policy"], grad_outputs=-v / (B * M)))
    return info


# --- by hand: the updates ---------------------------------------------------------------------------------------------


def ddpg_by_hand(alone, batch, noise):
    def mu(obs, name="policy"):
        return torch.tanh(network(alone.p[name], obs, alone.cfg))

    info = alone.fit_q(batch, lambda b: alone.q(batch.next_obs[b], mu(batch.next_obs[b], "policy_target"), "q_target").min())
    loss = -sum(alone.q(batch.obs[b], mu(batch.obs[b])).min() for b in range(B)) / B
    alone.descend("policy", torch.autograd.grad(loss, alone.p["policy"]))
    alone.smooth("q_target", "q", alone.cfg.tau)
    alone.smooth("policy_target", "policy", alone.cfg.tau)
    return info | {"losses/policy": loss}


def sac_by_hand(alone, batch, noise):
    cfg, alpha = alone.cfg, alone.alpha()

    def draw(obs, xi):
        mean, log_std = gaussian(network(alone.p["policy"], obs, cfg))
        u = mean + log_std.exp() * xi
        return torch.tanh(u), normal_log_prob(u, mean, log_std) - jacobian(u)

    def next_value(b):
        a, log_prob = draw(batch.next_obs[b], noise[b])
        return alone.q(batch.next_obs[b], a, "q_target").min() - alpha * log_prob

    info = alone.fit_q(batch, next_value)
    samples = [draw(batch.obs[b], noise[B + b]) for b in range(B)]
    log_prob = torch.stack([sample[1] for sample in samples])
    q = torch.stack([alone.q(batch.obs[b], samples[b][0]).min() for b in range(B)])
    loss = (alpha * log_prob - q).mean()
    alone.descend("policy", torch.autograd.grad(loss, alone.p["policy"]))
    alone.fit_alpha(log_prob)
    alone.smooth("q_target", "q", cfg.tau)
    return info | {"losses/policy": loss, "policy/entropy": -log_prob.mean(), "policy/alpha": alpha}


def sac_v_by_hand(alone, batch, noise):
    cfg, k = alone.cfg, alone.cfg.components

    def heads(obs):
        out = network(alone.p["policy"], obs, cfg)
        return out[:k].softmax(0), out[k : k + k * A].reshape(k, A), out[k + k * A :].reshape(k, A).clamp(-20.0, 2.0)

    def log_prob_of(obs, u):
        weight, mean, log_std = heads(obs)
        return torch.log(sum(weight[i] * normal_log_prob(u, mean[i], log_std[i]).exp() for i in range(k))) - jacobian(u)

    u = []
    for b in range(B):
        weight, mean, log_std = heads(batch.obs[b])
        chosen, edge = 0, weight[0].item()
        while k > 1 and Normal(0.0, 1.0).cdf(noise[b, A]).item() > edge:
            chosen += 1
            edge += weight[chosen].item()
        u.append((mean[chosen] + log_std[chosen].exp() * noise[b, :A]).detach())
    q = [alone.q(batch.obs[b], torch.tanh(u[b]))[0].detach() for b in range(B)]
    v = [alone.v(batch.obs[b]).detach() for b in range(B)]
    log_prob = torch.stack([log_prob_of(batch.obs[b], u[b]) for b in range(B)])

    info = alone.fit_q(batch, lambda b: alone.v(batch.next_obs[b], "v_target"))
    info |= alone.fit_v(batch, lambda b: q[b] - log_prob[b])
    # likelihood ratio: mean of (log pi - Q + V) grad log pi, and the code's penalty .001 (mean mu^2 + mean log_std^2) / 2
    bracket = [(log_prob[b] - q[b] + v[b]).item() for b in range(B)]
    size = sum(mean.square().mean() + log_std.square().mean() for _, mean, log_std in (heads(batch.obs[b]) for b in range(B))) / B
    penalty = cfg.regularization * size / 2.0
    gradients = [torch.zeros_like(p) for p in alone.p["policy"]]
    for b in range(B):
        for g, each in zip(gradients, torch.autograd.grad(log_prob[b], alone.p["policy"], retain_graph=True), strict=True):
            g += bracket[b] * each / B
    for g, each in zip(gradients, torch.autograd.grad(penalty, alone.p["policy"]), strict=True):
        g += each
    alone.descend("policy", gradients)
    alone.smooth("v_target", "v", cfg.tau)
    loss = sum(log_prob[b] * bracket[b] for b in range(B)) / B + penalty
    return info | {"losses/policy": loss, "policy/entropy": -log_prob.mean()}


def sampled(alone, name, obs, xi):
    """Particles f(s, xi) of the sampling network, (B, M, A)."""
    return torch.stack(
        [torch.stack([network(alone.p[name], torch.cat([s, z]), alone.cfg) for z in each]) for s, each in zip(obs, xi, strict=True)]
    )


def soft_value(alone, obs, actions, alpha):
    """alpha log of the integral of exp(min Q_target / alpha) over (-1, 1)^A, the mean over uniform actions times the volume 2^A."""
    density = [torch.exp(alone.q(obs, a, "q_target").min() / alpha) for a in actions]
    return alpha * torch.log(2.0**A * sum(density) / len(density))


def sampled_log_prob(alone, obs, xi):
    """log pi of an action per state, (B,), held fixed: log N(xi; 0, I) - log |det du/dxi| - sum log(1 - tanh^2 u)."""

    def one(s, z):
        def f(z):
            return network(alone.p["policy"], torch.cat([s, z]), alone.cfg)

        (a, b), (c, d) = torch.autograd.functional.jacobian(f, z)
        return Normal(0.0, 1.0).log_prob(z).sum() - torch.log(torch.abs(a * d - b * c)) - jacobian(f(z))

    return torch.stack([one(s, z) for s, z in zip(obs, xi, strict=True)]).detach()


def spread(u):
    """Standard deviation of the particles' actions, mean over states and axes."""
    a = torch.tanh(u)
    return (a - a.mean(1, keepdim=True)).square().mean(1).sqrt().mean()


def soft_q_by_hand(alone, batch, noise):
    info = alone.fit_q(batch, lambda b: soft_value(alone, batch.next_obs[b], noise.value[b], alone.cfg.alpha))
    u = sampled(alone, "policy", batch.obs, noise.policy)
    info |= flow(alone, batch, u, alone.cfg.alpha)
    alone.smooth("q_target", "q", alone.cfg.tau)
    return info | {"policy/spread": spread(u)}


def dp_wgf_by_hand(alone, batch, noise):
    cfg, alpha = alone.cfg, alone.alpha()

    def drawn(b):
        """Mean Q_target of the policy's draws at s'_b, of density one."""
        actions = torch.tanh(sampled(alone, "policy", batch.next_obs[b : b + 1], noise.value[b].reshape(1, -1, A)))[0]
        return torch.stack([alone.q(batch.next_obs[b], a, "q_target").min() for a in actions]).mean()

    def density(b):
        return drawn(b) - alpha * sampled_log_prob(alone, batch.next_obs[b : b + 1], noise.value[b : b + 1])[0]

    def soft(b):
        return soft_value(alone, batch.next_obs[b], noise.value[b], alpha)

    def normalizer(b):
        """log E_u[exp(Q) / u] - H(u), u the uniform density 2^-A, whose entropy is A log 2."""
        return soft(b) - alpha * A * math.log(2.0)

    value = {"soft": soft, "normalizer": normalizer, "expected": drawn, "density": density}[cfg.backup]
    info = alone.fit_q(batch, value)
    u, info["policy/alpha"] = sampled(alone, "policy", batch.obs, noise.policy), alpha
    log_prob = sampled_log_prob(alone, batch.obs, noise.policy[:, 0]) if cfg.backup == "density" else None
    info |= flow(alone, batch, u, alpha, sampled(alone, "previous", batch.obs, noise.policy))
    if cfg.temperature == "automatic":
        alone.fit_alpha(log_prob)
    alone.smooth("q_target", "q", cfg.tau)
    return info | {"policy/spread": spread(u)} | ({} if log_prob is None else {"policy/entropy": -log_prob.mean()})


class Mixture:
    """The policy of K weight particles at the states of one seed."""

    def __init__(self, alone):
        self.alone, self.k = alone, alone.cfg.components

    def heads(self, name, obs):
        return [gaussian(network(self.alone.p[name], obs, self.alone.cfg, i)) for i in range(self.k)]

    def particles(self, name, batch, noise):
        rows = []
        for b in range(B):
            pairs = [pair for pair in self.heads(name, batch.obs[b]) for _ in range(M // self.k)]
            rows.append(torch.stack([mean + log_std.exp() * xi for (mean, log_std), xi in zip(pairs, noise[b], strict=True)]))
        return torch.stack(rows)

    def density(self, obs, u):
        return torch.log(sum(normal_log_prob(u, *pair).exp() for pair in self.heads("policy", obs)) / self.k)

    def log_prob(self, batch, u):
        """log pi~ of the particles' actions, (B, M), held fixed."""
        return torch.stack(
            [torch.stack([self.density(s, z) - jacobian(z) for z in each]) for s, each in zip(batch.obs, u, strict=True)]
        ).detach()

    def pick(self, obs, noise):
        """u at one state: the last number of the noise picks a component, where there are several."""
        chosen = int(Normal(0.0, 1.0).cdf(noise[A]) * self.k) if self.k > 1 else 0
        mean, log_std = self.heads("policy", obs)[chosen]
        return mean + log_std.exp() * noise[:A]


def dp_wgf_v_by_hand(alone, batch, noise):
    cfg, alpha, policy = alone.cfg, alone.alpha(), Mixture(alone)
    info = alone.fit_q(batch, lambda b: alone.v(batch.next_obs[b], "v_target"))
    u = policy.particles("policy", batch, noise)
    log_prob = policy.log_prob(batch, u)

    def target(b):
        q = torch.stack([alone.q(batch.obs[b], torch.tanh(u[b, m])).min() for m in range(M)])
        if cfg.backup == "entropy":
            return (q - alpha * log_prob[b]).mean()
        return alpha * torch.log((torch.exp(q / alpha) / torch.exp(log_prob[b])).mean()) + alpha * log_prob[b].mean()

    info |= alone.fit_v(batch, target)
    info |= flow(alone, batch, u, alpha, policy.particles("previous", batch, noise))
    if cfg.temperature == "automatic":
        alone.fit_alpha(log_prob)
    alone.smooth("v_target", "v", cfg.tau)
    return info | {"policy/entropy": -log_prob.mean(), "policy/alpha": alpha}


def wgf_sac_by_hand(alone, batch, noise):
    cfg, alpha, policy = alone.cfg, alone.alpha(), Mixture(alone)
    factor = alone.p["log_factor"][0].detach().exp()

    def next_value(b):
        u = policy.pick(batch.next_obs[b], noise.after[b])
        log_prob = policy.density(batch.next_obs[b], u) - jacobian(u)
        return alone.q(batch.next_obs[b], torch.tanh(u), "q_target").min() - alpha * log_prob

    info = alone.fit_q(batch, next_value)
    u, u_prev = policy.particles("policy", batch, noise.now), policy.particles("previous", batch, noise.now)
    log_prob = policy.log_prob(batch, u)
    info |= flow(alone, batch, u, alpha, u_prev, factor, lambda b, u: policy.density(batch.obs[b], u))
    if cfg.w2_radius:  # d/dlog factor of log factor (radius^2 - mean |u - u_prev|^2 / A)
        alone.descend("log_factor", [cfg.w2_radius**2 - (u - u_prev).detach().square().mean()])
    alone.fit_alpha(log_prob)
    alone.smooth("q_target", "q", cfg.tau)
    return info | {"flow/w2_scale": cfg.w2_scale * factor, "policy/entropy": -log_prob.mean(), "policy/alpha": alpha}


# --- the comparison ---------------------------------------------------------------------------------------------------

BY_HAND = {
    ddpg: ddpg_by_hand,
    sac: sac_by_hand,
    sac_v: sac_v_by_hand,
    soft_q: soft_q_by_hand,
    dp_wgf: dp_wgf_by_hand,
    dp_wgf_v: dp_wgf_v_by_hand,
    wgf_sac: wgf_sac_by_hand,
}


def variants(agent: ModuleType, start, *changes):
    """(agent, configuration) of a start and of each change to it."""
    first = replace(agent.Config(), **TINY, **start)
    return [(agent, first), *((agent, replace(first, **change)) for change in changes)]


CASES = [
    *variants(ddpg, {"critic_lr": 3e-2}, {"activation": "relu", "members": 2}),
    *variants(sac, {"members": 2}, {"members": 1, "activation": "tanh"}),
    *variants(sac_v, {"components": 3}, {"components": 1, "activation": "relu", "regularization": 0.5}),
    *variants(
        soft_q,
        {"particles": M, "value_particles": 5, "alpha": 0.7},
        {"squash": "exact", "members": 2, "activation": "relu"},
        {"squash": "exact"},
    ),
    *variants(
        dp_wgf,
        {**FLOW, "alpha": 0.7},
        {"w2": "eq9_mean", "previous": "average", "backup": "expected", "members": 2},
        {"w2": "common_noise", "squash": "exact", "previous": "average", "activation": "relu"},
        {"w2": "exact", "squash": "exact", "backup": "expected"},
        {"w2": "entropic", "backup": "soft"},
        {"w2": "debiased", "squash": "exact"},
        {"backup": "density", "squash": "exact"},
        {"backup": "density", "temperature": "automatic", "members": 2, "w2": "common_noise"},
        {"w2_scale": 0.0},
    ),
    *variants(
        dp_wgf_v,
        {**FLOW, "components": 2},
        {"w2": "eq9_mean", "previous": "average", "backup": "normalizer", "members": 2},
        {"w2": "common_noise", "squash": "soft_q", "temperature": "automatic", "backup": "normalizer", "components": 4},
        {"w2": "exact", "previous": "average", "temperature": "automatic", "activation": "relu"},
        {"w2": "entropic", "squash": "soft_q", "components": 1},
        {"w2": "debiased"},
        {"w2_scale": 0.0},
    ),
    *variants(
        wgf_sac,
        {**FLOW, "w2": "eq9_sum", "previous": "last", "components": 2},
        {"w2": "common_noise", "previous": "average", "w2_radius": 0.5, "dual_lr": 3e-2, "members": 1, "components": 1},
        {"w2": "exact", "kl": "density", "activation": "tanh"},
        {"w2": "entropic", "kl": "density", "components": 1},
        {"w2": "debiased", "kl": "blob"},
        {"w2": "eq9_mean", "w2_scale": 0.0, "components": 4},
    ),
]


def named(case):
    agent, cfg = case
    changed = {f.name: getattr(cfg, f.name) for f in fields(cfg) if getattr(cfg, f.name) != getattr(agent.Config(), f.name)}
    return "-".join([agent.__name__.split(".")[-1], *(f"{k}={v}" for k, v in changed.items() if k not in (*TINY, "particles"))])


def started(agent, cfg, seeds):
    """A state whose networks, targets and previous policies all differ, with temperatures away from 1."""
    state = agent.init(cfg, D, A, [torch.Generator().manual_seed(k) for k in range(seeds)], torch.device("cpu"))
    g = torch.Generator().manual_seed(9)
    for name, theta in vectors(state).items():
        theta += 0.3 * torch.randn(theta.shape, generator=g) if name != "log_alpha" else torch.tensor([0.4, -0.3])[:seeds]
    return state


def minibatch(seeds, k):
    g = torch.Generator().manual_seed(100 + k)
    action = 1.8 * torch.rand(seeds, B, A, generator=g) - 0.9
    obs, reward, next_obs = (torch.randn(seeds, B, *shape, generator=g) for shape in ((D,), (), (D,)))
    return Batch(obs, action, reward, torch.tensor([0.99, 0.0, 0.6]).expand(seeds, B), next_obs)


def of_seed(values, s):
    if values is None:
        return None
    return values[s] if isinstance(values, torch.Tensor) else type(values)(*(t[s] for t in values))


@pytest.mark.parametrize(("agent", "cfg"), CASES, ids=map(named, CASES))
def test_update_is_the_update_by_hand(agent, cfg):
    seeds = 2
    state = started(agent, cfg, seeds)
    alone = [Alone(state, s, cfg) for s in range(seeds)]
    draw = Streams([torch.Generator().manual_seed(50 + s) for s in range(seeds)])
    near = {"rtol": 1e-9, "atol": 1e-11}  # sums of a hundred terms of order one in float64, Adam's quotient and 1 - tanh^2
    for step in range(2):
        batch, noise = minibatch(seeds, step), agent.noise(cfg, A, draw)
        info = agent.update(cfg, state, batch, noise)()
        for s in range(seeds):
            expected = BY_HAND[agent](alone[s], of_seed(batch, s), of_seed(noise, s))
            assert info.keys() == expected.keys()
            for tag, value in expected.items():
                assert info[tag].shape == (seeds,)
                torch.testing.assert_close(info[tag][s], value.detach(), **near, msg=lambda m, tag=tag: f"{tag}: {m}")
            for name, adam in alone[s].adam.items():  # its moments are sums of gradients and of their squares
                for moment in ("m", "v"):
                    own = tensors_of(state, name, getattr(getattr(state, name), moment))
                    for got, want in zip(own, getattr(adam, moment), strict=True):
                        torch.testing.assert_close(got[s], want, **near, msg=lambda m, name=name: f"gradient of {name}: {m}")
            for name, parameters in alone[s].p.items():
                for got, want in zip(tensors_of(state, name, vectors(state)[name]), parameters, strict=True):
                    torch.testing.assert_close(got[s], want, **near, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("agent", BY_HAND, ids=lambda agent: agent.__name__)
def test_every_choice_of_a_configuration_is_updated_by_hand(agent):
    configurations = [cfg for owner, cfg in CASES if owner is agent]
    elsewhere = ("network", "norm")  # tests/agents/test_strong.py
    hints = get_type_hints(agent.Config).items()
    choices = {name: set(get_args(t)) for name, t in hints if get_origin(t) is Literal and name not in elsewhere}
    choices |= {"activation": {"tanh", "relu"}}
    if hasattr(agent.Config, "members"):
        choices |= {"members": {1, 2}}
    for name, values in choices.items():
        assert {getattr(cfg, name) for cfg in configurations} == values


@pytest.mark.parametrize("agent", [dp_wgf, dp_wgf_v, wgf_sac], ids=["dp_wgf", "dp_wgf_v", "wgf_sac"])
@pytest.mark.parametrize("w2", ["eq9_sum", "exact"])
def test_w2_scale_of_zero_is_the_kl_flow_alone(agent, w2):
    """Whatever the W2 velocity and the previous policy, the policy moves as without them."""
    moved = []
    for change in ({"w2_scale": 0.0, "w2": w2}, {"w2_scale": 0.0, "w2": "common_noise", "previous": "average"}):
        cfg = replace(agent.Config(), **TINY, **{**FLOW, **change})
        state = started(agent, cfg, 2)
        info = agent.update(cfg, state, minibatch(2, 0), agent.noise(cfg, A, Streams([torch.Generator().manual_seed(k) for k in (0, 1)])))()
        assert torch.equal(info["flow/w2_speed"], torch.zeros(2))
        moved.append(state.policy.theta)
    assert torch.equal(*moved)


# --- actions and noise ------------------------------------------------------------------------------------------------


def candidates(agent, cfg, alone, obs):
    """The actions among which greedy chooses at one state, by hand: (K, A)."""
    if agent in (ddpg, sac):
        return torch.tanh(network(alone.p["policy"], obs, cfg)[:A])[None]
    if agent is sac_v:
        return torch.tanh(network(alone.p["policy"], obs, cfg)[cfg.components : cfg.components * (1 + A)].reshape(-1, A))
    if agent in (dp_wgf_v, wgf_sac):
        return torch.stack([torch.tanh(network(alone.p["policy"], obs, cfg, i)[:A]) for i in range(cfg.components)])
    xi = torch.randn(cfg.particles, A, generator=torch.Generator().manual_seed(0))
    return torch.tanh(sampled(alone, "policy", obs[None], xi[None]))[0]


@pytest.mark.parametrize("agent", BY_HAND, ids=lambda agent: agent.__name__)
def test_greedy_is_the_candidate_with_the_largest_q(agent):
    cfg = next(cfg for owner, cfg in CASES if owner is agent)
    state, chosen = started(agent, cfg, 2), set()
    obs = torch.cat([minibatch(2, k).obs for k in range(4)], 1)
    action = agent.greedy(cfg, state, obs)
    for s in range(2):
        alone = Alone(state, s, cfg)
        for b in range(obs.shape[1]):
            options = candidates(agent, cfg, alone, obs[s, b])
            q = [alone.q(obs[s, b], a).min().item() for a in options]
            chosen.add(q.index(max(q)))
            torch.testing.assert_close(action[s, b], options[q.index(max(q))], rtol=1e-11, atol=1e-12)
    assert len(chosen) > 1 or agent in (ddpg, sac)


@pytest.mark.parametrize("agent", [agent for agent in BY_HAND if agent is not ddpg], ids=lambda agent: agent.__name__)
def test_act_draws_what_update_draws(agent):
    """The actions that explore come from the policy that is trained: the same noise gives the particles of ``update``."""
    cfg = next(cfg for owner, cfg in CASES if owner is agent)
    state, obs = started(agent, cfg, 2), minibatch(2, 0).obs
    noise = agent.act_noise(cfg, A, B, Streams([torch.Generator().manual_seed(k) for k in (0, 1)]))
    action = agent.act(cfg, state, obs, noise)
    assert action.shape == (2, B, A)
    for s in range(2):
        alone = Alone(state, s, cfg)
        for b in range(B):
            if agent is sac:
                mean, log_std = gaussian(network(alone.p["policy"], obs[s, b], cfg))
                u = mean + log_std.exp() * noise[s, b]
            elif agent is sac_v:
                out = network(alone.p["policy"], obs[s, b], cfg)
                k = cfg.components
                chosen = int((Normal(0.0, 1.0).cdf(noise[s, b, A]) > out[:k].softmax(0).cumsum(0)).sum())
                mean, log_std = out[k : k + k * A].reshape(k, A)[chosen], out[k + k * A :].reshape(k, A)[chosen].clamp(-20.0, 2.0)
                u = mean + log_std.exp() * noise[s, b, :A]
            elif agent in (dp_wgf_v, wgf_sac):
                u = Mixture(alone).pick(obs[s, b], noise[s, b])
            else:
                u = network(alone.p["policy"], torch.cat([obs[s, b], noise[s, b, 0]]), cfg)
            torch.testing.assert_close(action[s, b], torch.tanh(u), rtol=1e-11, atol=1e-12)


def test_ddpg_explores_with_normal_noise_on_its_action_and_stays_within_the_bounds():
    cfg = replace(ddpg.Config(), **TINY, exploration=1.5)
    state, obs = started(ddpg, cfg, 2), minibatch(2, 0).obs
    noise = ddpg.act_noise(cfg, A, B, Streams([torch.Generator().manual_seed(k) for k in (0, 1)]))
    action, cut = ddpg.act(cfg, state, obs, noise), set()
    for s in range(2):
        alone = Alone(state, s, cfg)
        for b in range(B):
            for found, mu, xi in zip(action[s, b], torch.tanh(network(alone.p["policy"], obs[s, b], cfg)), noise[s, b], strict=True):
                wanted = mu.item() + 1.5 * xi.item()
                cut.add((wanted > 1.0) - (wanted < -1.0))
                assert found.item() == pytest.approx(max(-1.0, min(1.0, wanted)), rel=1e-12)
    assert cut == {-1, 0, 1}
    x = ddpg.act_noise(cfg, A, 2000, Streams([torch.Generator().manual_seed(k) for k in (0, 1)]))
    assert x.shape == (2, 2000, A)
    assert abs(x.mean()) < 4.0 / math.sqrt(x.numel())
    assert abs(x.square().mean() - 1.0) < 4.0 * math.sqrt(2.0 / x.numel())


NORMAL, SIGNED = (0.0, 1.0, 2.0), (0.0, 1.0 / 3.0, 4.0 / 45.0)  # mean, variance, variance of square
LAWS = [
    (sac, {}, [(None, NORMAL)]),
    (sac_v, {}, [(None, NORMAL)]),
    (soft_q, {"particles": M, "value_particles": 5}, [("policy", NORMAL), ("value", SIGNED)]),
    (dp_wgf, {"particles": M}, [("policy", NORMAL), ("value", SIGNED)]),
    (dp_wgf, {"particles": M, "backup": "expected"}, [("policy", NORMAL), ("value", NORMAL)]),
    (dp_wgf, {"particles": M, "backup": "density"}, [("policy", NORMAL), ("value", NORMAL)]),
    (dp_wgf_v, {"particles": M}, [(None, NORMAL)]),
    (wgf_sac, {"particles": M}, [("after", NORMAL), ("now", NORMAL)]),
    (wgf_sac, {"particles": M, "components": 2}, [("after", NORMAL), ("now", NORMAL)]),
]


@pytest.mark.parametrize(("agent", "change", "laws"), LAWS, ids=lambda case: None if isinstance(case, (dict, list)) else case.__name__)
def test_noise_has_the_law_that_its_docstring_states(agent, change, laws):
    cfg = replace(agent.Config(), batch=2000, **change)
    noise = agent.noise(cfg, A, Streams([torch.Generator().manual_seed(k) for k in (0, 1)]))
    for name, (mean, variance, of_square) in laws:
        x = noise if name is None else getattr(noise, name)
        assert x.shape[:2] == (2, 4000 if agent is sac else 2000)
        n = x.numel()
        assert abs(x.mean() - mean) < 4.0 * math.sqrt(variance / n)
        assert abs((x - mean).square().mean() - variance) < 4.0 * math.sqrt(of_square / n)
