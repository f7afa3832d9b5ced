"""The stacked network is a loop over single networks, written here with plain matrix products; autograd of those is its gradient."""

import math
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.func import jvp

from tests.policies import plain
from tests.policies.plain import close, draw, leaf, seeds
from wgf.mlp import Network, StackedMLP, polyak_

pytestmark = pytest.mark.usefixtures("double")
PHI = {
    "tanh": torch.tanh,
    "relu": lambda x: torch.where(x > 0.0, x, torch.zeros_like(x)),
    "elu": lambda x: torch.where(x > 0.0, x, torch.expm1(x)),
}


def single(net, cell, activation, x):
    """The network at one cell of the stack on inputs (n, d), layer by layer."""
    for i, (w, b) in enumerate(net.layers(net.theta)):
        x = (PHI[activation](x) if i else x) @ w[cell] + b[cell]
    return x


def test_one_hidden_unit_by_hand():
    net = StackedMLP([1], [2, 1, 1], "tanh", seeds(0))
    with torch.no_grad():
        net.theta.copy_(torch.tensor([[0.5, -2.0, 0.1, 3.0, 0.25]]))
    y = net(torch.tensor([[[1.5, 0.75]]]))
    assert y.shape == (1, 1, 1)
    assert y.item() == pytest.approx(3.0 * math.tanh(0.5 * 1.5 - 2.0 * 0.75 + 0.1) + 0.25, rel=1e-14)


def test_theta_is_the_one_parameter_and_its_layers_are_views_of_it():
    net = StackedMLP([2, 1], [2, 3, 1], "tanh", seeds(0, 1))
    assert [p is net.theta for p in net.parameters()] == [True]
    assert net.theta.shape == (2, 1, 6 + 3 + 3 + 1)
    theta = torch.arange(13.0)
    (w1, b1), (w2, b2) = net.layers(theta)
    for view, value in ((w1, [[0, 1, 2], [3, 4, 5]]), (b1, [[6, 7, 8]]), (w2, [[9], [10], [11]]), (b2, [[12]])):
        assert torch.equal(view, torch.tensor(value, dtype=theta.dtype))
        view.zero_()
    assert not theta.any()
    assert [tuple(x.shape) for layer in net.layers(net.theta) for x in layer] == [(2, 1, 2, 3), (2, 1, 1, 3), (2, 1, 3, 1), (2, 1, 1, 1)]


def test_a_policy_has_the_theta_of_its_network():
    class Policy(Network):
        def __init__(self):
            super().__init__()
            self.net = StackedMLP([1], [2, 1], "tanh", seeds(0))

    policy = Policy()
    assert policy.theta is policy.net.theta
    assert isinstance(policy.theta, nn.Parameter)


@pytest.mark.parametrize("activation", PHI)
@pytest.mark.parametrize("stack", [(3,), (3, 2), (1, 1)])
@pytest.mark.parametrize("rest", [(5,), (5, 4)])
def test_stack_is_a_loop_over_its_networks(activation, stack, rest):
    net = StackedMLP(stack, [4, 6, 7, 2], activation, seeds(*range(stack[0])))
    x = draw(*stack, *rest, 4)
    y = net(x)
    assert y.shape == (*stack, *rest, 2)
    for cell in torch.cartesian_prod(*[torch.arange(n) for n in stack]).reshape(-1, len(stack)).tolist():
        expected = single(net, tuple(cell), activation, x[tuple(cell)].reshape(-1, 4)).reshape(*rest, 2)
        torch.testing.assert_close(y[tuple(cell)], expected.detach(), rtol=1e-12, atol=1e-13)


