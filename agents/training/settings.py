"""What the configurations of agents that learn from a replay have in common. Free of torch, so that a command line can show it at once."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ReplaySettings:
    """Settings of every agent that learns from a replay; the defaults are those of Stable-Baselines3's SAC."""

    hidden: tuple[int, ...] = (256, 256)
    """Hidden units of every network."""
    batch: int = 256
    """Transitions per update and seed."""
    envs: int = 1
    """Environments per seed, stepped together. There is one update per transition, however many environments there are."""
    n_step: int = 1
    """Steps of a return before it bootstraps."""
    lr: float = 3e-4
    """Adam's step size, all networks and the temperature."""
    gamma: float = 0.99
    """Discount."""
    reward_scale: float = 1.0
    """Factor of the reward."""


@dataclass(frozen=True)
class SmoothedSettings(ReplaySettings):
    """Settings of those whose targets are moving averages of their networks."""

    activation: str = "relu"
    """Activation: tanh or relu."""
    tau: float = 0.005
    """Target smoothing: targets move by this share towards the networks at each update."""


@dataclass(frozen=True)
class PaperSettings(SmoothedSettings):
    """Settings of Zhang et al. 2018, Table 5 and Sec. 6.3."""

    hidden: tuple[int, ...] = (128, 128)
    """Hidden units of every network (Table 5)."""
    activation: str = "tanh"
    """Activation: tanh (Sec. 6.3) or relu."""
    batch: int = 64
    """Transitions per update and seed (Table 5)."""
    tau: float = 0.01
    """Target smoothing (Table 5): targets move by this share towards the networks at each update."""
