"""The stacked network is a loop over single networks, written here with plain matrix products."""

import math

import pytest
import torch

from policies.mlp import StackedMLP, polyak_

PHI = {"tanh": torch.tanh, "relu": lambda x: torch.where(x > 0.0, x, torch.zeros_like(x))}


def seeds(*numbers):
    return [torch.Generator().manual_seed(k) for k in numbers]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def single(net, cell, activation, x):
    """The network at one cell of the stack on inputs (n, d), layer by layer."""
    last = len(net.weights) - 1
    for i, (w, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        x = x @ w[cell] + b[cell]
        x = x if i == last else PHI[activation](x)
    return x


def test_one_hidden_unit_by_hand():
    net = StackedMLP([1], [2, 1, 1], "tanh", seeds(0))
    with torch.no_grad():
        for p, value in zip(net.parameters(), ([[[0.5], [-2.0]]], [[[3.0]]], [[[0.1]]], [[[0.25]]]), strict=True):
            p.copy_(torch.tensor(value))
    y = net(torch.tensor([[[1.5, 0.75]]]))
    assert y.shape == (1, 1, 1)
    assert y.item() == pytest.approx(3.0 * math.tanh(0.5 * 1.5 - 2.0 * 0.75 + 0.1) + 0.25, rel=1e-14)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("stack", [(3,), (3, 2)])
@pytest.mark.parametrize("rest", [(5,), (5, 4)])
def test_stack_is_a_loop_over_its_networks(activation, stack, rest):
    net = StackedMLP(stack, [4, 6, 7, 2], activation, seeds(*range(stack[0])))
    x = draw(*stack, *rest, 4)
    y = net(x)
    assert y.shape == (*stack, *rest, 2)
    for cell in torch.cartesian_prod(*[torch.arange(n) for n in stack]).reshape(-1, len(stack)).tolist():
        expected = single(net, tuple(cell), activation, x[tuple(cell)].reshape(-1, 4)).reshape(*rest, 2)
        torch.testing.assert_close(y[tuple(cell)], expected, rtol=1e-12, atol=1e-13)


def test_a_network_without_hidden_layers_is_affine():
    net = StackedMLP([2], [3, 4], "relu", seeds(0, 1))
    x = draw(2, 5, 3)
    torch.testing.assert_close(net(x), x @ net.weights[0] + net.biases[0], rtol=1e-13, atol=1e-14)
    g = draw(2, 5, 4, seed=1)
    (net(x) * g).sum().backward()
    torch.testing.assert_close(net.weights[0].grad, x.mT @ g, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(net.biases[0].grad, g.sum(1, keepdim=True), rtol=1e-13, atol=1e-14)


def test_several_inputs_are_one_concatenated_input():
    net = StackedMLP([2], [3 + 1 + 2, 8, 2], "tanh", seeds(0, 1))
    parts = draw(2, 5, 3, seed=1), draw(2, 5, 1, seed=2), draw(2, 5, 2, seed=3)
    torch.testing.assert_close(net(*parts), net(torch.cat(parts, -1)), rtol=1e-12, atol=1e-13)


def test_an_observation_broadcasts_over_members_and_particles_with_the_gradients_of_copies():
    net = StackedMLP([2, 3], [3 + 2, 8, 1], "tanh", seeds(0, 1))
    obs, action = draw(2, 1, 4, 1, 3, seed=1).requires_grad_(), draw(2, 1, 4, 6, 2, seed=2).requires_grad_()
    copies = torch.cat([obs.expand(2, 3, 4, 6, 3), action.expand(2, 3, 4, 6, 2)], -1)
    y, expected = net(obs, action), net(copies)
    assert y.shape == (2, 3, 4, 6, 1)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-13)
    inputs = [obs, action, *net.parameters()]
    weights = draw(*y.shape, seed=3)
    for got, want in zip(
        torch.autograd.grad((y * weights).sum(), inputs), torch.autograd.grad((expected * weights).sum(), inputs), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)


def test_seed_k_of_a_stack_starts_and_computes_as_seed_k_alone():
    stack = StackedMLP([3, 2], [4, 6, 1], "relu", seeds(7, 8, 9))
    x = draw(3, 1, 5, 4)
    for k, seed in enumerate((7, 8, 9)):
        alone = StackedMLP([1, 2], [4, 6, 1], "relu", seeds(seed))
        for p, q in zip(stack.parameters(), alone.parameters(), strict=True):
            assert torch.equal(p[k : k + 1], q)
        torch.testing.assert_close(stack(x)[k : k + 1], alone(x[k : k + 1]), rtol=1e-12, atol=1e-13)


def test_seeds_do_not_feel_each_other():
    net = StackedMLP([3], [4, 6, 1], "tanh", seeds(0, 1, 2))
    net(draw(3, 5, 4))[1].sum().backward()
    for p in net.parameters():
        assert p.grad[1].abs().sum() > 0.0
        assert torch.equal(p.grad[[0, 2]], torch.zeros_like(p[[0, 2]]))


def test_weights_and_biases_start_uniform_within_one_over_the_root_of_the_fan_in():
    net = StackedMLP([1], [100, 400, 25], "tanh", seeds(0))
    for p, fan_in in zip(net.parameters(), (100, 400, 100, 400), strict=True):
        z, n = p.detach() * math.sqrt(fan_in), p.numel()
        assert z.abs().max() <= 1.0
        assert z.max() > 1.0 - 10.0 / n  # the largest of n uniforms misses its bound by about 2 / n; e^-5 to miss this
        assert z.min() < -1.0 + 10.0 / n
        assert abs(z.mean()) < 4.0 * math.sqrt(1.0 / (3.0 * n))  # variance 1/3
        assert abs(z.square().mean() - 1.0 / 3.0) < 4.0 * math.sqrt(4.0 / (45.0 * n))  # variance of the square 1/5 - 1/9


def test_polyak_moves_the_target_by_the_rate():
    target, source = (StackedMLP([2], [3, 4, 1], "tanh", seeds(k, k + 1)) for k in (0, 5))
    before = [p.detach().clone() for p in target.parameters()]
    kept = [p.detach().clone() for p in source.parameters()]
    polyak_(target, source, 0.3)
    for p, b, q, k in zip(target.parameters(), before, source.parameters(), kept, strict=True):
        torch.testing.assert_close(p.detach(), 0.7 * b + 0.3 * k, rtol=1e-14, atol=1e-15)
        assert torch.equal(q, k)
        assert p.requires_grad


def test_polyak_with_rate_one_copies():
    target, source = (StackedMLP([2], [3, 4, 1], "tanh", seeds(k, k + 1)).float() for k in (0, 5))
    polyak_(target, source, 1.0)
    for p, q in zip(target.parameters(), source.parameters(), strict=True):
        assert torch.equal(p, q)
        assert p.data_ptr() != q.data_ptr()


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("shapes", [[(3, 4)], [(1, 4), (5, 2)], [(3, 1, 4), (3, 5, 2)]])
def test_gradients_equal_finite_differences_for_inputs_and_parameters(activation, shapes):
    net = StackedMLP([2, 3], [sum(s[-1] for s in shapes), 5, 4, 2], activation, seeds(0, 1)).double()
    inputs = [draw(2, 1 + 2 * (k % 2), *s, seed=k).double().requires_grad_() for k, s in enumerate(shapes)]
    names = [name for name, _ in net.named_parameters()]

    def call(*tensors):
        n = len(inputs)
        return torch.func.functional_call(net, dict(zip(names, tensors[n:], strict=True)), tuple(tensors[:n]))

    assert torch.autograd.gradcheck(call, (*inputs, *(p.detach().requires_grad_() for p in net.parameters())), eps=1e-6, atol=1e-7)


def test_frozen_parameters_get_no_gradient_and_inputs_the_same():
    net = StackedMLP([2], [3, 5, 1], "tanh", seeds(0, 1))
    x = draw(2, 4, 3).requires_grad_()
    (free,) = torch.autograd.grad(net(x).sum(), x)
    net(x, frozen=True).sum().backward()
    torch.testing.assert_close(x.grad, free, rtol=0, atol=0)
    assert all(p.grad is None for p in net.parameters())
