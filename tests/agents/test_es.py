"""Evolution strategies: the promises that every agent keeps, and each formula against loops in numpy."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.policies.plain import assert_equal, assert_trained_as_alone
from wgf import kwng, transport, trusted
from wgf.agents import es
from wgf.agents.training import checkpoint, scores
from wgf.agents.training.damping import NONE, adapt_
from wgf.agents.training.population import Iteration, embedding_size
from wgf.agents.training.protocol import Streams
from wgf.agents.training.schedule import Schedule

pytestmark = pytest.mark.usefixtures("double")
D, A, N = 3, 2, 6
SMALL = {"hidden": (4,), "pairs": N, "horizon": 5, "earlier": 2, "neighbours": 2, "basis": 4, "features": 20, "taught": 7}
CHOICES = {"clipped sgd": {"optimiser": "sgd", "clip_norm": 0.5}, "to go": {"embedding": "reward_to_go", "guide": "wasserstein"}}
CHOICES |= {"actions": {"embedding": "actions", "metric": "kernel"}}
CHOICES |= {"rank 1": {"rank": 1}, "rank 2": {"rank": 2, "guide": "novelty"}}
CHOICES |= {"centres": {"guide": "novelty", "shaping": "ranks", "centres": 3}}
CHOICES |= {"centres sgd": {"guide": "novelty", "centres": 2, "optimiser": "sgd"}}
CHOICES |= {"dual": {"guide": "dual"}, "sinkhorn": {"guide": "wasserstein"}}
CASES = {name: replace(cfg, **SMALL) for name, cfg in es.PRESETS.items()}
CASES |= {name: replace(es.Config(**SMALL), **settings) for name, settings in CHOICES.items()}
each = pytest.mark.parametrize("cfg", CASES.values(), ids=CASES.keys())


class World:
    """Seeds side by side: a state, and iterations that are those of each seed by itself."""

    def __init__(self, cfg, seeds, device):
        self.cfg, self.memory, self.device = cfg, es.memory(cfg, Schedule()), device
        self.state = es.init(cfg, D, A, [torch.Generator().manual_seed(k) for k in seeds], device)
        self.draw = Streams([torch.Generator(device).manual_seed(k) for k in seeds])
        self.data = [torch.Generator().manual_seed(1000 + k) for k in seeds]

    def iteration(self):
        size = embedding_size(self.cfg.embedding, D, A, self.cfg.horizon)
        shapes = (self.memory.n,), (self.memory.n, size)
        returns, embedding = (torch.stack([torch.randn(*d, generator=g) for g in self.data]).to(self.device) for d in shapes)
        return Iteration(returns, embedding)

    def update(self, steps=1, spoil=lambda batch: batch):
        for _ in range(steps):
            self.memory.explore(self.state, self.draw)
            info = es.update(self.cfg, self.state, spoil(self.iteration()), es.noise(self.cfg, A, self.draw))()
        return info

    def tensors(self):
        return {name: t.clone() for name, t in checkpoint.tensors(self.state).items()}

    def played(self):
        """The weights of the population, (S, 2 N, P), and of all centres behind it for novelty."""
        n = self.memory.n
        if not self.cfg.rank:
            return self.state.population
        eps = es.lowrank(self.cfg, self.state.nets).mean(torch.ones(len(self.data) * n, 1), self.state.population.flatten(0, 1)[:, None])
        return self.state.policy.theta[:, None] + self.cfg.noise_std * eps.view(len(self.data), n, -1)

    def centres(self):
        """The weights of the centres, (S, M, P)."""
        return self.state.policy.theta.view(len(self.data), self.cfg.centres, -1)

    def obs(self, n=2 * N):
        return torch.randn(len(self.data), n, D, generator=torch.Generator().manual_seed(5)).to(self.device)


# --- promises ---------------------------------------------------------------------------------------------------------


@each
def test_same_seeds_give_the_same_training_and_a_seed_of_a_stack_trains_as_alone(cfg, device):
    runs = [World(cfg, seeds, device) for seeds in ((3, 4), (3, 4), (4,))]
    infos = [run.update(7) for run in runs]
    assert_trained_as_alone(runs, infos)


@each
def test_state_goes_through_a_checkpoint(cfg, device, tmp_path):
    torch.set_default_dtype(torch.float32)
    run, other = World(cfg, (3, 4), device), World(cfg, (7, 8), device)
    run.update(3)
    slices = []
    for s in range(2):
        (tmp_path / str(s)).mkdir()
        checkpoint.save(tmp_path / str(s), checkpoint.seed_slice(run.state, s), {"step": 3})
        slices.append(checkpoint.load(tmp_path / str(s))[1])
    checkpoint.restore_(other.state, slices)
    assert_equal(other.tensors(), run.tensors())
    assert torch.equal(es.greedy(cfg, other.state, other.obs()), es.greedy(cfg, run.state, run.obs()))
    other.draw, other.data = run.draw, run.data
    states = [g.get_state() for g in (*run.draw.generators, *run.data)]
    run.update(3)
    for g, state in zip((*run.draw.generators, *run.data), states, strict=True):
        g.set_state(state)
    other.update(3)
    assert_equal(other.tensors(), run.tensors())


@each
def test_info_is_finite_with_one_number_a_seed_and_everything_moves(cfg, device):
    run = World(cfg, (3, 4, 5), device)
    before = run.tensors()
    for _ in range(8):
        for tag, value in run.update().items():
            assert value.shape == (3,), tag
            assert value.isfinite().all(), tag
    still = ("scores.frequencies", "scores.phases", *(("policy.m", "policy.v") if cfg.optimiser == "sgd" else ()))
    for name, t in run.tensors().items():
        assert t.isfinite().all(), name
        if t.ndim and name not in ("damping.eps", "who"):  # which may stay where they are
            assert all(torch.equal(t[s], before[name][s]) is (name in still) for s in range(3)), name
    assert (run.state.policy.steps.view(-1, cfg.centres).sum(1) == 8).all()


@each
@pytest.mark.parametrize("part", [0, 1], ids=Iteration._fields)
def test_nan_of_one_seed_does_not_reach_the_others(cfg, part, device):
    def spoil(batch):
        parts = [t.clone() for t in batch]
        parts[part][1, 0] = torch.nan
        return Iteration(*parts)

    clean, spoiled = (World(cfg, (3, 4, 5), device) for _ in range(2))
    with trusted():
        clean.update(2)
        info = spoiled.update(2, spoil)
    for name, t in clean.tensors().items():
        if t.ndim:  # how often Sinkhorn looks at a number depends on all of the stack, and moves the last digits
            torch.testing.assert_close(spoiled.tensors()[name][[0, 2]], t[[0, 2]], rtol=1e-9, atol=1e-9)
    assert all(value[[0, 2]].isfinite().all() for value in info.values())
    used = part == 0 or cfg.guide != "none" or cfg.metric != "none"
    assert all(value[1].isfinite() for value in info.values()) is not used


@each
def test_each_policy_of_the_population_acts_by_itself_and_greedy_is_the_centre(cfg, device):
    run = World(cfg, (3, 4), device)
    run.update()
    n, each = run.memory.n, 6 if cfg.centres == 3 else 8
    obs, net = run.obs(cfg.centres * each), run.state.nets.policy.net
    noise = es.act_noise(cfg, A, cfg.centres * each, run.draw)
    acted, greedy = es.act(cfg, run.state, obs, noise), es.greedy(cfg, run.state, obs)
    played, centres = run.played(), run.centres()
    for s, i in itertools.product(range(2), range(cfg.centres * each)):
        for action, theta in ((acted, played[s, i % n]), (greedy, centres[s, i // each])):
            torch.testing.assert_close(action[s, i], torch.tanh(net(theta[None], obs[s, i][None, None])[0, 0]))
    assert torch.equal(es.act(cfg, run.state, obs[:, :n], noise), acted[:, :n])


def test_a_population_is_the_centre_and_antithetic_draws_about_it(device):
    run = World(CASES["paper"], (3, 4), device)
    assert torch.equal(run.state.population, run.state.policy.theta[:, None].expand_as(run.state.population))  # before it explores
    other = Streams([torch.Generator(device).manual_seed(k) for k in (3, 4)])
    es.explore(run.cfg, run.state, run.draw)
    eps, theta = other.normal(N, run.state.policy.theta.shape[-1]), run.state.policy.theta
    for s, i in itertools.product(range(2), range(N)):
        torch.testing.assert_close(run.state.population[s, i], theta[s] + 0.1 * eps[s, i])
        torch.testing.assert_close(run.state.population[s, N + i], theta[s] - 0.1 * eps[s, i])


@pytest.mark.parametrize("rank", [1, 2])
def test_a_population_of_low_rank_is_antithetic_and_its_step_is_that_of_the_perturbations_it_played(rank, device):
    run = World(replace(CASES["paper"], rank=rank, optimiser="sgd", lr=0.5), (3, 4), device)
    assert torch.equal(run.played(), run.state.policy.theta[:, None].expand_as(run.played()))  # before it explores
    es.explore(run.cfg, run.state, run.draw)
    theta, played, batch = run.state.policy.theta.clone(), run.played(), run.iteration()
    eps = (played - theta[:, None]) / run.cfg.noise_std
    torch.testing.assert_close(eps[:, N:], -eps[:, :N])
    assert 0.5 < eps.std() < 2.0
    es.update(run.cfg, run.state, batch, es.noise(run.cfg, A, run.draw))
    for s in range(2):
        fitness = (batch.returns[s] - batch.returns[s].mean()) / (batch.returns[s].std(correction=0) + 1e-8)
        expected = theta[s].cpu() + 0.5 * torch.from_numpy(plain_slope(fitness.cpu().numpy(), eps[s, :N].cpu().numpy(), run.cfg.noise_std))
        torch.testing.assert_close(run.state.policy.theta[s].cpu(), expected, rtol=1e-7, atol=1e-9)


def test_the_kernel_metric_takes_no_low_rank():
    with pytest.raises(ValueError, match=r"^rank is 1; the metric kernel takes perturbations of every weight: give rank 0, "):
        es.Config(rank=1, metric="kernel")


# --- formulas ---------------------------------------------------------------------------------------------------------


def plain_slope(fitness, eps, sigma):
    """(1 / (2 N sigma)) sum_i (F_i+ - F_i-) eps_i of one seed, number by number."""
    n = len(eps)
    found = np.zeros(len(eps[0]))
    for i in range(n):
        for p in range(len(found)):
            found[p] += (fitness[i] - fitness[n + i]) * eps[i][p] / (2.0 * n * sigma)
    return found


def test_the_gradient_of_a_quadratic_is_the_written_out_antithetic_mean():
    """F = c + b'x + x'Hx / 2: each pair's difference is 2 sigma eps'(b + H theta), so that g = (1/N) sum eps eps' grad F, at any sigma."""
    g = torch.Generator().manual_seed(0)
    b, h, theta = torch.randn(4, generator=g), torch.randn(4, 4, generator=g), torch.randn(2, 4, generator=g)
    h = h + h.T

    def f(x):
        return 3.0 + x @ b + 0.5 * ((x @ h) * x).sum(-1)

    for n, sigma in ((3, 0.7), (40_000, 0.2)):
        eps = torch.randn(2, n, 4, generator=g)
        fitness = torch.cat([f(theta[:, None] + sigma * eps), f(theta[:, None] - sigma * eps)], 1)
        found, true = es.slope(fitness, eps, sigma), b + theta @ h
        for s in range(2):
            if n == 3:
                expected = plain_slope(fitness[s].numpy(), eps[s].numpy(), sigma)
                np.testing.assert_allclose(found[s].numpy(), expected, rtol=1e-9)
            pairs = eps[s] * (eps[s] @ true[s])[:, None]
            torch.testing.assert_close(found[s], pairs.mean(0))
            error = pairs.std(0) / math.sqrt(n)
            assert n == 3 or bool(((found[s] - true[s]).abs() < 4.0 * error).all())  # four standard errors of the expected gradient


