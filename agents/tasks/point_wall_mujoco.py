"""The point before a U-shaped wall as MuJoCo computes it: ``wgf.agents.tasks.point_wall`` one at a time, with its renderer."""

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.envs.mujoco import MujocoEnv
from numpy.typing import NDArray

from wgf.agents.tasks.point_wall import GOAL, SKIP, STEP

__all__ = ["MODEL", "PointWallMuJoCo"]

MODEL = Path(__file__).with_name("point_wall.xml")
Obs = NDArray[np.float64]


class PointWallMuJoCo(MujocoEnv):  # type: ignore[misc]  # gymnasium has no types
    """Observation (x, y, angle) and their velocities, (6,); actions in [-1, 1]^2 of 2,000 N; reward minus the distance to the goal."""

    metadata = {"render_modes": ["human", "rgb_array", "depth_array"], "render_fps": round(1.0 / (STEP * SKIP))}  # noqa: RUF012

    def __init__(self, **options: Any) -> None:
        space = spaces.Box(-np.inf, np.inf, (6,), np.float64)
        super().__init__(str(MODEL), SKIP, observation_space=space, camera_name="above", **options)

    def step(self, action: Any) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Observation, reward, False (nothing ends it), False (the time limit is Gymnasium's), and nothing."""
        self.do_simulation(action, self.frame_skip)
        reward = -float(np.linalg.norm(self.data.qpos[:2] - GOAL))
        if self.render_mode == "human":
            self.render()
        return self.state_vector(), reward, False, False, {}

    def reset_model(self) -> Obs:
        """Begins at rest within 0.1 of (0, 0), and returns the observation."""
        start = np.zeros(3)
        start[:2] = self.np_random.uniform(-0.1, 0.1, 2)
        self.set_state(start, np.zeros(3))
        obs: Obs = self.state_vector()
        return obs
