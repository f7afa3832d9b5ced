"""Draws Figure 3 of Moskovitz et al. 2020: how ill-conditioned the policy's loss is at the end of training, beside what WNPG gains.

    python -m wgf.runs.studies figure3    # on the runs of the study figure2, where these are there
    python -m wgf.runs.studies figure3 --tasks Hopper Reacher --steps 20480 --lrs 3e-4 --spectra 1 --name short

The paper has, for each task, the ratio of the Hessian's largest eigenvalue to each that follows, and says that WNPG gains most where
these ratios are largest. It leaves the rest open. Here:

- the policy is that of the agent without a metric, which has to descend as it is what a metric would improve;
- the loss is what that agent descends in the policy, L = -E[r A], r = pi(a | s) / pi_old(a | s), at pi_old = pi, without the critic's;
- the expectation is over a segment that the trained policy collects from new starts and with new noise, of the length of those that it
  learned from; the advantages are its critic's, standardised, and do not depend on the policy that is differentiated;
- eigenvalues are ordered by their size, whatever their sign: no policy is at a minimum of L;
- a gain is the difference of final returns in units of their deviation between seeds, since each task has returns of its own unit.

Each method has its own best step size, as in figure2. A finished run is not trained again, and the eigenvalues of its policy are kept
beside it, so that several processes may share the work, each with its own --tasks.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy.linalg import eigvalsh
from scipy.stats import kendalltau
from torch import Tensor
from torch.func import vmap
from torch.nn.functional import one_hot

from wgf import natural
from wgf.agents import Agent
from wgf.agents.training.checkpoint import read_json, read_sealed, write_sealed
from wgf.agents.training.epochs import samples
from wgf.agents.training.normal import Normalized
from wgf.agents.training.onpolicy import standardised
from wgf.agents.training.protocol import Streams
from wgf.agents.training.rollout import Segment
from wgf.conjugate import Product
from wgf.policies.diagonal import DiagonalPolicy
from wgf.runs.command.options import Place, check_range
from wgf.runs.studies.figure2 import TASKS, train
from wgf.runs.studies.figure2 import Options as Trainings
from wgf.runs.trainer import tables
from wgf.runs.trainer.figures import figure
from wgf.runs.trainer.statistics import Values, difference
from wgf.runs.trainer.training import words

__all__ = ["Options", "correlations", "dense", "draw", "effect", "experience", "main", "objective", "ratios", "rows", "spectra", "spectrum"]

PLAIN, METRIC = "none", "wnpg"  # of figure2
PLACES = (10, 100, 1000)  # of eigenvalues that the table tells, the largest being the first
FRESH = 1_000_000  # added to a seed for a segment of its policy: no training has such a seed
KEPT = "spectrum.json"  # beside a policy
BLOCK = 16  # columns of a Hessian at once: of more, what lies between leaves the cache


@dataclass(frozen=True)
class Options:
    """Compare the spectrum of the Hessian at the end of training with what WNPG gains, as in Figure 3 of Moskovitz et al. 2020."""

    tasks: tuple[str, ...] = tuple(TASKS)
    """Which tasks of Gymnasium, without their version, v5."""
    lrs: tuple[float, ...] = (1e-5, 5e-5, 1e-4, 3e-4)
    """Step sizes that each method chooses from; of one there is no choice, and nothing is trained for it."""
    choosing: int = 2
    """Seeds on which each chooses, by the mean return over the training; they follow those that are reported."""
    steps: int = 1_000_000
    """Environment steps per seed."""
    seeds: int = 5
    """Seeds per method that are reported, trained as one stack."""
    first_seed: int = 0
    """The first seed; the others follow it."""
    spectra: int = 5
    """Of how many of these seeds the Hessian is computed, the first ones: each takes minutes."""
    place: Place = field(default_factory=lambda: Place(name="figure2", threads=1))

    def __post_init__(self) -> None:
        check_range(self, seeds=(2, None), spectra=(1, self.seeds))
        self.recipe()

    def recipe(self) -> Trainings:
        """Returns the trainings: those of figure2, of two of its methods."""
        same = {name: value for name, value in vars(self).items() if name != "spectra"}
        return Trainings(methods=(PLAIN, METRIC), **same)


# --- the Hessian ------------------------------------------------------------------------------------------------------


def objective(policy: DiagonalPolicy, theta: Tensor, obs: Tensor, action: Tensor, gain: Tensor) -> Callable[[Tensor], Tensor]:
    """L(phi) = -mean_b r_b A_b, r = pi_phi(a | s) / pi_theta(a | s): phi (S, M, P) -> (S, M).

    obs (S, M, B, D), action (S, M, B, A), advantages ``gain`` (S, M, B). **Sign** to descend. **Source** Moskovitz et al. 2020, Sec. 5:
    PPO's loss without its clip.
    """
    before = policy.log_prob(theta, obs, action)
    return lambda phi: -((policy.log_prob(phi, obs, action) - before).exp() * gain).mean(-1)


def dense(product: Product, theta: Tensor) -> Tensor:
    """Returns the matrix (P, P) of v -> H v, v shaped as theta, of P numbers: BLOCK columns at once, for the sake of memory."""
    size = theta.numel()
    found = theta.new_empty(size, size)
    for part in torch.split(torch.arange(size), BLOCK):
        found[:, part] = vmap(product)(one_hot(part, size).to(theta).view(-1, *theta.shape)).flatten(1).T
    return found


def spectrum(loss: Callable[[Tensor], Tensor], theta: Tensor) -> Values:
    """Returns all eigenvalues of the Hessian of ``loss`` at theta, of P numbers, the largest in size first, (P,).

    **Limits** exact but for rounding, some 1e-16 of the largest in float64: what is smaller is noise. It takes 8 P^2 bytes twice.
    """
    found = eigvalsh(dense(natural.hessian(loss, theta), theta).numpy().T, overwrite_a=True)
    return np.asarray(found[np.argsort(-np.abs(found), kind="stable")], dtype=np.float64)


def experience(agent: Agent) -> Segment:
    """Returns a segment that the agent's policies collect from new starts and with new noise, as the agent learns from one."""
    module, fresh = agent.module, [FRESH + seed for seed in agent.seeds]
    assert isinstance(module, Normalized)  # as every method of figure2 is
    memory = module.inner.memory(agent.cfg, agent.schedule)
    draw = Streams([torch.Generator().manual_seed(seed) for seed in fresh])

    def act(obs: Tensor) -> Tensor:
        noise = module.act_noise(agent.cfg, agent.action_size, obs.shape[1], draw)
        return module.act(agent.cfg, agent.state, obs, noise)

    with closing(agent.source.make(len(fresh), memory.envs, starts=memory.starts)) as envs, torch.no_grad():
        memory.begin(envs, fresh, agent.device)
        memory.collect(act)
    found: Segment = module.given(agent.state, next(iter(memory.batches())))
    return found


