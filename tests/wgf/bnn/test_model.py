"""The score is autograd's gradient of the joint density, written here with torch.distributions; the rest against its definition."""

import math
from itertools import pairwise

import pytest
import torch
from torch.distributions import Categorical, Gamma, MixtureSameFamily, Normal

from tests.policies.plain import draw, leaf, seeds
from wgf.bnn.model import Model, Prior, deviation, log_density

pytestmark = pytest.mark.usefixtures("double")
S, M, B, D, N = 2, 3, 7, 4, 50
PRIOR = Prior(1.7, 0.3)


def network(w, x, hidden):
    """f(x; w) of one network from its vector, layer by layer."""
    sizes = [x.shape[-1], *hidden, 1]
    for k, (i, o) in enumerate(pairwise(sizes)):
        x = (torch.relu(x) if k else x) @ w[: i * o].view(i, o) + w[i * o : i * o + o]
        w = w[i * o + o :]
    assert not len(w)
    return x[..., 0]


def log_joint(particle, x, y, hidden, *, centred):
    """log p(particle, data), the minibatch counted N / B times; densities of the precisions are those of their logarithms."""
    gamma, lam = particle[-2:].exp()
    w = particle[:-2] if centred else particle[:-2] / lam.sqrt()
    likelihood = Normal(network(w, x, hidden), gamma**-0.5).log_prob(y).sum() * N / len(y)
    law = Gamma(PRIOR.shape, PRIOR.rate)
    precisions = law.log_prob(gamma) + gamma.log() + law.log_prob(lam) + lam.log()
    scale = lam**-0.5 if centred else torch.ones(())
    return likelihood + precisions + Normal(0.0, scale).log_prob(particle[:-2]).sum()


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("hidden", [(5,), (5, 3), ()])
def test_score_is_the_gradient_of_the_joint_density(hidden, centred):
    model = Model(D, hidden, S, M, centred=centred, prior=PRIOR)
    particles, x, y = 0.6 * draw(S, M, model.weights + 2), draw(S, B, D, seed=1), draw(S, B, seed=2)
    score = model.score(particles, x, y, N)
    for s in range(S):
        for m in range(M):
            particle = leaf(particles[s, m])
            (expected,) = torch.autograd.grad(log_joint(particle, x[s], y[s], hidden, centred=centred), particle)
            torch.testing.assert_close(score[s, m], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("centred", [True, False])
def test_predictions_are_those_of_each_network_on_its_own_data_set(centred):
    model = Model(D, (5, 3), S, M, centred=centred, prior=PRIOR)
    particles, x = draw(S, M, model.weights + 2), draw(S, B, D, seed=1)
    found = model.predict(particles, x)
    for s in range(S):
        for m in range(M):
            w = particles[s, m, :-2] * (1.0 if centred else torch.exp(-0.5 * particles[s, m, -1]))
            torch.testing.assert_close(found[s, m], network(w, x[s], (5, 3)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("centred", [True, False])
def test_the_start_has_the_published_laws(centred):
    m, d, h = 400, 8, 50
    model = Model(d, (h,), 1, m, centred=centred, prior=Prior())
    x, y = draw(1, 1200, d, seed=1), draw(1, 1200, seed=2)
    particles = model.init(x, y, seeds(3))
    w, log_gamma, log_lam = model.parts(particles)
    (w1, b1), (w2, b2) = model.net.layers(w)
    # 4 standard errors of a standard deviation: 4 / sqrt(2 n)
    assert w1.std().item() == pytest.approx(1.0 / math.sqrt(d + 1), rel=4.0 / math.sqrt(2 * m * d * h))
    assert w2.std().item() == pytest.approx(1.0 / math.sqrt(h + 1), rel=4.0 / math.sqrt(2 * m * h))
    assert b1.abs().max() == b2.abs().max() == 0.0
    for k in (0, m - 1):
        residual = network(w[0, k], x[0, :1000], (h,)) - y[0, :1000]
        assert log_gamma[0, k].item() == pytest.approx(-math.log(residual.square().mean()), abs=1e-10)
    assert log_lam.exp().mean().item() == pytest.approx(1.0, abs=4.0 / math.sqrt(m))  # Gamma(1, 1): mean 1, deviation 1
    assert (log_lam.exp() < math.log(2.0)).double().mean().item() == pytest.approx(0.5, abs=4.0 * 0.5 / math.sqrt(m))


def test_a_data_set_starts_in_a_stack_as_it_does_alone():
    x, y = draw(2, 9, D, seed=1), draw(2, 9, seed=2)
    both = Model(D, (5,), 2, M, centred=False, prior=PRIOR).init(x, y, seeds(7, 8))
    alone = Model(D, (5,), 1, M, centred=False, prior=PRIOR).init(x[1:], y[1:], seeds(8))
    torch.testing.assert_close(both[1:], alone, rtol=1e-12, atol=1e-12)


def test_log_density_is_that_of_the_mixture_over_particles():
    prediction, log_gamma, y = draw(S, M, B), draw(S, M, seed=1), draw(S, B, seed=2)
    each = torch.stack([Normal(prediction[:, m], torch.exp(-0.5 * log_gamma[:, m, None])).log_prob(y).exp() for m in range(M)])
    torch.testing.assert_close(log_density(prediction, log_gamma, y), each.mean(0).log(), rtol=1e-12, atol=1e-12)


def test_deviation_is_that_of_the_same_mixture():
    prediction, log_gamma = draw(S, M, B), draw(S, M, seed=1)
    each = Normal(prediction.mT, torch.exp(-0.5 * log_gamma)[:, None])
    expected = MixtureSameFamily(Categorical(torch.ones(S, B, M)), each.expand((S, B, M))).stddev
    torch.testing.assert_close(deviation(prediction, log_gamma), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("centred", [True, False])
def test_where_the_weights_are_held_the_density_grows_without_bound_towards_none_at_all(centred):
    model = Model(D, (5,), 1, 1, centred=centred, prior=Prior())
    x, y = draw(1, B, D, seed=1), draw(1, B, seed=2)
    far = torch.zeros(1, 1, model.weights + 2)
    far[..., -1] = 2.0
    slope = model.score(far, x, y, B)[0, 0, -1].item()
    assert slope > 10.0 if centred else slope == pytest.approx(1.0 - 0.1 * math.exp(2.0), abs=1e-12)
