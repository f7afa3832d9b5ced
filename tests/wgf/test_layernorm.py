"""The stack with LayerNorm against autograd of torch's own LayerNorm, one network at a time."""

import pytest
import torch
from torch.nn.functional import elu, layer_norm

from tests.policies.plain import close, draw, leaf, seeds
from wgf.layernorm import LayerNormMLP, network
from wgf.mlp import StackedMLP

pytestmark = pytest.mark.usefixtures("double")


def single(net, theta, cell, x):
    """The network of one cell at theta on inputs (n, d), by torch's functions."""
    gain, offset = theta[cell][-2 * net.shapes[0][1] :].chunk(2)
    for i, (w, b) in enumerate(net.layers(theta)):
        if i == 1:
            x = torch.tanh(layer_norm(x, x.shape[-1:], gain, offset))
        elif i:
            x = elu(x)
        x = x @ w[cell] + b[cell]
    return x


def started(stack, sizes):
    """A net whose gains and offsets have left 1 and 0."""
    net = LayerNormMLP(stack, sizes, seeds(*range(stack[0])))
    net.theta += 0.3 * draw(*net.theta.shape, seed=7)
    return net


SHAPES = [  # of the stack and of the inputs
    pytest.param((3,), [(3, 5, 4)], id="seeds"),
    pytest.param((3, 2), [(3, 2, 5, 4)], id="members"),
    pytest.param((3, 2), [(3, 1, 5, 4)], id="one input for all members"),
    pytest.param((3, 2), [(3, 1, 5, 1, 3), (3, 1, 5, 4, 2)], id="one state for all particles and members"),
    pytest.param((1, 1), [(1, 1, 5, 1, 3), (1, 1, 5, 1, 2)], id="one network, one particle"),
]


@pytest.mark.parametrize("hidden", [(6,), (6, 7), (6, 7, 5)])
@pytest.mark.parametrize(("stack", "shapes"), SHAPES)
def test_values_and_gradients_are_those_of_single_networks(hidden, stack, shapes):
    net = started(stack, [sum(s[-1] for s in shapes), *hidden, 2])
    inputs = [draw(*s, seed=k) for k, s in enumerate(shapes)]
    theta, last = leaf(net.theta), leaf(inputs[-1])
    rest = shapes[-1][len(stack) : -1]
    x = torch.cat([x.expand(*stack, *rest, x.shape[-1]) for x in (*inputs[:-1], last)], -1)
    y, tape = net.evaluate(*inputs)
    g = draw(*y.shape, seed=9)
    total = torch.zeros(())
    for cell in torch.cartesian_prod(*[torch.arange(n) for n in stack]).reshape(-1, len(stack)).tolist():
        cell = tuple(cell)
        expected = single(net, theta, cell, x[cell].flatten(0, -2)).unflatten(0, rest)
        close(y[cell], expected.detach())
        total = total + (g[cell] * expected).sum()
    slopes = torch.autograd.grad(total, (theta, last))
    kept = y.clone()
    for _ in range(2):  # a gradient leaves the tape as it was
        close(net.gradient(tape, g), slopes[0])
        close(net.input_gradient(tape, g, last.shape[-1]), slopes[1])
    assert torch.equal(y, kept)


@pytest.mark.parametrize("hidden", [(6,), (6, 7, 5)])
@pytest.mark.parametrize(("stack", "shapes"), SHAPES)
def test_the_tangent_is_the_adjoint_of_the_gradient(hidden, stack, shapes):
    net = started(stack, [sum(s[-1] for s in shapes), *hidden, 2])
    y, tape = net.evaluate(*(draw(*s, seed=k) for k, s in enumerate(shapes)))
    for k in range(3):
        v, g = draw(*net.theta.shape, seed=20 + k), draw(*y.shape, seed=30 + k)
        close((net.tangent(tape, v) * g).sum(), (net.gradient(tape, g) * v).sum())


def test_gain_and_offset_start_at_one_and_zero_and_are_the_end_of_theta():
    net = LayerNormMLP([2, 3], [4, 6, 5, 1], seeds(0, 1))
    gain, offset = net.affine(net.theta)
    assert torch.equal(gain, torch.ones(2, 3, 1, 6))
    assert torch.equal(offset, torch.zeros(2, 3, 1, 6))
    assert net.theta.shape[-1] == 4 * 6 + 6 + 6 * 5 + 5 + 5 + 1 + 12
    assert [p is net.theta for p in net.parameters()] == [True]


def test_the_first_activation_does_not_feel_the_scale_of_the_inputs():
    net = LayerNormMLP([1], [4, 6, 1], seeds(0))
    net.layers(net.theta)[0][1].zero_()
    x = draw(1, 5, 4)
    torch.testing.assert_close(net(1e4 * x), net(1e2 * x), rtol=1e-6, atol=0.0)  # the 1e-5 under the root


def test_seed_k_of_a_stack_starts_as_seed_k_alone():
    stack = LayerNormMLP([3, 2], [4, 6, 1], seeds(7, 8, 9))
    assert torch.equal(stack.theta[1:2], LayerNormMLP([1, 2], [4, 6, 1], seeds(8)).theta)


def test_the_last_rows_of_a_tape_give_their_own_gradient():
    net = started([2], [3, 4, 2])
    x, g = draw(2, 5, 3), draw(2, 2, 2, seed=1)
    whole = torch.cat([torch.zeros(2, 3, 2), g], 1)
    close(net.gradient(net.evaluate(x)[1].last(2), g), net.gradient(net.evaluate(x)[1], whole))


def test_without_a_hidden_layer_it_is_refused():
    with pytest.raises(ValueError, match="hidden is empty"):
        LayerNormMLP([1], [3, 1], seeds(0))


def test_a_network_is_found_by_the_name_of_its_activation():
    assert type(network([1], [3, 4, 1], "layernorm", seeds(0))) is LayerNormMLP
    assert type(network([1], [3, 4, 1], "relu", seeds(0))) is StackedMLP
