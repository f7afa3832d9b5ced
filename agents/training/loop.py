"""The one training loop: act, store, update, evaluate, for S seeds in one stacked computation."""

import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from agents.training.envs import Array, BrokenEnvironment, Envs, Step
from agents.training.evaluate import deterministic, evaluate
from agents.training.memory import Replay
from agents.training.protocol import Agent, Info, Streams
from agents.training.record import FINISHED, INTERRUPTED, Record
from agents.training.schedule import Schedule
from wgf import trusted


class Task(NamedTuple):
    """What is trained, from beginning to end: ``envs`` has S environments, ``eval_envs`` S * schedule.eval_episodes."""

    agent: Agent
    cfg: Any
    schedule: Schedule
    seeds: Sequence[int]
    envs: Envs
    eval_envs: Envs
    device: torch.device


@dataclass
class Training:
    """Everything that a training is between two steps, except its environments."""

    state: Any
    streams: Streams
    replay: Replay
    obs: Array  # (S, D) to act on next
    returns: Array  # (S,) so far, of the episodes that are running
    lengths: Array  # (S,)
    info: Info = dict  # of the last update
    step: int = 0


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
    """Fresh networks, an empty replay, and environments at their first observation: seed k the same in every stack."""
    d, a, seeds = task.envs.obs_size, task.envs.action_size, task.seeds
    state = task.agent.init(task.cfg, d, a, [torch.Generator().manual_seed(k) for k in seeds], task.device)
    streams = Streams([torch.Generator(task.device).manual_seed(k) for k in seeds])
    replay = Replay(seeds, task.schedule.rows(), d, a, task.cfg.gamma, task.device)
    zero = np.zeros(len(seeds), np.float32)
    return Training(state, streams, replay, task.envs.reset(seeds), zero, zero)


def steps(task: Task, run: Training, record: Record, tell: Callable[[Tick], None], stopping: Callable[[], bool]) -> None:
    """Steps until the schedule, the person or every seed ends."""
    every, since = task.schedule, (time.perf_counter(), run.step)
    while record.running:
        advance(task, run, record)
        last = run.step == every.steps
        due = last or run.step % every.eval_every == 0
        stop = stopping()
        if due or stop or run.step % every.log_every == 0:
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


def advance(task: Task, run: Training, record: Record) -> None:
    """One step of every seed: act, store, and after warm-up one update."""
    run.step += 1
    action = act(task, run).cpu().numpy()
    outcome = task.envs.step(action)
    run.replay.add(run.obs, action, outcome)
    run.obs = outcome.obs
    account(task, run, record, outcome)
    if run.step >= task.schedule.warmup:
        batch = run.replay.sample(task.cfg.batch)
        run.info = task.agent.update(task.cfg, run.state, batch, task.agent.noise(task.cfg, task.envs.action_size, run.streams))


def act(task: Task, run: Training) -> Tensor:
    """Uniform on (-1, 1)^A before warm-up is over, then the agent's; (S, A). A failed seed stands still."""
    if run.step <= task.schedule.warmup:
        return 2.0 * run.streams.uniform(task.envs.action_size) - 1.0
    noise = task.agent.act_noise(task.cfg, task.envs.action_size, 1, run.streams)
    action = task.agent.act(task.cfg, run.state, torch.from_numpy(run.obs).to(task.device)[:, None], noise)
    return torch.nan_to_num(action[:, 0])


def account(task: Task, run: Training, record: Record, outcome: Step) -> None:
    """Episode returns and lengths as training saw them; a simulator that went wrong ends its seed."""
    run.returns = run.returns + outcome.reward
    run.lengths = run.lengths + 1
    ended = outcome.terminated | outcome.truncated
    if ended.any():
        episode = {"charts/episodic_return": run.returns, "charts/episodic_length": run.lengths}
        record.write(run.step, episode, np.flatnonzero(ended).tolist())
        run.returns, run.lengths = np.where(ended, 0.0, run.returns), np.where(ended, 0.0, run.lengths)
    for s in np.flatnonzero(~outcome.finite).tolist():
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
    policy = deterministic(task.agent, task.cfg, run.state, task.device)
    result = evaluate(policy, task.eval_envs, task.seeds, task.schedule.eval_episodes, stopping)
    if result is None:
        return False
    spread = {"eval/return_std": result.returns.std(-1), "eval/length": result.lengths.mean(-1)}
    record.write(run.step, {"eval/return": result.returns.mean(-1), **spread})
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
