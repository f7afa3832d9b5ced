"""What the configurations of agents that learn from a replay have in common. Free of torch, so that a command line can show it at once."""

from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "ACTOR", "CRITIC", "SMALL", "SMALL_CRITIC", "STRONG", "TODAY", "ActorSettings", "DelayedSettings", "PaperSettings", "PolicySettings",
    "ReplaySettings", "SmoothedSettings",
]  # fmt: skip


@dataclass(frozen=True)
class ReplaySettings:
    """Settings of every agent that learns from a replay; the defaults are those of Stable-Baselines3's SAC."""

    hidden: tuple[int, ...] = (256, 256)
    """Hidden units of every network."""
    network: Literal["mlp", "residual"] = "mlp"
    """mlp: plain layers, of an activation. residual: a residual block for each hidden layer, all of one width (FlashSAC, Kim et al. 2026),
    of expansion, norm and unit."""
    expansion: int = 4
    """How many times wider a residual block is inside."""
    norm: Literal["batch", "layer"] = "batch"
    """Normalisation in residual blocks: of each unit over the minibatch, or of each row over its units."""
    unit: bool = True
    """Whether the weights of each unit of a residual network are scaled back to length 1 after every step. A Q that is a number then
    reaches some sqrt(width) to both sides of its bias and no further: give atoms, a smaller reward scale, or no unit."""
    atoms: int = 1
    """Atoms of a law of Q, fitted by cross-entropy, with rewards divided so that returns lie within ``bound``. 1: Q is a number."""
    bound: float = 5.0
    """Where the atoms end: they go from -bound to bound."""
    batch: int = 256
    """Transitions per update and seed."""
    envs: int = 1
    """Environments per seed, stepped together. There is one update per transition, however many environments there are."""
    n_step: int = 1
    """Steps of a return before it bootstraps. Where a state has a value for its entropy, the states between have none."""
    lr: float = 3e-4
    """Adam's step size, all networks and the temperature."""
    lr_fall: int = 0
    """Updates of Q over which every step size falls to a half of itself, by half a cosine; then it stays. 0: it never falls."""
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


@dataclass(frozen=True)
class DelayedSettings:
    """Settings of those whose policy may move, and change its noise, more rarely than Q."""

    policy_delay: int = 1
    """Updates of the critics for each update of everything else."""
    held: int = 1
    """Most steps for which the noise of an action that explores is held, so many with a chance as 1 / steps^2; 1: it is never held."""


@dataclass(frozen=True)
class PolicySettings(DelayedSettings):
    """Settings of those whose policy may have a size of its own."""

    policy_hidden: tuple[int, ...] = ()
    """Hidden units of the policy; none given: as ``hidden``."""


@dataclass(frozen=True)
class ActorSettings(PolicySettings):
    """Settings of those whose policy has a density and a temperature of its own."""

    smooth: bool = False
    """Whether log std is kept between -10 and 2 by tanh, else it is cut to -20 ... 2."""
    start_std: float = 0.0
    """Deviation of a fresh policy, before tanh, about; 0: 1, and with smooth e^-4."""
    alpha0: float = 1.0
    """Temperature at the start."""
    entropy_std: float = 0.0
    """Deviation of a Gaussian whose entropy the temperature aims at; 0: it aims at -A."""


# the defaults of ReplaySettings and SmoothedSettings and twin Q, for agents whose own defaults are a paper's
TODAY: dict[str, Any] = {"hidden": (256, 256), "activation": "relu", "batch": 256, "tau": 0.005, "members": 2}
# FlashSAC's (Kim et al. 2026), and the same in a size for a processor: its critic, with the policy beside it, and what an actor with a
# temperature has as well
CRITIC: dict[str, Any] = {
    "hidden": (256, 256),
    "network": "residual",
    "atoms": 101,
    "batch": 512,
    "tau": 0.01,
    "policy_delay": 2,
    "held": 16,
    "lr_fall": 1_000_000,
}
SMALL_CRITIC: dict[str, Any] = CRITIC | {"hidden": (128, 128), "expansion": 2, "batch": 128, "lr_fall": 100_000}
STRONG: dict[str, Any] = CRITIC | {"policy_hidden": (128, 128)}
SMALL: dict[str, Any] = SMALL_CRITIC | {"policy_hidden": (64, 64)}
# but for the start: FlashSAC's policy begins at e^-4, smooth; SAC and the kernel's agents learn sooner from where the temperature aims
ACTOR: dict[str, Any] = {"start_std": 0.15, "alpha0": 0.01, "entropy_std": 0.15}
