"""Evolution strategies on the weights of deterministic policies: ES, NSR-ES, BGES, WNES and BG-WNES (Moskovitz et al. 2020, Sec. 4).

The presets: ``paper`` is ES (Salimans et al. 2017), ``nsr-es`` adds novelty (Conti et al. 2018), ``bges`` a score of
what policies did (Pacchiano et al. 2020), ``wnes`` the Wasserstein natural gradient (Algorithm 2), and ``bg-wnes`` both.

Departs: the score is the published code's, whose second function has the other sign than in the paper. So it is no distance to what
earlier policies did: it seeks what the population rarely did. By the distance itself (``guide="wasserstein"``) no policy got around the
wall of Figure 4. Pinned by
tests/agents/training/test_scores.py::test_of_far_pairs_g_is_the_density_of_all_that_was_done.

Departs: the perturbations are theta +- sigma eps and the factor of Eq. 13 and 14 is 1 / (N sigma^2), as their code has in effect; as
printed, 1 / (N sigma), gradient and Jacobian are sigma times too small. Pinned by
tests/agents/test_es.py::test_the_gradient_of_a_quadratic_is_the_written_out_antithetic_mean.

Departs: Eq. 15 is taken as their code has it, (1 - delta) g + delta eps g^W = g - delta P g, P the damped projection on the directions
that change behaviour: eps is the damping, and without it g^W would outweigh g by 1 / eps. Delta is -1.3 there: what changes behaviour is
amplified, and nothing repels from an earlier policy. The damping is the same for every parameter, there divided by the length of a
column. Pinned by tests/agents/test_es.py::test_wnes_amplifies_the_dense_damped_projection.

Departs: the distance of ``guide="wasserstein"`` is Sinkhorn's, in the paper an ascent on 1,000 random features, which ends far below it;
policies are dense and act without noise.

Departs: Conti et al. train several centres and draw the one to train next after its step, in proportion to novelty; here what it does after
its step is seen with the next population, and it is drawn by what it did before. ``nsr-es`` has one centre, the budget of the other
presets: Moskovitz et al., who name NSR-ES as a baseline, do not say how many theirs has. ``centres=5`` is the published code's. Pinned by
tests/agents/test_es.py::test_of_several_centres_one_takes_the_step_and_the_next_is_drawn_by_novelty.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wgf import kwng
from wgf.agents.training.damping import NONE, adapt_
from wgf.agents.training.descent import Adam
from wgf.agents.training.onpolicy import standardised
from wgf.agents.training.population import EmbeddingName, Iteration, Population, embedding_size
from wgf.agents.training.protocol import Info, Streams
from wgf.agents.training.schedule import Schedule
from wgf.agents.training.scores import Scores, begun, teach_
from wgf.kernels import squared_distances
from wgf.lowrank import LowRank
from wgf.mlp import MLP
from wgf.policies.deterministic import DeterministicPolicy
from wgf.shards import ALONE, Shards
from wgf.sinkhorn import sinkhorn

__all__ = [
    "PRESETS", "Config", "Damping", "Nets", "Noise", "State", "act", "act_noise", "centre", "distance", "explore", "greedy", "init",
    "likely", "memory", "metric", "networks", "noise", "novelty", "picked", "ranks", "remember_", "score", "share", "slope", "update",
]  # fmt: skip

SIGNS = {"dual": 1.0, "published": -1.0}  # of g in the guides that pairs teach
LEAST = 1e-10  # of Sinkhorn's eps, and of a centre's novelty, where all did the same


@dataclass(frozen=True)
class Config:
    """The defaults are those of the point task in the code of Pacchiano et al. and of Moskovitz et al."""

    hidden: tuple[int, ...] = (16, 16)
    """Hidden units of the policy."""
    activation: str = "tanh"
    """Activation: tanh or relu."""
    pairs: int = 50
    """N: directions eps per update, each played as theta + noise_std eps and as theta - noise_std eps."""
    noise_std: float = 0.1
    """sigma: deviation of a perturbation, per weight. 0.1 is what the authors' code amounts to on the point task, whose setting of 0.01
    or 0.1 it divides out again."""
    rank: int = 0
    """Rank of the perturbation of each weight matrix, for large networks: a policy then costs hardly more than its share of one product
    with the centre's weights (Sarkar et al. 2025). 0: every weight has a number of its own."""
    horizon: int = 1000
    """Steps at which an episode is cut, unless the environment's own time limit comes first. An update counts 2 N times so many steps."""
    shaping: Literal["standardised", "ranks"] = "standardised"
    """Fitness of 2 N returns: in units of their deviation from their mean, or ranks from -1/2 to 1/2."""
    optimiser: Literal["adam", "sgd"] = "adam"
    """What ascends. Adam divides out the length of the gradient."""
    lr: float = 0.1
    """Step size."""
    clip_norm: float = 0.0
    """Length at which the direction is cut; 0: it is not. Of use with sgd alone."""
    gamma: float = 1.0
    """Discount of the returns."""
    embedding: EmbeddingName = "final_state"
    """What of an episode counts as behaviour: its last observation, the sums of rewards from each step on, or all actions."""
    guide: Literal["none", "novelty", "wasserstein", "dual", "published"] = "none"
    """What is sought beside the return. novelty: distance to the nearest earlier behaviours (NSR-ES); wasserstein: Wasserstein distance
    to what the populations of earlier policies did (BGES), by Sinkhorn; dual: that distance by steps up its dual on random features;
    published: those steps with the sign of the published code, which seek what the population itself rarely did."""
    guide_weight: float = 0.5
    """beta: weight of the guide; that of the return is 1 - beta."""
    earlier: int = 2
    """Earlier policies that the guides novelty and wasserstein remember; dual and published remember in their functions."""
    neighbours: int = 10
    """Nearest earlier behaviours whose mean distance is novelty."""
    centres: int = 1
    """M: centres of the guide novelty. An update moves one, the next by draw in proportion to novelty, so that each has some 1 / M of the
    updates; all play an episode per update. Each is a policy that is evaluated. The published code of NSR-ES has 5."""
    smoothing: float = 0.1
    """eps of Sinkhorn, as a share of the mean squared distance between two populations."""
    features: int = 1000
    """Random features of the guides dual and published."""
    length: float = 1.0
    """Length of the Gaussian kernel of these features, in units of an embedding."""
    taught: int = 100
    """Pairs of behaviours, of the last population and of this, that each update teaches these guides."""
    metric: Literal["none", "kernel"] = "none"
    """kernel: the part of the gradient that changes behaviour is scaled by 1 - delta (WNES)."""
    delta: float = -1.3
    """Of g - delta P g: 1 leaves out what changes behaviour, as the Wasserstein natural gradient does; below 0 amplifies it."""
    basis: int = 10
    """Functions of the kernel metric."""
    damping: float = 1e-5
    """eps of P, where it starts: a rule changes it every fifth step."""

    def __post_init__(self) -> None:
        if self.rank and self.metric == "kernel":
            raise ValueError(f"rank is {self.rank}; the metric kernel takes perturbations of every weight: give rank 0, or metric none")
        if self.centres > 1 and (self.guide, self.rank, self.metric) != ("novelty", 0, "none"):
            raise ValueError(f"centres is {self.centres}; several take the guide novelty, rank 0 and metric none: give these, or centres 1")


