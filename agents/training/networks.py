"""The networks that a configuration asks for."""

from collections.abc import Sequence

from wgf.agents.training.settings import ReplaySettings
from wgf.mlp import MLP, Network
from wgf.policies.critics import CategoricalQ, QNetwork
from wgf.residual import ResidualNetwork

__all__ = ["body", "critic"]


def body(cfg: ReplaySettings, inputs: int, hidden: Sequence[int], out: int, activation: str) -> Network:
    """Returns a network of the kind that is asked for. Raises ValueError for residual blocks of different widths, and for none."""
    if cfg.network == "mlp":
        return MLP((inputs, *hidden, out), activation)
    if len({*hidden}) != 1:
        raise ValueError(f"hidden is {','.join(map(str, hidden))}; residual blocks have one width: give one number for each, all the same")
    return ResidualNetwork((inputs, hidden[0], out), len(hidden), cfg.expansion, cfg.norm, cfg.unit)


def critic(cfg: ReplaySettings, inputs: int, hidden: Sequence[int], activation: str) -> QNetwork:
    """Returns Q of so many numbers, observation and action together."""
    net = body(cfg, inputs, hidden, cfg.atoms, activation)
    return QNetwork(net) if cfg.atoms == 1 else CategoricalQ(net, cfg.atoms, cfg.bound)
