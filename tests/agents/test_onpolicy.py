"""Agents that learn from rollouts: the promises that all of them keep, and each update against its formula."""

import itertools
import math
import warnings
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.func import grad, hessian, jacrev

from tests.oracles import central_difference
from tests.policies.plain import assert_equal, assert_trained_as_alone, evaluate, leaf
from wgf import dual, svgd, transport, trusted
from wgf.agents import ip_wgf, pg, ppo, svpg, trpo, wnpg
from wgf.agents.registry import AGENTS, find
from wgf.agents.training import checkpoint, compiled, onpolicy, particles
from wgf.agents.training.damping import NONE
from wgf.agents.training.descent import Adam
from wgf.agents.training.protocol import Streams
from wgf.agents.training.rollout import Rollout, Segment
from wgf.agents.training.schedule import Schedule
from wgf.compiler import available
from wgf.kernels import RBF, median_full, median_svgd, median_svpg
from wgf.mlp import MLP
from wgf.policies.diagonal import DiagonalPolicy

pytestmark = pytest.mark.usefixtures("double")
D, A, CPU = 3, 2, torch.device("cpu")
SMALL = {"hidden": (6, 5), "batch": 24, "envs": 2, "particles": 4, "horizon": 20, "epochs": 2, "inner_steps": 1, "critic_steps": 3}
SMALL["cg_steps"] = 60  # until the solve rounds: one cut short after 15 steps repeats to 1e-9, one that is complete to 1e-15
CASES = {f"{name} {preset}": find(name, preset) for name, presets in AGENTS.items() for preset in presets}
CASES = {name: case for name, case in CASES.items() if isinstance(case[0].memory(case[1], Schedule()), Rollout)}
LEARNED = {"weight_noise": 0.3, "sigma": "learned"}
NOISY = {"fixed noise": {"weight_noise": 0.3}, "learned noise": LEARNED}
CASES |= {
    f"{name} {noise}": (agent, replace(cfg, **settings))
    for name in ("pg", "svpg", "ip-wgf")
    for noise, settings in NOISY.items()
    for agent, cfg in [find(name, "paper")]
}
CASES |= {f"wnpg {metric}": (wnpg, replace(wnpg.PRESETS["paper"], metric=metric)) for metric in ("gaussian", "none")}
each = pytest.mark.parametrize(("agent", "preset"), CASES.values(), ids=CASES.keys())


def small(cfg, **changes):
    return replace(cfg, **{name: value for name, value in {**SMALL, **changes}.items() if hasattr(cfg, name)})


class World:
    """Seeds side by side: a state, and segments which are those of each seed by itself."""

    def __init__(self, agent, cfg, seeds, device=CPU):
        self.agent, self.cfg, self.memory = agent, cfg, agent.memory(cfg, Schedule())
        self.state = agent.init(cfg, D, A, [torch.Generator().manual_seed(k) for k in seeds], device)
        self.draw = Streams([torch.Generator(device).manual_seed(k) for k in seeds])
        self.data, self.device = [torch.Generator().manual_seed(1000 + k) for k in seeds], device

    def segment(self):
        lead = (self.memory.policies, self.memory.steps, self.memory.each)
        obs, action, reward, next_obs = (
            torch.stack([torch.randn(*lead, *d, generator=g) for g in self.data]) for d in ((D,), (A,), (), (D,))
        )
        ends = torch.stack([torch.rand(lead, generator=g) for g in self.data])
        parts = (obs, action, reward, 0.99 * (ends > 0.1), ends < 0.2, next_obs)
        return Segment(*(t.to(self.device) for t in parts))

    def update(self, steps=1, spoil=lambda segment: segment):
        for _ in range(steps):
            self.memory.explore(self.state, self.draw)
            info = self.agent.update(self.cfg, self.state, spoil(self.segment()), self.agent.noise(self.cfg, A, self.draw))()
        return info

    def tensors(self):
        return {name: t.clone() for name, t in checkpoint.tensors(self.state).items()}

    @property
    def theta(self):
        """The policies' parameters: an optimiser's, or of TRPO a tensor."""
        return getattr(self.state.policy, "theta", self.state.policy)

    @property
    def mu(self):
        """The policies' parameters without the noise on their weights."""
        return getattr(self.state, "mu", self.theta)

    @property
    def collector(self):
        """The same with the noise."""
        return getattr(self.state, "collector", self.theta)

    def value(self, obs):
        return self.state.nets.v(self.state.v.theta, obs)

    def estimate(self, segment, reward_scale, decay):
        return onpolicy.estimate(self.value, segment, reward_scale, decay)

    def obs(self):
        return torch.randn(len(self.data), self.memory.policies * 3, D, generator=torch.Generator().manual_seed(5)).to(self.device)


# --- promises ---------------------------------------------------------------------------------------------------------


@each
def test_same_seeds_give_the_same_training_and_a_seed_of_a_stack_trains_as_alone(agent, preset, device):
    runs = [World(agent, small(preset), seeds, device) for seeds in ((3, 4), (3, 4), (4,))]
    infos = [run.update(3) for run in runs]
    assert_trained_as_alone(runs, infos)


@each
def test_state_goes_through_a_checkpoint(agent, preset, device, tmp_path):
    torch.set_default_dtype(torch.float32)
    run, other = World(agent, small(preset), (3, 4), device), World(agent, small(preset), (7, 8), device)
    run.update(2)
    slices = []
    for s in range(2):
        (tmp_path / str(s)).mkdir()
        checkpoint.save(tmp_path / str(s), checkpoint.seed_slice(run.state, s), {"step": 2})
        slices.append(checkpoint.load(tmp_path / str(s))[1])
    checkpoint.restore_(other.state, slices)
    assert_equal(other.tensors(), run.tensors())
    assert torch.equal(agent.greedy(other.cfg, other.state, other.obs()), agent.greedy(run.cfg, run.state, run.obs()))
    other.draw, other.data = run.draw, run.data
    states = [g.get_state() for g in (*run.draw.generators, *run.data)]
    run.update()
    for g, state in zip((*run.draw.generators, *run.data), states, strict=True):
        g.set_state(state)
    other.update()
    assert_equal(other.tensors(), run.tensors())


@each
def test_info_is_finite_with_one_number_a_seed_and_everything_moves(agent, preset, device):
    run = World(agent, small(preset), (3, 4, 5), device)
    before = run.tensors()
    for _ in range(2):
        for tag, value in run.update().items():
            assert value.shape == (3,), tag
            assert value.isfinite().all(), tag
    still = ("eps", "best") if getattr(run.cfg, "metric", "kernel") != "kernel" else ()
    for name, t in run.tensors().items():
        assert not t.ndim or all(torch.equal(t[s], before[name][s]) is (name in still) for s in range(3)), name


