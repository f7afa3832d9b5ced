"""Tasks of the DeepMind Control Suite as Gymnasium environments: dm_control/cartpole-swingup-v0, dm_control/humanoid-walk-v0 and so on.

    import wgf.agents.tasks.suite, gymnasium
    env = gymnasium.make("dm_control/cartpole-swingup-v0", render_mode="rgb_array")

**Source** Tassa et al. 2018, "DeepMind Control Suite", and its package. The ids are those of the package Shimmy, whose environments step
alike; these film at the task's own speed, and importing them imports neither manipulation nor locomotion.
"""

import logging
import warnings
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer
from numpy.typing import NDArray

__all__ = ["Suite"]

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it looks for a display
    from dm_control import suite

logging.getLogger("absl").setLevel(logging.ERROR)  # remarks about the suite's own models


class Suite(gymnasium.Env):  # type: ignore[misc]  # gymnasium has no types
    """One task. Observations are a Dict of the suite's own parts, actions have the task's own bounds.

    An episode ends with the suite's time limit, which truncates, or where its discount is 0, which terminates. A seed gives the start
    that ``suite.load(..., task_kwargs={"random": seed})`` gives; without one the start follows from ``np_random``.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012  # Gymnasium looks for it on the class

    def __init__(self, domain: str, task: str, render_mode: str | None = None) -> None:
        self.env, self.render_mode = suite.load(domain, task), render_mode
        self.metadata = {**self.metadata, "render_fps": round(1.0 / self.env.control_timestep())}
        action, parts = self.env.action_spec(), self.env.observation_spec()
        self.action_space = gymnasium.spaces.Box(action.minimum, action.maximum, action.shape, action.dtype)
        boxes = {name: gymnasium.spaces.Box(-np.inf, np.inf, part.shape, np.float64) for name, part in parts.items()}
        self.observation_space = gymnasium.spaces.Dict(boxes)
        self._renderer: MujocoRenderer | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
        """The first observation."""
        super().reset(seed=seed)
        self.env.task.random.seed(int(self.np_random.integers(2**32)) if seed is None else seed)
        return _parts(self.env.reset()), {}

    def step(self, action: Any) -> tuple[dict[str, NDArray[np.float64]], float, bool, bool, dict[str, Any]]:
        """Observation, reward in [0, 1], whether the task ended, whether time is up, and nothing."""
        now = self.env.step(action)
        ended = now.last() and now.discount == 0.0
        return _parts(now), float(now.reward), ended, now.last() and not ended, {}

    def render(self) -> NDArray[np.uint8] | None:
        """(480, 480, 3) with ``render_mode="rgb_array"``, from the task's first camera."""
        if self.render_mode != "rgb_array":
            return None
        if self._renderer is None:
            physics = self.env.physics
            camera = 0 if physics.model.ncam else -1
            self._renderer = MujocoRenderer(physics.model.ptr, physics.data.ptr, width=480, height=480, camera_id=camera)
        return self._renderer.render("rgb_array")  # type: ignore[no-any-return]

    def close(self) -> None:
        """Frees the renderer and the simulator."""
        if self._renderer is not None:
            self._renderer.close()
        self.env.close()


def _parts(now: Any) -> dict[str, NDArray[np.float64]]:
    return {name: np.asarray(part, np.float64) for name, part in now.observation.items()}


for _domain, _task in suite.ALL_TASKS:
    gymnasium.register(f"dm_control/{_domain}-{_task}-v0", "wgf.agents.tasks.suite:Suite", kwargs={"domain": _domain, "task": _task})
