"""Adam on stacked parameters: every seed's slice moves as it would alone, since Adam works entry by entry."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from wgf.door import traced


class Adam:
    """m <- .9 m + .1 g, v <- .999 v + .001 g^2, theta <- theta - lr m^ / (sqrt(v^) + 1e-8), m^ and v^ corrected for their start at 0.

    **Source** Kingma & Ba 2015, Algorithm 1 with its defaults. On one tensor, by torch's fused kernel and without the bookkeeping of
    torch.optim, which costs more than the step of a small network.
    """

    def __init__(self, theta: Tensor, lr: float) -> None:
        self.theta, self.lr = theta, lr
        self.m, self.v = torch.zeros_like(theta), torch.zeros_like(theta)
        self.steps = torch.zeros((), device=theta.device, dtype=torch.float32)

    def step(self, gradient: Tensor) -> None:
        """One step down the gradient, shaped as theta."""
        self.steps += 1
        if traced():
            return self._plain(gradient)
        torch._fused_adam_(
            [self.theta], [gradient], [self.m], [self.v], [], [self.steps],
            lr=self.lr, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip

    def _plain(self, gradient: Tensor) -> None:
        """The same arithmetic, which a compiler makes one pass of."""
        self.m.lerp_(gradient, 0.1)
        self.v.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        started_m, started_v = (-torch.expm1(self.steps.double() * math.log(beta)) for beta in (0.9, 0.999))  # 1 - beta^steps
        self.theta.sub_(self.lr * (self.m / started_m) / (self.v / started_v).sqrt_().add_(1e-8))


def regress_(adam: Adam, prediction: Tensor, pull_back: Callable[[Tensor], Tensor], target: Tensor) -> Tensor:
    """One step down (1/2) (prediction - target)^2, mean over the minibatch, summed over members: (S, [E,] B) each -> the errors.

    A target (S, B) is that of every member. ``pull_back`` turns a gradient in the prediction into one in theta. ``regression_loss``
    of the errors is what was descended.
    """
    error = prediction - (target if prediction.ndim == target.ndim else target[:, None])
    adam.step(pull_back(error / target.shape[-1]))
    return error


def regression_loss(error: Tensor) -> Tensor:
    """(1/2) error^2, mean over the minibatch, summed over members: (S, [E,] B) -> (S,)."""
    return 0.5 * error.square().mean(-1).reshape(len(error), -1).sum(-1)
