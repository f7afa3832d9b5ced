"""Adam on stacked parameters, and one step down a loss: every seed's slice moves as it would alone."""

import math
from collections.abc import Callable
from typing import Any, TypeVar, overload

import torch
from torch import Tensor

from wgf.door import traced
from wgf.residual import learning

__all__ = ["Adam", "descend_", "gradients", "train_"]

Seen = TypeVar("Seen")
Function = TypeVar("Function", bound=Any)  # a policy or a critic, with its network as ``net``


class Adam:
    """m <- .9 m + .1 g, v <- .999 v + .001 g^2, theta <- theta - lr m^ / (sqrt(v^) + 1e-8), m^ and v^ corrected for their start at 0.

    ``theta`` is what it moves, in place. ``fall``: steps over which lr falls by half a cosine to lr / 2, where it stays; 0: lr is constant.
    ``each``: every vector of theta (*stack, P) counts its steps by itself, and may take one alone.
    **Source** Kingma & Ba 2015, Algorithm 1 with its defaults. On one tensor, by torch's fused
    kernel and without the bookkeeping of torch.optim, which costs more than the step of a small network.
    """

    def __init__(self, theta: Tensor, lr: float, fall: int = 0, each: bool = False) -> None:
        self.theta, self.lr, self.fall = theta, lr, fall
        self.m, self.v = torch.zeros_like(theta), torch.zeros_like(theta)
        self.steps = torch.zeros((*theta.shape[:-1], 1) if each else (), device=theta.device, dtype=torch.float32)

    def step(self, gradient: Tensor, only: Tensor | None = None) -> None:
        """Takes one step down the gradient, shaped as theta. (The fused kernel reads memory in its order, whatever the strides.)

        ``only``, with ``each``: the vectors that take it, booleans (*stack, 1); the others stay as they are.
        """
        if only is not None:
            return self._some(gradient, only)
        self.steps += 1
        if traced() or self.theta.is_meta:
            return self._plain(gradient)
        torch._fused_adam_(
            [self.theta], [gradient.contiguous()], [self.m], [self.v], [], [self.steps],
            lr=self.rate(), beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip

    def rate(self) -> Tensor | float:
        """Returns the step size of the step that was begun last."""
        if not self.fall:
            return self.lr
        return self.lr * (0.75 + 0.25 * torch.cos(self.steps.double().clamp_max(self.fall) * (math.pi / self.fall)))

    def _some(self, gradient: Tensor, only: Tensor) -> None:
        """Takes the step of all, and takes back that of those who stay."""
        moving = self.theta, self.m, self.v
        before = [t.clone() for t in moving]
        self.steps += only
        self._plain(gradient)
        for t, old in zip(moving, before, strict=True):
            t.copy_(torch.where(only, t, old))

    def _plain(self, gradient: Tensor) -> None:
        """Does the same arithmetic, which a compiler makes one pass of."""
        self.m.lerp_(gradient, 0.1)
        self.v.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        started_m, started_v = (-torch.expm1(self.steps.double() * math.log(beta)) for beta in (0.9, 0.999))  # 1 - beta^steps
        self.theta.sub_(self.rate() * (self.m / started_m) / (self.v / started_v).sqrt_().add_(1e-8))


@overload
def descend_(adam: Adam, loss: Callable[[Tensor], Tensor]) -> Tensor: ...
@overload
def descend_(adam: Adam, loss: Callable[[Tensor], tuple[Tensor, Seen]]) -> tuple[Tensor, Seen]: ...
def descend_(adam: Adam, loss: Callable[[Tensor], Any]) -> Any:
    """Takes one step of theta down a loss, and returns what ``loss`` returned, detached.

    ``loss``: theta (S, ..., P) -> (S,), a mean within each seed; or that and a tensor or tuple of tensors that are to be seen
    besides. What is differentiated is the sum over seeds, so that no seed moves another.
    """
    (gradient,), found = gradients(loss, adam.theta)
    adam.step(gradient)
    return found


@overload
def train_(adam: Adam, function: Function, loss: Callable[[Function, Tensor], Tensor]) -> Tensor: ...
@overload
def train_(adam: Adam, function: Function, loss: Callable[[Function, Tensor], tuple[Tensor, Seen]]) -> tuple[Tensor, Seen]: ...
def train_(adam: Adam, function: Function, loss: Callable[[Function, Tensor], Any]) -> Any:
    """Takes one step of a policy's or a critic's theta down ``loss(function, theta)``, as ``descend_`` does.

    In the loss the function learns: batch norm takes the statistics of the minibatch. They are remembered after the step.
    """
    learns = learning(function)
    found = descend_(adam, lambda theta: loss(learns, theta))
    if learns is not function:
        learns.net.settle_(adam.theta)
    return found


def gradients(loss: Callable[..., Any], *thetas: Tensor) -> tuple[tuple[Tensor, ...], Any]:
    """Returns the gradient in each theta of the sum over seeds of ``loss(*thetas)``, and what ``loss`` returned, detached."""
    leaves = [theta.detach().requires_grad_() for theta in thetas]
    with torch.enable_grad():
        found = loss(*leaves)
        value = found if isinstance(found, Tensor) else found[0]
        return torch.autograd.grad(value.sum(), leaves), _detached(found)


def _detached(found: Any) -> Any:
    if isinstance(found, Tensor):
        return found.detach()
    parts = [_detached(part) for part in found]
    return type(found)(*parts) if hasattr(found, "_fields") else tuple(parts)