def test_ranks_are_those_of_scipy_from_minus_to_plus_a_half():
    from scipy.stats import rankdata

    x = torch.tensor([[3.0, -1.0, 7.0, 3.0, 3.0, 0.0], [2.0, 2.0, 2.0, 2.0, 2.0, 2.0], [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]])
    for row, found in zip(x, es.ranks(x), strict=True):
        np.testing.assert_allclose(found.numpy(), (rankdata(row.numpy()) - 1.0) / 5.0 - 0.5, atol=1e-12)
    assert es.ranks(x)[2].tolist() == pytest.approx([0.5, 0.3, 0.1, -0.1, -0.3, -0.5])


def test_novelty_is_the_mean_distance_to_the_nearest_of_what_centres_do_and_did():
    g = torch.Generator().manual_seed(0)
    embedding, centres, earlier = (torch.randn(2, *shape, 3, generator=g) for shape in ((5,), (2,), (4, 1)))
    cfg = es.Config(neighbours=4)
    for count, m in itertools.product((0, 1, 2, 3, 9), (1, 2)):
        found = es.novelty(cfg, embedding, centres[:, :m], earlier, torch.tensor(float(count)))
        for s, i in itertools.product(range(2), range(5)):
            archive = [*centres[s, :m], *earlier[s, : min(count, 4), 0]]
            apart = sorted(np.linalg.norm(embedding[s, i].numpy() - x.numpy()) for x in archive)[:4]
            assert found[s, i].item() == pytest.approx(sum(apart) / len(apart), abs=1e-12)
    every = es.novelty(replace(cfg, neighbours=10), embedding, centres, earlier, torch.tensor(9.0))  # more than there are: all of them
    archive = torch.cat([centres[0], earlier[0, :, 0]])
    torch.testing.assert_close(every[0, 0], (embedding[0, 0] - archive).norm(dim=-1).mean())


