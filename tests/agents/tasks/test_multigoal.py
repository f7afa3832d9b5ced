"""The multi-goal task by hand."""

import pytest
import torch

from wgf.agents.tasks.multigoal import GOALS, MultiGoal, distances

pytestmark = pytest.mark.usefixtures("double")

TASK = MultiGoal()


def test_reward_is_minus_thirty_times_the_action_and_the_distance_to_the_nearest_goal():
    state, action = torch.tensor([[1.0, 0.5], [0.0, -3.0]]), torch.tensor([[0.5, -0.5], [0.0, 1.0]])
    after, reward, ended = TASK.advance(state, action)
    torch.testing.assert_close(reward, torch.tensor([-30.0 * 0.5 - (5.0 - 1.5) ** 2, -30.0 - (5.0 - 2.0) ** 2]))
    torch.testing.assert_close(after, torch.tensor([[1.5, 0.0], [0.0, -2.0]]))
    assert not ended.any()
    assert torch.equal(TASK.observe(after), after)


def test_an_action_beyond_its_range_counts_as_its_end():
    beyond, end = (TASK.advance(torch.zeros(2), torch.tensor(a)) for a in ([3.0, -2.0], [1.0, -1.0]))
    for one, other in zip(beyond, end, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("goal", GOALS)
def test_within_distance_one_of_a_goal_an_episode_ends_with_ten_more(goal):
    state = torch.tensor([0.79, 0.81])[:, None] * torch.tensor(goal)  # 1.05 and 0.95 away
    _, reward, ended = TASK.advance(state, torch.zeros(2, 2))
    assert ended.tolist() == [False, True]
    torch.testing.assert_close(reward, torch.tensor([-(1.05**2), 10.0 - 0.95**2]))


def test_walls_stop_the_point():
    for sign in (1.0, -1.0):
        after, _, _ = TASK.advance(sign * torch.tensor([6.8, 6.8]), sign * torch.ones(2))
        torch.testing.assert_close(after, sign * torch.tensor([7.0, 7.0]))


def test_distances_are_squared_and_in_the_order_of_the_goals():
    torch.testing.assert_close(distances(torch.tensor([1.0, 2.0])), torch.tensor([20.0, 40.0, 10.0, 50.0]))
    assert {tuple(abs(v) for v in goal) for goal in GOALS} == {(5.0, 0.0), (0.0, 5.0)}
    assert len(set(GOALS)) == 4


def test_points_start_normal_about_the_middle():
    u = torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor([1.0, -2.0]))
    torch.testing.assert_close(TASK.start(u), torch.tensor([0.1, -0.2]), atol=1e-12, rtol=1e-9)
    ends = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor([0.5e-6, 1.0 - 0.5e-6]))  # 4.9 from the middle
    torch.testing.assert_close(TASK.start(torch.tensor([0.0, 1.0])), 0.1 * ends, atol=0.0, rtol=1e-6)


def test_the_sizes_and_the_limits_are_those_of_the_task():
    assert (TASK.obs_size, TASK.action_size, TASK.state_size, TASK.start_size) == (2, 2, 2, 2)
    assert (TASK.limit, TASK.horizon) == (1.0, 30)
    lines, dots = TASK.drawing(torch.tensor([1.0, 2.0]))
    assert lines.tolist() == [[[1.0, 2.0], [1.0, 2.0]]]
    assert dots.tolist() == [list(goal) for goal in GOALS]
