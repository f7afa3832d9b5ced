"""A point on the plane and four goals: the task on which a policy with one mode finds one goal, and a policy with many finds all.

**Source** Haarnoja et al. 2017, "Reinforcement learning with deep energy-based policies", and its public code; Zhang et al. 2018, Figure 3.
"""

from torch import Tensor

from wgf.agents.tasks.task import Drawing, Task, normal

__all__ = ["GOALS", "TASKS", "MultiGoal", "distances"]

GOALS = ((5.0, 0.0), (-5.0, 0.0), (0.0, 5.0), (0.0, -5.0))
EDGE, NEAR = 7.0, 1.0


class MultiGoal:
    """A point on [-7, 7]^2 moves by its action in [-1, 1]^2; four goals lie at distance 5 from the middle.

        s' = clip(s + a, -7, 7)
        r = -30 |a|^2 - min_g |s' - g|^2, and +10 and the end where min_g |s' - g| < 1

    The observation is the state. Starts are normal about the middle with deviation 0.1. The time limit is 30 steps.
    """

    obs_size = action_size = state_size = start_size = 2
    limit, horizon, seconds, view = 1.0, 30, 0.1, 7.5

    def start(self, u: Tensor) -> Tensor:
        """First states (*b, 2) from u (*b, 2), uniform on (0, 1)."""
        return 0.1 * normal(u)

    def advance(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(state (*b, 2), reward (*b,), ended (*b,)) after one step of actions (*b, 2); beyond (-1, 1) they are cut."""
        move = action.clamp(-1.0, 1.0)
        state = (state + move).clamp(-EDGE, EDGE)
        distance = distances(state).amin(-1)
        ended = distance < NEAR**2
        return state, -30.0 * move.square().sum(-1) - distance + 10.0 * ended, ended

    def observe(self, state: Tensor) -> Tensor:
        """The state itself, (*b, 2)."""
        return state

    def drawing(self, state: Tensor) -> Drawing:
        """The point as a line without length, and the goals as dots."""
        return Drawing(state.expand(1, 2, 2), state.new_tensor(GOALS))


def distances(state: Tensor) -> Tensor:
    """Squared distances of states (*b, 2) to each goal, (*b, 4)."""
    return (state[..., None, :] - state.new_tensor(GOALS)).square().sum(-1)


TASKS: dict[str, Task] = {"MultiGoal": MultiGoal()}
