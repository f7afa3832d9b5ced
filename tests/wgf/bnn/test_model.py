"""The score is autograd's gradient of the joint density, written here with torch.distributions; the rest against its definition."""

import math
from itertools import pairwise

import pytest
import torch
from torch.distributions import Categorical, Gamma, MixtureSameFamily, Normal

from tests.policies.plain import draw, leaf, seeds
from wgf.bnn.model import LEAST_RESIDUAL, Model, Prior, deviation, log_density
from wgf.bnn.network import Net

pytestmark = pytest.mark.usefixtures("double")
S, M, B, D, K, N = 2, 3, 7, 4, 3, 50
PRIOR = Prior(1.7, 0.3)


def model(hidden, outputs=1, particles=M, features=D, centred=False, prior=PRIOR):
    return Model(Net((features, *hidden, outputs)), particles, centred, prior)


def network(w, x, hidden, outputs):
    """f(x; w) of one network from its vector, layer by layer, (B, K)."""
    sizes = [x.shape[-1], *hidden, outputs]
    for k, (i, o) in enumerate(pairwise(sizes)):
        x = (torch.relu(x) if k else x) @ w[: i * o].view(i, o) + w[i * o : i * o + o]
        w = w[i * o + o :]
    assert not len(w)
    return x


def log_joint(particle, x, y, weights, hidden, *, centred):
    """log p(particle, data), the minibatch counted N / B times; densities of the precisions are those of their logarithms."""
    outputs = y.shape[-1]
    gamma, lam = particle[-1 - outputs : -1].exp(), particle[-1].exp()
    held = particle[: -1 - outputs]
    w = held if centred else held / lam.sqrt()
    rows = Normal(network(w, x, hidden, outputs), gamma**-0.5).log_prob(y).sum(-1)
    law = Gamma(PRIOR.shape, PRIOR.rate)
    precisions = (law.log_prob(gamma) + gamma.log()).sum() + law.log_prob(lam) + lam.log()
    scale = lam**-0.5 if centred else torch.ones(())
    return (weights * rows).sum() * N / len(y) + precisions + Normal(0.0, scale).log_prob(held).sum()


@pytest.mark.parametrize("outputs", [1, K])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("hidden", [(5,), (5, 3), ()])
def test_score_is_the_gradient_of_the_joint_density(hidden, centred, outputs):
    about = model(hidden, outputs, centred=centred)
    particles, x = 0.6 * draw(S, M, about.net.weights + outputs + 1), draw(S, B, D, seed=1)
    y, weights = draw(S, B, outputs, seed=2), draw(S, B, seed=3).exp()
    score, joint = (f(particles, x, y, weights, N) for f in (about.score, about.log_joint))
    gaps = torch.empty(S, M)
    for s in range(S):
        for m in range(M):
            particle = leaf(particles[s, m])
            value = log_joint(particle, x[s], y[s], weights[s], hidden, centred=centred)
            (expected,) = torch.autograd.grad(value, particle)
            torch.testing.assert_close(score[s, m], expected, rtol=1e-10, atol=1e-10)
            gaps[s, m] = value.detach() - joint[s, m]
    torch.testing.assert_close(gaps, gaps[:, :1].expand(S, M), rtol=1e-10, atol=0.0)  # of a data set, one constant
    assert not score.requires_grad


