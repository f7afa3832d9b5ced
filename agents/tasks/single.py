"""One of the project's own tasks as a Gymnasium environment, float64 inside, with pictures."""

from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from wgf.agents.tasks import TASKS

__all__ = ["DOT", "LINE", "Single"]

SIZE = 320  # pixels of a picture's side
LINE, DOT = 0.015, 0.026  # half the width of a line and the radius of a dot, in half sides of the picture


class Single(gymnasium.Env):  # type: ignore[misc]  # gymnasium has no types
    """A task by its name in ``wgf.agents.tasks.TASKS``. Actions are in the task's own unit, such as N or N m."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012  # Gymnasium looks for it on the class

    def __init__(self, name: str, render_mode: str | None = None) -> None:
        self.metadata = {**self.metadata, "render_fps": round(1.0 / TASKS[name].seconds)}
        self.task, self.render_mode = TASKS[name], render_mode
        limit = np.full(self.task.action_size, self.task.limit, np.float32)
        self.action_space = gymnasium.spaces.Box(-limit, limit)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (self.task.obs_size,))
        self.state = torch.zeros(self.task.state_size, dtype=torch.float64)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """The first observation (D,)."""
        super().reset(seed=seed)
        self.state = self.task.start(torch.from_numpy(self.np_random.random(self.task.start_size)))
        return self._obs(), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Observation, reward, whether it ended, False (the time limit is Gymnasium's), and nothing."""
        scaled = torch.from_numpy(np.asarray(action, np.float64)) / self.task.limit
        self.state, reward, ended = self.task.advance(self.state, scaled)
        return self._obs(), reward.item(), bool(ended), False, {}

    def render(self) -> NDArray[np.uint8] | None:
        """(320, 320, 3) with ``render_mode="rgb_array"``: the task's lines dark, its dots red, height 0 grey."""
        if self.render_mode != "rgb_array":
            return None
        wide = self.task.view
        pixel = wide * (2.0 * (np.arange(SIZE) + 0.5) / SIZE - 1.0)
        x, y = pixel[None, :], -pixel[:, None]
        picture = np.full((SIZE, SIZE, 3), 255, np.uint8)
        picture[np.broadcast_to(np.abs(y) < 2.0 * wide / SIZE, (SIZE, SIZE))] = 170
        lines, dots = (part.numpy() for part in self.task.drawing(self.state))
        for a, b in lines:
            length = max((b - a) @ (b - a), 1e-12)  # a line without length is a point
            along = np.clip(((x - a[0]) * (b - a)[0] + (y - a[1]) * (b - a)[1]) / length, 0.0, 1.0)
            picture[np.hypot(x - a[0] - along * (b - a)[0], y - a[1] - along * (b - a)[1]) < LINE * wide] = 40
        for a in dots:
            picture[np.hypot(x - a[0], y - a[1]) < DOT * wide] = (200, 40, 40)
        return picture

    def _obs(self) -> NDArray[np.float32]:
        return self.task.observe(self.state).numpy().astype(np.float32)
