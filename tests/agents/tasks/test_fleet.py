"""Many copies of a task against one, stepped by hand."""

import pytest
import torch

from wgf.agents.tasks import TASKS
from wgf.agents.tasks.fleet import Fleet, Within

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", TASKS)
def test_a_step_is_the_tasks_own_and_an_end_begins_anew(name):
    fleet, task, ended_before = Fleet(name, 6, CPU), TASKS[name], False
    obs = fleet.reset([3, 4])
    assert obs.shape == (2, 6, fleet.obs_size)
    generator = torch.Generator().manual_seed(0)
    for _ in range(120):
        before, age = fleet.state, fleet.age.clone()
        action = 2.0 * torch.rand(2, 6, task.action_size, generator=generator) - 1.0
        outcome = fleet.step(action)
        state, reward, terminated = task.advance(before, action)
        torch.testing.assert_close(outcome.next_obs, task.observe(state), rtol=0, atol=0)
        torch.testing.assert_close(outcome.reward, reward, rtol=0, atol=0)
        assert torch.equal(outcome.terminated, terminated)
        assert torch.equal(outcome.truncated, (age + 1 == task.horizon) & ~terminated)
        assert torch.equal(outcome.obs, task.observe(fleet.state))
        assert torch.equal(fleet.state[fleet.age > 0], state[fleet.age > 0])
        ended = terminated | outcome.truncated
        assert torch.equal(ended, fleet.age == 0)
        assert (fleet.state != state).any(-1)[ended].all()
        ended_before |= bool(terminated.any())
    assert ended_before == (name not in ("DoublePendulum", "PointWall"))


@pytest.mark.parametrize("name", TASKS)
def test_as_machine_code_a_step_is_recorded_once_and_the_same(name, recordings):
    plain, quick = Fleet(name, 6, CPU), Fleet(name, 6, CPU, compile=True)
    torch.testing.assert_close(quick.reset([3, 4]), plain.reset([3, 4]), rtol=0, atol=0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        action = 2.0 * torch.rand(2, plain.task.action_size, 6, generator=generator).mT - 1.0  # not contiguous
        for found, expected in zip(quick.step(action), plain.step(action), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)
        torch.testing.assert_close(quick.snapshot()["age"], plain.snapshot()["age"], rtol=0, atol=0)
    assert len(recordings) == 1


def test_a_time_limit_truncates_and_an_end_at_the_limit_is_an_end():
    fleet, horizon = Fleet("DoublePendulum", 2, CPU), TASKS["DoublePendulum"].horizon
    fleet.reset([0])
    outcomes = [fleet.step(torch.zeros(1, 2, 1)) for _ in range(horizon + 1)]
    assert [bool(o.truncated.all()) for o in outcomes] == [False] * (horizon - 1) + [True, False]
    cart = Fleet("CartPole", 1, CPU)
    cart.reset([0])
    cart.age.fill_(horizon - 1)
    cart.state[..., 0] = 5.0
    outcome = cart.step(torch.zeros(1, 1, 1))
    assert outcome.terminated.all()
    assert not outcome.truncated.any()
    assert cart.age.item() == 0


def test_a_seed_of_a_stack_starts_and_starts_again_as_it_does_alone():
    stack, alone = Fleet("CartPole", 3, CPU), Fleet("CartPole", 3, CPU)
    assert torch.equal(stack.reset([7, 8])[1:], alone.reset([8]))
    for _ in range(60):
        action = torch.ones(2, 3, 1)
        assert torch.equal(stack.step(action).obs[1:], alone.step(action[1:]).obs)


def test_after_a_common_start_an_end_begins_there_again_and_else_at_a_start_of_its_own():
    horizon = TASKS["PointWall"].horizon
    for common in (None, 5):
        fleet = Fleet("PointWall", 3, CPU)
        fleet.reset([0, 1], common=common)
        first = fleet.state.clone()
        for _ in range(horizon):
            outcome = fleet.step(torch.ones(2, 3, 2))
        assert outcome.truncated.all()
        assert (fleet.state == first).flatten(1).all().item() is (common is not None)
        assert (fleet.age == 0).all()


def test_the_starts_of_several_steps_are_those_of_the_steps_one_by_one():
    together, alone = Fleet("CartPole", 3, CPU), Fleet("CartPole", 3, CPU)
    together.reset([7, 8]), alone.reset([7, 8])
    assert torch.equal(together.starts(4), torch.cat([alone.starts() for _ in range(4)]))


@pytest.mark.parametrize("common", [None, 3])
def test_environments_that_stand_within_more_begin_as_these_do_and_begin_anew_as_they_do(common):
    whole, part = Fleet("CartPole", 5, CPU), Fleet("CartPole", 2, CPU, within=Within(1, 5))
    obs, mine = whole.reset([0, 4], common), part.reset([0, 4], common)
    for step in range(60):  # a pole that nobody holds falls sooner
        assert torch.equal(mine, obs[:, 1:3]), step
        action = torch.sin(obs[..., :1] + torch.arange(5.0)[:, None])
        outcome, own = whole.step(action), part.step(action[:, 1:3])
        assert torch.equal(own.terminated, outcome.terminated[:, 1:3])
        obs, mine = outcome.obs, own.obs
    assert part.age.max() < 60
