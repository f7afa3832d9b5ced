"""The one training loop, for S seeds in one stacked computation: act, store and update, step by step or segment by segment; evaluate."""

import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from wgf import trusted
from wgf.agents.training.compiled import Update, update
from wgf.agents.training.envs import Array, BrokenEnvironment, Envs, Mask, Step
from wgf.agents.training.evaluate import deterministic, evaluate
from wgf.agents.training.memory import Replay
from wgf.agents.training.protocol import Agent, Info, Streams
from wgf.agents.training.record import FINISHED, INTERRUPTED, Record
from wgf.agents.training.rollout import Rollout, Shape, Side
from wgf.agents.training.schedule import Schedule


class Task(NamedTuple):
    """What is trained, from beginning to end.

    ``envs`` has S environments, or S times those of a rollout's ``Shape``; ``eval_envs`` S * schedule.eval_episodes for each policy.
    """

    agent: Agent
    cfg: Any
    schedule: Schedule
    seeds: Sequence[int]
    envs: Envs | Side
    eval_envs: Envs
    device: torch.device
    compile: bool = False  # the update, of an agent that learns from a replay


@dataclass
class Training:
    """Everything that a training is between two steps, except its environments."""

    state: Any
    streams: Streams
    memory: "Live | Rollout"
    info: Info = dict  # of the last update
    step: int = 0


@dataclass
class Live:
    """What is trained by replay: one environment a seed, and all that it showed."""

    replay: Replay
    obs: Array  # (S, D) to act on next
    update: Update
    returns: Array  # (S,) so far, of the episodes that are running
    lengths: Array  # (S,)


class Tick(NamedTuple):
    """What a person is told now and then: the step, each seed's steps a second, its last return and evaluation (nan before)."""

    step: int
    steps_per_second: float
    returns: Array
    evals: Array


def train(task: Task, run: Training, record: Record, *, tell: Callable[[Tick], None], stopping: Callable[[], bool]) -> list[str]:
    """Trains S seeds side by side and returns how each ended: "finished", "interrupted" or "failed: ...".

    ``run`` comes from ``begin``. ``stopping`` is asked at each step; then every seed is saved. A seed whose losses, returns or policy turn
    non-finite stops alone, its last policy from before that. Any other fault (an environment raises, a disk is full) ends every
    seed; what was saved stays, and result.json holds the traceback.
    """
    try:
        with trusted():
            record.save(run.state, run.step)
            steps(task, run, record, tell, stopping)
    except Exception as error:
        with suppress(OSError):
            record.write(run.step, _numbers(run.info))  # names the seed whose loss was the first to go wrong
            record.save(run.state, run.step)
        record.close(run.step, "failed", _reason(error, run.step), traceback.format_exc())
    except KeyboardInterrupt:
        record.close(run.step, INTERRUPTED)
        raise
    return record.endings


def begin(task: Task) -> Training:
    """Fresh networks, an empty memory, and environments at their first observation: seed k the same in every stack."""
    d, a, seeds = task.envs.obs_size, task.envs.action_size, task.seeds
    state = task.agent.init(task.cfg, d, a, [torch.Generator().manual_seed(k) for k in seeds], task.device)
    streams = Streams([torch.Generator(task.device).manual_seed(k) for k in seeds])
    if shape := segment(task.agent, task.cfg):
        return Training(state, streams, Rollout(cast(Side, task.envs), shape, seeds, task.cfg.gamma))
    replay = Replay(seeds, task.schedule.rows(), d, a, task.cfg.gamma, task.device, getattr(task.cfg, "n_step", 1))
    zero = np.zeros(len(seeds), np.float32)
    change = update(task.agent, task.cfg, state, compile=task.compile)
    return Training(state, streams, Live(replay, cast(Envs, task.envs).reset(seeds), change, zero, zero))


def segment(agent: Agent, cfg: Any) -> Shape | None:
    """How an agent collects rollouts; None for one that learns from a replay."""
    return agent.segment(cfg) if hasattr(agent, "segment") else None


def policies(agent: Agent, cfg: Any) -> int:
    """Policies a seed."""
    shape = segment(agent, cfg)
    return shape.policies if shape else 1


def steps(task: Task, run: Training, record: Record, tell: Callable[[Tick], None], stopping: Callable[[], bool]) -> None:
    """Steps until the schedule, the person or every seed ends."""
    every, since = task.schedule, (time.perf_counter(), run.step)
    while record.running:
        before = run.step
        if isinstance(run.memory, Rollout):
            collect(task, run, run.memory, record)
        else:
            advance(task, run, run.memory, record)
        last = run.step >= every.steps
        due = last or run.step // every.eval_every > before // every.eval_every
        stop = stopping()
        if due or stop or run.step // every.log_every > before // every.log_every:
            since = look(run, record, since)
            if due:
                stop = not examine(task, run, record, stopping)
                since = (time.perf_counter(), run.step)  # the rate of training leaves evaluations out
            if due or stop:
                record.save(run.state, run.step)
            record.flush()
            tell(_tick(run.step, record))
        if last or stop:
            record.close(run.step, INTERRUPTED if stop else FINISHED)