PRESETS = {
    "paper": Config(),
    "nsr-es": Config(guide="novelty", shaping="ranks", earlier=1000),
    "bges": Config(guide="published"),
    "wnes": Config(metric="kernel"),
    "bg-wnes": Config(guide="published", metric="kernel"),
}


class Nets(NamedTuple):
    """The function of theta."""

    policy: DeterministicPolicy


@dataclass
class Damping:
    """eps (S,), the best reduction ratio since it was last changed (S,), and of the last step: the mean return of the population before
    it (S,), and by how much that should have risen to first order (S,)."""

    eps: Tensor
    best: Tensor
    before: Tensor
    promised: Tensor


@dataclass
class State:
    """``policy`` moves the centre (S, P), or one of several (S, M, P); ``population`` are the policies that play, theta + sigma eps first,
    (S, 2 N, P), or of a low rank the factors of their eps, (S, 2 N, F); behind them for novelty all centres, (S, 2 N + M, P).

    ``earlier`` is what is remembered for a guide, the latest first: embeddings of populations (S, K, 2 N, d), or for novelty what centres
    did that have moved since, (S, K, 1, d). ``who``: which of several centres the population is about, (S,).
    ``shards``: which of the population each rank plays; every rank has all of them.
    """

    nets: Nets
    policy: Adam
    population: Tensor
    earlier: Tensor | None = field(kw_only=True)
    scores: Scores | None = field(kw_only=True)
    damping: Damping | None = field(kw_only=True)
    who: Tensor | None = field(kw_only=True)
    shards: Shards = field(default=ALONE, kw_only=True)


