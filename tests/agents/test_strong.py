"""SAC on its strong critic against the same update by torch's own layers, one seed at a time; and how the critic stands in others."""

import math
from copy import deepcopy
from dataclasses import asdict, fields, replace

import pytest
import torch
from torch.distributions import Normal

from tests.policies.plain import Residual, draw
from wgf.agents import ddpg, dp_wgf, dp_wgf_v, sac, sac_v, soft_q, wgf_sac, wpo
from wgf.agents.training.protocol import Batch, Streams

pytestmark = pytest.mark.usefixtures("double")
D, A, B, ATOMS, BOUND, DELAY, LR = 3, 2, 5, 7, 2.0, 2, 1e-2
TINY = {"hidden": (6, 6), "policy_hidden": (4,), "expansion": 2, "batch": B, "lr": LR, "lr_fall": 4, "tau": 0.2, "reward_scale": 0.7}
STRONG = replace(sac.PRESETS["strong-small"], atoms=ATOMS, bound=BOUND, policy_delay=DELAY, **TINY)
FLASH = replace(STRONG, norm="layer", smooth=True, start_std=0.0)  # FlashSAC's deviation, which begins at e^-4
CHOICES = [STRONG, FLASH, replace(STRONG, unit=False, policy_delay=1), replace(STRONG, atoms=1, members=1)]


def minibatch(seeds, rows, step):
    reward, discount = draw(seeds, rows, seed=10 + step), draw(seeds, rows, seed=20 + step).sigmoid()
    return Batch(
        draw(seeds, rows, D, seed=step), draw(seeds, rows, A, seed=30 + step).tanh(), reward, discount, draw(seeds, rows, D, seed=40 + step)
    )


def project(at, mass):
    step, found = 2.0 * BOUND / (ATOMS - 1), torch.zeros(ATOMS)
    for x, p in zip(at.clamp(-BOUND, BOUND).tolist(), mass, strict=True):
        for k in range(ATOMS):
            found[k] += p * max(0.0, 1.0 - abs(x - (-BOUND + k * step)) / step)
    return found


