"""Gymnasium's v5 robots stepped by MuJoCo Warp, thousands side by side, on a CPU or a GPU: tensors in, tensors out."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import mujoco
import torch
from torch import Tensor

from wgf.agents.tasks.fleet import Outcome, Within, drawn
from wgf.agents.tasks.locomotion import ROBOTS, Data, reward, start
from wgf.agents.training.making import made
from wgf.agents.training.spaces import BrokenEnvironment, Scale, near
from wgf.snapshot import Snapshot, put_, set_states, states

__all__ = ["WarpFleet", "check", "packages", "room"]
Geom = mujoco.mjtGeom


def check(name: str) -> None:
    """Raises ValueError, in one line, for a task that is not one of these, and where the packages are missing."""
    if name not in ROBOTS:
        raise ValueError(
            f"environment {name!r} is not one of backend warp's, {', '.join(ROBOTS)}{near(name, ROBOTS)}; or use --backend gymnasium"
        )
    packages()


def packages() -> tuple[Any, Any]:
    """Returns the modules warp and mujoco_warp, told to be silent. Raises ValueError where they are missing."""
    try:
        import warp

        warp.config.log_level = warp.LOG_ERROR
        warp.init()
        import mujoco_warp
    except ImportError:
        raise ValueError("backend 'warp' needs the extra warp: pip install 'wgflow[warp]', or use --backend gymnasium") from None
    return warp, mujoco_warp


def room(model: Any) -> tuple[int, int]:
    """Returns how many contacts a robot can have at once, and how many constraints: none is ever left out, whatever the others do.

    Two geoms touch in two points at most, a sphere in one; a contact has a normal force, and with friction four of a pyramid.
    """
    contacts, rows = 0, int(model.jnt_limited.sum())
    for i in range(model.ngeom):
        for j in range(i):
            a, b = model.geom_bodyid[i], model.geom_bodyid[j]
            meet = model.geom_contype[i] & model.geom_conaffinity[j] or model.geom_contype[j] & model.geom_conaffinity[i]
            family = a == b or (a and b and (model.body_parentid[a] == b or model.body_parentid[b] == a))
            if meet and not family:
                points = 1 if Geom.mjGEOM_SPHERE in (model.geom_type[i], model.geom_type[j]) else 2
                contacts += points
                rows += points * (4 if max(model.geom_condim[i], model.geom_condim[j]) > 1 else 1)
    return contacts, rows


class WarpFleet:
    """S x n copies of a robot in float32, the n of seed s drawing their starts from one generator.

    The physics run on ``home`` and the tensors that go in and out live on ``device``: where these are one, nothing is copied between
    Warp's arrays and torch's tensors. The model, its time step and its starts are Gymnasium's; where that names MuJoCo's PGS solver,
    which Warp has not, Newton's solves the same problem. Kernels are compiled at the first step of a kind of robot and kept on the disk.
    ``within`` is as of ``Fleet``.

    **Raises** ValueError as ``check`` does.
    """

    continues = True  # on a GPU up to rounding: the order of its additions is not fixed
    faults: Mapping[int, BrokenEnvironment] = MappingProxyType({})  # none: a robot whose physics break has numbers that are not finite

    def __init__(self, name: str, n: int, device: torch.device, home: torch.device, within: Within | None = None) -> None:
        check(name)
        self.robot, self.n, self.device, self.home = ROBOTS[name], n, device, home
        self._first, self._all = within or (0, n)
        one = made(name, None)
        env, self.horizon = one.unwrapped, one.spec.max_episode_steps
        self._dt, self._frames, self._host, scale = env.dt, env.frame_skip, env.model, Scale(env.action_space)
        if self._host.opt.solver == mujoco.mjtSolver.mjSOL_PGS:
            self._host.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
        self._qpos, self._qvel, self._mass = (self._here(x) for x in (env.init_qpos, env.init_qvel, self._host.body_mass))
        self._middle, self._half = self._here(scale.middle), self._here(scale.half)
        self.obs_size, self.action_size = env.observation_space.shape[0], env.action_space.shape[0]
        one.close()
        self._warp, self._mjw = packages()
        self._simulation: Any
        with self._there():
            self._model = self._mjw.put_model(self._host)
        self._worlds, self._simulation = 0, None

    def reset(self, seeds: Sequence[int | None], common: int | None = None) -> Tensor:
        """First observations (S, n, D); with ``common`` those of start number ``common``, one for the n of a seed.

        All go together: those whose seed is None are played in vain.
        """
        own = [seed or 0 if common is None else drawn(seed or 0, common) for seed in seeds]
        self._generators = [torch.Generator(self.home).manual_seed(seed) for seed in own]
        self._common: tuple[Tensor, ...] | None = None
        fresh = self._starts(slice(self._first, self._first + self.n) if common is None else slice(1))
        if common is not None:
            fresh = self._common = tuple(x.repeat_interleave(self.n, 0) for x in fresh)
        self._lay(len(fresh[0]))
        self.age = torch.zeros(self._worlds, dtype=torch.int64, device=self.home)
        self._begin(self.age == 0, fresh)
        self.place, self.obs = self.robot.place(self.data, self._mass), self.robot.observe(self.data)
        return self._given(self.obs)

    def step(self, action: Tensor) -> Outcome:
        """Applies actions (S, n, A) in (-1, 1)."""
        self._ctrl.copy_(self._middle + self._half * action.to(self.home).flatten(0, 1).clamp(-1.0, 1.0))
        with self._there():
            for _ in range(self._frames):
                self._mjw.step(self._model, self._simulation)
            if self.robot.bodies:
                self._mjw.rne_postconstraint(self._model, self._simulation)
        led, place = self.robot.observe(self.data), self.robot.place(self.data, self._mass)
        earned = reward(self.robot, self.data, (place - self.place) / self._dt, self._ctrl)
        terminated = ~self.robot.healthy(self.data)
        self.age += 1
        truncated = (self.age >= self.horizon) & ~terminated
        ended = terminated | truncated
        self._begin(ended, self._starts(slice(self._first, self._first + self.n)))
        self.age.masked_fill_(ended, 0)
        self.place = torch.where(ended, self.robot.place(self.data, self._mass), place)
        self.obs = torch.where(ended[:, None], self.robot.observe(self.data), led)
        return Outcome(*map(self._given, (self.obs, led, earned, terminated, truncated)))

    def snapshot(self) -> Snapshot:
        """Returns all that the next step depends on, and what was seen."""
        kept = {name: tensor.clone() for name, tensor in self._kept().items()}
        return {**kept, "generators": states(self._generators)}

    def restore(self, snapshot: Snapshot) -> Tensor:
        """Comes back to where a snapshot was taken, and returns the observations there, (S, n, D)."""
        for name, tensor in self._kept().items():
            put_(tensor, snapshot[name], f"the robots' {name}")
        set_states(self._generators, snapshot["generators"])
        return self._given(self.obs)

    def close(self) -> None:
        """Frees the simulation."""
        self._worlds, self._simulation = 0, None

    def _kept(self) -> dict[str, Tensor]:
        """Returns what a snapshot holds. ``place`` and what is seen of bodies lag behind the joints, by a part of a step of physics."""
        data = self.data
        return {"qpos": data.qpos, "qvel": data.qvel, "warmstart": self._warmstart, "place": self.place, "obs": self.obs, "age": self.age}

    def _lay(self, worlds: int) -> None:
        """Makes the arrays of so many robots, and tensors that share their memory."""
        if worlds == self._worlds:
            return
        with self._there():
            contacts, rows = room(self._host)
            self._simulation = self._mjw.make_data(self._host, nworld=worlds, nconmax=contacts, njmax=rows)
        self._worlds = worlds
        self.data = Data(*(self._warp.to_torch(getattr(self._simulation, name)) for name in Data._fields))
        self._ctrl = self._warp.to_torch(self._simulation.ctrl)
        self._warmstart = self._warp.to_torch(self._simulation.qacc_warmstart)

    def _starts(self, which: slice) -> tuple[Tensor, ...]:
        """Returns fresh starts of some robots of each seed, positions (S k, nq) and velocities (S k, nv): nothing waits to hear which have
        ended."""
        if self._common is not None:
            return self._common
        own = [start(self.robot, self._qpos, self._qvel, self._all, generator) for generator in self._generators]
        return tuple(torch.cat([x[which] for x in column]) for column in zip(*own, strict=True))

    def _begin(self, ended: Tensor, fresh: tuple[Tensor, ...]) -> None:
        """Puts the robots that have ended (N,) at their starts, at rest in everything else."""
        data, mask = self.data, ended[:, None]
        data.qpos.copy_(torch.where(mask, fresh[0], data.qpos))
        data.qvel.copy_(torch.where(mask, fresh[1], data.qvel))
        for rest in (self._warmstart, data.qfrc_actuator):
            rest.masked_fill_(mask, 0.0)
        data.cfrc_ext.masked_fill_(mask[..., None], 0.0)
        if self.robot.bodies:
            with self._there():
                for part in (self._mjw.kinematics, self._mjw.com_pos, self._mjw.com_vel):
                    part(self._model, self._simulation)

    def _there(self) -> Any:
        """Returns a context within which Warp computes where the robots live."""
        return self._warp.ScopedDevice(self._warp.device_from_torch(self.home))

    def _here(self, numbers: Any) -> Tensor:
        return torch.as_tensor(numbers, dtype=torch.float32).to(self.home)

    def _given(self, rows: Tensor) -> Tensor:
        return rows.view(-1, self.n, *rows.shape[1:]).to(self.device)
