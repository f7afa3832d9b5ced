"""Critics against single networks, central differences and brute force."""

import pytest
import torch

from tests.policies.plain import close, draw, evaluate, leaf, seeds
from wgf.mlp import MLP
from wgf.policies.critics import QNetwork, VNetwork

S, B, M, D, A = 2, 4, 5, 3, 2
MEMBERS = pytest.mark.parametrize("members", [1, 2])
REST = pytest.mark.parametrize("rest", [(B,), (B, 1), (B, M)])


def critic(members):
    q = QNetwork(MLP((D + A, 8, 8, 1)))
    return q, q.init(members, seeds(*range(S)))


def recorded(q, theta, obs, action):
    """Q_e(s, a) by single networks with a copy of the state for every action."""
    obs = obs if action.ndim == 3 else obs[:, :, None]
    return evaluate(q.net, theta, obs[:, None], action[:, None])[..., 0]


def loops(q, theta, obs, action):
    """Q_e(s, a) one pair at a time: (S, E, *rest)."""
    value = torch.zeros(*theta.shape[:2], *action.shape[1:-1])
    for index in torch.cartesian_prod(*[torch.arange(n) for n in action.shape[1:-1]]).reshape(-1, action.ndim - 2).tolist():
        x = torch.cat([obs[:, index[0]], action[(slice(None), *index)]], -1)
        value[(slice(None), slice(None), *index)] = evaluate(q.net, theta, x[:, None])[..., 0]
    return value


@MEMBERS
@REST
def test_q_is_a_loop_over_seeds_members_states_and_particles(members, rest):
    (q, theta), obs, action = critic(members), draw(S, B, D), draw(S, *rest, A, seed=1)
    value, expected = q(theta, obs, action), loops(q, theta, obs, action)
    assert value.shape == (S, members, *rest)
    close(value, expected)
    close(q.least(theta, obs, action), expected.min(1).values)


def test_members_of_an_ensemble_differ_and_seed_k_starts_as_seed_k_alone():
    q, theta = critic(2)
    value = q(theta, draw(S, B, D), draw(S, B, A, seed=1))
    assert torch.all(value[:, 0] != value[:, 1])
    assert torch.equal(theta[1:], q.init(2, seeds(1)))


@MEMBERS
@REST
def test_the_gradient_of_q_in_theta_and_in_both_inputs_is_that_of_single_networks(members, rest):
    (q, theta), g = critic(members), draw(S, members, *rest, seed=2)
    leaves = leaf(theta), leaf(draw(S, B, D)), leaf(draw(S, *rest, A, seed=1))
    found, expected = (torch.autograd.grad((g * values).sum(), leaves) for values in (q(*leaves), recorded(q, *leaves)))
    for got, want in zip(found, expected, strict=True):
        close(got, want)


@MEMBERS
@REST
def test_slope_is_that_of_the_least_member(members, rest):
    (q, theta), obs, action = critic(members), draw(S, B, D), leaf(3.0 * draw(S, *rest, A, seed=1))
    values = recorded(q, theta, obs, action)
    (expected,) = torch.autograd.grad(values.amin(1).sum(), action)
    value, slope = q.slope(theta, obs, action)
    assert len(values.argmin(1).unique()) == members  # each is the least somewhere
    assert torch.equal(value, q.least(theta, obs, action))
    assert slope.shape == action.shape
    close(slope, expected)


@REST
def test_slope_is_held_fixed_and_leaves_no_gradient_behind(rest):
    (q, theta), obs, action = critic(2), draw(S, B, D), leaf(draw(S, *rest, A, seed=1))
    theta = leaf(theta)
    with torch.no_grad():
        inside = q.slope(theta, obs, 2.0 * action)
    for x, y in zip(q.slope(theta, obs, 2.0 * action), inside, strict=True):
        assert torch.equal(x, y)
        assert not x.requires_grad
    assert all(x.grad is None for x in (action, theta))


@MEMBERS
@REST
def test_the_least_q_is_alive_in_the_action(members, rest):
    """dQ/da by autograd of a loss that is written on Q, against central differences of Q."""
    (q, theta), obs = critic(members), draw(S, B, D)
    a, n, h = leaf(draw(S, *rest, A, seed=1)), S * torch.Size(rest).numel(), 1e-5
    (q.least(theta, obs, a) - 0.1 * a.square().sum(-1)).mean().backward()
    at = a.detach()
    central = torch.stack([(q.least(theta, obs, at + e) - q.least(theta, obs, at - e)) / (2.0 * h) for e in h * torch.eye(A)], -1)
    torch.testing.assert_close(a.grad, (central - 0.2 * at) / n, rtol=1e-7, atol=1e-9)  # eps Q / h = 1e-11, h^2 Q''' = 1e-10


def test_v_is_its_networks_for_each_seed_or_each_policy():
    v = VNetwork(MLP((D, 8, 8, 1)))
    for stack in ((S,), (S, 3)):
        theta, obs, g = leaf(v.init(stack, seeds(*range(S)))), draw(*stack, B, D), draw(*stack, B, seed=1)
        value, expected = v(theta, obs), evaluate(v.net, theta, obs)[..., 0]
        assert theta.shape[:-1] == stack
        assert value.shape == (*stack, B)
        close(value, expected)
        close(torch.autograd.grad((g * value).sum(), theta)[0], torch.autograd.grad((g * expected).sum(), theta)[0])


def test_best_is_the_candidate_with_the_largest_least_q():
    (q, theta), obs, actions = critic(2), draw(S, B, D), draw(S, B, M, A, seed=1)
    chosen, value = q.best(theta, obs, actions), loops(q, theta, obs, actions)
    assert chosen.shape == (S, B, A)
    picks = set()
    for s in range(S):
        for b in range(B):
            candidates = [min(value[s, 0, b, m].item(), value[s, 1, b, m].item()) for m in range(M)]
            picks.add(candidates.index(max(candidates)))
            assert torch.equal(chosen[s, b], actions[s, b, candidates.index(max(candidates))])
    assert len(picks) > 1  # not one index for all states
