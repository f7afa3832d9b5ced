"""On a one-step task Q is the reward, so the law that each agent must reach is known: exp(r / alpha) / Z on (-1, 1)."""

from dataclasses import fields, replace
from functools import cache
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import torch

from wgf import svgd
from wgf.agents import ddpg, dp_wgf, dp_wgf_v, sac, sac_v, soft_q, wgf_sac
from wgf.agents.registry import AGENTS, find
from wgf.agents.training import checkpoint
from wgf.agents.training.descent import Adam
from wgf.agents.training.population import Iteration, Population
from wgf.agents.training.protocol import Batch, Streams
from wgf.agents.training.rollout import Segment
from wgf.agents.training.schedule import Schedule
from wgf.agents.training.settings import ReplaySettings

SMALL = {"hidden": (32, 32), "activation": "tanh", "batch": 64, "lr": 1e-2, "tau": 0.05}
PARTICLES = {**SMALL, "w2": "common_noise", "squash": "exact"}
CASES = {
    "sac": (sac, replace(sac.Config(), **SMALL)),
    "sac_v": (sac_v, replace(sac_v.Config(), **SMALL)),
    "soft_q": (soft_q, replace(soft_q.Config(), **SMALL, squash="exact")),
    "dp_wgf": (dp_wgf, replace(dp_wgf.Config(), **PARTICLES)),
    "dp_wgf_v": (dp_wgf_v, replace(dp_wgf_v.Config(), **PARTICLES)),
    "wgf_sac": (wgf_sac, replace(wgf_sac.PRESETS["modern"], **SMALL)),
    "wgf_sac density": (wgf_sac, replace(wgf_sac.PRESETS["modern"], **SMALL, kl="density", w2_scale=0.4, w2_radius=0.1)),
}


def gaussian(a):
    """One goal at 0.2: exp(r) is a Gaussian of standard deviation 0.25."""
    return -0.5 * ((a - 0.2) / 0.25) ** 2


def two_goals(a):
    """Two goals at -0.5 and 0.5, each of standard deviation 0.2."""
    return torch.logsumexp(-0.5 * ((a[..., None] - torch.tensor([-0.5, 0.5])) / 0.2) ** 2, -1)


def trained(agent, cfg, reward, updates, device, spread=0.0):
    """State of two seeds after updates on uniform actions of a one-step task, in states that say nothing of the reward."""
    generators = [torch.Generator().manual_seed(k) for k in range(2)]
    state = agent.init(cfg, 1, 1, generators, torch.device(device))
    draw = Streams([torch.Generator(device).manual_seed(k) for k in range(2)])
    rows = cfg.batch * getattr(cfg, "policy_delay", 1)
    obs = spread * torch.randn(2, rows, 1, generator=torch.Generator().manual_seed(0)).to(device)
    for i in range(updates):
        if i == 2 * updates // 3:  # the last third at a tenth of the step, so that the noise of the minibatches averages out
            for adam in (v for v in vars(state).values() if isinstance(v, Adam)):
                adam.lr *= 0.1
        action = 2.0 * draw.uniform(rows, 1) - 1.0
        batch = Batch(obs, action, reward(action[..., 0].cpu()).to(device), torch.zeros_like(action[..., 0]), obs)
        info = agent.update(cfg, state, batch, agent.noise(cfg, 1, draw))()
    return state, draw, info


def draws(agent, cfg, state, draw, n=4000):
    """n actions a seed (S, n) from the policy that explores."""
    obs = torch.zeros(2, n, 1, device=draw.device)
    return agent.act(cfg, state, obs, agent.act_noise(cfg, 1, n, draw))[..., 0].detach()


def law(reward, alpha):
    """Mean and standard deviation of exp(r / alpha) / Z by the trapezoid rule."""
    a = torch.linspace(-1.0, 1.0, 20001, dtype=torch.float64)
    p = torch.softmax(reward(a) / alpha, 0)
    mean = (p * a).sum()
    return mean.item(), (p * (a - mean) ** 2).sum().sqrt().item()


def entropy(reward):
    """Entropy of exp(r) / Z in nats, likewise."""
    a = torch.linspace(-1.0, 1.0, 20001, dtype=torch.float64)
    p = torch.softmax(reward(a), 0) / (a[1] - a[0])
    return -torch.trapezoid(p * p.log(), a).item()


# The critic is fitted to noisy minibatches, so laws agree to some hundredths of a standard deviation. The tolerance is finer than what
# slips in the formulas cost: SVGD's own term left in narrows the law by more (tested below), a factor 2 in alpha or the score
# widens it by 41 %.
TOLERANCE = 0.1


@cache
def settled(name, device):
    """A case trained on one goal, which several tests draw from."""
    return trained(*CASES[name], gaussian, 600, device)


