"""Many copies of a task against one, stepped by hand."""

import pytest
import torch

from wgf.agents.tasks.fleet import Fleet
from wgf.agents.tasks.pendula import HORIZON, TASKS, advance

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", TASKS)
def test_a_step_is_the_tasks_own_and_an_end_begins_anew(name):
    fleet, ended_before = Fleet(name, 6, CPU), False
    obs = fleet.reset([3, 4])
    assert obs.shape == (2, 6, fleet.obs_size)
    generator = torch.Generator().manual_seed(0)
    for _ in range(120):
        before, action = fleet.state, 2.0 * torch.rand(2, 6, 1, generator=generator) - 1.0
        outcome = fleet.step(action)
        state, reward, terminated = advance(TASKS[name], before, action)
        torch.testing.assert_close(outcome.next_obs, TASKS[name].observe(state), rtol=0, atol=0)
        torch.testing.assert_close(outcome.reward, reward, rtol=0, atol=0)
        assert torch.equal(outcome.terminated, terminated)
        assert not outcome.truncated.any()
        assert torch.equal(outcome.obs, TASKS[name].observe(fleet.state))
        assert torch.equal(fleet.state[~terminated], state[~terminated])
        assert not TASKS[name].ended(fleet.state).any()
        ended_before |= bool(terminated.any())
    assert ended_before == (name != "DoublePendulum")


def test_a_time_limit_truncates_and_an_end_at_the_limit_is_an_end():
    fleet = Fleet("DoublePendulum", 2, CPU)
    fleet.reset([0])
    outcomes = [fleet.step(torch.zeros(1, 2, 1)) for _ in range(HORIZON + 1)]
    assert [bool(o.truncated.all()) for o in outcomes] == [False] * (HORIZON - 1) + [True, False]
    cart = Fleet("CartPole", 1, CPU)
    cart.reset([0])
    cart.age.fill_(HORIZON - 1)
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
