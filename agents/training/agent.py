"""The front door: an agent in an environment, that learns, acts, is evaluated, saved and loaded."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from numpy.typing import NDArray

from wgf.agents import registry
from wgf.agents.training import checkpoint, machine, saved, team, weight
from wgf.agents.training.compiled import pays
from wgf.agents.training.description import Description, mapped
from wgf.agents.training.envs import Array, one_line
from wgf.agents.training.evaluate import Episodes, deterministic, evaluate
from wgf.agents.training.folder import checkpoints, opened, resumable
from wgf.agents.training.log import NoLog
from wgf.agents.training.loop import Keeper, Task, Tell, Tick, Training, begin, restore, train
from wgf.agents.training.loop import whole as of_all
from wgf.agents.training.protocol import Streams
from wgf.agents.training.ranges import LARGEST, counted, flag, function, placed, whole
from wgf.agents.training.record import RUNNING, Record, check
from wgf.agents.training.schedule import Schedule
from wgf.agents.training.spaces import rows
from wgf.agents.training.store import Saved, Store
from wgf.agents.training.team import facts
from wgf.limits import as_path, size
from wgf.ranks import Group
from wgf.shown import shown

__all__ = ["Agent"]

Metrics = dict[str, Array]
Callback = Callable[[int, Metrics, "Agent"], bool | None]


class Agent(Description):
    """An agent of ``wgf.agents`` in an environment, for any number of seeds, which train as one stack.

        agent = Agent("sac", "Hopper-v5", seeds=5, preset="modern").learn(100_000, log="runs/mine")
        action = agent.predict(obs)
        agent.save("hopper")
        Agent.load("hopper").evaluate(10)

    ``agent``: a name (``wgf agents`` lists them), "package.module:Name" of an agent of your own, or that module or object itself.
    ``env``: a Gymnasium id, an environment of Gymnasium, which is copied and stays as it is, or a function that makes one.
    ``seeds``: so many, from 0 on, or the seeds themselves. ``settings`` are fields of the agent's configuration (``lr=1e-3``,
    ``hidden=(64, 64)``) or of ``Schedule`` (``warmup``, ``eval_every``); ``wgf train AGENT --help`` lists both.

    ``compile``: whether updates run as machine code, equal but for rounding; by itself where it pays, see ``compiles``.
    ``nets``: networks of your own by the names that they have in the agent, {"q": module}: functions as ``wgf.mlp.Network`` says, or
    torch modules. A critic gets observation and action side by side and gives one number.
    ``shards``: the processes that ``torchrun`` started share the policies of ``es`` or ``ip-wgf`` out. All call the same and get the same;
    the first alone writes.

    **Raises** ValueError, in one line, for names, spaces, seeds, settings and values that are of no use.
    """

    def __init__(
        self, agent: Any, env: Any, *, seeds: int | Sequence[int] = 1, preset: str = "paper", device: str = "auto",
        backend: str = "gymnasium", compile: bool | Literal["auto"] = "auto", nets: Mapping[str, Any] | None = None, shards: bool = False,
        **settings: Any,
    ) -> None:  # fmt: skip
        if not (isinstance(compile, bool) or (isinstance(compile, str) and compile == "auto")):
            raise ValueError(f"compile is {shown(compile)}; choose from 'auto', True, False")
        own = mapped(nets)
        flag("shards", shards)
        super().__init__(agent, env, seeds, preset, device, backend, settings, own)
        self._begin(compile, own, shards)

    def _begin(self, compile: bool | Literal["auto"], nets: Mapping[str, Any], shards: bool = False) -> None:
        """Makes its state, with ``shards`` the same on all ranks.

        Raises ValueError, before it takes memory, where the networks or an update do not fit, and where ranks are not alike.
        """
        self.group = team.enlisted(self.name, self.module, self.schedule.normalize, self.device) if shards else Group()
        if not nets:  # networks of a program's own have sizes of their own, and are there already
            weight.check(self.module, self.cfg, self.usual, self.obs_size, self.action_size, len(self.seeds), self.device)
        generators = [torch.Generator().manual_seed(k) for k in self.seeds]
        own = [self.networks(nets)] if nets else []
        self.state = self.module.init(self.cfg, self.obs_size, self.action_size, generators, self.device, *own)
        self.policies = self.module.memory(self.cfg, self.schedule).policies
        self.compile, self.step, self.endings = compile, 0, list[str]()
        self._draw = Streams([torch.Generator(self.device).manual_seed(k) for k in self.seeds])  # of actions asked for by ``predict``
        self._training: Training | None = None
        self._keeper: Keeper | None = None
        self._behind: Path | None = None  # the folder of a training that ``learn`` goes on with
        self._task: Task
        if shards:
            self.module.memory(self.cfg, self.schedule).share(self.group)  # type: ignore[attr-defined]
            whole = hashlib.sha256(checkpoint.serialized(checkpoint.tensors(self.state))[0]).hexdigest()
            about = self.about(self.schedule) | machine.about(self.device, torch.get_num_threads())
            self.group.agree(facts({**about, "seeds": list(self.seeds), "compile": compile, "networks": whole}))

    def learn(
        self, steps: int, callback: Callback | None = None, log: str | Path | None = None, stopping: Callable[[], bool] = lambda: False
    ) -> "Agent":
        """Trains for ``steps`` more environment steps per seed, and returns itself; a second call goes on where the first ended.

        ``callback(step, metrics, agent)`` is called every ``log_every`` steps and at each evaluation with the last value of every
        metric, tag -> (S,) for S seeds; where it returns True the training stops. ``stopping()`` is asked at every step. With ``log``
        each seed leaves a folder log/seed-K that ``wgf eval`` and TensorBoard read. ``endings`` says of each seed how it ended: one
        whose numbers turned non-finite, or whose environment went wrong, has stopped alone.

        **Raises** what the callback raised, RuntimeError where every seed failed, and ValueError, before anything is written, for a
        folder that holds a run already, for a replay that does not fit the memory, and for an environment that does not begin.
        """
        counted("steps", steps)
        replace(self.schedule, steps=steps)  # refuses what is no number of steps
        if self._behind is not None:
            self.resume(self._behind)
        self.train(self.step + steps, None if callback is None else self._whole(callback), log, stopping)
        if self._training is not None and self._training.error:
            raise self._training.error
        if all(ending.startswith("failed") for ending in self.endings):
            raise RuntimeError(f"every seed {self.endings[0]}")
        return self

    def train(
        self, total: int, callback: Callback | None = None, log: str | Path | None = None, stopping: Callable[[], bool] = lambda: False
    ) -> list[str]:
        """Trains as ``learn`` does, until there are ``total`` steps in all, and returns how each seed ended where that raises.

        With ``shards`` the agent that ``callback`` gets may have other ranks' policies of the last evaluation.
        """
        counted("total", total)
        schedule = replace(self.schedule, steps=total)
        function("stopping", stopping)
        if callback is not None:
            function("callback", callback)
        place, group = None if log is None else as_path("log", log), self.group
        group.together(lambda: self.needs(total - self.step))
        if group.size > 1:
            group.agree({"total": total, "log": str(place), "machine code": self.compiles(total - self.step)})
        task, training = group.together(lambda: self._prepared(schedule))
        where = {**machine.about(self.device, torch.get_num_threads()), "compile": task.compile, "stack": list(self.seeds)}
        where |= {"ranks": group.size} if group.size > 1 else {}
        record, keeper = group.together(
            lambda: opened(
                place, self.seeds, self.about(schedule), where, self._keeper, training.step, task.envs.continues,
                registry.choices(self.module), writes=group.rank == 0,
            )
        )  # fmt: skip
        self._keeper = keeper
        heard = task.team.hears(lambda: (stopping(), keeper.writes and keeper.late())) if task.team else stopping
        with machine.tuned():
            self.endings = train(task, training, record, keeper, tell=self._told(callback, training), stopping=heard)
        self.step = training.step
        return self.endings

    def resume(self, log: str | Path) -> "Agent":
        """Takes up the training of a folder where its last checkpoint left it, with replay, generators and environments; returns itself.

        What it learns next, with the same ``log``, is bit by bit what it would have learned without the break: on the same type of
        machine, with the same versions and number of threads.

        **Raises** ValueError, in one line, for a folder without a checkpoint of such an agent, and where the environment does not come
        back to where it was.
        """
        self.close()
        self._behind = None
        group = self.group
        store, last = group.in_turn(lambda: self._resumable(as_path("log", log)))  # each looks whether another process holds the folder
        group.agree({f"the step of the checkpoint in {store.folder}, which all ranks must see,": last.step})
        group.together(lambda: self._restored(store, last))
        self.step, self._keeper = last.step, Keeper(store, last.snapshot, writes=group.rank == 0)
        return self

    def _resumable(self, log: Path) -> tuple[Store, Saved]:
        store, last = resumable(log, self.seeds, self.about(self.schedule), self.compile)
        with checkpoint.doubted(f"{store.folder}"):
            check(last.snapshot["record"], len(self.seeds))
        return store, last

    def _restored(self, store: Store, last: Saved) -> None:
        with checkpoint.doubted(f"{store.folder}"):
            schedule = Schedule(**last.snapshot["about"]["schedule"])
            ended = [seed for seed, ending in zip(self.seeds, last.snapshot["record"]["endings"], strict=True) if ending != RUNNING]
        task, training = self._prepared(schedule, last.snapshot["compile"], ended)
        with one_line(), machine.tuned(), checkpoint.doubted(f"{store.folder}"):
            restore(task, training, last)

    def needs(self, steps: int) -> str:
        """Says in a line what memory a training of ``steps`` steps takes. Raises ValueError where it is not there."""
        counted("steps", steps)
        memory = self.module.memory(self.cfg, replace(self.schedule, steps=self.step + steps))
        needed, free = memory.needs(len(self.seeds), self.obs_size, self.action_size), machine.free_memory(self.device)
        text = f"{needed.words} = {size(needed.bytes)} on {self.device}"
        if needed.bytes > free:
            raise ValueError(f"{text}, but {size(free)} are free; give a smaller {needed.option} or fewer --seeds")
        return text

    def compiles(self, steps: int) -> bool:
        """Says whether a training of ``steps`` steps that begins now, or one that goes on, runs as machine code: its updates, and the steps
        of one of the project's own tasks.

        By itself it does where these are many and large enough to save twice what compiling costs, on a CPU with a compiler.
        """
        counted("steps", steps)
        if self._training is not None:  # which goes on as it began
            return self._task.compile
        if self.compile != "auto":
            return self.compile
        memory = self.module.memory(self.cfg, self.schedule)
        ticks = steps // memory.envs if self.source.together else 0
        return pays(memory.updates(steps), machine.work(len(self.seeds), self.cfg), self.device, ticks)

    def predict(self, obs: Any, deterministic: bool = True, seed: int = 0, policy: int = 0) -> NDArray[Any]:
        """Returns the action for an observation of the environment, or actions (n, A) for n of them, in the environment's own units.

        ``seed`` is the place of a seed in the stack, ``policy`` that of a policy where a seed has several. ``deterministic`` gives the
        agent's best guess, else a draw from its policy.
        """
        numbers = rows(self.space, obs, self.obs_size)
        placed(seed=(seed, len(self.seeds)), policy=(policy, self.policies))
        flag("deterministic", deterministic)
        n = numbers.size // self.obs_size
        seen = torch.from_numpy(numbers.reshape(1, n, -1)).to(self.device).repeat(len(self.seeds), self.policies, 1)
        if deterministic:
            action = self.module.greedy(self.cfg, self.state, seen)
        else:
            noise = self.module.act_noise(self.cfg, self.action_size, seen.shape[1], self._draw)
            action = self.module.act(self.cfg, self.state, seen, noise)
        mine = torch.nan_to_num(action[seed].detach()).view(self.policies, n, -1)[policy].cpu().numpy()
        scaled: NDArray[Any] = self.scale(mine if numbers.ndim == 2 else mine[0])
        return scaled

    def evaluate(self, episodes: int = 10) -> Episodes:
        """Returns and lengths of so many deterministic episodes of every policy, (S, M * episodes), the same starts at every call.

        **Raises** ValueError, in one line, where the environment raises.
        """
        if not whole(episodes) or not 1 <= episodes < LARGEST:
            raise ValueError(f"episodes is {shown(episodes)}; it must be at least 1, with at most 18 digits")
        each = self.policies * episodes
        policy = deterministic(self.module, self.cfg, self.state, self.device)
        with one_line(), closing(self.source.make(len(self.seeds) * each, limit=self.schedule.step_limit)) as envs:
            found = evaluate(policy, envs, self.seeds, each)
            for fault in envs.faults.values():
                raise fault
        assert found is not None  # nothing asks it to stop
        return found

    def save(self, folder: str | Path, training: bool = False) -> None:
        """Writes every seed's policy and optimisers to folder/seed-K, as safetensors and JSON; what was there before is replaced. Those of
        other seeds stay.

        ``training`` adds everything else that the next step depends on, replay and environments too: loaded again, the agent goes on as
        if it had not been away. **Raises** ValueError where it has not learned yet.
        """
        folder, first = as_path("folder", folder), self.group.rank == 0
        flag("training", training)
        for s, seed in enumerate(self.seeds if first else ()):
            (mine := folder / f"seed-{seed}").mkdir(parents=True, exist_ok=True)
            about = {**self.about(self.schedule), "seed": seed, "step": self.step}
            checkpoint.save(mine, checkpoint.seed_slice(self.state, s), about)
        if training:
            if self._training is None:
                raise ValueError("training is True; there is none before learn")
            record = Record([NoLog() for _ in self.seeds], self.seeds, self.about(self._task.schedule))
            Keeper(checkpoints(folder, self.seeds), writes=first).save(self._task, self._training, record)

    def export(self, file: str | Path, seed: int = 0, policy: int = 0) -> None:
        """Writes the deterministic policy as an ONNX model: observations (n, D) -> actions (n, A), as ``predict`` takes and gives them.

        ``seed`` and ``policy`` are places in the stack. Normalised observations and the environment's bounds are part of the model. It
        needs the extra ``onnx``. **Raises** ValueError, in one line, where it cannot: see ``wgf.agents.training.export``.
        """
        from wgf.agents.training.export import export

        export(self, as_path("file", file), seed, policy)

    @classmethod
    def load(
        cls, folder: str | Path, env: Any = None, agent: Any = None, device: str = "auto", nets: Mapping[str, Any] | None = None,
        seeds: Sequence[int] = (),
    ) -> "Agent":  # fmt: skip
        """Returns the agent of a folder that ``save``, ``learn(log=)`` or ``wgf train`` wrote: of one seed, or of those that it holds.

        ``env``, ``agent`` and ``nets`` are needed where they were given as objects and not by names, and ``env`` and ``agent`` too where
        they were names with a module, as in "my_tasks:Maze-v0": nothing that was saved runs code, and no name in it is imported.
        ``seeds`` takes some of many.

        It may learn again: from where the last checkpoint of its training left it, where the folder holds one of the whole stack, which
        may lie a little before the policy. Else with a fresh replay: it first collects ``warmup`` steps with its policy.

        **Raises** ValueError, in one line, for a folder that holds no policy, or one of another version.
        """
        folder, own = as_path("folder", folder), mapped(nets)
        policies, found = saved.read(folder, seeds), cls.__new__(cls)
        with policies.doubted():
            Description.__init__(found, device=device, **policies.arguments(env, agent, own))
        policies.check(found)
        with policies.doubted():
            found._begin("auto", own)
            checkpoint.restore_(found.state, policies.slices)
        found.step = policies.step
        found._behind = folder if policies.first != folder and checkpoints(folder, found.seeds).steps() else None
        return found

    def close(self) -> None:
        """Frees the environments of the training."""
        if self._training is not None:
            self._task.envs.close()
            self._task.eval_envs.close()
            self._training = None

    def _prepared(self, schedule: Schedule, compile: bool | None = None, ended: Sequence[int] = ()) -> tuple[Task, Training]:
        if self._training is not None:
            self._task = self._task._replace(schedule=schedule)
            self._task.memory.extend(schedule)
            self._training.error = None
            return self._task, self._training
        memory, count, limit = self.module.memory(self.cfg, schedule), len(self.seeds), self.schedule.step_limit
        shared, state = None, self.state
        if self.group.size > 1:
            shared = memory.share(self.group)  # type: ignore[attr-defined]
            state = self.module.share(self.state, shared.shards)  # type: ignore[attr-defined]

        def starts(seed: int) -> Sequence[int | None]:
            return [None] * memory.envs if seed in ended else memory.starts(seed)

        compile = self.compiles(schedule.steps - self.step) if compile is None else compile
        place = memory.place(self.device)
        envs = self.source.make(
            count, memory.envs, device=place, starts=starts, limit=limit, compile=compile, home=self.device,
            within=shared.within if shared else None,
        )  # fmt: skip
        played = (shared.policies if shared and shared.apart else self.policies) * schedule.eval_episodes
        eval_envs = self.source.make(count * played, limit=limit)
        self._task = Task(self.module, self.cfg, schedule, self.seeds, memory, envs, eval_envs, self.device, compile, shared)
        try:
            with one_line(), machine.tuned():
                self._training = begin(self._task, state, self.state)
        except ValueError:
            for side in (envs, eval_envs):
                side.close()
            raise
        self._training.step = self.step
        return self._task, self._training

    def _whole(self, callback: Callback) -> Callback:
        """A callback that gets the agent with all policies as they are."""
        function("callback", callback)

        def told(step: int, metrics: Metrics, agent: "Agent") -> bool | None:
            if self._training is not None:
                of_all(self._task, self._training)
            return callback(step, metrics, agent)

        return told

    def _told(self, callback: Callback | None, training: Training) -> Tell:
        def tell(tick: Tick) -> bool | None:
            self.step = training.step
            return callback(tick.step, dict(tick.metrics), self) if callback else None

        return tell
