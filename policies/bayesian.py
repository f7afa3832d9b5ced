"""A Bayesian policy network: K weight particles theta_k, each a Gaussian policy, together an explicit mixture.

pi~(a | s) = (1/K) sum_k N_squashed(a; mean_k(s), std_k(s)). Source: Zhang et al. 2018, Sec. 4.2 ("a BNN discussed in Section 4.1").
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from wgf.mlp import VJP, Network, StackedMLP
from wgf.policies.gaussian import LOG_STD, clamped, mixture_log_prob, tanh_log_det


class BayesianPolicy(Network):
    """Stack (S, K) of networks with a Gaussian head; M = K m action particles a state, m reparameterised draws of each theta_k."""

    def __init__(
        self, obs: int, action: int, components: int, hidden: Sequence[int], activation: str, generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        self.components = components
        self.net = StackedMLP([len(generators), components], [obs, *hidden, 2 * action], activation, generators)

    def sample(self, obs: Tensor, xi: Tensor) -> tuple[Tensor, Tensor, VJP]:
        """xi ~ N(0, I) (S, B, M, A) -> particles u (S, B, M, A), the first M/K theta_1's and so on; their log pi~(tanh u | s)
        (S, B, M); and g -> grad_theta <g, u>.
        """
        out, tape = self.net.evaluate(obs[:, None])
        mean, raw = out.movedim(1, 2).chunk(2, -1)
        log_std = raw.clamp(*LOG_STD)
        deviation = log_std.exp()[..., None, :] * torch.unflatten(xi, -2, (self.components, -1))
        u = (mean[..., None, :] + deviation).flatten(-3, -2)

        def pull_back(g: Tensor) -> Tensor:
            g = torch.unflatten(g, -2, (self.components, -1))
            heads = torch.cat([g.sum(-2), clamped((g * deviation).sum(-2), raw)], -1)
            return self.net.gradient(tape, heads.movedim(2, 1))

        return u, self._log_prob(u, mean, log_std), pull_back

    def particles(self, obs: Tensor, xi: Tensor) -> Tensor:
        """The same particles alone."""
        mean, log_std = self._gaussians(obs)
        return (mean[..., None, :] + log_std.exp()[..., None, :] * torch.unflatten(xi, -2, (self.components, -1))).flatten(-3, -2)

    def log_prob(self, obs: Tensor, u: Tensor) -> Tensor:
        """log pi~(tanh u | s), u (S, B, M, A) -> (S, B, M): a log-mean-exp over the K components."""
        return self._log_prob(u, *self._gaussians(obs))

    def act(self, obs: Tensor, pick: Tensor, xi: Tensor) -> Tensor:
        """One action a state (S, B, A): pick ~ U(0, 1) (S, B) chooses theta_k, xi ~ N(0, I) (S, B, A) draws from its Gaussian."""
        mean, log_std = self._gaussians(obs)
        k = (pick * self.components).long()[..., None, None].expand(*pick.shape, 1, xi.shape[-1])
        return torch.tanh(mean.gather(-2, k) + log_std.gather(-2, k).exp() * xi[..., None, :])[..., 0, :]

    def modes(self, obs: Tensor) -> Tensor:
        """tanh(mean_k), (S, B, K, A)."""
        return torch.tanh(self._gaussians(obs)[0])

    def _gaussians(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """(S, B, D) -> means, log stds (S, B, K, A)."""
        mean, log_std = self.net(obs[:, None]).movedim(1, 2).chunk(2, -1)
        return mean, log_std.clamp(*LOG_STD)

    @staticmethod
    def _log_prob(u: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
        uniform = torch.zeros_like(mean[..., None, :, 0])
        return mixture_log_prob(u, uniform, mean[..., None, :, :], log_std[..., None, :, :]) - tanh_log_det(u)
