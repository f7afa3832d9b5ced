"""The sampling network u = f(s, xi), a = tanh(u): a policy known by its draws (Zhang et al. 2018, Sec. 4.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wgf.door import told
from wgf.mlp import Network
from wgf.policies.gaussian import Draw, squashed, standard_log_prob

__all__ = ["SamplingNetwork"]

LOG_DET = -20.0  # the least log-volume per action dimension, as the log std of a Gaussian policy is cut


@dataclass(frozen=True)
class SamplingNetwork:
    """f(s, xi): M action particles per state; ``net`` takes s and xi, of ``noise`` numbers, together. theta (S, P)."""

    net: Network
    noise: int

    @told
    def init(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Makes a fresh theta (S, P)."""
        return self.net.init((len(generators),), generators)

    @told
    def particles(self, theta: Tensor, obs: Tensor, xi: Tensor) -> Tensor:
        """Particles u = f(s, xi) (S, B, M, A), before tanh, at states (S, B, D) for xi ~ N(0, I) (S, B, M, Z)."""
        return self.net(theta, obs[..., None, :], xi)

    @told
    def draw(self, theta: Tensor, obs: Tensor, xi: Tensor) -> Draw:
        """Returns actions (S, B, *n, A), held fixed, at states (S, B, D), for xi ~ N(0, I) (S, B, *n, A), of as many numbers as an action;
        n is nothing or M. Their density is by the change of variables:

        log pi(a | s) = log N(xi; 0, I) - log |det du/dxi| - sum log(1 - tanh^2 u).

        It is right where f(s, .) meets each u once; where it folds, pi is larger, and -E log pi is an upper bound of the entropy.
        log |det| is cut at -20 A. It takes A backward passes through the network.
        """
        at = xi.detach().reshape(*obs.shape[:-1], -1, self.noise).requires_grad_()
        with torch.enable_grad():
            u = self.particles(theta.detach(), obs, at)
            rows = [torch.autograd.grad(part.sum(), at, retain_graph=True)[0] for part in u.unbind(-1)]
        volume = torch.linalg.slogdet(torch.stack(rows, -2)).logabsdet.clamp_min(LOG_DET * self.noise).reshape(xi.shape[:-1])
        return squashed(u.detach().reshape(xi.shape), standard_log_prob(xi, torch.zeros_like(xi)) - volume)

    @told
    def mode(self, theta: Tensor, obs: Tensor, candidates: int) -> Tensor:
        """Returns actions tanh f(s, xi) (S, B, M, A) for the same M draws of xi at every call; evaluation, deterministic, chooses one."""
        generator = torch.Generator(obs.device).manual_seed(0)
        xi = torch.randn(candidates, self.noise, generator=generator, device=obs.device, dtype=obs.dtype)
        return torch.tanh(self.particles(theta, obs, xi.expand(*obs.shape[:-1], -1, -1)))
