"""WPO's update against autograd of the losses as the paper and its open code state them, one seed and one action at a time."""

import math
from dataclasses import replace

import pytest
import torch
from torch.distributions import Categorical, Normal, kl_divergence
from torch.nn.functional import elu, layer_norm, softplus

from tests.agents.test_update import Adam
from tests.policies.plain import assert_equal, close
from wgf.agents import wpo
from wgf.agents.training.protocol import Batch, Streams
from wgf.policies.unbounded import decoupled_kl

D, A, B, N = 3, 2, 3, 4
TINY = {"hidden": (8, 6), "critic_hidden": (7, 5), "batch": B, "samples": N, "lr": 1e-2, "copy_every": 2, "reward_scale": 3.0}
NETWORKS = ("policy", "policy_target", "q", "q_target")
CASES = {
    "max": {},
    "mean, two members": {"bootstrap": "mean", "members": 2},
    "softmax, cube root": {"bootstrap": "softmax", "sharpness": 2.5, "squash": "cbrt"},
    "hard": {"kl": "hard", "kl_mean": 1.5, "kl_std": 0.4, "bound_mean": 0.02, "bound_std": 0.01},
    "entropy, two members, one action": {"entropy": 0.3, "n_step": 1, "members": 2, "samples": 1},
    "mixture": {"policy": "mixture", "components": 3, "fisher": 6, "damping": 0.1, "cg_steps": 40, "bootstrap": "mean"},
    "squashed": {"policy": "squashed", "squash": "cbrt"},
    "squashed, entropy": {"policy": "squashed", "squash": "cbrt", "entropy": 0.3, "n_step": 1, "bootstrap": "mean"},
    "squashed, entropy that is aimed at": {"policy": "squashed", "entropy": 0.3, "entropy_std": 0.15, "n_step": 1, "bootstrap": "draw"},
    "entropy that is aimed at": {"entropy": 0.3, "entropy_std": 0.9, "n_step": 1},
    "draw, averages": {"bootstrap": "draw", "tau": 0.3, "copy_every": 1, "members": 2},
    "moves": {"tau": 0.3, "bootstrap": "mean"},
    "weak": {"kl_mean": 1e-3, "kl_std": 1e-3, "std0": 0.2},
}

pytestmark = pytest.mark.usefixtures("double")


def network(net, theta, x):
    """One network, theta (P,), on one input vector, by torch's functions."""
    (gain, offset), layers = (t[0] for t in net.affine(theta)), net.layers(theta)
    for i, (w, b) in enumerate(layers):
        if i == 1:
            x = torch.tanh(layer_norm(x, x.shape, gain, offset))
        elif i:
            x = elu(x)
        x = x @ w + b[0]
    return x


def vector(state, name):
    """A theta by its name: an optimiser's, or a target itself."""
    value = getattr(state, name)
    return getattr(value, "theta", value)


