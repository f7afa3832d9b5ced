"""The ITER hybrid scenario of TORAX as one task: heat and drive a plasma for 150 seconds, one action a second.

    import wgf.agents.tasks, gymnasium
    env = gymnasium.make("wgf/IterHybrid-v0")

**Source** the package Gym-TORAX, whose environment gymtorax/IterHybrid-v0 this reads, with its reward and its ends: a step gives at most
1/50 for H98 and 1/150 each for q_min and q95, and Q_fusion / 500; the task ends with its time, or with -1000 where the simulation fails.
Nothing in it is random: a seed changes nothing. A step takes a third to two thirds of a second of one core, the more the
actions jump; a process compiles for half a minute first.

Needs the extra tokamak. Beside this project's command line pip chooses Gym-TORAX 1.0: later ones ask for an older typeguard than tyro does.
"""

from typing import Any, NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray

__all__ = ["IterHybrid", "Part", "command", "observe"]

Obs = NDArray[np.float64]


class Part(NamedTuple):
    """A quantity of the plasma by Gym-TORAX's name, and what it is divided by, so that it is of order one."""

    name: str
    unit: float


PROFILES = (Part("T_e", 10.0), Part("T_i", 10.0), Part("n_e", 1e20), Part("q", 10.0))  # keV, keV, 1 / m^3, 1
RADII = 5  # points of each profile, from the axis to the edge
SCALARS = (Part("Q_fusion", 10.0), Part("H98", 1.0), Part("beta_N", 1.0), Part("li3", 1.0), Part("q95", 10.0), Part("q_min", 1.0))
CURRENT, HORIZON = 15e6, 150.0  # A, s


class IterHybrid(gymnasium.Env):  # type: ignore[misc]  # gymnasium has no types
    """Actions in [-1, 1]^7 are the ranges of plasma current, NBI and ECRH (power, place and width each); the current moves 0.2 MA a second.

    Observation (28,): electron and ion temperature, density and safety factor at five radii, fusion gain, H98, beta_N, internal
    inductance, q95 and q_min, plasma current, and the time, without which the end would come unseen.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012  # Gymnasium looks for it on the class

    def __init__(self, render_mode: str | None = None) -> None:
        import gymtorax

        self.plant, self.render_mode = gymtorax.IterHybridEnv(render_mode, log_level="error"), render_mode
        self.ranges = self.plant.action_space
        size = gymnasium.spaces.flatdim(self.ranges)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (size,), np.float64)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (RADII * len(PROFILES) + len(SCALARS) + 2,), np.float64)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        """The first observation, always the same."""
        super().reset(seed=seed)
        state, _ = self.plant.reset(seed=seed)
        return observe(state, self.plant.current_time), {}

    def step(self, action: Any) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Observation, reward, whether time is up or the simulation failed, False, and what Gym-TORAX says of cut actions."""
        state, reward, ended, truncated, info = self.plant.step(command(action, self.ranges))
        return observe(state, self.plant.current_time), float(reward), bool(ended), bool(truncated), info

    def render(self) -> Any:
        """Gym-TORAX's panel of profiles and scalars with ``render_mode="rgb_array"``."""
        return self.plant.render() if self.render_mode is not None else None

    def close(self) -> None:
        """Frees the panel."""
        self.plant.close()


def command(action: Any, ranges: Any) -> dict[str, NDArray[np.float64]]:
    """Actions in [-1, 1], part after part in the order of a Dict of Boxes -> each part within its Box."""
    low, high = (np.concatenate([getattr(box, side) for box in ranges.values()]) for side in ("low", "high"))
    flat = low + 0.5 * (np.clip(np.asarray(action, np.float64), -1.0, 1.0) + 1.0) * (high - low)
    ends = np.cumsum([box.shape[0] for box in ranges.values()])
    return dict(zip(ranges, np.split(flat, ends[:-1]), strict=True))


def observe(state: Any, time: float) -> Obs:
    """What an agent sees of Gym-TORAX's state, (28,), each number divided by its unit."""
    profiles, scalars = state["profiles"], state["scalars"]
    rows = [_sampled(profiles[part.name]) / part.unit for part in PROFILES]
    numbers = [scalars[part.name][0] / part.unit for part in SCALARS]
    return np.concatenate([*rows, numbers, [profiles["Ip_profile"][-1] / CURRENT, time / HORIZON]]).astype(np.float64)


def _sampled(profile: Any) -> Any:
    return np.asarray(profile)[np.linspace(0, len(profile) - 1, RADII).round().astype(int)]
