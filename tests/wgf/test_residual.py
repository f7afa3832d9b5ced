"""A residual network is torch's own layers, batch norm's two modes and its memory included."""

from itertools import product

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from tests.policies.plain import Residual, close, draw, leaf, seeds
from wgf.mlp import MLP
from wgf.residual import Learning, ResidualNetwork, learner

pytestmark = pytest.mark.usefixtures("double")
S, E, B, D, W, OUT, BLOCKS, WIDE = 2, 2, 6, 3, 4, 2, 2, 3
NORMS = pytest.mark.parametrize("norm", ["batch", "layer"])


def network(norm="batch", **changes):
    """And a theta where everything has left where it starts; variances stay positive."""
    net = ResidualNetwork((D, W, OUT), BLOCKS, WIDE, norm, **changes)
    theta = net.init((S, E), seeds(*range(S)))
    return net, theta + 0.2 * draw(*theta.shape, seed=7).tanh()


def plain(norm):
    return Residual((D, W, OUT), BLOCKS, WIDE, norm)


@NORMS
@pytest.mark.parametrize("learning", [False, True])
def test_it_is_torchs_layers_and_so_is_its_gradient(norm, learning):
    (net, theta), x = network(norm), draw(S, E, B, D, seed=1)
    at, inputs = leaf(theta), leaf(x)
    y = net.learning(at, inputs)[0] if learning else net(at, inputs)
    weight = draw(*y.shape, seed=2)
    in_theta, in_x = torch.autograd.grad((weight * y).sum(), (at, inputs))
    for s, e in product(range(S), range(E)):
        one, rows = plain(norm).train(learning).take(theta[s, e]), leaf(x[s, e])
        expected = one(rows)
        close(y[s, e], expected)
        (weight[s, e] * expected).sum().backward()
        close(in_x[s, e], rows.grad)
        slope = one.slope()
        close(in_theta[s, e, : len(slope)], slope)
        assert not (learning and in_theta[s, e, len(slope) :].any())  # a step leaves alone what is remembered


def test_what_it_remembers_is_what_torchs_batch_norm_remembers():
    (net, theta), x = network(unit=False), draw(S, E, B, D, seed=1)
    after = theta.clone()
    net.settle_(after, net.learning(theta, x)[1])
    for s, e in product(range(S), range(E)):
        one = plain("batch").train().take(theta[s, e])
        one(x[s, e])
        close(after[s, e], one.flat())


@NORMS
def test_weights_are_scaled_back_to_their_spheres(norm):
    net, theta = network(norm)
    after = theta.clone()
    net.settle_(after, theta[..., :0])
    for s, e in product(range(S), range(E)):
        one = plain(norm).take(theta[s, e])
        one.settle()
        close(after[s, e], one.flat())


def test_a_row_depends_on_others_only_while_it_learns():
    (net, theta), x = network(), leaf(draw(S, E, B, D, seed=1))
    for y, alone in ((net(theta, x), True), (net.learning(theta, x)[0], False)):
        (slope,) = torch.autograd.grad(y[:, :, 0].square().sum(), x)
        assert bool(slope[:, :, 0].any())
        assert bool(slope[:, :, 1:].any()) is not alone
    assert net.coupled
    assert not network("layer")[0].coupled


@NORMS
@pytest.mark.parametrize("learning", [False, True])
def test_inputs_apart_are_inputs_side_by_side(norm, learning):
    (net, theta), obs, action = network(norm), draw(S, 1, B, 1, 1), draw(S, E, B, 5, 2, seed=1)
    both = torch.cat([obs.expand(S, E, B, 5, 1), action], -1)
    found, expected = (net.learning(theta, *xs)[0] if learning else net(theta, *xs) for xs in ((obs, action), (both,)))
    assert found.shape == (S, E, B, 5, OUT)
    close(found, expected)


@NORMS
def test_a_fresh_theta_is_orthogonal_and_a_seed_starts_as_it_does_alone(norm):
    net = ResidualNetwork((D, W, OUT), BLOCKS, WIDE, norm)
    theta = net.init((S, E), seeds(0, 1))
    assert torch.equal(theta[1:], net.init((1, E), seeds(1)))
    assert not torch.equal(theta[:, 0], theta[:, 1])
    one = plain(norm).take(theta[1, 0])
    for matrix in (*(layer.weight.detach() for layer in one.layers[2::2]), one.last.weight.detach()):  # those that narrow
        close(matrix @ matrix.T, torch.eye(len(matrix)))
    for layer in one.layers:
        close(layer.weight.detach().norm(dim=1), torch.ones(len(layer.weight)))
    for n in one.normal():
        assert torch.equal(n.weight, torch.ones_like(n.weight))
        assert not n.bias.any()
    assert not one.last.bias.any()


@NORMS
def test_fresh_weights_that_stay_free_are_orthonormal_on_their_smaller_side(norm):
    net = ResidualNetwork((D, W, OUT), BLOCKS, WIDE, norm, unit=False)
    one = plain(norm).take(net.init((1,), seeds(0))[0])
    for matrix in (layer.weight.detach() for layer in (*one.layers, one.last)):
        out, into = matrix.shape
        close(matrix @ matrix.T if out < into else matrix.T @ matrix, torch.eye(min(out, into)))


def test_its_learning_mode_stands_in_its_place():
    (net, theta), x = network(), draw(S, E, B, D, seed=1)
    mode = learner(net)
    assert isinstance(mode, Learning)
    y, statistics = net.learning(theta, x)
    assert torch.equal(mode(theta, x), y)
    mode(theta, 2.0 * x)
    after, expected = theta.clone(), theta.clone()
    mode.settle_(after)
    net.settle_(expected, 0.5 * (statistics + net.learning(theta, 2.0 * x)[1]))
    close(after, expected)
    assert torch.equal(mode.init((S, E), seeds(*range(S))), net.init((S, E), seeds(*range(S))))
    other = MLP((D, W, OUT))
    assert learner(other) is other


@NORMS
def test_what_a_compiler_records_is_the_network(norm):
    (net, theta), x = network(norm), draw(S, E, B, D, seed=1)

    def step(theta, x):
        at, moved = leaf(theta), theta.clone()
        y, statistics = net.learning(at, x)
        net.settle_(moved, statistics)
        return torch.autograd.grad(y.square().sum(), at)[0], moved, net(theta, x)

    recorded = make_fx(step)(theta, x)
    for found, expected in zip(recorded(theta, 2.0 * x), step(theta, 2.0 * x), strict=True):
        close(found, expected)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sizes": (3, 4)}, r"sizes is \(3, 4\); it must be three numbers: inputs, width, out"),
        ({"sizes": (3, 0, 2)}, r"sizes\[1\] is 0; it must be a whole number of at least 1"),
        ({"blocks": 0}, "blocks is 0; it must be a whole number of at least 1"),
        ({"expansion": True}, "expansion is True; it must be a whole number of at least 1"),
        ({"norm": "group"}, "norm is 'group'; choose from 'batch', 'layer'"),
    ],
)
def test_refuses(arguments, words):
    with pytest.raises(ValueError, match=words):
        ResidualNetwork(**{"sizes": (3, 4, 2), **arguments})