class Noise(NamedTuple):
    """U(0, 1) that picks a point and a coordinate for each function of the metric, (S, M), the pairs that teach, (S, 2, K), and the next
    of several centres, (S, 1)."""

    points: Tensor
    axes: Tensor
    pairs: Tensor
    who: Tensor


def memory(cfg: Config, schedule: Schedule) -> Population:
    """They learn from whole episodes of a population."""
    n = 2 * cfg.pairs + (cfg.centres if cfg.guide == "novelty" else 0)
    return Population(n, cfg.horizon, cfg.gamma, cfg.embedding, partial(explore, cfg), cfg.centres)


def networks(cfg: Config, obs: int, action: int) -> Nets:
    """Makes the network of a configuration, for so many numbers of an observation and of an action."""
    return Nets(DeterministicPolicy(MLP((obs, *cfg.hidden, action), cfg.activation)))


def init(
    cfg: Config, obs: int, action: int, generators: Sequence[torch.Generator], device: torch.device, nets: Nets | None = None
) -> State:
    """Makes a fresh state of len(generators) seeds, whose population is the centre until it explores."""
    nets = nets or networks(cfg, obs, action)
    centres, several = [nets.policy.init(generators).to(device) for _ in range(cfg.centres)], cfg.centres > 1
    theta = centres[0]
    seeds, size = len(theta), embedding_size(cfg.embedding, obs, action, cfg.horizon)
    each, last = {"none": 0, "novelty": 1}.get(cfg.guide, 2 * cfg.pairs), cfg.guide in SIGNS
    earlier = theta.new_zeros(seeds, 1 if last else cfg.earlier, each, size) if each else None
    scores = begun(generators, size, cfg.features, cfg.length, device) if last else None
    damping = None
    if cfg.metric == "kernel":
        damping = Damping(*(theta.new_full((seeds,), value) for value in (cfg.damping, NONE, 0.0, 0.0)))
    n = memory(cfg, Schedule()).n
    population = theta[:, None].repeat(1, n, 1)
    if cfg.rank:
        population = theta.new_zeros(seeds, n, lowrank(cfg, nets).size)
    policy = Adam(torch.stack(centres, 1) if several else theta, cfg.lr, each=several)
    who = torch.zeros(seeds, dtype=torch.int64, device=device) if several else None
    return State(nets, policy, population, earlier=earlier, scores=scores, damping=damping, who=who)


def share(state: State, shards: Shards) -> State:
    """Returns the state of a rank: the same tensors. Each rank draws every perturbation and takes every step, and plays its own rows."""
    return replace(state, shards=shards)


def explore(cfg: Config, state: State, draw: Streams) -> None:
    """Draws eps ~ N(0, I), (S, N, P), or its factors, before an iteration: theta + sigma eps and theta - sigma eps play it, and for novelty
    all centres as they are."""
    around, alone = state.population.tensor_split([2 * cfg.pairs], 1)
    if cfg.rank:
        factors = draw.normal(cfg.pairs, state.population.shape[-1])
        around.copy_(torch.cat([factors, lowrank(cfg, state.nets).negative(factors)], 1))
        return
    theta = centre(state)
    step = cfg.noise_std * draw.normal(cfg.pairs, theta.shape[-1])
    for side, into in zip((torch.add, torch.sub), around.chunk(2, 1), strict=True):
        side(theta[:, None], step, out=into)
    if cfg.guide == "novelty":
        alone.copy_(state.policy.theta.view(alone.shape))


def act_noise(cfg: Config, action: int, n: int, draw: Streams) -> None:
    """Policies act without noise: their weights have it."""


