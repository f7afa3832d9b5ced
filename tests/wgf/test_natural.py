"""Metrics against dense matrices and closed forms, natural steps against solves, the search along them by hand."""

import pytest
import torch
from torch.distributions import Normal
from torch.func import grad, hessian, jacrev

from tests.oracles import central_difference
from wgf import natural
from wgf.conjugate import conjugate_gradient

S, P = 3, 2
COORDINATES = {  # phi, and its inverse: the deviation
    "std": (lambda s: s, lambda p: p),
    "log_std": (torch.log, torch.exp),
    "variance": (torch.square, torch.sqrt),
}
coordinates = pytest.mark.parametrize("phi", COORDINATES)


def gaussians(draw):
    """mean and deviation of S Gaussians on the line."""
    return draw(S), draw(S, seed=1).exp()


def kl_to(mean, std, inverse):
    """KL(N(mean, std^2) || N(., .)) as a function of theta = (mean, phi), (S, 2)."""

    def kl(theta):
        m, s = theta[..., 0], inverse(theta[..., 1])
        return (s / std).log() + (std.square() + (mean - m).square()) / (2.0 * s.square()) - 0.5

    return kl


def matrix(product, p, draw):
    """The dense matrix (S, p, p) of a product."""
    eye = torch.eye(p).to(draw(1))
    return torch.stack([product(e.expand(S, p)) for e in eye], -1)


# --- metrics ----------------------------------------------------------------------------------------------------------


@coordinates
def test_the_second_derivative_of_the_kl_is_the_gaussians_fisher_metric(draw, phi):
    mean, std = gaussians(draw)
    forward, inverse = COORDINATES[phi]
    theta = torch.stack([mean, forward(std)], -1)
    found = matrix(natural.hessian(kl_to(mean, std, inverse), theta), 2, draw)
    by_hand = {"std": 2.0 / std**2, "log_std": 2.0 + 0.0 * std, "variance": 0.5 / std**4}[phi]
    entries = natural.gaussian_fisher(std, phi)
    torch.testing.assert_close(entries.mean, 1.0 / std**2)
    torch.testing.assert_close(entries.phi, by_hand)
    torch.testing.assert_close(found, torch.diag_embed(torch.stack(entries, -1)), rtol=1e-11, atol=1e-11)


@coordinates
def test_the_second_derivative_of_half_the_squared_w2_is_the_gaussians_wasserstein_metric(draw, phi):
    mean, std = gaussians(draw)
    forward, inverse = COORDINATES[phi]
    theta = torch.stack([mean, forward(std)], -1)
    found = matrix(natural.hessian(lambda t: 0.5 * ((t[..., 0] - mean).square() + (inverse(t[..., 1]) - std).square()), theta), 2, draw)
    by_hand = {"std": 1.0 + 0.0 * std, "log_std": std**2, "variance": 0.25 / std**2}[phi]
    entries = natural.gaussian_wasserstein(std, phi)
    torch.testing.assert_close(entries.mean, torch.ones_like(std))
    torch.testing.assert_close(entries.phi, by_hand)
    torch.testing.assert_close(found, torch.diag_embed(torch.stack(entries, -1)), rtol=1e-11, atol=1e-11)


def test_the_fisher_metric_is_that_of_scores_and_of_second_derivatives_of_the_log_density(draw):
    """Four deviations of Monte Carlo: E s s' and -E grad^2 log p are both diag(1, 2) / std^2."""
    mean, std, n = *gaussians(draw), 100_000
    theta, x = torch.stack([mean, std], -1), mean[:, None] + std[:, None] * draw(S, n, seed=2)
    expected = torch.diag_embed(torch.stack([1.0 / std**2, 2.0 / std**2], -1))

    def minus_log_density(t):
        return -Normal(t[..., :1], t[..., 1:]).log_prob(x).mean(-1)

    z = (x - mean[:, None]) / std[:, None]
    scores = torch.stack([z, z.square() - 1.0], -1) / std[:, None, None]
    bound = 4.0 * 8.0 / n**0.5 / std.square()[:, None, None]  # E (z^2 - 1)^4 = 60, so each entry's deviation is below 8 / std^2
    for product in (natural.hessian(minus_log_density, theta), natural.empirical(scores)):
        assert ((matrix(product, 2, draw) - expected).abs() <= bound).all()


def test_the_empirical_metric_is_the_mean_of_outer_products(draw):
    scores, v = draw(S, 7, 5), draw(S, 5, seed=1)
    dense = torch.stack([sum(torch.outer(s, s) for s in of) / 7.0 for of in scores])
    torch.testing.assert_close(natural.empirical(scores)(v), (dense @ v[..., None])[..., 0])


def network(draw, states):
    """theta (S, 13) -> mean and log std (S, B, 2) of Gaussians over actions, by three tanh units with two inputs."""

    def function(theta):
        w, u = theta[..., :6].unflatten(-1, (2, 3)), theta[..., 6:12].unflatten(-1, (3, 2))
        return torch.tanh(states @ w) @ u + theta[..., None, 12:]

    return function, 0.7 * draw(S, 13, seed=5)