class ByHand:
    """One seed of SAC with networks of torch's layers and torch's Adam."""

    def __init__(self, cfg, state, s):
        def made(sizes, blocks, theta):
            return Residual(sizes, blocks, cfg.expansion, cfg.norm).take(theta)

        def adam(parameters):
            return torch.optim.Adam(parameters, lr=cfg.lr)

        self.cfg, self.steps = cfg, {}
        sizes = (D + A, cfg.hidden[0], cfg.atoms)
        self.q = [made(sizes, len(cfg.hidden), theta) for theta in state.q.theta[s]]
        self.target = [made(sizes, len(cfg.hidden), theta) for theta in state.q_target[s]]
        if not hasattr(state, "log_alpha"):  # another agent's, whose critic alone is looked at
            return
        self.policy = made((D, cfg.policy_hidden[0], 2 * A), len(cfg.policy_hidden), state.policy.theta[s])
        self.log_alpha = state.log_alpha.theta[s].clone().requires_grad_()
        self.adams = adam(self.policy.parameters()), adam([p for q in self.q for p in q.parameters()]), adam([self.log_alpha])

    def act(self, obs, xi):
        mean, raw = self.policy(obs).chunk(2, -1)
        log_std = -10.0 + 6.0 * (1.0 + torch.tanh(raw)) if self.cfg.smooth else (raw + math.log(0.15)).clamp(-20.0, 2.0)
        law = Normal(mean, log_std.exp())
        u = law.mean + law.stddev * xi
        return torch.tanh(u), (law.log_prob(u) - torch.log(1.0 - torch.tanh(u) ** 2)).sum(-1)

    def value(self, out):
        return out.softmax(-1) @ torch.linspace(-BOUND, BOUND, ATOMS) if self.cfg.atoms > 1 else out[..., 0]

    def fit(self, part, xi):
        with torch.no_grad():
            action, log_prob = self.act(part.next_obs, xi)
        loss, mean = self.loss(part, action, -self.log_alpha.detach().exp() * log_prob)
        self.step(self.adams[1], loss, self.q)
        with torch.no_grad():
            for old, new in zip(self.target, self.q, strict=True):
                for t, p in zip((*old.parameters(), *old.remembered()), (*new.parameters(), *new.remembered()), strict=True):
                    t.lerp_(p, self.cfg.tau)
        return loss, mean

    def loss(self, part, action, bonus):
        """Of Q by the action that follows and what is added to the value there, (s, a) and (s', a') in one minibatch; and the mean Q."""
        cfg = self.cfg
        with torch.no_grad():
            x = torch.cat([torch.cat([part.obs, part.action], -1), torch.cat([part.next_obs, action], -1)])
            after = [deepcopy(q).train()(x)[B:] for q in self.target]
            reward = cfg.reward_scale * part.reward
            if cfg.atoms > 1:
                least = torch.stack([self.value(out) for out in after]).argmin(0)
                laws = [after[int(k)][b].softmax(-1) for b, k in enumerate(least)]
                z = torch.linspace(-BOUND, BOUND, ATOMS)
                goals = [project(reward[b] + part.discount[b] * (z + bonus[b]), laws[b]) for b in range(B)]
            else:
                goals = reward + part.discount * (torch.stack([out[..., 0] for out in after]).amin(0) + bonus)
        loss, means = 0.0, []
        for q in self.q:
            now = q.train()(x)[:B]
            q.eval()
            means.append(self.value(now).mean())
            if cfg.atoms > 1:
                loss = loss - sum((goals[b] * now[b].log_softmax(-1)).sum() for b in range(B)) / B
            else:
                loss = loss + 0.5 * ((now[:, 0] - goals) ** 2).mean()
        return loss, torch.stack(means).mean()

    def step(self, adam, loss, nets):
        self.steps[adam] = self.steps.get(adam, 0) + 1
        fall = self.cfg.lr_fall if adam is self.adams[1] else self.cfg.lr_fall // self.cfg.policy_delay
        share = min(1.0, self.steps[adam] / fall)
        adam.param_groups[0]["lr"] = self.cfg.lr * (0.5 + 0.5 * (0.5 + 0.5 * math.cos(math.pi * share)))
        adam.zero_grad()
        loss.backward()
        adam.step()
        for net in nets:
            if self.cfg.unit:
                net.settle()

    def update(self, batch, noise):
        alpha = self.log_alpha.detach().exp()
        for k in range(self.cfg.policy_delay):
            part = Batch(*(t[k * B : (k + 1) * B] for t in batch))
            loss, mean = self.fit(part, noise[k * B : (k + 1) * B])
        self.policy.train()
        action, log_prob = self.act(part.obs, noise[self.cfg.policy_delay * B :])
        self.policy.eval()
        value = torch.stack([self.value(q(torch.cat([part.obs, action], -1))) for q in self.q]).amin(0)
        objective = (alpha * log_prob - value).mean()
        self.step(self.adams[0], objective, [self.policy])
        target = 0.5 * A * math.log(2.0 * math.pi * math.e * self.cfg.entropy_std**2)
        entropy = -log_prob.mean().detach()
        self.step(self.adams[2], self.log_alpha * (entropy - target), [])
        return {"losses/q": loss, "losses/q_values": mean, "losses/policy": objective, "policy/entropy": entropy, "policy/alpha": alpha}

    def vectors(self):
        parts = {"policy": [self.policy], "q": self.q, "q_target": self.target}
        return {name: torch.stack([net.flat() for net in nets]).squeeze(0) for name, nets in parts.items()} | {
            "log_alpha": self.log_alpha.detach()
        }


@pytest.mark.parametrize("cfg", CHOICES, ids=["strong", "layer, smooth", "free weights", "a number"])
def test_sac_with_the_strong_critic_by_hand(cfg):
    seeds = 2
    state = sac.init(cfg, D, A, [torch.Generator().manual_seed(k) for k in range(seeds)], torch.device("cpu"))
    state.q_target += 0.05 * draw(*state.q_target.shape, seed=3).tanh()
    alone = [ByHand(cfg, state, s) for s in range(seeds)]
    for one in alone:
        one.policy.eval()
    streams = Streams([torch.Generator().manual_seed(50 + s) for s in range(seeds)])
    for step in range(2):
        batch, noise = minibatch(seeds, cfg.policy_delay * B, step), sac.noise(cfg, A, streams)
        info = sac.update(cfg, state, batch, noise)()
        for s, one in enumerate(alone):
            for tag, value in one.update(Batch(*(t[s] for t in batch)), noise[s]).items():
                torch.testing.assert_close(info[tag][s], value.detach(), rtol=1e-8, atol=1e-10, msg=lambda m, tag=tag: f"{tag}: {m}")
            for name, want in one.vectors().items():
                got = getattr(state, name)
                got = getattr(got, "theta", got)[s].view(want.shape)
                torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize(("agent", "law_of_wpo"), [(ddpg, ""), (wpo, "gaussian"), (wpo, "squashed")], ids=["ddpg", "wpo", "wpo squashed"])
