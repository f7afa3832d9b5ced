"""A Bayesian policy network: K weight particles theta_k, each a Gaussian policy, together an explicit mixture.

pi~(a | s) = (1/K) sum_k N_squashed(a; mean_k(s), std_k(s)). Source: Zhang et al. 2018, Sec. 4.2 ("a BNN discussed in Section 4.1").
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wgf.door import told
from wgf.policies.gaussian import GaussianMixture, MixturePolicy, log_stds

__all__ = ["BayesianPolicy"]


@dataclass(frozen=True)
class BayesianPolicy(MixturePolicy):
    """A stack of networks with a Gaussian head, 2 A numbers: theta (S, K, P)."""

    def init(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Makes a fresh theta (S, K, P)."""
        return self.net.init((len(generators), self.components), generators)

    @told
    def law(self, theta: Tensor, obs: Tensor) -> GaussianMixture:
        """Returns the law of u at states (S, B, D): components of equal weight."""
        mean, raw = self.net(theta, obs[:, None]).movedim(1, 2).chunk(2, -1)
        return GaussianMixture(torch.zeros_like(mean[..., 0]), mean, log_stds(raw, self.smooth, self.start_std).exp())