def test_the_pullback_is_j_transposed_m_j_and_the_hessian_of_the_networks_kl(draw):
    b = 6
    states = draw(S, b, 2)
    function, theta = network(draw, states)
    out = function(theta)
    std = out[..., 1].exp()
    entries = natural.gaussian_fisher(std, "log_std")
    weight = torch.stack(entries, -1) / b
    product = natural.pullback(function, theta, lambda d: weight * d)

    jacobian = torch.stack([jacrev(lambda t, s=s: network(draw, states[s])[0](t))(theta[s]) for s in range(S)])  # (S, B, 2, 13)
    dense = torch.einsum("sbkp,sbk,sbkq->spq", jacobian, weight, jacobian)
    torch.testing.assert_close(matrix(product, 13, draw), dense, rtol=1e-11, atol=1e-12)

    def kl(t):
        new = function(t)
        ratio = torch.exp(2.0 * (out[..., 1] - new[..., 1]))
        shift = (out[..., 0] - new[..., 0]).square() * torch.exp(-2.0 * new[..., 1])
        return (new[..., 1] - out[..., 1] + 0.5 * (ratio + shift - 1.0)).mean(-1)

    torch.testing.assert_close(matrix(natural.hessian(kl, theta), 13, draw), dense, rtol=1e-9, atol=1e-10)
    one = hessian(lambda t: kl(torch.cat([t[None], theta[1:]]))[0])(theta[0])
    torch.testing.assert_close(one, dense[0], rtol=1e-9, atol=1e-10)


def test_a_rank_one_metric_pulled_back_is_the_empirical_fisher(draw):
    b = 6
    states, x = draw(S, b, 2), draw(S, b, seed=1)
    function, theta = network(draw, states)

    def log_density(out):
        return Normal(out[..., 0], out[..., 1].exp()).log_prob(x)

    u = grad(lambda out: log_density(out).sum())(function(theta))
    product = natural.pullback(function, theta, lambda d: u * (u * d).sum(-1, keepdim=True) / b)
    scores = jacrev(lambda t: log_density(function(t)))(theta)  # (S, B, S, 13)
    scores = torch.stack([scores[s, :, s] for s in range(S)])
    v = draw(S, 13, seed=2)
    torch.testing.assert_close(product(v), natural.empirical(scores)(v), rtol=1e-10, atol=1e-12)


def test_damping_adds_a_multiple_of_the_identity(draw):
    v = draw(S, P)
    torch.testing.assert_close(natural.damped(lambda v: 3.0 * v, 0.5)(v), 3.5 * v)


# --- the step ---------------------------------------------------------------------------------------------------------