@pytest.mark.parametrize("name", ["sac_v", "soft_q", "dp_wgf", "dp_wgf_v"])
def test_the_policy_reaches_the_law_of_the_energy(name, device):
    agent, cfg = CASES[name]
    state, draw, _ = settled(name, device)
    a = draws(agent, cfg, state, draw)
    mean, std = law(gaussian, 1.0)
    assert (a.mean(-1).mean() - mean).abs().item() < TOLERANCE * std
    assert (a.std(-1).mean() - std).abs().item() < TOLERANCE * std


@pytest.mark.parametrize("name", ["dp_wgf", "dp_wgf_v"])
def test_eq_7_with_its_own_term_makes_the_law_of_a_network_too_narrow(name, device, monkeypatch):
    monkeypatch.setattr(svgd, "unbiased", lambda x, score, **_: svgd.velocity(x, score))
    agent, cfg = CASES[name]
    state, draw, _ = trained(agent, cfg, gaussian, 600, device)
    assert draws(agent, cfg, state, draw).std(-1).mean().item() < (1.0 - TOLERANCE) * law(gaussian, 1.0)[1]


def spread_of_components(state, device):
    """Mean standard deviation of the components of DP-WGF-V's policy, before tanh."""
    return state.nets.policy.law(state.policy.theta, torch.zeros(2, 1, 1, device=device)).std.mean().item()


def test_components_shrink_where_their_own_draws_weigh_less_than_the_others(device, monkeypatch):
    alike = spread_of_components(settled("dp_wgf_v", device)[0], device)
    unbiased = svgd.unbiased
    monkeypatch.setattr(svgd, "unbiased", lambda x, score, **_: unbiased(x, score))
    apart, _, _ = trained(*CASES["dp_wgf_v"], gaussian, 600, device)
    assert spread_of_components(apart, device) < 0.5 * alike


@pytest.mark.parametrize("name", ["sac", "wgf_sac", "wgf_sac density"])
def test_soft_actor_critics_reach_the_law_at_the_temperature_that_gives_their_entropy(name, device):
    agent, cfg = CASES[name]
    state, draw, info = trained(agent, cfg, gaussian, 900, device)
    a = draws(agent, cfg, state, draw)
    mean, std = law(gaussian, info["policy/alpha"].mean().item())
    assert (a.mean(-1).mean() - mean).abs().item() < TOLERANCE * 0.25  # of the width of the reward, which is what the critic fits
    assert (a.std(-1).mean() - std).abs().item() < TOLERANCE * std
    assert info["policy/entropy"].mean().item() == pytest.approx(-1.0, abs=TOLERANCE)


def test_blobs_own_term_leaves_the_law_too_narrow(device):
    cfg = replace(wgf_sac.PRESETS["modern"], **SMALL, kl="blob")
    state, draw, info = trained(wgf_sac, cfg, gaussian, 900, device)
    _, std = law(gaussian, info["policy/alpha"].mean().item())
    assert 0.75 * std < draws(wgf_sac, cfg, state, draw).std(-1).mean().item() < (1.0 - TOLERANCE) * std


def test_ddpg_reaches_the_action_of_the_largest_reward(device):
    cfg = replace(ddpg.Config(), **SMALL, critic_lr=1e-2)
    state, _, _ = trained(ddpg, cfg, gaussian, 900, device)
    best = ddpg.greedy(cfg, state, torch.zeros(2, 1, 1, device=device))
    assert (best - 0.2).abs().max().item() < TOLERANCE * 0.25  # of the width of the reward, which is what the critic fits


def near_both_goals(a):
    """The smaller of the shares of draws within 0.2 of each goal, mean over seeds; 0.34 for the law itself."""
    return torch.stack([((a - goal).abs() < 0.2).float().mean(-1) for goal in (-0.5, 0.5)]).amin(0)


@pytest.mark.parametrize("name", ["soft_q", "dp_wgf", "dp_wgf_v"])
def test_particle_policies_keep_both_goals(name, device):
    agent, cfg = CASES[name]
    state, draw, _ = trained(agent, cfg, two_goals, 900, device)
    assert (near_both_goals(draws(agent, cfg, state, draw)) > 0.15).all()


@pytest.mark.parametrize("name", ["soft-q", "dp-wgf", "dp-wgf-v"])
def test_on_the_strong_critic_particle_policies_keep_both_goals_at_a_temperature_of_one(name, device):
    """At that of the preset, far below, a law of both goals has a deviation of 0.02 at each, and one is left. States differ, since batch
    norm makes nothing of equal ones."""
    agent, cfg = find(name, "strong-small")
    sizes = {"hidden": (32, 32), "critic_hidden": (32, 32), "policy_hidden": (32,), "batch": 64, "lr": 3e-3, "tau": 0.05, "lr_fall": 0}
    sizes |= {"alpha": 1.0, "alpha0": 1.0, "temperature": "fixed"}
    cfg = replace(cfg, **{f.name: sizes[f.name] for f in fields(cfg) if f.name in sizes})
    state, draw, info = trained(agent, cfg, two_goals, 300, device, spread=1.0)
    assert (near_both_goals(draws(agent, cfg, state, draw)) > 0.15).all()
    if name == "dp-wgf-v":  # whose policy has a density; components that begin as narrow as ``smooth`` has them miss 1.3 nats and more
        assert info["policy/entropy"].tolist() == pytest.approx([entropy(two_goals)] * 2, abs=0.5)


