"""Rewards, terminations, observations and starts of Gymnasium's v5 robots as functions of tensors, for many robots at once.

Each is what ``gymnasium.envs.mujoco`` computes in its defaults, from what MuJoCo says of N robots: ``Data``. Float32 or float64.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["ROBOTS", "Data", "Robot", "reward", "start"]


class Data(NamedTuple):
    """What MuJoCo knows of N robots, by its own names, in SI units."""

    qpos: Tensor  # (N, nq) positions of the joints
    qvel: Tensor  # (N, nv) their velocities
    qfrc_actuator: Tensor  # (N, nv) forces of the actuators on them
    xpos: Tensor  # (N, bodies, 3) where a body's frame is
    xipos: Tensor  # (N, bodies, 3) where its centre of mass is
    cinert: Tensor  # (N, bodies, 10) its inertia about the robot's centre of mass
    cvel: Tensor  # (N, bodies, 6) its velocity there, rotation first
    cfrc_ext: Tensor  # (N, bodies, 6) torque and force there of its contacts


class Robot(NamedTuple):
    """What makes a task of a simulated robot.

    reward = ``forward`` dx/dt + ``survive`` [healthy] - ``ctrl`` |a|^2 - contact cost, with x that of ``place`` and controls a.
    """

    place: Callable[[Data, Tensor], Tensor]  # (data, masses of the bodies) -> x (N,), whose change is the speed
    observe: Callable[[Data], Tensor]  # -> (N, D)
    healthy: Callable[[Data], Tensor]  # -> (N,); where it is not, the episode ends
    contact: Callable[[Data], Tensor]  # -> (N,), the cost of what touches it
    forward: float
    survive: float
    ctrl: float
    noise: float  # a start is the model's own, with uniform noise in (-noise, noise) on its positions
    normal: bool  # whether that on its velocities is N(0, noise^2), else uniform too
    bodies: bool  # whether it looks at more than joints


def reward(robot: Robot, data: Data, speed: Tensor, ctrl: Tensor) -> Tensor:
    """Returns the rewards (N,) of steps at ``speed`` (N,), by controls (N, A) in the model's units, that led to ``data``."""
    earned = robot.forward * speed + robot.survive * robot.healthy(data).to(speed)
    return earned - robot.ctrl * ctrl.square().sum(-1) - robot.contact(data)


def start(robot: Robot, qpos: Tensor, qvel: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draws n starts near the model's own, positions (n, nq) and velocities (n, nv)."""
    draw: dict[str, Any] = {"generator": generator, "device": qpos.device, "dtype": qpos.dtype}
    around = robot.noise * (2.0 * torch.rand(n, len(qpos), **draw) - 1.0)
    shape = n, len(qvel)
    moving = robot.noise * (torch.randn(shape, **draw) if robot.normal else 2.0 * torch.rand(shape, **draw) - 1.0)
    return qpos + around, qvel + moving


def _root(data: Data, mass: Tensor) -> Tensor:
    return data.qpos[:, 0].clone()


def _torso(data: Data, mass: Tensor) -> Tensor:
    return data.xpos[:, 1, 0].clone()


def _centre_of_mass(data: Data, mass: Tensor) -> Tensor:
    return (data.xipos[:, :, 0] * mass).sum(-1) / mass.sum()


def _joints(data: Data) -> Tensor:
    return torch.cat([data.qpos[:, 1:], data.qvel], -1)


def _joints_cut(data: Data) -> Tensor:
    return torch.cat([data.qpos[:, 1:], data.qvel.clamp(-10.0, 10.0)], -1)


def _ant(data: Data) -> Tensor:
    return torch.cat([data.qpos[:, 2:], data.qvel, data.cfrc_ext[:, 1:].clamp(-1.0, 1.0).flatten(1)], -1)


def _humanoid(data: Data) -> Tensor:
    of_bodies = data.cinert[:, 1:].flatten(1), data.cvel[:, 1:].flatten(1)
    return torch.cat([data.qpos[:, 2:], data.qvel, *of_bodies, data.qfrc_actuator[:, 6:], data.cfrc_ext[:, 1:].flatten(1)], -1)


def _always(data: Data) -> Tensor:
    return torch.ones_like(data.qpos[:, 0], dtype=torch.bool)


def _hopper_stands(data: Data) -> Tensor:
    rest = torch.cat([data.qpos[:, 2:], data.qvel], -1)
    return (data.qpos[:, 1] > 0.7) & (data.qpos[:, 2].abs() < 0.2) & (rest.abs() < 100.0).all(-1)


def _walker_stands(data: Data) -> Tensor:
    return (data.qpos[:, 1] > 0.8) & (data.qpos[:, 1] < 2.0) & (data.qpos[:, 2].abs() < 1.0)


def _ant_stands(data: Data) -> Tensor:
    finite = data.qpos.isfinite().all(-1) & data.qvel.isfinite().all(-1)
    return finite & (data.qpos[:, 2] >= 0.2) & (data.qpos[:, 2] <= 1.0)


def _humanoid_stands(data: Data) -> Tensor:
    return (data.qpos[:, 2] > 1.0) & (data.qpos[:, 2] < 2.0)


def _free(data: Data) -> Tensor:
    return torch.zeros_like(data.qpos[:, 0])


def _ant_contact(data: Data) -> Tensor:
    return 5e-4 * data.cfrc_ext.clamp(-1.0, 1.0).square().sum((1, 2))


def _humanoid_contact(data: Data) -> Tensor:
    return (5e-7 * data.cfrc_ext.square().sum((1, 2))).clamp(max=10.0)


ROBOTS = {
    "HalfCheetah-v5": Robot(
        _root, _joints, _always, _free, forward=1.0, survive=0.0, ctrl=0.1, noise=0.1, normal=True, bodies=False
    ),
    "Hopper-v5": Robot(
        _root, _joints_cut, _hopper_stands, _free, forward=1.0, survive=1.0, ctrl=1e-3, noise=5e-3, normal=False, bodies=False
    ),
    "Walker2d-v5": Robot(
        _root, _joints_cut, _walker_stands, _free, forward=1.0, survive=1.0, ctrl=1e-3, noise=5e-3, normal=False, bodies=False
    ),
    "Ant-v5": Robot(
        _torso, _ant, _ant_stands, _ant_contact, forward=1.0, survive=1.0, ctrl=0.5, noise=0.1, normal=True, bodies=True
    ),
    "Humanoid-v5": Robot(
        _centre_of_mass, _humanoid, _humanoid_stands, _humanoid_contact, forward=1.25, survive=5.0, ctrl=0.1, noise=1e-2, normal=False,
        bodies=True,
    ),
}  # fmt: skip
