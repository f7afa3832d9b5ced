"""Where particles live when actions are a = tanh(u), and the score of pi*(a) = exp(Q(s, a) / alpha) / Z there.

Kernel and W2 term see x = ``coordinate(u)``; ``action(x)`` is a, and log p(x) = Q(s, action(x)) / alpha + ``log_det(x)`` + const.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from wgf.door import told
from wgf.policies.gaussian import tanh_log_det

__all__ = ["SQUASH", "Squash", "barrier", "identity"]


class Squash(NamedTuple):
    """A coordinate x (..., M, A) for the particles: u -> x, x -> a, and x -> the log-volume (..., M) that is added to Q / alpha."""

    coordinate: Callable[[Tensor], Tensor]
    action: Callable[[Tensor], Tensor]
    log_det: Callable[[Tensor], Tensor]

    @told
    def score(self, q: Callable[[Tensor], Tensor], x: Tensor, alpha: Tensor | float) -> tuple[Tensor, Tensor]:
        """Returns Q (..., M) and grad_x log p (..., M, A) at particles x, both held fixed; ``q``: actions (..., M, A) -> Q."""
        at = x.detach().requires_grad_()
        with torch.enable_grad():
            value = q(self.action(at))
            (score,) = torch.autograd.grad((value / alpha + self.log_det(at)).sum(), at)
        return value.detach(), score


@told
def barrier(a: Tensor) -> Tensor:
    """Returns sum log(1 - a^2 + 1e-6), (...): what the public soft Q-learning code adds to Q / alpha at actions a."""
    return torch.log(1.0 - a.square() + 1e-6).sum(-1)


def identity(x: Tensor) -> Tensor:
    """Returns x."""
    return x


# exact: x = u with the volume of tanh, so that the law of a is pi*. soft_q (**Source** the public soft Q-learning code): x = a with
# a barrier at the boundary, which tilts the law to exp(Q / alpha) (1 - a^2).
SQUASH = {"exact": Squash(identity, torch.tanh, tanh_log_det), "soft_q": Squash(torch.tanh, identity, barrier)}
