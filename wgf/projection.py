"""Wasserstein policy optimisation's direction: the flow that carries actions along grad_a Q, projected onto a law's parameters.

The law pi(a | phi) of one state follows d pi / dt = -div(pi g), g = grad_a Q at fixed actions. Of the laws within reach the nearest in
KL moves by d phi / dt = F^-1 E[grad_phi (grad_a log pi(a | phi) . g(a))], F = E[grad_phi log pi grad_phi log pi^T] the Fisher matrix.
Directions are to *add* to phi. They are sums over the draws, as in the published code: N times an estimate of the mean.

**Source** Pfau et al. 2025, Eqs. 1 to 6. **Limits** one integration by parts drops the flux pi grad_phi log pi g through the boundary
of the support: 0 on all of R^A and for a squashed Gaussian, but not for a law whose density stays above 0 at an edge, such as an
exponential's at 0, a truncated Gaussian's or a uniform's. There the direction is neither the flow's nor that of E[Q].
"""

from torch import Tensor


def gaussian(xi: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """N(mean, diag std^2) in its mean and std: d mean = sum_n g_n, d std = sum_n xi_n g_n, with xi = (a - mean) / std.

    xi, slope (..., N, A) -> (..., A) each. **Source** Pfau et al. 2025, Sec. 4.1: F = diag(1 / std^2, 2 / std^2) cancels the
    1 / std^2 and 2 xi / std^2 of grad_phi grad_a log pi. Draw by draw this is the gradient of Q(mean + std xi) in (mean, std).
    In log std instead of std the Fisher matrix is another, and so is the update of a network behind it.
    """
    return slope.sum(-2), (xi * slope).sum(-2)
