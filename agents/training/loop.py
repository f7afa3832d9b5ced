"""The one training loop: act, store, update, evaluate, for S seeds in one stacked computation."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from agents.training import checkpoint
from agents.training.envs import Array, Envs, Step
from agents.training.evaluate import evaluate
from agents.training.log import RunLog
from agents.training.memory import Replay
from agents.training.protocol import Agent, Info, Streams
from wgf import trusted


@dataclass(frozen=True)
class Schedule:
    """How long and how often, in environment steps of one seed."""

    steps: int = 100_000
    """Environment steps a seed."""
    warmup: int = 1_000
    """Steps of uniform actions before the first update."""
    replay: int = 1_000_000
    """Rows of the replay a seed (Table 6 of Zhang et al. 2018: 1e6)."""
    log_every: int = 500
    """Steps between two looks at the losses."""
    eval_every: int = 5_000
    """Steps between two evaluations, at which the policy is saved."""
    eval_episodes: int = 5
    """Episodes an evaluation and seed."""

    def __post_init__(self) -> None:
        for name in ("steps", "replay", "log_every", "eval_every", "eval_episodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.warmup < 0:
            raise ValueError(f"warmup is {self.warmup}; it must be at least 0")

    def rows(self) -> int:
        """Rows of replay that this training can fill: at most two a step, where every step ends an episode."""
        return max(4, min(self.replay, 2 * self.steps + 2))


class Tick(NamedTuple):
    """What a person is told now and then: the step, steps a second of each seed, the last return of each seed (nan before)."""

    step: int
    steps_per_second: float
    returns: Array
    evals: Array


def train(
    agent: Agent,
    cfg: Any,
    schedule: Schedule,
    seeds: Sequence[int],
    envs: Envs,
    eval_envs: Envs,
    logs: Sequence[RunLog],
    device: torch.device,
    *,
    about: dict[str, Any],
    tell: Callable[[Tick], None],
    stopping: Callable[[], bool],
) -> list[str]:
    """Trains S seeds side by side and returns how each ended: "finished", "interrupted" or "failed: ...".

    ``envs`` has S environments, ``eval_envs`` S * eval_episodes. ``about`` goes into every saved policy. ``stopping`` is asked at each
    step; then every seed is saved. A seed whose losses or environment turn non-finite stops alone, its last policy from before it.
    """
    run = _Run(agent, cfg, schedule, seeds, eval_envs, logs, device, about, tell)
    with trusted():
        run.loop(envs, stopping)
    return run.endings


class _Run:
    """The variables of one training."""

    def __init__(
        self,
        agent: Agent,
        cfg: Any,
        schedule: Schedule,
        seeds: Sequence[int],
        eval_envs: Envs,
        logs: Sequence[RunLog],
        device: torch.device,
        about: dict[str, Any],
        tell: Callable[[Tick], None],
    ) -> None:
        self.agent, self.cfg, self.schedule, self.seeds = agent, cfg, schedule, list(seeds)
        self.eval_envs, self.logs, self.device, self.about, self.tell = eval_envs, logs, device, about, tell
        d, a, s = eval_envs.obs_size, eval_envs.action_size, len(seeds)
        self.action_size = a
        self.state = agent.init(cfg, d, a, [torch.Generator().manual_seed(k) for k in seeds], device)
        self.streams = Streams([torch.Generator(device).manual_seed(k) for k in seeds])
        self.replay = Replay(seeds, schedule.rows(), d, a, cfg.gamma, device)
        self.endings = ["running"] * s
        self.info: Info = {}
        self.sums, self.lengths = np.zeros(s), np.zeros(s, dtype=np.int64)
        self.returns, self.evals = np.full(s, np.nan, np.float32), np.full(s, np.nan, np.float32)
        self.started = time.perf_counter()
        self.since = (self.started, 0)

    def loop(self, envs: Envs, stopping: Callable[[], bool]) -> None:
        obs, every = envs.reset(self.seeds), self.schedule
        step = 0
        for step in range(1, every.steps + 1):
            action = self.action(obs, step)
            outcome = envs.step(action.cpu().numpy())
            self.replay.add(obs, action, outcome)
            self.account(step, outcome)
            obs = outcome.obs
            if step >= every.warmup:
                self.info = self.agent.update(
                    self.cfg, self.state, self.replay.sample(self.cfg.batch), self.agent.noise(self.cfg, self.action_size, self.streams)
                )
            if step % every.log_every == 0 or step % every.eval_every == 0 or step == every.steps:
                self.look(step)
            if step % every.eval_every == 0 or step == every.steps:
                self.examine(step)
            if "running" not in self.endings:
                return
            if stopping() and step < every.steps:
                self.look(step)
                self.save(step)
                return self.end(step, "interrupted")
        self.end(step, "finished")

    def action(self, obs: Array, step: int) -> torch.Tensor:
        """Uniform on (-1, 1)^A before warm-up is over, then the agent's; (S, A). A failed seed stands still."""
        if step <= self.schedule.warmup:
            return 2.0 * self.streams.uniform(self.action_size) - 1.0
        noise = self.agent.act_noise(self.cfg, self.action_size, 1, self.streams)
        with torch.no_grad():
            action = self.agent.act(self.cfg, self.state, torch.from_numpy(obs).to(self.device)[:, None], noise)
        return torch.nan_to_num(action[:, 0])

    def account(self, step: int, outcome: Step) -> None:
        """Episode returns and lengths as training saw them; a simulator that went wrong ends its seed."""
        self.sums += outcome.reward
        self.lengths += 1
        for s in np.flatnonzero(outcome.terminated | outcome.truncated):
            self.write(s, step, {"charts/episodic_return": self.sums[s], "charts/episodic_length": self.lengths[s]})
            self.returns[s] = self.sums[s]
            self.sums[s] = self.lengths[s] = 0
        for s in np.flatnonzero(~outcome.finite):
            self.fail(int(s), f"the environment's observation or reward is not finite for seed {self.seeds[s]} at step {step}", step)

    def look(self, step: int) -> None:
        """Reads Info off the device, stops seeds with a non-finite loss, and writes the rest."""
        now = time.perf_counter()
        rate = (step - self.since[1]) / max(now - self.since[0], 1e-9)
        self.since = (now, step)
        values = {tag: value.cpu().double().numpy() for tag, value in self.info.items()}
        for s in range(len(self.seeds)):
            bad = [f"{tag} is {value[s]}" for tag, value in values.items() if not np.isfinite(value[s])]
            if bad:
                self.fail(s, f"{bad[0]} for seed {self.seeds[s]} at step {step}", step)
            self.write(s, step, {**{tag: value[s] for tag, value in values.items()}, "charts/steps_per_second": rate})
            self.logs[s].flush()
        self.tell(Tick(step, rate, self.returns, self.evals))

    def examine(self, step: int) -> None:
        """Evaluates every seed, logs the mean return, and saves the policies."""
        episodes = self.schedule.eval_episodes
        result = evaluate(self.agent, self.cfg, self.state, self.eval_envs, self.seeds, episodes, self.device)
        self.evals = result.returns.mean(-1)
        for s in range(len(self.seeds)):
            self.write(
                s, step, {"eval/return": self.evals[s], "eval/return_std": result.returns[s].std(), "eval/length": result.lengths[s].mean()}
            )
        self.save(step)
        self.since = (time.perf_counter(), step)  # the rate of training leaves evaluations out

    def save(self, step: int) -> None:
        for s, log in enumerate(self.logs):
            if self.endings[s] == "running":
                checkpoint.save(log.folder, checkpoint.seed_slice(self.state, s), {**self.about, "seed": self.seeds[s], "step": step})

    def write(self, s: int, step: int, values: dict[str, Any]) -> None:
        if self.endings[s] == "running":
            self.logs[s].scalars(step, values)

    def fail(self, s: int, reason: str, step: int) -> None:
        if self.endings[s] == "running":
            self.endings[s] = f"failed: {reason}"
            self.logs[s].close({"status": "failed", "reason": reason, "step": step})

    def end(self, step: int, status: str) -> None:
        for s, log in enumerate(self.logs):
            if self.endings[s] == "running":
                self.endings[s] = status
                seconds = time.perf_counter() - self.started
                log.close(
                    {"status": status, "step": step, "eval_return": float(self.evals[s]), "seconds": seconds, "stack": len(self.seeds)}
                )