@each
def test_actions_are_dealt_to_policies_and_greedy_draws_nothing(agent, preset, device):
    run = World(agent, small(preset), (3, 4), device)
    obs, m = run.obs(), run.memory.policies
    noise = agent.act_noise(run.cfg, A, 3 * m, run.draw)
    action, mean = agent.act(run.cfg, run.state, obs, noise), agent.greedy(run.cfg, run.state, obs)
    policy = run.state.nets.policy
    for i in range(m):
        rows = slice(3 * i, 3 * i + 3)
        still, moved = (policy.mode(theta, obs[:, None, rows].expand(-1, m, -1, -1))[:, i] for theta in (run.mu, run.collector))
        torch.testing.assert_close(mean[:, rows], still)
        torch.testing.assert_close(action[:, rows], moved + policy.log_std(run.collector)[:, i, None].exp() * noise[:, rows])


@each
@pytest.mark.parametrize("part", [0, 1, 2, 3, 5], ids=[Segment._fields[i] for i in (0, 1, 2, 3, 5)])
def test_nan_of_one_seed_does_not_reach_the_others(agent, preset, part, device):
    def spoil(segment):
        parts = [t.clone() for t in segment]
        parts[part][1, 0, 0, 0] = torch.nan
        return Segment(*parts)

    clean, spoiled = (World(agent, small(preset), (3, 4, 5), device) for _ in range(2))
    with trusted():
        clean.update(2)
        info = spoiled.update(2, spoil)
    for name, t in clean.tensors().items():
        if t.ndim:
            assert torch.equal(spoiled.tensors()[name][[0, 2]], t[[0, 2]]), name
    assert all(value[[0, 2]].isfinite().all() for value in info.values())
    assert not all(value[1].isfinite() for value in info.values())


@pytest.mark.parametrize("agent", [svpg, ip_wgf], ids=["svpg", "ip_wgf"])
@pytest.mark.parametrize("bandwidth", ["svpg", "svgd", "full"])
def test_particles_that_are_all_the_same_stay_finite(agent, bandwidth):
    run = World(agent, small(agent.Config(), bandwidth=bandwidth), (3,))
    run.state.policy.theta.copy_(run.state.policy.theta[:, :1].expand_as(run.state.policy.theta))
    info = run.update(2)
    assert all(value.isfinite().all() for value in info.values())
    assert run.state.policy.theta.isfinite().all()


@pytest.mark.parametrize("config", [pg.Config, svpg.Config, ip_wgf.Config])
def test_a_batch_that_environments_do_not_divide_is_refused(config):
    with pytest.raises(ValueError, match="batch is 25; it must be a multiple of envs, 10"):
        config(batch=25)


def shape(agent, cfg):
    """Policies, environments per policy and steps of a segment."""
    memory = agent.memory(cfg, Schedule())
    return memory.policies, memory.each, memory.steps


def test_the_paper_presets_carry_table_4():
    for agent in (svpg, ip_wgf):
        cfg = agent.PRESETS["paper"]
        assert (cfg.particles, cfg.batch, cfg.hidden, cfg.lr, cfg.gamma, cfg.lam) == (16, 5000, (25, 16), 5e-3, 0.99, 1.0)
        assert shape(agent, cfg) == (16, 10, 500)
    assert (ip_wgf.Config().w2, ip_wgf.Config().w2_scale) == ("eq9_sum", 4e-4)
    for agent in (ppo, trpo, wnpg):
        assert shape(agent, agent.Config(horizon=100, envs=3)) == (1, 3, 100)
    assert trpo.PRESETS["paper"].hidden == (128, 128)  # Sec. 6.3


# --- the parts that they share ----------------------------------------------------------------------------------------


def test_advantages_are_standardised_policy_by_policy():
    values = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0)) * 7.0 + 3.0
    found = onpolicy.standardised(values)
    torch.testing.assert_close(found.mean(-1), torch.zeros(2, 3), atol=1e-9, rtol=0)
    torch.testing.assert_close(found.square().mean(-1), torch.ones(2, 3))
    assert (found[0, 0] * (values[0, 0] - values[0, 0].mean()) >= 0).all()
    assert torch.equal(onpolicy.standardised(torch.ones(1, 1, 5)), torch.zeros(1, 1, 5))
    faint = onpolicy.standardised(torch.tensor([[[-1e-8, 1e-8]]]))  # of a deviation of 1e-8, beside which stands another
    torch.testing.assert_close(faint, torch.tensor([[[-0.5, 0.5]]]))


def test_advantages_take_scaled_rewards_and_the_critics_values():
    run = World(pg, small(pg.Config()), (3, 4))
    segment = run.segment()
    advantage, target = run.estimate(segment, 5.0, 0.0)
    torch.testing.assert_close(target, 5.0 * segment.reward + segment.discount * run.value(segment.next_obs))
    torch.testing.assert_close(advantage, target - run.value(segment.obs))


def test_the_policy_gradient_is_that_of_the_return_on_a_linear_quadratic_task():
    """s' = s + a, r = -s'^2, two steps, a ~ N(k s + b, exp(2 l)): J(k, b, l) in closed form; four deviations of Monte Carlo."""
    n, theta = 400_000, torch.tensor([-0.4, 0.2, -0.3])  # k, b, l
    generator = torch.Generator().manual_seed(0)

    def expected_return(p):
        k, b, variance = p[0], p[1], torch.exp(2.0 * p[2])
        first = (1.0 + k) ** 2 + b**2 + variance  # of s0 ~ N(0, 1)
        return -first - ((1.0 + k) ** 2 * first + 2.0 * (1.0 + k) * b * b + b**2 + variance)

    policy, at = DiagonalPolicy(MLP((1, 1)), 1), theta.view(1, 1, 3)
    s = torch.randn(1, 1, n, 1, generator=generator)
    columns = []
    for t in range(2):
        a = policy.draw(at, s, torch.randn(1, 1, n, 1, generator=generator)).action
        after = s + a
        columns.append((s, a, -after[..., 0].square(), torch.full((1, 1, n), float(t < 1)), torch.full((1, 1, n), t == 1), after))
        s = after
    segment = Segment(*(torch.stack(c, 2) for c in zip(*columns, strict=True)))
    advantage, _ = onpolicy.estimate(lambda obs: torch.zeros_like(obs[..., 0]), segment, 1.0, 1.0)
    found = onpolicy.policy_gradient(policy, at, segment, advantage)[0, 0] * advantage.std(correction=0) * 2.0
    expected = central_difference(lambda p: expected_return(p), theta)
    log_prob = policy.log_prob(at, segment.obs.flatten(2, 3), segment.action.flatten(2, 3))
    each = torch.stack([(advantage.flatten(2) - advantage.mean())[0, 0] * g for g in _scores(theta, segment)])
    error = 4.0 * each.std(-1) / (2 * n) ** 0.5 * 2.0 * 2.0**0.5  # two steps of one episode are not independent: at most sqrt(2) more
    assert log_prob.shape == (1, 1, 2 * n)
    assert (found - expected).abs().le(error).all(), (found, expected, error)
    assert (expected.abs() > 5.0 * error).all()