def test_a_gaussian_policy_cannot_keep_both_goals(device):
    agent, cfg = CASES["sac"]
    state, draw, _ = trained(agent, cfg, two_goals, 600, device)
    assert (near_both_goals(draws(agent, cfg, state, draw)) < 0.15).all()


# --- every preset, and every choice that none makes -------------------------------------------------------------------

TINY = {"hidden": (16, 16), "critic_hidden": (16, 16), "policy_hidden": (16,), "expansion": 2, "batch": 16, "particles": 8, "samples": 4}
QUICK = {"lr": 1e-2, "critic_lr": 1e-2, "tau": 0.05, "copy_every": 10, "value_particles": 8, "entropy_std": 0.02}
STEPS = {"hidden": (16, 16), "batch": 40, "envs": 4, "horizon": 10, "particles": 4, "critic_steps": 2, "lr": 1e-2, "critic_lr": 1e-2}
STEPS |= {"cg_steps": 5}


def climbed(agent, cfg, updates, device):
    """State of two seeds of an agent that learns from rollouts, after updates on one-step episodes with r = a, as environments cut it."""
    state = agent.init(cfg, 1, 1, [torch.Generator().manual_seed(k) for k in range(2)], torch.device(device))
    draw, memory = Streams([torch.Generator(device).manual_seed(k) for k in range(2)]), agent.memory(cfg, Schedule())
    for _ in range(updates):
        memory.explore(state, draw)
        if isinstance(memory, Population):
            obs = draw.normal(1, 1).expand(-1, memory.envs, -1)  # all begin in one state
            reward = agent.act(cfg, state, obs, None)[..., 0]
            info = agent.update(cfg, state, Iteration(reward, obs), agent.noise(cfg, 1, draw))()
            continue
        columns = []
        for _ in range(memory.steps):
            obs = draw.normal(memory.envs, 1)
            action = agent.act(cfg, state, obs, agent.act_noise(cfg, 1, memory.envs, draw))
            reward = action[..., 0].clamp(-1.0, 1.0)
            columns.append((obs, action, reward, torch.zeros_like(reward), torch.ones_like(reward, dtype=torch.bool), obs))
        each = (memory.policies, memory.each)
        segment = Segment(*(torch.stack(c, 1).unflatten(2, each).transpose(1, 2) for c in zip(*columns, strict=True)))
        info = agent.update(cfg, state, segment, agent.noise(cfg, 1, draw))()
    return state, draw, info


def goes_to_the_bound(name, preset, updates, device, **change):
    """Checks that every number stays finite, and that the best action and the mean draw, as environments cut them, lie near 1."""
    agent, cfg = find(name, preset)
    sizes = TINY | QUICK if isinstance(cfg, ReplaySettings) else STEPS
    if getattr(cfg, "entropy", 1.0) == 0.0:  # WPO's, without whose term there is no temperature that could aim at an entropy
        sizes = sizes | {"entropy_std": 0.0}
    cfg = replace(cfg, **{f.name: value for f in fields(cfg) if (value := sizes.get(f.name))} | change)
    if isinstance(cfg, ReplaySettings):
        cfg = replace(cfg, reward_scale=20.0) if cfg.atoms == 1 or cfg.bound > 20.0 else cfg  # a law of Q ends at its bound
        state, draw, info = trained(agent, cfg, lambda a: a, updates, device, spread=1.0)
    else:
        state, draw, info = climbed(agent, cfg, 40, device)
    assert all(bool(t.isfinite().all()) for t in (*checkpoint.tensors(state).values(), *info.values()))
    states = torch.linspace(-1.0, 1.0, 5, device=device).repeat(agent.memory(cfg, Schedule()).policies)  # each policy sees all five
    best = agent.greedy(cfg, state, states.expand(2, -1)[..., None])[..., 0]
    assert (best.clamp(-1.0, 1.0).mean(-1) > 0.9).all()
    assert (draws(agent, cfg, state, draw, 500).clamp(-1.0, 1.0).mean(-1) > 0.6).all()


# the kernel metric is below: in one-step episodes its damping falls without end, and its direction leaves the gradient's
FALLING = (("wnpg", "paper"), ("wnpg", "bg-wnpg"))


