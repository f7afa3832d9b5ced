"""The one training loop, for S seeds in one stacked computation: collect, learn, and now and then log and evaluate."""

import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wgf import trusted
from wgf.agents.training.checkpoint import alike, tensors
from wgf.agents.training.compiled import Update, update
from wgf.agents.training.envs import Array, BrokenEnvironment, Envs, Mask
from wgf.agents.training.evaluate import Episodes, deterministic, evaluate, starts
from wgf.agents.training.health import METRICS, Health
from wgf.agents.training.protocol import Actor, AnyAgent, Info, Memory, Streams
from wgf.agents.training.record import FINISHED, INTERRUPTED, Record
from wgf.agents.training.schedule import Schedule
from wgf.agents.training.spaces import quiet, raised
from wgf.agents.training.store import Saved, Store
from wgf.agents.training.team import Team
from wgf.ranks import Lost
from wgf.snapshot import Snapshot, put_

__all__ = [
    "Keeper", "Task", "Tell", "Tick", "Training", "actor", "assess", "attempt", "begin", "blame", "collect", "learn", "log", "restore",
    "snapshot", "steps", "stop_broken", "train", "whole",
]  # fmt: skip


class Task(NamedTuple):
    """What is trained, from beginning to end.

    ``envs`` has as many environments per seed as ``memory``; ``eval_envs`` is one row of S * M * schedule.eval_episodes of them, for M
    policies per seed. ``team``: the ranks that share it, which all do the same but for what they collect, and of which the first alone
    writes.
    """

    agent: AnyAgent
    cfg: Any
    schedule: Schedule
    seeds: Sequence[int]
    memory: Memory[Any]
    envs: Envs
    eval_envs: Envs
    device: torch.device
    compile: bool = False  # the update
    team: Team | None = None

    @property
    def played(self) -> int:
        """Episodes of a seed that this rank plays at an evaluation."""
        return (self.team.policies if self.team and self.team.apart else self.memory.policies) * self.schedule.eval_episodes


@dataclass
class Training:
    """Everything that a training is between two steps, except its memory and its environments."""

    state: Any
    streams: Streams
    update: Update
    every: Any  # the state of all ranks' policies as of the last look; the same as ``state`` where this rank has it all
    info: Info = dict  # of the last update
    step: int = 0
    assessing: bool = False  # an evaluation is due that was stopped halfway
    error: Exception | None = None  # what ended it before its time
    health: Health = field(default_factory=Health)
    warned: bool = False  # of transport plans that stopped short


class Tick(NamedTuple):
    """What is told now and then: the step, and the last value of every metric, tag -> (S,), nan where there is none yet."""

    step: int
    metrics: Mapping[str, Array]

    def of(self, tag: str, seeds: int) -> Array:
        """Returns a metric's values (S,); nan before its first."""
        return self.metrics.get(tag, np.full(seeds, np.nan, np.float32))


Tell = Callable[[Tick], bool | None]  # True stops the training
Stopping = Callable[[], bool]


def train(task: Task, run: Training, record: Record, keeper: "Keeper", *, tell: Tell, stopping: Stopping) -> list[str]:
    """Trains S seeds side by side and returns how each ended: "finished", "interrupted" or "failed: ...".

    ``run`` comes from ``begin``, and from ``restore`` where it goes on. ``stopping`` is asked at each step, and ``tell`` may stop as
    well; then every seed is saved. A seed whose losses, returns or policy turn non-finite stops alone, its last policy from before
    that; so does one whose environment goes wrong, its policy of that step. Any other fault (a disk is full, an update raises) ends
    every seed; what was saved stays, result.json holds the traceback, and ``run.error`` the fault. Where not even the first policies
    and the first checkpoint can be written, nothing is left. **Raises** Lost where another rank is gone.
    """
    fresh, first, record.health = keeper.last is None, run.step, run.health.counts()
    try:
        with trusted():
            if fresh:
                record.save(whole(task, run), run.step)
                keeper.save(task, run, record)
            if run.step >= task.schedule.steps and not run.assessing:  # it was killed after its last step
                record.close(run.step, FINISHED)
            steps(task, run, record, keeper, tell, stopping)
    except (KeyboardInterrupt, Lost):
        record.close(run.step, INTERRUPTED)
        raise
    except Exception as error:
        run.error = error
        if isinstance(error, OSError) and fresh and run.step == first:
            record.discard(_reason(error, first))
        with suppress(OSError):
            if not task.team:  # others hear nothing of it, and would have to send their parts
                record.write(run.step, _numbers(run.info))  # names the seed whose loss was the first to go wrong
                record.save(run.state, run.step)
        record.close(run.step, "failed", _reason(error, run.step), traceback.format_exc())
    return record.endings


