"""A quadruped before a U-shaped wall, behind which lies the goal: Gymnasium's Ant, whose reward leads into the U.

**Source** Pacchiano et al. 2020 (BGES), Sec. 6.2; Moskovitz et al. 2020, Sec. 5, Figure 4 (b).
"""

from typing import Any

import mujoco
import numpy as np
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from numpy.typing import NDArray

__all__ = ["BOXES", "AntWall"]

BOXES = (((4.5, 1.7), (0.5, 0.3)), ((4.5, -1.7), (0.5, 0.3)), ((5.0, 0.0), (0.3, 2.0)))  # centres and half sizes of the wall, m
GOAL, HEIGHT, COLOUR = (15.0, 0.0), 1.0, (0.6, 0.3, 0.2, 1.0)  # half of the wall's height, m
CAMERA = {"distance": 22.0, "elevation": -55.0, "lookat": np.array([6.0, 0.0, 0.0])}


class AntWall(AntEnv):  # type: ignore[misc]  # gymnasium has no types
    """r = -|(x, y) - goal|, of the torso, at (15, 0); 400 steps of 0.05 s, nothing ends an episode before.

    Actions in [-1, 1]^8 are torques at the joints. The observation (107,) is Ant's, with x and y in front: 15 positions, 14 velocities
    and 78 contact forces. It begins near (0, 0), where an ant that stands still has a return of about -6,000.
    Departs: the authors' Ant is Gym's of 2018, with 113 numbers: 84 forces, the world's six among them, which are 0.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(
            default_camera_config=CAMERA, terminate_when_unhealthy=False, exclude_current_positions_from_observation=False, **options
        )

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """Gymnasium's, with the boxes in its world."""
        spec = mujoco.MjSpec.from_file(self.fullpath)
        for centre, half in BOXES:
            place = {"pos": (*centre, HEIGHT), "size": (*half, HEIGHT)}
            spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, conaffinity=1, rgba=COLOUR, **place)  # as the floor: ants touch it
        size = spec.visual.global_
        size.offwidth, size.offheight = max(size.offwidth, self.width), max(size.offheight, self.height)
        model = spec.compile()
        return model, mujoco.MjData(model)

    def step(self, action: Any) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        """Observation, reward, False (nothing ends it), False (the time limit is Gymnasium's), and where the torso is."""
        self.do_simulation(action, self.frame_skip)
        x, y = self.data.body(self._main_body).xpos[:2]
        if self.render_mode == "human":
            self.render()
        return self._get_obs(), -float(np.hypot(x - GOAL[0], y - GOAL[1])), False, False, {"x_position": x, "y_position": y}