def _scores(theta, segment):
    """grad log pi of each sample in (k, b, l), by hand."""
    k, b, log_std = theta
    s, a = segment.obs.flatten(), segment.action.flatten()
    z = (a - k * s - b) * torch.exp(-log_std)
    return z * torch.exp(-log_std) * s, z * torch.exp(-log_std), z.square() - 1.0


@pytest.mark.parametrize("agent", [pg, svpg], ids=["one policy", "several"])
def test_a_critic_goes_through_the_segment_once_each_step_on_times_of_all_of_it(agent):
    run = World(agent, small(agent.Config()), (3, 4))
    segment, net, other = run.segment(), run.state.nets.v, World(agent, small(agent.Config()), (3, 4)).state
    target = torch.randn_like(segment.reward)
    loss, losses = onpolicy.fit_(net, run.state.v, segment, target, 5), []
    for times in ([0, 5, 10], [1, 6, 11], [2, 7], [3, 8], [4, 9]):
        theta = leaf(other.v.theta)
        value = evaluate(net.net, theta, segment.obs[:, :, times].flatten(2, 3))[..., 0]
        losses.append(0.5 * (value - target[:, :, times].flatten(2)).square().mean(-1))
        other.v.step(torch.autograd.grad(losses[-1].sum(), theta)[0])
    torch.testing.assert_close(run.state.v.theta, other.v.theta)
    torch.testing.assert_close(loss, torch.stack(losses).mean((0, 2)).detach())


class Counting:
    """Runs the steps that an update takes many times as they are, and counts them."""

    taken = 0

    def __call__(self, function, *args):
        Counting.taken += 1
        return function(*args)


@each
def test_a_memory_knows_how_many_steps_of_the_networks_an_update_takes(agent, preset, monkeypatch):
    monkeypatch.setattr(onpolicy, "TIMES", 5)
    monkeypatch.setattr(compiled, "Recorder", Counting)
    monkeypatch.setattr(Counting, "taken", 0)
    run = World(agent, small(preset), (3,))
    segment, noise = run.segment(), agent.noise(run.cfg, A, run.draw)
    compiled.update(agent, run.cfg, run.state, compile=True, whole=False)(segment, noise)
    # epochs of ceil(40 / 24) minibatches; or 3 steps of the critics, and the gradient of 12 times in parts of 5
    assert Counting.taken == run.memory.pieces == (2 * 2 if agent in (ppo, trpo, wnpg) else 3 + 3)


@pytest.mark.skipif(not available(), reason="needs a C++ compiler")
def test_steps_with_a_penalty_are_compiled():
    """Sinkhorn's plan is an operator of the machine code, and what follows it can be joined to Adam's loops."""
    cfg = small(wnpg.PRESETS["bgpg"])
    plain, quick = World(wnpg, cfg, (3, 4)), World(wnpg, cfg, (3, 4))
    with trusted(), warnings.catch_warnings():
        warnings.filterwarnings("error", message="not compiled")
        plain.update()
        compiled.update(wnpg, cfg, quick.state, compile=True, whole=False)(quick.segment(), wnpg.noise(cfg, A, quick.draw))
    torch.testing.assert_close(quick.theta, plain.theta, rtol=1e-8, atol=1e-8)


def test_the_gradient_and_the_advantages_are_the_same_in_parts(monkeypatch):
    run = World(svpg, small(svpg.Config()), (3, 4))
    segment, found = run.segment(), []
    for times in (50, 5):
        monkeypatch.setattr(onpolicy, "TIMES", times)
        advantage, target = run.estimate(segment, 1.0, 0.9)
        found.append((advantage, target, onpolicy.policy_gradient(run.state.nets.policy, run.theta, segment, advantage)))
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("agent", [pg, svpg, ip_wgf], ids=lambda agent: agent.__name__)
def test_weight_noise_moves_who_collects_and_where_the_gradient_is_taken_not_the_policy(agent):
    run = World(agent, small(agent.Config(), weight_noise=0.3), (3, 4))
    state, theta = run.state, run.state.policy.theta.clone()
    run.memory.explore(state, Streams([torch.Generator().manual_seed(k) for k in (8, 9)]))
    noise = torch.stack([torch.randn(theta.shape[1:], generator=torch.Generator().manual_seed(k)) for k in (8, 9)])
    torch.testing.assert_close(state.noisy, theta + 0.3 * noise)
    assert torch.equal(state.policy.theta, theta)
    obs, still = run.obs(), torch.zeros(2, run.memory.policies * 3, A)
    each = torch.unflatten(obs, 1, (-1, 3))
    policy = state.nets.policy
    torch.testing.assert_close(agent.act(run.cfg, state, obs, still), policy.mode(state.noisy, each).flatten(1, 2))
    torch.testing.assert_close(agent.greedy(run.cfg, state, obs), policy.mode(theta, each).flatten(1, 2))
    segment = run.segment()
    advantage, _ = run.estimate(segment, 1.0, run.cfg.gamma * run.cfg.lam)
    gradient = onpolicy.policy_gradient(policy, state.noisy, segment, advantage)
    info = agent.update(run.cfg, state, segment, None)()
    torch.testing.assert_close(info["policy/gradient"], gradient.norm(dim=-1).mean(1))
    assert (state.policy.theta - theta).abs().max() < 1.5 * run.cfg.lr


