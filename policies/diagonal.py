"""Gaussian policies whose deviation is free of the state, M of them per seed: each one vector, which a flow can take for a particle."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wgf import natural
from wgf.conjugate import Product
from wgf.door import told
from wgf.mlp import Network
from wgf.policies import gaussian
from wgf.policies.gaussian import Draw

__all__ = ["DiagonalPolicy"]


@dataclass(frozen=True)
class DiagonalPolicy:
    """a ~ N(mean(s), diag std^2), not squashed: what is beyond (-1, 1) the environment cuts.

    ``net`` gives the mean, A numbers. theta (S, M, P + A) is the network's vector and behind it log std, 0 at first. Observations are
    (S, M, *rest, D): each policy sees its own.
    """

    net: Network
    action: int

    @told
    def init(self, policies: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Makes a fresh theta (S, M, P + A)."""
        net = self.net.init((len(generators), policies), generators)
        return torch.cat([net, net.new_zeros(len(generators), policies, self.action)], -1)

    @told
    def mode(self, theta: Tensor, obs: Tensor) -> Tensor:
        """Returns the mean, (S, M, *rest, A)."""
        return self.net(theta[..., : -self.action], obs)

    @told
    def log_std(self, theta: Tensor) -> Tensor:
        """Returns log std, (S, M, A)."""
        return theta[..., -self.action :]

    @told
    def draw(self, theta: Tensor, obs: Tensor, xi: Tensor) -> Draw:
        """Returns a = mean + std xi, for states (S, M, B, D) and xi ~ N(0, I) (S, M, B, A)."""
        log_std = self.log_std(theta)[:, :, None]
        action = torch.addcmul(self.mode(theta, obs), log_std.exp(), xi)
        return Draw(action, gaussian.standard_log_prob(xi, log_std), action)

    @told
    def log_prob(self, theta: Tensor, obs: Tensor, action: Tensor) -> Tensor:
        """Returns log pi(a | s), (S, M, B), of actions (S, M, B, A) at states (S, M, B, D)."""
        return gaussian.log_prob(action, self.mode(theta, obs), self.log_std(theta)[:, :, None])

    @told
    def entropy(self, theta: Tensor) -> Tensor:
        """Returns the entropy in nats, the same at every state, (S, M)."""
        return gaussian.entropy(self.log_std(theta))

    @told
    def kl(self, theta: Tensor, other: Tensor, obs: Tensor) -> Tensor:
        """Returns KL(pi_theta || pi_other) at states (S, M, B, D), (S, M, B)."""
        first, second = ((self.mode(t, obs), self.log_std(t)[:, :, None]) for t in (theta, other))
        return gaussian.kl(*first, *second)

    @told
    def fisher(self, theta: Tensor, obs: Tensor) -> Product:
        """Returns v -> F v, (S, M, P + A) each, F = E_s grad^2 KL(pi || pi'), the mean over states (S, M, B, D); exact, no action enters.

        E_s J' diag(1 / std^2) J in the mean's network, J the Jacobian of the means, and 2 I in log std.
        """
        return self._metric(theta, obs, natural.gaussian_fisher(self.log_std(theta).exp(), "log_std"))

    @told
    def wasserstein(self, theta: Tensor, obs: Tensor) -> Product:
        """Returns v -> G v, (S, M, P + A) each, G = E_s grad^2 W2^2(pi, pi') / 2, the mean over states (S, M, B, D); exact.

        E_s J'J in the mean's network, J the Jacobian of the means, and std^2 in log std. **Source** Moskovitz et al. 2020, Eq. 23, for one
        Gaussian; pulled back through the network, Nurbekyan, Lei & Yang 2022.
        """
        return self._metric(theta, obs, natural.gaussian_wasserstein(self.log_std(theta).exp(), "log_std"))

    def _metric(self, theta: Tensor, obs: Tensor, entries: natural.Diagonal) -> Product:
        """Returns v -> G v, the mean over states of a Gaussian's metric, pulled back through means and log std."""
        per_state = (entries.mean[:, :, None] / obs.shape[2]).expand(*obs.shape[:3], -1)
        weight = torch.cat([per_state.flatten(2), entries.phi], -1)

        @told
        def law(theta: Tensor) -> Tensor:
            return torch.cat([self.mode(theta, obs).flatten(2), self.log_std(theta)], -1)

        return natural.pullback(law, theta, lambda d: weight * d)
