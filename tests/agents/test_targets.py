"""Targets and losses against sums written out, quadrature and autograd."""

import math

import numpy as np
import pytest
import torch

from tests.policies.plain import draw
from wgf import transport
from wgf.agents import registry
from wgf.agents.tasks.fleet import Outcome
from wgf.agents.training import targets
from wgf.agents.training.ring import Ring

S, E, B, M, A = 2, 3, 4, 5, 2


pytestmark = pytest.mark.usefixtures("double")


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def q_of(a):
    """A Q of one action in (-1, 1)."""
    return torch.sin(3.0 * a) + 0.5 * a


def quadrature(n=200):
    """Gauss-Legendre nodes and weights on (-1, 1): exact to rounding for the smooth integrands here."""
    return (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(n))


def soft_law(alpha):
    """V = alpha log int exp(Q / alpha) da and the entropy of pi = exp((Q - V) / alpha)."""
    a, w = quadrature()
    v = alpha * (w * torch.exp(q_of(a) / alpha)).sum().log()
    log_pi = (q_of(a) - v) / alpha
    return v, -(w * log_pi.exp() * log_pi).sum()


def draws_of_soft_law(alpha, n):
    """n evenly spaced quantiles of pi = exp((Q - V) / alpha), with their Q and log pi, (1, 1, n)."""
    grid = torch.linspace(-1.0, 1.0, 200_001)
    cdf = torch.cumulative_trapezoid(torch.exp(q_of(grid) / alpha), grid)
    cdf = torch.cat([torch.zeros(1), cdf / cdf[-1]])
    a = torch.from_numpy(np.interp(((torch.arange(n) + 0.5) / n).numpy(), cdf.numpy(), grid.numpy()))
    return q_of(a)[None, None], ((q_of(a) - soft_law(alpha)[0]) / alpha)[None, None]


def test_td_target_is_the_reward_plus_the_discounted_value():
    y = targets.td_target(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5, 0.99]]), torch.tensor([[3.0, 10.0]]))
    torch.testing.assert_close(y, torch.tensor([[2.5, 7.9]]), rtol=1e-14, atol=0.0)


def test_a_truncated_episode_bootstraps_and_a_terminated_one_does_not():
    gamma, zero, yes, no = 0.5, torch.zeros(1, 1, 1), torch.tensor([[True]]), torch.tensor([[False]])
    y = {}
    for end, terminated, truncated in (("terminated", yes, no), ("truncated", no, yes), ("running", no, no)):
        ring = Ring([0], 8, 1, 1, gamma, torch.device("cpu"))
        ring.add(zero, zero, Outcome(obs=zero, next_obs=zero, reward=zero[..., 0] + 0.25, terminated=terminated, truncated=truncated))
        batch = ring.sample(1)
        y[end] = targets.td_target(batch.reward, batch.discount, torch.full_like(batch.reward, 2.0)).item()
    assert y == {"terminated": 0.25, "truncated": 0.25 + gamma * 2.0, "running": 0.25 + gamma * 2.0}


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_soft_value_is_the_log_integral_of_the_exponential_of_q(alpha):
    # evenly spaced midpoints stand for uniform draws: the midpoint rule, whose error is below (step^2 / 24) 2 max|f''| / int f
    n = 4000
    a = (2.0 * (torch.arange(n) + 0.5) / n - 1.0)[None, None]
    curvature = (
        3.5 / alpha
    ) ** 2 + 9.0 / alpha  # f = exp(Q / alpha): f'' = (Q'^2 / alpha^2 + Q'' / alpha) f, and f <= e^(1.5 / alpha) of f's least
    bound = alpha * (2.0 / n) ** 2 / 24.0 * 2.0 * curvature * math.exp(1.5 / alpha)
    value = targets.soft_value(q_of(a), alpha, 1)
    assert value.shape == (1, 1)
    assert abs(value.item() - soft_law(alpha)[0].item()) < bound


def test_soft_value_of_a_flat_q_is_q_plus_the_log_volume_of_the_actions():
    q = draw(S, B)
    torch.testing.assert_close(
        targets.soft_value(q[..., None].expand(S, B, M), 0.7, 3), q + 0.7 * 3 * math.log(2.0), rtol=1e-13, atol=1e-14
    )


def test_soft_value_of_two_dimensions_averages_over_uniform_actions():
    n, alpha = 200_000, 0.5
    a = 2.0 * uniform(1, 1, n, 2) - 1.0
    density = torch.exp((q_of(a[..., 0]) - a[..., 1].square()) / alpha)
    x, w = quadrature()
    exact = alpha * ((w * torch.exp(q_of(x) / alpha)).sum() * (w * torch.exp(-x.square() / alpha)).sum()).log()
    error = 4.0 * alpha * density.std() / density.mean() / math.sqrt(n)  # delta method
    assert abs(targets.soft_value(q_of(a[..., 0]) - a[..., 1].square(), alpha, 2) - exact) < error