class Alone:
    """One seed of a state, and the update by hand."""

    def __init__(self, state, s, cfg):
        self.cfg, self.nets, self.updates = cfg, state.nets, 0
        self.p = {name: vector(state, name)[s].detach().clone().requires_grad_() for name in NETWORKS}
        self.log_weight, self.log_alpha = (t[s].clone().requires_grad_() for t in (state.log_weight.theta, state.log_factor.theta))
        self.moved = state.moved[s].clone()
        self.adam = {name: Adam([self.p[name]], cfg.lr) for name in ("policy", "q")} | {"weight": Adam([self.log_weight], cfg.dual_lr)}
        self.adam["alpha"] = Adam([self.log_alpha], cfg.lr)

    def law(self, name, obs):
        """logits (K,), means and stds (K, A)."""
        k = self.cfg.components
        logits, mean, raw = network(self.nets.policy.net, self.p[name], obs).split([k, k * A, k * A])
        return logits, mean.reshape(k, A), softplus(raw).reshape(k, A) * self.cfg.std0 / math.log(2.0) + 1e-6

    def drawn(self, law, noise):
        logits, mean, std = (t.detach() for t in law)
        k = 0 if self.cfg.components == 1 else int((Normal(0.0, 1.0).cdf(noise[A]) > logits.softmax(0).cumsum(0)[:-1]).sum())
        return mean[k] + std[k] * noise[:A]

    def into(self, u):
        return torch.tanh(u) if self.cfg.policy == "squashed" else u.clamp(-1.0, 1.0)

    def q(self, name, obs, action):
        """Of every member."""
        x = torch.cat([obs, action])
        return torch.stack([network(self.nets.q.net, theta, x)[0] for theta in self.p[name]])

    def slope(self, obs, u):
        """min Q and its slope in u: of a squashed law through tanh; of a cut action without the parts that point out of the cube."""
        cut = self.into(u).requires_grad_()
        value = self.q("q", obs, cut).min()
        (g,) = torch.autograd.grad(value, cut)
        for d in range(A if self.cfg.policy != "squashed" else 0):
            if (u[d] > 1.0 and g[d] > 0.0) or (u[d] < -1.0 and g[d] < 0.0):
                g[d] = 0.0
        g = torch.copysign(g.abs() ** (1.0 / 3.0), g) if self.cfg.squash == "cbrt" else g
        if self.cfg.policy != "squashed":
            return value.detach(), g
        room = u.clone().requires_grad_()
        (out,) = torch.autograd.grad(self.room(room), room)
        return value.detach(), g / torch.cosh(u).square() + self.alpha() * out

    def alpha(self):
        return self.cfg.entropy * self.log_alpha.detach().exp()

    def room(self, u):
        """log |da/du| of a squashed policy's draw."""
        return torch.log1p(-torch.tanh(u).square()).sum() if self.cfg.policy == "squashed" else torch.zeros(())

    def entropy(self, law, us):
        """Of a Gaussian, and by draws what tanh adds to it."""
        return Normal(law[1], law[2]).entropy().sum() + sum(self.room(u) for u in us) / len(us)

    def next_value(self, obs, noise):
        law = self.law("policy_target", obs)
        us = [self.drawn(law, z) for z in noise]
        q = torch.stack([self.q("q_target", obs, self.into(u)).min() for u in us])
        v = {"mean": q.mean(), "max": q.max(), "draw": q[0], "softmax": (torch.softmax(self.cfg.sharpness * q, 0) * q).sum()}[
            self.cfg.bootstrap
        ]
        return v + self.alpha() * self.entropy(law, us)

    def critic_loss(self, batch, noise):
        q = torch.stack([self.q("q", batch.obs[b], batch.action[b]) for b in range(B)])
        y = [
            self.cfg.reward_scale * batch.reward[b] + batch.discount[b] * self.next_value(batch.next_obs[b], noise.after[b])
            for b in range(B)
        ]
        return sum((q[b] - y[b].detach()).square().sum() / 2.0 for b in range(B)) / B, q.mean()

    def density(self, law, u):
        """log density of the mixture at u."""
        return torch.logsumexp(law[0].log_softmax(0) + Normal(law[1], law[2]).log_prob(u).sum(-1), 0)

    def closed_loss(self, law, u, g):
        """-grad_a log N(a; mean', std') . g, mean' and std' with the values of mean and std and their gradients times std^2, std^2 / 2."""
        _, mean, std = law
        s2 = std.detach().square()
        adapted = Normal(s2 * mean + ((1.0 - s2) * mean).detach(), s2 / 2.0 * std + ((1.0 - s2 / 2.0) * std).detach())
        a = u.clone().requires_grad_()
        (inner,) = torch.autograd.grad(adapted.log_prob(a).sum(), a, create_graph=True)
        return -(inner * g).sum()

    def solved_loss(self, law, pairs, others):
        """-<(F + damping I)^-1 sum_n grad_phi (grad_a log pi . g), phi>, F as a matrix: the mean over draws and rho of the block form."""
        phi = [t.detach().requires_grad_() for t in law]

        def row(value):
            slopes = torch.autograd.grad(value, phi, allow_unused=True)
            return torch.cat([(torch.zeros_like(p) if t is None else t).flatten() for t, p in zip(slopes, phi, strict=True)])

        total = 0.0
        for u, g in pairs:
            a = u.clone().requires_grad_()
            (inner,) = torch.autograd.grad(self.density(phi, a), a, create_graph=True)
            total = total + row((inner * g).sum())
        scores = torch.stack([row(self.density(phi, u)) for u in others])
        w, std = phi[0].detach().softmax(0), phi[2].detach()
        each = (w[:, None] / std.square()).flatten()
        block = torch.block_diag(torch.diag(w) - torch.outer(w, w), torch.diag(each), torch.diag(2.0 * each))
        rho = len(total) / (len(total) + len(others))
        fisher = (1.0 - rho) * scores.mT @ scores / len(others) + rho * block + self.cfg.damping * torch.eye(len(total))
        return -(torch.linalg.solve(fisher, total) * torch.cat([t.flatten() for t in law])).sum()

    def policy_loss(self, obs, noise, others):
        """The loss of the flow and of N entropy log std; the KLs per dimension."""
        law, target = self.law("policy", obs), [t.detach() for t in self.law("policy_target", obs)]
        us = [self.drawn(law, z) for z in noise]
        values, slopes = zip(*(self.slope(obs, u) for u in us), strict=True)
        loss = -len(noise) * self.alpha() * law[2].log().sum()
        if self.cfg.components == 1:
            loss = loss + sum(self.closed_loss(law, u, g) for u, g in zip(us, slopes, strict=True))
        else:
            loss = loss + self.solved_loss(law, list(zip(us, slopes, strict=True)), [self.drawn(law, z) for z in others])
        w, moved = target[0].softmax(0), kl_divergence(Categorical(logits=target[0]), Categorical(logits=law[0]))
        of_mean = kl_divergence(Normal(target[1], target[2]), Normal(law[1], target[2]))
        of_std = kl_divergence(Normal(target[1], target[2]), Normal(target[1], law[2]))
        parts = torch.stack([(w[:, None] * of_mean).sum(0) + moved / A, (w[:, None] * of_std).sum(0)])
        outside = sum((u.abs() > 1.0).sum() for u in us) / (A * len(us))
        surprise = -sum(self.density(law, u) - self.room(u) for u in us) / len(us)
        return loss, parts, torch.stack(values).mean(), outside, surprise, law[2].mean(), self.entropy(law, us)

    def update(self, batch, noise):
        self.updates += 1
        q_loss, q_mean = self.critic_loss(batch, noise)
        self.adam["q"].step(torch.autograd.grad(q_loss, [self.p["q"]]))
        each = [self.policy_loss(batch.obs[b], noise.now[b], noise.fisher[b]) for b in range(B)]
        loss, kl, value, outside, surprise, std, entropy = (sum(parts) / B for parts in zip(*each, strict=True))
        alpha = self.alpha()
        weight = self.log_weight.exp()
        policy_gradient = torch.autograd.grad(loss + (weight.detach() * kl).sum(), [self.p["policy"]])
        if self.cfg.kl == "hard":
            bound = torch.tensor([[self.cfg.bound_mean], [self.cfg.bound_std]])
            self.adam["weight"].step(torch.autograd.grad((self.log_weight * (bound - kl.detach())).sum(), [self.log_weight]))
        self.adam["policy"].step(policy_gradient)
        if self.cfg.entropy_std:
            aim = Normal(torch.zeros(A), self.cfg.entropy_std).entropy().sum()
            self.adam["alpha"].step(torch.autograd.grad(self.log_alpha * (entropy.detach() - aim), [self.log_alpha]))
        if self.updates % self.cfg.copy_every == 0:
            for name in ("policy", "q"):
                self.p[f"{name}_target"].data.lerp_(self.p[name], self.cfg.tau)
            self.moved = kl.detach()
        info = {"losses/q": q_loss, "losses/q_values": q_mean, "losses/policy": -value, "policy/entropy": surprise}
        info |= {"policy/std": std, "policy/alpha": alpha}
        return info | {"policy/kl_mean": self.moved[0].sum(), "policy/kl_std": self.moved[1].sum(), "policy/outside": outside}