def spectra(folder: Path, seeds: Sequence[int]) -> Values:
    """Returns the eigenvalues of the saved policies of some seeds in a folder, (S, P), each on its own experience.

    They are kept beside each policy, and computed again where that is another one. **Raises** ValueError, in one line, where what was kept
    is damaged.
    """
    return np.stack([_kept(folder, seed) for seed in seeds])


def _kept(folder: Path, seed: int) -> Values:
    path, policy = folder / f"seed-{seed}" / KEPT, read_json(folder / f"seed-{seed}" / "policy.json").get("sha256")
    if path.exists() and (found := read_sealed(path, lambda found: found.keys() == {"policy", "eigenvalues"}))["policy"] == policy:
        return np.array(found["eigenvalues"])
    eigenvalues = _of_policy(folder, seed)
    write_sealed(path, {"policy": policy, "eigenvalues": eigenvalues.tolist()})
    return eigenvalues


def _of_policy(folder: Path, seed: int) -> Values:
    agent = Agent.load(folder, seeds=(seed,), device="cpu")
    state = agent.state.inner
    policy, v = state.nets
    with torch.no_grad():
        obs, action, advantage, _ = samples(agent.cfg, lambda obs: v(state.v.theta, obs), experience(agent))
    theta, *given = (t.double() for t in (state.policy.theta, obs, action, standardised(advantage)))
    return spectrum(objective(policy, theta, *given), theta)


# --- what a person sees -----------------------------------------------------------------------------------------------


def ratios(eigenvalues: Values, place: int) -> Values:
    """Returns |l_1| / |l_place| of eigenvalues (S, P) by size, (S,); of fewer than ``place``, that of the last."""
    size = np.abs(eigenvalues)
    with np.errstate(divide="ignore"):
        return np.asarray(size[:, 0] / size[:, min(place, size.shape[1]) - 1])