@pytest.mark.parametrize(("name", "preset"), [(n, p) for n in AGENTS for p in AGENTS[n] if p != "strong" and (n, p) not in FALLING])
def test_every_preset_goes_to_the_best_action_at_the_bound(name, preset, device):
    """r = a: the best action is where tanh ends. Its law has r / alpha = 20 or an entropy far below -A, so that it lies there too."""
    goes_to_the_bound(name, preset, 480 if preset == "strong-small" else 360, device)  # where Q has a law, its slope comes late


BLOCKS = {"network": "residual"}
CHOICES = [
    ("dp-wgf", "modern", {"w2": "entropic"}),
    ("dp-wgf", "modern", {"w2": "exact", "backup": "expected", "members": 1}),
    ("dp-wgf", "modern", {**BLOCKS, "norm": "layer", "unit": False}),
    ("dp-wgf-v", "modern", {"w2": "debiased", "smooth": True}),
    ("dp-wgf-v", "modern", {"w2": "eq9_mean", "backup": "normalizer", "squash": "soft_q"}),
    ("dp-wgf-v", "modern", {**BLOCKS, "norm": "layer", "unit": False}),
    ("sac", "modern", {**BLOCKS, "norm": "layer", "atoms": 21, "bound": 25.0}),
    ("sac", "modern", {**BLOCKS, "unit": False, "policy_delay": 2}),
    ("sac", "modern", {"smooth": True, "start_std": 0.5}),
    ("sac", "paper", {**BLOCKS, "norm": "layer", "unit": False}),
    ("soft-q", "modern", {**BLOCKS, "norm": "layer", "unit": False}),
    ("ddpg", "modern", {**BLOCKS, "norm": "layer", "unit": False}),
    ("wgf-sac", "modern", {"kl": "blob", "w2": "exact", "w2_scale": 0.4, "smooth": True, "start_std": 0.5}),
    ("wgf-sac", "modern", {"kl": "density", "w2": "eq9_mean", "w2_scale": 0.4}),
    ("wgf-sac", "modern", {**BLOCKS, "norm": "layer", "unit": False, "previous": "last"}),
    *(("wnpg", "modern", {"metric": metric, "damping": 100.0, "epochs": 2}) for metric in ("kernel", "none")),
    *(("wnpg", "bg-wnpg", {"dual": by, "damping": 100.0, "epochs": 2}) for by in ("potentials", "features")),
    ("wnpg", "modern", {"penalty": 0.1, "epochs": 2}),
    ("wpo", "modern", {"policy": "mixture", "components": 3, "kl": "hard", "squash": "cbrt"}),
    ("wpo", "modern", {"policy": "squashed", "bootstrap": "softmax"}),
    ("wpo", "modern", {"policy": "squashed", "entropy": 0.05, "entropy_std": 0.02}),
    ("wpo", "modern", {**BLOCKS, "norm": "layer", "unit": False, "entropy": 0.05}),
    *(("ip-wgf", "modern", {"w2": w2, "w2_scale": 0.1}) for w2 in ("eq9_mean", "entropic", "debiased", "exact", "common_noise")),
    *((name, "modern", {"bandwidth": rule}) for name in ("ip-wgf", "svpg") for rule in ("svgd", "full")),
    ("es", "paper", {"shaping": "ranks", "embedding": "actions", "optimiser": "sgd", "lr": 1.0, "horizon": 1}),
    ("es", "wnes", {"embedding": "reward_to_go", "horizon": 1}),
    *(("es", "bges", {"guide": guide, "horizon": 1}) for guide in ("wasserstein", "dual")),
    *((name, "modern", {"sigma": "learned", "weight_noise": 0.05}) for name in ("ip-wgf", "pg", "svpg")),
]


@pytest.mark.parametrize(("name", "preset", "change"), CHOICES, ids=[" ".join(map(str, (n, *c.values()))) for n, _, c in CHOICES])
def test_every_choice_that_no_preset_makes_goes_to_the_best_action_at_the_bound(name, preset, change, device):
    goes_to_the_bound(name, preset, 150, device, **change)


@pytest.mark.parametrize("name", AGENTS)
def test_no_choice_is_left_out(name):
    """Of the velocities each is there for some agent with a replay; tests/agents/test_contract.py has more of them."""
    cases = [*((agent, preset, {}) for agent in AGENTS for preset in AGENTS[agent]), *CHOICES]
    made = [(agent, replace(find(agent, preset)[1], **change)) for agent, preset, change in cases]
    for kind in {type(cfg) for agent, cfg in made if agent == name}:
        for field, hint in get_type_hints(kind).items():
            values = {True, False} if hint is bool else set(get_args(hint)) if get_origin(hint) is Literal else set()
            alike = ReplaySettings if field == "w2" and issubclass(kind, ReplaySettings) else kind
            assert values <= {getattr(cfg, field, None) for _, cfg in made if isinstance(cfg, alike)}, field