def test_entropy_value_is_the_mean_of_q_less_alpha_log_pi():
    q, log_prob, alpha = draw(S, B, M), draw(S, B, M, seed=1), torch.tensor([0.3, 2.0])[:, None, None]
    for s in range(S):
        expected = sum(q[s, :, m] - alpha[s, 0, 0] * log_prob[s, :, m] for m in range(M)) / M
        torch.testing.assert_close(targets.entropy_value(q, log_prob, alpha)[s], expected, rtol=1e-13, atol=1e-14)


def test_normalizer_value_is_the_importance_sampled_log_integral_less_the_entropy():
    q, log_prob, alpha = draw(S, B, M), draw(S, B, M, seed=1), torch.tensor([0.3, 2.0])[:, None, None]
    for s in range(S):
        t = alpha[s, 0, 0]
        integral = sum(torch.exp(q[s, :, m] / t) / torch.exp(log_prob[s, :, m]) for m in range(M)) / M
        expected = t * torch.log(integral) + t * sum(log_prob[s, :, m] for m in range(M)) / M
        torch.testing.assert_close(targets.normalizer_value(q, log_prob, alpha)[s], expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("alpha", [0.4, 1.0])
def test_values_at_the_energy_based_policy(alpha):
    """Prop. 8: with pi = exp((Q - V) / alpha), Q - alpha log pi = V everywhere, and E Q = V - alpha H."""
    v, entropy = soft_law(alpha)
    n = 2000
    q, log_prob = draws_of_soft_law(alpha, n)
    t = torch.tensor(alpha)[None, None, None]
    torch.testing.assert_close(targets.entropy_value(q, log_prob, t), v[None, None], rtol=1e-12, atol=1e-13)
    # n evenly spaced quantiles: a mean of Q over them is off by at most the range of Q over n
    bound = (q.max() - q.min()).item() / n
    assert abs(targets.normalizer_value(q, log_prob, t).item() - (v - alpha * entropy).item()) < bound
    assert abs(q.mean().item() - (v - alpha * entropy).item()) < bound  # the expected value of Prop. 8


def test_bootstraps_lie_between_the_mean_and_the_largest():
    q = torch.tensor([[[1.0, 3.0, 2.0]]])
    assert targets.BOOTSTRAPS["mean"](q, 9.0).item() == pytest.approx(2.0)
    assert targets.BOOTSTRAPS["max"](q, 0.0).item() == 3.0
    e = [math.exp(2.0 * x) for x in (1.0, 3.0, 2.0)]
    assert targets.BOOTSTRAPS["softmax"](q, 2.0).item() == pytest.approx((e[0] + 3.0 * e[1] + 2.0 * e[2]) / sum(e))
    assert targets.BOOTSTRAPS["softmax"](q, 0.0).item() == pytest.approx(2.0)
    assert targets.BOOTSTRAPS["softmax"](q, 1e3).item() == pytest.approx(3.0)


def test_descending_the_product_moves_particles_along_the_velocity():
    x, v = draw(S, B, M, A).requires_grad_(), draw(S, B, M, A, seed=1).requires_grad_()
    loss = targets.against(v, x)
    for s in range(S):
        assert loss[s].item() == pytest.approx(-sum((v[s, b, m] @ x[s, b, m]).item() for b in range(B) for m in range(M)) / (B * M))
    loss.sum().backward()
    torch.testing.assert_close(x.grad, -v.detach() / (B * M), rtol=1e-13, atol=1e-15)
    assert v.grad is None


def test_log_mean_exp_is_the_logarithm_of_the_mean():
    q = draw(S, B, M)
    expected = torch.stack([torch.exp(q[..., m]) for m in range(M)]).mean(0).log()
    torch.testing.assert_close(targets.log_mean_exp(q), expected, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(targets.log_mean_exp(q + 1e3), expected + 1e3, rtol=1e-12, atol=0.0)  # no overflow


def test_speed_is_the_mean_length():
    v = draw(S, B, M, A)
    expected = torch.stack(
        [sum(math.hypot(*v[s, b, m].tolist()) for b in range(B) for m in range(M)) / torch.tensor(B * M) for s in range(S)]
    )
    torch.testing.assert_close(targets.speed(v), expected, rtol=1e-13, atol=0.0)


def test_mean_square_is_the_mean_squared_length():
    v = draw(S, B, M, A)
    expected = torch.stack([sum(v[s, b, m] @ v[s, b, m] for b in range(B) for m in range(M)) / (B * M) for s in range(S)])
    torch.testing.assert_close(targets.mean_square(v), expected, rtol=1e-13, atol=0.0)


def test_mean_square_of_common_noise_bounds_the_wasserstein_distance():
    x, y = draw(1, 1, M, A), draw(1, 1, M, A, seed=1)
    assert targets.mean_square(x - y).item() >= transport.exact_cost(x, y).item()


def test_reward_scales_are_those_of_table_6():
    assert registry.REWARD_SCALE == {"Swimmer": 100.0, "Hopper": 1.0, "Walker2d": 3.0, "Humanoid": 3.0}


def test_a_soft_agent_of_the_paper_has_the_scale_of_its_task_and_1_where_the_table_has_none():
    scales = {"Swimmer-v5": 100.0, "Hopper-v4": 1.0, "Walker2d-v5": 3.0, "HumanoidStandup-v5": 1.0, "wgf/CartPole-v0": 1.0}
    soft, other = registry.find("sac", "paper")[1], registry.find("ddpg", "paper")[1]
    assert {env: registry.scaled(soft, "sac", "paper", env).reward_scale for env in scales} == scales
    assert registry.scaled(soft, "sac", "modern", "Swimmer-v5") is soft
    assert registry.scaled(other, "ddpg", "paper", "Swimmer-v5") is other


def test_w2_velocities_go_by_their_names():
    names = {"common_noise", "eq9_sum", "eq9_mean", "entropic", "debiased", "exact"}
    assert {name: getattr(transport, name) for name in names} == transport.VELOCITIES


def test_the_w2_velocity_is_scaled_and_a_scale_of_zero_turns_it_off():
    x, x_prev = draw(S, B, M, A), draw(S, B, M, A, seed=1)
    torch.testing.assert_close(targets.w2_velocity("common_noise", 0.4, x, x_prev), 0.4 * (x_prev - x), rtol=1e-13, atol=0.0)
    assert torch.equal(targets.w2_velocity("exact", 0.0, x, x_prev), torch.zeros_like(x))


# --- advantages -------------------------------------------------------------------------------------------------------


def experience(t=6, e=3):
    """Rewards, discounts, values, next values and ends of T steps of E environments; ends of both kinds."""
    g = torch.Generator().manual_seed(0)
    reward, value, next_value = (torch.randn(2, t, e, generator=g) for _ in range(3))
    terminated, truncated = (torch.rand(2, t, e, generator=g) < 0.2 for _ in range(2))
    assert (terminated & ~truncated).any()
    assert (truncated & ~terminated).any()
    return reward, 0.9 * (~terminated), value, next_value, terminated | truncated


def test_gae_is_the_sum_of_later_td_errors_up_to_the_episodes_end():
    reward, discount, value, next_value, ended = experience()
    found = targets.gae(reward, discount, value, next_value, ended, 0.9 * 0.8)
    for s in range(2):
        for e in range(3):
            for t in range(6):
                expected, weight = 0.0, 1.0
                for k in range(t, 6):
                    expected += weight * (reward[s, k, e] + discount[s, k, e] * next_value[s, k, e] - value[s, k, e])
                    weight *= 0.72
                    if ended[s, k, e]:
                        break
                torch.testing.assert_close(found[s, t, e], expected)


def test_with_lambda_one_gae_is_the_return_less_the_value_and_a_truncation_bootstraps():
    reward, value, next_value = (torch.tensor(column)[:, None] for column in ([1.0, 2.0, 3.0], [10.0, 20.0, 30.0], [20.0, 30.0, 40.0]))
    last = torch.tensor([[False], [False], [True]])
    ended_well = targets.gae(reward, 0.5 * torch.ones(3, 1), value, next_value, last, 0.5)
    third = 3.0 + 0.5 * 40.0
    expected = [1.0 + 0.5 * (2.0 + 0.5 * third) - 10.0, 2.0 + 0.5 * third - 20.0, third - 30.0]
    torch.testing.assert_close(ended_well, torch.tensor(expected)[:, None])
    for_good = targets.gae(reward, torch.tensor([[0.5], [0.5], [0.0]]), value, next_value, last, 0.5)
    expected = [1.0 + 0.5 * (2.0 + 0.5 * 3.0) - 10.0, 2.0 + 0.5 * 3.0 - 20.0, 3.0 - 30.0]
    torch.testing.assert_close(for_good, torch.tensor(expected)[:, None])


def test_with_lambda_zero_gae_is_the_td_error():
    reward, discount, value, next_value, ended = experience()
    torch.testing.assert_close(targets.gae(reward, discount, value, next_value, ended, 0.0), reward + discount * next_value - value)
