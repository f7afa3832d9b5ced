"""The damping of a kernel Wasserstein metric along a training: it is changed every fifth step by the best ratio of these steps."""

import torch
from torch import Tensor

from wgf import kwng

__all__ = ["NONE", "adapt_"]

EVERY = 5  # steps between two changes of the damping
NONE = torch.finfo(torch.float32).min  # the best of no ratios yet: every number of a state is finite


def adapt_(eps: Tensor, best: Tensor, ratio: Tensor, steps: Tensor) -> None:
    """Takes the reduction ratio (S,) of step number ``steps`` into ``best`` (S,); at each fifth step eps (S,) follows ``kwng.adapted``.

    Steps are counted from 1; with 0 there is no ratio yet. A ratio of nan, or ``NONE``, is left out; of five of them eps stays.
    **Source** Moskovitz et al. 2020, App. D.1, and the authors' code.
    """
    found = torch.fmax(best, ratio)
    due = (steps % EVERY == 0) & (steps > 0)
    eps.copy_(torch.where(due & (found > NONE), kwng.adapted(eps, found), eps))
    best.copy_(torch.where(due, NONE, found))