def started(cfg, seeds=2):
    """A state whose networks and targets all differ."""
    state = wpo.init(cfg, D, A, [torch.Generator().manual_seed(k) for k in range(seeds)], torch.device("cpu"))
    g = torch.Generator().manual_seed(9)
    for name in NETWORKS:
        theta = vector(state, name)
        theta += 0.3 * torch.randn(theta.shape, generator=g)
    return state


def minibatch(k, seeds=2):
    g = torch.Generator().manual_seed(100 + k)
    action = 1.8 * torch.rand(seeds, B, A, generator=g) - 0.9
    obs, reward, next_obs = (torch.randn(seeds, B, *shape, generator=g) for shape in ((D,), (), (D,)))
    return Batch(obs, action, reward, torch.tensor([0.99, 0.0, 0.6]).expand(seeds, B), next_obs)


def streams(seeds=2):
    return Streams([torch.Generator().manual_seed(50 + s) for s in range(seeds)])


@pytest.mark.parametrize("change", CASES.values(), ids=CASES.keys())
def test_update_is_the_update_by_hand(change):
    cfg = replace(wpo.Config(), **{**TINY, **change})
    state, draw = started(cfg), streams()
    alone, outside = [Alone(state, s, cfg) for s in range(2)], 0.0
    for step in range(3):  # the targets are copied after the second
        batch, noise = minibatch(step), wpo.noise(cfg, A, draw)
        info = wpo.update(cfg, state, batch, noise)()
        for s in range(2):
            expected = alone[s].update(Batch(*(t[s] for t in batch)), wpo.Noise(*(t[s] for t in noise)))
            assert info.keys() == expected.keys()
            for tag, value in expected.items():
                torch.testing.assert_close(info[tag][s], value.detach(), rtol=1e-9, atol=1e-11, msg=lambda m, tag=tag: f"{tag}: {m}")
            for name in NETWORKS:
                torch.testing.assert_close(vector(state, name)[s], alone[s].p[name].detach(), rtol=1e-9, atol=1e-10)
            torch.testing.assert_close(state.log_weight.theta[s], alone[s].log_weight.detach(), rtol=1e-9, atol=1e-10)
            torch.testing.assert_close(state.log_factor.theta[s], alone[s].log_alpha.detach(), rtol=1e-9, atol=1e-10)
            outside += info["policy/outside"][s].item()
    assert outside > 0.0  # some actions lie beyond the cube


