"""Adam on stacked parameters: every seed's slice moves as it would alone, since Adam works entry by entry."""

from collections.abc import Iterable

import torch
from torch import Tensor


def adam(parameters: Iterable[Tensor], lr: float) -> torch.optim.Adam:
    """Fused Adam with its standard settings."""
    return torch.optim.Adam(list(parameters), lr=lr, fused=True)


def descend_(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """One step down the sum over seeds of ``loss`` (S,)."""
    optimizer.zero_grad(set_to_none=True)
    loss.sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
