"""CartPole, its swing-up and the double pendulum of rllab as equations of motion, for any number of states at once.

**Source** Duan et al. 2016, "Benchmarking deep reinforcement learning for continuous control", and its public code, whose bodies are
rectangles in Box2D: masses and moments of inertia follow from their sizes and densities, gravity is Box2D's 10. Positions and angles are
the joints' own, so joints never stretch. Departs: Box2D solves the joints by iterations; here the equations of motion are solved.

A state is (*b, 4): two positions, two velocities. Angles are in radians, anticlockwise, unbounded. One step is semi-implicit Euler,
v <- v + dt a(q, v), q <- q + dt v, as in Box2D, which also cuts what turns at a quarter turn per step.
"""

import math

import torch
from torch import Tensor

from wgf.agents.tasks.task import Drawing, Task, normal

__all__ = ["TASKS", "CartPole", "DoublePendulum", "SwingUp", "advance"]

GRAVITY = 10.0  # m / s^2


class CartPole:
    """A pole of 1 m and 0.1 kg stands on a cart of 1 kg that a force of up to 10 N moves; it must not fall.

    State (x, theta, x', theta'), theta = 0 upright. With l = 1/2 to the pole's centre and J = I + m l^2 about its foot:

        (M + m) x'' - m l cos(theta) theta'' = F - m l sin(theta) theta'^2
        J theta'' - m l cos(theta) x'' = m g l sin(theta)

    Observation (x, x', theta, theta'). Reward 10 - (1 - cos theta) - 1e-5 F^2, and 0 at the end, where |x| > 2.4 or |theta| > 0.2.
    Starts uniform within a twentieth of (2.4, 4, 0.2, 4) for (x, x', theta, theta'). Steps of 0.05 s.
    """

    obs_size, action_size, state_size, start_size, limit = 4, 1, 4, 4, 10.0
    horizon, seconds, view = 500, 0.05, 3.4
    dt, repeats = 0.05, 1
    cart, pole, length = 1.0, 0.1, 1.0
    width = 0.1
    bounds = (2.4, 0.2)

    def start(self, u: Tensor) -> Tensor:
        """First states from u (*b, 4), uniform on (0, 1)."""
        return 0.05 * (2.0 * u - 1.0) * u.new_tensor([2.4, 0.2, 4.0, 4.0])

    def accelerate(self, state: Tensor, force: Tensor) -> Tensor:
        """(x'', theta''), (*b, 2), under a force (*b, 1) in N."""
        theta, speed = state[..., 1], state[..., 3]
        ml, j = 0.5 * self.pole * self.length, _inertia(self.pole, self.length, self.width)
        sine, pull = theta.sin(), ml * theta.cos()
        push, weight = force[..., 0] - ml * sine * speed.square(), GRAVITY * ml * sine
        determinant = (self.cart + self.pole) * j - pull.square()
        return torch.stack([(j * push + pull * weight) / determinant, ((self.cart + self.pole) * weight + pull * push) / determinant], -1)

    def advance(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(state (*b, 4), reward (*b,), ended (*b,)) after one step of actions (*b, 1), in units of the limit."""
        return advance(self, state, action)

    def observe(self, state: Tensor) -> Tensor:
        """(x, x', theta, theta'), (*b, 4)."""
        return state[..., [0, 2, 1, 3]]

    def ended(self, state: Tensor) -> Tensor:
        """Whether the cart left its track or the pole fell, (*b,)."""
        return (state[..., 0].abs() > self.bounds[0]) | (state[..., 1].abs() > self.bounds[1])

    def reward(self, state: Tensor, force: Tensor) -> Tensor:
        """Of the state that a force led to, (*b,)."""
        standing = 10.0 - (1.0 - state[..., 1].cos()) - 1e-5 * force.square().sum(-1)
        return torch.where(self.ended(state), 0.0, standing)

    def joints(self, state: Tensor) -> Tensor:
        """Ends of what moves, from foot to tip, (*b, 2, 2) in metres."""
        foot = torch.stack([state[..., 0], torch.zeros_like(state[..., 0])], -1)
        return torch.stack([foot, foot + self.length * torch.stack([-state[..., 1].sin(), state[..., 1].cos()], -1)], -2)

    def drawing(self, state: Tensor) -> Drawing:
        """Its links, and the joints on which they turn."""
        return _links(self.joints(state))


class SwingUp(CartPole):
    """The same cart and pole; the pole hangs at first and is to be swung up.

    Reward cos(theta), and -100 at the end, where |x| > 3. Starts uniform: |x| < 1, |x'| < 2, |theta - pi| < 1, |theta'| < 3.
    """

    bounds = (3.0, math.inf)

    def start(self, u: Tensor) -> Tensor:
        """First states from u (*b, 4), uniform on (0, 1)."""
        return (2.0 * u - 1.0) * u.new_tensor([1.0, 1.0, 2.0, 3.0]) + u.new_tensor([0.0, math.pi, 0.0, 0.0])

    def reward(self, state: Tensor, force: Tensor) -> Tensor:
        """Of the state that a force led to, (*b,)."""
        return torch.where(self.ended(state), -100.0, state[..., 1].cos())


class DoublePendulum:
    """Two links of 1 m and 0.5 kg hang from a fixed point; a torque of up to 50 N m between them is to hold the tip 2 m above it.

    State (theta_1, theta_2, theta_1', theta_2'), each link's own angle, 0 where it hangs. With a = L/2, J = I + m a^2 about a link's
    end and d = theta_1 - theta_2:

        (J + m L^2) theta_1'' + m L a cos(d) theta_2'' = -tau - m L a sin(d) theta_2'^2 - (m a + m L) g sin(theta_1)
        J theta_2'' + m L a cos(d) theta_1'' = tau + m L a sin(d) theta_1'^2 - m a g sin(theta_2)

    Observation (sin theta_1, cos theta_1, theta_1', sin theta_2, cos theta_2, theta_2'). Reward -|tip - (0, 2 L)|. Departs: the public code
    takes the second link's sideways offset with the other sign. No end. Starts normal, deviations (0.1, 0.1, 0.01, 0.01). Steps of 0.02 s,
    each of two.
    """

    obs_size, action_size, state_size, start_size, limit = 6, 1, 4, 4, 50.0
    horizon, seconds, view = 500, 0.02, 3.4
    dt, repeats = 0.01, 2
    link, length, width = 0.5, 1.0, 0.1

    def start(self, u: Tensor) -> Tensor:
        """First states from u (*b, 4), uniform on (0, 1)."""
        return normal(u) * u.new_tensor([0.1, 0.1, 0.01, 0.01])

    def accelerate(self, state: Tensor, torque: Tensor) -> Tensor:
        """(theta_1'', theta_2''), (*b, 2), under a torque (*b, 1) in N m."""
        first, second, speed, other = state.unbind(-1)
        ma, ml = 0.5 * self.link * self.length, self.link * self.length
        j = _inertia(self.link, self.length, self.width)
        sine, b = ma * self.length * (first - second).sin(), ma * self.length * (first - second).cos()
        one = -torque[..., 0] - sine * other.square() - (ma + ml) * GRAVITY * first.sin()
        two = torque[..., 0] + sine * speed.square() - ma * GRAVITY * second.sin()
        upper = j + ml * self.length
        determinant = upper * j - b.square()
        return torch.stack([(j * one - b * two) / determinant, (upper * two - b * one) / determinant], -1)

    def advance(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(state (*b, 4), reward (*b,), ended (*b,)) after one step of actions (*b, 1), in units of the limit."""
        return advance(self, state, action)

    def observe(self, state: Tensor) -> Tensor:
        """Sines, cosines and speeds, (*b, 6)."""
        first, second, speed, other = state.unbind(-1)
        return torch.stack([first.sin(), first.cos(), speed, second.sin(), second.cos(), other], -1)

    def ended(self, state: Tensor) -> Tensor:
        """Never, (*b,)."""
        return torch.zeros_like(state[..., 0], dtype=torch.bool)

    def reward(self, state: Tensor, torque: Tensor) -> Tensor:
        """Of the state that a torque led to, (*b,)."""
        tip = self.joints(state)[..., -1, :]
        return -torch.hypot(tip[..., 0], tip[..., 1] - 2.0 * self.length)

    def joints(self, state: Tensor) -> Tensor:
        """Ends of the links, from the fixed point to the tip, (*b, 3, 2) in metres."""
        steps = self.length * torch.stack([state[..., :2].sin(), -state[..., :2].cos()], -1)
        return torch.cat([torch.zeros_like(steps[..., :1, :]), steps.cumsum(-2)], -2)

    def drawing(self, state: Tensor) -> Drawing:
        """Its links, and the joints on which they turn."""
        return _links(self.joints(state))


Pendulum = CartPole | DoublePendulum  # a swing-up is a CartPole
TASKS: dict[str, Task] = {"CartPole": CartPole(), "CartPoleSwingUp": SwingUp(), "DoublePendulum": DoublePendulum()}


def advance(task: Pendulum, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(state, reward, ended) after one step of actions (*b, 1) in (-1, 1), in units of the limit; beyond is cut."""
    drive = task.limit * action.clamp(-1.0, 1.0)
    for _ in range(task.repeats):
        velocity = state[..., 2:] + task.dt * task.accelerate(state, drive)
        velocity = velocity.clamp(-0.5 * math.pi / task.dt, 0.5 * math.pi / task.dt)
        state = torch.cat([state[..., :2] + task.dt * velocity, velocity], -1)
    return state, task.reward(state, drive), task.ended(state)


def _links(joints: Tensor) -> Drawing:
    """Lines between neighbours of joints (J, 2), and dots on all but the last."""
    return Drawing(torch.stack([joints[:-1], joints[1:]], -2), joints[:-1])


def _inertia(mass: float, length: float, width: float) -> float:
    """Of a rectangle about the middle of its short side: m (w^2 + L^2) / 12 + m (L / 2)^2."""
    return mass * (width**2 + length**2) / 12.0 + mass * (0.5 * length) ** 2