def test_kl_weights_start_as_configured_and_stay_above_their_floor():
    cfg = replace(wpo.Config(), **TINY, kl="hard", kl_mean=1e-9, kl_std=50.0, bound_mean=1e9, dual_lr=5.0)
    state = wpo.init(cfg, D, A, [torch.Generator()], torch.device("cpu"))
    for weight, start in zip(state.log_weight.theta[0].exp().tolist(), (1e-9, 50.0), strict=True):
        assert weight == pytest.approx([start] * A, rel=1e-7)
    wpo.update(cfg, state, minibatch(0, 1), wpo.noise(cfg, A, streams(1)))
    assert (state.log_weight.theta[0, 0] == wpo.FLOOR).all()


@pytest.mark.parametrize("change", [{}, {"policy": "mixture", "components": 2}, {"policy": "squashed"}], ids=str)
def test_act_draws_from_the_online_policy_and_greedy_is_its_best_mean(change):
    cfg = replace(wpo.Config(), **TINY, **change)
    state, obs, chosen = started(cfg), torch.cat([minibatch(k).obs for k in range(8)], 1), set()
    xi = wpo.act_noise(cfg, A, obs.shape[1], streams())
    acted, greedy = wpo.act(cfg, state, obs, xi), wpo.greedy(cfg, state, obs)
    assert acted.shape == (2, 8 * B, A)
    assert (acted.abs() == 1.0).any() == (cfg.policy != "squashed")
    for s in range(2):
        alone = Alone(state, s, cfg)
        for b in range(8 * B):
            law = alone.law("policy", obs[s, b])
            close(acted[s, b], alone.into(alone.drawn(law, xi[s, b])).detach())
            options = alone.into(law[1].detach())
            q = [alone.q("q", obs[s, b], a).min().item() for a in options]
            chosen.add(q.index(max(q)))
            close(greedy[s, b], options[q.index(max(q))])
    assert len(chosen) == cfg.components


def test_noise_is_standard_normal():
    cfg = replace(wpo.Config(), **{**TINY, "batch": 500}, policy="mixture", components=2, fisher=3)
    for x, n in zip(wpo.noise(cfg, A, streams()), (N, N, 3), strict=True):
        assert x.shape == (2, 500, n, A + 1)
        assert abs(x.mean()) < 4.0 / math.sqrt(x.numel())
        assert abs(x.square().mean() - 1.0) < 4.0 * math.sqrt(2.0 / x.numel())


def test_entropy_needs_one_step_returns():
    with pytest.raises(ValueError, match="n_step is 5; with entropy it must be 1"):
        wpo.Config(entropy=0.1)