def test_one_of_several_is_drawn_in_proportion_to_its_weight():
    u = ((torch.arange(800) + 0.5) / 800).view(-1, 1)
    for weight, shares in (((1.0, 5.0, 2.0), (100, 500, 200)), ((0.0, 3.0, 1.0), (0, 600, 200)), ((0.0, 0.0), (400, 400))):
        assert es.likely(torch.tensor([weight]).expand(800, -1), u).bincount(minlength=len(shares)).tolist() == list(shares)


def test_the_guide_is_the_derivative_of_the_distance_in_a_members_weight():
    """f_i by central differences of the entropic cost in the weight of member i; members that went farther than others are sought."""
    g = torch.Generator().manual_seed(0)
    x, earlier = torch.randn(1, 6, 2, generator=g), torch.randn(1, 2, 6, 2, generator=g) + torch.tensor([2.0, 0.0])
    cfg = es.Config(smoothing=0.3)

    def cost(weights, y):
        eps = 0.3 * (x[0][:, None] - y[None]).square().sum(-1).mean()
        plan = transport.sinkhorn(x[0], y, eps, a=weights, tol=1e-10, max_iters=20_000)
        return plan.value

    slopes, step = torch.zeros(2, 6), 1e-4
    for k, i in itertools.product(range(2), range(6)):
        up, down = (torch.full((6,), 1.0 / 6.0) for _ in range(2))
        up[i] += step
        down[i] -= step
        slopes[k, i] = (cost(up / up.sum(), earlier[0, k]) - cost(down / down.sum(), earlier[0, k])) / (2.0 * step)
    for count, expected in ((9, slopes.mean(0)), (1, slopes[0])):
        (found,), (told,) = es.distance(cfg, x, earlier, torch.tensor(float(count)))
        whole = [cost(torch.full((6,), 1.0 / 6.0), earlier[0, k]) for k in range(min(count, 2))]
        torch.testing.assert_close(told, torch.stack(whole).mean(), rtol=1e-2, atol=0.0)
        # a potential is known up to a constant, and stops where the plan's marginals are right to a thousandth
        torch.testing.assert_close(found - found.mean(), expected - expected.mean(), atol=2e-2 * expected.std().item() + 1e-3, rtol=2e-2)
    assert torch.equal(es.distance(cfg, x, earlier, torch.tensor(0.0))[0], torch.zeros(1, 6))
    assert es.distance(cfg, torch.ones(1, 6, 2), torch.ones(1, 2, 6, 2), torch.tensor(2.0))[0].isfinite().all()