def test_the_critic_of_an_actor_without_a_density_sees_both_halves_in_one_minibatch(agent, law_of_wpo):
    """Its loss by torch's layers, with the action that the target policy takes next, and for WPO the entropy of its law there."""
    sizes = {"critic_hidden": (6, 6)} if agent is wpo else {}
    cfg = replace(
        agent.PRESETS["strong-small"], atoms=ATOMS, bound=BOUND, **{k: v for k, v in TINY.items() if k != "policy_hidden"}, **sizes
    )
    cfg = replace(cfg, policy_delay=1, **({"entropy": 0.3, "policy": law_of_wpo} if agent is wpo else {}))
    state = agent.init(cfg, D, A, [torch.Generator().manual_seed(k) for k in range(2)], torch.device("cpu"))
    for name in ("policy_target", "q_target"):
        theta = getattr(state, name)
        theta += 0.05 * draw(*theta.shape, seed=3).tanh()
    batch, noise = minibatch(2, B, 0), agent.noise(cfg, A, Streams([torch.Generator().manual_seed(50 + s) for s in range(2)]))
    alone = [ByHand(cfg, state, s) for s in range(2)]
    if agent is ddpg:
        action, bonus = state.nets.policy.mode(state.policy_target, batch.next_obs), torch.zeros(2, B)
    else:
        law = state.nets.policy.law(state.policy_target, batch.next_obs)
        u = (law.mean + law.std * noise.after)[:, :, 0]
        action = u.tanh() if law_of_wpo == "squashed" else u.clamp(-1.0, 1.0)
        spread = 0.5 * math.log(2.0 * math.pi * math.e) + law.std.log()[:, :, 0]
        bonus = 0.3 * (spread + ((1.0 - action.square()).log() if law_of_wpo == "squashed" else 0.0)).sum(-1)
    info = agent.update(cfg, state, batch, noise)()
    for s, one in enumerate(alone):
        loss, mean = one.loss(Batch(*(t[s] for t in batch)), action[s], bonus[s])
        torch.testing.assert_close(info["losses/q"][s], loss.detach(), rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(info["losses/q_values"][s], mean.detach(), rtol=1e-8, atol=1e-10)


def rows_of(noise, cfg, k):
    """Of the noise of an update on two minibatches, what one on the minibatch k would get."""
    if isinstance(noise, tuple):
        return type(noise)(*(t[:, k * B : (k + 1) * B] if t.shape[1] == 2 * B else t for t in noise))
    if noise is not None and noise.shape[1] == 3 * B:  # SAC's: two minibatches' next states, then the last one's states
        return torch.cat([noise[:, k * B : (k + 1) * B], noise[:, 2 * B :]], 1)
    return noise if noise is None or noise.shape[1] == B else noise[:, k * B : (k + 1) * B]


@pytest.mark.parametrize("agent", [ddpg, dp_wgf, dp_wgf_v, sac, soft_q, wgf_sac, wpo], ids=lambda agent: agent.__name__.split(".")[-1])
def test_a_delayed_policy_moves_once_and_its_critics_at_each_minibatch(agent):
    """As after an update on the first minibatch of which Q and V alone are kept, with their targets, and then one on the second."""
    preset = replace(agent.PRESETS["modern"], hidden=(6,), batch=B, **({"critic_hidden": (6,)} if agent is wpo else {"tau": 0.2}))
    cfg = replace(preset, policy_delay=2, **({"bootstrap": "draw", "copy_every": 2} if agent is wpo else {}))
    one = replace(cfg, policy_delay=1)
    generators = [torch.Generator().manual_seed(k) for k in range(2)]
    twice, each = (agent.init(c, D, A, generators, torch.device("cpu")) for c in (cfg, one))
    for f in fields(each):
        setattr(each, f.name, deepcopy(getattr(twice, f.name)))
    batch = minibatch(2, 2 * B, 0)
    noise = agent.noise(cfg, A, Streams([torch.Generator().manual_seed(50 + s) for s in range(2)]))
    told = agent.update(cfg, twice, batch, noise)()
    for k, part in enumerate(batch.parts(B)):
        before = deepcopy(each)
        alone = agent.update(one, each, part, rows_of(noise, cfg, k))()
        if k == 0:
            for f in fields(each):
                if f.name not in ("q", "q_target", "v", "v_target"):
                    setattr(each, f.name, getattr(before, f.name))
    for f in fields(each):
        got, want = (getattr(getattr(s, f.name), "theta", getattr(s, f.name)) for s in (twice, each))
        if isinstance(got, torch.Tensor):
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11, msg=lambda m, name=f.name: f"{name}: {m}")
    assert told.keys() == alone.keys()
    for tag, value in told.items():
        torch.testing.assert_close(value, alone[tag], rtol=1e-9, atol=1e-11)