def advance(task: Task, run: Training, live: Live, record: Record) -> None:
    """One step of every seed: act, store, and after warm-up one update."""
    run.step += 1
    action = act(task, run, live).cpu().numpy()
    outcome = cast(Envs, task.envs).step(action)
    live.replay.add(live.obs, action, outcome)
    live.obs = outcome.obs
    account(task, run, live, record, outcome)
    if run.step >= task.schedule.warmup:
        batch = live.replay.sample(task.cfg.batch)
        run.info = live.update(batch, task.agent.noise(task.cfg, task.envs.action_size, run.streams))


def act(task: Task, run: Training, live: Live) -> Tensor:
    """Uniform on (-1, 1)^A before warm-up is over, then the agent's; (S, A). A failed seed stands still."""
    if run.step <= task.schedule.warmup:
        return 2.0 * run.streams.uniform(task.envs.action_size) - 1.0
    noise = task.agent.act_noise(task.cfg, task.envs.action_size, 1, run.streams)
    action = task.agent.act(task.cfg, run.state, torch.from_numpy(live.obs).to(task.device)[:, None], noise)
    return torch.nan_to_num(action[:, 0])


def account(task: Task, run: Training, live: Live, record: Record, outcome: Step) -> None:
    """Episode returns and lengths as training saw them; a simulator that went wrong ends its seed."""
    live.returns = live.returns + outcome.reward
    live.lengths = live.lengths + 1
    ended = outcome.terminated | outcome.truncated
    if ended.any():
        episode = {"charts/episodic_return": live.returns, "charts/episodic_length": live.lengths}
        record.write(run.step, episode, np.flatnonzero(ended).tolist())
        live.returns, live.lengths = np.where(ended, 0.0, live.returns), np.where(ended, 0.0, live.lengths)
    broken(task, run, record, ~outcome.finite)


def collect(task: Task, run: Training, memory: Rollout, record: Record) -> None:
    """One segment of every seed, and one update."""
    n, a = memory.shape.side, task.envs.action_size

    def choose(obs: Tensor) -> Tensor:
        action = task.agent.act(task.cfg, run.state, obs, task.agent.act_noise(task.cfg, a, n, run.streams))
        return torch.nan_to_num(action)  # a failed seed stands still

    if hasattr(task.agent, "explore"):
        task.agent.explore(task.cfg, run.state, run.streams)
    experience, finished = memory.collect(choose)
    run.step += memory.shape.size
    returns, lengths = finished.mean()
    episodes = {"charts/episodic_return": returns, "charts/episodic_length": lengths}
    if memory.shape.policies > 1:
        episodes["charts/episodic_return_best"] = finished.best()
    finite = (experience.next_obs.sum(-1) + experience.reward).flatten(1).isfinite().all(1).cpu().numpy()
    broken(task, run, record, ~finite)
    record.write(run.step, episodes, np.flatnonzero(finite & finished.counts.any(1)).tolist())
    run.info = task.agent.update(task.cfg, run.state, experience, task.agent.noise(task.cfg, a, run.streams))


def broken(task: Task, run: Training, record: Record, rows: Mask) -> None:
    """Ends the seeds whose simulator went wrong."""
    for s in np.flatnonzero(rows).tolist():
        reason = f"the environment's observation or reward is not finite for seed {task.seeds[s]} at step {run.step}"
        if s in record.running:
            record.fail(s, run.step, reason)


def look(run: Training, record: Record, since: tuple[float, int]) -> tuple[float, int]:
    """Reads Info off the device and logs it with the rate since the last look; returns (time, step) of this one."""
    values = _numbers(run.info)  # waits for the device: only then has the time of these steps passed
    now = time.perf_counter()
    rate = (run.step - since[1]) / (now - since[0])
    record.write(run.step, {**values, "charts/steps_per_second": np.full(len(record.seeds), rate)})
    return now, run.step


def examine(task: Task, run: Training, record: Record, stopping: Callable[[], bool]) -> bool:
    """Evaluates every seed and logs the mean return; False where it was stopped halfway, which is not logged."""
    policy, m = deterministic(task.agent, task.cfg, run.state, task.device), policies(task.agent, task.cfg)
    result = evaluate(policy, task.eval_envs, task.seeds, m * task.schedule.eval_episodes, stopping)
    if result is None:
        return False
    values = {"eval/return": result.returns.mean(-1), "eval/return_std": result.returns.std(-1), "eval/length": result.lengths.mean(-1)}
    if m > 1:
        values["eval/return_best"] = result.returns.reshape(len(task.seeds), m, -1).mean(-1).max(-1)
    record.write(run.step, values)
    return True


def _numbers(info: Info) -> dict[str, Array]:
    return {tag: value.cpu().numpy() for tag, value in info().items()}


def _reason(error: Exception, step: int) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or 'the run folder'} cannot be written: {error.strerror}"
    kind = "" if isinstance(error, BrokenEnvironment) else f"{type(error).__name__}: "
    return f"{kind}{' '.join(str(error).split())} at step {step}"


def _tick(step: int, record: Record) -> Tick:
    nothing = np.full(len(record.seeds), np.nan, np.float32)
    rate, returns, evals = (record.latest.get(tag, nothing) for tag in ("charts/steps_per_second", "charts/episodic_return", "eval/return"))
    return Tick(step, float(np.nanmax(rate)), returns, evals)
