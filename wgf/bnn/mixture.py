"""Stein mixture inference: particles that are Gaussians over a network's numbers, and whose mixture is the posterior.

A component psi = (mean, log std), 2 P numbers, is the law q(theta | psi) = N(mean, diag(std^2)) of theta, the P numbers of one network:
weights and precisions. Components are (S, M, 2P), draws of them (S, M, L, P).
**Source** Ronning, Nalisnick, Ley, Smyth, Hamelryck 2025, "ELBOing Stein" (arXiv 2410.22948).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["draw", "init", "log_densities", "slope"]

START = 0.01  # every std at first. Departs: NumPyro's guides take 0.1, whose noise hides 200 rows for more than 1,500 steps


def init(means: Tensor) -> Tensor:
    """Components (S, M, 2P) around networks (S, M, P)."""
    return torch.cat([means, torch.full_like(means, math.log(START))], -1)


def draw(components: Tensor, xi: Tensor) -> Tensor:
    """theta = mean + std xi, (S, M, L, P), for normal numbers xi of that shape."""
    mean, log_std = components[..., None, :].chunk(2, -1)
    return mean + log_std.exp() * xi


def log_densities(theta: Tensor, components: Tensor) -> Tensor:
    """log q(theta | psi_m) of draws (S, M, L, P) under every component, (S, M, L, M), in float64."""
    mean, log_std = components.double().chunk(2, -1)
    precision = torch.exp(-2.0 * log_std)
    t = theta.double().flatten(1, 2)  # products in float64: |theta - mean|^2 / std^2 is a small difference of large numbers
    square = t.square() @ precision.mT - 2.0 * t @ (mean * precision).mT + (mean.square() * precision).sum(-1)[:, None]
    found = -0.5 * (square + mean.shape[-1] * math.log(2.0 * math.pi)) - log_std.sum(-1)[:, None]
    return found.view(*theta.shape[:-1], -1)


def slope(log_joint: Callable[[Tensor], Tensor], components: Tensor, xi: Tensor) -> Tensor:
    """grad_{psi_j} E_{theta ~ q(.|psi_j)} [ log p(theta, data) - log (1/M) sum_m q(theta | psi_m) ], (S, M, 2P), by the draws of xi
    (S, M, L, P).

    ``log_joint``: theta (S, M L, P) -> log p(theta, data), (S, M L), up to a constant. The gradient goes through the draw and through
    component j's own density; the parameters of the others are held.

    **Source** arXiv 2410.22948, Eq. 9. **Sign** add it. **Limits** M = 1: the gradient of the ELBO of mean-field variational inference;
    std -> 0: the score at the means, and 1, the slope of the entropy, for each log std.
    """
    with torch.enable_grad():
        leaf = components.detach().requires_grad_()
        theta = draw(leaf, xi)
        joint = log_joint(theta.flatten(1, 2))
        mean, log_std = leaf.double().chunk(2, -1)
        own = -0.5 * (xi.double().square() + math.log(2.0 * math.pi)).sum(-1) - log_std.sum(-1)[..., None]
        which = torch.eye(mean.shape[1], dtype=torch.bool, device=mean.device)[:, None]
        each = torch.where(which, own[..., None], log_densities(theta, leaf.detach()))
        elbo = joint.sum() - torch.logsumexp(each, -1).sum()
        return torch.autograd.grad(elbo, leaf)[0] / xi.shape[-2]