def test_sacs_presets_carry_the_numbers_of_their_sources():
    """modern: Stable-Baselines3. strong: what it takes from FlashSAC, but for where the deviation begins, and nothing else."""
    modern, strong = asdict(sac.PRESETS["modern"]), asdict(sac.PRESETS["strong"])
    plain = {"network": "mlp", "activation": "relu", "atoms": 1, "smooth": False, "reward_scale": 1.0}
    rates = {"lr": 3e-4, "lr_fall": 0, "gamma": 0.99, "tau": 0.005, "alpha0": 1.0, "entropy_std": 0.0, "start_std": 0.0}
    sizes = {"hidden": (256, 256), "policy_hidden": (), "members": 2, "batch": 256, "envs": 1, "n_step": 1, "policy_delay": 1, "held": 1}
    blocks = {"expansion": 4, "norm": "batch", "unit": True, "bound": 5.0}  # which plain layers of a number do not have
    assert modern == {**plain, **rates, **sizes, **blocks}
    taken = {"network": "residual", "policy_hidden": (128, 128), "atoms": 101, "batch": 512, "tau": 0.01, "policy_delay": 2}
    taken |= {"start_std": 0.15, "alpha0": 0.01, "held": 16, "entropy_std": 0.15, "lr_fall": 1_000_000}
    assert strong == modern | taken
    small = {"hidden": (128, 128), "policy_hidden": (64, 64), "expansion": 2, "batch": 128, "lr_fall": 100_000}
    assert asdict(sac.PRESETS["strong-small"]) == strong | small
    taken |= small
    for agent in (dp_wgf_v, wgf_sac):
        assert {name: getattr(agent.PRESETS["strong-small"], name) for name in taken} == taken
    sizes = {
        name: taken[name] for name in ("hidden", "policy_hidden", "network", "expansion", "atoms", "batch", "tau", "policy_delay", "held")
    }
    for agent in (ddpg, dp_wgf, soft_q):
        assert {name: getattr(agent.PRESETS["strong-small"], name) for name in sizes} == sizes


@pytest.mark.parametrize("agent", [ddpg, dp_wgf, dp_wgf_v, sac, soft_q, wgf_sac], ids=lambda agent: agent.__name__.split(".")[-1])
def test_a_policy_may_have_a_size_of_its_own(agent):
    cfg = replace(agent.PRESETS["modern"], hidden=(7, 6), policy_hidden=(5,))
    alike, nets = agent.networks(replace(cfg, policy_hidden=()), D, A), agent.networks(cfg, D, A)
    assert (nets.policy.net.sizes[1:-1], alike.policy.net.sizes[1:-1]) == ((5,), (7, 6))
    assert nets.policy.net.sizes[-1] == alike.policy.net.sizes[-1]
    assert nets.policy.net.sizes[0] == alike.policy.net.sizes[0]
    assert nets.q.net.sizes == alike.q.net.sizes == (D + A, 7, 6, 1)


@pytest.mark.parametrize(
    "agent", [ddpg, dp_wgf, dp_wgf_v, sac, sac_v, soft_q, wgf_sac, wpo], ids=lambda agent: agent.__name__.split(".")[-1]
)
def test_every_replay_agent_has_the_critic(agent):
    """Its law, its scaled weights and what it remembers, through an update of two seeds; and no network is left out."""
    sizes = {f.name: (6, 6) for f in fields(agent.Config) if f.name in ("hidden", "critic_hidden")}
    cfg = replace(agent.Config(), network="residual", atoms=ATOMS, bound=BOUND, expansion=2, batch=B, **sizes)
    state = agent.init(cfg, D, A, [torch.Generator().manual_seed(k) for k in range(2)], torch.device("cpu"))
    batch, draws = minibatch(2, B, 0), Streams([torch.Generator().manual_seed(k) for k in range(2)])
    before = {name: adam.theta.clone() for name, adam in vars(state).items() if name in ("policy", "q", "v")}
    info = agent.update(cfg, state, batch, agent.noise(cfg, A, draws))()
    assert all(bool(value.isfinite().all()) for value in info.values())
    assert float(info["losses/q_values"].abs().max()) <= BOUND
    for name, old in before.items():
        net, theta = getattr(state.nets, name).net, getattr(state, name).theta
        if name == "policy" and agent is wpo:  # whose last layer starts small, and stays free
            continue
        d, width, _ = net.sizes
        remembered = 2 * (d + net.blocks * (net.expansion + 1) * width)
        assert bool((theta[..., -remembered:] != old[..., -remembered:]).any(-1).all()), name
        again = theta.clone()
        net.settle_(again, theta[..., :0])
        torch.testing.assert_close(again, theta)


