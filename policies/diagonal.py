"""Gaussian policies whose deviation is free of the state, M of them a seed: each one vector, which a flow can take for a particle."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from wgf.conjugate import Product
from wgf.mlp import StackedMLP, Tape
from wgf.natural import gaussian_fisher
from wgf.policies.gaussian import standard_log_prob


class DiagonalPolicy(nn.Module):
    """a ~ N(mean(s), diag std^2), not squashed: what is beyond (-1, 1) the environment cuts. Stack (S, M): seeds, policies.

    ``theta`` (S, M, P + A) is the mean's network and after it log std, 0 at first. ``gain``: of the last layer, where
    weights start orthogonal.
    """

    def __init__(
        self,
        obs: int,
        action: int,
        policies: int,
        hidden: Sequence[int],
        activation: str,
        generators: Sequence[torch.Generator],
        gain: float | None = None,
    ) -> None:
        super().__init__()
        net = StackedMLP([len(generators), policies], [obs, *hidden, action], activation, generators, gain)
        self.theta = nn.Parameter(torch.cat([net.theta, net.theta.new_zeros(len(generators), policies, action)], -1), requires_grad=False)
        self.action = action
        self._nets = [net]  # in a list: its parameters are a view of theta, not parameters of their own

    @property
    def log_std(self) -> Tensor:
        """(S, M, A)."""
        return self.theta[..., -self.action :]

    def mean(self, obs: Tensor) -> Tensor:
        """(S, M, *rest, D) -> (S, M, *rest, A)."""
        return self._evaluate(obs)[0]

    def act(self, obs: Tensor, xi: Tensor) -> Tensor:
        """mean + std xi at states (S, M, n, D), for xi ~ N(0, I) (S, M, n, A)."""
        return torch.addcmul(self.mean(obs), self.log_std.exp()[:, :, None], xi)

    def score(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """log pi(a | s), (S, M, B), of actions (S, M, B, A), and w (S, M, B) -> sum_b w_b grad_theta log pi(a_b | s_b), (S, M, P + A).

        With z = (a - mean) / std: z / std in the mean, z^2 - 1 in log std.
        """
        mean, tape = self._evaluate(obs)
        log_std = self.log_std[:, :, None]
        inverse = torch.exp(-log_std)
        z = (action - mean) * inverse

        def pull_back(w: Tensor) -> Tensor:
            in_mean = self._nets[0].gradient(tape, w[..., None] * z * inverse)
            return torch.cat([in_mean, (w[..., None] * (z.square() - 1.0)).sum(-2)], -1)

        return standard_log_prob(z, log_std), pull_back

    def fisher(self, obs: Tensor) -> Product:
        """v -> F v, (S, M, P + A) each, F = E_s grad^2 KL(pi || pi'), the mean over states (S, M, B, D); exact, no action enters.

        E_s J' diag(1 / std^2) J in the mean's network, J the Jacobian of the means, and 2 I in log std.
        """
        _, tape = self._evaluate(obs)
        entries = gaussian_fisher(self.log_std.exp()[:, :, None], "log_std")
        weight = entries.mean / obs.shape[2]

        def product(v: Tensor) -> Tensor:
            means = self._nets[0].tangent(tape, v[..., : -self.action])
            return torch.cat([self._nets[0].gradient(tape, weight * means), entries.phi[:, :, 0] * v[..., -self.action :]], -1)

        return product

    def _evaluate(self, obs: Tensor) -> tuple[Tensor, Tape]:
        self._nets[0].theta.data = self.theta[..., : -self.action]
        return self._nets[0].evaluate(obs)
