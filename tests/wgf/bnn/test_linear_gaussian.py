"""Without hidden layers and at fixed precisions the posterior is Gaussian: flows that leave the stationary law alone reach it.

W_k ~ N(S_k gamma_k A^T V y_k, S_k), S_k = (gamma_k A^T V A + lambda I)^-1, one law an output, A the inputs with a column of ones and V
the rows' weights, diagonal: Bishop 2006, Eq. 3.53, 3.54 and, weighted, exercise 3.3.
"""

import math

import pytest
import torch

from tests.oracles import linear
from tests.policies.plain import draw
from wgf import flow, svgd
from wgf.bnn.model import Model, Prior
from wgf.bnn.network import Net
from wgf.transport import VELOCITIES

pytestmark = pytest.mark.usefixtures("double")
M, D, N, GAMMA, LAM = 8, 2, 30, 0.2, 1.5


def problem(weights, gammas=(GAMMA,)):
    """The score of the weights (1, M, (D + 1) K), whose rows count ``weights`` (N,) times, and of each output the posterior's mean (D + 1,)
    and covariance."""
    model = Model(Net((D, len(gammas))), M, centred=True, prior=Prior())
    x, y = draw(1, N, D, seed=1), draw(1, N, len(gammas), seed=2) + 1.0
    precisions = torch.tensor([*gammas, LAM]).log().expand(1, M, -1)

    def score(w):
        return model.score(torch.cat([w, precisions], -1), x, y, weights[None], N)[..., : w.shape[-1]]

    a = torch.cat([x[0], torch.ones(N, 1)], -1)
    covariances = [torch.linalg.inv(gamma * a.mT @ (weights[:, None] * a) + LAM * torch.eye(D + 1)) for gamma in gammas]
    return score, [(c @ (g * a.mT @ (weights * y[0, :, k])), c) for k, (g, c) in enumerate(zip(gammas, covariances, strict=True))]


@pytest.mark.parametrize("w2", [None, "exact", "debiased", "common_noise"])
def test_svgd_with_the_linear_kernel_and_any_unbiased_w2_reaches_mean_and_covariance(w2):
    score, [(mean, covariance)] = problem(torch.ones(N))

    def kl(w, s):
        return svgd.velocity(w, s, linear)

    particles = draw(1, M, D + 1, seed=3)
    if w2 is None:
        for _ in range(1200):
            particles = particles + 0.05 * kl(particles, score(particles))
    else:
        scheme = flow.jko(score, h=0.5, lr=0.05, inner_steps=4, kl=kl, w2=VELOCITIES[w2])
        state = scheme.init(particles)
        for _ in range(300):
            state = scheme.step(state)
        particles = state.x
    torch.testing.assert_close(particles[0].mean(0), mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(torch.cov(particles[0].mT, correction=0), covariance, rtol=1e-6, atol=1e-6)


def test_weights_of_rows_and_several_outputs_have_the_posterior_in_closed_form():
    """SVGD's linear kernel has the posterior's mean and covariance for its only rest, where particles are more than dimensions."""
    weights = torch.arange(N) % 4 * 0.5  # some rows do not count at all
    score, posteriors = problem(weights, (GAMMA, 1.0))
    w = draw(1, M, 2 * (D + 1), seed=3)
    for _ in range(4000):
        w = w + 0.02 * svgd.velocity(w, score(w), linear)
    columns = w[0].view(M, D + 1, 2)  # W (D, K) row by row, then the biases
    for k, (mean, covariance) in enumerate(posteriors):
        torch.testing.assert_close(columns[..., k].mean(0), mean, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(torch.cov(columns[..., k].mT, correction=0), covariance, rtol=1e-6, atol=1e-6)
    between = torch.cov(w[0].mT, correction=0).view(D + 1, 2, D + 1, 2)[:, 0, :, 1]
    torch.testing.assert_close(between, torch.zeros(D + 1, D + 1), rtol=0.0, atol=1e-6)  # outputs share no weight here


def test_ninety_percent_intervals_cover_data_from_the_model():
    """Two thousand new targets from a network drawn from the prior, seen by a fit to 4,000 of its targets.

    The noise's deviation comes from a dev part of 400 rows: 4 standard errors of it are a share of 4 / sqrt(800), with which 0.9 becomes
    0.842 to 0.940; 4 standard errors of a share of 2,000 targets are 0.027.
    """
    from wgf.bnn import BayesianRegressor

    random = torch.Generator().manual_seed(5)
    x = torch.randn(6000, 3, generator=random)
    net = Net((3, 20, 1))
    truth = torch.randn(1, 1, net.weights, generator=random)
    y = net(truth, x[None])[0, 0, :, 0] + math.sqrt(1.0 / GAMMA) * torch.randn(6000, generator=random)
    fitted = BayesianRegressor(hidden=20, iterations=1500, random_state=0).fit(x[:4000].numpy(), y[:4000].numpy())
    low, high = fitted.predict_interval(x[4000:].numpy(), 0.9)
    inside = ((y[4000:].numpy() > low) & (y[4000:].numpy() < high)).mean()
    assert 0.842 - 0.027 <= inside <= 0.940 + 0.027
