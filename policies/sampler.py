"""The sampling network u = f(s, xi), a = tanh(u): a policy known by its draws alone (Zhang et al. 2018, Sec. 4.2)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wgf.mlp import VJP, Network, StackedMLP


class SamplingNetwork(Network):
    """f(s, xi): M action particles a state. The input is s and xi together; no density is available. S seeds."""

    def __init__(
        self, obs: int, action: int, noise: int, hidden: Sequence[int], activation: str, generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        self.noise_size = noise
        self.net = StackedMLP([len(generators)], [obs + noise, *hidden, action], activation, generators)

    def forward(self, obs: Tensor, xi: Tensor) -> Tensor:
        """obs (S, B, D), xi ~ N(0, I) (S, B, M, Z) -> pre-tanh particles u (S, B, M, A)."""
        return self.net(obs[..., None, :], xi)  # type: ignore[no-any-return]

    def vjp(self, obs: Tensor, xi: Tensor) -> tuple[Tensor, VJP]:
        """The particles u, and g -> grad_theta <g, u>."""
        u, tape = self.net.evaluate(obs[..., None, :], xi)
        return u, lambda g: self.net.gradient(tape, g)

    def act(self, obs: Tensor, xi: Tensor) -> Tensor:
        """Actions in (-1, 1): tanh f(s, xi), (S, B, M, A)."""
        return torch.tanh(self(obs, xi))


def fixed_noise(particles: int, size: int, like: Tensor) -> Tensor:
    """The same N(0, 1) draws (M, Z) at every call: for an evaluation that is deterministic."""
    generator = torch.Generator(like.device).manual_seed(0)
    return torch.randn(particles, size, generator=generator, device=like.device, dtype=like.dtype)