def test_settings_that_a_policy_does_not_have_are_refused():
    with pytest.raises(ValueError, match="policy is mixture; with entropy it must be gaussian or squashed"):
        wpo.Config(entropy=0.1, n_step=1, policy="mixture")
    with pytest.raises(ValueError, match=r"entropy is 0; with entropy_std 0.15 it is where the temperature starts"):
        wpo.Config(entropy_std=0.15, n_step=1)
    with pytest.raises(ValueError, match="components is 2; a squashed policy has 1"):
        wpo.Config(components=2, policy="squashed")


# --- what it reaches on a one-step task, where Q is the reward ----------------------------------------------------------

BANDIT = {
    "hidden": (32, 32),
    "critic_hidden": (32, 32),
    "batch": 64,
    "samples": 4,
    "lr": 1e-2,
    "n_step": 1,
    "copy_every": 10,
    "kl_std": 1.0,
}


def trained(reward, updates, start=None, **change):
    """Means and stds (S,) after updates on uniform actions."""
    cfg = replace(wpo.Config(), **{**BANDIT, **change})
    state = wpo.init(cfg, 1, 1, [torch.Generator().manual_seed(k) for k in range(2)], torch.device("cpu"))
    if start is not None:
        for theta in (state.policy.theta, state.policy_target):
            state.nets.policy.net.layers(theta)[-1][1][..., 1] = start  # logit, mean, raw std
    draw, obs = streams(), torch.zeros(2, cfg.batch, 1)
    for i in range(updates):
        if i == 2 * updates // 3:
            state.policy.lr, state.q.lr = cfg.lr / 10.0, cfg.lr / 10.0
        action = 2.0 * draw.uniform(cfg.batch, 1) - 1.0
        batch = Batch(obs, action, reward(action[..., 0]), torch.zeros(2, cfg.batch), obs)
        wpo.update(cfg, state, batch, wpo.noise(cfg, 1, draw))
    law = state.nets.policy.law(state.policy.theta, obs[:, :1])
    return law.mean.flatten(), law.std.flatten()


def goal(a):
    """-(a - .2)^2 / (2 .25^2): curvature 16."""
    return -0.5 * ((a - 0.2) / 0.25) ** 2


def test_it_finds_the_best_action_and_its_deviation_vanishes():
    mean, std = trained(goal, 600)
    assert ((mean - 0.2).abs() < 0.025).all()  # a tenth of the width of the reward
    assert (std < 0.05).all()


def test_with_an_entropy_term_the_deviation_is_that_of_exp_q_over_the_temperature():
    """d std = -16 std + tau / std = 0 at std = .25 sqrt(tau)."""
    mean, std = trained(goal, 600, entropy=0.5)
    assert ((mean - 0.2).abs() < 0.025).all()
    assert std.mean().item() == pytest.approx(0.25 * math.sqrt(0.5), rel=0.1)


def squashed_law(reward, alpha):
    """Mean and deviation of u under exp(r(tanh u) / alpha) (1 - tanh^2 u) by quadrature."""
    u = torch.linspace(-6.0, 6.0, 20_001)
    weight = torch.softmax(reward(torch.tanh(u)) / alpha + torch.log1p(-torch.tanh(u).square()), 0)
    mean = (weight * u).sum()
    return mean.item(), (weight * (u - mean).square()).sum().sqrt().item()


def test_a_squashed_policy_with_an_entropy_term_is_near_exp_q_over_the_temperature():
    """The law is no Gaussian: the best one, by KL, is a little apart from its moments."""
    mean, std = trained(goal, 600, entropy=0.2, policy="squashed")
    assert (mean.mean().item(), std.mean().item()) == pytest.approx(squashed_law(goal, 0.2), rel=0.1)


def test_the_temperature_brings_the_entropy_to_its_aim():
    """Of a Gaussian: the deviation that was asked for, and the temperature 16 std^2 that keeps it there."""
    mean, std = trained(goal, 1000, entropy=2.0, entropy_std=0.15)
    assert ((mean - 0.2).abs() < 0.025).all()
    assert std.mean().item() == pytest.approx(0.15, rel=0.1)


def test_the_std_part_of_the_kl_slows_the_deviation_and_leaves_the_mean_free():
    mean, std = trained(goal, 600, start=-0.8, kl_std=1e4)
    assert ((mean - 0.2).abs() < 0.125).all()  # seven eighths of the way
    assert (std > 0.3).all()  # 60 copies; 0.7 at first


