"""An environment of one's own and a callback, from Python: a boat is steered to the middle of a river with a current.

Run it: python examples/from_python.py
"""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from wgf.agents import Agent

Array = NDArray[np.float32]


class River(gymnasium.Env):  # type: ignore[misc]  # gymnasium has no types
    """x <- x + a / 20 + c, with a in metres per second, at most 4, and a current c of 0.05. The reward is -x^2; an episode has 20 steps."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,))
    action_space = gymnasium.spaces.Box(-4.0, 4.0, (1,))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Starts anywhere on (-1, 1)."""
        super().reset(seed=seed)
        self.x, self.t = self.np_random.uniform(-1.0, 1.0), 0
        return np.array([self.x], np.float32), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Position, reward, no end, and the time limit."""
        self.x, self.t = self.x + float(action[0]) / 20.0 + 0.05, self.t + 1
        return np.array([self.x], np.float32), -(self.x**2), False, self.t == 20, {}


def good_enough(step: int, metrics: dict[str, Array], agent: Agent) -> bool:
    """Stops the training once every seed's evaluation returns more than -2.5."""
    return "eval/return" in metrics and bool((metrics["eval/return"] > -2.5).all())


def main() -> Agent:
    """Trains two seeds until they are good enough, and says what they do."""
    agent = Agent("sac", River, seeds=2, preset="modern", hidden=(32,), batch=64, warmup=200, eval_every=200, eval_episodes=20)
    agent.learn(3_000, callback=good_enough)
    print(f"{agent.step} steps; in the middle of the river it steers {agent.predict(np.zeros(1)).item():.2f} m/s against the current")
    return agent


if __name__ == "__main__":
    main()
