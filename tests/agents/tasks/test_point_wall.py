"""The point before a wall: its equations by hand, and beside MuJoCo."""

import math
import xml.etree.ElementTree as ET

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from wgf.agents.tasks import point_wall, point_wall_mujoco
from wgf.agents.tasks.point_wall import BOXES, PointWall

pytestmark = pytest.mark.usefixtures("double")
TASK = PointWall()
A = 2000.0 / (100.0 * math.pi / 6.0)  # m / s^2 of an action of 1


def test_in_free_flight_two_steps_of_the_integrator_push_velocity_first():
    state, action = torch.tensor([1.0, -2.0, 3.0, 0.5]), torch.tensor([0.5, -0.25])
    after, reward, ended = TASK.advance(state, action)
    x, v = np.array([1.0, -2.0]), np.array([3.0, 0.5])
    for _ in range(2):
        v = v + 0.02 * A * action.numpy()
        x = x + 0.02 * v
    np.testing.assert_allclose(after, [*x, *v], rtol=1e-12)
    assert reward.item() == pytest.approx(-math.hypot(x[0] - 25.0, x[1]), rel=1e-12)
    assert not ended
    assert TASK.observe(after).tolist() == [after[0], after[1], 0.0, after[2], after[3], 0.0]
    beyond, end = (TASK.advance(state, torch.tensor(a))[0] for a in ([3.0, -2.0], [1.0, -1.0]))
    assert torch.equal(beyond, end)


def apart(sim, x, v, action):
    """The largest difference of 50 steps in position, angle and velocity between MuJoCo's point and ours; and how many boxes it touched."""
    sim.reset(seed=0)
    sim.set_state(np.array([*x, 0.0]), np.array([*v, 0.0]))
    state, found, touched = torch.tensor([*x, *v]), 0.0, 0
    for a in action:
        obs, reward, ended, cut, _ = sim.step(a)
        state, mine, _ = TASK.advance(state, torch.from_numpy(a))
        found, touched = max(found, np.abs(TASK.observe(state).numpy() - obs).max(), abs(reward - mine.item())), max(touched, sim.data.ncon)
        assert (ended, cut) == (False, False)
    return found, touched


@pytest.fixture(scope="module")
def sim():
    env = gym.make("wgf/PointWallMuJoCo-v0").unwrapped
    yield env
    env.close()


def test_it_is_mujocos_point_in_free_flight_and_at_one_or_two_boxes(sim):
    """In free flight a hundred steps round numbers up to 100 to 1e-14, in another order. At walls MuJoCo's solver stops at 1e-8 of the
    forces, and a contact turns a depth into 1 / 0.04 s of it in speed, which lasts for up to two seconds: 1e-6."""
    rng, seen = np.random.default_rng(0), [0, 0, 0]
    pushed = rng.uniform(-1.0, 1.0, (50, 2))
    assert apart(sim, (0.05, -0.1), (0.0, 0.0), pushed)[0] < 1e-9
    for k in range(120):
        x = rng.uniform([9.0, -4.0], [17.0, 4.0])
        if k % 3 == 0:  # outside the corners, and towards them: there two boxes overlap
            x = np.array([14.8, np.sign(x[1]) * 2.8]) + rng.uniform(0.0, 1.0, 2) * [1.0, np.sign(x[1])]
        if min(np.hypot(*np.maximum(np.abs(x - centre) - half, 0.0)) for centre, half in np.array(BOXES)) < 0.5:
            continue
        v = (np.array([14.0, np.sign(x[1]) * 2.0]) - x) * rng.uniform(1.0, 15.0) if k % 3 == 0 else rng.uniform(-8.0, 8.0, 2)
        found, touched = apart(sim, x, v, np.tile(rng.uniform(-1.0, 1.0, 2), (50, 1)))
        assert found < 1e-6
        seen[touched] += 1
    assert min(seen) > 10


