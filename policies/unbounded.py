"""Gaussians on all of R^A and mixtures of them, as WPO and MPO have them: mean and std of one network, nothing squashed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from wgf.conjugate import Product
from wgf.door import told
from wgf.mlp import MLP
from wgf.policies.gaussian import GaussianMixture

__all__ = ["Parts", "UnboundedPolicy", "block_fisher", "decoupled_kl", "flat", "unflat"]

LEAST = 1e-6  # std


class Parts(NamedTuple):
    """Of a decoupled KL, what moves means and what moves stds; (..., A) each."""

    mean: Tensor
    std: Tensor


@dataclass(frozen=True)
class UnboundedPolicy:
    """K Gaussians per state, K = 1 for the paper's: the last layer of ``net`` gives K logits, K A means and K A raw stds. theta (S, P).

    std = softplus(raw) std0 / softplus(0) + 1e-6. The last layer starts at a hundredth of its usual size: the first policy is about
    N(0, std0^2) everywhere. Means of several components start apart, spread over N(0, std0^2) by their biases.
    """

    net: MLP
    components: int
    action: int
    std0: float

    @told
    def init(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Makes a fresh theta (S, P)."""
        theta = self.net.init((len(generators),), generators)
        weight, bias = self.net.layers(theta)[-1]
        weight.mul_(0.01), bias.mul_(0.01)
        if self.components > 1:
            means = self.components * self.action
            apart = torch.stack([torch.randn(1, means, generator=g) for g in generators])
            bias[..., self.components : self.components + means] += self.std0 * apart
        return theta

    @told
    def law(self, theta: Tensor, obs: Tensor) -> GaussianMixture:
        """Returns the law of u at states (S, B, D)."""
        k, a = self.components, self.action
        logits, mean, raw = torch.split(self.net(theta, obs), [k, k * a, k * a], -1)
        mean, std = (torch.unflatten(t, -1, (k, a)) for t in (mean, softplus(raw) * (self.std0 / math.log(2.0)) + LEAST))
        return GaussianMixture(logits, mean, std)


@told
def flat(law: GaussianMixture) -> Tensor:
    """Returns (*b, P), P = K (1 + 2 A): logits, means, stds."""
    return torch.cat([law.logits, law.mean.flatten(-2), law.std.flatten(-2)], -1)


@told
def unflat(phi: Tensor, like: GaussianMixture) -> GaussianMixture:
    """Returns the law of ``flat``, with as many components and numbers as ``like``."""
    k, a = like.mean.shape[-2:]
    logits, mean, std = torch.split(phi, [k, k * a, k * a], -1)
    return GaussianMixture(logits, torch.unflatten(mean, -1, (k, a)), torch.unflatten(std, -1, (k, a)))


def block_fisher(law: GaussianMixture) -> Product:
    """Returns the Fisher matrix in ``flat``'s coordinates as if the component of a draw were seen: v -> F v, (*b, P) each.

    diag(w) - w w' in the logits, w_k / std_k^2 in the means and 2 w_k / std_k^2 in the stds. **Limits** the exact one for K = 1 and
    for components that do not overlap.
    """
    w = law.logits.softmax(-1)
    each = w[..., None] / law.std.square()

    @told
    def product(v: Tensor) -> Tensor:
        d = unflat(v, law)
        logits = w * (d.logits - (w * d.logits).sum(-1, keepdim=True))
        return flat(GaussianMixture(logits, each * d.mean, 2.0 * each * d.std))

    return product


def decoupled_kl(target: GaussianMixture, law: GaussianMixture) -> Parts:
    """Returns KL(target || law) with only the mean moved, and with only the std moved; per dimension, (..., A) each.

    (mean' - mean)^2 / (2 std'^2) and log(std / std') + std'^2 / (2 std^2) - 1/2, primes the target's; their sum is the KL up to third
    order. Of mixtures the mean over components, weights w', and a share 1 / A of KL(w' || w) with the first: together an upper bound, up
    to third order.
    **Source** Abdolmaleki et al. 2018 (MPO), App. D.2.
    """
    w = target.logits.softmax(-1)
    moved = (w * (target.logits.log_softmax(-1) - law.logits.log_softmax(-1))).sum(-1, keepdim=True) / law.mean.shape[-1]
    shift, ratio = (law.mean - target.mean) / target.std, target.std / law.std
    of_mean, of_std = 0.5 * shift.square(), 0.5 * (ratio.square() - 1.0) - torch.log(ratio)
    return Parts((w[..., None] * of_mean).sum(-2) + moved, (w[..., None] * of_std).sum(-2))