def test_a_network_without_hidden_layers_is_affine():
    net = StackedMLP([2], [3, 4], "relu", seeds(0, 1))
    x, g = draw(2, 5, 3), draw(2, 5, 4, seed=1)
    w, b = net.layers(net.theta.detach())[0]
    y, tape = net.evaluate(x)
    torch.testing.assert_close(y, x @ w + b, rtol=1e-13, atol=1e-14)
    dw, db = net.layers(net.gradient(tape, g))[0]
    torch.testing.assert_close(dw, x.mT @ g, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(db, g.sum(1, keepdim=True), rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(net.input_gradient(tape, g, 3), g @ w.mT, rtol=1e-13, atol=1e-14)


SHAPES = [  # of the stack and of the inputs
    pytest.param((3,), [(3, 5, 4)], id="seeds"),
    pytest.param((3,), [(3, 5, 4, 2)], id="seeds, particles"),
    pytest.param((3, 2), [(3, 2, 5, 4)], id="members"),
    pytest.param((3, 2), [(3, 2, 5, 4, 2)], id="members, particles"),
    pytest.param((1, 1), [(1, 1, 5, 4)], id="one network"),
    pytest.param((3,), [(3, 5, 3), (3, 5, 1), (3, 5, 2)], id="three inputs"),
    pytest.param((3, 2), [(3, 1, 5, 4)], id="one input for all members"),
    pytest.param((3,), [(3, 5, 1, 3), (3, 5, 4, 2)], id="one state for all particles"),
    pytest.param((3, 2), [(3, 1, 5, 1, 3), (3, 1, 5, 4, 2)], id="one state for all particles and members"),
    pytest.param((3, 2), [(3, 1, 5, 1, 3), (3, 2, 5, 4, 2)], id="particles of their own for each member"),
    pytest.param((3,), [(3, 1, 1, 3), (3, 1, 4, 1), (3, 5, 4, 2)], id="ever more axes"),
    pytest.param((1, 1), [(1, 1, 5, 1, 3), (1, 1, 5, 1, 2)], id="one network, one particle"),
]


@pytest.mark.parametrize("activation", PHI)
@pytest.mark.parametrize("hidden", [(), (6,), (6, 7)])
@pytest.mark.parametrize("out", [1, 2])
@pytest.mark.parametrize(("stack", "shapes"), SHAPES)
def test_values_and_gradients_are_those_of_the_recorded_products_on_copies(activation, hidden, out, stack, shapes):
    net = StackedMLP(stack, [sum(s[-1] for s in shapes), *hidden, out], activation, seeds(*range(stack[0])))
    inputs = [draw(*s, seed=k) for k, s in enumerate(shapes)]
    theta, last = leaf(net.theta), leaf(inputs[-1])
    expected = plain.evaluate(net, theta, *inputs[:-1], last, phi=PHI[activation])
    g = draw(*expected.shape, seed=9)
    slopes = torch.autograd.grad((g * expected).sum(), (theta, last))
    y, tape = net.evaluate(*inputs)
    assert torch.equal(net(*inputs), y)
    close(y, expected.detach())
    close(net.gradient(tape, g), slopes[0])
    for size in (1, last.shape[-1]):
        close(net.input_gradient(tape, g, size), slopes[1][..., -size:])


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("hidden", [(), (6,), (6, 7)])
@pytest.mark.parametrize(("stack", "shapes"), SHAPES)
def test_the_tangent_is_the_derivative_along_a_change_of_theta(activation, hidden, stack, shapes):
    net = StackedMLP(stack, [sum(s[-1] for s in shapes), *hidden, 2], activation, seeds(*range(stack[0])))
    inputs, v = [draw(*s, seed=k) for k, s in enumerate(shapes)], draw(*net.theta.shape, seed=9)
    y, tape = net.evaluate(*inputs)
    dy, kept = net.tangent(tape, v), y.clone()
    close(dy, jvp(lambda theta: plain.evaluate(net, theta, *inputs, phi=PHI[activation]), (net.theta.detach(),), (v,))[1])
    g = draw(*y.shape, seed=10)
    close((g * dy).sum(), (v * net.gradient(tape, g)).sum())
    assert torch.equal(net.tangent(tape, v), dy)
    assert torch.equal(y, kept)


def test_the_tangent_is_the_limit_of_differences():
    net, x = StackedMLP([2, 3], [4, 6, 7, 2], "tanh", seeds(0, 1)), draw(2, 3, 5, 4)
    v = draw(2, 3, net.theta.shape[-1] + 3, seed=1)[..., :-3]  # a slice, as policies have it
    dy, h = net.tangent(net.evaluate(x)[1], v), 1e-5
    net.theta.add_(v, alpha=h)
    up = net(x)
    net.theta.add_(v, alpha=-2.0 * h)
    torch.testing.assert_close(dy, (up - net(x)) / (2.0 * h), rtol=1e-7, atol=1e-7)  # h^2 y''' / 6 with y''' up to 1e3


def test_inputs_and_gradients_may_be_strided():
    net = StackedMLP([2, 3], [3 + 2, 8, 2], "tanh", seeds(0, 1))
    obs, action = draw(4, 2, 1, 3, seed=1).movedim(0, 2), draw(2, 1, 4, 4, seed=2)[..., ::2]
    g = draw(1, 1, 1, 2, seed=3).expand(2, 3, 4, 2)
    (y, tape), (same, other) = net.evaluate(obs, action), net.evaluate(obs.contiguous(), action.contiguous())
    assert torch.equal(y, same)
    close(net.gradient(tape, g), net.gradient(other, g.contiguous()))
    close(net.input_gradient(tape, g, 2), net.input_gradient(other, g.contiguous(), 2))


@pytest.mark.parametrize("hidden", [(), (8, 8)])
def test_nothing_is_recorded(hidden):
    net = StackedMLP([2], [3 + 2, *hidden, 2], "tanh", seeds(0, 1))
    obs, action, g = leaf(draw(2, 4, 3)), leaf(draw(2, 4, 2, seed=1)), leaf(draw(2, 4, 2, seed=2))
    y, tape = net.evaluate(obs, action)
    for x in (net(obs, action), y, net.tangent(tape, leaf(net.theta)), net.gradient(tape, g), net.input_gradient(tape, g, 2)):
        assert not x.requires_grad
        assert x.grad_fn is None
    assert all(x.grad is None for x in (obs, action, g))
    assert not net.theta.requires_grad


@pytest.mark.parametrize("activation", PHI)
@pytest.mark.parametrize("hidden", [(), (8, 8)])
def test_gradients_leave_the_tape_and_every_argument_as_they_were(activation, hidden):
    net = StackedMLP([2], [3 + 2, *hidden, 2], activation, seeds(0, 1))
    obs, action, g = given = draw(2, 4, 3), draw(2, 4, 2, seed=1), draw(2, 4, 2, seed=2)
    copies = [x.clone() for x in (*given, net.theta)]
    y, tape = net.evaluate(obs, action)
    kept = y.clone()
    first = net.gradient(tape, g), net.input_gradient(tape, g, 2)
    again = net.gradient(tape, g), net.input_gradient(tape, g, 2)
    assert all(torch.equal(x, z) for x, z in zip((*first, y), (*again, kept), strict=True))
    assert all(torch.equal(x, z) for x, z in zip((*given, net.theta), copies, strict=True))


def test_seed_k_of_a_stack_starts_and_computes_as_seed_k_alone():
    stack = StackedMLP([3, 2], [4, 6, 1], "relu", seeds(7, 8, 9))
    x, g = draw(3, 1, 5, 4), draw(3, 2, 5, 1, seed=1)
    y, tape = stack.evaluate(x)
    slopes = stack.gradient(tape, g), stack.input_gradient(tape, g, 4)
    for k, seed in enumerate((7, 8, 9)):
        one = slice(k, k + 1)
        alone = StackedMLP([1, 2], [4, 6, 1], "relu", seeds(seed))
        assert torch.equal(stack.theta[one], alone.theta)
        value, own = alone.evaluate(x[one])
        torch.testing.assert_close(y[one], value, rtol=1e-12, atol=1e-13)
        close(slopes[0][one], alone.gradient(own, g[one]))
        close(slopes[1][one], alone.input_gradient(own, g[one], 4))


def test_seeds_do_not_feel_each_other():
    net = StackedMLP([3], [4, 6, 1], "tanh", seeds(0, 1, 2))
    _, tape = net.evaluate(draw(3, 5, 4))
    slope = net.gradient(tape, torch.tensor([0.0, 1.0, 0.0])[:, None, None].expand(3, 5, 1))
    for parts in net.layers(slope):
        for p in parts:
            assert p[1].abs().sum() > 0.0
            assert not p[[0, 2]].any()


def test_weights_and_biases_start_uniform_within_one_over_the_root_of_the_fan_in():
    net = StackedMLP([1], [100, 400, 25], "tanh", seeds(0))
    for layer, fan_in in zip(net.layers(net.theta.detach()), (100, 400), strict=True):
        for p in layer:
            z, n = p * math.sqrt(fan_in), p.numel()
            assert z.abs().max() <= 1.0
            assert z.max() > 1.0 - 10.0 / n  # the largest of n uniforms misses its bound by about 2 / n; e^-5 to miss this
            assert z.min() < -1.0 + 10.0 / n
            assert abs(z.mean()) < 4.0 * math.sqrt(1.0 / (3.0 * n))  # variance 1/3
            assert abs(z.square().mean() - 1.0 / 3.0) < 4.0 * math.sqrt(4.0 / (45.0 * n))  # variance of the square 1/5 - 1/9


def test_with_a_gain_weights_start_orthogonal_and_each_networks_are_its_own():
    net = StackedMLP([2, 3], [4, 6, 5, 2], "tanh", seeds(7, 8), gain=0.01)
    layers = net.layers(net.theta.detach())
    for (w, b), gain in zip(layers, (math.sqrt(2.0), math.sqrt(2.0), 0.01), strict=True):
        short = w if w.shape[-2] < w.shape[-1] else w.mT
        torch.testing.assert_close(short @ short.mT, (gain**2 * torch.eye(short.shape[-2])).expand(2, 3, -1, -1))
        assert not b.any()
        flat = w.flatten(0, 1)
        assert all((flat[i] - flat[j]).abs().max() > 0.1 * gain for i in range(6) for j in range(i))
    alone = StackedMLP([1, 3], [4, 6, 5, 2], "tanh", seeds(8), gain=0.01)
    assert torch.equal(net.theta[1:], alone.theta)


def test_polyak_moves_the_target_by_the_rate():
    target, source = (StackedMLP([2], [3, 4, 1], "tanh", seeds(k, k + 1)) for k in (0, 5))
    before, kept = target.theta.detach().clone(), source.theta.detach().clone()
    polyak_(target, source, 0.3)
    torch.testing.assert_close(target.theta.detach(), 0.7 * before + 0.3 * kept, rtol=1e-14, atol=1e-15)
    assert torch.equal(source.theta, kept)


def test_polyak_with_rate_one_copies():
    target, source = (StackedMLP([2], [3, 4, 1], "tanh", seeds(k, k + 1)).float() for k in (0, 5))
    polyak_(target, source, 1.0)
    assert torch.equal(target.theta, source.theta)
    assert target.theta.data_ptr() != source.theta.data_ptr()


def test_parameters_that_moved_to_another_place_are_the_ones_that_count():
    net = StackedMLP([2], [3, 4, 1], "tanh", seeds(0, 1))
    x = draw(2, 5, 3)
    before = net(x)
    other = deepcopy(net)
    other.theta *= 3.0
    assert torch.equal(net(x), before)
    torch.testing.assert_close(other(x), plain.evaluate(net, other.theta, x, phi=torch.tanh), rtol=1e-12, atol=1e-13)
    net.theta.data = 2.0 * net.theta.data
    torch.testing.assert_close(net(x), plain.evaluate(net, net.theta.detach(), x, phi=torch.tanh), rtol=1e-12, atol=1e-13)
    assert not torch.equal(net(x), before)


def test_the_last_rows_of_a_tape_give_their_own_gradient():
    net = StackedMLP([2], [3, 4, 2], "relu", seeds(0, 1))
    x, g = draw(2, 5, 3), draw(2, 2, 2, seed=1)
    whole = torch.cat([torch.zeros(2, 3, 2), g], 1)
    close(net.gradient(net.evaluate(x)[1].last(2), g), net.gradient(net.evaluate(x)[1], whole))