def test_a_ball_inside_a_box_is_pushed_out_by_the_nearest_side():
    still = torch.zeros(2)
    for x, axis, box, sign in (((12.6, 2.1), 1, 0, 1.0), ((12.6, -1.9), 1, 1, 1.0), ((14.2, 0.0), 0, 2, 1.0), ((13.9, 0.0), 0, 2, -1.0)):
        found = point_wall.contacts(torch.tensor(x), still, still)
        depth = abs(x[axis] - BOXES[box][0][axis]) - BOXES[box][1][axis] - 0.5
        expected = torch.zeros(2)
        expected[axis] = sign * -depth / (0.95 * 0.04**2) / (1.0 + 0.05 / 0.95 * 2.0 / 3.0)
        torch.testing.assert_close(found, expected)
    assert torch.equal(point_wall.contacts(torch.tensor([12.0, 0.0]), still, still), still)  # it touches none


def test_a_contact_slows_what_comes_in_and_never_pulls():
    x, still = torch.tensor([13.3, 0.0]), torch.zeros(2)  # 0.1 deep in the back of the U
    for speed, push in ((5.0, 0.0), (5.0, 38.0), (0.0, 0.0)):
        found = point_wall.contacts(x, torch.tensor([speed, 0.0]), torch.tensor([push, 0.0]))
        b = 2.0 / (0.95 * 0.04) * speed + 0.1 / (0.95 * 0.04**2) + push
        assert found[0].item() == pytest.approx(-b / (1.0 + 0.05 / 0.95 * 2.0 / 3.0))
        assert found[1] == 0.0
    assert torch.equal(point_wall.contacts(x, torch.tensor([-50.0, 0.0]), still), still)


def episode(policy):
    """Return and last state of an episode from the middle of the starts."""
    state, total = TASK.start(torch.full((2,), 0.5)), 0.0
    for _ in range(TASK.horizon):
        state, reward, _ = TASK.advance(state, policy(state))
        total += reward.item()
    return total, state


def test_straight_to_the_goal_it_stays_in_the_wall_and_around_it_the_return_is_better():
    straight, state = episode(lambda state: torch.tensor([1.0, 0.0]))
    assert 12.0 < state[0] < 13.6
    assert -780.0 < straight < -750.0
    around, state = episode(lambda s: 0.3 * (torch.tensor([13.0, 4.0] if s[0] < 12.0 else [25.0, 0.0]) - s[:2]) - 0.1 * s[2:])
    assert state[0] > 15.0
    assert around > straight + 150.0


def test_it_begins_at_rest_within_a_tenth_of_the_middle():
    assert TASK.start(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([-0.1, 0.1, 0.0, 0.0])


def test_the_model_of_mujoco_has_the_tasks_numbers():
    root = ET.parse(point_wall_mujoco.MODEL).getroot()
    boxes = [geom for geom in root.iter("geom") if geom.get("type") == "box"]
    places = [[float(v) for v in geom.get(name).split()[:2]] for geom in boxes for name in ("pos", "size")]
    assert places == [list(part) for box in BOXES for part in box]
    assert root.find("option").get("timestep") == str(point_wall.STEP)


def test_gymnasium_finds_nothing_wrong_with_the_one_of_mujoco(sim):
    check_env(sim, skip_render_check=True)
    env = gym.make("wgf/PointWallMuJoCo-v0")
    assert env.spec.max_episode_steps == TASK.horizon
    assert (sim.observation_space.shape, sim.action_space.low.tolist(), sim.action_space.high.tolist()) == ((6,), [-1.0] * 2, [1.0] * 2)
    first, again = (env.reset(seed=3)[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.all(np.abs(first[:2]) < 0.1)
    assert np.all(first[2:] == 0.0)
    assert env.metadata["render_fps"] == 25


def test_a_picture_shows_ball_wall_and_goal():
    env = gym.make("wgf/PointWall-v0", render_mode="rgb_array").unwrapped
    env.reset(seed=0)
    env.state = torch.tensor([6.0, 5.0, 0.0, 0.0], dtype=torch.float64)
    picture = env.render()

    def at(x, y):
        return tuple(int(v) for v in picture[int(160 - y / 16.0 * 160), int(160 + (x - 12.5) / 16.0 * 160)])

    assert at(6.0, 5.0) == (40, 40, 40)
    assert at(25.0, 0.0) == (200, 40, 40)
    for x, y in ((13.0, 2.3), (13.0, -1.7), (12.0, 2.0), (14.3, 1.0)):
        assert at(x, y) == (40, 40, 40)
    assert at(9.0, 9.0) == (255, 255, 255)
