"""Critics against loops over single networks, autograd and brute force."""

import pytest
import torch

from tests.policies import plain
from tests.policies.plain import close, draw, leaf, seeds
from wgf.policies.critics import QNetwork, VNetwork, best

S, B, M, D, A = 2, 4, 5, 3, 2


def critic(members):
    return QNetwork(D, A, members, (8, 8), "tanh", seeds(*range(S)))


def single(net, cell, x):
    """A tanh network at one cell of the stack, layer by layer."""
    for i, (w, b) in enumerate(net.layers(net.theta)):
        x = (torch.tanh(x) if i else x) @ w[cell] + b[cell]
    return x[..., 0]


def recorded(q, theta, obs, action):
    """Q_e(s, a) with a copy of the state for every action."""
    obs = obs if action.ndim == 3 else obs[:, :, None]
    return plain.evaluate(q.net, theta, obs[:, None], action[:, None])[..., 0]


def loops(q, members, obs, action):
    """Q_e(s, a) one pair at a time: (S, E, *rest)."""
    value = torch.zeros(S, members, *action.shape[1:-1])
    for s in range(S):
        for e in range(members):
            for index in torch.cartesian_prod(*[torch.arange(n) for n in action.shape[1:-1]]).reshape(-1, action.ndim - 2).tolist():
                x = torch.cat([obs[(s, index[0])], action[(s, *index)]])
                value[(s, e, *index)] = single(q.net, (s, e), x[None])[0]
    return value


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("rest", [(B,), (B, M)])
def test_q_is_a_loop_over_seeds_members_states_and_particles(members, rest):
    q, obs, action = critic(members), draw(S, B, D), draw(S, *rest, A, seed=1)
    with torch.no_grad():
        value, expected = q(obs, action), loops(q, members, obs, action)
        assert value.shape == (S, members, *rest)
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(q.least(obs, action), expected.min(1).values, rtol=1e-12, atol=1e-13)


def test_members_of_an_ensemble_differ():
    value = critic(2)(draw(S, B, D), draw(S, B, A, seed=1))
    assert torch.all(value[:, 0] != value[:, 1])


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("rest", [(B,), (B, M)])
def test_vjp_of_q_is_its_gradient_in_theta(members, rest):
    q, obs, action, g = critic(members), draw(S, B, D), draw(S, *rest, A, seed=1), draw(S, members, *rest, seed=2)
    theta = leaf(q.theta)
    (slope,) = torch.autograd.grad((g * recorded(q, theta, obs, action)).sum(), theta)
    value, pull_back = q.vjp(obs, action)
    assert torch.equal(value, q(obs, action))
    close(pull_back(g), slope)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("rest", [(B,), (B, M)])
def test_action_gradient_is_the_slope_of_the_least_member(members, rest):
    q, obs, action = critic(members), draw(S, B, D), leaf(3.0 * draw(S, *rest, A, seed=1))
    values = recorded(q, q.theta.detach(), obs, action)
    (expected,) = torch.autograd.grad(values.amin(1).sum(), action)
    value, slope = q.action_gradient(obs, action)
    assert len(values.argmin(1).unique()) == members  # each is the least somewhere
    assert torch.equal(value, q.least(obs, action))
    assert slope.shape == action.shape
    close(slope, expected)


@pytest.mark.parametrize("rest", [(B,), (B, M)])
def test_action_gradient_is_detached_and_leaves_no_gradient_behind(rest):
    q, obs, action = critic(2), leaf(draw(S, B, D)), leaf(draw(S, *rest, A, seed=1))
    for x in (*q.action_gradient(obs, action), q.least(obs, action), q.vjp(obs, action)[0]):
        assert not x.requires_grad
    assert all(x.grad is None for x in (obs, action, q.theta))


def test_v_is_a_loop_over_seeds():
    v, obs = VNetwork(D, (8, 8), "tanh", seeds(*range(S))), draw(S, B, D)
    value = v(obs)
    assert value.shape == (S, B)
    for s in range(S):
        torch.testing.assert_close(value[s], single(v.net, s, obs[s]).detach(), rtol=1e-12, atol=1e-13)


def test_vjp_of_v_is_its_gradient_in_theta():
    v, obs, g = VNetwork(D, (8, 8), "tanh", seeds(*range(S))), draw(S, B, D), draw(S, B, seed=1)
    theta = leaf(v.theta)
    (slope,) = torch.autograd.grad((g * plain.evaluate(v.net, theta, obs)[..., 0]).sum(), theta)
    value, pull_back = v.vjp(obs)
    assert torch.equal(value, v(obs))
    close(pull_back(g), slope)


def test_best_is_the_candidate_with_the_largest_least_q():
    q, obs, actions = critic(2), draw(S, B, D), draw(S, B, M, A, seed=1)
    with torch.no_grad():
        chosen, value = best(q, obs, actions), loops(q, 2, obs, actions)
    assert chosen.shape == (S, B, A)
    picks = set()
    for s in range(S):
        for b in range(B):
            candidates = [min(value[s, 0, b, m].item(), value[s, 1, b, m].item()) for m in range(M)]
            picks.add(candidates.index(max(candidates)))
            assert torch.equal(chosen[s, b], actions[s, b, candidates.index(max(candidates))])
    assert len(picks) > 1  # not one index for all states
