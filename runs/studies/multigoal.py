"""Figure 3 of Zhang et al. 2018: DP-WGF and DP-WGF-V on the task with four goals, wgf/MultiGoal-v0.

    wgf multigoal

Trains both and draws, for each, trajectories with the four goals, and the level curves of Q over actions at three states with the
policy's draws. Settings as in the public soft Q-learning code of Haarnoja et al. 2017. Departs: DP-WGF's target keeps the entropy that
Sec. 4.2 of the paper takes off, A log 2 per step; ``--backup normalizer`` is the paper's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wgf.agents import registry
from wgf.agents.tasks.fleet import Fleet
from wgf.agents.tasks.multigoal import GOALS, MultiGoal, distances
from wgf.agents.training import checkpoint
from wgf.agents.training.envs import Array
from wgf.agents.training.protocol import AnyAgent, Streams
from wgf.agents.training.schedule import Schedule
from wgf.runs.command.options import Place, check_range, check_some
from wgf.runs.command.options import seeds as seeds_of
from wgf.runs.trainer import tables
from wgf.runs.trainer.figures import display, figure
from wgf.runs.trainer.reuse import complete
from wgf.runs.trainer.training import Job, resolve

__all__ = ["Options", "Policy", "draw", "load", "main", "wander"]

ENV, CPU = "wgf/MultiGoal-v0", torch.device("cpu")
STATES = ((-2.5, 0.0), (0.0, 0.0), (2.5, 2.5))
# A goal that the policy leaves is valued less and less where states are valued by its own draws, as DP-WGF-V does. The public SAC code of
# 2017 has the same trouble and keeps its goals by a slow target, tau = 1e-4.
TAU = 1e-3


@dataclass(frozen=True)
class Options:
    """Train DP-WGF and DP-WGF-V on the task with four goals, and draw them as in Figure 3 of Zhang et al. 2018."""

    agents: tuple[Literal["dp-wgf", "dp-wgf-v"], ...] = ("dp-wgf", "dp-wgf-v")
    """Which of the two to train."""
    seeds: int = 5
    """Number of seeds, trained as one stack; the figure shows the first."""
    first_seed: int = 0
    """The first seed; the others follow it."""
    steps: int = 10_000
    """Environment steps per seed."""
    episodes: int = 20
    """Episodes per seed in which the goals are counted; the policy explores in them."""
    backup: Literal["soft", "normalizer", "density"] = "soft"
    """DP-WGF's value of the next state. soft: that of soft Q-learning, whose settings these are. normalizer: the paper's own. density: that
    of the policy's draws, by their density."""
    place: Place = field(default_factory=lambda: Place(name="multigoal", threads=1))

    def __post_init__(self) -> None:
        check_some(self, "agents")
        check_range(self, steps=(1, None), episodes=(1, None))
        seeds_of(self.seeds, self.first_seed)

    def job(self, name: str) -> Job:
        """An agent's training: its paper preset with ReLU networks, reward scale 0.1 and the trust region of common noise."""
        own: dict[str, Any] = {"activation": "relu", "reward_scale": 0.1, "w2": "common_noise", "squash": "exact", "tau": TAU}
        own |= {"backup": self.backup} if name == "dp-wgf" else {}
        schedule = Schedule(steps=self.steps, warmup=2_000, eval_every=self.steps, eval_episodes=1)
        return Job(
            name,
            name,
            "paper",
            replace(resolve(name, "paper", ENV), **own),
            ENV,
            seeds_of(self.seeds, self.first_seed),
            schedule,
            self.place,
        )


class Policy(NamedTuple):
    """A trained stack of seeds."""

    name: str
    agent: AnyAgent
    cfg: Any
    state: Any
    seeds: tuple[int, ...]

    def act(self, obs: Tensor, streams: Streams) -> Tensor:
        """Exploring actions (S, n, 2) at observations (S, n, 2)."""
        action: Tensor = self.agent.act(self.cfg, self.state, obs, self.agent.act_noise(self.cfg, 2, obs.shape[1], streams))
        return action.detach()

    def draws(self, states: Tensor, n: int) -> Tensor:
        """n actions of every seed at each state: (B, 2) -> (S, B, n, 2)."""
        streams = Streams([torch.Generator().manual_seed(1_000 + k) for k in self.seeds])
        each = states.repeat_interleave(n, 0).expand(len(self.seeds), -1, -1)
        return torch.unflatten(self.act(each, streams), 1, (len(states), n))