@pytest.mark.parametrize(("name", "sign"), [("dual", 1.0), ("bges", -1.0)])
def test_the_published_guide_is_minus_g_of_functions_that_pairs_of_two_populations_taught(name, sign, device):
    """Pairs by their places in the last population and in this one; nothing is sought at the first update, where there is no last."""
    cfg = replace(CASES[name], optimiser="sgd", lr=0.5, guide_weight=0.3, length=2.0, metric="none")
    run, last = World(cfg, (3, 4), device), None
    other = scores.begun([torch.Generator().manual_seed(k) for k in (3, 4)], D, 20, 2.0, device)
    assert not torch.equal(run.state.scores.phases, other.phases)  # theta was drawn before it
    other = replace(run.state.scores, left=other.left, right=other.right)
    for k in range(3):
        es.explore(cfg, run.state, run.draw)
        batch, theta = run.iteration(), run.state.policy.theta.clone()
        eps, noise = (run.state.population[:, :N] - theta[:, None]) / cfg.noise_std, es.noise(cfg, A, run.draw)
        if k:
            was, now = ([[int(u * 2 * N) for u in row] for row in noise.pairs[:, i].tolist()] for i in range(2))
            x, y = (torch.stack([cloud[s][places[s]] for s in range(2)]) for cloud, places in ((last, was), (batch.embedding, now)))
            assert x.shape == y.shape == (2, 7, D)
            scores.teach_(other, x, y, sign, torch.tensor(1.0, device=device))
        guide = sign * other.g(batch.embedding) if k else torch.zeros(2, 2 * N, device=device)
        es.update(cfg, run.state, batch, noise)
        assert run.state.earlier.shape == (2, 1, 2 * N, D)
        torch.testing.assert_close(run.state.scores.right, other.right)
        for s in range(2):
            shaped = [(v - v.mean()) / (v.std(correction=0) + 1e-8) for v in (batch.returns[s], guide[s])]
            fitness = 0.7 * shaped[0] + 0.3 * shaped[1]
            expected = theta[s].cpu() + 0.5 * torch.from_numpy(plain_slope(fitness.cpu().numpy(), eps[s].cpu().numpy(), cfg.noise_std))
            torch.testing.assert_close(run.state.policy.theta[s].cpu(), expected, rtol=1e-7, atol=1e-9)
        last = batch.embedding


