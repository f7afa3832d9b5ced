"""Critics: Q and V as functions of theta, stacked over seeds S and ensemble members E."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeGuard

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from wgf.door import told
from wgf.mlp import Network
from wgf.residual import Learning, learner

__all__ = ["CategoricalQ", "Pairs", "QNetwork", "VNetwork", "squared_error"]


class Pairs(NamedTuple):
    """States and actions of a minibatch, and those that followed, by the policy that is evaluated: (S, B, D), (S, B, A), and again."""

    obs: Tensor
    action: Tensor
    next_obs: Tensor
    next_action: Tensor


@dataclass(frozen=True)
class QNetwork:
    """Q_e(s, a), an ensemble of E networks for each of S seeds: theta (S, E, P). ``net`` takes s and a and gives one number."""

    net: Network

    def init(self, members: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Makes a fresh theta (S, E, P)."""
        return self.net.init((len(generators), members), generators)

    @told
    def __call__(self, theta: Tensor, obs: Tensor, action: Tensor) -> Tensor:
        """Returns Q: obs (S, B, D) with action (S, B, A) -> (S, E, B), or with action particles (S, B, M, A) -> (S, E, B, M)."""
        return self.value(self.net(theta, *_inputs(obs, action)))

    def value(self, out: Tensor) -> Tensor:
        """Returns Q of what the network gives, (..., out) -> (...)."""
        return out.squeeze(-1)

    @told
    def least(self, theta: Tensor, obs: Tensor, action: Tensor) -> Tensor:
        """Returns min_e Q_e(s, a), (S, B) or (S, B, M)."""
        q = self(theta, obs, action)
        return q.amin(1) if q.shape[1] > 1 else q.squeeze(1)

    @told
    def slope(self, theta: Tensor, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Returns min_e Q_e and its gradient in the action, held fixed both: shaped as ``action`` less its last axis and as ``action``."""
        at = action.detach().requires_grad_()
        with torch.enable_grad():
            value = self.least(theta.detach(), obs, at)
            (slope,) = torch.autograd.grad(value.sum(), at)
        return value.detach(), slope

    def backup(self, theta: Tensor, pairs: Pairs, reward: Tensor, discount: Tensor, bonus: Tensor) -> Tensor:
        """Returns y = reward + discount (min_e Q_e(s', a') + bonus), (S, B), as ``fit`` and ``error`` take it, by the target's theta.

        A network with batch norm takes the statistics of (s, a) and (s', a') together, as ``error`` does. **Source** Bhatt et al. 2024
        (CrossQ), Sec. 3.1.
        """
        with torch.no_grad():
            return self._target(self._after(theta, pairs), reward, discount, bonus)

    def error(self, theta: Tensor, pairs: Pairs, y: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss of Q(s, a) beside y of ``backup``, and the mean Q, as ``fit`` does."""
        net = self.net
        now = _half(net, theta, pairs, 0) if _coupled(net) else net(theta, *_inputs(pairs.obs, pairs.action))
        return self._loss(now, y)

    def fit(self, theta: Tensor, obs: Tensor, action: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss of Q(s, a) beside numbers y (S, B), held fixed, mean over the minibatch, sum over members, and the
        mean Q: (S,) each."""
        return self._loss(self.net(theta, *_inputs(obs, action)), self._form(y.detach()))

    def _after(self, theta: Tensor, pairs: Pairs) -> Tensor:
        """What the network gives for (s', a'), (S, E, B, out)."""
        net = learner(self.net)
        if _coupled(net):
            return _half(net, theta, pairs, 1)
        return self.net(theta, *_inputs(pairs.next_obs, pairs.next_action))

    def _target(self, after: Tensor, reward: Tensor, discount: Tensor, bonus: Tensor) -> Tensor:
        return reward + discount * (self.value(after).amin(1) + bonus)

    def _form(self, y: Tensor) -> Tensor:
        return y

    def _loss(self, now: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return squared_error(self.value(now), y)

    @told
    def best(self, theta: Tensor, obs: Tensor, actions: Tensor) -> Tensor:
        """Returns the one of the candidate actions (S, B, K, A) with the largest min_e Q_e(s, a), (S, B, A)."""
        k = self.least(theta, obs, actions).argmax(-1)[..., None, None]
        return actions.gather(-2, k.expand(*k.shape[:-1], actions.shape[-1]))[..., 0, :]


@dataclass(frozen=True)
class CategoricalQ(QNetwork):
    """Q_e(s, a) as the mean of a law on ``atoms`` atoms z from -bound to bound, whose logits ``net`` gives.

    Fitted by cross-entropy; the law of r + discount (z + bonus), z by the member with the least mean, goes to the two atoms beside each
    point in proportion, and what lies outside goes to the ends. So |Q| <= bound, and its gradient in the action is bounded too.
    **Source** Bellemare et al. 2017, Algorithm 1.
    """

    atoms: int = 101
    bound: float = 5.0

    def value(self, out: Tensor) -> Tensor:
        """Returns sum_k z_k softmax(logits)_k."""
        return out.softmax(-1) @ self._support(out)

    def project(self, at: Tensor, mass: Tensor) -> Tensor:
        """Returns the masses of the atoms, (..., K), of masses at points, (..., N) each: mean and total are kept within the bounds."""
        place = (at.clamp(-self.bound, self.bound) + self.bound) * ((self.atoms - 1) / (2.0 * self.bound))
        low = place.floor().clamp_max(self.atoms - 2.0)
        up, k = (place - low) * mass, low.nan_to_num().long()  # what is not a number spoils its own row, and no other
        return mass.new_zeros(*mass.shape[:-1], self.atoms).scatter_add(-1, k, mass - up).scatter_add(-1, k + 1, up)

    def _support(self, like: Tensor) -> Tensor:
        return torch.linspace(-self.bound, self.bound, self.atoms, device=like.device, dtype=like.dtype)

    def _target(self, after: Tensor, reward: Tensor, discount: Tensor, bonus: Tensor) -> Tensor:
        least = self.value(after).argmin(1)[:, None, :, None].expand(-1, 1, -1, self.atoms)
        at = self._support(after) + bonus[..., None]
        return self.project(torch.addcmul(reward[..., None], discount[..., None], at), after.gather(1, least)[:, 0].softmax(-1))

    def _form(self, y: Tensor) -> Tensor:
        return self.project(y[..., None], torch.ones_like(y)[..., None])

    def _loss(self, now: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return -(y[:, None] * log_softmax(now, -1)).sum(-1).mean(-1).sum(1), self.value(now.detach()).flatten(1).mean(1)


def _coupled(net: Network) -> TypeGuard[Learning]:
    """Says whether a network, in its learning mode, mixes the rows of a minibatch."""
    return isinstance(net, Learning) and net.coupled


def squared_error(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Returns (1/2) (prediction - target)^2, mean over the minibatch, sum over members, and the mean prediction: (S, [E,] B) -> (S,) each.

    A target (S, B) is that of every member; it is held fixed.
    """
    error = prediction - (target if prediction.ndim == target.ndim else target[:, None]).detach()
    return 0.5 * error.square().mean(-1).reshape(len(error), -1).sum(-1), prediction.flatten(1).mean(1)


def _half(net: Learning, theta: Tensor, pairs: Pairs, k: int) -> Tensor:
    """What a network gives for (s, a), k = 0, or (s', a'), k = 1, in one batch of both, (S, E, B, out)."""
    obs, action = (torch.cat(both, 1) for both in ((pairs.obs, pairs.next_obs), (pairs.action, pairs.next_action)))
    b = pairs.obs.shape[1]
    return net(theta, *_inputs(obs, action), rows=slice(k * b, (k + 1) * b))


def _inputs(obs: Tensor, action: Tensor) -> tuple[Tensor, ...]:
    """As the members see them: side by side (S, 1, B, D + A), or apart, obs (S, 1, B, [1,] D) and action (S, 1, B, [M,] A).

    Apart where the actions are many, so that the observation's product is taken once, and where they are differentiated, so that no
    slope in the observation is computed, which may be much longer.
    """
    many = action.ndim > obs.ndim and action.shape[2] > 1
    if action.ndim > obs.ndim:
        obs = obs[:, :, None]
    if many or action.requires_grad:
        return obs[:, None], action[:, None]
    return (torch.cat([obs, action], -1)[:, None],)


@dataclass(frozen=True)
class VNetwork:
    """V(s): theta (S, P), one network per seed, or (S, M, P), one for each of M policies per seed. ``net`` takes s, gives one number."""

    net: Network

    def init(self, stack: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
        """Makes a fresh theta (*stack, P)."""
        return self.net.init(stack, generators)

    @told
    def __call__(self, theta: Tensor, obs: Tensor) -> Tensor:
        """Returns V: (S, [M,] *rest, D) -> (S, [M,] *rest)."""
        return self.net(theta, obs).squeeze(-1)
