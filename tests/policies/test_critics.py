"""Critics against single networks, central differences and brute force."""

from dataclasses import replace

import pytest
import torch

from tests.policies.plain import close, draw, evaluate, leaf, seeds
from wgf.mlp import MLP
from wgf.policies.critics import CategoricalQ, Pairs, QNetwork, VNetwork
from wgf.residual import Learning, ResidualNetwork

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


# --- laws of Q --------------------------------------------------------------------------------------------------------


def categorical(members, atoms=5, bound=2.0):
    q = CategoricalQ(MLP((D + A, 8, atoms)), atoms, bound)
    return q, 3.0 * q.init(members, seeds(*range(S)))


def by_loops(at, mass, atoms, bound):
    """Each point's mass to the two atoms beside it, in proportion; what lies outside to the ends."""
    step, found = 2.0 * bound / (atoms - 1), torch.zeros(atoms)
    for x, p in zip(at.tolist(), mass.tolist(), strict=True):
        x = min(max(x, -bound), bound)
        for k in range(atoms):
            found[k] += p * max(0.0, 1.0 - abs(x - (-bound + k * step)) / step)
    return found


def test_q_is_the_mean_of_its_law():
    q, theta = categorical(2)
    obs, action = draw(S, B, D), draw(S, B, A, seed=1)
    logits = evaluate(q.net, theta, obs[:, None], action[:, None])
    expected = (logits.softmax(-1) * torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])).sum(-1)
    close(q(theta, obs, action), expected)
    close(q.least(theta, obs, action), expected.amin(1))


def test_projection_by_hand():
    q = CategoricalQ(MLP((D + A, 5)), 5, 2.0)
    found = q.project(torch.tensor([[0.25, -1.0, 7.0, -7.0]]), torch.tensor([[0.4, 0.3, 0.2, 0.1]]))
    close(found, torch.tensor([[0.1, 0.3, 0.3, 0.1, 0.2]]))


def test_projection_keeps_mass_and_mean_within_the_bounds_and_no_more():
    q, at, mass = CategoricalQ(MLP((D + A, 9)), 9, 3.0), 2.0 * draw(S, B, 7), draw(S, B, 7, seed=1).softmax(-1)
    found = q.project(at, mass)
    close(found.sum(-1), torch.ones(S, B))
    close(found @ torch.linspace(-3.0, 3.0, 9), (mass * at.clamp(-3.0, 3.0)).sum(-1))
    for s, b in torch.cartesian_prod(torch.arange(S), torch.arange(B)).tolist():
        close(found[s, b], by_loops(at[s, b], mass[s, b], 9, 3.0))


@MEMBERS
@pytest.mark.parametrize("kind", ["number", "law"])
@pytest.mark.parametrize("body", ["mlp", "residual"])
def test_backup_and_error_by_loops(members, kind, body):
    """A law: of the member with the least mean. Batch norm: (s, a) and (s', a') in one minibatch, through both networks."""
    out = 5 if kind == "law" else 1
    net = MLP((D + A, 8, out)) if body == "mlp" else ResidualNetwork((D + A, 8, out), 1, 2)
    q = CategoricalQ(net, 5, 2.0) if kind == "law" else QNetwork(net)
    theta, target = q.init(members, seeds(*range(S))), 1.5 * q.init(members, seeds(*range(5, 5 + S)))
    pairs = Pairs(draw(S, B, D), draw(S, B, A, seed=1), draw(S, B, D, seed=2), draw(S, B, A, seed=3))
    reward, discount, bonus = draw(S, B, seed=4), draw(S, B, seed=5).sigmoid(), draw(S, B, seed=6)
    y = q.backup(target, pairs, reward, discount, bonus)
    at = leaf(theta)
    loss, mean = (replace(q, net=Learning(net)) if body == "residual" else q).error(at, pairs, y)

    def outputs(theta):
        both = [torch.cat(parts, -1) for parts in ((pairs.obs, pairs.action), (pairs.next_obs, pairs.next_action))]
        if body == "mlp":
            return [evaluate(net, theta, x[:, None]) for x in both]
        return net.learning(theta, torch.cat(both, 1)[:, None])[0].split(B, 2)

    other = leaf(theta)
    now, after = outputs(other)[0], outputs(target)[1].detach()
    atoms = torch.linspace(-2.0, 2.0, 5)
    total = torch.zeros(S)
    for s, b in torch.cartesian_prod(torch.arange(S), torch.arange(B)).tolist():
        if kind == "number":
            goal = reward[s, b] + discount[s, b] * (after[s, :, b, 0].min() + bonus[s, b])
            total[s] = total[s] + (now[s, :, b, 0] - goal).square().sum() / (2.0 * B)
        else:
            laws = after[s, :, b].softmax(-1)
            law = laws[(laws @ atoms).argmin()]
            goal = by_loops(reward[s, b] + discount[s, b] * (atoms + bonus[s, b]), law, 5, 2.0)
            total[s] = total[s] - sum((goal * now[s, e, b].log_softmax(-1)).sum() for e in range(members)) / B
        close(y[s, b], goal)
    close(loss, total)
    values = now[..., 0] if kind == "number" else now.softmax(-1) @ atoms
    close(mean, values.mean((1, 2)))
    for got, want in zip(torch.autograd.grad(loss.sum(), at), torch.autograd.grad(total.sum(), other), strict=True):
        close(got, want)
    assert not y.requires_grad


@MEMBERS
def test_a_law_is_fitted_to_numbers_between_its_atoms(members):
    q, theta = categorical(members)
    obs, action, y = draw(S, B, D), draw(S, B, A, seed=1), 2.0 * draw(S, B, seed=2)
    loss, mean = q.fit(theta, obs, action, y)
    logs = evaluate(q.net, theta, obs[:, None], action[:, None]).log_softmax(-1)
    for s in range(S):
        goals = torch.stack([by_loops(y[s, b : b + 1], torch.ones(1), 5, 2.0) for b in range(B)])
        close(loss[s], -(goals * logs[s]).sum() / B)
    close(mean, q(theta, obs, action).mean((1, 2)))


@MEMBERS
def test_the_slope_of_a_law_stays_apart_from_other_rows_under_batch_norm(members):
    net = ResidualNetwork((D + A, 8, 5), 1, 2)
    q = CategoricalQ(net, 5, 2.0)
    theta, obs, action = q.init(members, seeds(*range(S))), draw(S, B, D), draw(S, B, M, A, seed=1)
    value, slope = q.slope(theta, obs, action)
    again = torch.stack([q.slope(theta, obs[:, b : b + 1], action[:, b : b + 1, :1])[1] for b in range(B)], 1)[:, :, 0]
    close(slope[:, :, :1], again)
    assert float(value.abs().max()) <= 2.0