def test_fitness_mixes_the_shaped_return_with_the_shaped_guide_and_the_latest_come_first(device):
    for name, shape in (("sinkhorn", "standardised"), ("nsr-es", "ranks")):
        cfg = replace(CASES[name], optimiser="sgd", lr=0.5, guide_weight=0.3)
        run = World(cfg, (3, 4), device)
        seen = []
        for k in range(3):
            es.explore(cfg, run.state, run.draw)
            batch, theta = run.iteration(), run.state.policy.theta.clone()
            eps = (run.state.population[:, :N] - theta[:, None]) / cfg.noise_std
            memory = torch.stack([*reversed(seen), *[torch.zeros_like(run.state.earlier[:, 0])] * 2], 1)[:, :2]
            torch.testing.assert_close(run.state.earlier, memory)
            done, count = batch.embedding, torch.tensor(float(k))
            if name == "sinkhorn":
                guide = es.distance(cfg, done, memory, count)[0]
            else:
                guide = es.novelty(cfg, done, done[:, 2 * N :], memory, count)[:, : 2 * N]
            es.update(cfg, run.state, batch, es.noise(cfg, A, run.draw))
            for s in range(2):
                parts = []
                for values in (batch.returns[s, : 2 * N], guide[s]):
                    if shape == "ranks":
                        parts.append(es.ranks(values[None])[0])
                    else:
                        parts.append((values - values.mean()) / (values.std(correction=0) + 1e-8))
                fitness = 0.7 * parts[0] + 0.3 * parts[1]
                expected = theta[s] + 0.5 * torch.from_numpy(plain_slope(fitness.numpy(), eps[s].numpy(), cfg.noise_std))
                torch.testing.assert_close(run.state.policy.theta[s], expected, rtol=1e-7, atol=1e-9)
            seen.append(done if name == "sinkhorn" else done[:, 2 * N :])


