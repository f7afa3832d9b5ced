"""Humanoid-Stand of the DeepMind Control Suite, several at once as one task: 1, 3 or 5 humanoids, 21, 63 or 105 actions.

**Source** Pfau et al. 2025, "Wasserstein Policy Optimization": replicas side by side, rewarded by the SmoothMin of their rewards.
Needs the extra dm-control.
"""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from wgf.agents.tasks.suite import Suite

__all__ = ["HumanoidStand", "smooth_min"]

Obs = NDArray[np.float64]


def smooth_min(x: NDArray[np.float64], sharpness: float) -> float:
    """sum_i x_i exp(-sharpness x_i) / sum_i exp(-sharpness x_i), x (n,).

    Limits: 0 gives the mean, infinity the least; of one number it is that number. **Source** Degrave et al. 2022 and its public code,
    whose smooth maximum this is with the exponent's sign changed.
    """
    weight = np.exp(-sharpness * (x - x.min()))
    return float((weight * x).sum() / weight.sum())


class HumanoidStand(gymnasium.Env):  # type: ignore[misc]  # gymnasium has no types
    """``replicas`` humanoids, each in a simulation of its own. Observations and actions are theirs, one after another; reward in [0, 1].

    Departs: WPO's paper, as we have it, names SmoothMin and gives no sharpness; 5 is ours, near the least (of 0 and 1 it is 0.007).
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 40}  # noqa: RUF012  # Gymnasium looks for it on the class

    def __init__(self, replicas: int, sharpness: float = 5.0, render_mode: str | None = None) -> None:
        self.sharpness, self.render_mode = sharpness, render_mode
        self.envs = [Suite("humanoid", "stand", render_mode) for _ in range(replicas)]
        action = self.envs[0].action_space
        self.action_space = gymnasium.spaces.Box(np.tile(action.low, replicas), np.tile(action.high, replicas), dtype=np.float64)
        size = replicas * gymnasium.spaces.flatdim(self.envs[0].observation_space)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float64)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        """The first observation; every humanoid starts from a draw of its own."""
        super().reset(seed=seed)
        seeds = self.np_random.integers(2**31, size=len(self.envs))
        return self._joined([env.reset(seed=int(k))[0] for env, k in zip(self.envs, seeds, strict=True)]), {}

    def step(self, action: Any) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Observation, SmoothMin of the rewards, whether the task ended (never), whether time is up, and each humanoid's reward."""
        outcomes = [env.step(a) for env, a in zip(self.envs, np.split(np.asarray(action), len(self.envs)), strict=True)]
        obs, reward, terminated, truncated, _ = zip(*outcomes, strict=True)
        each = np.array(reward)
        return self._joined(obs), smooth_min(each, self.sharpness), any(terminated), any(truncated), {"rewards": each}

    def render(self) -> NDArray[np.uint8] | None:
        """(480, 480 replicas, 3) with ``render_mode="rgb_array"``: side by side."""
        return None if self.render_mode is None else np.concatenate([env.render() for env in self.envs], 1)

    def close(self) -> None:
        """Frees the renderers."""
        for env in self.envs:
            env.close()

    def _joined(self, obs: Any) -> Obs:
        space = self.envs[0].observation_space
        return np.concatenate([gymnasium.spaces.flatten(space, one) for one in obs])