def act(cfg: Config, state: State, obs: Tensor, noise: None) -> Tensor:
    """Returns actions (S, n, A), state i's by policy i of this rank's population, which begins again behind the last."""
    who, n = state.shards.mine(state.population), obs.shape[1]
    if n != who.shape[1]:
        who = who[:, torch.arange(n, device=who.device) % who.shape[1]]
    if cfg.rank:
        return torch.tanh(lowrank(cfg, state.nets)(state.policy.theta, cfg.noise_std, who, obs))
    return state.nets.policy.mode(who, obs[:, :, None])[:, :, 0]


def lowrank(cfg: Config, nets: Nets) -> LowRank:
    """Returns what makes policies of the factors that are the population."""
    return LowRank(nets.policy.net, cfg.rank)  # type: ignore[arg-type]  # it raises for another network


def greedy(cfg: Config, state: State, obs: Tensor) -> Tensor:
    """Returns the centre's actions, (S, n, A); of several centres each acts on its share of the observations."""
    if state.who is None:
        return state.nets.policy.mode(state.policy.theta, obs)
    return state.nets.policy.mode(state.policy.theta, torch.unflatten(obs, 1, (cfg.centres, -1))).flatten(1, 2)


def centre(state: State) -> Tensor:
    """Returns the centre that the population is about, (S, P)."""
    theta = state.policy.theta
    return of_centre(state, theta.view(len(theta), -1, theta.shape[-1]))


def of_centre(state: State, x: Tensor) -> Tensor:
    """Returns that of the centre that the population is about, (S, k), of what there is of each, x (S, M, k)."""
    return x[:, 0] if state.who is None else x.gather(1, state.who[:, None, None].expand(-1, 1, x.shape[-1]))[:, 0]


def updates(state: State) -> Tensor:
    """Returns how many updates there were, of all centres together: a number, or of several centres (S, 1, 1), alike for all seeds."""
    return state.policy.steps if state.who is None else state.policy.steps.sum(1, keepdim=True)


def noise(cfg: Config, action: int, draw: Streams) -> Noise:
    """Draws the noise of one update."""
    functions, pairs = cfg.basis if cfg.metric == "kernel" else 0, cfg.taught if cfg.guide in SIGNS else 0
    several = 1 if cfg.centres > 1 else 0
    return Noise(draw.uniform(functions), draw.uniform(functions), draw.uniform(2, pairs), draw.uniform(several))


def update(cfg: Config, state: State, batch: Iteration, noise: Noise) -> Info:
    """Takes one step up the return of one iteration."""
    theta, n = centre(state).clone(), 2 * cfg.pairs
    around, (returns, embedding) = state.population[:, :n], (t[:, :n] for t in batch)
    up, down = around.chunk(2, 1)
    eps, now = up if cfg.rank else (up - down) / (2.0 * cfg.noise_std), returns.mean(-1)

    # Fitness (1 - beta) R + beta W, each shaped
    shape, told, latest = SHAPES[cfg.shaping], {}, embedding
    fitness = shape(returns)
    if state.earlier is not None:
        if cfg.guide == "novelty":
            alone = batch.embedding[:, n:]
            sought, of_centres = novelty(cfg, batch.embedding, alone, state.earlier, updates(state)).tensor_split([n], 1)
            told["population/novelty"], latest = sought.mean(-1), of_centre(state, alone)[:, None]
        elif state.scores is not None:
            sought = score(cfg, state.scores, embedding, state.earlier, state.policy.steps, noise)
        else:
            sought, told["flow/w2"] = distance(cfg, embedding, state.earlier, state.policy.steps)
        fitness = (1.0 - cfg.guide_weight) * fitness + cfg.guide_weight * shape(sought)
        remember_(state.earlier, latest)

    # Gradient of E F(theta + sigma eps), Eq. 13; direction g - delta P g, Eq. 15
    gradient = slope(fitness, eps, cfg.noise_std, lowrank(cfg, state.nets) if cfg.rank else None)
    direction = gradient
    if state.damping is not None:
        ratio = 2.0 * (now - state.damping.before) / state.damping.promised
        rises = state.damping.promised > 0.0
        adapt_(state.damping.eps, state.damping.best, torch.where(rises, ratio, NONE), state.policy.steps)
        rows = metric(cfg, theta, around, embedding, noise)
        direction = gradient - cfg.delta * rows.project(gradient, state.damping.eps)
    if cfg.clip_norm:
        direction = direction * (cfg.clip_norm / (direction.norm(dim=-1, keepdim=True) + 1e-12)).clamp_max(1.0)

    # Update the centre: up the direction
    ascend_(cfg, state, direction)
    moved = centre(state) - theta
    if state.damping is not None:
        state.damping.before.copy_(now)
        state.damping.promised.copy_((slope(returns, eps, cfg.noise_std) * moved).sum(-1))
        told["policy/damping"] = state.damping.eps.clone()
    if state.who is not None:
        state.who.copy_(likely(of_centres, noise.who))
    return lambda: {
        "population/return": now,
        "population/return_std": returns.std(-1, correction=0),
        "population/return_best": returns.amax(-1),
        "policy/gradient": gradient.norm(dim=-1),
        "policy/moved": moved.norm(dim=-1),
        "policy/cosine": torch.cosine_similarity(direction, gradient, -1),
        **told,
    }