def test_of_several_centres_one_takes_the_step_and_the_next_is_drawn_by_novelty(device):
    """Twelve updates by hand, seed by seed: Adam of each centre by itself, an archive, and a draw among three."""
    cfg = CASES["centres"]
    run, drawn = World(cfg, (3, 4), device), set()
    centres = [[{"x": x.clone(), "m": 0.0 * x, "v": 0.0 * x, "t": 0} for x in mine] for mine in run.centres()]
    assert not torch.equal(run.centres()[:, 0], run.centres()[:, 1])
    archives, who = [[], []], [0, 0]
    for _ in range(12):
        es.explore(cfg, run.state, run.draw)
        batch, noise, played = run.iteration(), es.noise(cfg, A, run.draw), run.state.population.clone()
        told = es.update(cfg, run.state, batch, noise)()
        for s in range(2):
            assert torch.equal(played[s, 2 * N :], torch.stack([c["x"] for c in centres[s]]))
            mine, did = centres[s][who[s]], batch.embedding[s]
            eps = (played[s, :N] - mine["x"]) / cfg.noise_std
            torch.testing.assert_close(played[s, N : 2 * N], mine["x"] - cfg.noise_std * eps)
            archive = [*did[2 * N :], *archives[s][-cfg.earlier :]]
            apart = torch.tensor([sum(sorted((x - y).norm().item() for y in archive)[: cfg.neighbours]) / cfg.neighbours for x in did])
            assert told["population/novelty"][s].item() == pytest.approx(apart[: 2 * N].mean().item())
            fitness = 0.5 * es.ranks(batch.returns[s, None, : 2 * N])[0].cpu() + 0.5 * es.ranks(apart[None, : 2 * N])[0]
            g = torch.from_numpy(plain_slope(fitness.numpy(), eps.cpu().numpy(), cfg.noise_std)).to(device)
            mine["t"] += 1
            mine["m"], mine["v"] = 0.9 * mine["m"] + 0.1 * g, 0.999 * mine["v"] + 0.001 * g * g
            m, v = mine["m"] / (1.0 - 0.9 ** mine["t"]), mine["v"] / (1.0 - 0.999 ** mine["t"])
            mine["x"] = mine["x"] + cfg.lr * m / (v.sqrt() + 1e-8)
            archives[s].append(did[2 * N + who[s]])
            torch.testing.assert_close(run.centres()[s], torch.stack([c["x"] for c in centres[s]]), rtol=1e-7, atol=1e-9)
            centres[s] = [{**c, "x": x.clone()} for c, x in zip(centres[s], run.centres()[s], strict=True)]
            upto = (apart[2 * N :].cumsum(0) / apart[2 * N :].sum()).tolist()
            who[s] = sum(noise.who[s].item() >= edge for edge in upto[:-1])
            drawn.add((s, who[s]))
        assert run.state.who.tolist() == who
        assert es.centre(run.state).equal(torch.stack([run.centres()[s, who[s]] for s in range(2)]))
    assert len(drawn) == 6  # every centre of each seed came to its turn


def test_without_adam_too_one_of_several_centres_takes_the_step_and_is_counted(device):
    run = World(replace(CASES["centres sgd"], lr=0.5), (3, 4), device)
    run.state.who.copy_(torch.tensor([1, 0]))
    before = run.centres().clone()
    direction = torch.randn(2, before.shape[-1], generator=torch.Generator().manual_seed(0)).to(device)
    es.ascend_(run.cfg, run.state, direction)
    for s, m in itertools.product(range(2), range(2)):
        step = 0.5 * direction[s] if m == (1, 0)[s] else torch.zeros_like(direction[s])
        torch.testing.assert_close(run.centres()[s, m], before[s, m] + step)
    assert run.state.policy.steps.flatten(1).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("wrong", [{"guide": "published"}, {"guide": "novelty", "rank": 1}, {"guide": "novelty", "metric": "kernel"}])
def test_several_centres_take_novelty_alone(wrong):
    with pytest.raises(ValueError, match=r"^centres is 2; several take the guide novelty, rank 0 and metric none: give these, or "):
        es.Config(centres=2, **wrong)