def whole(task: Task, run: Training) -> Any:
    """Returns the state of all policies; where ranks have parts of it by one collective."""
    if task.team and task.team.apart:
        own = tensors(run.every)
        for name, t in task.team.whole(tensors(run.state)).items():
            own[name].copy_(t)
    return run.every


def begin(task: Task, state: Any = None, every: Any = None) -> Training:
    """Makes a state, fresh if none is given, an empty memory, and environments at their start: seed k the same in every stack.

    ``every``: the state of all ranks' policies, where ``state`` is that of some.

    **Raises** BrokenEnvironment where an environment does not begin, or the first of the evaluation's does not take a step.
    """
    d, a, seeds = task.envs.obs_size, task.envs.action_size, task.seeds
    attempt(task.eval_envs, seeds[0], len(seeds) * task.played)
    if state is None:
        state = task.agent.init(task.cfg, d, a, [torch.Generator().manual_seed(k) for k in seeds], task.device)
    streams = Streams([torch.Generator(task.device).manual_seed(k) for k in seeds])
    task.memory.begin(task.envs, seeds, task.device)
    for fault in task.envs.faults.values():
        raise fault
    code = update(task.agent, task.cfg, state, compile=task.compile, whole=task.memory.whole)
    return Training(state, streams, code, state if every is None else every)


def attempt(envs: Envs, seed: int, rows: int) -> None:
    """Raises BrokenEnvironment where the first of so many environments does not begin, or does not take a step, as agents need it."""
    with quiet():  # what Gymnasium remarks on, it remarks on again
        envs.reset([*starts([seed], 1), *[None] * (rows - 1)])
        envs.step(torch.zeros(rows, 1, envs.action_size))
    for fault in envs.faults.values():
        raise fault


def snapshot(task: Task, run: Training, record: Record) -> Snapshot:
    """Returns everything that the next step depends on, but for the replay's rows."""
    return {
        "seeds": list(task.seeds),
        "about": dict(record.about),
        "compile": task.compile,
        "step": run.step,
        "assessing": run.assessing,
        "state": {name: t.clone() for name, t in tensors(whole(task, run)).items()},
        "streams": run.streams.snapshot(),
        "parts": _parts(task),
        "memory": task.team.parts(task.memory.snapshot()) if task.team else task.memory.snapshot(),
        "record": record.snapshot(),
        "health": run.health.counts(),
    }


def restore(task: Task, run: Training, saved: Saved) -> None:
    """Brings a training that has begun to where a checkpoint was taken; its record is restored by itself.

    **Raises** ValueError where the checkpoint is another agent's, or the environments do not come back to where they were.
    """
    parts, here = saved.snapshot.get("parts", 1), _parts(task)
    if parts != here:
        raise ValueError(f"the environments in it are those of {parts} ranks, not of {here}; go on with as many, by torchrun and shards")
    for state, part in ((run.every, dict), *(((run.state, task.team.mine),) if task.team else ())):
        own, found = tensors(state), part(saved.snapshot["state"])
        alike(own, found)
        for name, t in own.items():
            put_(t, found[name], f"tensor {name!r}")
    run.streams.restore(saved.snapshot["streams"])
    memory = saved.snapshot["memory"]
    task.memory.restore(task.team.part(memory) if task.team else memory, saved.pieces())
    run.step, run.assessing = saved.step, saved.snapshot["assessing"]
    run.health = Health(Counter(saved.snapshot.get("health")) + Counter({"damaged_checkpoints": saved.damaged}))


