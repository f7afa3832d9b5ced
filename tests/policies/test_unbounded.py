"""The unbounded policy against single networks and torch.distributions."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal, kl_divergence
from torch.nn.functional import softplus

from tests.policies.plain import close, evaluate, leaf, seeds
from tests.policies.plain import draw as numbers
from wgf.mlp import MLP
from wgf.policies.gaussian import GaussianMixture
from wgf.policies.unbounded import UnboundedPolicy, block_fisher, decoupled_kl, flat, unflat

K = pytest.mark.parametrize("k", [1, 3])


def policy_of(k, hidden=(6, 5), std0=0.7):
    return UnboundedPolicy(MLP((3, *hidden, k * 5), "layernorm"), k, 2, std0)


def law_of(k, seed=0):
    return GaussianMixture(numbers(5, k, seed=seed), numbers(5, k, 2, seed=seed + 1), numbers(5, k, 2, seed=seed + 2).exp())


@K
def test_the_laws_and_their_gradient_are_those_of_single_networks(k):
    policy, obs = policy_of(k), numbers(2, 5, 3)
    theta = policy.init(seeds(0, 1))
    theta = leaf(theta + 0.5 * numbers(*theta.shape, seed=3))
    logits, mean, raw = evaluate(policy.net, theta, obs).split([k, 2 * k, 2 * k], -1)
    expected = logits, mean.reshape(2, 5, k, 2), (softplus(raw) * 0.7 / math.log(2.0) + 1e-6).reshape(2, 5, k, 2)
    law, g = policy.law(theta, obs), [numbers(2, 5, k, *rest, seed=i) for i, rest in enumerate([(), (2,), (2,)])]
    for got, want in zip(law, expected, strict=True):
        close(got, want)
    slopes = [torch.autograd.grad(sum((w * t).sum() for w, t in zip(g, parts, strict=True)), theta)[0] for parts in (law, expected)]
    close(*slopes)


def test_the_last_layer_starts_at_a_hundredth_so_that_the_first_policy_has_mean_0_and_the_given_std():
    policy = policy_of(1, (64, 64), 0.4)
    theta = policy.init(seeds(0, 1))
    for part in policy.net.layers(theta)[-1]:
        assert 0.008 / 8.0 < part.abs().max() <= 0.01 / 8.0  # usually 1 / sqrt(64); 10 uniforms or more: .8^10 to miss it
    law = policy.law(theta, 10.0 * numbers(2, 50, 3))
    assert law.mean.abs().max() < 0.1
    assert ((law.std - 0.4).abs() < 0.4 * 0.1 / math.log(2.0)).all()  # softplus has slope at most 1
    assert law.mean.std() > 0.0


def test_components_start_apart_and_seed_by_seed():
    policy = policy_of(4, (64, 64), 0.4)
    theta = policy.init(seeds(0, 1, 2))
    mean = policy.law(theta, numbers(3, 1, 3)).mean
    assert torch.equal(policy.init(seeds(1)), theta[1:2])
    assert mean.std().item() == pytest.approx(0.4, rel=4.0 / math.sqrt(2.0 * mean.numel()))
    law = policy.law(theta, numbers(3, 1, 3))
    assert (law.logits.abs() < 0.1).all()
    assert ((law.std - 0.4).abs() < 0.4 * 0.1 / math.log(2.0)).all()


@K
def test_a_flat_law_is_its_numbers(k):
    law = law_of(k)
    assert flat(law).shape == (5, 5 * k)
    for got, want in zip(unflat(flat(law), law), law, strict=True):
        assert torch.equal(got, want)


def test_the_parts_of_the_kl_are_those_of_gaussians_that_differ_in_mean_or_in_std_alone():
    target, law = law_of(1), law_of(1, 10)
    found = decoupled_kl(target, law)
    close(found.mean, kl_divergence(Normal(*target[1:]), Normal(law.mean, target.std))[:, 0])
    close(found.std, kl_divergence(Normal(*target[1:]), Normal(target.mean, law.std))[:, 0])


def test_the_parts_of_a_mixture_are_means_over_components_and_the_kl_of_the_weights():
    target, law = law_of(3), law_of(3, 10)
    found, w = decoupled_kl(target, law), target.logits.softmax(-1)[..., None]
    moved = kl_divergence(Categorical(logits=target.logits), Categorical(logits=law.logits))
    close(found.mean, (w * kl_divergence(Normal(*target[1:]), Normal(law.mean, target.std))).sum(1) + moved[:, None] / 2.0)
    close(found.std, (w * kl_divergence(Normal(*target[1:]), Normal(target.mean, law.std))).sum(1))


def test_together_they_bound_the_kl_of_two_mixtures_near_each_other():
    target, step = law_of(3), law_of(3, 10)
    law = GaussianMixture(*(t + 0.01 * s for t, s in zip(target, step, strict=True)))
    n = 20_000
    u = torch.stack([GaussianMixture(*(t[b] for t in target)).draw(numbers(n, 3, seed=b)) for b in range(5)])
    ratio = target.log_prob(u) - law.log_prob(u)
    slack = sum(part.sum(-1) for part in decoupled_kl(target, law)) - ratio.mean(-1)
    assert (slack > -4.0 * ratio.std(-1) / math.sqrt(n)).all()


@K
def test_the_parts_pull_the_law_towards_the_target_and_vanish_there(k):
    """Gradients of the KL by hand: in the mean (mean - mean') / std'^2, in the std 1 / std - std'^2 / std^3, in the logits w - w'."""
    target, law = law_of(k), GaussianMixture(*map(leaf, law_of(k, 10)))
    found, w = decoupled_kl(target, law), target.logits.softmax(-1)
    slopes = torch.autograd.grad(found.mean.sum() + found.std.sum(), law)
    _, mean, std = law.detach()
    close(slopes[0], law.logits.detach().softmax(-1) - w)
    close(slopes[1], w[..., None] * (mean - target.mean) / target.std.square())
    close(slopes[2], w[..., None] * (1.0 / std - target.std.square() / std**3))
    for part in decoupled_kl(target, target):
        torch.testing.assert_close(part, torch.zeros(5, 2), rtol=0.0, atol=1e-14)


# --- Fisher matrices --------------------------------------------------------------------------------------------------


def dense(product, size):
    return torch.stack([product(v) for v in torch.eye(size)], -1)


def exact(law, nodes=4001, reach=12.0):
    """The Fisher matrix of a mixture on the line in ``flat``'s coordinates: E[s s'] by the trapezoid rule, s by torch's density."""
    u = torch.linspace(-reach, reach, nodes)
    phi = flat(law).expand(nodes, -1).clone().requires_grad_()
    logits, mean, std = phi.chunk(3, -1)
    log_p = MixtureSameFamily(Categorical(logits=logits), Normal(mean, std)).log_prob(u)
    (scores,) = torch.autograd.grad(log_p.sum(), phi)
    return torch.trapezoid((log_p.detach().exp()[:, None] * scores)[:, :, None] * scores[:, None, :], u, dim=0)


