"""Gaussians on all of R^A and mixtures of them, as WPO and MPO have them: mean and std of one network, nothing squashed."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from wgf.layernorm import LayerNormMLP
from wgf.mlp import Network
from wgf.policies.gaussian import mixture_log_prob

LEAST = 1e-6  # std


class Law(NamedTuple):
    """sum_k w_k N(mean_k, diag std_k^2), w = softmax(logits), or a gradient in it: (..., K), (..., K, A), (..., K, A)."""

    logits: Tensor
    mean: Tensor
    std: Tensor

    def parts(self, n: int) -> tuple["Law", "Law"]:
        """Those of the first n states (S, n, ...) and of the others."""
        return Law(*(t[:, :n] for t in self)), Law(*(t[:, n:] for t in self))


class Parts(NamedTuple):
    """Of a decoupled KL, what moves means and what moves stds; (..., A) each."""

    mean: Tensor
    std: Tensor


class UnboundedPolicy(Network):
    """K Gaussians a state, K = 1 for the paper's; LayerNorm-tanh-ELU before a last layer of logits, means and raw stds; S seeds.

    std = softplus(raw) std0 / softplus(0) + 1e-6. The last layer starts at a hundredth of its usual size: the first policy is about
    N(0, std0^2) everywhere. Means of several components start apart, spread over N(0, std0^2) by their biases.
    """

    def __init__(
        self, obs: int, action: int, components: int, hidden: Sequence[int], std0: float, generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        self.shape = (components, action)
        self.net = LayerNormMLP([len(generators)], [obs, *hidden, components * (1 + 2 * action)], generators)
        self.scale = std0 / math.log(2.0)
        weight, bias = self.net.layers(self.net.theta)[-1]
        weight.mul_(0.01), bias.mul_(0.01)
        if components > 1:
            apart = torch.stack([torch.randn(1, components * action, generator=g) for g in generators])
            bias[..., components : components * (1 + action)] += std0 * apart

    def forward(self, obs: Tensor) -> Law:
        """(S, B, D) -> (S, B, K, ...)."""
        return self._read(self.net(obs))[0]

    def vjp(self, obs: Tensor) -> tuple[Law, Callable[[Law], Tensor]]:
        """The laws, and g -> grad_theta <g, laws>."""
        out, tape = self.net.evaluate(obs)
        law, raw = self._read(out)

        def pull_back(g: Law) -> Tensor:
            return self.net.gradient(
                tape, torch.cat([g.logits, g.mean.flatten(-2), g.std.flatten(-2) * torch.sigmoid(raw) * self.scale], -1)
            )

        return law, pull_back

    def _read(self, out: Tensor) -> tuple[Law, Tensor]:
        k, a = self.shape
        logits, mean, raw = torch.split(out, [k, k * a, k * a], -1)
        mean, std = (torch.unflatten(t, -1, self.shape) for t in (mean, softplus(raw) * self.scale + LEAST))
        return Law(logits, mean, std), raw


def noise_size(components: int, action: int) -> int:
    """Normal numbers behind one draw: A, and one that chooses among several components."""
    return action + (components > 1)


def draw(law: Law, noise: Tensor) -> Tensor:
    """mean_k + std_k xi, (..., N, A), for noise ~ N(0, I) (..., N, A) or, of several components, (..., N, A + 1): the last chooses k."""
    if law.mean.shape[-2] == 1:
        return torch.addcmul(law.mean, law.std, noise)
    xi, pick = noise[..., :-1], torch.special.ndtr(noise[..., -1:])  # pick ~ U(0, 1)
    edges = law.logits.softmax(-1).cumsum(-1)[..., None, :-1]
    k = (pick > edges).sum(-1, keepdim=True).expand(xi.shape)
    return law.mean.gather(-2, k) + law.std.gather(-2, k) * xi


def log_prob(law: Law, u: Tensor) -> Tensor:
    """log density of the law at u (..., N, A), (..., N)."""
    return log_prob_each(Law(*(t.unsqueeze(law.logits.ndim - 1) for t in law)), u)


def log_prob_each(law: Law, u: Tensor) -> Tensor:
    """The same where each u has a law of its own."""
    return mixture_log_prob(u, law.logits, law.mean, law.std.log())


def flat(law: Law) -> Tensor:
    """(..., P), P = K (1 + 2 A)."""
    return torch.cat([law.logits, law.mean.flatten(-2), law.std.flatten(-2)], -1)


def unflat(phi: Tensor, like: Law) -> Law:
    """The law of ``flat``."""
    k, a = like.mean.shape[-2:]
    logits, mean, std = torch.split(phi, [k, k * a, k * a], -1)
    return Law(logits, torch.unflatten(mean, -1, (k, a)), torch.unflatten(std, -1, (k, a)))


def decoupled_kl(target: Law, law: Law) -> Parts:
    """KL(target || law) with only the mean moved, and with only the std moved; per dimension, (..., A) each.

    (mean' - mean)^2 / (2 std'^2) and log(std / std') + std'^2 / (2 std^2) - 1/2, primes the target's; their sum is the KL up to third
    order. Of mixtures the mean over components, weights w', and a share 1 / A of KL(w' || w) with the first: together an upper bound.
    **Source** Abdolmaleki et al. 2018 (MPO), App. D.2.
    """
    w = target.logits.softmax(-1)
    moved = (w * (target.logits.log_softmax(-1) - law.logits.log_softmax(-1))).sum(-1, keepdim=True) / law.mean.shape[-1]
    shift, ratio = (law.mean - target.mean) / target.std, target.std / law.std
    of_mean, of_std = 0.5 * shift.square(), 0.5 * (ratio.square() - 1.0) - torch.log(ratio)
    return Parts((w[..., None] * of_mean).sum(-2) + moved, (w[..., None] * of_std).sum(-2))


def decoupled_kl_gradient(target: Law, law: Law, weight: Parts) -> Law:
    """Of sum_d [weight.mean KL.mean + weight.std KL.std] in the law; weights (..., A).

    w - w' times the mean weight in the logits, w' (mean - mean') / std'^2 and w' (1 - std'^2 / std^2) / std in means and stds.
    """
    w = target.logits.softmax(-1)
    in_mean = (law.mean - target.mean) / target.std.square()
    in_std = (1.0 - (target.std / law.std).square()) / law.std
    of_mean, of_std = (w[..., None] * part[..., None, :] for part in weight)
    return Law((law.logits.softmax(-1) - w) * weight.mean.mean(-1, keepdim=True), of_mean * in_mean, of_std * in_std)