def _parts(task: Task) -> int:
    """How many parts the environments of a checkpoint are in: one for each rank that has policies of its own."""
    return task.team.shards.group.size if task.team and task.team.apart else 1


class Keeper:
    """Takes the checkpoints of a training: every so many steps, or where its schedule leaves it open, at evaluations.

    ``store`` None keeps nothing. ``last``: the snapshot of the last checkpoint of this training, if there is one. Of several ranks the
    first alone ``writes``.
    """

    def __init__(self, store: Store | None, last: Snapshot | None = None, *, writes: bool = True) -> None:
        self.store, self.last, self.writes = store, None if last is None else self._held(last), writes
        self._spent, self._ended = 0.0, time.perf_counter()

    def due(self, every: Schedule, before: int, step: int, evaluated: bool, team: Team | None = None) -> bool:
        """Says whether it is time: by the steps, or at an evaluation where it is ``late``, which of a team the first has said."""
        if every.checkpoint_every:
            return step // every.checkpoint_every > before // every.checkpoint_every
        return evaluated and (team.late if team else self.late())

    def late(self) -> bool:
        """Says whether the last checkpoint took under a fortieth of the time since."""
        return time.perf_counter() - self._ended >= 40.0 * self._spent

    def save(self, task: Task, run: Training, record: Record) -> None:
        """Takes a checkpoint, unless there is one of this step already."""
        if self.store is None or (self.last is not None and self.last["step"] == run.step):
            return
        began, now, memory = time.perf_counter(), snapshot(task, run, record), self.last["memory"] if self.last else None
        if self.writes:
            self.store.save(run.step, now, task.memory.rows(memory), fresh=self.last is None)
        self.last, self._ended = self._held(now), time.perf_counter()
        self._spent = self._ended - began

    @staticmethod
    def _held(snapshot: Snapshot) -> Snapshot:
        """Returns what the next checkpoint and a log that goes on need to know; the state, which is large, is not kept twice."""
        return {name: snapshot[name] for name in ("step", "memory", "record")}


def steps(task: Task, run: Training, record: Record, keeper: Keeper, tell: Tell, stopping: Stopping) -> None:
    """Steps until the schedule, the person or every seed ends.

    Where it is stopped between two looks it logs nothing, so that a run that goes on has the rows of one that was never stopped.
    """
    every, since = task.schedule, (time.perf_counter(), run.step)
    while record.running:
        before, again = run.step, run.assessing
        if not again:
            collect(task, run, record)
            learn(task, run)
        last = run.step >= every.steps
        due = again or last or run.step // every.eval_every > before // every.eval_every
        look = due or run.step // every.log_every > before // every.log_every
        stop = stopping()
        if look and not again:
            since = log(run, record, since)
        if due:
            run.assessing = not assess(task, run, record, stopping)
            stop = stop or run.assessing
            since = (time.perf_counter(), run.step)  # the rate of training leaves evaluations out
        if look:
            stop = bool(tell(Tick(run.step, {tag: value.copy() for tag, value in record.latest.items()}))) or stop
        ends = last or stop
        if due or ends:
            record.save(whole(task, run), run.step)
        if look:
            record.flush()
        if record.running and (ends or keeper.due(every, before, run.step, due, task.team)):
            keeper.save(task, run, record)
        if ends:
            record.health = run.health.counts()
            record.close(run.step, FINISHED if last and not run.assessing else INTERRUPTED)


def collect(task: Task, run: Training, record: Record) -> None:
    """Acts until the memory has something to learn from, and logs the episodes that ended on the way."""
    memory, uniform = task.memory, run.step < task.memory.warmup
    run.step += memory.size
    memory.explore(run.state, _draw(task, run))
    finished, finite = memory.collect(actor(task, run, uniform))
    stop_broken(task, run, record, ~finite)
    ended = np.flatnonzero(finite & finished.counts.any(1)).tolist()
    if ended:
        returns, lengths = finished.mean()
        episodes = {"charts/episodic_return": returns, "charts/episodic_length": lengths}
        if finished.counts.shape[1] > 1:
            episodes["charts/episodic_return_best"] = finished.best()
        record.write(run.step, episodes, ended)


