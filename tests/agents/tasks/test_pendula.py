"""Equations of motion against the Lagrangian of the bodies, and the rules of each task by hand."""

import math
from functools import partial

import pytest
import torch

from tests.policies.plain import draw
from wgf.agents.tasks.pendula import TASKS, CartPole, DoublePendulum, SwingUp, advance

pytestmark = pytest.mark.usefixtures("double")


def cart_pole(q, mass=0.1, length=1.0, cart=1.0):
    """Centres and angles of the bodies, and their masses and moments of inertia: a cart, and a rectangle that stands on it."""
    x, theta = q
    centre = torch.stack([x - 0.5 * length * torch.sin(theta), 0.5 * length * torch.cos(theta)])
    zero = torch.zeros_like(x)
    return [(torch.stack([x, zero]), zero, cart, 1.0), (centre, theta, mass, mass * (0.1**2 + length**2) / 12.0)]


def double_pendulum(q, mass=0.5, length=1.0):
    """Two rectangles that hang one from the other."""
    ends, bodies = torch.zeros(2, dtype=q.dtype), []
    for theta in q:
        down = length * torch.stack([torch.sin(theta), -torch.cos(theta)])
        bodies.append((ends + 0.5 * down, theta, mass, mass * (0.1**2 + length**2) / 12.0))
        ends = ends + down
    return bodies


def by_lagrange(bodies, state, forces):
    """q'' from d/dt dL/dq' = dL/dq + forces, L = kinetic less potential energy, all derivatives by autograd."""
    q, v = state[:2], state[2:]

    def places(p):
        return torch.cat([torch.cat([centre, angle[None]]) for centre, angle, _, _ in bodies(p)])

    inertia = torch.tensor([[m, m, i] for _, _, m, i in bodies(q)]).flatten()

    def lagrangian(p, w):
        speed = torch.func.jvp(places, (p,), (w,))[1]
        return 0.5 * (inertia * speed**2).sum() - sum(m * 10.0 * centre[1] for centre, _, m, _ in bodies(p))

    mass = torch.func.hessian(lagrangian, argnums=1)(q, v)
    mixed = torch.func.jacfwd(torch.func.grad(lagrangian, argnums=1), argnums=0)(q, v)
    return torch.linalg.solve(mass, torch.func.grad(lagrangian)(q, v) + forces - mixed @ v)


@pytest.mark.parametrize(
    ("task", "bodies", "lever"),
    [(CartPole(), cart_pole, [1.0, 0.0]), (SwingUp(), cart_pole, [1.0, 0.0]), (DoublePendulum(), double_pendulum, [-1.0, 1.0])],
)
def test_accelerations_are_those_of_the_lagrangian(task, bodies, lever):
    states, drives = 2.0 * draw(8, 4, seed=1), 7.0 * draw(8, 1, seed=2)
    expected = torch.stack([by_lagrange(bodies, s, d * torch.tensor(lever)) for s, d in zip(states, drives, strict=True)])
    torch.testing.assert_close(task.accelerate(states, drives), expected, rtol=1e-10, atol=1e-10)


def test_the_equations_hold_for_other_lengths_and_masses():
    """Every length is 1 in the tasks: a factor of it could be missing there unseen."""
    cart, double = CartPole(), DoublePendulum()
    cart.cart, cart.pole, cart.length, double.link, double.length = 1.7, 0.4, 1.3, 0.8, 1.3
    places = (
        (cart, partial(cart_pole, mass=0.4, length=1.3, cart=1.7), [1.0, 0.0]),
        (
            double,
            partial(double_pendulum, mass=0.8, length=1.3),
            [-1.0, 1.0],
        ),
    )
    for task, bodies, lever in places:
        state, drive = 2.0 * draw(4, seed=1), 7.0 * draw(1, seed=2)
        expected = by_lagrange(bodies, state, drive * torch.tensor(lever))
        torch.testing.assert_close(task.accelerate(state, drive), expected, rtol=1e-10, atol=1e-10)
    raised = torch.tensor([0.5 * math.pi, math.pi, 0.0, 0.0])
    torch.testing.assert_close(double.joints(raised), 1.3 * torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]))
    torch.testing.assert_close(double.reward(raised, torch.zeros(1)), torch.tensor(-1.3 * math.sqrt(2.0)))
    torch.testing.assert_close(cart.joints(raised), torch.tensor([[0.5 * math.pi, 0.0], [0.5 * math.pi, -1.3]]))


@pytest.mark.parametrize("name", TASKS)
def test_a_step_lasts_as_long_as_its_parts_and_is_taken_by_the_task_itself(name):
    task, state, action = TASKS[name], 0.1 * draw(5, 4, seed=3), draw(5, 1, seed=4)
    assert task.seconds == pytest.approx(task.dt * task.repeats)
    assert (task.horizon, task.state_size, task.start_size) == (500, 4, 4)
    for method, function in zip(task.advance(state, action), advance(task, state, action), strict=True):
        assert torch.equal(method, function)


@pytest.mark.parametrize("name", TASKS)
def test_a_drawing_joins_neighbouring_joints_and_marks_all_but_the_tip(name):
    state = draw(4, seed=3)
    joints, (lines, dots) = TASKS[name].joints(state), TASKS[name].drawing(state)
    assert torch.equal(lines, torch.stack([torch.stack([joints[k], joints[k + 1]]) for k in range(len(joints) - 1)]))
    assert torch.equal(dots, joints[:-1])


