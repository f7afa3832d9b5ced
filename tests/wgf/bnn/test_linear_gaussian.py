"""Without hidden layers and at fixed precisions the posterior is Gaussian: flows that leave the stationary law alone reach it.

W ~ N(S gamma A^T y, S), S = (gamma A^T A + lambda I)^-1, A the inputs with a column of ones: Bishop 2006, Eq. 3.53 and 3.54.
"""

import math

import pytest
import torch

from tests.oracles import linear
from tests.policies.plain import draw
from wgf import flow, svgd
from wgf.bnn.model import Model, Prior
from wgf.transport import VELOCITIES

pytestmark = pytest.mark.usefixtures("double")
M, D, N, GAMMA, LAM = 8, 2, 30, 0.2, 1.5


def problem():
    """The score of the weights (1, M, D + 1), and the posterior's mean and covariance."""
    model = Model(D, (), 1, M, centred=True, prior=Prior())
    x, y = draw(1, N, D, seed=1), draw(1, N, seed=2) + 1.0
    precisions = torch.tensor([GAMMA, LAM]).log().expand(1, M, 2)

    def score(w):
        return model.score(torch.cat([w, precisions], -1), x, y, N)[..., :-2]

    a = torch.cat([x[0], torch.ones(N, 1)], -1)
    covariance = torch.linalg.inv(GAMMA * a.mT @ a + LAM * torch.eye(D + 1))
    return score, covariance @ (GAMMA * a.mT @ y[0]), covariance


@pytest.mark.parametrize("w2", [None, "exact", "debiased", "common_noise"])
def test_svgd_with_the_linear_kernel_and_any_unbiased_w2_reaches_mean_and_covariance(w2):
    score, mean, covariance = problem()

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


def test_ninety_percent_intervals_cover_data_from_the_model():
    """Two thousand new targets from a network drawn from the prior, seen by a fit to 400 of its targets."""
    from wgf.bnn import BayesianRegressor

    random = torch.Generator().manual_seed(5)
    x = torch.randn(2400, 3, generator=random)
    model = Model(3, (20,), 1, 1, centred=True, prior=Prior())
    truth = torch.randn(1, 1, model.weights + 2, generator=random)
    y = model.predict(truth, x[None])[0, 0] + math.sqrt(1.0 / GAMMA) * torch.randn(2400, generator=random)
    fitted = BayesianRegressor(hidden=(20,), iterations=1500, random_state=0).fit(x[:400].numpy(), y[:400].numpy())
    low, high = fitted.predict_interval(x[400:].numpy(), 0.9)
    inside = ((y[400:].numpy() > low) & (y[400:].numpy() < high)).mean()
    assert 0.85 <= inside <= 0.95
