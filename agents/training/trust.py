"""The Wasserstein trust region of an actor (Zhang et al. 2018, Eq. 9): its particles stay near those of the previous policy."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from wgf.agents.training.settings import SmoothedSettings
from wgf.transport import W2Name

__all__ = ["GENTLE", "TrustSettings", "follow_"]


@dataclass(frozen=True)
class TrustSettings(SmoothedSettings):
    """Settings of agents whose particles are pulled towards the previous policy's."""

    w2: W2Name = "eq9_sum"
    """W2 velocity: Eq. 9 as printed (eq9_sum), its mean, or a transport map to the previous policy's particles."""
    w2_scale: float = 0.4
    """Scale of the Wasserstein trust region (Table 5): epsilon of Eq. 9's forms, 1/h of the transport maps; 0 turns it off."""
    previous: Literal["last", "average"] = "last"
    """Previous policy (App. E.1): the last iterate, or its moving average with rate tau."""


GENTLE: dict[str, Any] = {"w2": "common_noise", "previous": "average"}  # a pull that vanishes at the previous policy, which trails behind


def follow_(cfg: TrustSettings, previous: Tensor, theta: Tensor) -> None:
    """Moves the previous policy's parameters to theta, or by the share tau towards it; both (S, ..., P). Before theta takes its step."""
    previous.lerp_(theta, 1.0 if cfg.previous == "last" else cfg.tau)