def effect(x: Values, y: Values) -> float:
    """Returns (mean x - mean y) / sqrt((var x + var y) / 2), of at least two runs each; 0 / 0 is nan. **Source** Cohen 1988, d."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float((x.mean() - y.mean()) / np.sqrt((x.var(ddof=1) + y.var(ddof=1)) / 2.0))


def rows(found: Mapping[str, Values], finals: Mapping[str, tuple[Values, Values]]) -> list[tables.Row]:
    """Returns a line per task: ratios of its eigenvalues, and the gain, from the final returns with and without the metric."""
    lines: list[tables.Row] = []
    for task, eigenvalues in found.items():
        with_, without = finals[task]
        told = {"task": task, "parameters": f"{eigenvalues.shape[1]:,}", "negative": f"{(eigenvalues < 0.0).mean():.0%}"}
        for place in PLACES:
            each = ratios(eigenvalues, place)
            told[f"l1 / l{place}, median [least, largest]"] = f"{np.median(each):.3g} [{each.min():.3g}, {each.max():.3g}]"
        told |= {"None": f"{without.mean():,.4g}", "WNPG": f"{with_.mean():,.4g}", "gain [95 %]": str(difference(with_, without).interval)}
        lines.append({**told, "gain / deviation": f"{effect(with_, without):.3g}"})
    return lines


def correlations(found: Mapping[str, Values], gains: Sequence[float]) -> str:
    """Tells how the tasks' order by each ratio, median over seeds, goes with that by gain: Kendall's tau, and its exact p (two-sided)."""
    if len(gains) < 3:
        return "A rank correlation takes at least three tasks."
    told = []
    for place in PLACES:
        tau = kendalltau([np.median(ratios(each, place)) for each in found.values()], gains)
        told.append(f"l1 / l{place} tau = {tau.statistic:.2f}, p = {tau.pvalue:.2g}")
    return f"Rank correlation over {len(gains)} tasks of gain / deviation with " + "; ".join(told) + "."


def draw(found: Mapping[str, Values], gains: Sequence[float], path: Path) -> None:
    """Draws the ratios of each task, median over seeds, and their value at one place beside the gain."""
    middle, place = PLACES[1], "place of the eigenvalue, by size"
    with figure(path, columns=2) as axes:
        left, right = axes[0]
        for (task, eigenvalues), gain in zip(found.items(), gains, strict=True):
            size = np.abs(eigenvalues)
            with np.errstate(divide="ignore"):
                line = np.median(size[:, :1] / size, 0)
            left.plot(np.arange(1, len(line) + 1), line, label=f"{task}-v5")
            right.plot(np.median(ratios(eigenvalues, middle)), gain, linestyle="none")
        left.set(xscale="log", yscale="log", xlabel=place, ylabel="largest eigenvalue / this one")
        right.set(xscale="log", xlabel=f"largest eigenvalue / number {middle}", ylabel="gain of WNPG / deviation")


def main(options: Options, say: Callable[[str], None]) -> int:
    """Trains what is missing, then writes the table, every eigenvalue and the figure; returns an exit code."""
    code, learnt = train(options.recipe(), say)
    if learnt is None:
        return code
    found: dict[str, Values] = {}
    for task in options.tasks:
        folder, seeds = (job := learnt.plans[task, PLAIN].job).folder(0).parent, job.seeds[: options.spectra]
        say(f"{folder}: the Hessians of {words(seeds)}")
        found[task] = spectra(folder, seeds)
    last = {key: c.evals[:, -1] for key, c in learnt.curves.items()}
    finals = {task: (last[task, METRIC], last[task, PLAIN]) for task in options.tasks}
    gains = [effect(*finals[task]) for task in options.tasks]
    folder = tables.writable(Path(options.place.out) / options.place.name)
    say(tables.write(folder / "figure3", rows(found, finals), correlations(found, gains)))
    head = ["task", "place", *(f"seed {seed}" for seed in seeds)]
    lines = ((task, i + 1, *(f"{x:.4g}" for x in each)) for task, values in found.items() for i, each in enumerate(values.T))
    tables.write_rows(folder / "spectra.csv", head, lines)
    draw(found, gains, folder / "figure3.png")
    say(f"table: {folder / 'figure3.md'} .csv .txt\neigenvalues: {folder / 'spectra.csv'}\nfigure: {folder / 'figure3.png'} .pdf")
    return 0
