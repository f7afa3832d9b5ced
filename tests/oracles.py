"""Closed forms and plain loops that the engine is measured against. None of them uses the engine."""

import itertools
import math
import statistics

import torch


def bures(mean_p, cov_p, mean_q, cov_q):
    """W2^2 of two Gaussians: |m_p - m_q|^2 + tr C_p + tr C_q - 2 tr (C_p C_q)^(1/2), by the eigenvalues of the product."""
    cross = torch.linalg.eigvals(cov_p @ cov_q).real.clamp_min(0.0).sqrt().sum()
    return (mean_p - mean_q).square().sum() + cov_p.trace() + cov_q.trace() - 2.0 * cross


def entropic_gaussian(mean_p, std_p, mean_q, std_q, eps):
    """min_P <c, P> + eps KL(P | p q) of two 1-D Gaussians: a Gaussian plan, whose correlation rho solves d/drho = 0.

    cost = (m_p - m_q)^2 + s^2 + t^2 - 2 rho s t, KL = -log(1 - rho^2) / 2, so 2 s t (1 - rho^2) = eps rho.
    """
    k = 2.0 * std_p * std_q / eps
    rho = 2.0 * k / (1.0 + math.sqrt(1.0 + 4.0 * k * k))
    cost = (mean_p - mean_q) ** 2 + std_p**2 + std_q**2 - 2.0 * rho * std_p * std_q
    return cost - 0.5 * eps * math.log(1.0 - rho**2)


def entropic_gaussian_matrices(mean_p, cov_p, mean_q, cov_q, eps):
    """The same in any dimension (Janati et al. 2020): D = (4 C_p^(1/2) C_q C_p^(1/2) + (eps/2)^2 I)^(1/2)."""
    d, s2 = len(mean_p), 0.5 * eps
    roots = (4.0 * torch.linalg.eigvals(cov_p @ cov_q).real + s2**2).sqrt()
    bures = cov_p.trace() + cov_q.trace() - roots.sum() + d * s2 * (1.0 - math.log(2.0 * s2)) + s2 * (roots + s2).log().sum()
    return (mean_p - mean_q).square().sum() + bures


def jko_gaussian(mean, std, h):
    """One JKO step of N(mean, std^2) towards N(0, 1): m' = m / (1 + h), (1 + h) s'^2 - s s' - h = 0."""
    return mean / (1.0 + h), (std + math.sqrt(std**2 + 4.0 * h * (1.0 + h))) / (2.0 * (1.0 + h))


def jko_objective(mean, std, mean_prev, std_prev, h):
    """KL(N(mean, std^2) | N(0, 1)) + W2^2 / (2 h), which that step minimises."""
    return 0.5 * (std**2 + mean**2 - 1.0) - math.log(std) + ((mean - mean_prev) ** 2 + (std - std_prev) ** 2) / (2.0 * h)


def ornstein_uhlenbeck(mean, std, time):
    """Mean and deviation at ``time`` of d mu/dt = div(mu x) + Laplace mu from N(mean, std^2): the flow of KL to N(0, 1)."""
    return mean * math.exp(-time), math.sqrt(1.0 + (std**2 - 1.0) * math.exp(-2.0 * time))


def sorted_cost(x, y):
    """W2^2 of two clouds of equally many points on the line: in the order of their sizes."""
    return (x.sort().values - y.sort().values).square().mean()


def assignment_cost(x, y):
    """W2^2 of two small clouds of equally many points: the best of all permutations."""
    return min(sum(squared(x[i], y[j]) for i, j in enumerate(p)) for p in itertools.permutations(range(len(y)))) / len(x)


def squared(p, q):
    return sum((float(a) - float(b)) ** 2 for a, b in zip(p, q, strict=True))


def bandwidth(name, x, y=None):
    """h of each median convention as METHODS section 0 has them, by Python's own median."""
    m = len(x)
    pairs = [math.sqrt(squared(x[i], x[j])) for i in range(m) for j in range(i)]
    full = [squared(p, q) for p in x for q in x]
    if name == "svgd":
        return statistics.median(pairs) ** 2 / math.log(m)
    if name == "full":
        return statistics.median(full) / math.log(m + 1)
    if name == "svpg":
        return statistics.median(full) / (2.0 * math.log(m + 1))
    return statistics.median([squared(p, q) for p in x for q in y]) / math.log(m)


def rbf_velocity(x, score, h):
    """SVGD with k = exp(-|x - y|^2 / h), one pair after another."""
    v = torch.zeros_like(x)
    for i, j in itertools.product(range(len(x)), repeat=2):
        k = math.exp(-squared(x[i], x[j]) / h)
        v[i] += (k * score[j] + (2.0 / h) * (x[i] - x[j]) * k) / len(x)
    return v


def blob(x, score, h, both=True):
    """v_i = score_i + (2/h) sum_j K_ij (x_i - x_j) (1/k_i + 1/k_j); GFSD without its 1/k_j."""
    gram = [[math.exp(-squared(p, q) / h) for q in x] for p in x]
    v = score.clone()
    for i, j in itertools.product(range(len(x)), repeat=2):
        inverse = 1.0 / sum(gram[i]) + (1.0 / sum(gram[j]) if both else 0.0)
        v[i] += (2.0 / h) * gram[i][j] * (x[i] - x[j]) * inverse
    return v


def central_difference(function, x, step=1e-5):
    """d function / d x, entry by entry: error step^2 f''' / 6 + rounding / step."""
    gradient = torch.zeros_like(x)
    for index in itertools.product(*map(range, x.shape)):
        up, down = x.clone(), x.clone()
        up[index] += step
        down[index] -= step
        gradient[index] = (function(up) - function(down)) / (2.0 * step)
    return gradient


def linear(x, y):
    """The kernel k = x . y + 1, whose gradient in y is x: an SVGD flow's fixed point then has a Gaussian target's mean and covariance."""
    return x @ y.mT + 1.0, lambda w: x * w.sum(-1, keepdim=True)[..., None]