def test_a_natural_step_is_the_inverse_metric_times_the_gradient_at_the_length_of_the_trust_region(draw):
    factor, g = draw(S, 5, 5), draw(S, 5, seed=1)
    dense = factor @ factor.mT + 0.1 * torch.eye(5).to(g)
    step = natural.step(lambda v: (dense @ v[..., None])[..., 0], g, eps=0.02, steps=20)
    expected = torch.linalg.solve(dense, g)
    torch.testing.assert_close(step.direction, expected, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(step.size, (2.0 * 0.02 / (expected * g).sum(-1)).sqrt(), rtol=1e-9, atol=0)
    torch.testing.assert_close(step.move, step.size[:, None] * step.direction)
    length = torch.einsum("sp,spq,sq->s", step.move, dense, step.move)
    torch.testing.assert_close(0.5 * length, torch.full_like(length, 0.02), rtol=1e-12, atol=0)
    assert (step.residual < 1e-9).all()
    short = natural.step(lambda v: (dense @ v[..., None])[..., 0], g, eps=0.02, steps=2)
    left = g - (dense @ short.direction[..., None])[..., 0]
    torch.testing.assert_close(short.residual, left.norm(dim=-1) / g.norm(dim=-1))
    assert (short.residual > 1e-3).all()
    loose = natural.step(lambda v: (dense @ v[..., None])[..., 0], g, eps=0.02, steps=20, tol=0.9)
    assert (loose.residual > 1e-3).all()


def test_the_step_moves_a_gaussian_by_eps_nats(draw):
    """KL after the step is eps, up to the third order: |KL - eps| <= C eps^1.5."""
    mean, std = gaussians(draw)
    theta, g = torch.stack([mean, std], -1), draw(S, 2, seed=3)
    kl = kl_to(mean, std, lambda s: s)
    errors = []
    for eps in (1e-4, 1e-6):
        step = natural.step(natural.hessian(kl, theta), g, eps=eps, steps=2)
        errors.append((kl(theta + step.move) / eps - 1.0).abs())
    assert (errors[0] < 0.1).all()
    torch.testing.assert_close(errors[1], 0.1 * errors[0], rtol=0.1, atol=1e-6)


def test_the_natural_gradient_of_a_gaussian_has_its_closed_form(draw):
    mean, std = gaussians(draw)
    theta, g = torch.stack([mean, std], -1), draw(S, 2, seed=3)
    found = conjugate_gradient(natural.hessian(kl_to(mean, std, lambda s: s), theta), g, steps=4).x
    torch.testing.assert_close(found, torch.stack([std**2 * g[:, 0], 0.5 * std**2 * g[:, 1]], -1))


def test_a_natural_step_does_not_know_its_coordinates(draw):
    """To first order in eps the same Gaussian is reached from (mean, std) and from (mean, variance); not so by gradients."""
    mean, std, eps = *gaussians(draw), 1e-8

    def loss(theta, inverse):
        return theta[..., 0].sin() + inverse(theta[..., 1]).cos()

    reached = []
    for forward, inverse in COORDINATES.values():
        theta = torch.stack([mean, forward(std)], -1)
        g = grad(lambda t, inverse=inverse: loss(t, inverse).sum())(theta)
        theta = theta + natural.step(natural.hessian(kl_to(mean, std, inverse), theta), g, eps=eps, steps=4).move
        reached.append(torch.stack([theta[:, 0] - mean, inverse(theta[:, 1]) - std], -1))
    for other in reached[1:]:
        torch.testing.assert_close(other, reached[0], rtol=1e-2, atol=1e-7 * eps**0.5)  # eps^(1/2) = 1e-4 of relative error, times slopes


def test_steps_that_have_no_length_stay(draw):
    g = draw(S, P)
    g[1] = 0.0
    step = natural.step(lambda v: 2.0 * v, g, eps=0.1, steps=3)
    assert not step.move[1].any()
    torch.testing.assert_close(step.move[0], g[0] / g[0].norm() * (2.0 * 0.1 / 2.0) ** 0.5)
    for factor in (0.0, -1.0):
        flat = natural.step(lambda v, factor=factor: factor * v, g, eps=0.1, steps=3)
        torch.testing.assert_close(flat.direction, g, rtol=1e-15, atol=0.0)  # divided by |g| and multiplied again
        assert not flat.move.any()


def test_the_search_takes_the_first_acceptable_fraction_of_each_seed(draw):
    theta, move = torch.zeros(4, 2).to(draw(1)), torch.ones(4, 2).to(draw(1))
    bounds = torch.tensor([2.0, 0.7, 0.2, 1e-9]).to(theta)
    calls = []

    def acceptable(candidate):
        calls.append(candidate[0, 0].item())
        return candidate[:, 0] < bounds

    found, factor = natural.backtrack(acceptable, theta, move, shrink=0.5, tries=4)
    assert calls == [1.0, 0.5, 0.25, 0.125]
    assert factor.tolist() == [1.0, 0.5, 0.125, 0.0]
    torch.testing.assert_close(found, factor[:, None] * move)


def test_a_criterion_that_is_nan_leaves_theta_where_it_is(draw):
    theta = draw(2, 3)
    found, factor = natural.backtrack(lambda t: t.sum(-1) * torch.nan < 1.0, theta, torch.ones_like(theta), shrink=0.5, tries=3)
    assert torch.equal(found, theta)
    assert not factor.any()


def test_algorithm_2_with_a_search_finds_the_maximum_likelihood(draw):
    """Hoagland's example: N(12, 4^2) from (0, 1), metric from samples of the model; the maximum is the data's mean and deviation."""
    data = 12.0 + 4.0 * draw(S, 500, seed=7)
    theta = torch.tensor([0.0, 1.0]).to(data).expand(S, 2)

    def likelihood(t):
        inside = torch.where(t[:, 1:] > 0.0, t[:, 1:], torch.nan)
        return (-0.5 * ((data - t[:, :1]) / inside).square() - inside.log()).mean(-1)

    for k in range(60):
        z = draw(S, 1000, seed=100 + k)
        metric = natural.empirical(torch.stack([z, z.square() - 1.0], -1) / theta[:, 1, None, None])
        g = grad(lambda t: likelihood(t).sum())(theta)
        step, old = natural.step(metric, g, eps=0.05, steps=2), likelihood(theta)
        theta, _ = natural.backtrack(lambda t, old=old: likelihood(t) > old, theta, step.move, shrink=0.5, tries=30)
    torch.testing.assert_close(theta, torch.stack([data.mean(-1), data.std(-1, correction=0)], -1), rtol=1e-6, atol=1e-6)


def test_gradients_of_divergences_are_those_of_differences(draw):
    mean, std = gaussians(draw)
    theta, v = torch.stack([mean, std], -1), draw(S, 2, seed=3)
    kl = kl_to(mean + 0.3, 1.5 * std, lambda s: s)  # not at its minimum: the Hessian itself
    slopes = central_difference(lambda t: (central_difference(lambda u: kl(u).sum(), t, 1e-4) * v).sum(), theta, 1e-4)
    torch.testing.assert_close(natural.hessian(kl, theta)(v), slopes, rtol=1e-4, atol=1e-4)


def test_bad_arguments_are_refused():
    g = torch.ones(2)
    for change, message in (({"eps": 0.0}, "eps is 0.0; allowed is a positive"), ({"steps": 0}, "steps is 0; allowed is a whole number")):
        with pytest.raises(ValueError, match=message):
            natural.step(lambda v: v, g, **{"eps": 0.1, "steps": 1, **change})
    with pytest.raises(ValueError, match="scores has shape"):
        natural.empirical(torch.ones(3))
