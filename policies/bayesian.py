"""A Bayesian policy network: K weight particles theta_k, each a Gaussian policy, together an explicit mixture.

pi~(a | s) = (1/K) sum_k N_squashed(a; mean_k(s), std_k(s)). Source: Zhang et al. 2018, Sec. 4.2 ("a BNN discussed in Section 4.1").
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from policies.gaussian import LOG_STD, mixture_log_prob, tanh_log_det
from policies.mlp import StackedMLP


class BayesianPolicy(nn.Module):
    """Stack (S, K) of networks with a Gaussian head; M = K m action particles a state, m reparameterised draws of each theta_k."""

    def __init__(
        self, obs: int, action: int, components: int, hidden: Sequence[int], activation: str, generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        self.components = components
        self.net = StackedMLP([len(generators), components], [obs, *hidden, 2 * action], activation, generators)

    def parameters_of(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """(S, B, D) -> means, log stds (S, B, K, A)."""
        mean, log_std = self.net(obs[:, None]).movedim(1, 2).chunk(2, -1)
        return mean, log_std.clamp(*LOG_STD)

    def particles(self, obs: Tensor, xi: Tensor) -> Tensor:
        """xi ~ N(0, I) (S, B, M, A) -> pre-tanh particles u (S, B, M, A); the first M/K are theta_1's, and so on."""
        mean, log_std = self.parameters_of(obs)
        each = torch.unflatten(xi, -2, (self.components, -1))
        return (mean[..., None, :] + log_std.exp()[..., None, :] * each).flatten(-3, -2)

    def log_prob(self, obs: Tensor, u: Tensor) -> Tensor:
        """log pi~(tanh u | s), u (S, B, M, A) -> (S, B, M): a log-mean-exp over the K components."""
        mean, log_std = self.parameters_of(obs)
        uniform = torch.zeros_like(mean[..., None, :, 0])
        return mixture_log_prob(u, uniform, mean[..., None, :, :], log_std[..., None, :, :]) - tanh_log_det(u)

    def act(self, obs: Tensor, pick: Tensor, xi: Tensor) -> Tensor:
        """One action a state (S, B, A): pick ~ U(0, 1) (S, B) chooses theta_k, xi ~ N(0, I) (S, B, A) draws from its Gaussian."""
        mean, log_std = self.parameters_of(obs)
        k = (pick * self.components).long()[..., None, None].expand(*pick.shape, 1, xi.shape[-1])
        return torch.tanh(mean.gather(-2, k) + log_std.gather(-2, k).exp() * xi[..., None, :])[..., 0, :]

    def modes(self, obs: Tensor) -> Tensor:
        """tanh(mean_k), (S, B, K, A)."""
        return torch.tanh(self.parameters_of(obs)[0])
