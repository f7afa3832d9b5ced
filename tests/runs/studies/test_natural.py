"""The recipe of natural gradients: its gradients against autograd and closed forms, and what it shows."""

import pytest
import torch
from torch.distributions import Normal
from torch.func import grad

from tests.policies.plain import draw
from wgf.runs.studies import natural


def test_the_slope_is_that_of_the_summed_log_likelihood():
    data = 12.0 + 4.0 * draw(50).double()
    theta = torch.tensor([[0.0, 1.0], [10.0, 6.0]], dtype=torch.float64)

    def summed(t):
        return Normal(t[..., :1], t[..., 1:]).log_prob(data).sum(-1)

    torch.testing.assert_close(natural.slope(theta, data), grad(lambda t: summed(t).sum())(theta))
    found, expected = natural.log_likelihood(theta, data), summed(theta)
    torch.testing.assert_close(found[0] - found[1], expected[0] - expected[1])


def test_the_natural_gradient_of_the_mean_is_the_distance_to_go():
    """F^-1 grad log N = (x - mean, ((x - mean)^2 - std^2) / (2 std)), whatever std is."""
    theta, x = torch.tensor([3.0, 0.5], dtype=torch.float64), torch.tensor([12.0], dtype=torch.float64)
    found = natural.ascent("natural gradient", theta, natural.slope(theta, x))
    torch.testing.assert_close(found, torch.tensor([9.0, (81.0 - 0.25) / (2.0 * 0.5)], dtype=torch.float64))
    assert torch.equal(natural.ascent("gradient", theta, x), x)


def test_an_episode_pays_for_where_it_is_and_for_what_it_does():
    theta = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    xi = torch.tensor([[[0.5, -1.0, 0.0]]], dtype=torch.float64)  # actions 2, -1, 1 from the states 0, 2, 1
    assert natural.episodes(theta, xi).tolist() == [[-(0.0 + 4.0) - (4.0 + 1.0) - (1.0 + 1.0)]]


def test_the_policy_gradient_is_that_of_the_expected_return():
    """Two steps: J = -E[a1^2 + a1^2 + a2^2] = -3 (mean^2 + std^2); its gradient per deviation of the return, to four of Monte Carlo's."""
    n, theta = 200_000, torch.tensor([[1.5, 2.0]], dtype=torch.float64)
    xi = torch.randn(1, n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    returns = natural.episodes(theta, xi)
    found = natural.policy_gradient(theta, xi, returns)
    expected = -6.0 * theta / returns.std()
    terms = torch.stack([xi.sum(-1), (xi.square() - 1.0).sum(-1)], -1) * ((returns - returns.mean()) / returns.std())[..., None] / 2.0
    error = 4.0 * terms.std(1) / n**0.5
    assert ((found - expected).abs() <= error).all()
    assert (expected.abs() > 20.0 * error).all()


def test_the_recipe_shows_what_the_paper_tells(tmp_path, capsys):
    assert natural.main(natural.Options(tmp_path, updates=60), print) == 0
    for name in ("likelihood.png", "line.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"
    text = (tmp_path / "natural.md").read_text()
    assert text in capsys.readouterr().out
    rows = {c[1].strip(): c[2:] for c in (line.split("|") for line in text.splitlines() if line)}
    steps = [int(rows[name][0].replace(",", "")) for name in ("gradient", "natural gradient", "Algorithm 2, 0.05 nats")]
    assert steps[0] > 20 * steps[1] > 20 * steps[2] > 0
    assert float(rows["gradient"][1]) > 1.5 * float(rows["natural gradient"][1])  # driven away, further by the gradient
    last = [float(rows[name][3].split("[")[0].replace(",", "")) for name in ("policy gradient", "natural policy gradient")]
    assert last[0] < 100.0 * last[1] < 0.0


@pytest.mark.parametrize("method", natural.METHODS)
def test_an_agent_learns_as_it_does_with_other_updates_to_come(method):
    short, long = (natural.learn(method, natural.Options(updates=n)) for n in (2, 4))
    assert short.shape == (3, natural.AGENTS)
    assert torch.equal(short, long[:3])
    torch.testing.assert_close(natural.learn(method, natural.Options(updates=2, seed=1))[:, 0], short[:, 1])