@pytest.mark.parametrize("outputs", [1, K])
@pytest.mark.parametrize("centred", [True, False])
def test_predictions_are_those_of_each_network_on_its_own_data_set(centred, outputs):
    about = model((5, 3), outputs, centred=centred)
    particles, x = draw(S, M, about.net.weights + outputs + 1), draw(S, B, D, seed=1)
    found = about.predict(particles, x)
    for s in range(S):
        for m in range(M):
            w = particles[s, m, : -1 - outputs] * (1.0 if centred else torch.exp(-0.5 * particles[s, m, -1]))
            torch.testing.assert_close(found[s, m], network(w, x[s], (5, 3), outputs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("centred", [True, False])
def test_the_start_has_the_published_laws(centred):
    m, d, h = 400, 8, 50
    about = model((h,), 2, m, d, centred, Prior())
    x, y = draw(1, 1200, d, seed=1), draw(1, 1200, 2, seed=2) * torch.tensor([1.0, 3.0])
    particles = about.init(x, y, seeds(3))
    w, log_gamma, log_lam = about.parts(particles)
    (w1, b1), (w2, b2) = ((layer[..., :-1, :], layer[..., -1, :]) for layer in about.net.layers(w))
    # 4 standard errors of a standard deviation: 4 / sqrt(2 n)
    assert w1.std().item() == pytest.approx(1.0 / math.sqrt(d + 1), rel=4.0 / math.sqrt(2 * m * d * h))
    assert w2.std().item() == pytest.approx(1.0 / math.sqrt(h + 1), rel=4.0 / math.sqrt(4 * m * h))
    assert b1.abs().max() == b2.abs().max() == 0.0
    for k in (0, m - 1):
        residual = network(w[0, k], x[0, :1000], (h,), 2) - y[0, :1000]
        torch.testing.assert_close(log_gamma[0, k], -residual.square().mean(0).log(), rtol=1e-10, atol=1e-10)
    assert log_lam.exp().mean().item() == pytest.approx(1.0, abs=4.0 / math.sqrt(m))  # Gamma(1, 1): mean 1, deviation 1
    assert (log_lam.exp() < math.log(2.0)).double().mean().item() == pytest.approx(0.5, abs=4.0 * 0.5 / math.sqrt(m))


def test_networks_that_fit_all_rows_at_the_start_do_not_start_with_a_boundless_precision():
    start = model((5,)).init(torch.zeros(1, 1, D), torch.zeros(1, 1, 1), seeds(0))  # biases are 0: f(0) = 0
    torch.testing.assert_close(start[..., -2], torch.full((1, M), -math.log(LEAST_RESIDUAL)))


def test_a_data_set_starts_in_a_stack_as_it_does_alone():
    x, y = draw(2, 9, D, seed=1), draw(2, 9, 1, seed=2)
    both, alone = model((5,)).init(x, y, seeds(7, 8)), model((5,)).init(x[1:], y[1:], seeds(8))
    torch.testing.assert_close(both[1:], alone, rtol=1e-12, atol=1e-12)


def test_log_density_is_that_of_the_mixture_over_particles():
    prediction, log_gamma, y = draw(S, M, B, K), draw(S, M, K, seed=1), draw(S, B, K, seed=2)
    each = torch.stack([Normal(prediction[:, m], torch.exp(-0.5 * log_gamma[:, m, None])).log_prob(y).sum(-1).exp() for m in range(M)])
    torch.testing.assert_close(log_density(prediction, log_gamma, y), each.mean(0).log(), rtol=1e-12, atol=1e-12)


def test_deviation_is_that_of_the_same_mixture():
    prediction, log_gamma = draw(S, M, B, K), draw(S, M, K, seed=1)
    each = Normal(prediction.movedim(1, -1), torch.exp(-0.5 * log_gamma).mT[:, None])
    expected = MixtureSameFamily(Categorical(torch.ones(S, B, K, M)), each.expand((S, B, K, M))).stddev
    torch.testing.assert_close(deviation(prediction, log_gamma), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("centred", [True, False])
def test_where_the_weights_are_held_the_density_grows_without_bound_towards_none_at_all(centred):
    about = model((5,), particles=1, centred=centred, prior=Prior())
    x, y = draw(1, B, D, seed=1), draw(1, B, 1, seed=2)
    far = torch.zeros(1, 1, about.net.weights + 2)
    far[..., -1] = 2.0
    slope = about.score(far, x, y, torch.ones(1, B), B)[0, 0, -1].item()
    assert slope > 10.0 if centred else slope == pytest.approx(1.0 - 0.1 * math.exp(2.0), abs=1e-12)