@pytest.mark.parametrize("settings", NOISY.values(), ids=NOISY.keys())
def test_one_particle_with_weight_noise_is_noisy_exploration_of_its_policy_gradient(settings):
    alone = replace(ip_wgf.Config(), particles=1, alpha=1.0, w2_scale=0.0, **settings)
    runs = World(pg, small(pg.Config(), **settings), (3, 4)), World(ip_wgf, small(alone, particles=1), (3, 4))
    for run in runs:
        run.update(3)
    torch.testing.assert_close(runs[1].state.policy.theta, runs[0].state.policy.theta, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("agent", [pg, svpg, ip_wgf], ids=lambda agent: agent.__name__)
def test_learned_noise_of_every_weight_has_a_deviation_of_its_own_which_starts_as_configured(agent):
    run, plain = (World(agent, small(agent.Config(), **settings), (3, 4)) for settings in (LEARNED, {}))
    state, p = run.state, plain.theta.shape[-1]
    assert torch.equal(run.theta, torch.cat([plain.theta, torch.full_like(plain.theta, 0.3)], -1))
    run.theta[..., p:] *= torch.linspace(-2.0, 2.0, p)
    mu, sigma = run.theta[..., :p].clone(), run.theta[..., p:].clone()
    run.memory.explore(state, Streams([torch.Generator().manual_seed(k) for k in (8, 9)]))
    xi = torch.stack([torch.randn(mu.shape[1:], generator=torch.Generator().manual_seed(k)) for k in (8, 9)])
    assert torch.equal(state.xi, xi)
    assert torch.equal(run.mu, mu)
    torch.testing.assert_close(run.collector, mu + sigma * xi)
    info = agent.update(run.cfg, state, run.segment(), None)()
    after = run.theta[..., p:]
    assert (after != sigma).all()
    torch.testing.assert_close(info["policy/weight_noise"], after.abs().mean((1, 2)))


def test_a_layer_with_learned_noise_is_equation_22():
    """y = (mu_w + sigma_w xi_w) x + mu_b + sigma_b xi_b, layer by layer."""
    run = World(pg, small(pg.Config(), **LEARNED), (3, 4))
    run.theta.normal_(generator=torch.Generator().manual_seed(0))
    run.memory.explore(run.state, run.draw)
    net, obs = run.state.nets.policy.net, run.obs()
    x = obs[:, None]
    parts = [net.layers(t[..., :-A]) for t in (*run.theta.chunk(2, -1), run.state.xi)]
    for i, ((mu_w, mu_b), (sigma_w, sigma_b), (xi_w, xi_b)) in enumerate(zip(*parts, strict=True)):
        x = (torch.tanh(x) if i else x) @ (mu_w + sigma_w * xi_w) + (mu_b + sigma_b * xi_b)
    torch.testing.assert_close(pg.act(run.cfg, run.state, obs, torch.zeros(2, 3, A)), x[:, 0])


def test_learned_noise_that_costs_return_falls_by_the_gradient_of_the_expected_return():
    """r = -a^2, a ~ N(w s + b, exp(2 l)), s ~ N(0, 1): J = -w^2 - b^2 - exp(2 l). With (w, b, l) = mu + sigma xi the expected return is
    -sum over w and b of (mu^2 + sigma^2) - exp(2 mu_l + 2 sigma_l^2). Four deviations of Monte Carlo over policies."""
    policies, each, p = 40_000, 10, 3
    mu, sigma = torch.tensor([0.6, -0.5, -0.2]), torch.tensor([0.5, -0.7, 0.3])
    policy, g = DiagonalPolicy(MLP((1, 1)), 1), torch.Generator().manual_seed(0)
    theta = torch.cat([mu, sigma]).expand(1, policies, -1).contiguous()
    state = onpolicy.State(onpolicy.Nets(policy, None), Adam(theta, 1e-2), None, *(torch.empty(1, policies, p) for _ in range(2)))
    onpolicy.explore(pg.Config(**LEARNED), state, Streams([g]))
    obs, xi = (torch.randn(1, policies, each, 1, generator=g) for _ in range(2))
    action = policy.draw(state.collector, obs, xi).action
    reward, s, a = (t.view(1, policies, 1, each, *t.shape[3:]) for t in (-action[..., 0].square(), obs, action))
    found = onpolicy.ascent(state, Segment(s, a, reward, reward, reward > 0, s), reward)[0]
    # in the return's unit, and without the share of a sample in the mean that is taken off it
    found = found * reward.std(-1, correction=0)[0] * each / (each - 1)
    spread = torch.exp(2.0 * mu[2] + 2.0 * sigma[2].square())
    expected = torch.cat([-2.0 * mu[:2], -2.0 * spread[None], -2.0 * sigma[:2], -4.0 * (sigma[2] * spread)[None]])
    error = 4.0 * found.std(0) / policies**0.5
    assert ((found.mean(0) - expected).abs() <= error).all(), (found.mean(0), expected, error)
    assert (expected.abs() > 5.0 * error).all()


# --- each update against its formula ----------------------------------------------------------------------------------


def by_hand(run, segment):
    """grad E J of every policy by autograd, (S, M, P), from advantages of the critics before they move; through mu + sigma xi."""
    state, cfg = run.state, run.cfg
    advantage, _ = run.estimate(segment, cfg.reward_scale, cfg.gamma * cfg.lam)
    flat = advantage.flatten(2)
    weight = (flat - flat.mean(-1, keepdim=True)) / (flat.std(-1, correction=0, keepdim=True) + 1e-8)
    theta = leaf(state.policy.theta)
    p = theta.shape[-1] // 2
    at = theta if state.xi is None else theta[..., :p] + theta[..., p:] * state.xi
    law = Normal(evaluate(state.nets.policy.net, at[..., :-A], segment.obs.flatten(2, 3)), at[..., -A:].exp()[:, :, None])
    return torch.autograd.grad((weight * law.log_prob(segment.action.flatten(2, 3)).sum(-1)).mean(-1).sum(), theta)[0]


def stepped(adam, theta, gradient):
    """theta after an Adam step of a copy."""
    copy = deepcopy(adam)
    copy.theta = theta.clone()
    copy.step(gradient)
    return copy.theta


def fitted(state, segment, target, cfg):
    """The losses of the critics' steps, of a copy."""
    return onpolicy.fit_(state.nets.v, deepcopy(state.v), segment, target, cfg.critic_steps)


with_noise = pytest.mark.parametrize("noise", [{}, LEARNED], ids=["no noise", "learned noise"])


@with_noise
@pytest.mark.parametrize("lam", [0.0, 0.9])
def test_pg_ascends_the_return(lam, noise):
    run = World(pg, small(pg.Config(), lam=lam, reward_scale=3.0, **noise), (3, 4))
    run.update()
    run.memory.explore(run.state, run.draw)
    segment, state = run.segment(), run.state
    gradient, before = by_hand(run, segment), state.policy.theta.clone()
    advantage, target = run.estimate(segment, 3.0, 0.99 * lam)
    expected = stepped(state.policy, before, -gradient)
    loss = fitted(state, segment, target, run.cfg)
    info = pg.update(run.cfg, state, segment, None)()
    torch.testing.assert_close(state.policy.theta, expected)
    torch.testing.assert_close(info["policy/gradient"], gradient.norm(dim=-1).mean(1))
    torch.testing.assert_close(info["losses/values"], (target - advantage).mean((1, 2, 3)))
    torch.testing.assert_close(info["losses/v"], loss)
    mu = before.chunk(2, -1)[0] if noise else before
    torch.testing.assert_close(info["policy/entropy"], Normal(0.0, mu[..., -A:].exp()).entropy().sum(-1).mean(1))
    assert ("policy/weight_noise" in info) == bool(noise)


@pytest.mark.parametrize(("bandwidth", "rule"), [("svpg", median_svpg), ("svgd", median_svgd), ("full", median_full)])
@pytest.mark.parametrize(("prior", "anneal"), [(0.0, 0), (0.7, 5)])
@with_noise
def test_svpg_moves_particles_along_the_stein_direction_of_the_tempered_return(bandwidth, rule, prior, anneal, noise):
    run = World(
        svpg, small(svpg.Config(), lam=0.9, alpha=3.0, bandwidth=bandwidth, prior=prior, anneal=anneal, reward_scale=3.0, **noise), (3, 4)
    )
    run.update(2)
    run.memory.explore(run.state, run.draw)
    segment, state = run.segment(), run.state
    x = state.policy.theta.clone()
    alpha = 3.0 * (1.0 - 2.0 / 5.0) if anneal else 3.0
    score = by_hand(run, segment) / alpha - (x / prior if prior else 0.0)
    v = svgd.velocity(x, score, RBF(rule(x)))
    expected = stepped(state.policy, x, -v)
    info = svpg.update(run.cfg, state, segment, None)()
    torch.testing.assert_close(state.policy.theta, expected)
    torch.testing.assert_close(info["flow/kl_speed"], v.norm(dim=-1).mean(1))
    centred = expected - expected.mean(1, keepdim=True)
    torch.testing.assert_close(info["flow/spread"], centred.square().sum(-1).mean(1).sqrt())
    torch.testing.assert_close(info["flow/w2_moved"], transport.exact_cost(expected, x).sqrt())


def test_a_temperature_falls_to_a_hundredth_and_no_further():
    run = World(svpg, small(svpg.Config(), alpha=3.0, anneal=4), (3,))
    x, g = run.state.policy.theta, torch.ones_like(run.state.policy.theta)
    for t, alpha in ((0, 3.0), (1, 2.25), (4, 0.03), (9, 0.03)):
        run.state.policy.steps.fill_(t)
        torch.testing.assert_close(particles.score(run.cfg, x, g, run.state.policy), g / alpha)


@pytest.mark.parametrize("w2", ["eq9_sum", "exact", "common_noise"])
@pytest.mark.parametrize("inner_steps", [1, 2])
@with_noise
def test_ip_wgf_adds_the_w2_velocity_to_the_last_iterate(w2, inner_steps, noise):
    cfg = small(ip_wgf.Config(), w2=w2, w2_scale=0.7, inner_steps=inner_steps, lam=0.9, alpha=2.0, reward_scale=3.0, **noise)
    run = World(ip_wgf, cfg, (3, 4))
    iterates = [run.state.policy.theta.clone()]
    for k in range(4):
        run.memory.explore(run.state, run.draw)
        segment, state, x = run.segment(), run.state, run.state.policy.theta.clone()
        previous = iterates[0] if k == 0 else iterates[(k - 1) // inner_steps * inner_steps]
        assert torch.equal(state.previous, previous)
        score = by_hand(run, segment) / 2.0
        kl = svgd.velocity(x, score, RBF(median_svpg(x)))
        pull = 0.7 * transport.VELOCITIES[w2](x, previous)
        expected = stepped(state.policy, x, -(kl + pull))
        info = ip_wgf.update(cfg, state, segment, None)()
        torch.testing.assert_close(state.policy.theta, expected)
        torch.testing.assert_close(info["flow/w2_speed"], pull.norm(dim=-1).mean(1))
        torch.testing.assert_close(info["flow/kl_speed"], kl.norm(dim=-1).mean(1))
        iterates.append(run.state.policy.theta.clone())


def test_without_its_w2_term_ip_wgf_is_svpg_and_one_particle_is_its_policy_gradient():
    cfg = small(svpg.Config(), alpha=1.0)
    flow = ip_wgf.Config(**{**{f: getattr(cfg, f) for f in cfg.__dataclass_fields__}, "w2_scale": 0.0})
    runs = World(svpg, cfg, (3, 4)), World(ip_wgf, flow, (3, 4))
    for run in runs:
        run.update(3)
    assert torch.equal(runs[0].state.policy.theta, runs[1].state.policy.theta)
    alone = World(pg, small(pg.Config()), (3, 4)), World(ip_wgf, replace(flow, particles=1), (3, 4))
    for run in alone:
        run.update(3)
    torch.testing.assert_close(alone[0].state.policy.theta, alone[1].state.policy.theta, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("w2", ["eq9_sum", "exact", "debiased"])
def test_a_particle_does_not_know_its_number(w2):
    order = torch.tensor([2, 0, 3, 1])
    cfg = small(ip_wgf.Config(), w2=w2)
    run, other = World(ip_wgf, cfg, (3,)), World(ip_wgf, cfg, (3,))
    for name in ("policy", "v"):
        getattr(other.state, name).theta.copy_(getattr(run.state, name).theta[:, order])
    other.state.previous.copy_(run.state.previous[:, order])
    for _ in range(3):
        segment = run.segment()
        ip_wgf.update(cfg, run.state, segment, None)
        ip_wgf.update(cfg, other.state, Segment(*(t[:, order] for t in segment)), None)
    torch.testing.assert_close(other.state.policy.theta, run.state.policy.theta[:, order], rtol=1e-7, atol=1e-9)


def test_ppo_descends_its_clipped_surrogate_and_the_values_error_in_minibatches():
    cfg = small(ppo.Config(), batch=14, lr=0.05, clip=0.1, max_norm=1.5, reward_scale=2.0)
    run, other = World(ppo, cfg, (3, 4)), World(ppo, cfg, (3, 4))
    segment, order = run.segment(), ppo.noise(cfg, A, run.draw)
    assert order.shape == (2, 2, 40)
    assert torch.equal(order.sort(-1).values, torch.arange(40).expand(2, 2, 40))
    state = other.state
    advantage, target = (t.flatten(2) for t in other.estimate(segment, 2.0, cfg.gamma * cfg.lam))
    obs, action = segment.obs.flatten(2, 3), segment.action.flatten(2, 3)

    def density(theta, s, a):
        law = Normal(evaluate(state.nets.policy.net, theta[..., :-A], s), theta[..., -A:].exp()[:, :, None])
        return law.log_prob(a).sum(-1)

    old, held, cut, told = density(state.policy.theta.detach(), obs, action), 0, 0, []
    for epoch in order.unbind(1):
        for rows in epoch.split(14, -1):
            s, a, gain, y, before = (torch.stack([t[i][:, rows[i]] for i in range(2)]) for t in (obs, action, advantage, target, old))
            gain = (gain - gain.mean(-1, keepdim=True)) / (gain.std(-1, correction=0, keepdim=True) + 1e-8)
            theta, w = leaf(state.policy.theta), leaf(state.v.theta)
            ratio = torch.exp(density(theta, s, a) - before)
            surrogate = torch.minimum(ratio * gain, ratio.clamp(0.9, 1.1) * gain).mean(-1)
            value = evaluate(state.nets.v.net, w, s)[..., 0]
            loss = -surrogate + 0.5 * (value - y).square().mean(-1)
            g, h = torch.autograd.grad(loss.sum(), (theta, w))
            norm = torch.cat([g, h], -1).norm(dim=-1)[..., None]
            scale = (1.5 / (norm + 1e-6)).clamp_max(1.0)
            state.policy.step(scale * g)
            state.v.step(scale * h)
            error = 0.5 * (value - y).square().mean(-1)
            away, distance = ((ratio < 0.9) | (ratio > 1.1)).double().mean(-1), (ratio - 1.0 - ratio.log()).mean(-1)
            told.append(torch.cat([error, away, distance], 1).detach())
            held += int((((ratio > 1.1) & (gain > 0)) | ((ratio < 0.9) & (gain < 0))).sum())
            cut += int((norm > 1.5).sum())
    info = ppo.update(cfg, run.state, segment, order)()
    assert held > 5
    assert 0 < cut < 12
    near = {"rtol": 1e-9, "atol": 1e-11}  # sums of a hundred terms of order one in float64, and Adam's quotient
    torch.testing.assert_close(run.state.policy.theta, state.policy.theta, **near)
    torch.testing.assert_close(run.state.v.theta, state.v.theta, **near)
    for tag, value in zip(("losses/v", "policy/clipped", "policy/kl"), torch.stack(told).mean(0).T, strict=True):
        torch.testing.assert_close(info[tag], value, **near, msg=lambda m, tag=tag: f"{tag}: {m}")
    torch.testing.assert_close(info["losses/values"], (target - advantage).mean((1, 2)))
    torch.testing.assert_close(info["policy/entropy"], Normal(0.0, run.theta[..., -A:].exp()).entropy().sum(-1).mean(1))


@pytest.mark.parametrize(("agent", "changes"), [(ppo, {}), (wnpg, {"metric": "none"})], ids=["ppo", "wnpg"])
def test_a_policy_that_left_its_actions_has_a_finite_distance_to_the_old_one(agent, changes):
    """Deviations of 3e-4, and steps of 0.05: ratios are rounded to 0, whose logarithm is not that of the ratio."""
    run = World(agent, small(agent.Config(), lr=0.05, **changes), (3, 4))
    run.theta[..., -A:] = -8.0

    def near(segment):
        mean = run.state.nets.policy.mode(run.theta, segment.obs.flatten(2, 3)).view_as(segment.action)
        return segment._replace(action=mean + math.exp(-8.0) * segment.action)

    found = run.update(spoil=near)["policy/kl"]
    assert found.isfinite().all()
    assert (found > 800.0).all()  # exp(-800) is 0 in float64


def kernel_rows(behaviour, theta, axes):
    """L^(-1/2) J of one seed, by dense matrices; functions at the first states of ``behaviour``: theta -> (N, d)."""
    x = behaviour(theta)
    points = x[: len(axes)]
    square = (points[:, None] - x).square().sum(-1).mean()

    def function(y, axis, x):
        return grad(lambda y: torch.exp(-(x - y).square().sum() / (2.0 * square)))(y)[axis]

    def values(x):
        return torch.stack([torch.stack([function(y, i, z) for z in x]) for y, i in zip(points, axes, strict=True)])

    slopes = torch.stack(
        [torch.stack([grad(lambda z, y=y, i=i: function(y, i, z))(z) for z in x]) for y, i in zip(points, axes, strict=True)]
    )
    jacobian = jacrev(lambda theta: values(behaviour(theta)).mean(1))(theta)
    size, vectors = torch.linalg.eigh(slopes.flatten(1) @ slopes.flatten(1).T / len(x))
    return (vectors / size.sqrt()).T @ jacobian


def gaussian_direction(policy, theta, gradient, states, damping):
    """(G + damping I)^-1 g of one seed's policy, G the second derivative of E_s W2^2 / 2."""

    def half_w2_squared(other):
        one, two = density(policy, other, states), density(policy, theta, states)
        return 0.5 * ((one.mean - two.mean).square().sum(-1) + (one.stddev - two.stddev).square().sum(-1)).mean()

    return torch.linalg.solve(hessian(half_w2_squared)(theta) + damping * torch.eye(len(theta)), gradient)


class Joint:
    """Policy and critic of one seed as one vector, on one minibatch: states (B, D), actions, gains, targets, old log pi and draws."""

    def __init__(self, nets, size, features, *rows):
        self.policy, self.v, self.size, self.features = nets.policy, nets.v, size, features
        self.penalty, self.states, self.action, gain, self.target, self.old, self.xi, self.did = rows
        self.gain = (gain - gain.mean()) / (gain.std(correction=0) + 1e-8)

    def law(self, joint):
        return density(self.policy, joint[: self.size], self.states)

    def value(self, joint):
        return evaluate(self.v.net, joint[None, self.size :], self.states[None])[0]

    def parts(self, joint):
        ratio = torch.exp(self.law(joint).log_prob(self.action).sum(-1) - self.old)
        return ratio, 0.5 * (self.value(joint)[:, 0] - self.target).square().mean()

    def loss(self, joint):
        ratio, error = self.parts(joint)
        return 0.5 * error - (ratio * self.gain).mean() + self.penalty * self.distance(self.behaviour(joint))

    def distance(self, does):
        if self.features is None:
            return transport.entropic_cost(does, self.did, 1.0)
        return dual.value(does, self.did, 1.0, dual.maximised(does, self.did, 1.0, self.features, steps=25))

    def behaviour(self, joint):
        law = self.law(joint)
        return torch.cat([(law.mean[:, None] + law.stddev[:, None] * self.xi).flatten(1), self.value(joint)], -1)

    def rows(self, joint, picks):
        return kernel_rows(self.behaviour, joint, [int(u * (2 * A + 1)) for u in picks[: len(self.states)]])

    def direction(self, cfg, joint, gradient, rows, eps):
        found = gradient.clone()
        if cfg.metric == "kernel":  # (J' L^+ J + eps D^-1)^-1 g
            found = torch.linalg.solve(rows.T @ rows + eps * torch.diag(rows.norm(dim=0) + 1e-8), gradient)
        elif cfg.metric == "gaussian":
            mine = slice(0, self.size)
            found[mine] = gaussian_direction(self.policy, joint[mine], gradient[mine], self.states, cfg.damping)
        return found


def test_a_step_of_wnpg_that_leads_uphill_has_no_ratio():
    cfg = small(wnpg.Config(), batch=40, epochs=1, lr=0.01, damping=0.1, basis=3, draws=2)
    run, other = World(wnpg, cfg, (3, 4)), World(wnpg, cfg, (3, 4))
    segment, noise = run.segment(), wnpg.noise(cfg, A, run.draw)
    wnpg.update(cfg, other.state, segment, noise)
    assert (other.state.best > NONE).all()
    for mine, down in ((run.state.policy, other.state.policy), (run.state.v, other.state.v)):
        mine.m.copy_(1e6 * (down.theta - mine.theta))  # Adam's mean gradient, against the step that the other took
    wnpg.update(cfg, run.state, segment, noise)
    assert run.state.best.tolist() == [NONE, NONE]


@pytest.mark.parametrize(
    ("metric", "longest", "penalty", "by"),
    [
        ("kernel", 600.0, 0.0, "potentials"),
        ("kernel, renewed every second step", 600.0, 0.0, "potentials"),
        ("kernel", 600.0, 0.3, "potentials"),
        ("gaussian", 1.5, 0.0, "potentials"),
        ("none", 1.1, 0.0, "potentials"),
        ("none", 1.1, 0.3, "potentials"),
        ("none", 1.1, 0.3, "features"),
    ],
)
def test_wnpg_takes_the_dense_natural_step_of_policy_and_critic_together(metric, longest, penalty, by):
    metric, _, late = metric.partition(",")
    cfg = small(wnpg.Config(metric=metric), batch=14, lr=0.01, max_norm=longest, damping=0.1, basis=3, draws=2, epochs=4, reward_scale=2.0)
    cfg = replace(cfg, penalty=penalty, dual=by, **({"renew": 2, "batch": 19} if late else {}))  # 19: the last of an epoch has two states
    run, other = World(wnpg, cfg, (3, 4)), World(wnpg, cfg, (3, 4))
    segment, noise = run.segment(), wnpg.noise(cfg, A, run.draw)
    state, size = other.state, other.theta.shape[-1]
    advantage, target = (t.flatten(2) for t in other.estimate(segment, 2.0, cfg.gamma * cfg.lam))
    obs, action = segment.obs.flatten(2, 3), segment.action.flatten(2, 3)
    old = state.nets.policy.log_prob(other.theta, obs, action)
    start = [torch.cat([state.policy.theta[s, 0], state.v.theta[s, 0]]) for s in range(2)]
    xi = noise.xi if metric == "kernel" or penalty else torch.zeros(2, 1, 40, 1, A)
    eps, best, told, lengths, rows_of = [0.1, 0.1], [-torch.inf, -torch.inf], [], [], [None, None]
    for k, rows in enumerate(rows for epoch in noise.order.unbind(1) for rows in epoch.split(cfg.batch, -1)):
        found = []
        for s in range(2):
            joint = torch.cat([state.policy.theta[s, 0], state.v.theta[s, 0]])
            own = [t[s, 0, rows[s]] for t in (obs, action, advantage, target, old, xi)]
            features = dual.Features(noise.frequencies[s], noise.phases[s]) if by == "features" else None
            at_first = Joint(state.nets, size, None, 0.0, *own, None)
            one = Joint(state.nets, size, features, penalty, *own, at_first.behaviour(start[s]))
            g = grad(one.loss)(joint)
            if metric == "kernel" and k % cfg.renew == 0:
                rows_of[s] = one.rows(joint, noise.axes[s, k])
            direction = one.direction(cfg, joint, g, rows_of[s], eps[s])
            lengths.append(direction.norm().item())
            found.append((one, joint, g, direction * min(1.0, longest / (lengths[-1] + 1e-6))))
        both = torch.stack([direction for *_, direction in found])[:, None]
        state.policy.step(both[..., :size])
        state.v.step(both[..., size:])
        seen = []
        for s, (one, joint, g, direction) in enumerate(found):
            now = torch.cat([state.policy.theta[s, 0], state.v.theta[s, 0]])
            best[s] = max(best[s], (2.0 * (one.loss(joint) - one.loss(now)) / (g @ (joint - now))).item())
            if (k + 1) % 5 == 0:
                eps[s] *= 1.0 / 0.85 if best[s] < 0.25 else 0.85 if best[s] > 0.75 else 1.0
                best[s] = -torch.inf
            ratio, error = one.parts(joint)
            seen.append(torch.stack([error, (ratio - 1.0 - ratio.log()).mean(), direction @ g / (direction.norm() * g.norm())]))
        told.append(torch.stack(seen))
    info = wnpg.update(cfg, run.state, segment, noise)()
    near = {"rtol": 1e-6, "atol": 1e-8}  # a whitened metric, and Adam's quotient
    torch.testing.assert_close(run.theta, state.policy.theta, **near)
    torch.testing.assert_close(run.state.v.theta, state.v.theta, **near)
    for tag, value in zip(("losses/v", "policy/kl", "policy/cosine"), torch.stack(told).mean(0).T, strict=True):
        torch.testing.assert_close(info[tag], value, **near, msg=lambda m, tag=tag: f"{tag}: {m}")
    assert info["policy/damping"].tolist() == pytest.approx(eps if metric == "kernel" else [0.1, 0.1])
    if metric == "kernel":
        torch.testing.assert_close(run.state.best, torch.tensor(best), **near)  # of the two steps since it was last changed
    torch.testing.assert_close(info["losses/values"], (target - advantage).mean((1, 2)))
    assert metric == "none" or (info["policy/cosine"] < 0.999).all()
    assert min(lengths) < longest < max(lengths)


def test_the_features_of_the_penalty_have_the_kernel_of_the_authors_code():
    """Frequencies N(0, 1) / 0.1, phases U(0, 2 pi), 100 of each; none where they are not asked for."""
    cfg, draw = wnpg.Config(penalty=0.1, dual="features"), Streams([torch.Generator().manual_seed(k) for k in range(40)])
    found = wnpg.noise(cfg, A, draw)
    assert found.frequencies.shape == (40, 10 * A + 1, 100)
    assert found.frequencies.std().item() == pytest.approx(10.0, rel=0.02)
    assert found.frequencies.mean().item() == pytest.approx(0.0, abs=0.2)
    assert found.phases.shape == (40, 100)
    assert found.phases.min() >= 0.0
    assert found.phases.max().item() == pytest.approx(2.0 * math.pi, rel=0.01)
    for other in (replace(cfg, penalty=0.0), replace(cfg, dual="potentials")):
        assert wnpg.noise(other, A, draw).phases.shape == (40, 0)


def test_wnpg_falls_back_to_the_gradient_where_its_direction_is_no_ascent(monkeypatch):
    cfg = small(wnpg.Config(metric="kernel"), lr=0.01)
    turned, plain = World(wnpg, cfg, (3,)), World(wnpg, replace(cfg, metric="none"), (3,))
    monkeypatch.setattr(wnpg, "preconditioned", lambda cfg, state, gradient, *_: gradient if cfg.metric == "none" else -3.0 * gradient)
    segment, noise = turned.segment(), wnpg.noise(cfg, A, turned.draw)
    for world in (turned, plain):
        assert wnpg.update(world.cfg, world.state, segment, noise)()["policy/cosine"].item() == pytest.approx(1.0)
    assert torch.equal(turned.theta, plain.theta)


def density(policy, theta, obs):
    """One policy's Gaussian over actions at states (B, D), from its parameters (P,), which autograd follows."""
    return Normal(evaluate(policy.net, theta[None, :-A], obs[None])[0], theta[-A:].exp())


def trust_region_step(cfg, policy, old, obs, action, gain):
    """One seed's theta, fraction and KL by a dense natural step and the search along it; of what it refused: (higher surrogate, near)."""
    law = density(policy, old, obs)
    before = law.log_prob(action).sum(-1)

    def surrogate(theta):
        return (torch.exp(density(policy, theta, obs).log_prob(action).sum(-1) - before) * gain).mean()

    def distance(theta):
        return kl_divergence(law, density(policy, theta, obs)).sum(-1).mean()

    metric = hessian(distance)(old) + cfg.damping * torch.eye(len(old))
    d = torch.linalg.solve(metric, grad(surrogate)(old))
    move = (2.0 * cfg.target_kl / (d @ metric @ d)).sqrt() * d
    refused = []
    for i in range(cfg.tries):
        theta = old + cfg.shrink**i * move
        found = surrogate(theta) > surrogate(old), distance(theta) <= cfg.target_kl
        if all(found):
            return theta, cfg.shrink**i, distance(theta), refused
        refused.append(tuple(map(bool, found)))
    return old, 0.0, torch.zeros(()), refused


@pytest.mark.parametrize(
    ("target_kl", "damping", "tries", "refused"),
    [(0.01, 0.1, 10, set()), (8.0, 10.0, 10, {(False, True)}), (8.0, 10.0, 1, {(False, True)}), (0.1, 0.01, 10, {(True, False)})],
    ids=["whole steps", "a lower surrogate", "none in one try", "too far"],
)
def test_trpo_takes_the_dense_natural_step_as_far_as_the_search_allows_and_fits_its_critic(target_kl, damping, tries, refused):
    cfg = small(trpo.Config(), batch=14, target_kl=target_kl, damping=damping, tries=tries, cg_steps=150, reward_scale=2.0)
    seeds = (4, 5, 6, 7)
    run, other = World(trpo, cfg, seeds), World(trpo, cfg, seeds)
    for world in (run, other):
        world.update(2)
    segment, order = run.segment(), trpo.noise(cfg, A, run.draw)
    policy, v, net = other.state.nets.policy, other.state.v, other.state.nets.v.net
    advantage, target = (t.flatten(2) for t in other.estimate(segment, 2.0, cfg.gamma * cfg.lam))
    gain = (advantage - advantage.mean(-1, keepdim=True)) / advantage.std(-1, correction=0, keepdim=True)
    obs, action = segment.obs.flatten(2, 3), segment.action.flatten(2, 3)
    steps = [trust_region_step(cfg, policy, other.theta[k, 0].clone(), obs[k, 0], action[k, 0], gain[k, 0]) for k in range(len(seeds))]
    expected, fractions, distances, reasons = zip(*steps, strict=True)
    assert set(itertools.chain(*reasons)) == refused
    told = []
    for epoch in order.unbind(1):
        for rows in epoch.split(14, -1):
            s, y = (torch.stack([t[k][:, rows[k]] for k in range(len(seeds))]) for t in (obs, target))
            w = leaf(v.theta)
            loss = 0.5 * (evaluate(net, w, s)[..., 0] - y).square().mean((1, 2))
            v.step(torch.autograd.grad(loss.sum(), w)[0])
            told.append(loss.detach())
    before = run.theta.clone()
    info = trpo.update(cfg, run.state, segment, order)()
    assert info["policy/step"].tolist() == pytest.approx(fractions)
    torch.testing.assert_close(run.theta[:, 0], torch.stack(expected), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(run.state.v.theta, v.theta)
    torch.testing.assert_close(info["policy/kl"], torch.stack(distances), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(info["losses/v"], torch.stack(told).mean(0))
    torch.testing.assert_close(info["losses/values"], (target - advantage).mean((1, 2)))
    torch.testing.assert_close(info["policy/entropy"], Normal(0.0, run.theta[..., -A:].exp()).entropy().sum((1, 2)))
    assert (info["policy/residual"] < 1e-6).all()
    assert max(fractions) == 1.0
    assert (min(fractions) == 0.0) == (tries == 1)
    for k, fraction in enumerate(fractions):
        assert torch.equal(run.theta[k], before[k]) == (fraction == 0.0)


def test_trpo_stays_within_its_trust_region_and_raises_its_surrogate():
    run = World(trpo, small(trpo.Config()), (3, 4, 5))
    for _ in range(5):
        segment, state = run.segment(), run.state
        gain = onpolicy.standardised(run.estimate(segment, 1.0, 0.99 * 0.95)[0].flatten(2))
        obs, action = segment.obs.flatten(2, 3), segment.action.flatten(2, 3)
        before = state.nets.policy.log_prob(run.theta, obs, action)
        info = trpo.update(run.cfg, state, segment, trpo.noise(run.cfg, A, run.draw))()
        assert ((info["policy/kl"] > 1e-4) & (info["policy/kl"] <= 0.01)).all()
        assert ((info["policy/residual"] > 0.0) & (info["policy/residual"] < 1.0)).all()
        assert (((state.nets.policy.log_prob(run.theta, obs, action) - before).exp() * gain).mean((1, 2)) > 1e-3).all()


@pytest.mark.parametrize("agent", [ppo, trpo, wnpg])
def test_fresh_networks_are_orthogonal_with_a_hundredth_at_the_policys_head_and_one_at_the_critics(agent):
    run = World(agent, small(agent.Config()), (3,))
    policy, v = run.state.nets
    for net, theta, gain in ((policy.net, run.theta[..., :-A], 0.01), (v.net, run.state.v.theta, 1.0)):
        for (w, b), by in zip(net.layers(theta), (2.0**0.5, 2.0**0.5, gain), strict=True):
            scale = torch.linalg.svdvals(w)
            torch.testing.assert_close(scale, torch.full_like(scale, by))
            assert not b.any()


def test_without_advantages_trpo_leaves_its_policy_and_fits_its_critic():
    run = World(trpo, small(trpo.Config(), gamma=0.9), (3, 4))
    run.update()
    run.state.v.theta.zero_()
    segment = run.segment()
    segment.reward.fill_(1.0)
    segment.ended.fill_(True)
    segment.discount.zero_()
    before = run.theta.clone()
    info = trpo.update(run.cfg, run.state, segment, trpo.noise(run.cfg, A, run.draw))()
    assert torch.equal(run.theta, before)
    assert run.state.v.theta.all()
    for tag in ("policy/kl", "policy/step", "policy/residual"):
        assert info[tag].tolist() == [0.0, 0.0]