def on_the_line(means, stds):
    k = len(means)
    return GaussianMixture(torch.tensor([0.3, -0.5, 0.1][:k]), torch.tensor(means)[:, None], torch.tensor(stds)[:, None])


# of components 12 stds apart the larger density is e^-18 of the other's where they are equal; the trapezoid rule on smooth, vanishing
# functions is exact to rounding
@pytest.mark.parametrize(("means", "stds", "slack"), [([0.4], [0.7], 1e-12), ([-8.0, 0.0, 7.0], [0.5, 0.6, 0.4], 1e-5)])
def test_the_block_fisher_matrix_is_exact_for_one_gaussian_and_for_components_far_apart(means, stds, slack):
    law = on_the_line(means, stds)
    found, expected = dense(block_fisher(law), 3 * len(means)), exact(law)
    torch.testing.assert_close(found, expected, rtol=slack, atol=slack * expected.abs().max().item())


def test_of_components_that_overlap_the_block_fisher_matrix_is_the_larger():
    """Who sees the component learns no less (data processing): block - exact has no negative eigenvalue, and here a large one."""
    law = on_the_line([-0.5, 0.0, 0.6], [0.5, 0.6, 0.4])
    values = torch.linalg.eigvalsh(dense(block_fisher(law), 9) - exact(law))
    assert values[0] > -1e-8
    assert values[-1] > 0.5


@K
def test_the_block_fisher_matrix_is_that_of_draws_whose_component_is_seen(k):
    """F = sum_k w_k E[s s'], s the score of log w_k + log N(u; mean_k, std_k^2), second moments of u by the Gaussian's own."""
    law, size = GaussianMixture(*(t[0] for t in law_of(k))), 5 * k
    w, expected = law.logits.softmax(-1), torch.zeros(size, size)
    expected[:k, :k] = torch.diag(w) - w[:, None] * w
    for i in range(k):
        for j in range(2):
            at = k + 2 * i + j
            expected[at, at] = w[i] / law.std[i, j] ** 2
            expected[at + 2 * k, at + 2 * k] = 2.0 * w[i] / law.std[i, j] ** 2
    close(dense(block_fisher(law), size), expected)


def test_block_fisher_products_are_each_laws_own():
    law, v = law_of(3), numbers(5, 15, seed=9)
    found = block_fisher(law)(v)
    for b in range(5):
        close(found[b], block_fisher(GaussianMixture(*(t[b] for t in law)))(v[b]))