def actor(task: Task, run: Training, uniform: bool = False) -> Actor:
    """How observations (S, n, D) become actions (S, n, A): uniform on (-1, 1)^A, or the agent's. A failed seed stands still."""
    size = task.envs.action_size
    if uniform:
        return Actor(lambda _, obs, drawn: (2.0 * drawn - 1.0).to(obs.device), None, lambda n: run.streams.uniform(n, size))

    def act(state: Any, obs: Tensor, noise: Any) -> Tensor:
        return torch.nan_to_num(task.agent.act(task.cfg, state, obs.to(task.device), noise)).to(obs.device)

    draw = _draw(task, run)
    return Actor(act, run.state, lambda n: task.agent.act_noise(task.cfg, size, n, draw))


def _draw(task: Task, run: Training) -> Streams:
    return task.team.draw(run.streams) if task.team else run.streams


def learn(task: Task, run: Training) -> int:
    """Takes one update for each batch that the memory yields; returns how many."""
    updates = 0
    for batch in task.memory.batches():
        run.info = run.update(batch, task.agent.noise(task.cfg, task.envs.action_size, run.streams))
        updates += 1
    return updates


def stop_broken(task: Task, run: Training, record: Record, rows: Mask) -> None:
    """Ends the seeds whose environments went wrong."""
    broken = [s for s in np.flatnonzero(rows).tolist() if s in record.running]
    if not broken:
        return
    faults = task.team.faults(task.envs.faults) if task.team else task.envs.faults
    for s in broken:
        record.lose(s, whole(task, run), run.step, *blame(faults.get(s), run.step))


def blame(fault: BrokenEnvironment | None, step: int) -> tuple[str, str | None]:
    """Returns in a line what an environment did, where it says so, and the traceback of its own error."""
    if fault is None:
        return f"the environment's observation or reward is not finite at step {step}", None
    return f"{fault} at step {step}", "".join(traceback.format_exception(fault)) if fault.__cause__ else None


def log(run: Training, record: Record, since: tuple[float, int]) -> tuple[float, int]:
    """Reads Info off the device and logs it with the rate since the last call; returns (time, step) of this one."""
    values = _numbers(run.info)  # waits for the device: only then has the time of these steps passed
    record.health = counts = run.health.counts()
    if (short := counts.get("plans_stopped_short", 0)) and not run.warned:
        warnings.warn(
            f"{short} transport plans stopped short of their tolerance by step {run.step}; common_noise and exact solve none",
            RuntimeWarning,
            stacklevel=2,
        )
        run.warned = True
    now = time.perf_counter()
    whole = {"charts/steps_per_second": (run.step - since[1]) / (now - since[0])}  # of the stack
    whole |= {f"health/{name}": count for name, count in counts.items() if name in METRICS}
    record.write(run.step, values | {tag: np.full(len(record.seeds), value) for tag, value in whole.items()})
    return now, run.step


def assess(task: Task, run: Training, record: Record, stopping: Callable[[], bool]) -> bool:
    """Evaluates every seed that still trains and logs the mean return; False where it was stopped halfway, which is not logged.

    A seed whose environment goes wrong ends here, too.
    """
    policy, m, before = deterministic(task.agent, task.cfg, run.state, task.device), task.memory.policies, run.health.counts()
    seeds, team, each = [k if s in record.running else None for s, k in enumerate(task.seeds)], task.team, task.schedule.eval_episodes
    first = each * team.shards.rows.start if team and team.apart else 0
    result = evaluate(policy, task.eval_envs, seeds, task.played, stopping, first)
    if result is None:
        run.health = Health(before)  # it will be played again
        return False
    faults = {row // task.played: fault for row, fault in task.eval_envs.faults.items()}
    if team and team.apart:
        result = Episodes(*(x.reshape(len(seeds), -1) for x in team.arrays(*(x.reshape(len(seeds), -1, each) for x in result))))
        faults = team.faults(faults) if np.isnan(result.returns).any() else {}
    for s, fault in faults.items():
        if s in record.running:
            record.lose(s, whole(task, run), run.step, *blame(fault, run.step))
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
    return f"{raised(error)} at step {step}"
