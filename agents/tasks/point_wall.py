"""A point before a U-shaped wall, behind which lies the goal: a deceptive reward, which leads into the U.

**Source** Pacchiano et al. 2020 (BGES); Moskovitz et al. 2020, Sec. 5, Figure 4 (a).
"""

import math

import torch
from torch import Tensor

from wgf.agents.tasks.task import Drawing, Task

__all__ = ["BOXES", "FORCE", "GOAL", "MASS", "SKIP", "STEP", "TASKS", "PointWall", "contacts"]

BOXES = (((13.0, 2.0), (1.0, 0.3)), ((13.0, -2.0), (1.0, 0.3)), ((14.0, 0.0), (0.3, 2.0)))  # centres and half sizes of the wall, m
GOAL, RADIUS = (25.0, 0.0), 0.5
FORCE, MASS = 2000.0, 100.0 * 4.0 / 3.0 * math.pi * RADIUS**3  # N of an action of 1; kg of a ball of density 100
STEP, SKIP = 0.02, 2  # s of a step of the integrator, and how many of them one action lasts
SETTLE, STIFF = 0.04, 0.95  # s in which a contact settles, and MuJoCo's impedance of one
SOFT = (1.0 - STIFF) / STIFF * 2.0 / 3.0  # rho of a contact: MuJoCo takes 2 / (3 m) for the ball's 1 / m


class PointWall:
    """A ball of radius 0.5 m on the plane, pushed by up to 2,000 N along each axis, without friction; T = 50 steps of 0.04 s.

        v' = v + h (F a / m + contacts),  x' = x + h v'   (h = 0.02 s, twice per action),   r = -|x' - goal|

    A box at the distance d from the ball's surface, d < 0, pushes along the normal n out of it with the force per mass
    f = b / (1 + rho) where b = -2 n'v / (i tau) - d / (i tau^2) - n'F a / m is above 0; tau = 0.04 s, i = 0.95, rho = ``SOFT``; two boxes
    push together. This is MuJoCo's soft contact written out: wgf/PointWallMuJoCo-v0 has the same numbers. It begins at rest within 0.1
    of (0, 0). The observation is (x, y, angle) and their velocities; nothing turns the ball, whose angle stays 0.
    Straight to the goal it ends in the U, with a return of about -764; the published demo of BGES has -775 to -781 there.
    """

    obs_size, action_size, state_size, start_size = 6, 2, 4, 2
    limit, horizon, seconds, view = 1.0, 50, STEP * SKIP, 16.0

    def start(self, u: Tensor) -> Tensor:
        """First states (*b, 4), position and velocity, from u (*b, 2), uniform on (0, 1)."""
        return torch.cat([0.2 * u - 0.1, torch.zeros_like(u)], -1)

    def advance(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(state (*b, 4), reward (*b,), False (*b,)) after one step of actions (*b, 2); beyond (-1, 1) they are cut."""
        x, v = state.chunk(2, -1)
        push = action.clamp(-1.0, 1.0) * (FORCE / MASS)
        for _ in range(SKIP):
            v = v + STEP * (push + contacts(x, v, push))
            x = x + STEP * v
        away = (x - x.new_tensor(GOAL)).norm(dim=-1)
        return torch.cat([x, v], -1), -away, torch.zeros_like(away, dtype=torch.bool)

    def observe(self, state: Tensor) -> Tensor:
        """Position, angle 0, velocity, angular velocity 0, (*b, 6)."""
        x, v = state.chunk(2, -1)
        still = torch.zeros_like(x[..., :1])
        return torch.cat([x, still, v, still], -1)

    def drawing(self, state: Tensor) -> Drawing:
        """The boxes' outlines, the ball as a line without length, and the goal as a dot, about the middle of the way."""
        corners = state.new_tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
        middle = state.new_tensor([0.5 * GOAL[0], 0.0])
        centre, half = state.new_tensor(BOXES).unbind(1)
        edges = centre[:, None] + corners * half[:, None]
        lines = torch.stack([edges, edges.roll(-1, 1)], 2).flatten(0, 1)
        return Drawing(torch.cat([lines, state[:2].expand(1, 2, 2)]) - middle, state.new_tensor([GOAL]) - middle)


def contacts(x: Tensor, v: Tensor, push: Tensor) -> Tensor:
    """Accelerations (*b, 2) by the wall of a ball at x (*b, 2) with velocity v and acceleration ``push``.

    The ball touches the back of the U and one side at most, along normals n_k: forces f >= 0 per mass with
    (1 + rho) f_k + n_k'n_l f_l = b_k, b_k as in ``PointWall``, of each that pushes. The wall is its own mirror image: y counts as |y|.
    """
    mirror = torch.ones_like(x).copysign(x)
    mirror[..., 0] = 1.0
    centre, half = x.new_tensor(BOXES)[[0, 2]].unbind(1)
    apart = (x * mirror)[..., None, :] - centre
    inside = apart.abs() - half  # below 0 along an axis: between the sides
    outside, most = inside.clamp_min(0.0), inside.amax(-1, keepdim=True)
    length = outside.norm(dim=-1, keepdim=True)
    # of a ball whose centre is in a box, along the nearest side's
    normal = torch.where(most > 0.0, outside / length.clamp_min(1e-12), (inside == most).to(x)).copysign(apart)
    depth = (length + most.clamp_max(0.0))[..., 0] - RADIUS
    against = normal * (mirror * (2.0 / (STIFF * SETTLE) * v + push))[..., None, :]
    b = torch.where(depth < 0.0, -against.sum(-1) - depth / (STIFF * SETTLE**2), -torch.inf)
    shared = normal.prod(-2).sum(-1, keepdim=True)
    alone = b.clamp_min(0.0) / (1.0 + SOFT)
    pushes = b > shared * alone.flip(-1)  # beside the other alone
    together = ((1.0 + SOFT) * b - shared * b.flip(-1)) / ((1.0 + SOFT) ** 2 - shared.square())
    force = torch.where(pushes.all(-1, keepdim=True), together, torch.where(pushes, alone, 0.0))
    return (force[..., None] * normal).sum(-2) * mirror


TASKS: dict[str, Task] = {"PointWall": PointWall()}
