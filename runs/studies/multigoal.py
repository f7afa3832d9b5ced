"""Figure 3 of Zhang et al. 2018: DP-WGF and DP-WGF-V on the multi-goal task.

wgf multigoal trains both and draws, for each, trajectories with the four goals and the level curves of Q over actions at
three states with the policy's draws. Task and settings: the public soft Q-learning code of Haarnoja et al. 2017.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from wgf.agents import registry
from wgf.agents.training import checkpoint
from wgf.agents.training.envs import Array, Step
from wgf.agents.training.log import RunLog
from wgf.agents.training.loop import Task, begin, train
from wgf.agents.training.protocol import Agent, Streams
from wgf.agents.training.record import Record
from wgf.agents.training.schedule import Schedule
from wgf.runs.command.progress import Progress
from wgf.runs.trainer import machine
from wgf.runs.trainer.training import exit_code, stop_signals

GOALS = np.array([[5.0, 0.0], [-5.0, 0.0], [0.0, 5.0], [0.0, -5.0]])
STATES = ((-2.5, 0.0), (0.0, 0.0), (2.5, 2.5))
HORIZON = 30
# DP-WGF-V values a state by its own policy's draws, so a goal that the policy leaves is valued less and less. The public SAC code of 2017
# has the same trouble and keeps its goals by a slow target, tau = 1e-4; DP-WGF values states by uniform actions and needs no such care.
TAU = {"dp-wgf": 0.01, "dp-wgf-v": 1e-3}


class MultiGoal:
    """n points on [-7, 7]^2 that start at N(0, 0.1^2 I) and move by their action; four goals at distance 5.

    r = -30 |a|^2 - min_g |s' - g|^2, and +10 and the end within distance 1 of a goal; a time limit of 30 steps.
    """

    obs_size = action_size = 2

    def __init__(self, n: int) -> None:
        self.at, self.age = np.zeros((n, 2)), np.zeros(n, dtype=np.int64)

    def reset(self, seeds: Sequence[int]) -> Array:
        """Starts (n, 2); point i draws from a generator of its own."""
        self.random = [np.random.default_rng(seed) for seed in seeds]
        self._restart(np.ones(len(seeds), dtype=bool))
        return self.at.astype(np.float32)

    def step(self, action: Array) -> Step:
        """Moves every point by its action (n, 2) in (-1, 1)."""
        self.at = np.clip(self.at + action, -7.0, 7.0)
        self.age += 1
        distance = np.square(self.at[:, None] - GOALS).sum(-1).min(-1)
        reached = distance < 1.0
        reward = -30.0 * np.square(action).sum(-1) - distance + 10.0 * reached
        late = ~reached & (self.age >= HORIZON)
        next_obs = self.at.astype(np.float32)
        self._restart(reached | late)
        return Step(self.at.astype(np.float32), next_obs, reward.astype(np.float32), reached, late, np.ones_like(reached))

    def close(self) -> None:
        """Nothing to free."""

    def _restart(self, ended: np.ndarray) -> None:
        for i in np.flatnonzero(ended):
            self.at[i] = 0.1 * self.random[i].normal(size=2)
        self.age[ended] = 0


@dataclass(frozen=True)
class Options:
    """DP-WGF and DP-WGF-V on the multi-goal task, drawn as in Figure 3 of Zhang et al. 2018."""

    agents: tuple[Literal["dp-wgf", "dp-wgf-v"], ...] = ("dp-wgf", "dp-wgf-v")
    """Which to train."""
    seeds: int = 5
    """Seeds, trained as one stack; the first is drawn."""
    steps: int = 10_000
    """Environment steps a seed."""
    episodes: int = 20
    """Episodes a seed in which goals are counted; the policy explores."""
    out: Path = Path("runs/multigoal")
    """Folder for the runs, the figures and the table; it must not exist yet."""

    def __post_init__(self) -> None:
        for name in ("seeds", "steps", "episodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


class Policy(NamedTuple):
    """A trained stack of seeds."""

    name: str
    agent: Agent
    cfg: Any
    state: Any
    seeds: range

    def draws(self, obs: Array, n: int) -> Array:
        """n actions of every seed at each state: (B, 2) -> (S, B, n, 2)."""
        stream = Streams([torch.Generator().manual_seed(1_000 + k) for k in self.seeds])
        states = torch.from_numpy(np.repeat(obs, n, 0)).expand(len(self.seeds), -1, -1)
        action = self.agent.act(self.cfg, self.state, states, self.agent.act_noise(self.cfg, 2, states.shape[1], stream))
        drawn: Array = action.detach().numpy().reshape(len(self.seeds), len(obs), n, 2)
        return drawn


def learn(name: str, options: Options) -> Policy:
    """Trains every seed of an agent on the task: its paper preset, ReLU networks, reward scale 0.1, common-noise trust region."""
    agent, preset = registry.find(name, "paper")
    cfg = replace(preset, activation="relu", reward_scale=0.1, w2="common_noise", squash="exact", tau=TAU[name])
    schedule = Schedule(steps=options.steps, warmup=2_000, eval_every=options.steps, eval_episodes=1)
    seeds, cpu = range(options.seeds), torch.device("cpu")
    about = {"agent": name, "env": "MultiGoal", "config": asdict(cfg), "steps": options.steps}
    logs = [RunLog(options.out / name / f"seed-{k}", about) for k in seeds]
    task = Task(agent, cfg, schedule, seeds, MultiGoal(len(seeds)), MultiGoal(len(seeds)), cpu)
    with machine.tuned(), stop_signals() as stopping, Progress(name, options.steps) as progress:
        endings = train(task, begin(task), Record(logs, seeds, about), tell=progress.tell, stopping=stopping)
    if code := exit_code(endings):
        raise SystemExit(code)
    state = agent.init(cfg, 2, 2, [torch.Generator() for _ in seeds], cpu)
    checkpoint.restore_(state, [checkpoint.load(log.folder)[1] for log in logs])
    return Policy(name, agent, cfg, state, seeds)


def wander(policy: Policy, episodes: int) -> tuple[list[list[Array]], np.ndarray]:
    """Trajectories of the exploring policy, [seed][episode] (T, 2), and how often each goal was reached, (S, 4)."""
    n = len(policy.seeds)
    task = MultiGoal(n * episodes)
    obs = task.reset([10_000 + 1_000 * k + i for k in policy.seeds for i in range(episodes)])
    stream = Streams([torch.Generator().manual_seed(2_000 + k) for k in policy.seeds])
    paths, running, goals = [[o] for o in obs], np.ones(len(obs), dtype=bool), np.zeros((n, 4), dtype=int)
    while running.any():
        states = torch.from_numpy(obs.reshape(n, episodes, 2))
        action = policy.agent.act(policy.cfg, policy.state, states, policy.agent.act_noise(policy.cfg, 2, episodes, stream))
        step = task.step(action.detach().flatten(0, 1).numpy())
        for i in np.flatnonzero(running):
            paths[i].append(step.next_obs[i])
            if step.terminated[i]:
                goals[i // episodes, np.square(step.next_obs[i] - GOALS).sum(-1).argmin()] += 1
        running &= ~(step.terminated | step.truncated)
        obs = step.obs
    return [[np.stack(p) for p in paths[s * episodes : (s + 1) * episodes]] for s in range(n)], goals


def draw(policy: Policy, paths: list[Array], path: Path) -> None:
    """Figure 3: trajectories over the level curves of the distance to the goals; at three states Q over actions with the policy's draws."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 4, figsize=(16, 4.2), layout="constrained")
    x = np.linspace(-7.0, 7.0, 141)
    grid = np.stack(np.meshgrid(x, x), -1)
    distance = np.square(grid[:, :, None] - GOALS).sum(-1).min(-1)
    axes[0].contour(x, x, distance, 20, cmap="gray", linewidths=0.4)
    for p in paths:
        axes[0].plot(*p.T, linewidth=1)
    axes[0].plot(*GOALS.T, "ro", markersize=9)
    axes[0].set(title=f"{policy.name}: {len(paths)} trajectories, seed 0", xlim=(-7, 7), ylim=(-7, 7), aspect="equal")
    a = np.linspace(-0.99, 0.99, 81, dtype=np.float32)
    actions = torch.from_numpy(np.stack(np.meshgrid(a, a), -1).reshape(1, 1, -1, 2)).expand(len(policy.seeds), -1, -1, -1)
    samples = policy.draws(np.array(STATES, dtype=np.float32), 60)
    for place, ax, drawn in zip(STATES, axes[1:], samples[0], strict=True):
        obs = torch.tensor(place).expand(len(policy.seeds), 1, 2)
        q = policy.state.q.least(obs, actions).detach()[0, 0].reshape(81, 81).numpy()
        ax.contour(a, a, q, 20, cmap="autumn")
        ax.plot(*drawn.T, "b*", markersize=5)
        ax.set(title=f"Q and draws at {place}", xlim=(-1, 1), ylim=(-1, 1), aspect="equal", xlabel="action")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def multigoal(options: Options, say: Callable[[str], None]) -> None:
    """Trains, counts, draws and says. Raises ValueError for a folder that is there, SystemExit with wgf's code for an unfinished run."""
    if options.out.exists():
        raise ValueError(f"out {str(options.out)!r} exists already; give another --out, or move it away")
    lines = ["| agent | seed | goals reached (right, left, top, bottom) | of 4 |", "| --- | --- | --- | --- |"]
    for name in options.agents:
        policy = learn(name, options)
        paths, goals = wander(policy, options.episodes)
        draw(policy, paths[0], options.out / f"{name}.png")
        lines += [f"| {name} | {k} | {' '.join(map(str, g))} | {(g > 0).sum()} |" for k, g in zip(policy.seeds, goals, strict=True)]
    table = "\n".join(lines) + "\n"
    (options.out / "goals.md").write_text(table)
    say(table + f"figures: {', '.join(str(options.out / f'{name}.png') for name in options.agents)}")
