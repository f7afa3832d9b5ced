"""An environment of one's own: a point on a line is pushed to the origin. Importing this file registers it as Point-v0.

From the folder of this file: wgf train sac --env own_environment:Point-v0 --preset modern --steps 3000
"""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class Point(gymnasium.Env):  # type: ignore[misc]  # gymnasium has no types
    """x <- x + a / 4, with a in (-1, 1) and x(0) uniform on (-1, 1). The reward is -x^2; an episode has 20 steps."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,))
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))
        self.x = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """The first position (1,)."""
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-1.0, 1.0)
        return np.array([self.x], np.float32), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Position, reward, and never an end: the time limit is Gymnasium's."""
        self.x += float(action[0]) / 4.0
        return np.array([self.x], np.float32), -(self.x**2), False, False, {}


gymnasium.register("Point-v0", Point, max_episode_steps=20)
