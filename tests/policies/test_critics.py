"""Critics against loops over single networks, autograd, central differences and brute force."""

import pytest
import torch

from policies.critics import QNetwork, VNetwork, best

S, B, M, D, A = 2, 4, 5, 3, 2


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def critic(members, activation="tanh"):
    return QNetwork(D, A, members, (8, 8), activation, [torch.Generator().manual_seed(k) for k in range(S)])


def single(net, cell, x):
    """A tanh network at one cell of the stack, layer by layer."""
    for i, (w, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        x = (torch.tanh(x) if i else x) @ w[cell] + b[cell]
    return x[..., 0]


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
def test_action_gradient_is_the_slope_of_the_least_member(members, rest):
    q, obs, action = critic(members), draw(S, B, D), draw(S, *rest, A, seed=1)
    value, slope = q.action_gradient(obs, action)
    h, each = 1e-5, torch.eye(A)
    with torch.no_grad():
        torch.testing.assert_close(value, q.least(obs, action), rtol=0.0, atol=0.0)
        for d in range(A):
            # central differences: h^2 / 6 of a third derivative of order 1, and eps / h of rounding: 1e-10
            numeric = (q.least(obs, action + h * each[d]) - q.least(obs, action - h * each[d])) / (2.0 * h)
            torch.testing.assert_close(slope[..., d], numeric, rtol=0.0, atol=1e-9)


def test_action_gradient_is_detached_and_leaves_no_gradient_behind():
    q, obs, action = critic(2), draw(S, B, D), draw(S, B, A, seed=1).requires_grad_()
    with torch.no_grad():
        value, slope = q.action_gradient(obs, action * 1.0)
    assert not value.requires_grad
    assert not slope.requires_grad
    assert action.grad is None
    assert all(p.grad is None for p in q.parameters())


def test_v_is_a_loop_over_seeds():
    v = VNetwork(D, (8, 8), "tanh", [torch.Generator().manual_seed(k) for k in range(S)])
    obs = draw(S, B, D)
    value = v(obs)
    assert value.shape == (S, B)
    for s in range(S):
        torch.testing.assert_close(value[s], single(v.net, s, obs[s]), rtol=1e-12, atol=1e-13)


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
