"""The settings of a fit, and what they may be."""

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np

from wgf.bnn import flows
from wgf.bnn.model import Model, Prior
from wgf.bnn.network import Net
from wgf.shown import shown
from wgf.transport import VELOCITIES, W2Name

__all__ = ["LARGEST", "Settings"]

LARGEST = 10**18  # of a whole number: tensors count no further
MOST = 1e30  # of other numbers: float32 holds them and their products
FLAGS = (True, False)
MOST_LAYERS = 100  # of hidden units: more of them cost time and train nothing


@dataclass(frozen=True)
class Settings:
    """A fit's settings; the defaults are those of the papers where they give one."""

    flow: Literal["wgf", "svgd", "smi", "blob", "langevin", "ensemble", "dropout"] = "wgf"
    """wgf, svgd, blob, langevin move particles to the posterior; smi: Gaussians, whose mixture is the posterior; ensemble: MAP fits side
    by side; dropout: draws of one MAP fit with it."""
    hidden: tuple[int, ...] = (50,)
    """ReLU units, layer by layer."""
    particles: int = 20
    """Networks a data set, and for the flow smi Gaussians over networks."""
    iterations: int = 2000
    """Minibatch steps."""
    batch: int = 100
    """Rows of a minibatch."""
    lr: float = 1e-3
    """RMSProp's step size, at first."""
    anneal: bool = True
    """The step size falls linearly to nothing; otherwise it stays, as in the papers."""
    w2: W2Name = "exact"
    """W2 velocity of the flow wgf."""
    w2_scale: float = 0.4
    """Its factor: 1 / h for the transport maps, the paper's epsilon for Eq. 9's forms."""
    inner_steps: int = 5
    """Steps a JKO iterate of the flow wgf. A W2 velocity that vanishes at the iterate, any but Eq. 9's, takes more than one."""
    dropout: float = 0.05
    """Probability with which the flow dropout leaves a unit out."""
    draws: int = 10
    """Networks that the flow smi draws from each Gaussian, at every step and at last for what it predicts."""
    centred: bool = False
    """Particles hold the weights themselves, as in the papers, where a long fit slides towards zero weights; or z = W sqrt(lambda)."""
    keep: Literal["best", "last"] = "best"
    """For each data set, of LOOKS looks at the fit the one with the best dev part; or the last."""
    prior_shape: float = 1.0
    """Shape of the Gamma priors on the precisions."""
    prior_rate: float = 0.1
    """Their rate."""

    def __post_init__(self) -> None:
        for name, allowed in {
            "flow": flows.FLOWS,
            "w2": tuple(VELOCITIES),
            "keep": ("best", "last"),
            "anneal": FLAGS,
            "centred": FLAGS,
        }.items():
            value = getattr(self, name)
            if not isinstance(value, (str, bool, np.bool_)) or value not in allowed:
                raise ValueError(f"{name} is {shown(value)}; choose from {', '.join(map(str, allowed))}")
        if not isinstance(self.hidden, (tuple, list)):
            raise ValueError(f"hidden is {shown(self.hidden)}; allowed are whole numbers, one a layer")
        if len(self.hidden) > MOST_LAYERS:
            raise ValueError(f"hidden has {len(self.hidden)} layers; allowed are at most {MOST_LAYERS}")
        whole = {name: getattr(self, name) for name in ("particles", "iterations", "batch", "inner_steps", "draws")}
        for name, value in {**whole, **{f"hidden[{i}]": units for i, units in enumerate(self.hidden)}}.items():
            if not (_within(value, Integral, LARGEST) and value >= 1):
                raise ValueError(f"{name} is {shown(value)}; allowed is a whole number of at least 1, with at most 18 digits")
        for name in ("lr", "prior_shape", "prior_rate", "w2_scale"):
            value, least = getattr(self, name), " or 0" if name == "w2_scale" else ""
            if not (_within(value, Real, MOST) and (value > 0.0 or least)):
                raise ValueError(f"{name} is {shown(value)}; allowed is a positive, finite number{least}, at most {MOST:g}")
        if not (_within(self.dropout, Real, 1.0) and self.dropout < 1.0):
            raise ValueError(f"dropout is {shown(self.dropout)}; allowed is a number from 0 to below 1")

    @property
    def networks(self) -> int:
        """How many networks predict."""
        return self.particles * self.draws if self.flow == "smi" else self.particles

    def model(self, features: int, outputs: int = 1) -> Model:
        """The networks of a data set, and their prior."""
        net = Net((features, *self.hidden, outputs))
        return Model(net, self.networks, self.centred, Prior(self.prior_shape, self.prior_rate))


def _within(value: Any, kind: type, most: float) -> bool:
    """Whether it is a number of the kind from 0 to ``most``."""
    return isinstance(value, kind) and not isinstance(value, bool) and 0 <= value <= most  # type: ignore[operator]
