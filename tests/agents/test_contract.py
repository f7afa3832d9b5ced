"""Every agent that learns from a replay, and every preset, keeps the same promises; test_onpolicy has those of the others."""

from dataclasses import fields, replace
from importlib import import_module
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import torch

from tests.policies.plain import assert_equal, close
from wgf import trusted
from wgf.agents import dp_wgf, dp_wgf_v, sac_v, soft_q
from wgf.agents.registry import AGENTS, find
from wgf.agents.training import checkpoint, compiled, ranges
from wgf.agents.training.memory import Replay
from wgf.agents.training.protocol import Batch, Streams
from wgf.agents.training.schedule import Schedule

D, A = 3, 2
SMALL = {
    "hidden": (8, 8),
    "critic_hidden": (8, 8),
    "policy_hidden": (8, 8),
    "batch": 6,
    "particles": 8,
    "value_particles": 8,
    "samples": 5,
    "copy_every": 2,
}


@pytest.fixture(autouse=True)
def double():
    """float64 by default, so that a tolerance speaks of the algorithm."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def single(double):
    """float32, as training saves it."""
    torch.set_default_dtype(torch.float32)


def small(cfg, **changes):
    """A preset with networks and minibatches of the size of a test; changes to settings that it lacks are left out."""
    names = {f.name for f in fields(cfg)}
    return replace(cfg, **{name: value for name, value in {**SMALL, **changes}.items() if name in names})


# strong is strong-small with other sizes: test_the_strong_presets_differ_in_size
FOUND = {f"{name} {preset}": find(name, preset) for name, presets in AGENTS.items() for preset in presets if preset != "strong"}
CASES = {name: case for name, case in FOUND.items() if isinstance(case[0].memory(case[1], Schedule()), Replay)}
each = pytest.mark.parametrize(("agent", "preset"), CASES.values(), ids=CASES.keys())
PARTICLES = {name: case for name, case in CASES.items() if hasattr(case[1], "particles")}


class World:
    """Seeds side by side: a state, their noise, and their transitions, which are those of each seed by itself."""

    def __init__(self, agent, cfg, seeds, device):
        self.agent, self.cfg, self.device = agent, cfg, device
        self.state = agent.init(cfg, D, A, [torch.Generator().manual_seed(k) for k in seeds], device)
        self.draw = Streams([torch.Generator(device).manual_seed(k) for k in seeds])
        self.data = [torch.Generator().manual_seed(1000 + k) for k in seeds]

    def minibatch(self):
        n = self.agent.memory(self.cfg, Schedule()).batch
        obs, reward, next_obs = (torch.stack([torch.randn(n, *d, generator=g) for g in self.data]) for d in ((D,), (), (D,)))
        action, ends = (torch.stack([torch.rand(n, *d, generator=g) for g in self.data]) for d in ((A,), ()))
        return Batch(*(t.to(self.device) for t in (obs, 2.0 * action - 1.0, reward, 0.99 * (ends > 0.2), next_obs)))

    def update(self, steps=1, spoil=lambda batch: batch):
        for _ in range(steps):
            info = self.agent.update(self.cfg, self.state, spoil(self.minibatch()), self.agent.noise(self.cfg, A, self.draw))()
        return info

    def tensors(self):
        return {name: t.clone() for name, t in checkpoint.tensors(self.state).items()}

    def obs(self, n=4):
        g = torch.Generator().manual_seed(5)
        return torch.randn(len(self.data), n, D, generator=g).to(self.device)


def test_every_preset_is_within_the_ranges_of_the_command_line():
    for name, presets in AGENTS.items():
        for preset in presets:
            ranges.check(find(name, preset)[1])


def test_the_strong_presets_differ_in_size():
    sizes = {"hidden", "critic_hidden", "policy_hidden", "expansion", "batch", "lr_fall"}
    for name in [name for name, presets in AGENTS.items() if "strong" in presets]:
        (agent, strong), (other, small) = find(name, "strong"), find(name, "strong-small")
        assert agent is other
        assert {f.name for f in fields(strong) if getattr(strong, f.name) != getattr(small, f.name)} <= sizes, name


def test_no_preset_is_left_out_of_the_registry():
    for module in {module for presets in AGENTS.values() for module in presets.values()}:
        listed = {preset for presets in AGENTS.values() for preset, where in presets.items() if where == module}
        assert listed == set(import_module(f"wgf.agents.{module}").PRESETS), module


@each
def test_same_seeds_give_the_same_training(agent, preset, device):
    runs = [World(agent, small(preset), (3, 4), device) for _ in range(2)]
    infos = [run.update(3) for run in runs]
    assert_equal(runs[0].tensors(), runs[1].tensors())
    assert_equal(*infos)


@each
def test_other_seeds_give_another_training(agent, preset, device):
    found, other = (World(agent, small(preset), seeds, device) for seeds in ((3,), (4,)))
    found.update(), other.update()
    for name, theta in found.tensors().items():
        if name in ("policy.theta", "q.theta", "v.theta"):
            assert not torch.equal(theta, other.tensors()[name]), name


@each
def test_seed_k_of_a_stack_trains_as_seed_k_alone(agent, preset, device):
    seeds = (3, 4, 5)
    stack, alone = World(agent, small(preset), seeds, device), [World(agent, small(preset), (k,), device) for k in seeds]
    for step in range(5):
        info = stack.update()
        for s, one in enumerate(alone):
            for tag, value in one.update().items():
                torch.testing.assert_close(info[tag][s : s + 1], value, rtol=1e-9, atol=1e-11, msg=lambda m, t=tag, k=step: f"{k} {t}: {m}")
    for s, one in enumerate(alone):
        mine = checkpoint.seed_slice(stack.state, s)
        for name, t in checkpoint.seed_slice(one.state, 0).items():
            # a product of another shape rounds a gradient by 1e-16 of its size; Adam divides by at least 1e-8: 1e-8 of lr = 3e-4 a step
            torch.testing.assert_close(mine[name], t, rtol=1e-9, atol=1e-11, msg=lambda m, name=name: f"{name}: {m}")


@each
@pytest.mark.usefixtures("single")
def test_state_goes_through_a_checkpoint_and_training_continues_as_if_nothing_had_happened(agent, preset, device, tmp_path):
    run, other = World(agent, small(preset), (3, 4), device), World(agent, small(preset), (7, 8), device)
    run.update(3)
    slices = []
    for s in range(2):
        folder = tmp_path / str(s)
        folder.mkdir()
        checkpoint.save(folder, checkpoint.seed_slice(run.state, s), {"step": 3})
        slices.append(checkpoint.load(folder)[1])
    checkpoint.restore_(other.state, slices)
    assert_equal(other.tensors(), run.tensors())
    other.draw, other.data = run.draw, run.data
    states = [g.get_state() for g in (*run.draw.generators, *run.data)]
    infos = [run.update(2)]
    for g, state in zip((*run.draw.generators, *run.data), states, strict=True):
        g.set_state(state)
    infos.append(other.update(2))
    assert_equal(other.tensors(), run.tensors())
    assert_equal(*infos)
    assert torch.equal(agent.greedy(other.cfg, other.state, other.obs()), agent.greedy(run.cfg, run.state, run.obs()))


@each
@pytest.mark.usefixtures("single")
def test_a_checkpoint_of_one_seed_acts_as_it_did_in_its_stack(agent, preset, device):
    run, one = World(agent, small(preset), (3, 4, 5), device), World(agent, small(preset), (9,), device)
    run.update(2)
    checkpoint.restore_(one.state, [checkpoint.seed_slice(run.state, 1)])
    with torch.no_grad():
        expected = agent.greedy(run.cfg, run.state, run.obs())[1:2]
        torch.testing.assert_close(
            agent.greedy(one.cfg, one.state, run.obs()[1:2]), expected, rtol=0.0, atol=1e-6
        )  # sums of ten in float32


@each
def test_info_is_finite_and_has_one_number_a_seed(agent, preset, device):
    run = World(agent, small(preset), (3, 4, 5), device)
    tags = []
    for _ in range(3):
        info = run.update()
        tags.append(set(info))
        for tag, value in info.items():
            assert value.shape == (3,), tag
            assert value.isfinite().all(), tag
            assert not value.requires_grad, tag
    assert tags[0] == tags[1] == tags[2]
    assert {"losses/q", "losses/q_values", "losses/policy"} <= tags[0]


@each
def test_all_parameters_move(agent, preset, device):
    run = World(agent, small(preset), (3, 4), device)
    before = run.tensors()
    fixed = [f"log_alpha.{k}" for k in ("theta", "m", "v", "steps")] if getattr(run.cfg, "temperature", "") == "fixed" else []
    fixed += [f"log_weight.{k}" for k in ("theta", "m", "v", "steps")] if getattr(run.cfg, "kl", "") == "soft" else []
    learned = getattr(run.cfg, "w2_radius", getattr(run.cfg, "entropy_std", 1.0))
    fixed += [f"log_factor.{k}" for k in ("theta", "m", "v", "steps")] if learned == 0.0 else []
    run.update(2)  # two: the previous policy of the first update is the policy itself, and targets are copied at the second
    for name, t in run.tensors().items():
        if name in fixed:
            assert torch.equal(t, before[name])
        else:
            for s in range(2 if t.ndim else 0):
                assert not torch.equal(t[s], before[name][s]), name


@each
def test_adam_steps_with_the_learning_rate_of_the_configuration(agent, preset, device):
    """The first step of Adam is lr g / (|g| + 1e-8): lr in length wherever the gradient is not tiny."""
    run = World(agent, small(preset, lr=0.01, critic_lr=0.02, network="mlp", policy_delay=1), (3, 4), device)
    before = run.tensors()
    run.update()
    after = run.tensors()
    for network in ("policy", "q", "v"):
        if hasattr(run.state, network):
            name = f"{network}.theta"
            moved = (after[name] - before[name]).abs().flatten()
            lr = getattr(run.cfg, "lr" if network == "policy" else "critic_lr", 0.01)
            torch.testing.assert_close(moved.quantile(0.9), torch.tensor(lr, device=device), rtol=1e-4, atol=0.0)
            assert moved.max() < lr * (1.0 + 1e-4)


@pytest.mark.parametrize(("agent", "preset"), PARTICLES.values(), ids=PARTICLES.keys())
def test_one_particle_is_enough(agent, preset, device):
    run = World(agent, small(preset, particles=1, value_particles=1, components=1), (3, 4), device)
    before = run.tensors()
    for _ in range(3):
        info = run.update()
        assert all(value.isfinite().all() for value in info.values())
    for name, t in run.tensors().items():
        assert t.isfinite().all(), name
        assert not name.startswith("policy.") or not torch.equal(t, before[name]), name


@pytest.mark.parametrize("agent", [dp_wgf, dp_wgf_v], ids=["dp_wgf", "dp_wgf_v"])
@pytest.mark.parametrize("w2", get_args(get_type_hints(dp_wgf.Config)["w2"]))
@pytest.mark.parametrize("particles", [1, 4])
def test_every_w2_velocity_trains(agent, w2, particles, device):
    components = {"components": 1} if particles == 1 else {}
    run = World(agent, small(agent.Config(), w2=w2, particles=particles, **components), (3, 4), device)
    info = run.update(3)
    assert all(value.isfinite().all() for value in info.values())
    assert torch.all(info["flow/w2_speed"] > 0.0)  # from the second update the previous policy is another


@each
def test_actions_lie_in_the_cube(agent, preset, device):
    run = World(agent, small(preset), (3, 4), device)
    run.update(2)
    n = 50
    with torch.no_grad():
        explore = agent.act(run.cfg, run.state, run.obs(n), agent.act_noise(run.cfg, A, n, run.draw))
        again = agent.act(run.cfg, run.state, run.obs(n), agent.act_noise(run.cfg, A, n, run.draw))
        greedy = agent.greedy(run.cfg, run.state, run.obs(n))
    for action in (explore, greedy):
        assert action.shape == (2, n, A)
        assert torch.all(action.abs() <= 1.0)
    assert not torch.equal(explore, again)


@each
def test_greedy_draws_no_random_number_and_changes_nothing(agent, preset, device):
    run = World(agent, small(preset), (3, 4), device)
    before, states = run.tensors(), [g.get_state() for g in run.draw.generators]
    shared = torch.get_rng_state()
    actions = [agent.greedy(run.cfg, run.state, run.obs()) for _ in range(2)]
    assert torch.equal(*actions)
    assert_equal(run.tensors(), before)
    assert all(torch.equal(g.get_state(), state) for g, state in zip(run.draw.generators, states, strict=True))
    assert torch.equal(torch.get_rng_state(), shared)


@each
@pytest.mark.parametrize("part", range(5), ids=Batch._fields)
def test_nan_of_one_seed_does_not_reach_the_others(agent, preset, part, device):
    def spoil(batch):
        parts = [t.clone() for t in batch]
        parts[part][1, 0] = torch.nan
        return Batch(*parts)

    clean, spoiled = (World(agent, small(preset), (3, 4, 5), device) for _ in range(2))
    with trusted():
        clean.update(2)
        info = spoiled.update(2, spoil)
    kept = [0, 2]
    for name, t in clean.tensors().items():
        found = spoiled.tensors()[name]
        if t.ndim:
            assert found[kept].isfinite().all(), name
            assert torch.equal(found[kept], t[kept]), name
    assert all(value[kept].isfinite().all() for value in info.values())
    assert not info["losses/q"][1].isfinite()


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_follows_the_networks(agent, preset, dtype, device):
    torch.set_default_dtype(dtype)
    run = World(agent, small(preset), (3,), device)
    info = run.update(2)
    assert {value.dtype for value in info.values()} == {dtype}
    assert {t.dtype for name, t in run.tensors().items() if not name.endswith(".steps")} == {dtype}
    assert agent.greedy(run.cfg, run.state, run.obs()).dtype == dtype


@each
def test_a_fresh_target_or_previous_policy_is_a_copy(agent, preset, device):
    state = World(agent, small(preset), (3, 4), device).state
    for copy, source in (("q_target", "q"), ("v_target", "v"), ("previous", "policy"), ("policy_target", "policy")):
        if hasattr(state, copy):
            p, q = getattr(state, copy), getattr(state, source).theta
            assert torch.equal(p, q)
            assert p.data_ptr() != q.data_ptr()
    if hasattr(state, "log_alpha"):
        start = preset.alpha0 if hasattr(preset, "alpha0") else preset.alpha
        close(state.log_alpha.theta.exp(), torch.full((2,), start, device=device))


# --- settings and names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", [sac_v, soft_q, dp_wgf, dp_wgf_v], ids=lambda agent: agent.__name__)
def test_paper_presets_carry_tables_5_and_6(agent):
    cfg = agent.PRESETS["paper"]
    assert (cfg.hidden, cfg.batch, cfg.lr, cfg.gamma, cfg.tau) == ((128, 128), 64, 3e-4, 0.99, 0.01)
    assert getattr(cfg, "particles", 32) == 32
    assert getattr(cfg, "w2_scale", 0.4) == 0.4
    assert getattr(cfg, "w2", "eq9_sum") == "eq9_sum"
    assert getattr(cfg, "components", 4) == 4


@each
def test_presets_choose_among_the_values_allowed(agent, preset):
    for name, t in get_type_hints(agent.Config).items():
        if get_origin(t) is Literal:
            assert getattr(preset, name) in get_args(t)


def test_particles_that_components_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="particles is 30; it must be a multiple of components, 4"):
        dp_wgf_v.Config(particles=30)


@pytest.mark.parametrize(
    ("name", "preset", "message"),
    [
        (
            "dp-wfg",
            "paper",
            "agent 'dp-wfg' is unknown; choose from ddpg, dp-wgf, dp-wgf-v, es, ip-wgf, .* .did you mean 'dp-wgf'?",
        ),
        ("sac", "papr", "preset 'papr' is unknown to sac; choose from paper, modern, strong, strong-small .did you mean 'paper'?"),
        (
            "zzz",
            "paper",
            "agent 'zzz' is unknown; choose from ddpg, dp-wgf, dp-wgf-v, es, ip-wgf, pg, ppo, sac, soft-q, svpg, trpo, wgf-sac, wnpg, wpo$",
        ),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(name, preset, message):
    with pytest.raises(ValueError, match=message):
        find(name, preset)


@each
def test_a_recorded_update_is_the_update(agent, preset, device, recordings):
    plain, quick = (World(agent, small(preset), (3, 4), device) for _ in range(2))
    with trusted():
        plain.update(4)
        quick.update(1)  # what a network keeps of its last evaluation is not what is recorded
        update = compiled.update(agent, quick.cfg, quick.state, compile=True)
        for _ in range(3):
            info = update(quick.minibatch(), agent.noise(quick.cfg, A, quick.draw))()
    torch.testing.assert_close(quick.tensors(), plain.tensors(), rtol=1e-10, atol=1e-12)  # Adam in another order
    assert len(recordings) == 1
    assert all(value.shape == (2,) for value in info.values())


@pytest.mark.parametrize("w2", ["exact", "entropic", "debiased"])
def test_an_update_with_a_plan_is_recorded(w2, device, recordings):
    plain, quick = (World(dp_wgf, small(find("dp-wgf", "paper")[1], w2=w2), (3, 4), device) for _ in range(2))
    with trusted():
        plain.update(2)
        update = compiled.update(dp_wgf, quick.cfg, quick.state, compile=True)
        for _ in range(2):
            update(quick.minibatch(), dp_wgf.noise(quick.cfg, A, quick.draw))
    torch.testing.assert_close(quick.tensors(), plain.tensors(), rtol=1e-10, atol=1e-12)  # Adam in another order
    assert len(recordings) == 1