def ascend_(cfg: Config, state: State, direction: Tensor) -> None:
    """Takes a step of the centre that the population is about up the direction, (S, P)."""
    policy, only = state.policy, None
    if state.who is not None:
        direction, only = direction[:, None], (torch.arange(cfg.centres, device=direction.device) == state.who[:, None])[..., None]
    if cfg.optimiser == "adam":
        policy.step(-direction, only)
    else:
        policy.theta.add_(direction if only is None else only * direction, alpha=cfg.lr)
        policy.steps += 1 if only is None else only


def slope(fitness: Tensor, eps: Tensor, noise_std: float, low: LowRank | None = None) -> Tensor:
    """g = (1 / (2 N sigma)) sum_i (F_i+ - F_i-) eps_i, (S, P), of fitness (S, 2 N), that of theta + sigma eps first, and eps (S, N, P),
    or with ``low`` its factors (S, N, F).

    An unbiased estimate of grad_theta E F(theta + sigma eps). **Sign** to add: it ascends. **Source** Moskovitz et al. 2020, Eq. 13, with
    antithetic pairs as in Salimans et al. 2017. **Limits** exact in the mean for a quadratic F, at any sigma; for a linear one too.
    """
    up, down = fitness.chunk(2, -1)
    if low:
        return low.mean((up - down) / (2.0 * noise_std), eps)
    return ((up - down)[..., None, :] @ eps)[..., 0, :] / (2.0 * eps.shape[-2] * noise_std)


def ranks(x: Tensor) -> Tensor:
    """(number below x_i + half the number of others like it) / (n - 1) - 1/2, (S, n): from -1/2 to 1/2, of mean 0.

    **Source** Salimans et al. 2017, Sec. 2. Departs: there equals are ranked by their places, so that a task without reward has a gradient.
    """
    ordered, x = x.sort(-1).values, x.contiguous()
    below, upto = (torch.searchsorted(ordered, x, side=side) for side in ("left", "right"))
    return (below + upto - 1).to(x.dtype) / (2.0 * (x.shape[-1] - 1)) - 0.5


SHAPES: dict[str, Callable[[Tensor], Tensor]] = {"standardised": standardised, "ranks": ranks}


def novelty(cfg: Config, embedding: Tensor, centres: Tensor, earlier: Tensor, count: Tensor) -> Tensor:
    """Returns the mean distance of embeddings (S, n, d) to the k nearest of the archive, (S, n).

    The archive is what every centre did: as they are, (S, M, d), and the latest ``count`` as they were before an update, (S, K, 1, d).
    **Source** Conti et al. 2018, Sec. 3.1.
    """
    there = torch.arange(earlier.shape[1], device=earlier.device) < count
    now, then = (squared_distances(embedding, x).sqrt() for x in (centres, earlier[:, :, 0]))
    apart = torch.cat([now, torch.where(there, then, torch.inf)], -1)
    nearest = apart.topk(min(cfg.neighbours, apart.shape[-1]), -1, largest=False).values
    found = ~nearest.isposinf()
    return torch.where(found, nearest, 0.0).sum(-1) / found.sum(-1)