def test_a_policy_beyond_the_bounds_comes_back(monkeypatch):
    """From a mean of 3, four deviations outside. Without a slope out there, as with a critic that cuts and no more, it stays."""
    mean, _ = trained(goal, 600, start=3.0, std0=0.5)
    assert ((mean - 0.2).abs() < 0.125).all()  # half a width of the reward, of a way of eleven
    continued = wpo.slope

    def flat_outside(cfg, state, obs, u):
        value, slope = continued(cfg, state, obs, u)
        return value, slope.masked_fill(u.abs() > 1.0, 0.0)

    monkeypatch.setattr(wpo, "slope", flat_outside)
    mean, _ = trained(goal, 200, start=3.0, std0=0.5)
    assert (mean > 2.0).all()


def test_a_policy_stays_near_the_cube_where_the_best_action_is_its_edge():
    mean, std = trained(lambda a: 3.0 * a, 300)
    assert (mean > 0.9).all()
    assert (mean < 1.0 + 5.0 * std.clamp_min(0.7)).all()  # only draws inside push it on, and five deviations out there are none


def test_zero_weight_copies_leave_targets_alone():
    cfg = replace(wpo.Config(), **{**TINY, "copy_every": 3})
    state, draw = started(cfg), streams()
    before = {name: vector(state, name).clone() for name in ("policy_target", "q_target")}
    for k in range(3):
        assert_equal({name: vector(state, name) for name in before}, before)
        wpo.update(cfg, state, minibatch(k), wpo.noise(cfg, A, draw))
    for name in before:
        assert torch.equal(vector(state, name), vector(state, name.partition("_")[0]))


def test_a_squashed_policy_stays_finite_and_goes_to_the_edge_where_the_best_action_is():
    """r = a: the flow of actions, which multiplies by cosh^2 u, overflows here; the flow of u moves on as SVG(0) through tanh."""
    cfg = replace(wpo.Config(), **BANDIT, policy="squashed")
    state = wpo.init(cfg, 1, 1, [torch.Generator().manual_seed(k) for k in range(2)], torch.device("cpu"))
    draw, obs = streams(), torch.zeros(2, cfg.batch, 1)
    for _ in range(600):
        action = 2.0 * draw.uniform(cfg.batch, 1) - 1.0
        batch = Batch(obs, action, action[..., 0], torch.zeros(2, cfg.batch), obs)
        wpo.update(cfg, state, batch, wpo.noise(cfg, 1, draw))
    for theta in (state.policy.theta, state.policy.m, state.q.theta):
        assert theta.isfinite().all()
    assert state.policy.m.abs().max() < 1e3  # 2e12 by the flow of actions after 250 updates
    assert (wpo.greedy(cfg, state, obs[:, :1]) > 0.9).all()


def test_a_hard_weight_falls_until_the_deviation_moves_as_far_as_its_bound_allows():
    """From 1e4, where the deviation hardly moves, in steps of dual_lr of its logarithm; then KL stays at the bound while std falls."""
    cfg = replace(wpo.Config(), **BANDIT | {"kl_std": 1e4}, kl="hard", bound_std=1e-4)
    state = wpo.init(cfg, 1, 1, [torch.Generator().manual_seed(k) for k in range(2)], torch.device("cpu"))
    draw, obs, moved = streams(), torch.zeros(2, cfg.batch, 1), []
    for _ in range(1600):
        action = 2.0 * draw.uniform(cfg.batch, 1) - 1.0
        batch = Batch(obs, action, goal(action[..., 0]), torch.zeros(2, cfg.batch), obs)
        before, now = (state.nets.policy.law(theta, obs[:, :1]) for theta in (state.policy_target, state.policy.theta))
        moved.append(decoupled_kl(before, now).std.flatten())
        wpo.update(cfg, state, batch, wpo.noise(cfg, 1, draw))
    early, late = torch.stack(moved[100:200]).mean(0), torch.stack(moved[-300:]).mean(0)
    assert (early < 0.1 * cfg.bound_std).all()
    assert ((late > 0.5 * cfg.bound_std) & (late < 1.5 * cfg.bound_std)).all()  # a mean of 30 copies of a policy that still learns