def test_wnes_amplifies_the_dense_damped_projection(device):
    """theta + lr (g - delta P g), P = G (G + eps I)^-1 of the dense metric G = J'L^+J, J by the written-out score form."""
    cfg = replace(CASES["wnes"], optimiser="sgd", lr=0.5, damping=0.3)
    run = World(cfg, (3, 4), device)
    es.explore(cfg, run.state, run.draw)
    batch, noise, theta = run.iteration(), es.noise(cfg, A, run.draw), run.state.policy.theta.clone()
    population, sigma = run.state.population, cfg.noise_std
    es.update(cfg, run.state, batch, noise)
    for s in range(2):
        x = batch.embedding[s]
        points = torch.stack([x[int(u * 2 * N)] for u in noise.points[s]])
        axes = torch.tensor([int(u * D) for u in noise.axes[s]])
        scale = (points[:, None] - x[None]).square().sum(-1).mean()

        def h(m, y, points=points, axes=axes, scale=scale):
            return torch.exp(-(points[m] - y).square().sum() / (2.0 * scale)) * (y - points[m])[axes[m]] / scale

        jacobian, slopes = torch.zeros(4, theta.shape[1]), torch.zeros(4, 2 * N, D)
        for m, i in itertools.product(range(4), range(2 * N)):
            jacobian[m] += h(m, x[i]) * (population[s, i] - theta[s]) / sigma**2 / (2 * N)
            slopes[m, i] = torch.func.grad(lambda y, m=m: h(m, y))(x[i])
        gram = slopes.flatten(1) @ slopes.flatten(1).T / (2 * N)
        dense = jacobian.T @ torch.linalg.pinv(gram, rtol=kwng.RTOL, hermitian=True) @ jacobian
        projection = dense @ torch.linalg.inv(dense + 0.3 * torch.eye(len(dense)))
        fitness = (batch.returns[s] - batch.returns[s].mean()) / (batch.returns[s].std(correction=0) + 1e-8)
        eps = (population[s, :N] - theta[s]) / sigma
        g = torch.from_numpy(plain_slope(fitness.numpy(), eps.numpy(), sigma))
        torch.testing.assert_close(run.state.policy.theta[s], theta[s] + 0.5 * (g + 1.3 * projection @ g), rtol=1e-6, atol=1e-8)
        assert (projection @ g).norm() > 0.05 * g.norm()  # or the metric would not be seen


def test_a_clipped_direction_has_the_length_of_the_clip_and_a_short_one_its_own(device):
    for clip, scale in ((0.01, None), (1e6, 1.0)):
        cfg = replace(CASES["clipped sgd"], clip_norm=clip, lr=0.5)
        run, free = World(cfg, (3, 4), device), World(replace(cfg, clip_norm=0.0), (3, 4), device)
        before = run.state.policy.theta.clone()
        run.update(), free.update()
        moved, whole = run.state.policy.theta - before, free.state.policy.theta - before
        if scale is None:
            torch.testing.assert_close(moved.norm(dim=-1), torch.full((2,), 0.5 * clip, device=device), rtol=1e-6, atol=0.0)
            torch.testing.assert_close(torch.cosine_similarity(moved, whole, -1), torch.ones(2, device=device))
        else:
            torch.testing.assert_close(moved, whole)


def test_adam_ascends_with_the_learning_rate(device):
    run = World(CASES["paper"], (3, 4), device)
    es.explore(run.cfg, run.state, run.draw)
    theta, population = run.state.policy.theta.clone(), run.state.population.clone()
    returns = population.sum(-1)  # rises along every weight
    es.update(run.cfg, run.state, Iteration(returns, torch.zeros(2, 2 * N, D)), es.noise(run.cfg, A, run.draw))
    eps = (population[:, :N] - theta[:, None]) / run.cfg.noise_std
    g = es.slope(returns, eps, run.cfg.noise_std)
    torch.testing.assert_close(run.state.policy.theta - theta, 0.1 * g.sign(), rtol=1e-5, atol=1e-7)


def test_damping_follows_what_the_mean_return_rose_beside_what_the_last_step_promised(device):
    """Five updates; the fifth ratio comes with the sixth. Returns of theta'c rise as promised: ratio 2, so that eps falls to 0.85 of it."""
    cfg = replace(CASES["wnes"], optimiser="sgd", lr=1e-3, damping=0.3)
    for factor, expected in ((1.0, 0.3 * 0.85), (0.1, 0.3 / 0.85), (0.25, 0.3)):
        run = World(cfg, (3, 4), device)
        c = torch.randn(run.state.policy.theta.shape[-1], generator=torch.Generator().manual_seed(9)).to(device)
        promised, level = torch.zeros(2), torch.zeros(2, 1)
        for _ in range(6):
            es.explore(cfg, run.state, run.draw)
            batch = run.iteration()
            theta = run.state.policy.theta.clone()
            around = (run.state.population - theta[:, None]) @ c
            level = level + factor * promised[:, None]
            returns = around + level
            assert torch.equal(run.state.damping.eps, torch.full((2,), 0.3))
            es.update(cfg, run.state, Iteration(returns, batch.embedding), es.noise(cfg, A, run.draw))
            eps = (run.state.population[:, :N] - theta[:, None]) / cfg.noise_std
            promised = (es.slope(returns, eps, cfg.noise_std) * (run.state.policy.theta - theta)).sum(-1)
            torch.testing.assert_close(run.state.damping.promised, promised)
            torch.testing.assert_close(run.state.damping.before, returns.mean(-1))
        torch.testing.assert_close(run.state.damping.eps, torch.full((2,), expected))