def likely(weight: Tensor, uniform: Tensor) -> Tensor:
    """Draws one of M in proportion to a weight >= 0, (S, M), each as likely where all are 0, by numbers uniform on (0, 1), (S, 1); (S,).

    **Source** Conti et al. 2018, Eq. 1.
    """
    upto = weight.clamp_min(LEAST).cumsum(-1)
    return (uniform * upto[:, -1:] >= upto[:, :-1]).sum(-1)


def distance(cfg: Config, embedding: Tensor, earlier: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the potentials f_i of the plan from embeddings (S, n, d) to those of each of the latest ``count`` populations (S, K, n, d).

    Their mean over populations (S, n), and that of W2^2, entropic, (S,): f_i = dW2^2/da_i for the weight a_i of member i, which is what it
    adds to the distance, up to a constant. 0 where nothing is remembered yet. **Sign** large far from what earlier policies did.
    **Source** Pacchiano et al. 2020, Sec. 5.2 and Algorithm 3, where f is a test function of random features.
    """
    there = torch.arange(earlier.shape[1], device=earlier.device) < count
    x = embedding[:, None].expand_as(earlier)
    eps = (cfg.smoothing * squared_distances(x, earlier).mean((-2, -1))).clamp_min(LEAST)
    plan = sinkhorn(x, earlier, eps)
    f, value = (torch.where(there[:, None], t, 0.0).sum(1) / there.sum().clamp_min(1) for t in (plan.f, plan.value[..., None]))
    return f, value[:, 0]


def score(cfg: Config, scores: Scores, embedding: Tensor, earlier: Tensor, count: Tensor, noise: Noise) -> Tensor:
    """Teaches f and g with pairs of the last population (S, 1, n, d) and of this (S, n, d); returns +g of dual, -g of published, (S, n).

    0 where nothing is remembered yet. Of ``dual`` g is the potential of this population, which ``distance`` has by Sinkhorn, as far as
    so few steps come. **Sign** of ``published``: large where this population and those before it, which g remembers, rarely were, within
    ``length``; beyond, all places are alike. **Source** Pacchiano et al. 2020, Algorithm 3, and the published code.

    Departs: there the score is the mean of f(c) - g(x) + exp(f(c) - g(x) - |c - x|^2) over what the last two or five centres c did; f(c)
    is the same for all x, and the exponential is 0 but near c. Pinned by
    tests/agents/test_es.py::test_the_published_guide_is_minus_g_of_functions_that_pairs_of_two_populations_taught.
    """
    there = (count > 0).to(embedding)
    was, now = (picked(u, embedding.shape[1])[..., None].expand(-1, -1, embedding.shape[-1]) for u in noise.pairs.unbind(1))
    teach_(scores, earlier[:, 0].gather(1, was), embedding.gather(1, now), SIGNS[cfg.guide], there)
    return SIGNS[cfg.guide] * scores.g(embedding)


def remember_(earlier: Tensor, latest: Tensor) -> None:
    """Puts the latest embeddings, (S, n, d), in front of what is remembered."""
    earlier.copy_(torch.cat([latest[:, None], earlier[:, :-1]], 1))


def metric(cfg: Config, theta: Tensor, population: Tensor, embedding: Tensor, noise: Noise) -> kwng.Metric:
    """Returns the kernel Wasserstein metric of the embeddings (S, n, d) of theta + sigma eps (S, n, P), at theta (S, P).

    J_m = (1/n) sum_i h_m(Phi_i) grad log N(theta_i; theta, sigma^2), grad log N = eps_i / sigma. **Source** Moskovitz et al. 2020, Eq. 14.
    """
    points = picked(noise.points, embedding.shape[1])[..., None].expand(-1, -1, embedding.shape[-1])
    functions = kwng.spanned(embedding, embedding.gather(1, points), picked(noise.axes, embedding.shape[-1]))

    def log_prob(centre: Tensor) -> Tensor:
        return (population - centre[:, None]).square().sum(-1) / (-2.0 * cfg.noise_std**2)

    return kwng.by_score(log_prob, theta, embedding, functions)


def picked(uniform: Tensor, n: int) -> Tensor:
    """Returns whole numbers from 0 to n - 1, each as likely, of numbers that are uniform on (0, 1)."""
    return (uniform * n).long().clamp_max(n - 1)
