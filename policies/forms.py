"""How WPO carries a policy along grad_a Q: a Gaussian in closed form, a mixture and a squashed Gaussian by conjugate gradients."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from wgf import projection
from wgf.policies.unbounded import Law, draw, flat, log_prob_each, unflat


def cut(u: Tensor) -> Tensor:
    """What the environment makes of an unbounded action."""
    return u.clamp(-1.0, 1.0)


def continued(u: Tensor, slope: Tensor) -> Tensor:
    """grad Q at u, given its slope at the cut action: beyond the cube as there where Q falls outwards, 0 where it rises.

    Q is fitted inside alone, since the environment cuts actions. Departs: the authors' open critic cuts too, which leaves no gradient
    outside, and a policy that is wholly out there never learns to come back. Pinned by test_a_policy_beyond_the_bounds_comes_back.
    """
    return slope.masked_fill((u.abs() > 1.0) & (slope * u > 0.0), 0.0)


def squashed(u: Tensor, slope: Tensor) -> Tensor:
    """For a = tanh(u): grad_phi grad_a log pi(a) . g = grad_phi grad_u log N(u) . g cosh^2(u), since du/da = cosh^2(u).

    The density vanishes at the bounds, so no flux is lost; but the factor's variance grows as exp(8 std^2), and far out it overflows.
    """
    return slope * torch.cosh(u).square()


def closed(law: Law, u: Tensor, slope: Tensor, noise: Tensor, damping: float, steps: int) -> Law:
    """Of one Gaussian: the Fisher matrix in closed form, so that nothing else is needed."""
    d_mean, d_std = projection.gaussian((u - law.mean) / law.std, slope)
    return Law(torch.zeros_like(law.logits), d_mean[..., None, :], d_std[..., None, :])


def solved(law: Law, u: Tensor, slope: Tensor, noise: Tensor, damping: float, steps: int) -> Law:
    """Of any mixture: conjugate gradients on the Fisher matrix of further draws, noise (..., F, A) or (..., F, A + 1)."""

    def log_prob(phi: Tensor, u: Tensor) -> Tensor:
        return log_prob_each(unflat(phi, law), u)

    return unflat(projection.direction(log_prob, flat(law), u, slope, draw(law, noise), damping=damping, steps=steps), law)


class Form(NamedTuple):
    """A draw u as an action; grad Q at u from the slope at that action; and the projected flow, summed over the draws."""

    action: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]
    projected: Callable[[Law, Tensor, Tensor, Tensor, float, int], Law]


FORMS = {"gaussian": Form(cut, continued, closed), "mixture": Form(cut, continued, solved), "squashed": Form(torch.tanh, squashed, solved)}
