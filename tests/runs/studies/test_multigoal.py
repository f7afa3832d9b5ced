"""The multi-goal task by hand, and its recipe from the command line."""

import numpy as np
import pytest

from wgf.runs.command.cli import run
from wgf.runs.studies.multigoal import HORIZON, MultiGoal


def test_reward_is_minus_thirty_times_the_action_and_the_distance_to_the_nearest_goal():
    task = MultiGoal(2)
    task.reset([0, 1])
    task.at[:] = [[1.0, 0.5], [0.0, -3.0]]
    step = task.step(np.array([[0.5, -0.5], [0.0, 1.0]], dtype=np.float32))
    expected = [-30.0 * 0.5 - (5.0 - 1.5) ** 2, -30.0 - (5.0 - 2.0) ** 2]
    np.testing.assert_allclose(step.reward, expected, rtol=1e-6)
    np.testing.assert_allclose(step.next_obs, [[1.5, 0.0], [0.0, -2.0]])
    np.testing.assert_array_equal(step.obs, step.next_obs)
    assert not (step.terminated | step.truncated).any()


@pytest.mark.parametrize("goal", [(5.0, 0.0), (-5.0, 0.0), (0.0, 5.0), (0.0, -5.0)])
def test_within_distance_one_of_a_goal_an_episode_ends_with_ten_more(goal):
    task = MultiGoal(1)
    task.reset([0])
    task.at[:] = 0.7 * np.array(goal)
    outside = task.step(np.zeros((1, 2), dtype=np.float32))
    assert outside.reward[0] == pytest.approx(-(1.5**2))
    assert not outside.terminated[0]
    task.at[:] = 0.9 * np.array(goal)
    inside = task.step(np.zeros((1, 2), dtype=np.float32))
    assert inside.reward[0] == pytest.approx(10.0 - 0.5**2)
    assert inside.terminated[0]
    np.testing.assert_allclose(inside.next_obs, [0.9 * np.array(goal)], rtol=1e-6)
    assert np.linalg.norm(inside.obs) < 1.0  # the next episode's start


def test_a_time_limit_truncates_and_walls_stop_the_point():
    task = MultiGoal(1)
    task.reset([0])
    task.at[:] = [[6.8, 6.8]]
    steps = [task.step(np.ones((1, 2), dtype=np.float32)) for _ in range(HORIZON)]
    assert [bool(s.truncated[0]) for s in steps] == [False] * (HORIZON - 1) + [True]
    np.testing.assert_allclose(steps[0].next_obs, [[7.0, 7.0]])


def test_points_start_about_the_origin_each_from_its_own_seed():
    starts = MultiGoal(4000).reset(range(4000))
    assert starts.std(0) == pytest.approx([0.1, 0.1], rel=4.0 / np.sqrt(2 * 4000))
    np.testing.assert_array_equal(MultiGoal(1).reset([7])[0], starts[7])


def test_the_recipe_writes_a_figure_and_a_count_of_goals(tmp_path, capsys):
    out = tmp_path / "mg"
    assert run(["multigoal", "--agents", "dp-wgf", "--seeds", "2", "--steps", "2002", "--episodes", "2", "--out", str(out)]) == 0
    assert (out / "dp-wgf.png").read_bytes().startswith(b"\x89PNG")
    table = (out / "goals.md").read_text()
    assert table in capsys.readouterr().out
    counts = [line.split("|") for line in table.splitlines()[2:]]
    assert [c[2].strip() for c in counts] == ["0", "1"]
    assert all(sum(map(int, c[3].split())) <= 2 for c in counts)
    assert run(["multigoal", "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err