@pytest.mark.parametrize("agent", [dp_wgf, dp_wgf_v, wgf_sac], ids=["dp_wgf", "dp_wgf_v", "wgf_sac"])
def test_a_policy_that_has_not_moved_is_at_no_distance_from_itself(agent):
    """Both see the statistics of the minibatch; by what one remembers and the other sees they would lie apart."""
    cfg = replace(agent.PRESETS["modern"], network="residual", hidden=(6, 6), batch=B, particles=4, w2_scale=0.3)
    state = agent.init(cfg, D, A, [torch.Generator().manual_seed(0)], torch.device("cpu"))
    draws = Streams([torch.Generator().manual_seed(0)])
    info = agent.update(cfg, state, minibatch(1, B, 0), agent.noise(cfg, A, draws))()
    assert info["flow/w2"].item() == 0.0
    assert info["flow/kl_speed"].item() > 0.0
    assert agent.update(cfg, state, minibatch(1, B, 1), agent.noise(cfg, A, draws))()["flow/w2"].item() > 0.0


def test_noise_is_held_for_so_many_steps_and_longer_ones_are_rarer():
    """Runs of k steps have chances as 1 / k^2, and none is longer than 4; a seed of a stack holds what it holds alone."""
    stack, alone = (Streams([torch.Generator().manual_seed(k) for k in seeds]) for seeds in ((3, 4), (4,)))
    drawn = torch.stack([stack.held(50, A, 4) for _ in range(400)])
    assert torch.equal(drawn[:, 1:], torch.stack([alone.held(50, A, 4) for _ in range(400)]))
    changed = (drawn[1:] != drawn[:-1]).all(-1)
    assert torch.equal(changed, (drawn[1:] != drawn[:-1]).any(-1))
    runs = [torch.diff(changed[:, s, n].nonzero()[:, 0]) for s in range(2) for n in range(50)]
    lengths = torch.cat(runs)
    chances = torch.arange(1, 5).to(drawn).pow(-2.0)
    for k, chance in enumerate(chances / chances.sum(), start=1):
        share = (lengths == k).to(drawn).mean().item()
        assert abs(share - chance.item()) < 4.0 * math.sqrt(chance * (1.0 - chance) / len(lengths)), k
    assert lengths.max().item() == 4
    fresh = drawn[1:][changed]
    assert abs(fresh.mean().item()) < 4.0 / math.sqrt(fresh.numel())
    assert abs(fresh.var().item() - 1.0) < 4.0 * math.sqrt(2.0 / fresh.numel())


def test_a_stream_that_is_restored_goes_on_with_the_noise_that_it_held():
    streams = Streams([torch.Generator().manual_seed(k) for k in (3, 4)])
    for _ in range(7):
        streams.held(5, A, 16)
    again = Streams([torch.Generator() for _ in range(2)])
    again.restore(streams.snapshot())
    for _ in range(20):
        assert torch.equal(again.held(5, A, 16), streams.held(5, A, 16))


@pytest.mark.parametrize("agent", [ddpg, dp_wgf, dp_wgf_v, sac, soft_q, wgf_sac, wpo], ids=lambda agent: agent.__name__.split(".")[-1])
def test_an_actor_that_explores_holds_its_noise_where_that_is_asked_for(agent):
    generator = [torch.Generator().manual_seed(0)]
    for held, same in ((1, False), (16, True)):
        streams = Streams(generator)
        drawn = torch.stack([agent.act_noise(replace(agent.PRESETS["strong-small"], held=held), A, 1, streams) for _ in range(40)])
        assert bool((drawn[1:] == drawn[:-1]).any()) is same