@pytest.mark.parametrize("name", TASKS)
def test_a_step_is_semi_implicit_euler_with_the_action_in_units_of_the_limit(name):
    task, state, action = TASKS[name], 0.1 * draw(5, 4, seed=3), torch.tensor([[0.3], [-1.0], [0.0], [5.0], [-7.0]])
    drive = {"CartPole": 10.0, "CartPoleSwingUp": 10.0, "DoublePendulum": 50.0}[name] * action.clamp(-1, 1)
    expected = state
    for _ in range(2 if name == "DoublePendulum" else 1):
        dt = 0.01 if name == "DoublePendulum" else 0.05
        v = expected[:, 2:] + dt * task.accelerate(expected, drive)
        expected = torch.cat([expected[:, :2] + dt * v, v], -1)
    state, reward, ended = advance(task, state, action)
    torch.testing.assert_close(state, expected)
    torch.testing.assert_close(reward, task.reward(state, drive))
    torch.testing.assert_close(ended, task.ended(state))


def test_nothing_turns_more_than_a_quarter_a_step():
    state = torch.tensor([[0.0, 0.0, 0.0, 1e4], [0.0, 0.0, 0.0, -1e4]])
    moved, _, _ = advance(TASKS["CartPole"], state, torch.zeros(2, 1))
    torch.testing.assert_close(moved[:, 1], torch.tensor([0.5 * math.pi, -0.5 * math.pi]))
    torch.testing.assert_close(moved[:, 3], torch.tensor([10.0 * math.pi, -10.0 * math.pi]))


def test_cart_pole_pays_for_standing_and_ends_where_it_falls():
    task, force = CartPole(), torch.tensor([[10.0], [0.0], [0.0]])
    state = torch.tensor([[0.1, 0.15, 1.0, -2.0], [2.5, 0.0, 0.0, 0.0], [0.0, -0.21, 0.0, 0.0]])
    torch.testing.assert_close(task.reward(state, force), torch.tensor([10.0 - (1.0 - math.cos(0.15)) - 1e-3, 0.0, 0.0]))
    assert task.ended(state).tolist() == [False, True, True]
    assert not task.ended(torch.tensor([2.39, 0.199, 9.0, 9.0]))
    torch.testing.assert_close(task.observe(state)[0], torch.tensor([0.1, 1.0, 0.15, -2.0]))


def test_a_swing_up_pays_for_height_and_ends_at_the_edge():
    task = SwingUp()
    state = torch.tensor([[0.0, math.pi, 0.0, 0.0], [2.9, 0.5, 0.0, 0.0], [-3.1, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(task.reward(state, torch.zeros(3, 1)), torch.tensor([-1.0, math.cos(0.5), -100.0]))
    assert task.ended(state).tolist() == [False, False, True]


def test_a_double_pendulum_pays_for_its_tip_near_the_top_and_never_ends():
    task = DoublePendulum()
    state = torch.tensor([[0.0, 0.0, 3.0, 4.0], [math.pi, math.pi, 0.0, 0.0], [0.5 * math.pi, math.pi, 0.0, 0.0]])
    torch.testing.assert_close(task.reward(state, torch.zeros(3, 1)), torch.tensor([-4.0, 0.0, -math.sqrt(2.0)]))
    assert not task.ended(1e3 * state).any()
    torch.testing.assert_close(task.observe(state)[0], torch.tensor([0.0, 1.0, 3.0, 0.0, 1.0, 4.0]))
    torch.testing.assert_close(task.joints(state)[2], torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]))


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("CartPole", [-0.12, -0.01, -0.2, -0.2], [0.12, 0.01, 0.2, 0.2]),
        ("CartPoleSwingUp", [-1.0, math.pi - 1.0, -2.0, -3.0], [1.0, math.pi + 1.0, 2.0, 3.0]),
    ],
)
def test_carts_start_uniform_between_bounds(name, low, high):
    for u, end in ((0.0, low), (1.0, high)):
        torch.testing.assert_close(TASKS[name].start(torch.full((4,), u)), torch.tensor(end))


def test_a_double_pendulum_starts_normal_about_where_it_hangs():
    u = torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor([1.0, -2.0, 0.5, -1.5]))
    torch.testing.assert_close(TASKS["DoublePendulum"].start(u), torch.tensor([0.1, -0.2, 0.005, -0.015]), atol=1e-12, rtol=1e-9)
    assert TASKS["DoublePendulum"].start(torch.tensor([0.0, 1.0, 0.0, 1.0])).isfinite().all()


def test_a_pole_without_force_keeps_its_energy_as_the_steps_shrink():
    task = SwingUp()

    def drift(dt):
        task.dt, state = dt, torch.tensor([0.0, 2.0, 0.3, 0.0])
        for _ in range(round(1.0 / dt)):
            state, _, _ = advance(task, state, torch.zeros(1))
        return state

    coarse, fine = (drift(dt) - drift(1e-4) for dt in (1e-2, 5e-3))
    assert 1.7 < coarse.norm() / fine.norm() < 2.4  # first order