def test_a_step_that_promises_a_fall_has_no_ratio(device):
    run = World(replace(CASES["wnes"], damping=0.3), (3, 4), device)
    run.update()
    run.state.damping.promised.copy_(torch.tensor([-1.0, 1.0]))
    run.state.damping.before.fill_(-1e3)
    run.update()
    assert run.state.damping.best[0] == NONE
    assert run.state.damping.best[1] > 1e3


def test_a_damping_keeps_the_best_ratio_until_it_is_due_and_leaves_nan_out():
    eps, best = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([0.5, NONE, 0.1])
    adapt_(eps, best, torch.tensor([0.4, 0.9, torch.nan]), torch.tensor(4.0))
    assert eps.tolist() == [1.0, 1.0, 1.0]
    assert best.tolist() == [0.5, 0.9, 0.1]
    adapt_(eps, best, torch.tensor([torch.nan, 0.1, 0.2]), torch.tensor(5.0))
    assert eps.tolist() == pytest.approx([1.0, 0.85, 1.0 / 0.85])
    assert best.tolist() == [NONE] * 3
    adapt_(eps, best, torch.tensor([NONE] * 3), torch.tensor(0.0))  # before the first step there is none
    assert eps.tolist() == pytest.approx([1.0, 0.85, 1.0 / 0.85])
    adapt_(eps, best, torch.tensor([NONE, torch.nan, -5.0]), torch.tensor(10.0))  # none in five steps: it stays
    assert eps.tolist() == pytest.approx([1.0, 0.85, 1.0 / 0.85**2])


def test_indices_are_spread_over_all_places():
    assert es.picked(torch.tensor([0.0, 0.2, 0.49, 0.5, 0.999, 1.0]), 4).tolist() == [0, 0, 1, 2, 3, 3]


def test_what_is_told_is_of_the_returns_and_of_the_step(device):
    cfg = replace(CASES["bg-wnes"], guide="wasserstein", optimiser="sgd", lr=0.5, damping=0.3)
    run = World(cfg, (3, 4), device)
    run.update()
    es.explore(cfg, run.state, run.draw)
    batch, theta, earlier = run.iteration(), run.state.policy.theta.clone(), run.state.earlier.clone()
    info = es.update(cfg, run.state, batch, es.noise(cfg, A, run.draw))()
    f, w2 = es.distance(cfg, batch.embedding, earlier, torch.tensor(1.0))
    eps = (run.state.population[:, :N] - theta[:, None]) / cfg.noise_std
    gradient = es.slope(0.5 * (es.standardised(batch.returns) + es.standardised(f)), eps, cfg.noise_std)
    moved = run.state.policy.theta - theta
    expected = {
        "population/return": batch.returns.sum(-1) / (2 * N),
        "population/return_std": (batch.returns - batch.returns.mean(-1, keepdim=True)).square().mean(-1).sqrt(),
        "population/return_best": batch.returns.sort(-1).values[:, -1],
        "policy/gradient": gradient.square().sum(-1).sqrt(),
        "policy/moved": moved.square().sum(-1).sqrt(),
        "policy/cosine": (moved * gradient).sum(-1) / (moved.norm(dim=-1) * gradient.norm(dim=-1)),
        "flow/w2": w2,
        "policy/damping": run.state.damping.eps,
    }
    assert set(info) == set(expected)
    for tag, value in expected.items():
        torch.testing.assert_close(info[tag], value, msg=lambda m, tag=tag: f"{tag}: {m}")