def load(job: Job) -> Policy:
    """The finished seeds of a job as one stack."""
    agent, _ = registry.find(job.agent, job.preset)
    state = agent.init(job.cfg, 2, 2, [torch.Generator() for _ in job.seeds], CPU)
    checkpoint.restore_(state, [checkpoint.load(job.folder(seed))[1] for seed in job.seeds])
    return Policy(job.agent, agent, job.cfg, state, job.seeds)


def wander(policy: Policy, episodes: int) -> tuple[list[list[Array]], Array]:
    """Trajectories of the exploring policy, [seed][episode] (T, 2), and how often each seed reached each goal, (S, 4)."""
    fleet = Fleet("MultiGoal", episodes, CPU)
    obs = fleet.reset([10_000 + k for k in policy.seeds])
    streams = Streams([torch.Generator().manual_seed(2_000 + k) for k in policy.seeds])
    path, running = [obs], torch.ones(obs.shape[:2], dtype=torch.bool)
    length, goals = running.long(), torch.zeros(len(policy.seeds), len(GOALS), dtype=torch.long)
    while running.any():
        outcome = fleet.step(policy.act(obs, streams))
        path.append(outcome.next_obs)
        length += running
        reached = running & outcome.terminated
        goals += (torch.nn.functional.one_hot(distances(outcome.next_obs).argmin(-1), len(GOALS)) * reached[..., None]).sum(1)
        running &= ~(outcome.terminated | outcome.truncated)
        obs = outcome.obs
    whole = torch.stack(path, 2).numpy()  # (S, episodes, T, 2)
    return [[p[:t] for p, t in zip(ps, ts, strict=True)] for ps, ts in zip(whole, length.tolist(), strict=True)], goals.numpy()


def draw(policy: Policy, paths: list[Array], path: Path) -> None:
    """Figure 3: trajectories over the level curves of the distance to the goals; at three states Q over actions with the policy's draws."""
    note = "Left: rings are the distance to the nearest goal. Others: level curves of Q over actions, and 60 draws of the policy (stars)."
    with figure(path, columns=1 + len(STATES), note=note, panel=(4.0, 4.2)) as axes:
        left, *others = axes[0]
        x = torch.linspace(-MultiGoal.view, MultiGoal.view, 141)
        rings = distances(torch.stack(torch.meshgrid(x, x, indexing="xy"), -1)).amin(-1)
        left.contour(x, x, rings, 20, cmap="gray", linewidths=0.4)
        for p in paths:
            left.plot(*p.T, "-", linewidth=1)
        left.plot(*np.array(GOALS).T, "ro", markersize=9)
        left.set(
            title=f"{display(policy.name)}: {len(paths)} trajectories, seed {policy.seeds[0]}", xlim=(-7, 7), ylim=(-7, 7), aspect="equal"
        )
        a, drawn = torch.linspace(-0.99, 0.99, 81), policy.draws(torch.tensor(STATES), 60)
        actions = torch.stack(torch.meshgrid(a, a, indexing="xy"), -1).reshape(1, 1, -1, 2).expand(len(policy.seeds), -1, -1, -1)
        for k, (place, ax) in enumerate(zip(STATES, others, strict=True)):
            obs = torch.tensor(place).expand(len(policy.seeds), 1, 2)
            ax.contour(a, a, policy.state.nets.q.least(policy.state.q.theta, obs, actions)[0, 0].reshape(81, 81), 20, cmap="autumn")
            ax.plot(*drawn[0, k].T, "b*", markersize=5)
            ax.set(title=f"Q and draws at {place}", xlim=(-1, 1), ylim=(-1, 1), aspect="equal", xlabel="action")


def main(options: Options, say: Callable[[str], None]) -> int:
    """Trains what is missing, counts goals, draws, and says; returns an exit code."""
    jobs = [options.job(name) for name in options.agents]
    if code := complete(jobs, say):
        return code
    folder, rows = Path(options.place.out) / options.place.name, []
    for job in jobs:
        policy = load(job)
        paths, goals = wander(policy, options.episodes)
        draw(policy, paths[0], folder / f"{job.label}.png")
        for k, g in zip(policy.seeds, goals, strict=True):
            counts = " ".join(map(str, g))
            rows.append(
                {"agent": job.label, "seed": str(k), "goals reached (right, left, top, bottom)": counts, "of 4": str((g > 0).sum())}
            )
    say(tables.write(folder / "goals", rows))
    say(f"figures: {', '.join(str(folder / f'{job.label}.png') for job in jobs)} .pdf\ntable: {folder / 'goals.md'} .csv .txt")
    return 0
