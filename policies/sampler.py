"""The sampling network u = f(s, xi), a = tanh(u): a policy known by its draws alone (Zhang et al. 2018, Sec. 4.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wgf.door import told
from wgf.mlp import Network

__all__ = ["SamplingNetwork"]


@dataclass(frozen=True)
class SamplingNetwork:
    """f(s, xi): M action particles per state; ``net`` takes s and xi, of ``noise`` numbers, together. It has no density. theta (S, P)."""

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
    def mode(self, theta: Tensor, obs: Tensor, candidates: int) -> Tensor:
        """Returns actions tanh f(s, xi) (S, B, M, A) for the same M draws of xi at every call; evaluation, deterministic, chooses one."""
        generator = torch.Generator(obs.device).manual_seed(0)
        xi = torch.randn(candidates, self.noise, generator=generator, device=obs.device, dtype=obs.dtype)
        return torch.tanh(self.particles(theta, obs, xi.expand(*obs.shape[:-1], -1, -1)))
